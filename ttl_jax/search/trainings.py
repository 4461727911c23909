"""The trainings of a search: in this process or in workers, each in a folder of its own."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.evaluation.registry import metric
from ttl_jax.search.in_parallel import side_by_side
from ttl_jax.search.protocol import Onward, Request, upcoming
from ttl_jax.search.subject import Subject, plan_for
from ttl_jax.search.trial import LastSave, TrialTask, feature_store, known, report_test, run_trial
from ttl_jax.system.preemption import Notice
from ttl_jax.training.compile_ahead import foresee
from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.programs import Programs, Session
from ttl_jax.training.trainer import Hook, Trainer


@dataclass(frozen=True)
class Trainings:
    """The trainings of a search, and what they share.

    Attributes:
        subject: the subject of the search.
        workdir: folder of the search, under which each training has its own.
        sets: the splits.
        apart: whether trainings may run in other processes.
        notice: polled, so that trainings under way can be asked to save and stop.
        committed: called whenever trials have ended.
        programs: compiled programs; a unit comes again, for more of its training and with other seeds.
    """

    subject: Subject
    workdir: Path
    sets: Mapping[str, Dataset]
    apart: bool
    notice: Notice
    committed: Callable[[], None]
    programs: Programs = field(default_factory=lambda: Programs(keeps=True))

    def folder(self, request: Request) -> Path:
        """The folder of a trial."""
        return folder(self.workdir, request)

    @property
    def session(self) -> Session:
        """The resources that this process lends to its trainings."""
        features = feature_store(self.subject.run, self.features)
        return Session(self.notice, self.programs, features)

    @property
    def features(self) -> str:
        """The folder in which trials share frozen features; "" where they do not."""
        return str((self.workdir / "features").resolve()) if self.subject.run.cache_disk_gb > 0 else ""

    def report_test(self, request: Request) -> dict[str, Any]:
        """The test scores of a finished trial; see `trial.report_test`."""
        return report_test(self.subject.trial(request), self.folder(request), self.sets, self.session)

    def run(
        self,
        request: Request,
        last_save: LastSave | None = None,
        onward: Onward | None = None,
        hooks: Sequence[Hook] = (),
    ) -> float:
        """The validation figure of a trial in this process; see `run_trial`."""
        place, budget = self.folder(request), request.budget
        return run_trial(
            self.subject.trial(request), place, budget, self.sets, self.session, last_save, onward, hooks
        )

    def is_known(self, request: Request) -> bool:
        """Return whether the trial's folder has the answer."""
        return str(float(request.budget)) in known(self.folder(request))


def folder(workdir: Path, request: Request) -> Path:
    """Return the folder of a trial."""
    return workdir / "trials" / f"unit{request.unit:02d}_seed{request.seed}"


@dataclass
class _Begun(Hook):
    """Calls a function when the steps of a phase begin."""

    begin: Callable[[], None]

    def on_phase(self, trainer: Trainer, now: LoopState) -> None:
        """Calls it."""
        self.begin()


@dataclass(frozen=True)
class Evaluations:
    """The values of requests, in this process or in workers; folders that have the answer are read.

    Attributes:
        trainings: the trainings of the search.
        price: price of each unit, as a share of the dearest one's.
        last_save: what the trial before has left to write.
        told: the values that were told in this process.
    """

    trainings: Trainings
    price: Mapping[int, float]
    last_save: LastSave
    told: dict[Request, float] = field(default_factory=dict)

    def evaluate(self, requests: tuple[Request, ...]) -> list[float]:
        """The values of requests, side by side where that is allowed."""
        if self._in_turn:
            return [self.climb(request) for request in requests]
        scores = train_all(self.trainings, requests, self.last_save)
        return [self._value(request, score) for request, score in zip(requests, scores, strict=True)]

    def climb(self, request: Request, onward: Onward | None = None) -> float:
        """The value of a trial in this process; of what the same training went on to where it did."""
        reached, ended = request, False  # ended: its score was told and nothing more is wanted

        def answered(score: float) -> float:
            self.told[reached] = self._value(reached, score)
            return self.told[reached]

        def go_on(score: float) -> float | None:
            nonlocal reached, ended
            assert onward is not None
            budget = onward(answered(score))
            if budget is None:
                ended = True
            else:
                reached = reached._replace(budget=budget)
                self._begin_next(reached)
            return budget

        score = self.trainings.run(
            request,
            self.last_save,
            None if onward is None else go_on,
            (_Begun(lambda: self._begin_next(reached)),),
        )
        return score if ended else answered(score)

    @property
    def _in_turn(self) -> bool:
        options = self.trainings.subject.options
        return options.engine == "local" and options.workers == 1

    def _value(self, request: Request, score: float) -> float:
        """Score less weight times price, told to the user."""
        subject = self.trainings.subject
        said = "failed" if math.isnan(score) else f"{metric(subject.run.select).name} {score:.4f}"
        print(
            f"unit {request.unit} ({subject.points[request.unit].name}), seed {request.seed}, "
            f"{request.budget:.0%} of the training: {said}",
            flush=True,
        )
        return subject.sign * score - subject.options.weight * self.price[request.unit]

    def _begin_next(self, request: Request) -> None:
        """Has the programs made that the trial after this one most likely needs."""
        trainings, subject = self.trainings, self.trainings.subject
        following = upcoming(partial(plan_for, subject), self.told, request) if self._in_turn else None
        if following is None or trainings.is_known(following):
            return
        seen = {name: trainings.sets[name] for name in ("train", "val")}
        foresee(subject.trial(following), trainings.folder(following), seen, trainings.session)


def train_all(
    trainings: Trainings, requests: Sequence[Request], last_save: LastSave | None = None
) -> list[float]:
    """Trains what is requested, side by side where that is allowed; returns the validation figures.

    Args:
        trainings: the trainings of the search.
        requests: the trainings to do, in the order in which they are to begin.
        last_save: saving that may go on after the return; without it all is on disk by then.

    Raises:
        UserError, Preempted: see `side_by_side`.
    """
    subject, options = trainings.subject, trainings.subject.options
    new = [request for request in requests if not trainings.is_known(request)]
    alone = options.engine == "local" and (options.workers == 1 or len(new) < 2)
    if not trainings.apart and options.engine != "local":
        raise UserError(
            f"config search.engine={options.engine!r} needs data that the config names: its processes read it"
        )
    if alone or not trainings.apart:
        own = contextlib.nullcontext(last_save) if last_save is not None else LastSave(trainings.committed)
        with own as saving:
            return [trainings.run(request, saving) for request in requests]
    waiting = [
        TrialTask(
            str(trainings.folder(request).resolve()),
            subject.trial(request),
            request.budget,
            trainings.features,
        )
        for request in new
    ]
    side_by_side(
        waiting, options.engine, options.workers, trainings.workdir, trainings.notice, trainings.committed
    )
    return [trainings.run(request) for request in requests]  # reads the answers
