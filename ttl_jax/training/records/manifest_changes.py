"""The changes between what a run was made from and what is there now, in words."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np

from ttl_jax.config import RunConfig
from ttl_jax.data.dataset import Dataset
from ttl_jax.data.patient_key import KEY_VARIABLE, key_file, key_is_given
from ttl_jax.errors import UserError
from ttl_jax.training.records.run_manifest import RunManifest, first_of_each, hashed_ids, made_from, read

REMEDY = "put back what it was made from, or use another --workdir, or --fresh, which moves that folder aside"


def check(
    workdir: Path, known: Set[str], now: RunManifest, sets: Mapping[str, Dataset], config: RunConfig
) -> None:
    """Refuses a work folder whose run was made from other images, labels, splits or weights.

    Args:
        workdir: the run's folder.
        known: digests of its manifest, from config.json and the checkpoints; none where a version that kept
            no manifest began it.
        now: the manifest of what is there now.
        sets: the splits of now, whose ids name what is new.
        config: the run's config.

    Raises:
        UserError: saying what is another.
    """
    if not known:
        _refuse_other_split(workdir, sets, config)
        print(
            f"warning: {workdir} was begun by a version that kept no manifest: whether its images, labels, "
            "split and weights are still the same cannot be told; from now on it can",
            flush=True,
        )
        return
    if known == {now.digest}:
        return
    # A search's trials see train and val alone; the winner's folder is shown the other splits at the end.
    seen = {name: sets[name] for name in ("train", "val") if name in sets}
    if known <= {now.digest, made_from(seen, config).digest}:
        return
    before = read(workdir)
    if before is None or before.digest not in known or before.digest == now.digest:
        said = ["other images, labels, split or weights (manifest.npz, which knew more, is gone or damaged)"]
    else:
        said = changes(before, now, sets)
        if before.path != now.path and any("weights" not in each for each in said):
            said.insert(0, f"data.path is {now.path!r}, not {before.path!r}")
    raise UserError(f"{workdir} holds a run of something else: {'; '.join(said)}; {REMEDY}")


def _refuse_other_split(workdir: Path, sets: Mapping[str, Dataset], config: RunConfig) -> None:
    """Refuses a run whose split was drawn by what is no longer so: the user's key, or the place of files."""
    origin = next(iter(sets.values())).origin
    drawn = "data.split_seed" in origin.splits_from
    keyed = bool(origin.key) and key_is_given()
    why = f"the user's {KEY_VARIABLE}" if keyed else "the folder of the files"
    if drawn and origin.key and (keyed or config.data.group == "file"):
        raise UserError(
            f"{workdir} was begun by a version that drew the split by {why} too, so that it cannot be made "
            "again: finish it with that version, or use another --workdir, or --fresh"
        )


def changes(before: RunManifest, now: RunManifest, sets: Mapping[str, Dataset]) -> list[str]:
    """Return every change, as "3 images added (the first is a/7.png)".

    Args:
        before, now: the two manifests.
        sets: the splits of now.
    """
    texts = dict(zip(*hashed_ids(sets), strict=True))

    def named(text: str, places: np.ndarray) -> list[str]:
        """A count of images of now and the first of them; nothing where there are none."""
        if not len(places):
            return []
        shown = repr(texts[int(now.ids[places[0]])])
        shown = shown if len(shown) <= 120 else f"{shown[:60]}...{shown[-50:]}"
        return [f"{text.format(len(places))} ({'the first is ' if len(places) > 1 else ''}{shown})"]

    old, new = _pairs(before, now)
    moved = before.ids[old] != now.ids[new]
    added = np.setdiff1d(np.arange(len(now.ids)), new)
    removed = len(before.ids) - len(old)
    renamed = _renamed(before, now, old, new)
    edited = (before.pixels[old] != now.pixels[new]) & (before.pixels[old] != 0) & (now.pixels[new] != 0)
    return [
        *named("{} images added" if len(added) > 1 else "{} image added", added),
        *([f"{removed} image{'s' * (removed > 1)} removed"] if removed else []),
        *named("the pixels of {} changed", new[edited]),
        *named("{} under another name or in another folder", new[moved]),
        *_classes(before, now, renamed),
        *named("the labels of {} changed", new[_other_labels(before, now, old, new, renamed)]),
        *named("the split of {} changed", new[_split_of(before, old) != _split_of(now, new)]),
        *named("the groups of {} changed", new[_regrouped(before, now, old, new)]),
        *([f"{KEY_VARIABLE} (or {key_file()}) is another one"] if before.key != now.key else []),
        *(["another weights file"] if before.weights != now.weights else []),
    ] or ["the order of its splits"]


def _pairs(before: RunManifest, now: RunManifest) -> tuple[np.ndarray, np.ndarray]:
    """Places of the images that are in both: of the same id, else of the same pixels, if these are unique."""
    _, old, new = np.intersect1d(before.ids, now.ids, return_indices=True)
    gone, come = (
        np.setdiff1d(np.arange(len(each.ids)), places) for each, places in ((before, old), (now, new))
    )
    lone = [_unique(each.pixels, places) for each, places in ((before, gone), (now, come))]
    _, first, second = np.intersect1d(before.pixels[lone[0]], now.pixels[lone[1]], return_indices=True)
    return np.concatenate([old, lone[0][first]]), np.concatenate([new, lone[1][second]])


def _unique(pixels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Those places whose pixels stand nowhere else among them, and are known."""
    values, first, counts = np.unique(pixels[places], return_index=True, return_counts=True)
    lone: np.ndarray = places[first[(counts == 1) & (values != 0)]]
    return lone


def _renamed(before: RunManifest, now: RunManifest, old: np.ndarray, new: np.ndarray) -> dict[str, str]:
    """Classes that have another name and mostly the same images: {name before: name now}."""
    gone = [name for name in before.class_names if name not in now.class_names]
    come = [name for name in now.class_names if name not in before.class_names]
    if not gone or len(gone) != len(come) or before.labels.shape[1] != now.labels.shape[1]:
        return {}
    if before.labels.shape[1] > 1:
        places = [before.class_names.index(name) for name in gone]
        return {name: now.class_names[place] for name, place in zip(gone, places, strict=True)}
    made = {}
    for name in gone:
        inside = before.labels[old, 0] == before.class_names.index(name)
        votes = [int((now.labels[new[inside], 0] == now.class_names.index(each)).sum()) for each in come]
        made[name] = come[int(np.argmax(votes))]
    return made if len(set(made.values())) == len(made) else {}


def _classes(before: RunManifest, now: RunManifest, renamed: Mapping[str, str]) -> list[str]:
    """Classes that came, went or changed their names."""
    come = [name for name in now.class_names if name not in (*before.class_names, *renamed.values())]
    gone = [name for name in before.class_names if name not in (*now.class_names, *renamed)]
    said = [f"class {one!r} is now {other!r}" for one, other in renamed.items()]
    said += [f"class {name!r} is new" for name in come] + [f"class {name!r} is gone" for name in gone]
    same = set(before.class_names) == set(now.class_names)
    if same and before.class_names != now.class_names:
        said.append(f"the classes are in the order {', '.join(now.class_names)}")
    return said


def _other_labels(
    before: RunManifest, now: RunManifest, old: np.ndarray, new: np.ndarray, renamed: Mapping[str, str]
) -> np.ndarray:
    """True for pairs whose labels differ, classes told by their names."""
    named = [renamed.get(name, name) for name in before.class_names]
    if before.labels.shape[1] == now.labels.shape[1] == 1:
        number = {name: place for place, name in enumerate(now.class_names)}
        numbers = np.array([number.get(name, -1) for name in named], np.float32)
        one_label = len(named) > 1  # else the values of one label, not classes
        was = numbers[before.labels[old, 0].astype(int)] if one_label else before.labels[old, 0]
        return np.asarray(~_equal(was, now.labels[new, 0]))
    both = [name for name in named if name in now.class_names]
    columns = [named.index(name) for name in both], [now.class_names.index(name) for name in both]
    if before.labels.shape[1] == 1 or now.labels.shape[1] == 1:
        return np.ones(len(old), bool)
    same = _equal(before.labels[old][:, columns[0]], now.labels[new][:, columns[1]])
    return np.asarray(~same.all(axis=1))


def _equal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))


def _split_of(manifest: RunManifest, places: np.ndarray) -> np.ndarray:
    return np.asarray(np.array(manifest.split_names)[manifest.splits[places]])


def _regrouped(before: RunManifest, now: RunManifest, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """True for pairs that share a group with others now than before, among the pairs."""
    return np.asarray(first_of_each(before.groups[old]) != first_of_each(now.groups[new]))
