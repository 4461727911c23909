"""A comparison of strategies.

    python -m ttl_jax compare --workdir=runs/compare --config=compare \
        --config.compare.strategies="('full', 'linear_probe', 'lp_ft')" \
        --config.compare.datasets="('phantom/dermoscopy', 'phantom/mri')"

`--help` explains every field. Those of a run (--config.total_epochs=5, --config.data.image_size=64, ...)
hold for all cells; those of a data set's preset do unless they are given here.
"""

from ttl_jax.compare.config import default_config


def get_config():
    return default_config()
