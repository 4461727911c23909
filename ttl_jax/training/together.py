"""Linear probes on the same features trained as one program, over seeds and learning rates.

The step is the ordinary one, mapped over the heads alone; the features stand on the device and are
gathered there, so that the rates of one seed share every batch and no step waits for the host. What is
left in each run's folder is what the ordinary loop would have left at its last step, to rounding: `train`
then finds the run finished, and scores it.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax import data, evaluation, strategies
from ttl_jax.data.dataset import Dataset
from ttl_jax.data.pipeline import batch_positions, seeds
from ttl_jax.errors import UserError
from ttl_jax.models import Network
from ttl_jax.strategies import LabelledPhase
from ttl_jax.training import parallel, provenance
from ttl_jax.training.checkpoint import Checkpoints
from ttl_jax.training.feature_store import FeatureStore
from ttl_jax.training.inputs import Inputs
from ttl_jax.training.log import EventLog
from ttl_jax.training.loop import Progress, crosses, selected, step_key
from ttl_jax.training.optimizer import make_optimizer
from ttl_jax.training.programs import Programs, one_program
from ttl_jax.training.run import as_they_are, build_model, lengths_of, loss_of
from ttl_jax.training.schedule import learning_rates
from ttl_jax.training.state import TrainState, initial_state, join, split
from ttl_jax.training.step import compile_step, make_train_step
from ttl_jax.typing import Array, Variables

Member = tuple[Any, Path]  # a run's config and its work folder
Heads = dict[str, Array]  # path -> (seeds, rates, ...)


def train_together(
    members: Sequence[Member],
    datasets: Mapping[str, Dataset],
    *,
    programs: Programs | None = None,
    features: FeatureStore | None = None,
) -> tuple[Path, ...]:
    """Trains the runs that have not begun, where they can be: see `one_program`.

    Args:
        members: configs that differ in seed and optimizer.lr alone, every seed with every rate. One that
            has a checkpoint, or whose folder another process holds, is left out.
        datasets: of all of them.
        programs: as for `train`.
        features: as for `train`.

    Returns:
        The folders that hold a finished training now. Runs that diverged are none of them: trained alone
        they say where. Empty where the runs cannot be trained together.
    """
    programs = programs or Programs()
    with ExitStack() as held:
        new = [member for member in members if _begins(member, held)]
        rates, numbers = ({get(config) for config, _ in new} for get in (_rate, _seed))
        if len(new) < 2 or len(new) != len(rates) * len(numbers) or not one_program(new[0][0]):
            return ()
        programs.claim(new[0][0])
        new = sorted(new, key=lambda member: (_seed(member[0]), _rate(member[0])))
        probes = prepare(new, len(numbers), datasets, programs, features)
        return _leave(probes, fit(probes)) if probes is not None else ()


def _seed(config: Any) -> int:
    return config.seed


def _rate(config: Any) -> float:
    return config.optimizer.lr


def _begins(member: Member, held: ExitStack) -> bool:
    """Whether a run is at its very beginning; its folder is then held."""
    config, folder = member
    if (folder / "checkpoints").exists() or (folder / "result.json").exists():
        return False
    try:
        held.enter_context(provenance.alone(folder))
        provenance.check(folder, config)
    except UserError:
        return False
    return True


@dataclass(frozen=True)
class Probes:
    """Runs that can be trained together, seed by seed, and the program that does it."""

    members: Sequence[Member]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    network: Network
    bound: LabelledPhase
    after: str
    sets: Mapping[str, Dataset]
    states: tuple[TrainState, ...]  # one a seed
    length: int
    programs: Programs
    began: float


def prepare(
    members: Sequence[Member],
    count: int,
    datasets: Mapping[str, Dataset],
    programs: Programs,
    features: FeatureStore | None,
) -> Probes | None:
    """Builds the networks of all seeds and the features; None where more than the head trains or backbones
    differ.

    Args:
        members: seed by seed, each with the same rates.
        count: of seeds.
        datasets, programs, features: as for `train_together`.
    """
    began = time.perf_counter()
    each = members[:: len(members) // count]
    config, folder = each[0]
    layout = parallel.make_layout(config.parallel, config.data.batch_size)
    if not layout.plain:
        return None
    strategy, classes = strategies.parse(config.strategy), len(datasets["train"].class_names)
    built = [build_model(config, strategy, classes) for config, _ in each]
    network, variables, preprocessing = built[0]
    bound = strategies.bind(strategy, variables["params"], config.model.name)
    if len(bound) > 1 or bound[0].probe or bound[0].stochastic is not None:
        return None
    only = bound[0]
    _, frozen = split(variables["params"], only.trainable)
    if any(not path.startswith("head/") for path in only.trainable) or any(
        not _alike(frozen, split(other["params"], only.trainable)[1]) for _, other, _ in built[1:]
    ):
        return None
    inputs = Inputs(config, network, preprocessing, datasets, programs, features, folder)
    cached = inputs.frozen(only, variables)
    if cached is None or cached[0] != network.units[-1].name:
        return None
    optimizer = make_optimizer(only, config.optimizer)
    (length,) = lengths_of(config, bound, len(datasets["train"]) / config.data.batch_size)
    return Probes(
        members=members,
        seeds=tuple(config.seed for config, _ in each),
        rates=tuple(config.optimizer.lr for config, _ in members[: len(members) // count]),
        network=network,
        bound=only,
        after=cached[0],
        sets=cached[1],
        states=tuple(initial_state(other, optimizer, only.trainable) for _, other, _ in built),
        length=length,
        programs=programs,
        began=began,
    )


def _alike(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[path], other[path]) for path in one)


@dataclass
class Fitted:
    """Where the heads have come to; indexed by (seed, rate) where it says so.

    Attributes:
        heads, moments: the last ones, (seeds, rates, ...).
        progress: of each run.
        best: the head of each run's best validation.
        events: what each run's metrics.jsonl is to hold.
        finite: (seeds, rates) runs that did not diverge.
        flops: operations of one run's step.
    """

    heads: Heads
    moments: Any
    progress: dict[tuple[int, ...], Progress]
    best: dict[tuple[int, ...], Heads]
    events: dict[tuple[int, ...], list[dict[str, Any]]]
    finite: np.ndarray
    flops: float


def fit(probes: Probes) -> Fitted:
    """Trains all heads to their last step, validating them as often as the ordinary loop does."""
    config, first = probes.members[0][0], probes.states[0]  # what is frozen is that of the first seed
    training, held_out = probes.sets["train"], probes.sets["val"]
    per_epoch = len(training) / config.data.batch_size
    every = config.eval_every_epochs * per_epoch
    run, logits_of, flops = _programs(probes, first)
    train_features, val_features = (
        jnp.asarray(split.images.read(np.arange(len(split)))) for split in (training, held_out)
    )
    peak = probes.bound.phase.lr or 1.0
    rates = np.stack(
        [learning_rates(config.schedule, rate * peak, probes.length) for rate in probes.rates], 1
    )
    stops = [step for step in range(1, probes.length + 1) if step == probes.length or crosses(step, every)]
    longest = max(stop - start for start, stop in itertools.pairwise([0, *stops]))
    places = list(np.ndindex(len(probes.seeds), len(probes.rates)))
    begin = Progress(digest=probes.bound.digest, together=len(probes.members))
    heads, moments = _stacked(probes)
    fitted = Fitted(
        heads,
        moments,
        dict.fromkeys(places, begin),
        {},
        {place: [] for place in places},
        np.ones((len(probes.seeds), len(probes.rates)), bool),
        flops,
    )
    for start, stop in itertools.pairwise([0, *stops]):
        batches = _batches(probes, training, start, longest)
        padded = np.pad(rates[start:stop], ((0, longest - (stop - start)), (0, 0)))
        heads, moments, figures = run(heads, moments, first, batches, padded, stop - start, train_features)
        figures = {name: np.asarray(value)[: stop - start] for name, value in figures.items()}
        fitted.finite &= np.logical_and.reduce([np.isfinite(value).all(0) for value in figures.values()])
        logits = np.asarray(logits_of(heads, first, val_features), np.float32)
        now = jax.tree.map(lambda leaf: np.array(leaf, copy=True), heads)  # the next steps write over these
        for place in places:
            if not fitted.finite[place]:
                continue
            scores = evaluation.score(held_out.labels, logits[place], held_out.class_names, held_out.task)
            fitted.events[place] += [
                *_events(probes, config, figures, rates, place, start, stop, per_epoch),
                {"split": "val", "step": stop, "epoch": round(stop / per_epoch, 4)}
                | {name: value for name, value in scores.items() if name not in ("per_class", "confusion")},
            ]
            known, figure = fitted.progress[place], selected(scores, config.select)
            if known.best is None or figure > known.best:
                fitted.best[place] = {path: leaf[place] for path, leaf in now.items()}
                known = dataclasses.replace(known, best=figure, best_step=stop, bad=0)
            else:
                known = dataclasses.replace(known, bad=known.bad + 1)
            fitted.progress[place] = dataclasses.replace(known, step=stop)
    fitted.heads, fitted.moments = jax.tree.map(np.asarray, (heads, moments))
    return fitted


def _leave(probes: Probes, fitted: Fitted) -> tuple[Path, ...]:
    """Writes the folders of the runs that did not diverge."""
    seconds = time.perf_counter() - probes.began
    speed = len(probes.members) * probes.length * probes.members[0][0].data.batch_size / seconds
    done = []
    for (place, progress), member in zip(fitted.progress.items(), probes.members, strict=True):
        if not fitted.finite[place]:
            continue
        progress = dataclasses.replace(
            progress, finished=True, flops_per_step=(fitted.flops,), seconds=seconds / len(probes.members)
        )
        last = jax.tree.map(lambda leaf, place=place: leaf[place], (fitted.heads, fitted.moments))
        events = [
            event if "split" in event else event | {"img_per_s": round(speed, 2)}
            for event in fitted.events[place]
        ]
        _write(member, probes.states[0], last, fitted.best[place], progress, events)
        done.append(member[1])
    print(f"{len(done)} of {len(probes.members)} probes trained together", flush=True)
    return tuple(done)


def _stacked(probes: Probes) -> tuple[Heads, Any]:
    """Heads (seeds, rates, ...) and their optimizer's states."""
    each = [(split(state.params, probes.bound.trainable)[0], state.opt_state) for state in probes.states]
    by_seed = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    return jax.tree.map(lambda leaf: jnp.repeat(leaf[:, None], len(probes.rates), 1), by_seed)


def _programs(probes: Probes, first: TrainState) -> tuple[Callable[..., Any], Callable[..., Any], float]:
    """The compiled steps and validation of all heads, and the operations of one run's step."""
    config, bound, network = probes.members[0][0], probes.bound, probes.network
    optimizer = make_optimizer(bound, config.optimizer)

    def keys_of(batch: Mapping[str, Array]) -> Array:
        return data.example_keys(batch["seed"], batch["epoch"], batch["example"])

    step = make_train_step(
        network, bound, optimizer, loss_of(config, probes.sets["train"]), as_they_are, keys_of, probes.after
    )

    def one(train: Heads, moments: Any, state: TrainState, batch: Any, rate: Array) -> Any:
        _, frozen = split(state.params, bound.trainable)
        now = dataclasses.replace(state, params=join(train, frozen), opt_state=moments)
        after, figures = step(now, batch, rate)
        return split(after.params, bound.trainable)[0], after.opt_state, figures

    over_rates = jax.vmap(one, (0, 0, None, None, 0))
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

        return jax.vmap(jax.vmap(of))(heads)

    shape = len(probes.seeds), len(probes.rates)
    programs = probes.programs
    number = jax.ShapeDtypeStruct((config.data.batch_size,), np.int32)
    labels = probes.sets["train"].labels
    batch = {
        "image": probes.sets["train"].images.read(np.zeros(config.data.batch_size, np.int64)),
        "label": labels[np.zeros(config.data.batch_size, np.int64)],
        **dict.fromkeys(("example", "epoch", "seed"), number),
    }
    _, flops = programs.get(
        ("step", *step_key(bound, probes.after)), partial(compile_step, step, first, batch)
    )
    together = programs.get(("together", *shape), lambda: jax.jit(run, donate_argnums=(0, 1)))
    return together, programs.get(("together logits", *shape), lambda: jax.jit(logits)), flops


def _batches(probes: Probes, training: Dataset, start: int, steps: int) -> dict[str, np.ndarray]:
    """The batches of so many steps, (steps, seeds, B, ...): which examples, their labels, epochs, seeds."""
    size = probes.members[0][0].data.batch_size
    drawn = [
        [batch_positions(len(training), size, seed, step) for step in range(start, start + steps)]
        for seed in probes.seeds
    ]
    examples, epochs = np.asarray(drawn).transpose(2, 1, 0, 3)
    numbers = np.stack([seeds(seed, size) for seed in probes.seeds])
    return {
        "example": examples.astype(np.int32),
        "epoch": epochs.astype(np.int32),
        "label": training.labels[examples],
        "seed": np.broadcast_to(numbers, examples.shape),
    }


def _events(
    probes: Probes,
    config: Any,
    figures: Mapping[str, np.ndarray],
    rates: np.ndarray,
    place: tuple[int, ...],
    start: int,
    stop: int,
    per_epoch: float,
) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl of some steps, where the ordinary loop writes one."""
    return [
        {
            "step": step,
            "epoch": round(step / per_epoch, 4),
            "phase": probes.bound.phase.name,
            **{name: float(values[step - start - 1][place]) for name, values in figures.items()},
            "lr": float(rates[step - 1, place[1]]),
        }
        for step in range(start + 1, stop + 1)
        if step == stop or crosses(step, config.log_every_steps)
    ]


def _write(
    member: Member,
    first: TrainState,
    last: tuple[Heads, Any],
    best: Heads,
    progress: Progress,
    events: Sequence[dict[str, Any]],
) -> None:
    """Leaves a run's folder as the loop does at its end; the last state comes last."""
    config, folder = member
    heads, moments = last
    provenance.claim(folder, config)
    log = EventLog(folder / "metrics.jsonl", progress.step)
    for event in events:
        log.event(**event)
    log.close()
    _, frozen = split(first.params, heads)

    def whole(train: Heads) -> Variables:
        return {"params": join(train, frozen), "batch_stats": first.batch_stats}

    checkpoints = Checkpoints(folder)
    try:
        checkpoints.save_best(progress.best_step, whole(best))
        state = dataclasses.replace(
            first, params=whole(heads)["params"], opt_state=moments, step=jnp.int32(progress.step)
        )
        checkpoints.save_last(state, dataclasses.asdict(progress))
    finally:
        checkpoints.close()
