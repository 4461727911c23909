# Sourced by the launchers: --dry-run, help, required settings, templates, and one way to run a command.
# shellcheck shell=bash
set -euo pipefail

DRY_RUN=${DRY_RUN:-0}
LAUNCH=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# quoted WORD: as it could be typed, and read.
quoted() {
  local inner="'\\''"
  if [[ $1 =~ ^[[:alnum:]_./:=,@%+-]+$ ]]; then printf '%s' "$1"; else printf "'%s'" "${1//\'/$inner}"; fi
}

# Prints a command, and runs it unless this is a dry run.
run() {
  local word
  printf '+'
  for word in "$@"; do printf ' %s' "$(quoted "$word")"; done
  printf '\n'
  if [[ $DRY_RUN == 0 ]]; then "$@"; fi
}

die() {
  printf '%s\n' "$*" >&2
  exit 2
}

# need NAME...: each of these settings has a value.
need() {
  local name
  for name in "$@"; do
    [[ -n ${!name:-} ]] || die "$name is not set: see the head of $0"
  done
}

# Takes --dry-run off the arguments wherever it stands before "--"; the rest is left in ARGS.
ARGS=()
take_dry_run() {
  local rest=0 word
  for word in "$@"; do
    [[ $word == -- ]] && rest=1
    if [[ $rest == 0 && $word == --dry-run ]]; then DRY_RUN=1; else ARGS+=("$word"); fi
  done
}

# begin ARGUMENTS: the first word is left in COMMAND, what follows it (and a "--") in ARGS; without a
# command, or with help, the comment at the head of the script is printed.
begin() {
  take_dry_run "$@"
  set -- ${ARGS[@]+"${ARGS[@]}"}
  COMMAND=${1:-help}
  [[ $# -gt 0 ]] && shift
  [[ ${1:-} == -- ]] && shift
  ARGS=("$@")
  case $COMMAND in
    help | -h | --help)
      sed -n '2,/^[^#]/{s/^#$//p;s/^# //p}' "$0"
      exit 0
      ;;
  esac
}

# fill NAME=VALUE... < TEMPLATE: the template with every NAME_HERE filled in.
fill() {
  local word value edits=()
  for word in "$@"; do
    value=${word#*=}  # with what sed would read otherwise behind a backslash
    # shellcheck disable=SC1003
    value=${value//\\/'\\'} value=${value//&/'\&'} value=${value//|/'\|'}
    edits+=(-e "s|${word%%=*}_HERE|$value|g")
  done
  sed "${edits[@]}"
}

# The program's source as an archive of what is committed.
archive() {
  run git -C "$LAUNCH/.." archive --format=tar.gz -o "$1" HEAD
}
