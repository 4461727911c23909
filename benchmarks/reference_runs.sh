#!/usr/bin/env bash
# The README's "Reference runs": EfficientNet-Lite0 with ImageNet weights, 64 px, seeds 0-2.
#   benchmarks/reference_runs.sh [PYTHON] [WORKDIR] [DATA_DIR]
# Resumable: a finished run is not done again.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python} workdir=${2:-runs/reference} data=${3:-../shared/data}

run() { # dataset strategy epochs rate seed
    "$python" -m ttl_jax train --workdir="$workdir/$1-$2-seed$5" \
        --config="train:dataset=$1,data_dir=$data,model=efficientnet_lite0,strategy=$2" \
        --config.total_epochs="$3" --config.optimizer.lr="$4" --config.seed="$5"
}

for seed in 0 1 2; do
    for dataset in breastmnist pneumoniamnist brain_tumor_mri; do
        run $dataset linear_probe 20 3e-3 $seed
    done
    run ham10000 linear_probe 10 3e-3 $seed
done
for seed in 0 1 2; do
    run breastmnist full 20 5e-4 $seed
    run brain_tumor_mri full 10 5e-4 $seed
    run pneumoniamnist full 10 5e-4 $seed
done
"$python" -m ttl_jax report "$workdir"/*-seed? --out="$workdir/report.html"
