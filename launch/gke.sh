#!/usr/bin/env bash
# One run on GKE as a JobSet, through kubectl or XPK; a preempted pod is started again and goes on.
#
#   launch/gke.sh [--dry-run] COMMAND [-- arguments of `python -m ttl_jax train`]
#
#   create  makes the cluster, its spot TPU nodes and JobSet (once)    image  builds and pushes Dockerfile.tpu
#   stage   copies DATA to gs://BUCKET/data                            up     starts the run (or goes on with it)
#   logs    follows the pods                                           down   ends the run, keeps the cluster
#   xpk     the same run through XPK (pip install xpk)                 destroy  deletes the cluster
#
# Settings, from the environment:
#   PROJECT ZONE BUCKET CLUSTER   required
#   IMAGE=gcr.io/PROJECT/ttl-jax:latest  TPU=v5litepod-16 (of xpk)  DATA=a local folder to stage
#   MACHINE=ct5lp-hightpu-4t TOPOLOGY=4x4 NODES=4 (of create; launch/gke_jobset.yaml has the same slice)
# The pods' service account reads and writes gs://BUCKET: docs/tpu.md says how it is allowed to. No key file.
source "$(dirname "$0")/common.sh"
begin "$@"
need PROJECT ZONE BUCKET CLUSTER
IMAGE=${IMAGE:-gcr.io/$PROJECT/ttl-jax:latest} TPU=${TPU:-v5litepod-16} DATA=${DATA:-}
MACHINE=${MACHINE:-ct5lp-hightpu-4t} TOPOLOGY=${TOPOLOGY:-4x4} NODES=${NODES:-4}
[[ ${#ARGS[@]} -gt 0 ]] || ARGS=(--config=train)
WHERE=(--zone="$ZONE" --project="$PROJECT")
JOBSET=${JOBSET:-https://github.com/kubernetes-sigs/jobset/releases/download/v0.8.0/manifests.yaml}
TRAIN="python -m ttl_jax train"
for word in "${ARGS[@]}" --workdir="gs://$BUCKET/runs/gke" --config.parallel.hosts=auto \
  --config.preemption_notice=gce; do TRAIN+=" $(quoted "$word")"; done

case $COMMAND in
  create)
    run gcloud container clusters create "$CLUSTER" --workload-pool="$PROJECT.svc.id.goog" "${WHERE[@]}"
    run gcloud container node-pools create tpu --cluster="$CLUSTER" --machine-type="$MACHINE" \
      --tpu-topology="$TOPOLOGY" --num-nodes="$NODES" --spot "${WHERE[@]}"
    run kubectl apply --server-side -f "$JOBSET"
    ;;
  image)
    run make -C "$LAUNCH/.." package
    run docker build -f "$LAUNCH/Dockerfile.tpu" -t "$IMAGE" "$LAUNCH/.."
    run docker push "$IMAGE"
    ;;
  stage)
    need DATA
    run gcloud storage rsync --recursive "$DATA" "gs://$BUCKET/data"
    ;;
  up)
    run gcloud container clusters get-credentials "$CLUSTER" "${WHERE[@]}"
    filled=$(mktemp)
    fill IMAGE="$IMAGE" COMMAND="exec $TRAIN" < "$LAUNCH/gke_jobset.yaml" > "$filled"
    run kubectl apply -f "$filled"
    ;;
  logs) run kubectl logs -f -l jobset.sigs.k8s.io/jobset-name=ttl-jax --max-log-requests=16 ;;
  down) run kubectl delete jobset ttl-jax ;;
  destroy) run gcloud container clusters delete "$CLUSTER" --quiet "${WHERE[@]}" ;;
  xpk)
    run xpk workload create --project="$PROJECT" --zone="$ZONE" --cluster="$CLUSTER" --workload=ttl-jax \
      --tpu-type="$TPU" --num-slices=1 --docker-image="$IMAGE" --max-restarts=100 \
      --restart-on-exit-codes=75 --command="$TRAIN"
    ;;
  *) die "there is no command '$COMMAND': $0 help" ;;
esac
