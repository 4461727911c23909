"""Costs of each setting's network in use: milliseconds, megabytes and operations of one image."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ttl_jax.compare.config import CompareConfig
from ttl_jax.system.json_object import read_object
from ttl_jax.system.whole_file import write_json


def costs(
    config: CompareConfig, workdir: Path, settings: Sequence[dict[str, Any]]
) -> list[dict[str, Any] | None]:
    """One entry a setting, None where no cell of it says for what size and classes it was trained.

    {"params", "flops", "file_bytes", "ms", "device"}: of a forward pass of one image, two operations a
    multiply-accumulate; parameters and running statistics as float32; median milliseconds at batch 1,
    compiled, in `model.dtype`, on this machine, None with compare.latency=False. Strategies that keep the
    same of a network share an entry. Kept in WORKDIR/inference.json; where one is missing, all are
    measured anew, so that they are measured under the same conditions.

    Args:
        settings: the "settings" of compare.json, see `summary.summarise`.
    """
    wanted = [_network(config, each) for each in settings]
    path = workdir / "inference.json"
    known: dict[str, Any] = read_object(path) if path.exists() else {}
    timed = config.compare.latency
    names = [None if network is None else json.dumps(network, sort_keys=True) for network in wanted]
    distinct = {name: network for name, network in zip(names, wanted, strict=True) if name and network}
    if any(name not in known or (timed and known[name]["ms"] is None) for name in distinct):
        several = "networks cost" if len(distinct) > 1 else "network costs"
        print(f"measuring what {len(distinct)} {several} in use", flush=True)
        known |= {name: _measure(network, timed) for name, network in distinct.items()}
        write_json(path, known)
    return [None if name is None else known[name] for name in names]


def _network(config: CompareConfig, setting: dict[str, Any]) -> dict[str, Any] | None:
    """All that `models.create` has to know, and the shape of an image."""
    from ttl_jax import models, strategies

    cell = setting["cells"][0] if setting["cells"] else {}
    if "data" not in cell or "image_size" not in cell:  # a cell of a version that did not record them
        return None
    shape = strategies.parse(setting.get("written", setting["strategy"])).surgery.shape(setting["model"])
    return {
        "name": setting["model"],
        "num_classes": len(next(iter(cell["data"]["splits"].values()))["classes"]),
        **shape,
        "head": config.model.head or shape["head"],
        "dtype": config.model.dtype,
        "image": list(models.input_shape(setting["model"], cell["image_size"], depth=config.data.depth)),
    }


def _measure(network: dict[str, Any], timed: bool) -> dict[str, Any]:
    import jax.numpy as jnp

    from ttl_jax import models
    from ttl_jax.analysis.cost import cost_of
    from ttl_jax.system.compilation_cache import set_up_jax

    set_up_jax()
    about = dict(network)
    image, dtype = about.pop("image"), jnp.dtype(about.pop("dtype"))
    cost = cost_of(models.create(**about, dtype=dtype), image, batches=(1,) if timed else ())
    return {
        "params": cost.params,
        "flops": cost.flops,
        "file_bytes": cost.file_bytes,
        "ms": cost.latency_ms[1] if timed else None,
        "device": cost.device,
    }
