"""Initial weights of a backbone for strategies that want another start than the pretrained ones."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from ttl_jax import weights
from ttl_jax.errors import UserError, nearest
from ttl_jax.models import Network
from ttl_jax.strategies import anatomy_of, flatten, unflatten
from ttl_jax.strategies.anatomy import SOURCE_HEAD
from ttl_jax.strategies.select import Where, matches
from ttl_jax.typing import Variables
from ttl_jax.weights.initialise import fresh

STARTS = ("pretrained", "scratch", "mean_var")


def restart(variables: Variables, starts: Mapping[Where, str], model: str, seed: int) -> Variables:
    """Applies a surgery's `starts` to merged variables; the head stays as it is.

    "scratch" gives fresh values, "mean_var" draws each tensor from a normal distribution of its own
    mean and variance (Raghu et al. 2019). Either way the BatchNorm statistics of the module start
    anew, for they described features that are gone. A function of (weights, init, seed) alone.

    Raises:
        UserError: a start that does not exist, or a leaf for which two are given.
    """
    for value in starts.values():
        if value not in STARTS:
            raise UserError(f"surgery.init={value!r} is not one of {STARTS}{nearest(value, STARTS)}")
    if set(starts.values()) <= {"pretrained"}:
        return variables
    anatomy = anatomy_of(variables["params"], model)
    params, statistics = flatten(variables["params"]), flatten(variables["batch_stats"])
    for leaf in anatomy.leaves:
        given = {value for where, value in starts.items() if matches(where, leaf, anatomy)}
        if len(given) > 1:
            raise UserError(f"surgery.init gives parameter {leaf.path} two starts: {sorted(given)}")
        how = given.pop() if given else "pretrained"
        if how == "pretrained" or leaf.unit == anatomy.head:
            continue
        old, path = np.asarray(params[leaf.path], np.float32), leaf.path
        if how == "scratch":
            params[path] = fresh(f"params/{path}", old.shape, seed)
        else:
            rng = np.random.default_rng([seed, zlib.crc32(f"mean_var/{path}".encode())])
            params[path] = rng.normal(old.mean(), old.std(), old.shape).astype(np.float32)
        module = path.rpartition("/")[0]
        for name in (f"{module}/mean", f"{module}/var"):
            if name in statistics:
                statistics[name] = fresh(name, statistics[name].shape, seed)
    return {"params": unflatten(params), "batch_stats": unflatten(statistics)}


def with_source_head(
    variables: Variables, source: str | Mapping[str, np.ndarray], model: str, network: Network
) -> Variables:
    """Adds the pretrained head beside the new one, under "source_head" (co-tuning).

    Raises:
        UserError: the network was cut or slimmed, so that the pretrained head does not fit, or the
            weights hold none.
    """
    if source == "none":
        raise UserError("cotuning needs pretrained weights with their head: model.weights='none' has none")
    given = weights.load(source, model)["params"].get("head", {})
    fresh_head = variables["params"]["head"]
    if "kernel" not in given or "kernel" not in fresh_head:
        raise UserError(f"cotuning: the pretrained head of {model} is not one linear layer on the last unit")
    if given["kernel"].shape[0] != fresh_head["kernel"].shape[0]:
        raise UserError(
            f"cotuning: the pretrained head reads {given['kernel'].shape[0]} features, the network now ends "
            f"in {fresh_head['kernel'].shape[0]}: it cannot be joined with truncated or transfusion"
        )
    held = {name: np.asarray(given[name], np.float32) for name in ("kernel", "bias")}
    return {**variables, "params": {**variables["params"], SOURCE_HEAD: held}}


def without_source_head(variables: Variables) -> Variables:
    """Drops the pretrained head again: the trained network has one head."""
    params = {name: leaf for name, leaf in variables["params"].items() if name != SOURCE_HEAD}
    return {**variables, "params": params}
