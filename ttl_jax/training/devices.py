"""One device or many, one process or several: where arrays lie, and how the one step function is run.

`jit`: a mesh over all devices; the state is replicated (large leaves sharded where asked for), the batch
split by examples, and XLA sees the whole batch: losses, gradients and BatchNorm are global by
themselves. `pmap`: the same step on each device's part, told the axis over which to sum. On one device
under `jit` nothing is placed at all.

Global position i of a batch lies on the same rows whatever the number of devices, and what is random
belongs to (seed, epoch, example): the device count changes rounding alone.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ttl_jax.config.run import ParallelConfig
from ttl_jax.data.batches import Rows
from ttl_jax.errors import UserError
from ttl_jax.system.placing import placed
from ttl_jax.training.count_flops import operations_once
from ttl_jax.typing import Array

T = TypeVar("T")
AXIS = "data"


def connect(hosts: str) -> None:
    """Joins the processes of a run, before anything else of JAX is touched.

    Args:
        hosts: "one", or "auto": TPU pods, Slurm, GKE and Open MPI are recognised by JAX itself;
            elsewhere JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID say it.

    Raises:
        UserError: another word, or processes that do not find each other.
    """
    if hosts == "one":
        return
    if hosts != "auto":
        raise UserError(f"config parallel.hosts={hosts!r} is not 'one' or 'auto'")
    given = {
        name: kind(os.environ[variable])
        for name, variable, kind in (
            ("coordinator_address", "JAX_COORDINATOR_ADDRESS", str),
            ("num_processes", "JAX_NUM_PROCESSES", int),
            ("process_id", "JAX_PROCESS_ID", int),
        )
        if variable in os.environ
    }
    try:
        jax.distributed.initialize(**given)  # type: ignore[arg-type]
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"parallel.hosts='auto': the processes did not find each other ({str(error).splitlines()[0]}); "
            "set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or parallel.hosts='one'"
        ) from None


@dataclass(frozen=True)
class Layout:
    """Devices and how they share the work.

    Attributes:
        mode: "jit" or "pmap".
        devices: the devices of all processes; those of one process lie side by side.
        accumulate: parts that a device's examples are taken in, one after the other.
        norm: "global" or "device": over which examples a BatchNorm takes its moments.
        shard_above: jit: leaves with at least so many values are sharded; 0 = none is.
    """

    mode: str
    devices: tuple[Any, ...]
    accumulate: int = 1
    norm: str = "global"
    shard_above: int = 0

    @property
    def plain(self) -> bool:
        """One device under jit: nothing is split or replicated."""
        return self.mode == "jit" and len(self.devices) == 1

    @property
    def several(self) -> bool:
        """Return whether other processes take part."""
        return not self.plain and len({device.process_index for device in self.devices}) > 1

    @property
    def first(self) -> bool:
        """Return whether this is the process that writes files."""
        return jax.process_index() == 0

    @property
    def axis(self) -> str | None:
        """The name of the axis that a step sums over itself."""
        return AXIS if self.mode == "pmap" else None

    @property
    def mesh(self) -> Mesh:
        """All devices in a row."""
        return Mesh(np.asarray(self.devices), (AXIS,))

    def rows(self, size: int, *, parts: int | None = None) -> Rows:
        """Split a batch of this size into rows, for `accumulate` parts unless `parts` is given."""
        multiple = len(self.devices) * (self.accumulate if parts is None else parts)
        padded = math.ceil(size / multiple) * multiple
        if not self.several:
            return Rows(padded, slice(0, padded))
        processes = sorted({device.process_index for device in self.devices})
        each = padded // len(processes)
        place = processes.index(jax.process_index())
        return Rows(padded, slice(place * each, (place + 1) * each))

    # Placing.

    def replicate(self, tree: T) -> T:
        """The same values on every device."""
        if self.plain:
            return tree
        sharding = NamedSharding(self.mesh, PartitionSpec())
        replicated: T = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf), sharding), tree)
        return replicated

    def split(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """A batch (this process's rows of it) in its place: split over the devices of a mesh."""
        if self.plain:
            return placed(dict(batch))
        sharding = NamedSharding(self.mesh, PartitionSpec(AXIS))
        return {
            name: jax.make_array_from_process_local_data(sharding, np.asarray(value))
            for name, value in batch.items()
        }

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """A batch as the compiled step takes it."""
        if self.mode == "jit":
            return self.split(batch)
        own = self._own_devices
        return {
            name: self._on_own(np.asarray(value).reshape(len(own), -1, *np.shape(value)[1:]))
            for name, value in batch.items()
        }

    def place_state(self, state: Any) -> Any:
        """A state (whole, on any device or the host) as the compiled step takes it."""
        if self.plain:
            return state
        if self.mode == "pmap":
            count = len(self._own_devices)
            return jax.tree.map(
                lambda leaf: self._on_own(np.broadcast_to(np.asarray(leaf), (count, *np.shape(leaf)))), state
            )
        return jax.tree.map(
            lambda leaf, sharding: jax.device_put(np.asarray(leaf), sharding), state, self._shardings(state)
        )

    def whole(self, state: Any) -> Any:
        """The state with every leaf whole on every device: to validate, measure and save."""
        if self.plain:
            return state
        if self.mode == "pmap":  # every device holds the same
            return self.replicate(
                jax.tree.map(lambda leaf: np.asarray(leaf.addressable_shards[0].data)[0], state)
            )
        if not self.shard_above:
            return state
        sharding = NamedSharding(self.mesh, PartitionSpec())
        return jax.jit(lambda tree: tree, out_shardings=sharding)(state)

    # The same of what is not there yet.

    @property
    def foresees(self) -> bool:
        """Return whether a step can be compiled from shapes alone."""
        return self.mode == "jit" and not self.several

    def outline_of_state(self, state: Any) -> Any:
        """Shapes, types and places of a state as `place_state` would place it."""
        if self.plain:
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            state,
            self._shardings(state),
        )

    def outline_of_batch(self, batch: Mapping[str, Any], image: jax.ShapeDtypeStruct) -> dict[str, Any]:
        """Those of a placed batch like this one, but of other images.

        Args:
            batch: a placed batch, from `place_batch`.
            image: shape and type of one image, or of its features.
        """
        shapes = {name: (value.shape, value.dtype) for name, value in batch.items()}
        shapes["image"] = ((len(batch["image"]), *image.shape), image.dtype)
        sharding = None if self.plain else NamedSharding(self.mesh, PartitionSpec(AXIS))
        return {
            name: jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
            for name, (shape, dtype) in shapes.items()
        }

    @property
    def _own_devices(self) -> list[Any]:
        return [device for device in self.devices if device.process_index == jax.process_index()]

    def _on_own(self, stacked: np.ndarray) -> Array:
        mesh = Mesh(np.asarray(self._own_devices), (AXIS,))
        there: Array = jax.device_put(stacked, NamedSharding(mesh, PartitionSpec(AXIS)))
        return there

    def _shardings(self, tree: Any) -> Any:
        count = len(self.devices)

        def of(leaf: Any) -> NamedSharding:
            spec = [None] * len(leaf.shape)
            if 0 < self.shard_above <= math.prod(leaf.shape):
                fitting = [axis for axis, length in enumerate(leaf.shape) if length % count == 0]
                if fitting:
                    spec[max(fitting, key=lambda axis: leaf.shape[axis])] = AXIS  # type: ignore[call-overload]
            return NamedSharding(self.mesh, PartitionSpec(*spec))

        return jax.tree.map(of, tree)

    # Running.

    def compile(
        self,
        step: Callable[..., Any],
        state: Any,
        batch: Any,
        rates: Any,
        *fixed: Any,
        lowered: Callable[[], None] = lambda: None,
    ) -> tuple[Any, float]:
        """Compiles a step for a placed state and batch, and a learning rate, donating the state.

        Args:
            step, state, batch, rates, fixed: the function and what it is given.
            lowered: called once XLA alone has work left, which needs no Python.

        Returns:
            the executable, called as the step is, and its floating-point operations on all devices
            (`operations`; of a pmap, which has no such count, those of this machine's own program).
        """
        if self.mode == "pmap":
            mapped = jax.pmap(
                step, AXIS, in_axes=(0, 0, None, *(None for _ in fixed)), donate_argnums=(0,),
                devices=list(self.devices),
            )  # fmt: skip
            program = mapped.lower(state, batch, rates, *fixed)
            lowered()
            compiled = program.compile()
            analysis = compiled.cost_analysis()
            flops = float(analysis["flops"]) if analysis and "flops" in analysis else 0.0
            # The executable of a pmap over several processes wants global arrays; the pmap takes our part.
            return mapped if self.several else compiled, flops * len(self.devices)
        if self.plain:
            jitted = jax.jit(step, donate_argnums=0)
        else:
            everywhere = NamedSharding(self.mesh, PartitionSpec())
            jitted = jax.jit(step, donate_argnums=0, out_shardings=(self._shardings(state), everywhere))
        traced = jitted.trace(state, batch, rates, *fixed)
        program = traced.lower()
        with ThreadPoolExecutor(1) as beside:
            counted = beside.submit(operations_once, traced, program)
            lowered()
            return program.compile(), counted.result() or 0.0

    def gathering(self, function: Callable[..., T]) -> Callable[..., T]:
        """A function of placed arrays, jitted; its results are whole on every device."""
        everywhere = None if self.plain else NamedSharding(self.mesh, PartitionSpec())
        return jax.jit(function, out_shardings=everywhere)

    def spread(self, predict: Callable[[Any, Any], Array]) -> Callable[[Any, Any], Array]:
        """A jitted (variables, images) -> logits, run with the images split over all devices."""
        if self.plain:
            return predict
        together = self.gathering(predict)

        def run(variables: Any, images: Any) -> Array:
            return together(variables, self.split({"image": images})["image"])

        return run

    # Between processes.

    def agree(self, flag: bool) -> bool:
        """Return whether any process sets the flag. A collective: all processes must call it together."""
        if not self.several:
            return flag
        from jax.experimental import multihost_utils

        return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))

    def from_first(self, make: Callable[[], T], template: T) -> T:
        """Return, in every process, the arrays that the first one makes (of the template's shapes)."""
        if not self.several:
            return make()
        from jax.experimental import multihost_utils

        mine = jax.tree.map(np.asarray, make() if self.first else template)
        sent: T = multihost_utils.broadcast_one_to_all(mine)
        return sent

    def json_from_first(self, make: Callable[[], Any]) -> Any:
        """Return, in every process, the JSON value that the first one makes."""
        if not self.several:
            return make()
        from jax.experimental import multihost_utils

        text = np.frombuffer(json.dumps(make()).encode(), np.uint8) if self.first else np.zeros(0, np.uint8)
        size = int(multihost_utils.broadcast_one_to_all(np.int32(text.size)))
        held = np.zeros(size, np.uint8)
        held[: text.size if self.first else 0] = text
        return json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(held))).decode())


ONE = Layout("jit", (None,))  # of a single device, for a step built by hand


def check(parallel: ParallelConfig) -> None:
    """Refuses values that do not go together.

    Raises:
        UserError: naming the field.
    """
    if parallel.batch_norm == "device" and parallel.mode == "jit":
        raise UserError(
            "config parallel.batch_norm='device' needs parallel.mode='pmap': under jit a batch is one batch"
        )
    if parallel.shard_above and parallel.mode == "pmap":
        raise UserError("config parallel.shard_above needs parallel.mode='jit': under pmap all is replicated")


def make_layout(parallel: ParallelConfig, batch_size: int, *, whole_batch: bool = False) -> Layout:
    """The layout that a config asks for, over the devices that there are.

    Args:
        parallel: the config's part.
        batch_size: images in a training batch, over all devices.
        whole_batch: the strategy has penalties on a batch's features, which do not know padding.

    Raises:
        UserError: more devices than there are, or a batch that must divide and does not.
    """
    check(parallel)
    available = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if parallel.devices > len(available):
        raise UserError(f"config parallel.devices={parallel.devices}: there are {len(available)}")
    if parallel.devices and jax.process_count() > 1 and parallel.devices != len(available):
        raise UserError("config parallel.devices must be 0 (all) where several processes take part")
    devices = tuple(available[: parallel.devices or len(available)])
    layout = Layout(
        parallel.mode, devices, parallel.accumulate, parallel.batch_norm, parallel.shard_above
    )  # fmt: skip
    padded = layout.rows(batch_size).padded
    if padded != batch_size and (whole_batch or parallel.batch_norm == "device"):
        why = "a penalty on features" if whole_batch else "parallel.batch_norm='device'"
        raise UserError(
            f"config data.batch_size={batch_size} would be padded to {padded} on {len(devices)} devices, "
            f"which {why} does not know: choose a multiple of {len(devices) * parallel.accumulate}"
        )
    return layout
