"""The positive class of a two-class task: the finding, which AUPRC, sensitivity and thresholds speak of.

It is class 1, the second: where the names or `data.positive` say that it is the first, the two change places.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError, nearest

AUTO, LAST = "auto", "last"
# Words by which a class is the finding (below 0), or is not (above); "benign" is one beside "normal".
_FINDING = (
    "abnormal", "cancer", "disease", "diseased", "malignant", "pathologic", "pathological", "pos", "positive",
    "present", "sick", "true", "tumor", "tumour", "unhealthy", "yes",
)  # fmt: skip
_BENIGN = ("benign", "nonmalignant", "noncancerous")
_ABSENT = (
    "absent", "control", "controls", "false", "free", "healthy", "neg", "negative", "no", "non", "none",
    "nofinding", "nofindings", "normal", "not", "unaffected", "uninfected", "without",
)  # fmt: skip


def positive_second(sets: Mapping[str, Dataset], wanted: str) -> dict[str, Dataset]:
    """Return the splits with the positive class of two as class 1, and a note of how it was chosen.

    Args:
        sets: All splits of a data set.
        wanted: Value of data.positive: a class, "auto" (by the names), or "last" (the classes stay as they
            are sorted, as in runs of an earlier version).

    Raises:
        UserError: `wanted` is no class, or there are not two.
    """
    first = next(iter(sets.values()))
    names = first.class_names
    if first.task != "multiclass" or len(names) != 2:
        if wanted in (AUTO, LAST) and wanted not in names:
            return dict(sets)
        count = f"{len(names)} {'labels' if first.task == 'multilabel' else 'classes'}"
        raise UserError(
            f"data.positive={wanted!r} is for two classes, and {first.origin.source or 'the data'} has "
            f"{count}; leave it out"
        )
    chosen, why = _chosen(names, wanted)
    note = f"positive class: {names[chosen]}, not {names[1 - chosen]} ({why})"
    made = {name: _noted(split, note) for name, split in sets.items()}
    if chosen == 1:
        return made
    return {
        name: replace(split, labels=1 - split.labels, class_names=names[::-1]) for name, split in made.items()
    }


def _noted(split: Dataset, note: str) -> Dataset:
    return replace(split, origin=replace(split.origin, notes=(*split.origin.notes, note)))


def _chosen(names: tuple[str, ...], wanted: str) -> tuple[int, str]:
    """Return the number of the positive class and the reason."""
    if wanted in names:
        return names.index(wanted), "data.positive"
    if wanted == LAST:
        return 1, "the last one, as in an earlier version"
    if wanted != AUTO:
        raise UserError(f"data.positive={wanted!r} is no class{nearest(wanted, names)}")
    absent = [_absence(name, other) for name, other in zip(names, names[::-1], strict=True)]
    if absent[0] == absent[1]:
        return 1, "the last one, as neither name says it; data.positive=NAME sets it"
    return absent.index(min(absent)), "by the names; data.positive=NAME sets it"


def _absence(name: str, other: str) -> int:
    """Return how much a class's name says that nothing was found, from -1 (a finding) to 2."""
    words = [word for word in re.split(r"[\W_]+", name.casefold()) if word]
    joined, others = "".join(words), re.sub(r"[\W_]+", "", other.casefold())
    if not words or joined in (f"no{others}", f"non{others}", f"not{others}"):
        return 2
    if words[0] in _ABSENT or words[-1] in _ABSENT:
        return 2
    if set(words) & set(_BENIGN):
        return 1
    return -1 if set(words) & set(_FINDING) else 0
