"""Tuners: the learning rates and strengths that a setting is tried with, chosen by validation alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ttl_jax.compare.cells import Setting
from ttl_jax.compare.config import CompareConfig
from ttl_jax.compare.space import Hyperparameters, Space, rounded, space
from ttl_jax.errors import UserError
from ttl_jax.evaluation.registry import Merit

DESIGNS = 1000  # that the best is taken of
Scores = Mapping[Hyperparameters, "Merit | None"]  # merit on validation, None where the run diverged


class Tuner(Protocol):
    """Proposes trials for one setting, given the scores known so far."""

    def wanted(self, scores: Scores) -> tuple[Hyperparameters, ...]:
        """Trials that are to be run now and have no score yet; () once all are done."""

    def known(self) -> tuple[Hyperparameters, ...]:
        """The trials known to be made, whether they have been run yet or not."""

    @property
    def total(self) -> int:
        """The number of trials there will have been in the end."""


class Grid:
    """All rates of a list, in any order and at the same time, then up to `extend` rates beyond its edge.

    While the best rate is the lowest or highest tried, and training did not diverge beyond it, the next
    one lies as far off as the last two of the list are apart. Strengths keep their values.
    """

    def __init__(self, rates: Sequence[float], extend: int = 0) -> None:
        self._rates, self._extend = tuple(sorted(rates)), extend

    def wanted(self, scores: Scores) -> tuple[Hyperparameters, ...]:
        """The rates of the list without a score; then one beyond the edge that is best so far."""
        missing = tuple(each for each in self.known() if each not in scores)
        taken = best(scores)
        beyond = len(scores) - len(self._rates)
        if missing or taken is None or beyond >= self._extend or not at_edge(scores, taken):
            return missing
        rate, low, high = taken.lr, self._rates[0], self._rates[-1]
        factor = self._rates[1] / low if rate <= low else high / self._rates[-2]
        return (Hyperparameters(rounded(rate / factor if rate <= low else rate * factor)),)

    def known(self) -> tuple[Hyperparameters, ...]:
        """The list."""
        return tuple(map(Hyperparameters, self._rates))

    @property
    def total(self) -> int:
        """The length of the list; what lies beyond is known only when it is asked for."""
        return len(self._rates)


class LatinHypercube:
    """As many trials for every strategy, however many strengths it has, spread evenly over its space.

    All strategies are tried at the same rates, evenly spaced in the logarithm from the lowest to the
    highest; one without strengths at these alone. With as many trainings a grid of rates times strengths
    would have far fewer values of each (Bergstra and Bengio 2012).
    """

    def __init__(self, space: Space, trials: int) -> None:
        places = latin_hypercube(trials, tuple(len(values) for _, values in space.grids))
        shares = [number / (trials - 1) if trials > 1 else 0.5 for number in range(trials)]
        self._trials = tuple(space.at(share, row) for share, row in zip(shares, places, strict=True))

    def wanted(self, scores: Scores) -> tuple[Hyperparameters, ...]:
        """The trials without a score."""
        return tuple(each for each in self._trials if each not in scores)

    def known(self) -> tuple[Hyperparameters, ...]:
        """All of them, from the lowest rate to the highest."""
        return self._trials

    @property
    def total(self) -> int:
        """`compare.trials`."""
        return len(self._trials)


@lru_cache
def latin_hypercube(trials: int, sizes: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The index of each option's value in each trial, the trials being in the order of their rates.

    Each value comes about equally often. Of `DESIGNS` random designs (McKay et al. 1979) the one of least
    centred discrepancy (Hickernell 1998), rates among the axes, so that values of one axis go with all
    values of another. It is a function of its arguments alone: NumPy's RandomState never changes.
    """
    from scipy.stats import qmc

    random = np.random.RandomState(0)
    count = DESIGNS if sizes else 1
    designs = [
        np.array([random.permutation(trials) * size // trials for size in sizes], int).reshape(-1, trials).T
        for _ in range(count)
    ]
    rates = np.arange(trials)[:, None] / trials

    def unevenness(places: Any) -> float:
        points = np.hstack([rates + 0.5 / trials, (places + 0.5) / np.array(sizes)])
        return round(float(qmc.discrepancy(points)), 12)  # so that rounding decides nothing

    return tuple(map(tuple, min(designs, key=unevenness).tolist()))


class Optuna:
    """Points of a setting's space proposed by Optuna's sampler, one at a time, in a study kept on disk.

    A study that is opened again goes on with the trial it had asked for. One that was begun when only the
    rate was tuned keeps its trials: they had the strategy's own strengths.
    """

    def __init__(self, folder: Path, setting: Setting, config: CompareConfig) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise UserError("compare.tuner=optuna needs: pip install 'ttl-jax[optuna]'") from None
        self._optuna, self._trials = optuna, config.compare.trials
        self._space = space(config, setting.strategy)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the journal is marked experimental
            backend = JournalFileBackend(str(folder / "journal.log"))
            self._study = optuna.create_study(
                storage=optuna.storages.JournalStorage(backend),
                study_name="/".join(setting.names),
                direction="maximize",
                load_if_exists=True,
            )

    def wanted(self, scores: Scores) -> tuple[Hyperparameters, ...]:
        """The point of the open trial; a new trial's where none is open; () after the last."""
        state = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(state.RUNNING,)):
            point = _point(trial)
            if point is None:  # killed between asking and noting
                self._study.tell(trial.number, state=state.FAIL)
            elif point not in scores:
                return (point,)
            elif (merit := scores[point]) is None:
                self._study.tell(trial.number, state=state.FAIL)
            else:
                self._study.tell(trial.number, merit.figure)
        tried = self._study.get_trials(deepcopy=False, states=(state.COMPLETE, state.FAIL))
        if sum(_point(trial) is not None for trial in tried) >= self._trials:
            return ()
        # Seeded by the trial's number, so that a study opened again does not draw the first points anew.
        asked = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = self._optuna.samplers.TPESampler(seed=asked, n_startup_trials=4)
        asked_for = self._study.ask()
        rate = asked_for.suggest_float("lr", self._space.low, self._space.high, log=True)
        options = {
            name: values[asked_for.suggest_int(name, 0, len(values) - 1)]
            for name, values in self._space.grids
        }
        asked_for.set_user_attr("options", options)
        asked_for.set_user_attr("rate", rounded(rate))
        return self.wanted(scores)

    def known(self) -> tuple[Hyperparameters, ...]:
        """Every point that the study has asked for."""
        points = map(_point, self._study.get_trials(deepcopy=False))
        return tuple(dict.fromkeys(point for point in points if point is not None))

    @property
    def total(self) -> int:
        """`compare.trials`."""
        return self._trials


def _point(trial: Any) -> Hyperparameters | None:
    noted = trial.user_attrs
    if "rate" not in noted:
        return None
    options = noted["options"] if "options" in noted else {}  # a study of before had none
    return Hyperparameters(noted["rate"], tuple(options.items()))


def best(scores: Scores) -> Hyperparameters | None:
    """The trial of the greatest merit, the smaller rate of equals; None if all diverged."""
    known = {each: value for each, value in scores.items() if value is not None}
    # Sorted, so that max keeps the smallest of equals.
    return max(sorted(known), key=lambda each: known[each]) if known else None


def at_edge(scores: Scores, taken: Hyperparameters) -> bool:
    """The rate is the lowest or highest tried, so that a better one may lie beyond."""
    return _outermost([each.lr for each in scores], taken.lr)


def options_at_edge(scores: Scores, taken: Hyperparameters) -> tuple[str, ...]:
    """The names of the options that have the lowest or highest value tried."""
    tried = [dict(each.options) for each in scores]
    return tuple(
        name
        for name, value in taken.options
        if _outermost([options[name] for options in tried if name in options], value)
    )


def _outermost(values: Sequence[float], value: float) -> bool:
    return len(set(values)) > 1 and value in (min(values), max(values))
