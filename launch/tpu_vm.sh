#!/usr/bin/env bash
# One run on a Cloud TPU VM: a single host, a pod slice, spot or queued. docs/tpu.md walks through it.
#
#   launch/tpu_vm.sh [--dry-run] COMMAND [-- arguments of `python -m ttl_jax train`]
#
#   create   makes the TPU VM            stage    copies DATA to gs://BUCKET/data
#   install  copies and installs us      start    starts the run (or goes on with it)
#   logs     follows the log             watch    makes a preempted machine again and goes on, until done
#   up       create, install, stage, start        down     deletes the machine (never the bucket)
#
# Settings, from the environment (none of them secret; gcloud keeps your credentials):
#   PROJECT ZONE BUCKET   required: gs://BUCKET is in the region of ZONE
#   NAME=ttl-jax  TYPE=v5litepod-4  IMAGE=tpu-ubuntu2204-base (v6e: v2-alpha-tpuv6e)
#   SPOT=0|1  QUEUED=0|1  DATA=a local folder to stage  HOSTS=one|auto (auto for a slice of several hosts)
source "$(dirname "$0")/common.sh"
begin "$@"
NAME=${NAME:-ttl-jax} TYPE=${TYPE:-v5litepod-4} IMAGE=${IMAGE:-tpu-ubuntu2204-base}
SPOT=${SPOT:-0} QUEUED=${QUEUED:-0} DATA=${DATA:-} HOSTS=${HOSTS:-one}
WHERE=()

tpu() { run gcloud compute tpus tpu-vm "$1" "$NAME" "${@:2}" "${WHERE[@]}"; }
everywhere() { tpu ssh --worker=all --command="$1"; }

create() {
  local spot=()
  [[ $SPOT == 1 ]] && spot=(--spot)
  if [[ $QUEUED == 1 ]]; then
    run gcloud compute tpus queued-resources create "$NAME" --node-id="$NAME" \
      --accelerator-type="$TYPE" --runtime-version="$IMAGE" ${spot[@]+"${spot[@]}"} "${WHERE[@]}"
    wait_for_queue
  else
    tpu create --accelerator-type="$TYPE" --version="$IMAGE" ${spot[@]+"${spot[@]}"}
  fi
}

state() {
  if [[ $QUEUED == 1 ]]; then
    gcloud compute tpus queued-resources describe "$NAME" "${WHERE[@]}" --format='value(state.state)' || echo GONE
  else
    gcloud compute tpus tpu-vm describe "$NAME" "${WHERE[@]}" --format='value(state)' || echo GONE
  fi
}

wait_for_queue() {
  [[ $DRY_RUN == 1 ]] && { echo "+ wait until the queued resource is ACTIVE"; return; }
  until [[ $(state) == ACTIVE ]]; do sleep 30; done
}

install() {
  local file="${TMPDIR:-/tmp}/ttl_jax.tar.gz"
  archive "$file"
  run gcloud compute tpus tpu-vm scp "$file" "$NAME:ttl_jax.tar.gz" --worker=all "${WHERE[@]}"
  local steps=(
    'sudo apt-get install -y -q python3.11 python3.11-venv'
    'mkdir -p ttl_jax' 'tar -xzf ttl_jax.tar.gz -C ttl_jax' 'cd ttl_jax' 'python3.11 -m venv .venv'
    '.venv/bin/pip install -q -c constraints.txt -e ".[tpu,gcs]"' '.venv/bin/python -m ttl_jax doctor'
  )
  local command=${steps[0]} step
  for step in "${steps[@]:1}"; do command+=" && $step"; done
  everywhere "$command"
}

stage() {
  if [[ -n $DATA ]]; then run gcloud storage rsync --recursive "$DATA" "gs://$BUCKET/data"; fi
}

start() {
  local word words='' loop
  for word in "$@" --workdir="gs://$BUCKET/runs/$NAME" --config.preemption_notice=gce \
    --config.parallel.hosts="$HOSTS"; do words+=" $(quoted "$word")"; done
  # Status 75 is "start me again": at once if the machine is still ours.
  loop="while :; do .venv/bin/python -m ttl_jax train$words; s=\$?; echo \$s > ../status; \
[ \$s = 75 ] || exit \$s; sleep 5; done"
  everywhere "cd ttl_jax && rm -f ../status && nohup setsid bash -c $(quoted "$loop") > ../run.log 2>&1 < /dev/null & sleep 1"
}

logs() { tpu ssh --worker=0 --command='tail -n 50 -F run.log'; }

watch() {
  [[ $DRY_RUN == 1 ]] && { echo "+ each minute: gone or preempted -> down, create, install, start; done -> end"; return; }
  local now done_status
  while :; do
    now=$(state)
    case $now in
      READY | ACTIVE)
        done_status=$(gcloud compute tpus tpu-vm ssh "$NAME" --worker=0 --command='cat status 2>/dev/null' "${WHERE[@]}" || true)
        [[ $done_status == 0 ]] && { echo "the run is done"; return; }
        [[ -n $done_status && $done_status != 75 ]] && die "the run ended with status $done_status: $0 logs"
        ;;
      PREEMPTED | TERMINATED | STOPPED | SUSPENDED | FAILED | GONE)
        echo "the machine is $now: making it again"
        down || true
        create && install && start "$@"
        ;;
    esac
    sleep 60
  done
}

down() {
  if [[ $QUEUED == 1 ]]; then
    run gcloud compute tpus queued-resources delete "$NAME" --force --quiet "${WHERE[@]}"
  else
    tpu delete --quiet
  fi
}

case $COMMAND in
  create | install | stage | start | logs | watch | down | up)
    need PROJECT ZONE BUCKET
    WHERE=(--zone="$ZONE" --project="$PROJECT")
    if [[ $COMMAND == up ]]; then
      create
      install
      stage
      start ${ARGS[@]+"${ARGS[@]}"}
    else
      "$COMMAND" ${ARGS[@]+"${ARGS[@]}"}
    fi
    ;;
  *) die "there is no command '$COMMAND': $0 help" ;;
esac
