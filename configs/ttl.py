"""The TTL paper's table (Peng et al. 2023): FTL, LWFT-1/2, TF-1/2 and TTL-1/2 on one data set.

    python -m ttl_jax search --config=ttl:dataset=ham10000 --workdir=runs/ttl

    method, unit | AUROC % | AUPRC % | AUROC - FTL [95 %] | params | MACs | file | ms at batch 1 and 32

The paper used ResNet-50 at 224 px on BIMCV-COVID, CheXpert, MIDOG and RadFusion (PENet, 3D); any network
and data set of `python -m ttl_jax models` and `datasets` may stand here:

    --config=ttl:dataset=bimcv_covid19,data_dir=/data,model=resnet50 \\
    --config.data.image_size=224

Known of the paper (its code): Adam at 1e-4 without decay; the rate halved after 5 epochs without a lower
validation loss, the end once it is below 1e-6, at most 200 epochs; batches of 256; RandomResizedCrop and
flip at 224 px; weighted cross-entropy; a pooled head. Our choice: the three repetitions are seeds on one
grouped split, where the paper drew three splits; selection is by AUPRC on validation, never on test.
What else may stand behind the colon: weights, recipe (paper, or quick: Adam at 3e-3 with a
cosine, batches of 32, 6 epochs, no augmentation, at most 600 training images: for a CPU).
"""

from ttl_jax.config import set_fields
from ttl_jax.data.published import presets
from ttl_jax.errors import UserError, nearest
from ttl_jax.search.config import search_config

RECIPES = {
    "paper": {
        "optimizer.lr": 1e-4,
        "schedule.name": "plateau",
        "schedule.warmup": 0.0,
        "total_epochs": 200.0,
        "data.batch_size": 256,
        "data.augment": "imagenet",
    },
    "quick": {
        "optimizer.lr": 3e-3,
        "total_epochs": 6.0,
        "eval_every_epochs": 2.0,
        "data.augment": "none",
        "data.train_limit": 600,
    },
}


def get_config(arg=None):
    config = search_config()
    given = presets.fill(config, arg, recipe="paper")
    if given["recipe"] not in RECIPES:
        raise UserError(f"--config=ttl: recipe={given['recipe']!r}{nearest(given['recipe'], tuple(RECIPES))}")
    set_fields(
        config,
        {
            "search.kind": "all",
            "search.seeds": 3,
            "select": "auprc",
            **RECIPES[given["recipe"]],
        },
    )
    return config
