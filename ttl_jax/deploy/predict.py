"""Predictions of one finished run, or of several together, for any number of images.

Several runs are a deep ensemble (Lakshminarayanan et al. 2017): the mean of their calibrated probabilities,
and how far they disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from ttl_jax import evaluation
from ttl_jax.data.read_images import Entry, decoded
from ttl_jax.deploy.finished_run import Run
from ttl_jax.errors import UserError
from ttl_jax.evaluation.conformal import Abstention, ConformalSets, fit_abstention, fit_sets
from ttl_jax.evaluation.out_of_distribution import NEIGHBOURS, nearest_units, percentile, unit_length
from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.evaluation.probability import Task
from ttl_jax.training.records.signature import thresholds_of
from ttl_jax.training.records.training_features import TrainingFeatures, load_training_features
from ttl_jax.typing import Bool, Float, UInt8

DEFAULT_THRESHOLD = "sensitivity 0.90"
PATIENTS = 19  # of validation, n: the percentile of the farthest image is 100 n / (n + 1)
JOINED = "|"  # between several classes in one cell
_AIM = re.compile(r"(sensitivity|specificity)\s*[:=]?\s*(0?\.\d+|1\.0*|0|1)")

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """Answers about an image besides the probabilities of its classes.

    Attributes:
        threshold: an aim reached on validation, as "sensitivity 0.90"; a probability; or none.
        coverage: of prediction sets; None for none.
        by_class: the coverage holds in every class.
        accuracy: of the decisions that are not left to a reader; None leaves none.
        distance: the distance to the training images.
    """

    threshold: str = DEFAULT_THRESHOLD
    coverage: float | None = None
    by_class: bool = False
    accuracy: float | None = None
    distance: bool = False


@dataclass(frozen=True)
class Ensemble:
    """Runs that predict together, and what is said of an image; one run alone is an ensemble too.

    Attributes:
        runs: finished runs of the same classes, with the way in which files are read the same.
        threshold: probability from which a class is said to be there, for each class; empty where no
            decision is asked for.
        sets: prediction sets, where they are asked for.
        abstention: the rule by which a decision is left to a reader, where it is asked for.
        training: what each run keeps of its training images, features of length one, where the distance to
            them is asked for.
        patients: (n,) of the runs' validation images, likewise.
    """

    runs: tuple[Run, ...]
    threshold: Mapping[str, float] = field(default_factory=dict)
    sets: ConformalSets | None = None
    abstention: Abstention | None = None
    training: tuple[TrainingFeatures, ...] = ()
    patients: tuple[np.ndarray, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The order of the columns."""
        return self.runs[0].class_names

    @property
    def task(self) -> Task:
        """The form of the labels."""
        return self.runs[0].signature.task

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of a row's cells, besides the user's own."""
        asked = {
            "decision": bool(self.threshold),
            "set": self.sets is not None,
            "abstain": self.abstention is not None,
            "ood": bool(self.training),
            "mutual_information": len(self.runs) > 1,
            "sd": len(self.runs) > 1,
        }
        chances = tuple(f"p_{name}" for name in self.class_names)
        return ("id", *chances, "class", *(name for name, wanted in asked.items() if wanted), "error")

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences: what validation has too few patients for."""
        said = () if self.sets is None else tuple(self.sets.notes)
        few = min((len(np.unique(each)) for each in self.patients), default=PATIENTS)
        if few >= PATIENTS:
            return said
        most = f"validation has {few} patients, so that `ood` is {100 * few / (few + 1):.1f} at most"
        return (*said, f"{most}: with fewer than {PATIENTS} none reaches 95")

    def rows(self, images: Sequence[UInt8[np.ndarray, "n ... s s 3"]]) -> Iterator[Row]:
        """Yield the cells of each image but its id.

        Args:
            images: the same images as each of the runs takes them.
        """
        for answer in self.answers(images):
            yield {name: _cell(value) for name, value in answer.items() if name in self.columns}

    def answers(self, images: Sequence[UInt8[np.ndarray, "n ... s s 3"]]) -> Iterator[Row]:
        """Yield what is said of each image, by the names of `columns`: numbers, lists of classes, and for
        "abstain" a truth value where there is one label. Beside "ood" stands "nearest": the ids and distances
        of the first run's nearest training images.
        """
        pairs = list(zip(self.runs, images, strict=True))
        chances = np.stack([run.signature.probabilities(run.logits(each), True) for run, each in pairs])
        mean = chances.astype(np.float64).mean(0)
        said = self._said(mean >= 0.5) if self.task == "multilabel" else self._said(_one_hot(mean))
        columns: dict[str, Iterable[Any]] = {
            **{f"p_{name}": mean[:, place] for place, name in enumerate(self.class_names)},
            "class": said,
        }
        if self.threshold:
            columns["decision"] = self._decisions(mean)
        if self.sets is not None:
            columns["set"] = self._sets(self.sets.sets(mean))
        if self.abstention is not None:
            left = self.abstention.abstains(mean, self.task)
            columns["abstain"] = [bool(each) for each in left] if left.ndim == 1 else self._said(left)
        if self.training:
            columns["ood"], columns["nearest"] = self._distances(pairs)
        if len(self.runs) > 1:
            spread = chances.std(0)
            several = self.task == "multilabel"
            columns["mutual_information"] = mutual_information(chances, several)
            columns["sd"] = spread.max(1) if several else spread[np.arange(len(mean)), mean.argmax(1)]
        for values in zip(*columns.values(), strict=True):
            yield {
                name: value if isinstance(value, list | bool) else float(np.float32(value))
                for name, value in zip(columns, values, strict=True)
            }

    def _said(self, there: Bool[np.ndarray, "n classes"]) -> list[list[str]]:
        """The names of the classes that are there."""
        return [[name for name, each in zip(self.class_names, row, strict=True) if each] for row in there]

    def _decisions(self, mean: Float[np.ndarray, "n classes"]) -> list[list[str]]:
        """The classes that reach their threshold; of two classes the first where the second does not."""
        known = self.threshold
        at = np.array([known[name] if name in known else np.inf for name in self.class_names])
        otherwise = [self.class_names[0]] if self.runs[0].signature.positive_class else []
        return [each or otherwise for each in self._said(mean >= at)]

    def _sets(self, found: Bool[np.ndarray, "..."]) -> list[list[str]]:
        """The classes of each set; of several labels those that may be present, with "?" if absent too."""
        if self.task == "multiclass":
            return self._said(found)
        cells = []
        for answers in found:
            each = zip(self.class_names, *answers.T, strict=True)
            cells.append([name + "?" * bool(absent) for name, absent, there in each if there])
        return cells

    def _distances(
        self, pairs: Sequence[tuple[Run, np.ndarray]]
    ) -> tuple[Float[np.ndarray, "n"], list[list[Row]]]:
        """Percentile of the distance to the training images among validation's, the mean over the runs; and
        the first run's nearest ones."""
        held = zip(pairs, self.training, self.patients, strict=True)
        distances = [
            (nearest_units(known.features, run.features(images), NEIGHBOURS), known.validation, patients)
            for (run, images), known, patients in held
        ]
        each = [percentile(far[:, -1], validation, patients) for (_, far), validation, patients in distances]
        ids, (places, far) = self.training[0].ids, distances[0][0]
        nearby = [
            [{"id": str(ids[place]), "distance": float(at)} for place, at in zip(*row, strict=True)]
            for row in zip(places, far, strict=True)
        ]
        return np.asarray(np.mean(each, axis=0)), nearby


def _cell(value: Any) -> Any:
    """A value of `answers` as a cell of a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return JOINED.join(value) if isinstance(value, list) else value


def _one_hot(chances: Float[np.ndarray, "n classes"]) -> Bool[np.ndarray, "n classes"]:
    return np.asarray(np.arange(chances.shape[1]) == chances.argmax(1)[:, None])


def mutual_information(
    chances: Float[np.ndarray, "runs n classes"], multilabel: bool
) -> Float[np.ndarray, "n"]:
    """Entropy of the mean minus mean of the entropies, nats (Smith & Gal 2018): 0 where all runs agree.

    Of several labels the sum over them.
    """
    held = chances.astype(np.float64)
    held = np.stack([held, 1 - held], -1) if multilabel else held[:, :, None, :]

    def entropy(p: np.ndarray) -> np.ndarray:
        return np.asarray(-(p * np.log(np.where(p > 0, p, 1))).sum(-1))

    gained = np.maximum(entropy(held.mean(0)) - entropy(held).mean(0), 0)
    return np.asarray(gained.sum(-1))


def ensemble(runs: Sequence[Run], asked: Asked | None = None) -> Ensemble:
    """Join runs to predict together.

    Args:
        runs: one or more.
        asked: what is said of an image besides probabilities; None is the default.

    Raises:
        UserError: runs of other classes, or that read files in another way; what validation cannot tell.
    """
    first, asked = runs[0], asked or Asked()
    for other in runs[1:]:
        mine, theirs = first.signature, other.signature
        ways = [(each.source.slices, each.source.plane, bool(each.geometry.depth)) for each in (mine, theirs)]
        for what, one, two in (
            ("classes", mine.class_names, theirs.class_names),
            ("task", mine.task, theirs.task),
            ("slices, plane and volumes", *ways),
        ):
            if one != two:
                raise UserError(
                    f"{other.folder} cannot predict together with {first.folder}: {what} are {two} there and "
                    f"{one} here"
                )
    held = [evaluation.predictions.load(run.folder / "predictions" / "val.npz") for run in runs]
    validation = _joint(runs, held)
    if validation is None and (asked.coverage is not None or asked.accuracy is not None):
        raise UserError(
            f"the runs, {first.folder} and others, were validated on different images, so that together they "
            "have no sets and no abstention: leave --set and --abstain out"
        )
    joint = Ensemble(tuple(runs), _thresholds(runs, validation, asked.threshold))
    try:
        if asked.coverage is not None and validation is not None:
            joint = replace(joint, sets=fit_sets(validation, asked.coverage, by_class=asked.by_class))
        if asked.accuracy is not None and validation is not None:
            joint = replace(joint, abstention=fit_abstention(validation, asked.accuracy))
    except ValueError as error:
        raise UserError(f"{error}: --set and --abstain take shares as 0.9") from None
    if asked.distance:
        kept = [load_training_features(run.folder) for run in runs]
        training = tuple(replace(each, features=unit_length(each.features)) for each in kept)
        joint = replace(joint, training=training, patients=tuple(each.groups for each in held))
    return joint


def _thresholds(runs: Sequence[Run], validation: Predictions | None, text: str) -> Mapping[str, float]:
    """The probability from which each class is said to be there."""
    known = runs[0].signature
    if text == "none":
        return {}
    if match := _AIM.fullmatch(text.strip()):
        aim = f"{match[1]} {float(match[2]):.2f}"
        joint = {} if validation is None else thresholds_of(validation)
        aims = known.thresholds if len(runs) == 1 else joint
        chosen = {name: held[aim] for name, held in aims.items() if aim in held}
        if not chosen and text == DEFAULT_THRESHOLD:
            print("validation gives no thresholds: there is no column of decisions", flush=True)
        elif not chosen:
            each = sorted({name for held in aims.values() for name in held})
            raise UserError(f"--threshold={text}: validation gave no such one ({', '.join(each) or 'none'})")
        return chosen
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UserError(f"--threshold={text} is no probability, no aim as 'sensitivity 0.90', and not none")
    names = (known.positive_class,) if known.positive_class else known.class_names
    return dict.fromkeys(names, value)


def _joint(runs: Sequence[Run], held: Sequence[Predictions]) -> Predictions | None:
    """The calibrated validation predictions of all runs together; None where their images differ."""
    if any(not np.array_equal(each.ids, held[0].ids) for each in held[1:]):
        return None
    pairs = zip(runs, held, strict=True)
    mean = np.mean([run.signature.probabilities(each.logits, True) for run, each in pairs], 0)
    return with_probabilities(held[0], mean)


def with_probabilities(held: Predictions, chances: Float[np.ndarray, "n classes"]) -> Predictions:
    """Predictions whose logits give these probabilities."""
    p = np.clip(chances.astype(np.float64), 1e-12, 1 - 1e-12)
    return replace(held, logits=np.log(p) if held.task == "multiclass" else np.log(p) - np.log1p(-p))


def predict(
    joint: Ensemble, entries: Sequence[Iterable[Entry]], batch_size: int, skip: int = 0
) -> Iterator[list[Row]]:
    """Yield rows, a batch at a time, in the order of the images.

    Args:
        joint: the runs.
        entries: what is to be read, once for each of `geometries(joint)`.
        batch_size: images a batch.
        skip: images at the beginning of which no row is wanted: they are in no batch.

    Yields:
        rows of `joint.columns` and of the entries' own columns, which stand under "columns"; one whose image
        cannot be read has its "error" alone. "entry" is the number of entries that are done with it.
    """
    ways = geometries(joint)
    streams = [decoded(given, *way) for given, way in zip(entries, ways, strict=True)]
    images = zip(*streams, strict=True)
    count = 0
    before: Entry | None = None
    for each in islice(images, skip):
        count += each[0][0] is not before
        before = each[0][0]
    for batch in _batches(images, batch_size):
        read = [each for each in batch if not any(isinstance(pixels, str) for _, _, pixels in each)]
        cells = joint.rows(_stacked(joint, ways, read)) if read else iter(())
        rows = []
        for each in batch:
            entry, name, _ = each[0]
            count += entry is not before
            before = entry
            faults = [pixels for _, _, pixels in each if isinstance(pixels, str)]
            answer = {"error": faults[0]} if faults else next(cells)
            rows.append({"id": name, "columns": entry.columns, "entry": count, **answer})
        yield rows


def _batches(stream: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(stream, size)):
        yield batch


def geometries(joint: Ensemble) -> list[tuple[Any, Any]]:
    """The ways in which the runs want images, each once."""
    ways = [(run.signature.geometry, run.signature.source) for run in joint.runs]
    return list(dict.fromkeys(ways))


def _stacked(joint: Ensemble, ways: list[Any], read: list[Any]) -> list[UInt8[np.ndarray, "n ..."]]:
    """The images that could be read, as each run takes them."""
    return of_runs(joint, [np.stack([each[place][2] for each in read]) for place in range(len(ways))])


def of_runs(joint: Ensemble, images: Sequence[np.ndarray]) -> list[UInt8[np.ndarray, "n ..."]]:
    """The images of each run, from those of each of `geometries(joint)`."""
    ways = geometries(joint)
    return [images[ways.index((run.signature.geometry, run.signature.source))] for run in joint.runs]
