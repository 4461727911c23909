#!/usr/bin/env bash
# A comparison on a Ray cluster that grows with the work: launch/ray.sh [--dry-run] up | compare | logs | down
#
# Settings: PROJECT (required for up and down), CONFIG=configs/compare.py, WORKDIR=/shared/compare
# `compare` again goes on where the last one stopped.
source "$(dirname "$0")/common.sh"
take_dry_run "$@"
set -- ${ARGS[@]+"${ARGS[@]}"}
HERE=$(cd "$(dirname "$0")" && pwd)
COMMAND=${1:-help}
[[ $COMMAND == help ]] && { sed -n '2,5p' "$0"; exit 0; }
need PROJECT
CONFIG=${CONFIG:-configs/compare.py} WORKDIR=${WORKDIR:-/shared/compare}
FILLED="${TMPDIR:-/tmp}/ttl_jax_ray.yaml"
sed "s|PROJECT_HERE|$PROJECT|g" "$HERE/ray_cluster.yaml" > "$FILLED"

case $COMMAND in
  up) run ray up --yes "$FILLED" ;;
  compare)
    run ray exec "$FILLED" --tmux "cd ttl_jax && RAY_ADDRESS=auto python3 -m ttl_jax compare --config=$CONFIG --workdir=$WORKDIR --config.compare.engine=ray"
    ;;
  logs) run ray attach "$FILLED" --tmux ;;
  down) run ray down --yes "$FILLED" ;;
  *) die "there is no command '$COMMAND'" ;;
esac
