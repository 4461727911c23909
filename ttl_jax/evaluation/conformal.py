"""Prediction sets with a coverage that is asked for, and the cases to leave to a reader.

Split conformal prediction (Vovk, Gammerman & Shafer 2005; Papadopoulos et al. 2002): a class is in the set
of an image where its score is no higher than the quantile of the scores that true classes had on validation.
With n validation patients the coverage of new ones is Beta(k, n + 1 - k), k = ceil((n + 1) coverage),
whatever the network: on average at least what was asked for, and at most 1 / (n + 1) more.

That holds for cases that are exchangeable with those of validation: a new patient of the same population,
imaged in the same way. Images of one patient are not exchangeable with each other's strangers. Each
patient therefore counts once, with the mean over its images (Lee, Barber & Willett 2023, "Distribution-free
inference with hierarchical data"): the coverage is that of a random image of a new patient.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ttl_jax.evaluation.calibration import top_label
from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.evaluation.probability import Task
from ttl_jax.typing import Bool, Float, Int, Shaped

Score = Literal["threshold", "adaptive"]
SHARES = tuple(np.linspace(1.0, 0.05, 20))  # of the images kept, among which a rule of abstention is chosen


@dataclass(frozen=True)
class ConformalSets:
    """Thresholds on validation, from which the set of any image follows.

    Attributes:
        coverage: share of cases whose set is to hold the true class.
        score: "threshold" (Sadinle, Lei & Wasserman 2019, JASA 114:223): minus the probability of the class,
            the smallest sets; "adaptive" (Romano, Sesia & Candes 2020, "Classification with valid and
            adaptive coverage"): the probability of the classes above it and a random part of its own, larger
            sets for harder images.
        by_class: the coverage holds in every class (Mondrian), not only over all of them.
        task: "multiclass" or "multilabel".
        class_names: C or L of them.
        thresholds: (C,), or (L, 2) for a label's absence and presence: the highest score in the set; infinite
            where the class is always in it.
        cases: validation patients behind each threshold.
    """

    coverage: float
    score: Score
    by_class: bool
    task: Task
    class_names: tuple[str, ...]
    thresholds: Float[np.ndarray, "..."]
    cases: Int[np.ndarray, "..."]

    def sets(
        self,
        chances: Float[np.ndarray, "n c"],
        ids: Sequence[str] | Shaped[np.ndarray, "n"] | None = None,
    ) -> Bool[np.ndarray, "..."]:
        """Membership of each class, (N, C), or of each label's absence and presence, (N, L, 2).

        A set may be empty: no class is as likely as true ones are on validation.

        Args:
            chances: probabilities, calibrated as those of `fit_sets`.
            ids: names of the images; "adaptive" draws its random numbers from them.

        Raises:
            ValueError: "adaptive" without ids.
        """
        return _scores(_answers(chances, self.task), self.score, ids) <= self.thresholds

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for every threshold that too few validation patients stand behind."""
        lacking, needed = np.isinf(self.thresholds), least_cases(self.coverage)
        if not lacking.any():
            return ()
        ask = f"a coverage of {self.coverage:g} takes {needed} patients in validation"
        if not self.by_class and self.task == "multiclass":
            return (f"{ask} and there are {self.cases.flat[0]}: every set holds all classes",)
        notes = []
        for place in zip(*np.nonzero(lacking), strict=True):
            name = repr(self.class_names[place[0]])
            if self.task == "multilabel":
                name = f"the {('absence', 'presence')[place[1]]} of {name}"
            of = f" of {name}" if self.by_class else ""
            notes.append(f"{ask}{of} and there are {self.cases[place]}: every set holds {name}")
        return tuple(notes)


def fit_sets(
    validation: Predictions, coverage: float = 0.9, *, score: Score = "threshold", by_class: bool = False
) -> ConformalSets:
    """Take the thresholds of prediction sets on validation.

    Args:
        validation: the run's predictions, with calibrated logits. Of several labels each is a question of its
            own, with the answers "absent" and "present"; unknown entries are left out.
        coverage: between 0 and 1.
        score, by_class: see `ConformalSets`.

    Raises:
        ValueError: a coverage outside of 0 to 1, or an unknown score.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"a coverage of {coverage} is not between 0 and 1")
    labels, task = validation.labels, validation.task
    scores = _scores(_answers(validation.probabilities, task), score, validation.ids)
    questions = [(labels, scores)]
    if task == "multilabel":
        questions = [(labels[:, place], scores[:, place]) for place in range(scores.shape[1])]
    each = [_thresholds(*question, validation.groups, coverage, by_class) for question in questions]
    thresholds, cases = (np.stack(parts) for parts in zip(*each, strict=True))
    if task == "multiclass":
        thresholds, cases = thresholds[0], cases[0]
    return ConformalSets(coverage, score, by_class, task, validation.class_names, thresholds, cases)


def covers(
    sets: Bool[np.ndarray, "..."], labels: Shaped[np.ndarray, "..."]
) -> Float[np.ndarray, "n *labels"]:
    """1 where a set holds the true class, 0 where not, NaN where the label is not known.

    Args:
        sets: (N, C), or (N, L, 2) of several labels.
        labels: int (N,), or float (N, L).
    """
    truth = np.asarray(labels, np.float64)
    place = np.nan_to_num(truth).astype(np.int64)[..., None]
    return np.where(np.isnan(truth), np.nan, np.take_along_axis(sets, place, axis=-1)[..., 0])


def undecided(sets: Bool[np.ndarray, "... answers"]) -> Bool[np.ndarray, "..."]:
    """True where a set holds not exactly one answer: such a case is left to a reader."""
    return np.asarray(sets.sum(axis=-1) != 1)


def least_cases(coverage: float) -> int:
    """The number of validation patients below which a set holds everything: coverage / (1 - coverage)."""
    return math.ceil(coverage / (1 - coverage) - 1e-9)


def coverage_band(cases: int, coverage: float, tested: int, level: float = 0.95) -> tuple[float, float]:
    """The range in which the share covered among independent test cases lies, at this level.

    Beta-binomial: validation leaves a coverage that is Beta(k, n + 1 - k), the test draws from it.

    Args:
        cases: validation patients, n.
        coverage: share asked for.
        tested: test cases.
        level: probability that the share lies within.
    """
    from scipy import stats

    k = math.ceil((cases + 1) * coverage - 1e-9)
    if k > cases:
        return 1.0, 1.0
    share = stats.betabinom(tested, k, cases + 1 - k)
    return float(share.ppf((1 - level) / 2) / tested), float(share.ppf((1 + level) / 2) / tested)


@dataclass(frozen=True)
class Abstention:
    """Decide where the confidence is high enough, leave the other images to a reader.

    Attributes:
        asked: accuracy asked for among the decisions that are kept.
        threshold: least confidence of a decision that is kept; infinite where no threshold reaches it.
        kept: share of validation decisions that are kept.
        accuracy: theirs on validation; None where none is kept.
        bound: lower 95 % bound of it for new patients (Clopper & Pearson 1934, Biometrika 26:404), at the
            number of decisions that the patients are worth, and for the choice among so many thresholds; None
            likewise.
    """

    asked: float
    threshold: float
    kept: float
    accuracy: float | None
    bound: float | None

    def abstains(self, chances: Float[np.ndarray, "n c"], task: Task) -> Bool[np.ndarray, "n *labels"]:
        """True where the decision on an image (a label) is left to a reader."""
        several = task == "multilabel"
        confidence = np.maximum(chances, 1 - chances) if several else chances.max(axis=1)
        return np.asarray(confidence < self.threshold)


def fit_abstention(validation: Predictions, accuracy: float, level: float = 0.95) -> Abstention:
    """The rule that keeps most decisions at the accuracy asked for on validation.

    Args:
        validation: the run's predictions, with calibrated logits; the decisions are the likelier answers, of
            several labels one each.
        accuracy: between 0 and 1.
        level: of the bound.

    Raises:
        ValueError: an accuracy outside of 0 to 1.
    """
    if not 0 < accuracy < 1:
        raise ValueError(f"an accuracy of {accuracy} is not between 0 and 1")
    labels, chances, members = validation.labels, validation.probabilities, validation.groups
    confidence, right = (each[0] for each in top_label(chances[None], labels, validation.task))
    if validation.task == "multilabel":
        members = np.repeat(members, chances.shape[1])[~np.isnan(labels).ravel()]
    falling = np.sort(confidence)[::-1]
    for share in SHARES if len(falling) else ():
        threshold = float(falling[max(math.ceil(share * len(falling)) - 1, 0)])
        kept = confidence >= threshold
        if (reached := float(right[kept].mean())) >= accuracy:
            bound = _least_share(right[kept], members[kept], (1 - level) / len(SHARES))
            return Abstention(accuracy, threshold, float(kept.mean()), reached, bound)
    return Abstention(accuracy, math.inf, 0.0, None, None)


def _least_share(right: Bool[np.ndarray, "n"], groups: Shaped[np.ndarray, "n"], error: float) -> float:
    """Clopper and Pearson's lower bound, at n / design effect (Korn & Graubard 1998, Surv. Methodol. 24:193).

    Where all are right, or all wrong, n is the number of patients.
    """
    from scipy import special

    count, share = len(right), float(right.mean())
    place = np.unique(groups, return_inverse=True)[1]
    patients = int(place.max()) + 1
    worth = float(patients)
    if patients > 1 and 0 < share < 1:
        variance = patients / (patients - 1) * (np.bincount(place, right - share) ** 2).sum() / count
        worth = min(count * share * (1 - share) / variance, count) if patients < count else float(count)
    hits = share * worth
    return float(special.betaincinv(hits, worth - hits + 1, error)) if hits > 0 else 0.0


def _answers(chances: Float[np.ndarray, "n c"], task: Task) -> Float[np.ndarray, "n *labels answers"]:
    """Probabilities of answers of which one is true: the classes, or a label's absence and presence."""
    values = np.asarray(chances, np.float64)
    return np.stack([1 - values, values], axis=-1) if task == "multilabel" else values


def _scores(
    answers: Float[np.ndarray, "n *labels answers"],
    score: Score,
    ids: Sequence[str] | Shaped[np.ndarray, "n"] | None,
) -> Float[np.ndarray, "n *labels answers"]:
    """The score of every answer: the lower, the more it conforms."""
    if score == "threshold":
        return -answers
    if score != "adaptive":
        raise ValueError(f"score is 'threshold' or 'adaptive', not {score!r}")
    if ids is None or len(ids) != len(answers):
        raise ValueError("adaptive sets need the ids of the images")
    order = np.argsort(-answers, axis=-1, kind="stable")
    falling = np.take_along_axis(answers, order, axis=-1)
    drawn = _uniform(ids).reshape(-1, *[1] * (answers.ndim - 1))
    scores = np.empty_like(answers)
    np.put_along_axis(scores, order, np.cumsum(falling, axis=-1) - (1 - drawn) * falling, axis=-1)
    return scores


def _uniform(ids: Sequence[str] | Shaped[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """A number from 0 to 1 for each name, the same everywhere: an image has one set, whenever it is asked."""
    digests = b"".join(hashlib.blake2b(str(each).encode(), digest_size=8).digest() for each in ids)
    return np.frombuffer(digests, "<u8") / 2.0**64


def _thresholds(
    truth: Shaped[np.ndarray, "n"],
    scores: Float[np.ndarray, "n answers"],
    groups: Shaped[np.ndarray, "n"],
    coverage: float,
    by_class: bool,
) -> tuple[Float[np.ndarray, "answers"], Int[np.ndarray, "answers"]]:
    """Threshold of each answer and the patients behind it; entries of which nothing is known are left out."""
    known = np.flatnonzero(~np.isnan(np.asarray(truth, np.float64)))
    true, answers = truth[known].astype(np.int64), scores.shape[1]
    own = scores[known, true]
    if not by_class:
        threshold, cases = _quantile(own, groups[known], coverage)
        return np.full(answers, threshold), np.full(answers, cases)
    each = [_quantile(own[true == place], groups[known[true == place]], coverage) for place in range(answers)]
    return np.array([threshold for threshold, _ in each]), np.array([cases for _, cases in each])


def _quantile(
    scores: Float[np.ndarray, "n"], groups: Shaped[np.ndarray, "n"], coverage: float
) -> tuple[float, int]:
    """The score up to which coverage * (patients + 1) patients lie, each spread over its images."""
    place, counts = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    order = np.argsort(scores, kind="stable")
    patients = np.cumsum(1 / counts[place[order]])
    reached = int(np.searchsorted(patients, coverage * (len(counts) + 1) - 1e-9))
    return (float(scores[order[reached]]) if reached < len(scores) else math.inf), len(counts)
