"""BatchNorm's running statistics: what a run makes of the moments of its batches (`model.bn_estimate`).

    moving      s <- m s + (1 - m) x after every batch, from the pretrained statistics on (torch's
                momentum is 1 - m)
    corrected   the same with m_t = m (1 - m^(t-1)) / (1 - m^t) for the t-th batch that moves a BatchNorm: the
                weighted mean of its batches alone, as Adam's moments (Kingma and Ba 2015, section 3). t = 1
                takes the batch's moments whole
    precise(n)  moving while it trains; whatever is validated or kept gets the moments of n training batches
                under its own weights (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3)

A BatchNorm's t goes on where it moves again in a later phase. Every part of an accumulated batch counts, a
step that nan_skip undoes does not. Of a still unit nothing changes, not one bit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.config.run import ModelConfig
from ttl_jax.errors import UserError, nearest
from ttl_jax.models import Network
from ttl_jax.models.layers.batch_scope import batch_scope
from ttl_jax.strategies import flatten, unflatten
from ttl_jax.typing import Array, Float, Int, Variables

if TYPE_CHECKING:
    from ttl_jax.training.devices import Layout

ESTIMATES = ("moving", "corrected", "precise(20)")


@dataclass(frozen=True)
class Estimate:
    """The way in which BatchNorm's running statistics are estimated.

    Attributes:
        momentum: m, the share of the old running statistic that one batch leaves.
        corrected: whether m is corrected for the number of batches so far, as in Adam.
        batches: n of precise(n), training batches; 0 for the other estimates.
    """

    momentum: float
    corrected: bool = False
    batches: int = 0

    def __str__(self) -> str:
        kind = "corrected" if self.corrected else f"precise({self.batches})" if self.batches else "moving"
        return f"{kind}, momentum {self.momentum:g}"


TORCH = Estimate(0.9)  # of a step built by hand


def estimate_of(model: ModelConfig) -> Estimate:
    """Reads `bn_momentum` and `bn_estimate` of a config's `model`.

    Raises:
        UserError: another word.
    """
    momentum, text = float(model.bn_momentum), model.bn_estimate
    if text in ("moving", "corrected"):
        return Estimate(momentum, text == "corrected")
    if (precise := re.fullmatch(r"precise\(([1-9][0-9]{0,3})\)", text)) is not None:
        return Estimate(momentum, batches=int(precise[1]))
    if text.startswith("precise"):
        raise UserError(
            f"config model.bn_estimate={text!r}: precise takes how many training batches, 1 to 9999, as in "
            "'precise(20)'"
        )
    raise UserError(f"config model.bn_estimate={text!r}{nearest(text, ESTIMATES)}")


def norms(batch_stats: Mapping[str, Any]) -> tuple[str, ...]:
    """The paths of the BatchNorms, in the order in which `TrainState.updates` counts them."""
    return tuple(dict.fromkeys(path.rpartition("/")[0] for path in flatten(batch_stats)))


def anything_moves(network: Network, still: Sequence[str], batch_stats: Mapping[str, Any]) -> bool:
    """Return whether a BatchNorm lies in a unit that is not still."""
    moving = tuple(path for unit in network.units if unit.name not in still for path, _ in unit.parts)
    return any(norm == path or norm.startswith(f"{path}/") for norm in norms(batch_stats) for path in moving)


def corrected(momentum: float, updates: Int[Array, " norms"]) -> Float[Array, " norms"]:
    """m (1 - m^(t-1)) / (1 - m^t) for t from 1 on; for t = 0, of which nobody asks, not a number."""
    if momentum == 0:
        return jnp.zeros(updates.shape)
    age, log = updates.astype(jnp.float32), math.log(momentum)
    return momentum * jnp.expm1((age - 1) * log) / jnp.expm1(age * log)


def moved(
    batch_stats: Mapping[str, Any], updates: Any, moments: Mapping[str, Any], estimate: Estimate
) -> tuple[dict[str, Any], Any]:
    """The running statistics, and how many batches moved each BatchNorm, after one more batch.

    Args:
        batch_stats: nested running statistics.
        updates: (norms,) batches so far; anything where the estimate is not corrected.
        moments: the collection "moments" of the BatchNorms that move, as `BatchNorm` leaves it.
        estimate: the run's estimate.
    """
    flat, seen, known = flatten(batch_stats), flatten(moments), norms(batch_stats)
    moving = norms(moments)
    keep: dict[str, Any] = dict.fromkeys(moving, estimate.momentum)
    if estimate.corrected and moving:
        updates = updates + np.array([name in keep for name in known], np.int32)
        each = corrected(estimate.momentum, updates)
        keep = {name: each[known.index(name)] for name in moving}
    for name, share in keep.items():
        batch = {"mean": seen[f"{name}/mean"], "var": seen[f"{name}/var"] * seen[f"{name}/bessel"]}
        for part, value in batch.items():
            path = f"{name}/{part}"
            flat[path] = share * flat[path] + (1 - share) * value
    return unflatten(flat), updates


def population(batches: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Mean and unbiased variance of all values of several batches of one size, float32.

    By the law of total variance: the mean of the batches' variances plus the variance of their means, which
    is E[x^2] - mean^2 over all of them; n / (n - 1) of all values makes it unbiased, as a batch's.

    Args:
        batches: {"PATH/mean", "PATH/var", "PATH/bessel"} of each, as `BatchNorm` leaves them.
    """
    statistics: dict[str, np.ndarray] = {}
    for name in dict.fromkeys(path.rpartition("/")[0] for path in batches[0]):
        means, variances = (np.stack([np.float64(batch[f"{name}/{part}"]) for batch in batches])
                            for part in ("mean", "var"))  # fmt: skip
        bessel, count = float(batches[0][f"{name}/bessel"]), len(batches)
        whole = count * bessel / ((count - 1) * bessel + 1)
        statistics[f"{name}/mean"] = means.mean(0).astype(np.float32)
        statistics[f"{name}/var"] = ((variances.mean(0) + means.var(0)) * whole).astype(np.float32)
    return statistics


def make_reestimate(
    network: Network,
    still: Sequence[str],
    prepare: Callable[[Array, Array], Array],
    keys_of: Callable[[Mapping[str, Array]], Array],
    after: str | None,
    layout: Layout,
) -> Callable[[Variables, Iterable[Mapping[str, Any]]], Variables]:
    """Builds the function that gives variables the statistics of a few training batches.

    One pass in training mode, without gradients: every BatchNorm that moves is normalised by the batch's
    moments, whole batches over all devices and parts. Compiled once.

    Args:
        network, prepare, keys_of, after: the fields of `TrainStep`.
        still: units that keep their statistics.
        layout: devices over which the variables are replicated and each batch is split.
    """

    def moments(variables: Variables, batch: Mapping[str, Array]) -> Any:
        keys = keys_of(batch)
        images = prepare(batch["image"], jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys))
        dropout_keys = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        with batch_scope(None, batch["mask"] if "mask" in batch else None):
            _, seen = network.apply(
                variables,
                images,
                train=True,
                still=still,
                keys=dropout_keys,
                after=after,
                mutable=["moments"],
            )
        return flatten(seen["moments"])

    run = layout.gathering(moments)

    def reestimate(variables: Variables, batches: Iterable[Mapping[str, Any]]) -> Variables:
        gathered: list[Any] = []
        ahead = None
        for batch in batches:  # the device is one batch ahead of the host
            before, ahead = ahead, run(variables, batch)
            if before is not None:
                gathered.append(jax.device_get(before))
        new = jax.device_put(population([*gathered, jax.device_get(ahead)]))
        statistics = {**flatten(variables["batch_stats"]), **layout.replicate(new)}
        return {**variables, "batch_stats": unflatten(statistics)}

    return reestimate
