"""Many heads on the same features, over seeds and learning rates, trained as one program.

The step is the ordinary one, mapped over the heads alone; the features stand on the device and are
gathered there, so that the rates of one seed share every batch and no step waits for the host. The
device is one stretch of steps ahead of the host, which scores all heads of the stretch before.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax import data, evaluation
from ttl_jax.config import RunConfig
from ttl_jax.data.batches import positions, seeds
from ttl_jax.data.dataset import Dataset
from ttl_jax.evaluation.registry import merit
from ttl_jax.models import Network
from ttl_jax.strategies import LabelledPhase
from ttl_jax.system.placing import placed
from ttl_jax.system.preemption import Notice, Preempted
from ttl_jax.system.whole_file import whole_file
from ttl_jax.training.build import loss_of
from ttl_jax.training.compile_ahead import compile_step
from ttl_jax.training.frozen.inputs import as_they_are
from ttl_jax.training.optimizer import make_optimizer
from ttl_jax.training.programs import Programs
from ttl_jax.training.progress import Progress, crosses
from ttl_jax.training.records.run_manifest import RunManifest
from ttl_jax.training.schedule import learning_rates, peak_rate
from ttl_jax.training.state import TrainState, join, split
from ttl_jax.training.step import TrainStep
from ttl_jax.typing import Array

LONGEST = 1000  # steps of one call: a stop waits for no more than two calls
# path -> (seeds, ..., rates): with the rates last, all heads of a seed are the columns of one product
Heads = dict[str, Array]
Place = tuple[int, int]  # seed, rate


@dataclass(frozen=True)
class Probes:
    """Runs that can be trained together, seed by seed, and the program that does it."""

    members: Sequence[tuple[RunConfig, Path]]  # each run's config and folder
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    network: Network
    bound: LabelledPhase
    after: str
    sets: Mapping[str, Dataset]
    states: tuple[TrainState, ...]  # one a seed
    length: int
    manifest: RunManifest
    programs: Programs
    began: float

    @property
    def places(self) -> list[Place]:
        """Of the members, in their order."""
        return list(np.ndindex(len(self.seeds), len(self.rates)))

    @property
    def per_epoch(self) -> float:
        """Steps."""
        return len(self.sets["train"]) / self.members[0][0].data.batch_size


@dataclass
class Fitted:
    """Many heads, trained together up to a step.

    Attributes:
        step: steps that all of them have done.
        heads, moments: the newest heads and Adam moments, each leaf (seeds, ..., rates).
        best: the heads at each run's best validation.
        finite: (seeds, rates) True for runs that have not diverged.
        rates: (steps, rates) learning rates.
        figures: "loss", "gradient_norm": (steps, seeds, rates) up to now.
        progress: each run's progress, by its place (seed, rate).
        scores: each run's validation scores, by its place.
        flops: floating-point operations of one run's step.
    """

    step: int
    heads: Any
    moments: Any
    best: dict[str, np.ndarray]
    finite: np.ndarray
    rates: np.ndarray
    figures: dict[str, np.ndarray]
    progress: dict[Place, Progress]
    scores: dict[Place, list[dict[str, Any]]]
    flops: float

    def save(self, path: Path) -> None:
        """Writes all that `load` needs to go on from here, as a whole or not at all."""
        said = [[dataclasses.asdict(self.progress[place]), self.scores[place]] for place in self.progress]
        with whole_file(path) as beside, beside.open("wb") as file:
            leaves = {f"leaf{number}": leaf for number, leaf in enumerate(jax.tree.leaves(self._arrays))}
            np.savez(file, step=self.step, said=np.frombuffer(json.dumps(said).encode(), np.uint8), **leaves)

    def load(self, path: Path) -> None:
        """Takes the place that was saved; this one must be of the same probes, at their start."""
        with np.load(path) as saved:
            leaves, shapes = jax.tree.flatten(self._arrays)
            arrays = [saved[f"leaf{number}"] for number in range(len(leaves))]
            said, self.step = json.loads(saved["said"].tobytes()), int(saved["step"])
        self.heads, self.moments, self.best, self.finite, self.figures = jax.tree.unflatten(shapes, arrays)
        for place, (progress, scores) in zip(self.progress, said, strict=True):
            self.progress[place], self.scores[place] = Progress.from_json(progress), scores

    @property
    def _arrays(self) -> Any:
        return self.heads, self.moments, self.best, self.finite, self.figures


def stops_of(length: int, every: float) -> list[tuple[int, bool]]:
    """Split `length` steps into calls: each call's last step, and whether the heads are validated there."""
    ends, start = [], 0
    for step in range(1, length + 1):
        validates = step == length or crosses(step, every)
        if validates or step - start == LONGEST:
            ends.append((step, validates))
            start = step
    return ends


def fit(probes: Probes, notice: Notice | None = None, kept: Path | None = None) -> Fitted:
    """Trains all heads to their last step, validating them as often as the ordinary loop does.

    Args:
        probes: the networks, features and rates from `many_runs.prepare`.
        notice: polled between calls; training stops early once it is set.
        kept: file of a stopped training; where it exists, training resumes from it bit for bit.

    Raises:
        Preempted: the notice asked to stop; `kept` holds where the heads stand.
    """
    notice = notice or Notice()
    config, first = probes.members[0][0], probes.states[0]  # what is frozen is that of the first seed
    training, held_out = probes.sets["train"], probes.sets["val"]
    run, logits_of, flops = _programs(probes, first)
    train_features, val_features = (
        jnp.asarray(split.images.read(np.arange(len(split)))) for split in (training, held_out)
    )
    # Of the network nothing but the head is called, and a call costs time for every leaf it is given.
    lean = dataclasses.replace(first, params={"head": first.params["head"]}, batch_stats={})
    fitted = _start(probes, flops)
    if kept is not None and kept.exists():
        fitted.load(kept)
        print(f"{len(probes.members)} probes resumed at step {fitted.step}", flush=True)
    stops = stops_of(probes.length, config.eval_every_epochs * probes.per_epoch)
    longest = int(np.diff([0, *(stop for stop, _ in stops)]).max())
    began = placed((fitted.heads, fitted.moments))
    start, ahead = fitted.step, None

    def call(
        before: Future[Any] | None, stop: int, count: int, validates: bool, batches: Any, rates: Any
    ) -> Any:
        heads, moments = began if before is None else before.result()[1:3]
        heads, moments, figures = run(heads, moments, lean, batches, rates, count, train_features)
        return stop, heads, moments, figures, logits_of(heads, lean, val_features) if validates else None

    with ThreadPoolExecutor(1) as aside:  # on a CPU a program holds the thread that calls it
        for stop, validates in stops:
            if stop <= start:
                continue
            batches = placed(_batches(probes, training, start, longest))
            padded = placed(np.pad(fitted.rates[start:stop], ((0, longest - (stop - start)), (0, 0))))
            before = ahead
            ahead = aside.submit(call, before, stop, stop - start, validates, batches, padded)
            start = stop
            if before is not None:
                _take(probes, fitted, *before.result())
            if notice.asked() and stop < probes.length:
                _take(probes, fitted, *ahead.result())
                if kept is not None:
                    notice.saving = True
                    fitted.save(kept)
                raise Preempted(f"{notice.reason}: {len(probes.members)} probes saved at step {stop}")
        if ahead is not None:
            _take(probes, fitted, *ahead.result())
    return fitted


def _start(probes: Probes, flops: float) -> Fitted:
    count = len(probes.rates)
    each = [(split(state.params, probes.bound.trainable)[0], state.opt_state) for state in probes.states]
    heads, moments = jax.tree.map(
        lambda *leaves: np.repeat(np.stack([np.asarray(leaf) for leaf in leaves])[..., None], count, -1),
        *each,
    )
    peaks = [peak_rate(probes.bound.phase, rate) for rate in probes.rates]
    schedule = probes.members[0][0].schedule
    begin = Progress(digest=probes.bound.digest, together=len(probes.members))
    shape = len(probes.seeds), count
    return Fitted(
        step=0,
        heads=heads,
        moments=moments,
        best={path: leaf.copy() for path, leaf in heads.items()},
        finite=np.ones(shape, bool),
        rates=np.stack([learning_rates(schedule, peak, probes.length) for peak in peaks], 1),
        figures={name: np.zeros((0, *shape), np.float32) for name in ("gradient_norm", "loss")},
        progress=dict.fromkeys(probes.places, begin),
        scores={place: [] for place in probes.places},
        flops=flops,
    )


def _take(
    probes: Probes, fitted: Fitted, stop: int, heads: Heads, moments: Any, figures: Any, logits: Any
) -> None:
    """Waits for a call, looks at its losses, and scores the heads where they were validated."""
    new = {name: np.asarray(value)[: stop - fitted.step] for name, value in figures.items()}
    fitted.figures = {name: np.concatenate([fitted.figures[name], new[name]]) for name in sorted(new)}
    fitted.finite &= np.logical_and.reduce([np.isfinite(value).all(0) for value in new.values()])
    fitted.heads, fitted.moments = jax.tree.map(np.asarray, (heads, moments))
    fitted.step = stop
    if logits is None:
        return
    values = np.moveaxis(np.asarray(logits, np.float32), -1, 1)  # (seeds, rates, N, classes)
    fitted.finite &= np.isfinite(values).all((2, 3))
    held_out, select = probes.sets["val"], probes.members[0][0].select
    left = [place for place in probes.places if fitted.finite[place]]
    rows = evaluation.score_many(held_out.labels, values[fitted.finite], held_out.class_names, held_out.task)
    better = np.zeros(fitted.finite.shape, bool)
    for place, scores in zip(left, rows, strict=True):
        fitted.scores[place].append(scores)
        now = dataclasses.replace(fitted.progress[place], step=stop).scored(merit(scores, select))
        fitted.progress[place], better[place] = now, now.best_step == stop
    for path, leaf in fitted.best.items():
        chosen = better.reshape(len(better), *[1] * (leaf.ndim - 2), -1)
        np.copyto(leaf, fitted.heads[path], where=chosen)


def _programs(probes: Probes, first: TrainState) -> tuple[Callable[..., Any], Callable[..., Any], float]:
    """The compiled steps and validation of all heads, and the operations of one run's step."""
    config, bound, network = probes.members[0][0], probes.bound, probes.network
    optimizer = make_optimizer(bound, config.optimizer)

    def keys_of(batch: Mapping[str, Array]) -> Array:
        return data.example_keys(batch["seed"], batch["epoch"], batch["example"])

    step = TrainStep(
        network, bound, optimizer, loss_of(config, probes.sets["train"]), as_they_are, keys_of, probes.after
    )

    def one(train: Heads, moments: Any, state: TrainState, batch: Any, rate: Array) -> Any:
        _, frozen = split(state.params, bound.trainable)
        now = dataclasses.replace(state, params=join(train, frozen), opt_state=moments)
        after, figures = step(now, batch, rate)
        return split(after.params, bound.trainable)[0], after.opt_state, figures

    over_rates = jax.vmap(one, (-1, -1, None, None, 0), (-1, -1, 0))
    over_seeds = jax.vmap(over_rates, (0, 0, None, 0, None))

    def run(
        heads: Heads, moments: Any, state: TrainState, batches: Any, rates: Array, count: Array, held: Array
    ) -> Any:
        def body(number: Array, carried: Any) -> Any:
            heads, moments, seen = carried
            batch = {name: values[number] for name, values in batches.items()}
            batch["image"] = held[batch["example"]]
            heads, moments, figures = over_seeds(heads, moments, state, batch, rates[number])
            return heads, moments, {name: seen[name].at[number].set(figures[name]) for name in seen}

        shape = len(rates), len(probes.seeds), len(probes.rates)
        nothing = {name: jnp.zeros(shape) for name in ("loss", "gradient_norm")}
        return jax.lax.fori_loop(0, count, body, (heads, moments, nothing))

    def logits(heads: Heads, state: TrainState, features: Array) -> Array:
        def of(train: Heads) -> Array:
            _, frozen = split(state.params, bound.trainable)
            variables = {"params": join(train, frozen), "batch_stats": state.batch_stats}
            return network.apply(variables, features, train=False, after=probes.after)  # type: ignore[return-value]

        return jax.vmap(jax.vmap(of, -1, -1))(heads)

    shape = len(probes.seeds), len(probes.rates)
    programs = probes.programs
    number = jax.ShapeDtypeStruct((config.data.batch_size,), np.int32)
    labels = probes.sets["train"].labels
    batch = {
        "image": probes.sets["train"].images.read(np.zeros(config.data.batch_size, np.int64)),
        "label": labels[np.zeros(config.data.batch_size, np.int64)],
        **dict.fromkeys(("example", "epoch", "seed"), number),
    }
    _, flops = programs.get(("step", bound, probes.after), partial(compile_step, step, first, batch))
    # Nothing is donated: the host still looks at the heads of the call before.
    together = programs.get(("together", *shape), lambda: jax.jit(run))
    return together, programs.get(("together logits", *shape), lambda: jax.jit(logits)), flops


def _batches(probes: Probes, training: Dataset, start: int, steps: int) -> dict[str, np.ndarray]:
    """The batches of so many steps, (steps, seeds, B, ...): which examples, their labels, epochs, seeds."""
    size = probes.members[0][0].data.batch_size
    drawn = [positions(len(training), seed, start * size, (start + steps) * size) for seed in probes.seeds]
    examples, epochs = np.asarray(drawn).reshape(-1, 2, steps, size).transpose(1, 2, 0, 3)
    numbers = np.stack([seeds(seed, size) for seed in probes.seeds])
    return {
        "example": examples.astype(np.int32),
        "epoch": epochs.astype(np.int32),
        "label": training.labels[examples],
        "seed": np.broadcast_to(numbers, examples.shape),
    }
