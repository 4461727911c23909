"""Cost of a network: parameters, multiply-accumulates, activations, file size, measured latency."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax import models, strategies
from ttl_jax.analysis.macs import count
from ttl_jax.errors import UserError
from ttl_jax.models import Network
from ttl_jax.typing import Variables

BATCHES = (1, 32)


@dataclass(frozen=True)
class Cost:
    """Costs of one network at one input size, per image unless an attribute says otherwise.

    Attributes:
        params: Number of trainable parameters, including the norms' scales and biases.
        macs: Multiply-accumulates of the convolutions and matrix products of one forward pass.
        activation_bytes: Size of the outputs of these operations, in the compute dtype.
        file_bytes: Size of a weights file: parameters and running statistics as float32.
        latency_ms: Batch size -> median milliseconds of a forward pass of the whole batch. Empty if nothing
            was measured.
        device: Name of the device on which latency was measured; "" if it was not.
    """

    params: int
    macs: int
    activation_bytes: int
    file_bytes: int
    latency_ms: dict[int, float]
    device: str = ""

    @property
    def flops(self) -> int:
        """Floating-point operations: two per multiply-accumulate."""
        return 2 * self.macs


def cost(
    name: str,
    input_shape: Sequence[int],
    *,
    cut: int | str | None = None,
    strategy: str | None = None,
    num_classes: int = 2,
    batches: Sequence[int] = (),
    seconds: float = 1.0,
) -> Cost:
    """Return the costs of a network, whole, cut, or after a strategy's surgery.

    Args:
        name: A network of `ttl_jax.models.names()`.
        input_shape: Shape of one image: (H, W, C), or (D, H, W, C) for a volume.
        cut: The last unit that is kept, by number or name. None keeps the whole network.
        strategy: A strategy such as "truncated(12)" or "transfusion(14)". Only its surgery matters here, not
            what it trains.
        num_classes: Number of outputs of the head.
        batches: Batch sizes at which to measure latency, such as (1, 32). Nothing is measured by default.
        seconds: How long to measure each batch size, after warm-up.

    Raises:
        UserError: an unknown name, unit or strategy, both a cut and a strategy, or a bad shape.
    """
    if cut is not None and strategy is not None:
        raise UserError("cost takes a cut or a strategy, not both; truncated(12) is a strategy that cuts")
    shape = tuple(int(length) for length in input_shape)
    if len(shape) < 3 or min(shape) < 1:
        raise UserError(f"input shape {shape} is not (H, W, C) or (D, H, W, C), all above 0")
    surgery = {"cut": cut} if strategy is None else strategies.parse(strategy).surgery.shape(name)
    network = models.create(name, num_classes, **surgery)
    return cost_of(network, shape, batches=batches, seconds=seconds)


def cost_of(
    network: Network, input_shape: Sequence[int], *, batches: Sequence[int] = (), seconds: float = 1.0
) -> Cost:
    """Return the `cost` of a network that is built already."""
    image = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    counted = count(network.apply, variables, image)
    leaves = jax.tree.leaves(variables)
    return Cost(
        params=sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        macs=counted.macs,
        activation_bytes=counted.activations * jnp.dtype(network.dtype).itemsize,
        file_bytes=sum(leaf.size * 4 for leaf in leaves),
        latency_ms=latency(network, variables, input_shape, batches, seconds) if batches else {},
        device=jax.devices()[0].device_kind if batches else "",
    )


def latency(
    network: Network,
    variables: Variables,
    input_shape: Sequence[int],
    batches: Sequence[int] = BATCHES,
    seconds: float = 1.0,
    warm_up: int = 3,
) -> dict[int, float]:
    """Measure median milliseconds of a forward pass at each batch size, compiled, on the default device.

    Args:
        network: A network in inference mode.
        variables: Arrays or their shapes; latency does not depend on the values.
        input_shape: Shape of one image: (H, W, C), or (D, H, W, C) for a volume.
        batches: Batch sizes to measure.
        seconds: How long to measure each batch size; at least 5 passes are timed.
        warm_up: Number of untimed passes before measuring.
    """
    # Small constants, not zeros or noise: finite everywhere, no denormal numbers.
    ready = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), variables)
    milliseconds = {}
    for batch in batches:
        images = jnp.asarray(np.random.default_rng(0).normal(size=(batch, *input_shape)), jnp.float32)
        run = jax.jit(network.apply).lower(ready, images).compile()
        # The first passes allocate memory and warm caches, so they are not timed.
        for _ in range(warm_up):
            jax.block_until_ready(run(ready, images))
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < 5 or time.perf_counter() < end:
            began = time.perf_counter()
            jax.block_until_ready(run(ready, images))
            times.append(1000 * (time.perf_counter() - began))
        milliseconds[int(batch)] = median(times)
    return milliseconds


def row(label: str, cost: Cost) -> dict[str, Any]:
    """Return a line of the printed table; sizes in millions and megabytes, latency in milliseconds."""
    line: dict[str, Any] = {
        "network": label,
        "params (M)": f"{cost.params / 1e6:.3f}",
        "MACs (G)": f"{cost.macs / 1e9:.3f}",
        "activations (MB)": f"{cost.activation_bytes / 1e6:.2f}",
        "file (MB)": f"{cost.file_bytes / 1e6:.2f}",
    }
    for batch, value in cost.latency_ms.items():
        line[f"ms (batch {batch})"] = f"{value:.2f}"
    return line
