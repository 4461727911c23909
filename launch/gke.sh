#!/usr/bin/env bash
# One run on GKE as a JobSet, through kubectl or XPK; a preempted pod is started again and goes on.
#
#   launch/gke.sh [--dry-run] image | up | logs | down | xpk
#
#   image  builds launch/Dockerfile.tpu and pushes it     up    applies launch/gke_jobset.yaml
#   logs   follows the first pod                          down  deletes the job set
#   xpk    the same run through XPK (pip install xpk) on a cluster that it made
#
# Settings: PROJECT ZONE BUCKET CLUSTER (required), IMAGE=gcr.io/PROJECT/ttl-jax:latest, TPU=v5litepod-16
# The pods' service account reads and writes gs://BUCKET (workload identity): no key file anywhere.
source "$(dirname "$0")/common.sh"
take_dry_run "$@"
set -- ${ARGS[@]+"${ARGS[@]}"}
HERE=$(cd "$(dirname "$0")" && pwd)
COMMAND=${1:-help}
[[ $COMMAND == help ]] && { sed -n '2,12p' "$0"; exit 0; }
need PROJECT ZONE BUCKET CLUSTER
IMAGE=${IMAGE:-gcr.io/$PROJECT/ttl-jax:latest} TPU=${TPU:-v5litepod-16}

case $COMMAND in
  image)
    run docker build -f "$HERE/Dockerfile.tpu" -t "$IMAGE" "$HERE/.."
    run docker push "$IMAGE"
    ;;
  up)
    run gcloud container clusters get-credentials "$CLUSTER" --zone="$ZONE" --project="$PROJECT"
    filled=$(mktemp)
    sed -e "s|IMAGE_HERE|$IMAGE|g" -e "s|BUCKET_HERE|$BUCKET|g" "$HERE/gke_jobset.yaml" > "$filled"
    run kubectl apply -f "$filled"
    ;;
  logs) run kubectl logs -f -l jobset.sigs.k8s.io/jobset-name=ttl-jax --max-log-requests=16 ;;
  down) run kubectl delete jobset ttl-jax ;;
  xpk)
    run xpk workload create --project="$PROJECT" --zone="$ZONE" --cluster="$CLUSTER" --workload=ttl-jax \
      --tpu-type="$TPU" --num-slices=1 --docker-image="$IMAGE" --max-restarts=100 \
      --restart-on-exit-codes=75 \
      --command="python -m ttl_jax train --config=configs/train.py --workdir=gs://$BUCKET/runs/gke --config.parallel.hosts=auto"
    ;;
  *) die "there is no command '$COMMAND'" ;;
esac
