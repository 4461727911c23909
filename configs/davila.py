"""Davila, Colan, Hasegawa 2024: eight strategies x three networks x five modalities, one table.

    python -m ttl_jax compare --config=davila:data_dir=/data --workdir=runs/davila

The table's rows are strategies, its columns networks and data sets (WORKDIR/compare.md, .tex, .csv, the
report). Known of the paper: the eight strategies, the three networks with ImageNet weights, the five
modalities. NOT known (methods.md A.3): the names of its six data sets, their splits and sizes, optimizer,
rates, batch, epochs, stopping, seeds, the schedule of gradual unfreezing, alpha and beta, and every number
of its tables. Here these are the closest published settings of the same authors (BioTune 2025: Adam with
a cosine, batch 96, 30 epochs, 3 seeds, 224 px, no random augmentation), and our choice elsewhere: data
sets that anyone can get, patient-safe splits, every strategy's rate chosen on validation from one grid.

What may stand behind the colon: data_dir, and datasets, models, as in models=resnet50+vgg19.
"""

from ttl_jax.compare.config import default_config
from ttl_jax.config import parse_arg, set_fields

STRATEGIES = (
    "full", "linear_probe", "gradual_last_first", "gradual_first_last", "lp_ft", "l1_sp", "l2_sp", "auto_rgn",
)  # fmt: skip

# One of each modality: X-ray, MRI, histology, dermoscopy, endoscopy.
DATASETS = ("shenzhen", "brain_tumor_mri", "lc25000", "ham10000", "kvasir")


def get_config(arg=None):
    given = parse_arg(
        arg, data_dir="../shared/data", datasets="+".join(DATASETS), models="resnet50+densenet121+vgg19"
    )
    config = default_config()
    set_fields(
        config,
        {
            "compare.strategies": STRATEGIES,
            "compare.models": tuple(given["models"].split("+")),
            "compare.datasets": tuple(given["datasets"].split("+")),
            "compare.data_dir": given["data_dir"],
            "compare.seeds": (684, 559, 629),
            "compare.lrs": (1e-4, 3e-4, 1e-3, 3e-3),
            "data.image_size": 224,
            "data.batch_size": 96,
            "data.eval_batch_size": 64,
            "data.augment": "none",
            "total_epochs": 30.0,
        },
    )
    return config
