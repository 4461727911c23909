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
from ttl_jax.deploy.run import Run
from ttl_jax.errors import UserError
from ttl_jax.evaluation.predictions import Predictions
from ttl_jax.training.records.signature import thresholds_of
from ttl_jax.typing import Float, UInt8

DEFAULT_THRESHOLD = "sensitivity 0.90"
JOINED = "|"  # between several classes in one cell
_AIM = re.compile(r"(sensitivity|specificity)\s*[:=]?\s*(0?\.\d+|1\.0*|0|1)")

Row = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Ensemble:
    """Runs that predict together; one alone is an ensemble too.

    Attributes:
        runs: finished runs of the same classes, with the way in which files are read the same.
        threshold: probability from which a class is said to be there, for each class; empty where no
            decision is asked for.
    """

    runs: tuple[Run, ...]
    threshold: Mapping[str, float] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The order of the columns."""
        return self.runs[0].class_names

    @property
    def multilabel(self) -> bool:
        """Several classes may be there at once."""
        return self.runs[0].signature.task == "multilabel"

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of a row's cells, besides the user's own."""
        chances = tuple(f"p_{name}" for name in self.class_names)
        decided = ("decision",) if self.threshold else ()
        doubt = ("mutual_information", "sd") if len(self.runs) > 1 else ()
        return ("id", *chances, "class", *decided, *doubt, "error")

    def probabilities(
        self, images: Sequence[UInt8[np.ndarray, "n ... s s 3"]]
    ) -> Float[np.ndarray, "runs n classes"]:
        """Calibrated probabilities of each run, given the same images as each of them takes them."""
        pairs = zip(self.runs, images, strict=True)
        return np.stack([run.signature.probabilities(run.logits(each), True) for run, each in pairs])

    def cells(self, chances: Float[np.ndarray, "runs n classes"]) -> Iterator[Row]:
        """Yield the cells of each image but its id."""
        mean = chances.astype(np.float64).mean(0)
        doubt = mutual_information(chances, self.multilabel)
        spread = chances.std(0)
        for number, row in enumerate(mean):
            said = np.flatnonzero(row >= 0.5) if self.multilabel else [int(row.argmax())]
            cells: Row = {
                f"p_{name}": float(p)
                for name, p in zip(self.class_names, row.astype(np.float32), strict=True)
            }
            cells["class"] = JOINED.join(self.class_names[place] for place in said)
            if self.threshold:
                cells["decision"] = self._decision(row)
            if len(self.runs) > 1:
                cells["mutual_information"] = float(doubt[number])
                cells["sd"] = float(spread[number].max() if self.multilabel else spread[number, said[0]])
            yield cells

    def _decision(self, row: Float[np.ndarray, "classes"]) -> str:
        """The classes that reach their threshold; of two classes the other one where the second does not."""
        said = [
            name for name, p in zip(self.class_names, row, strict=True) if p >= self.threshold.get(name, 2)
        ]
        positive = self.runs[0].signature.positive_class
        return JOINED.join(said) or (self.class_names[0] if positive else "")


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


def ensemble(runs: Sequence[Run], threshold: str = DEFAULT_THRESHOLD) -> Ensemble:
    """Join runs to predict together.

    Args:
        runs: one or more.
        threshold: an aim reached on validation, as "sensitivity 0.90"; a probability; or none.

    Raises:
        UserError: runs of other classes, or that read files in another way; a threshold that is not known.
    """
    first = runs[0]
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
    return Ensemble(tuple(runs), _thresholds(runs, threshold))


def _thresholds(runs: Sequence[Run], text: str) -> Mapping[str, float]:
    """The probability from which each class is said to be there."""
    known = runs[0].signature
    if text == "none":
        return {}
    if found := _AIM.fullmatch(text.strip()):
        aim = f"{found[1]} {float(found[2]):.2f}"
        aims = known.thresholds if len(runs) == 1 else _joint_thresholds(runs)
        chosen = {name: held[aim] for name, held in aims.items() if aim in held}
        if not chosen and text == DEFAULT_THRESHOLD:
            return {}  # nothing to choose on: the column is left out
        if not chosen:
            each = sorted({name for held in aims.values() for name in held})
            raise UserError(
                f"--threshold={text}: validation has no such threshold ({', '.join(each) or 'none'})"
            )
        return chosen
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UserError(f"--threshold={text} is no probability, no aim as 'sensitivity 0.90', and not none")
    names = (known.positive_class,) if known.positive_class else known.class_names
    return dict.fromkeys(names, value)


def _joint_thresholds(runs: Sequence[Run]) -> Mapping[str, Mapping[str, float]]:
    """Thresholds on the mean probabilities, where all runs were validated on the same images; else none."""
    held = [evaluation.predictions.load(run.folder / "predictions" / "val.npz") for run in runs]
    if any(not np.array_equal(each.ids, held[0].ids) for each in held[1:]):
        print("the runs were validated on different images: the ensemble has no thresholds", flush=True)
        return {}
    pairs = zip(runs, held, strict=True)
    mean = np.mean([run.signature.probabilities(each.logits, True) for run, each in pairs], 0)
    return thresholds_of(with_probabilities(held[0], mean))


def with_probabilities(held: Predictions, chances: Float[np.ndarray, "n classes"]) -> Predictions:
    """Predictions whose logits give these probabilities."""
    p = np.clip(chances.astype(np.float64), 1e-12, 1 - 1e-12)
    return replace(held, logits=np.log(p) if held.task == "multiclass" else np.log(p) - np.log1p(-p))


def predict(joint: Ensemble, entries: Sequence[Iterable[Entry]], batch_size: int) -> Iterator[list[Row]]:
    """Yield rows, a batch at a time, in the order of the images.

    Args:
        joint: the runs.
        entries: what is to be read, once for each of `geometries(joint)`.
        batch_size: images a batch.

    Yields:
        rows of `joint.columns` and of the entries' own columns, which stand under "columns"; one whose image
        cannot be read has its "error" alone. "entry" is the number of entries that are done with it.
    """
    ways = geometries(joint)
    streams = [decoded(given, *way) for given, way in zip(entries, ways, strict=True)]
    count = 0
    before: Entry | None = None
    for batch in _batches(zip(*streams, strict=True), batch_size):
        read = [each for each in batch if not any(isinstance(pixels, str) for _, _, pixels in each)]
        chances = _together(joint, ways, read)
        cells = iter(joint.cells(chances) if len(read) else ())
        rows = []
        for each in batch:
            entry, name, _ = each[0]
            count += entry is not before
            before = entry
            faults = [pixels for _, _, pixels in each if isinstance(pixels, str)]
            found = {"error": faults[0]} if faults else next(cells)
            rows.append({"id": name, "columns": entry.columns, "entry": count, **found})
        yield rows


def _batches(stream: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(stream, size)):
        yield batch


def geometries(joint: Ensemble) -> list[tuple[Any, Any]]:
    """The ways in which the runs want images, each once."""
    ways = [(run.signature.geometry, run.signature.source) for run in joint.runs]
    return list(dict.fromkeys(ways))


def _together(joint: Ensemble, ways: list[tuple[Any, Any]], read: list[Any]) -> Float[np.ndarray, "r n c"]:
    if not read:
        return np.empty((len(joint.runs), 0, len(joint.class_names)), np.float32)
    stacks = [np.stack([each[place][2] for each in read]) for place in range(len(ways))]
    images = [stacks[ways.index((run.signature.geometry, run.signature.source))] for run in joint.runs]
    return joint.probabilities(images)
