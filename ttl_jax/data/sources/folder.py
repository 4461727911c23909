"""Images in class folders, with train/ val/ test/ above them or not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from ttl_jax.data.sources.file_kinds import IMAGES, KINDS, FileKind
from ttl_jax.data.sources.folder_layout import (
    is_mask_folder,
    mask_classes,
    off_by_one,
    patient_folders,
    without_masks,
)
from ttl_jax.data.sources.label_columns import folded
from ttl_jax.data.sources.listing import SPLIT_ALIASES, Listing, make_listing, source
from ttl_jax.errors import UserError, nearest


def read_folder(path: str | Path, kind: FileKind = IMAGES, group: str = "") -> Listing:
    """List a folder of class folders; sub-folders of a class belong to it.

    Every image is its own group, unless the folders within the classes are patients'. Hidden files and
    folders are passed over; masks beside images, and other files that are no images by their ending, are
    counted and printed.

    Args:
        path: The folder above the class folders.
        kind: Kind of file that counts as an image.
        group: "folder" (each folder within a class is a patient's), "file" (each image by itself), or "",
            by what they look like.

    Raises:
        UserError: no such folder, no class folders, an empty class, a class that training lacks,
            fewer than two classes, or links that go round in a circle.
    """
    root = Path(path)
    if not root.is_dir():
        raise UserError(f"data.path={str(path)!r} is not a folder; name the one above the classes")
    if group not in ("", "file", "folder"):
        raise UserError(
            f"data.group={group!r} is for a table (data.name=csv); class folders take folder or file"
        )
    children = _folders(root)
    with_splits = any(folder.name.lower() in SPLIT_ALIASES for folder in children)
    if not group and not with_splits and (fault := off_by_one(root, kind, children)):
        raise UserError(fault)
    parts = _split_folders(root)
    other: list[Path] = _files(root)
    files: list[Path] = []
    inside: list[tuple[str, tuple[str, ...]]] = []
    masks: list[Path] = []
    labels: list[str] = []
    splits: list[str] = []
    for split, folder in parts:
        if split:
            other += _files(folder)
        classes = _folders(folder)
        if not classes:
            raise UserError(f"{folder} has no class folders; put each class's images in a folder of its name")
        listed = {each: _images(each, kind) for each in classes}
        apart = mask_classes({each.name: images for each, (images, _) in listed.items()})
        for class_folder, (images, rest) in listed.items():
            if class_folder.name in apart:
                masks += images
                continue
            images, beside = without_masks(images, kind)
            masks += beside
            other += rest
            if not images:
                raise UserError(_empty(class_folder, rest, kind))
            files += images
            inside += [(class_folder.name, file.relative_to(class_folder).parts[:-1]) for file in images]
            labels += [class_folder.name] * len(images)
            splits += [split] * len(images)
    _report_left_out(root, other, kind)
    groups, notes = _groups(root, files, inside, group)
    if masks:
        notes += (f"left out {len(masks)} masks beside the images, as {masks[0].relative_to(root)}",)
    for note in notes:
        print(f"{root}: {note}", flush=True)
    names = _class_names(root, labels, splits)
    number = {name: place for place, name in enumerate(names)}
    listing = make_listing(
        str(root),
        files,
        [str(file) for file in files],
        [file.relative_to(root).as_posix() for file in files],
        np.array([number[label] for label in labels]),
        names,
        groups=groups,
        splits=splits if parts[0][0] else None,
    )
    folders = ", ".join(f"{folder.name}/" for _, folder in parts)
    return replace(listing, notes=notes, splits_from=f"the folders {folders}")


def _groups(
    root: Path, files: list[Path], inside: list[tuple[str, tuple[str, ...]]], group: str
) -> tuple[list[str] | None, tuple[str, ...]]:
    """Return the images' groups, None where each is its own, and a sentence where folders could be some."""
    if group == "file" or not any(folders for _, folders in inside):
        if group == "folder":
            raise UserError(f"data.group=folder: the classes of {root} have no folders in them")
        return None, ()
    patients = patient_folders(inside, first=group == "folder")
    if patients is None and group == "folder":
        stray = next(file for file, (_, folders) in zip(files, inside, strict=True) if not folders)
        raise UserError(f"data.group=folder: {stray} is in no folder within its class")
    if patients is None:
        return None, ("the folders within the classes are not taken for patients (data.group=folder does)",)
    count = len(set(patients))
    return patients, (f"the {count} folders within the classes are patients (data.group=file: they are not)",)


def _split_folders(root: Path) -> list[tuple[str, Path]]:
    """[(split, folder)], or [("", root)] where the class folders stand directly in `root`."""
    folders = _folders(root)
    if not folders:
        raise UserError(f"{root} has no folders in it; put each class's images in a folder of its name")
    splits = [(SPLIT_ALIASES[name.lower()], folder) for folder in folders
              if (name := folder.name).lower() in SPLIT_ALIASES]  # fmt: skip
    if masks := [each for each in folders if is_mask_folder(each.name, {other.name for other in folders})]:
        raise UserError(
            f"{root} holds images and their masks ({masks[0].name}/), not classes; put each class's images "
            "in a folder of its name, or list them in a table"
        )
    names = [split for split, _ in splits]
    layout = any(split == "train" and _folders(folder) for split, folder in splits)
    if not layout:
        if len(splits) == len(folders) and any(_folders(folder) for folder in folders):
            raise UserError(f"{root} has {', '.join(names)} but no train folder; add train/")
        return [("", root)]
    for split in names:
        if names.count(split) > 1:
            both = " and ".join(folder.name + "/" for name, folder in splits if name == split)
            raise UserError(f"{root} has {both}, which both mean {split}; merge them")
    strangers = [folder.name for folder in folders if folder.name.lower() not in SPLIT_ALIASES]
    if strangers:
        raise UserError(f"{root} has {strangers[0]}/ beside train/; move it away, or rename it val/ or test/")
    return splits


def _class_names(root: Path, labels: list[str], splits: list[str]) -> tuple[str, ...]:
    training = {label for label, split in zip(labels, splits, strict=True) if split in ("", "train")}
    names = tuple(sorted(training))
    for label, split in zip(labels, splits, strict=True):
        if label not in training:
            raise UserError(
                f"class folder {label!r} stands in {split} of {root} but not in train"
                f"{nearest(label, names)}; rename, move or remove it"
            )
    spelt: dict[str, str] = {}
    for name in names:
        if spelt.setdefault(folded(name), name) != name:
            raise UserError(
                f"{root} has the class folders {spelt[folded(name)]!r} and {name!r}, which differ in case, "
                "accents or spaces alone; merge them, or rename one"
            )
    if len(names) < 2:
        tables = [file for file in _files(root) if file.suffix.lower() in (".csv", ".tsv")]
        remedy = f"name its table: data.path={tables[0]}" if tables else "add a folder for another one"
        raise UserError(f"{root} has one class only ({names[0]}); {remedy}")
    return names


def _images(folder: Path, kind: FileKind) -> tuple[list[Path], list[Path]]:
    """(images, other files) under a class folder, links followed, in the order of their names."""
    images: list[Path] = []
    rest: list[Path] = []

    def walk(place: Path, above: tuple[str, ...]) -> None:
        real = os.path.realpath(place)
        if real in above:
            raise UserError(f"{place} is a link to a folder above itself; remove the link")
        for file in _files(place):
            (images if kind.accepts(file) else rest).append(file)
        for child in _folders(place):
            walk(child, (*above, real))

    walk(folder, (os.path.realpath(folder.parent),))
    return images, rest


def _folders(folder: Path) -> list[Path]:
    return [item for item in _visible(folder) if item.is_dir()]


def _files(folder: Path) -> list[Path]:
    return [item for item in _visible(folder) if not item.is_dir()]


def _visible(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({error.strerror}); check its rights") from None
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise UserError(
                f"{folder} holds a file whose name is not UTF-8 ({os.fsencode(name)!r}); rename it"
            ) from None
    return [folder / name for name in names if not name.startswith(".") and name != "__MACOSX"]


def _empty(folder: Path, rest: list[Path], kind: FileKind) -> str:
    for other in KINDS:
        if other is not kind and any(other.accepts(file) for file in rest):
            return (
                f"class folder {folder} holds no {kind.noun}, only files ending in {_kinds(rest)}; read "
                f"{other.noun}s with data.name={other.source}"
            )
    seen = f", only files ending in {_kinds(rest)}" if rest else ""
    return f"class folder {folder} holds no {kind.noun}{seen}; fill it or remove it"


def _kinds(files: list[Path]) -> str:
    return ", ".join(sorted({file.suffix or file.name for file in files})[:5])


def _report_left_out(root: Path, other: list[Path], kind: FileKind) -> None:
    if other:
        plural = f"file that is no {kind.noun}" if len(other) == 1 else f"files that are no {kind.noun}s"
        print(
            f"{root}: left out {len(other)} {plural} of a class, the first is {other[0]}",
            flush=True,
        )


source("folder", "group")(lambda config: read_folder(config.path, group=config.group))
