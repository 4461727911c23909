"""Linear probes on the same features trained as one program: which runs, and what is left of each.

In each run's folder is left what the ordinary loop would have left at its last step, to rounding: `train`
then finds the run finished, and scores it. A stop on the way leaves one file in the folder of the first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax import strategies
from ttl_jax.config import RunConfig
from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.training import devices
from ttl_jax.training.batch_statistics import estimate_of
from ttl_jax.training.build import build_model, lengths_of
from ttl_jax.training.frozen.inputs import Inputs
from ttl_jax.training.frozen.phase_data import phase_data
from ttl_jax.training.heads.many import Fitted, Place, Probes, fit
from ttl_jax.training.optimizer import make_optimizer
from ttl_jax.training.programs import Session, one_program
from ttl_jax.training.progress import crosses
from ttl_jax.training.records import provenance
from ttl_jax.training.records.checkpoints import Checkpoints
from ttl_jax.training.records.event_log import EventLog
from ttl_jax.training.records.events import train_event, val_event
from ttl_jax.training.records.run_manifest import made_from
from ttl_jax.training.state import initial_state, join, split
from ttl_jax.typing import Array, Variables

Member = tuple[RunConfig, Path]  # a run's config and its work folder


def train_together(
    members: Sequence[Member],
    datasets: Mapping[str, Dataset],
    session: Session | None = None,
) -> tuple[Path, ...]:
    """Trains the runs that have not begun, where they can be: see `one_program`.

    Args:
        members: configs that differ in seed and optimizer.lr alone, every seed with every rate. One that
            has a checkpoint, or whose folder another process holds, is left out.
        datasets: the splits that all members train on.
        session: what the process lends, as for `train`.

    Returns:
        The folders that hold a finished training now. Runs that diverged are none of them: trained alone
        they say where. Empty where the runs cannot be trained together.

    Raises:
        Preempted: the notice asked to stop; the same call goes on, bit for bit.
    """
    session = session or Session()
    with ExitStack() as held:
        new = [member for member in members if _begins(member, held)]
        rates, numbers = ({get(config) for config, _ in new} for get in (_rate, _seed))
        if len(new) < 2 or len(new) != len(rates) * len(numbers) or not one_program(new[0][0]):
            return ()
        session.programs.claim(new[0][0])
        new = sorted(new, key=lambda member: (_seed(member[0]), _rate(member[0])))
        probes = prepare(new, len(numbers), datasets, session)
        if probes is None:
            return ()
        kept = _kept(new)
        done = _leave(probes, fit(probes, session.notice, kept))
        kept.unlink(missing_ok=True)
        return done


def _kept(members: Sequence[Member]) -> Path:
    """The file that these very runs are kept in when they are stopped."""
    names = [(str(folder), config.to_dict()) for config, folder in members]
    known = hashlib.blake2b(json.dumps(names, sort_keys=True, default=str).encode(), digest_size=8)
    return members[0][1] / f"together-{known.hexdigest()}.npz"


def _seed(config: RunConfig) -> int:
    return config.seed


def _rate(config: RunConfig) -> float:
    return config.optimizer.lr


def _begins(member: Member, held: ExitStack) -> bool:
    """Return whether a run is at its very beginning; its folder is then held."""
    config, folder = member
    if (folder / "checkpoints").exists() or (folder / "result.json").exists():
        return False
    try:
        held.enter_context(provenance.alone(folder))
        provenance.check(folder, config)
    except UserError:
        return False
    return True


def prepare(
    members: Sequence[Member],
    count: int,
    datasets: Mapping[str, Dataset],
    session: Session,
) -> Probes | None:
    """Builds the networks of all seeds and the features; None where more than the head trains or backbones
    differ.

    Args:
        members: seed by seed, each with the same rates.
        count: number of seeds among the members.
        datasets, session: the arguments of `train_together`.
    """
    began = time.perf_counter()
    each = members[:: len(members) // count]
    config, folder = each[0]
    layout = devices.make_layout(config.parallel, config.data.batch_size)
    if not layout.plain:
        return None
    strategy, names = strategies.parse(config.strategy), datasets["train"].class_names
    built = [build_model(config, strategy, len(names), names) for config, _ in each]
    network, variables, preprocessing = built[0]
    bound = strategies.bind(strategy, variables["params"], config.model.name)
    if len(bound) > 1 or bound[0].parts or bound[0].phase.bn == "adapted":
        return None
    only = bound[0]
    _, frozen = split(variables["params"], only.trainable)
    if any(not path.startswith("head/") for path in only.trainable) or any(
        not _alike(frozen, split(other["params"], only.trainable)[1]) for _, other, _ in built[1:]
    ):
        return None
    inputs = Inputs(config, network, preprocessing, datasets, folder, session, layout, caching=True)
    given = phase_data(inputs, only, variables)
    if given.after != network.units[-1].name:
        return None
    optimizer = make_optimizer(only, config.optimizer)
    counted = estimate_of(config.model).corrected
    (length,) = lengths_of(config, bound, len(datasets["train"]) / config.data.batch_size)
    return Probes(
        members=members,
        seeds=tuple(config.seed for config, _ in each),
        rates=tuple(config.optimizer.lr for config, _ in members[: len(members) // count]),
        network=network,
        bound=only,
        after=given.after,
        sets=given.computed(variables).sets,
        states=tuple(
            initial_state(other, optimizer, only.trainable, counted=counted) for _, other, _ in built
        ),
        length=length,
        manifest=made_from(datasets, config),
        programs=session.programs,
        began=began,
    )


def _alike(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[path], other[path]) for path in one)


def _leave(probes: Probes, fitted: Fitted) -> tuple[Path, ...]:
    """Writes the folders of the runs that did not diverge."""
    seconds = time.perf_counter() - probes.began
    speed = len(probes.members) * probes.length * probes.members[0][0].data.batch_size / seconds
    done = []
    for place, member in zip(probes.places, probes.members, strict=True):
        if fitted.finite[place]:
            _write(probes, fitted, place, member, seconds / len(probes.members), speed)
            done.append(member[1])
    print(f"{len(done)} of {len(probes.members)} probes trained together", flush=True)
    return tuple(done)


def _events(
    probes: Probes, fitted: Fitted, place: Place, config: RunConfig, speed: float
) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, where the ordinary loop writes one."""
    every, events = config.eval_every_epochs * probes.per_epoch, []
    scores, phase = iter(fitted.scores[place]), probes.bound.phase.name
    for step in range(1, probes.length + 1):
        evaluate = step == probes.length or crosses(step, every)
        if evaluate or crosses(step, config.log_every_steps):
            figures = {name: float(values[step - 1][place]) for name, values in fitted.figures.items()}
            rate = float(fitted.rates[step - 1, place[1]])
            events.append(train_event(step, probes.per_epoch, phase, figures, rate, speed))
        if evaluate:
            events.append(val_event(step, probes.per_epoch, phase, next(scores)))
    return events


def _write(
    probes: Probes, fitted: Fitted, place: Place, member: Member, seconds: float, speed: float
) -> None:
    """Leaves a run's folder as the loop does at its end; the last state comes last."""
    config, folder = member
    first, progress = probes.states[0], fitted.progress[place]
    progress = dataclasses.replace(
        progress,
        finished=True,
        flops_per_step=(fitted.flops,),
        seconds=seconds,
        made_from=probes.manifest.digest,
    )
    heads, moments, best = jax.tree.map(
        lambda leaf: np.array(leaf[place[0], ..., place[1]], order="C"),
        (fitted.heads, fitted.moments, fitted.best),
    )
    provenance.claim(folder, config, probes.manifest)
    log = EventLog(folder / "metrics.jsonl")
    log.begin(progress.step)
    for event in _events(probes, fitted, place, config, speed):
        log.event(**event)
    log.close()
    _, frozen = split(first.params, heads)

    def whole(train: Mapping[str, Array]) -> Variables:
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
