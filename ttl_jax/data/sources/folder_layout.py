"""Layouts of a folder of class folders: patients' folders, masks beside images, a path off by one."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ttl_jax.data.sources.file_kinds import FileKind

_IMAGE = r"images?|imgs?|pictures?|scans?|originals?"
_MASK = (
    r"masks?|seg|segm|segs|segmentations?|labels?|annot|annotations?|ground_?truth|gt|rois?|contours?|outlines?"
    r"|manual|bin|binary"
)
_MASK_FOLDER = re.compile(_MASK, re.IGNORECASE)
# x_mask, x_lung_mask, x_mask_2, xMask
_MASK_FILE = re.compile(
    rf"(.+?)(?:[ _.-]+(?:[a-z]+[ _.-]+)?(?:{_MASK})(?:[ _.-]+[a-z]+)?(?:[ _.-]*\d+)?"
    r"|(?-i:Mask|Seg|Segmentation|GT))",
    re.IGNORECASE,
)
_MASK_BEFORE = re.compile(rf"(?:{_MASK})[ _.-]+(.+)", re.IGNORECASE)
_IMAGE_FOLDER = re.compile(_IMAGE, re.IGNORECASE)
# Folders that part a class in the same way in each: numbered ones, sides, views, images and masks.
_PART = re.compile(
    rf".*\d.*|left|right|axial|coronal|sagittal|frontal|lateral|{_IMAGE}|{_MASK}", re.IGNORECASE
)
LEAST = 3  # folders within each class that may be patients
DEEPEST = 4  # levels below a class at which they are looked for


def without_masks(files: Sequence[Path], kind: FileKind) -> tuple[list[Path], list[Path]]:
    """Part the files of one folder and its sub-folders into images and the masks that belong to them.

    A mask is called as an image beside it with "_mask", "_seg" or the like behind, or lies in a folder
    of such a name beside a folder "images" or beside the images themselves.

    Args:
        files: The files of a class.
        kind: Kind of the files.
    """
    stems: dict[Path, set[str]] = {}
    beside: dict[Path, set[str]] = {}
    for file in files:
        stems.setdefault(file.parent, set()).add(kind.stem(file.name) or file.name)
        beside.setdefault(file.parent.parent, set()).add(file.parent.name)
    images: list[Path] = []
    masks: list[Path] = []
    for file in files:
        stem, above = kind.stem(file.name) or file.name, stems.get(file.parent.parent, set())
        apart = is_mask_folder(file.parent.name, beside[file.parent.parent]) or (
            _MASK_FOLDER.fullmatch(file.parent.name) and (stem in above or _is_mask(stem, above))
        )
        (masks if apart or _is_mask(stem, stems[file.parent]) else images).append(file)
    return images, masks


def _is_mask(stem: str, beside: set[str]) -> bool:
    """Return True for a file called as a mask of one beside it: x_mask or mask_x, and x, x_t1 or img_x."""
    if match := _MASK_FILE.fullmatch(stem):
        images = {other for other in beside if not _MASK_FILE.fullmatch(other)}
        return any(
            other == match[1] or other.startswith((f"{match[1]}_", f"{match[1]}-")) for other in images
        )
    if match := _MASK_BEFORE.fullmatch(stem):
        image = re.compile(rf"(?:(?:{_IMAGE})[ _.-]+)?{re.escape(match[1])}", re.IGNORECASE)
        return any(map(image.fullmatch, beside))
    return False


def is_mask_folder(name: str, beside: set[str]) -> bool:
    """Return True for a folder of masks: called so, with a folder of images beside it."""
    return bool(_MASK_FOLDER.fullmatch(name)) and any(map(_IMAGE_FOLDER.fullmatch, beside))


def mask_classes(classes: dict[str, list[Path]]) -> list[str]:
    """Return the class folders that are called as masks and hold masks of the others' images alone.

    Args:
        classes: The images of each class folder, by its name.
    """
    stems = {name: {file.stem for file in files} for name, files in classes.items()}
    splits = []
    for name, own in stems.items():
        others = [each for label, each in stems.items() if label != name]
        if _MASK_FOLDER.fullmatch(name) and all(
            any(stem in each or _is_mask(stem, each) for each in others) for stem in own
        ):
            splits.append(name)
    return splits


def patient_folders(inside: Sequence[tuple[str, tuple[str, ...]]], first: bool) -> list[str] | None:
    """Return each image's folder within its class, where these folders are patients (or lesions, or scans).

    Taken for patients are the folders of the first level at which every class has three or more, none with
    most of the class's images. One name in two classes is one patient.

    Args:
        inside: (class, folders between the class's folder and the file) of each image.
        first: Take the first level, whatever it looks like.
    """
    if not all(folders for _, folders in inside):
        return None
    if first:
        return [folders[0] for _, folders in inside]
    for depth in range(1, DEEPEST + 1):
        names = [folders[:depth] for _, folders in inside if len(folders) >= depth]
        if len(names) < len(inside):
            return None
        counts: dict[str, Counter[tuple[str, ...]]] = {}
        for (label, _), name in zip(inside, names, strict=True):
            counts.setdefault(label, Counter())[name] += 1
        if all(len(own) >= LEAST and 2 * max(own.values()) <= own.total() for own in counts.values()):
            return ["/".join(name) for name in names]
        if any(len(own) > 1 for own in counts.values()):
            return None  # they part the class into something, but not into patients
    return None


def off_by_one(root: Path, kind: FileKind, classes: Sequence[Path]) -> str:
    """Return the sentence for a path that is one folder too high or too low; "" where it is neither.

    Args:
        root: The folder that was named.
        kind: Kind of file that counts as an image.
        classes: Its visible folders.
    """
    classes = [
        folder for folder in classes if any(_holds(Path(place), kind) for place, *_ in os.walk(folder))
    ]
    if not classes:
        above = root.resolve().parent
        around = [folder for folder in _folders(above) if _holds(folder, kind)]
        if _holds(root, kind) and len(around) > 1:
            names = ", ".join(folder.name for folder in around[:3])
            return (
                f"{root} is one class's folder; name the one above the classes ({names}): data.path={above}"
            )
        return ""
    if any(_holds(folder, kind) for folder in classes):
        return ""  # images stand where classes' images do
    below = [{folder.name for folder in _folders(each)} for each in classes]
    if len(classes) == 1 and len(below[0]) > 1:
        inside = ", ".join(sorted(below[0])[:3])
        return f"{root} holds one folder, and that one holds {inside}: set data.path={classes[0]}"
    counts = Counter(name for names in below for name in names)
    # The same in each, or each in several: the folders are hospitals, splits or patients.
    repeated = (
        all(each == below[0] for each in below) or len(counts) < len(classes) and min(counts.values()) > 1
    )
    if len(classes) > 1 and len(counts) > 1 and repeated and not any(map(_PART.fullmatch, counts)):
        inside, places = ", ".join(sorted(counts)[:3]), " and ".join(each.name for each in classes[:2])
        return (
            f"{root} is above the classes: its folders, as {places}, hold {inside}; name one of them, as "
            f"data.path={classes[0]}; where {places} are patients, name images, labels and patients in a "
            f"table; where they are the classes, set data.group=file, or folder if {inside} are patients"
        )
    return ""


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(each for each in place.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError:
        return []


def _holds(folder: Path, kind: FileKind) -> bool:
    """Return True if files of the kind lie directly in a folder."""
    try:
        return any(kind.accepts(Path(entry.path)) for entry in os.scandir(folder) if entry.is_file())
    except OSError:
        return False
