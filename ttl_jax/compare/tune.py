"""Which learning rates a setting is tried with, and which is taken: by validation alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ttl_jax.compare.cells import Setting
from ttl_jax.errors import UserError
from ttl_jax.evaluation.selection import Merit

Scores = Mapping[float, "Merit | None"]  # rate -> its merit on validation, None where the run diverged


class Tuner(Protocol):
    """Proposes rates for one setting, given the scores known so far."""

    def wanted(self, scores: Scores) -> tuple[float, ...]:
        """Rates that are to be run now and have no score yet; () once all have been tried."""

    def rates(self) -> tuple[float, ...]:
        """The rates known to be tried, whether they have been run yet or not."""

    @property
    def total(self) -> int:
        """How many rates will have been tried in the end."""


class Grid:
    """All rates of a list, in any order and at the same time, then up to `extend` rates beyond its edge.

    While the best rate is the lowest or highest tried, and training did not diverge beyond it, the next
    one lies as far off as the last two of the list are apart.
    """

    def __init__(self, rates: Sequence[float], extend: int = 0) -> None:
        self._rates, self._extend = tuple(sorted(rates)), extend

    def wanted(self, scores: Scores) -> tuple[float, ...]:
        """The rates of the list without a score; then one beyond the edge that is best so far."""
        missing = tuple(rate for rate in self._rates if rate not in scores)
        rate = best(scores)
        beyond = len(scores) - len(self._rates)
        if missing or rate is None or beyond >= self._extend or not at_edge(scores, rate):
            return missing
        low, high = self._rates[0], self._rates[-1]
        factor = self._rates[1] / low if rate <= low else high / self._rates[-2]
        return (float(f"{rate / factor if rate <= low else rate * factor:.3g}"),)

    def rates(self) -> tuple[float, ...]:
        """The list."""
        return self._rates

    @property
    def total(self) -> int:
        """The length of the list; what lies beyond is known only when it is asked for."""
        return len(self._rates)


class Optuna:
    """Rates proposed by Optuna's sampler, one at a time, in a study that is kept on disk.

    A study that is opened again goes on with the trial it had asked for.
    """

    def __init__(self, folder: Path, setting: Setting, config: Any) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise UserError("compare.tuner=optuna needs: pip install 'ttl-jax[optuna]'") from None
        self._optuna, self._trials = optuna, config.compare.trials
        self._range = tuple(config.compare.lr_range)
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

    def wanted(self, scores: Scores) -> tuple[float, ...]:
        """The rate of the open trial; a new trial's where none is open; () after the last."""
        state = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(state.RUNNING,)):
            rate = trial.user_attrs["rate"] if "rate" in trial.user_attrs else None
            if rate is None:  # killed between asking and noting
                self._study.tell(trial.number, state=state.FAIL)
            elif rate not in scores:
                return (rate,)
            elif (found := scores[rate]) is None:
                self._study.tell(trial.number, state=state.FAIL)
            else:
                self._study.tell(trial.number, found.figure)
        tried = self._study.get_trials(deepcopy=False, states=(state.COMPLETE, state.FAIL))
        if sum("rate" in trial.user_attrs for trial in tried) >= self._trials:
            return ()
        # Seeded by the trial's number, so that a study opened again does not draw the first rates anew.
        asked = len(self._study.get_trials(deepcopy=False))
        self._study.sampler = self._optuna.samplers.TPESampler(seed=asked, n_startup_trials=4)
        asked_for = self._study.ask()
        # Three digits: folders are named by the rate, and more would mean nothing.
        rate = float(f"{asked_for.suggest_float('lr', *self._range, log=True):.3g}")
        asked_for.set_user_attr("rate", rate)
        return self.wanted(scores)

    def rates(self) -> tuple[float, ...]:
        """Every rate that the study has asked for."""
        trials = self._study.get_trials(deepcopy=False)
        return tuple(dict.fromkeys(t.user_attrs["rate"] for t in trials if "rate" in t.user_attrs))

    @property
    def total(self) -> int:
        """`compare.trials`."""
        return self._trials


def best(scores: Scores) -> float | None:
    """The rate of the greatest merit, the smaller one of equals; None if all diverged."""
    known = {rate: value for rate, value in scores.items() if value is not None}
    return max(known, key=lambda rate: (known[rate], -rate)) if known else None


def at_edge(scores: Scores, rate: float) -> bool:
    """Whether a rate of a grid is its lowest or highest, so that a better one may lie beyond."""
    return len(scores) > 1 and rate in (min(scores), max(scores))
