"""The state of a run on the device, and the split of parameters into trainable and frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from ttl_jax.strategies import flatten, unflatten
from ttl_jax.training.batch_statistics import norms
from ttl_jax.typing import Array, Int, Variables


@struct.dataclass
class TrainState:
    """Everything that a step reads and writes.

    Attributes:
        params: nested parameters, float32.
        batch_stats: nested running statistics of BatchNorm, float32.
        opt_state: state of the phase's optimizer; it exists for trainable leaves only.
        step: steps done since the start of the run, all phases together.
        multipliers: {path: scalar} of the learning rate, where the phase has a probe that measures
            them; empty elsewhere.
        average: {"params": {path: leaf}, "batch_stats": {path: leaf}}, the moving average of what
            trains and moves, where the strategy keeps one; empty elsewhere.
        updates: (norms,) how many batches moved each BatchNorm, in the order of `batch_statistics.norms`,
            where the running statistics are corrected for it; empty elsewhere.
    """

    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    step: Int[Array, ""]
    multipliers: Any = struct.field(default_factory=dict)
    average: Any = struct.field(default_factory=dict)
    updates: Any = struct.field(default_factory=dict)

    @property
    def trained(self) -> Variables:
        """The variables that are trained, whether an average of them is kept or not."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def variables(self) -> Variables:
        """The variables that are validated and kept: the moving average where there is one."""
        params, batch_stats = self.params, self.batch_stats
        if self.average:
            params = unflatten({**flatten(params), **self.average["params"]})
            batch_stats = unflatten({**flatten(batch_stats), **self.average["batch_stats"]})
        return {"params": params, "batch_stats": batch_stats}


def split(params: Mapping[str, Any], trainable: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits nested parameters into two flat dicts, {path: leaf}: trainable and frozen."""
    flat, chosen = flatten(params), set(trainable)
    train = {path: leaf for path, leaf in flat.items() if path in chosen}
    return train, {path: leaf for path, leaf in flat.items() if path not in chosen}


def join(train: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Puts the two halves of `split` together again."""
    return unflatten({**frozen, **train})


def initial_state(
    variables: Mapping[str, Any],
    optimizer: optax.GradientTransformation,
    trainable: Iterable[str],
    step: int = 0,
    *,
    measured: bool = False,
    averaged: bool = False,
    counted: bool = False,
) -> TrainState:
    """Builds the state at the start of a phase, with fresh buffers that a step may donate.

    Args:
        variables: parameters and statistics.
        optimizer: the phase's optimizer.
        trainable: the paths that it updates.
        step: steps that the run has done before the phase.
        measured: the phase has a probe, so there are multipliers (1 until the first measure).
        averaged: a moving average is kept; it starts at the variables.
        counted: it is counted how many batches moved each BatchNorm.
    """
    params, batch_stats = jax.tree.map(fresh, (dict(variables["params"]), dict(variables["batch_stats"])))
    train, _ = split(params, trainable)
    known = norms(batch_stats) if counted else ()
    updates = jax.device_put(np.zeros(len(known), np.int32)) if known else {}
    state = TrainState(
        params, batch_stats, optimizer.init(train), jnp.int32(step), ones(train, measured), updates=updates
    )
    return start_average(state, trainable) if averaged else state


def fresh(leaf: Array | np.ndarray) -> Array:
    """A float32 copy that a step may donate.

    By `device_put`: jnp.array and jnp.zeros compile a program for every shape (for DenseNet-121's
    states 136 of them, which kept 180 MB).
    """
    there: Array
    if isinstance(leaf, jax.Array):
        there = jax.device_put(leaf.astype(jnp.float32), may_alias=False)
    else:  # copied here: JAX may go on in NumPy's memory
        there = jax.device_put(np.array(leaf, np.float32))
    return there


def ones(train: Iterable[str], measured: bool) -> dict[str, Array]:
    """Multipliers before the first measure; none where nothing measures."""
    return {path: jnp.ones((), jnp.float32) for path in train} if measured else {}


def with_statistics(state: TrainState, batch_stats: Any) -> TrainState:
    """The state whose `variables` have these statistics: those of the average, where it keeps one."""
    if state.average:
        return replace(state, average={**state.average, "batch_stats": flatten(batch_stats)})
    return replace(state, batch_stats=batch_stats)


def with_variables(state: TrainState, variables: Variables) -> TrainState:
    """The state with these weights and statistics, in its moving average too where it keeps one."""
    flat = {part: flatten(variables[part]) for part in state.average}
    average = {
        part: {path: fresh(flat[part][path]) for path in leaves} for part, leaves in state.average.items()
    }
    params, batch_stats = jax.tree.map(fresh, (variables["params"], variables["batch_stats"]))
    return replace(state, params=params, batch_stats=batch_stats, average=average)


def start_average(state: TrainState, trainable: Iterable[str]) -> TrainState:
    """Gives every leaf that trains now its place in the average; those that have one keep it."""
    params, batch_stats = flatten(state.params), flatten(state.batch_stats)
    old = state.average or {"params": {}, "batch_stats": {}}
    return replace(
        state,
        average={
            "params": {**{path: fresh(params[path]) for path in trainable}, **old["params"]},
            "batch_stats": {**jax.tree.map(fresh, batch_stats), **old["batch_stats"]},
        },
    )
