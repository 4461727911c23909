"""The embedded default: EfficientNet-Lite0 with ImageNet weights on generated skin lesions.

    make quickstart

or one strategy of it:

    python -m ttl_jax train --config=quickstart:strategy=full --workdir=runs/quickstart/full
"""

from ttl_jax.config import default_config, parse_arg, set_fields
from ttl_jax.data.published import presets


def get_config(arg=None):
    given = parse_arg(arg, dataset="phantom/dermoscopy", strategy="full")
    probing = given["strategy"].startswith("linear_probe")
    config = default_config()
    set_fields(config, presets.fields(given["dataset"], "../shared/data"))
    set_fields(
        config,
        {
            "model.name": "efficientnet_lite0",
            "strategy": given["strategy"],
            "total_epochs": 8.0,
            # A probe's few parameters want a larger rate than a pretrained backbone stands.
            "optimizer.lr": 2e-3 if probing else 1e-3,
        },
    )
    return config
