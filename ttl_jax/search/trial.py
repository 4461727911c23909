"""One trial: a resumable training in a folder of its own, scored on validation only."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttl_jax.config import RunConfig
from ttl_jax.data.dataset import Dataset
from ttl_jax.engines import worker_cache
from ttl_jax.engines.task import Report, attempt
from ttl_jax.evaluation.registry import figure, merit
from ttl_jax.search.protocol import Onward
from ttl_jax.system import host
from ttl_jax.system.compilation_cache import set_up_jax
from ttl_jax.system.json_object import read_object
from ttl_jax.system.preemption import Notice
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.frozen.store import FeatureStore
from ttl_jax.training.hooks.finite import DivergedError
from ttl_jax.training.hooks.pause import Pause, Paused
from ttl_jax.training.programs import Session
from ttl_jax.training.run import train
from ttl_jax.training.trainer import Hook

SCORES = "scores.json"  # {"0.25": {"score", "step", "why"}, "1.0": ...}


class LastSave:
    """The last save of a paused trial, which goes on while the next trial begins; one at a time.

    A context: when it is left, all is on disk.
    """

    def __init__(self, committed: Callable[[], None] = lambda: None) -> None:
        """With none under way.

        Args:
            committed: called once a trial's answer and state are on disk (to copy them elsewhere).
        """
        self._folder: Path | None = None
        self._ending = ExitStack()
        self._committed = committed

    def __enter__(self) -> LastSave:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def begin(self, folder: Path, ending: ExitStack) -> None:
        """Leaves a trial to be written, once the one before it is.

        Args:
            folder: folder of the trial.
            ending: closed, it waits until the state is on disk, and lets the folder go.
        """
        self.wait()
        self._folder, self._ending = folder, ending

    def wait(self, folder: Path | None = None) -> None:
        """Blocks until the trial that was left, where it is the one of this folder, is on disk."""
        if self._folder is None or folder not in (None, self._folder):
            return
        self._folder = None
        self._ending.close()
        self._committed()


def run_trial(
    config: RunConfig,
    folder: Path,
    budget: float,
    datasets: Mapping[str, Dataset],
    session: Session | None = None,
    last_save: LastSave | None = None,
    onward: Onward | None = None,
    hooks: Sequence[Hook] = (),
) -> float:
    """Trains up to a share of the run, or goes on to it, and returns its best validation figure.

    The folder keeps what was answered: the same question again trains nothing. The test split is not
    among what the run is given.

    Args:
        config: the config of a run.
        folder: folder of this unit and seed.
        budget: share of the run, up to 1.
        datasets: the splits.
        session: resources that trials on the same data sets share.
        last_save: takes over what a paused training has left to write, so that the next trial may begin;
            without it this is waited for.
        onward: is told the score where the training would pause; says the budget to train on to, if any.
        hooks: called along the training.

    Returns:
        `config.select` on validation, the best up to the budget that was reached, or what stands in for it
        where it is undefined (see `selection.figure`); NaN where the loss diverged.

    Raises:
        Preempted: the notice asked to stop; the same call goes on.
    """
    saving = last_save or LastSave()
    saving.wait(folder)
    answers = known(folder)
    answer = answers.get(str(float(budget)), {"score": None, "why": ""})
    # Of a score that was undefined a version before kept nothing; it is looked up again.
    if answer["score"] is not None or answer["why"]:
        return _number(answer["score"])
    seen = {name: datasets[name] for name in ("train", "val")}
    why, score, step, ending, paused = "", None, 0, ExitStack(), False

    def keep() -> None:
        answers[str(float(budget))] = {"score": score, "step": step, "why": why}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SCORES, answers)

    def go_on() -> float | None:
        nonlocal budget, score, step
        score, step = _best_so_far(folder, config)
        keep()  # first: whatever happens then, more of this training cannot be taken for this budget's
        further = onward(_number(score)) if onward is not None else None
        if further is not None:
            budget, score, step = further, None, 0
        return further

    if budget < 1 and (there := _validated_at(folder, config, budget)) is not None:
        score, step = _best_so_far(folder, config, until=there)  # by a search with other rungs
        keep()
        return _number(score)
    try:
        pause = (Pause(budget, go_on, ending),) if budget < 1 else ()
        result = train(config, folder, seen, hooks=(*hooks, *pause), session=session)
        score, step = _figure(result.metrics["val"], config), result.metrics["best_step"]
    except Paused:
        paused = True
    except DivergedError as error:
        why = str(error)
    keep()  # sooner than its state is on disk: a kill in between costs steps, which give the same again
    saving.begin(folder, ending)
    if not paused or last_save is None:
        saving.wait()
    return _number(score)


def known(folder: Path) -> dict[str, Any]:
    """Return the scores that a trial's folder has so far, by budget."""
    path = folder / SCORES
    return read_object(path) if path.exists() else {}


def report_test(
    config: RunConfig,
    folder: Path,
    datasets: Mapping[str, Dataset],
    session: Session | None = None,
) -> dict[str, Any]:
    """The test scores of a finished trial: looked at once, and read from its result from then on.

    Args:
        config, folder, datasets, session: those of `run_trial`; the test split is among the data sets.
    """
    path = folder / "result.json"
    metrics = read_object(path) if path.exists() else {}  # gone: stopped while it was tested
    if "test" not in metrics:
        path.unlink(missing_ok=True)  # the run is finished: it only evaluates, now with the test split there
        metrics = train(config, folder, datasets, session=session).metrics
    test: dict[str, Any] = metrics["test"]
    return test


@dataclass(frozen=True)
class TrialTask:
    """A trial for an engine; the answer is in the folder.

    Attributes:
        folder: folder of this unit and seed.
        config: the run's config.
        budget: share of the run to train, above 0 up to 1.
        features: folder of the features that trials share; "" where they share none.
    """

    folder: str
    config: RunConfig
    budget: float
    features: str = ""

    @property
    def kin(self) -> str:
        """The unit: its seeds share their programs."""
        return self.folder.rpartition("_seed")[0]

    def run(self, notice: Notice | None = None) -> Report:
        """Trains or resumes it; see `engines.task.Task`."""
        return attempt(Path(self.folder), lambda: self._train(notice))

    def _train(self, notice: Notice | None) -> str:
        config = self.config
        host.set_deterministic(config.deterministic)
        set_up_jax()
        session = Session(notice or Notice(), worker_cache.programs(), feature_store(config, self.features))
        run_trial(config, Path(self.folder), self.budget, worker_cache.datasets(config), session)
        return ""


def feature_store(config: RunConfig, folder: str) -> FeatureStore | None:
    """Return the store in which trials share frozen features; None without a folder."""
    return FeatureStore(Path(folder), config.cache_disk_gb * 1e9) if folder else None


def _validated_at(folder: Path, config: RunConfig, budget: float) -> int | None:
    """The step at which a training that is as far as that already was first validated from there on."""
    for event in _validations(folder):
        if config.total_steps > 0:
            share = event["step"] / config.total_steps
        else:  # rounded to four places
            share = (event["epoch"] + 1e-4) / config.total_epochs
        if share >= budget:
            return int(event["step"])
    return None


def _figure(scores: Mapping[str, Any], config: RunConfig) -> float | None:
    """`selection.figure` of these validation scores, as JSON takes it."""
    value = figure(scores, config.select)
    return None if math.isnan(value) else value


def _best_so_far(folder: Path, config: RunConfig, until: float = math.inf) -> tuple[float | None, int]:
    """The validation figure of the weights that a run would keep at a step, and their step."""
    seen = [event for event in _validations(folder) if event["step"] <= until]
    if config.select_phase == "last":
        phase = seen[-1].get("phase")  # a version before did not say it: all of one phase
        seen = [event for event in seen if event.get("phase", phase) == phase]
    best = max(seen, key=lambda event: (merit(event, config.select), event["step"]))
    return _figure(best, config), best["step"]


def _validations(folder: Path) -> list[dict[str, Any]]:
    """The validations in a run's metrics.jsonl, as far as it goes."""
    log, validations = folder / "metrics.jsonl", []
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:  # a kill while it was written
            break
        if "split" in event:
            validations.append(event)
    return validations


def _number(score: float | None) -> float:
    return math.nan if score is None else float(score)
