#!/usr/bin/env bash
# A comparison on a Ray cluster on Google Cloud that grows and shrinks with the work.
#
#   launch/ray.sh [--dry-run] COMMAND [-- arguments of `python -m ttl_jax compare`]
#
#   up      makes the cluster and installs us     compare  starts the comparison (or goes on with it)
#   stage   copies DATA to /shared/data           logs     attaches to its terminal (leave: Ctrl-B, D)
#   down    deletes the machines
#
# Settings, from the environment:
#   PROJECT   required     WORKDIR=/shared/compare  DATA=a local folder to stage
# Spot machines that go are replaced, and their cells started again.
source "$(dirname "$0")/common.sh"
begin "$@"
need PROJECT
WORKDIR=${WORKDIR:-/shared/compare} DATA=${DATA:-}
[[ ${#ARGS[@]} -gt 0 ]] || ARGS=(--config=compare)
FILLED="${TMPDIR:-/tmp}/ttl_jax_ray.yaml"
fill PROJECT="$PROJECT" < "$LAUNCH/ray_cluster.yaml" > "$FILLED"
COMPARE="RAY_ADDRESS=auto python3 -m ttl_jax compare"
for word in "${ARGS[@]}" --workdir="$WORKDIR" --config.compare.engine=ray; do COMPARE+=" $(quoted "$word")"; done

case $COMMAND in
  up) run ray up --yes "$FILLED" ;;
  stage)
    need DATA
    run ray rsync-up "$FILLED" "$DATA/" /shared/data/
    ;;
  compare) run ray exec "$FILLED" --tmux "cd ttl_jax && $COMPARE" ;;
  logs) run ray attach "$FILLED" --tmux ;;
  down) run ray down --yes "$FILLED" ;;
  *) die "there is no command '$COMMAND': $0 help" ;;
esac
