# Sourced by the launchers: --dry-run, required settings, and one way to run a command.
# shellcheck shell=bash
set -euo pipefail

DRY_RUN=${DRY_RUN:-0}

# Prints a command as it could be typed, and runs it unless this is a dry run.
run() {
  printf '+'
  printf ' %q' "$@"
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

# The program's source as an archive of what is committed.
archive() {
  run git -C "$(dirname "${BASH_SOURCE[0]}")/.." archive --format=tar.gz -o "$1" HEAD
}
