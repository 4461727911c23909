"""One training.

    python -m ttl_jax train --workdir=runs/skin \
        --config=train:dataset=phantom/dermoscopy,model=efficientnet_lite0,strategy=full

What may stand behind the colon: dataset (see `python -m ttl_jax datasets`), data_dir (where the
presets look for files), model, weights, strategy. Every other field is set by --config.NAME=VALUE; `--help`
explains each, and shows its default where --config=... is added.
"""

from ttl_jax.config import default_config, set_fields
from ttl_jax.data.published import presets


def get_config(arg=None):
    config = default_config()
    given = presets.fill(config, arg, strategy="full")
    set_fields(config, {"strategy": given["strategy"], "select": presets.metric(given["dataset"])})
    return config
