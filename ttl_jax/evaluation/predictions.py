"""Prediction files, from which all statistics are computed, and their classes as two-class questions."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.evaluation.outcomes import checked_names
from ttl_jax.evaluation.probability import Task, checked_labels, checked_logits, log_odds, probabilities
from ttl_jax.system.whole_file import whole_file
from ttl_jax.typing import Bool, Float, Shaped

_COLUMN = "column/"
_KEYS = ("id", "group", "label", "logits", "class_names", "task")


@dataclass(frozen=True)
class Predictions:
    """A model's logits for every example of one split, beside the truth.

    Attributes:
        ids: str (N,).
        groups: str (N,), the patient or lesion that examples share.
        labels: int32 (N,) or float32 (N, L) with NaN for unknown.
        logits: float32 (N, C) or (N, L), unscaled.
        class_names: C or L of them.
        task: "multiclass" or "multilabel".
        columns: str (N,) each, the other columns of the user's table (age, sex, site).
    """

    ids: Shaped[np.ndarray, "n"]
    groups: Shaped[np.ndarray, "n"]
    labels: Shaped[np.ndarray, "..."]
    logits: Float[np.ndarray, "n c"]
    class_names: tuple[str, ...]
    task: Task
    columns: Mapping[str, Shaped[np.ndarray, "n"]] = field(default_factory=dict)

    @property
    def probabilities(self) -> Float[np.ndarray, "n c"]:
        """float64 (N, C): softmax, or for "multilabel" a sigmoid a label."""
        return probabilities(self.logits, self.task)

    def __len__(self) -> int:
        return len(self.ids)


def save(
    path: str | os.PathLike[str],
    *,
    ids: Sequence[str] | Shaped[np.ndarray, "n"],
    groups: Sequence[str] | Shaped[np.ndarray, "n"],
    labels: Shaped[np.ndarray, "..."],
    logits: Float[np.ndarray, "n c"],
    class_names: Sequence[str],
    task: Task,
    columns: Mapping[str, Shaped[np.ndarray, "n"]] | None = None,
) -> Path:
    """Writes one split's predictions as .npz (id, group, label, logits, class_names, task, column/*).

    The file appears whole or not at all: it is written beside its place and renamed into it.

    Raises:
        ValueError: lengths, shapes or values that do not fit, logits that are not finite.
    """
    place = Path(path)
    values = checked_logits(logits, task)
    truth = checked_labels(labels, values, task)
    names = checked_names(class_names, values)
    if not len(ids) == len(groups) == len(values):
        raise ValueError(f"{len(ids)} ids, {len(groups)} groups and {len(values)} rows of logits")
    arrays = {
        "id": np.asarray(ids, dtype=np.str_),
        "group": np.asarray(groups, dtype=np.str_),
        "label": truth.astype(np.float32 if task == "multilabel" else np.int32),
        "logits": values.astype(np.float32),
        "class_names": np.asarray(names, dtype=np.str_),
        "task": np.asarray(task),
    }
    for name, cells in (columns or {}).items():
        if len(cells) != len(values):
            raise ValueError(f"column {name!r} has {len(cells)} cells for {len(values)} rows of logits")
        arrays[f"{_COLUMN}{name}"] = np.asarray(cells).astype(np.str_)
    with whole_file(place) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return place


def load(path: str | os.PathLike[str]) -> Predictions:
    """Reads a prediction file.

    Raises:
        UserError: the file is missing, is no .npz, or its arrays are not those of `save`.
    """
    place = Path(path)
    try:
        with np.load(place, allow_pickle=False) as file:
            missing = [key for key in _KEYS if key not in file.files]
            if missing:
                raise UserError(f"{place} is not a prediction file: it lacks {', '.join(missing)}")
            arrays = {key: file[key] for key in _KEYS}
            columns = {key.removeprefix(_COLUMN): file[key] for key in file.files if key.startswith(_COLUMN)}
    except FileNotFoundError:
        raise UserError(f"there is no prediction file {place}; evaluate the run first") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{place} is not a readable prediction file: {error}") from None
    task = str(arrays["task"])
    if task not in ("multiclass", "multilabel"):
        raise UserError(f"{place}: task is 'multiclass' or 'multilabel', not {task!r}")
    try:
        values = checked_logits(arrays["logits"], task)  # type: ignore[arg-type]
        checked_labels(arrays["label"], values, task)  # type: ignore[arg-type]
        names = checked_names(arrays["class_names"], values)
    except ValueError as error:
        raise UserError(f"{place} cannot be used: {error}") from None
    if not len(arrays["id"]) == len(arrays["group"]) == len(values):
        raise UserError(f"{place} cannot be used: id, group and logits differ in length")
    return Predictions(
        ids=arrays["id"],
        groups=arrays["group"],
        labels=arrays["label"],
        logits=arrays["logits"],
        class_names=names,
        task=task,  # type: ignore[arg-type]
        columns=columns,
    )


@dataclass(frozen=True)
class Question:
    """One class (or label) against the rest, over the examples where the answer is known.

    Attributes:
        name: name of the class.
        truth: True for examples of the class.
        odds: log odds of it: they rank as the probabilities do, and do not tie where these round to 1.
        groups: patients.
    """

    name: str
    truth: Bool[np.ndarray, "n"]
    odds: Float[np.ndarray, "n"]
    groups: Shaped[np.ndarray, "n"]

    @property
    def chances(self) -> Float[np.ndarray, "n"]:
        """Probabilities of the class."""
        return np.exp(-np.logaddexp(0.0, -self.odds))


def questions(predictions: Predictions, temperature: float = 1.0) -> tuple[Question, ...]:
    """One question a class or label, in their order; of two classes the second alone.

    Args:
        predictions: logits and labels of one split.
        temperature: the logits are divided by it first.
    """
    odds = log_odds(predictions.logits / temperature, predictions.task)
    labels, several = predictions.labels, predictions.task == "multilabel"
    everyone = np.ones(len(predictions), bool)
    made = []
    for place, name in enumerate(predictions.class_names):
        known = ~np.isnan(labels[:, place]) if several else everyone
        truth = labels[known, place] == 1 if several else labels == place
        made.append(Question(name, truth, odds[known, place], predictions.groups[known]))
    return tuple(made[1:] if not several and len(made) == 2 else made)
