"""A truncation search: which unit to cut at, to freeze up to, or to slim from.

    python -m ttl_jax search --workdir=runs/cut \
        --config=search:dataset=phantom/dermoscopy,model=efficientnet_lite0,kind=ttl

What may stand behind the colon: dataset, data_dir, model, weights (as for --config=train), kind
(ttl, tf, lwft), method (bayesian, exhaustive, two_stage, halving). `--help` explains every other field.
"""

from ttl_jax.config import set_fields
from ttl_jax.data.published import presets
from ttl_jax.search.config import search_config


def get_config(arg=None):
    config = search_config()
    given = presets.fill(config, arg, kind="ttl", method="bayesian")
    set_fields(
        config,
        {
            "search.kind": given["kind"],
            "search.method": given["method"],
            "select": "auprc",  # what the TTL paper selects by
        },
    )
    return config
