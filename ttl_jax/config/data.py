"""The fields that describe a data set, each with its default."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class DataConfig:
    """What to read, at which size, and how to split it.

    Attributes:
        name: "folder", "csv", "npz", "dicom", "nifti", "record" or "phantom/MODALITY".
        path: the folder, the table or the .npz file; dicom, nifti: class folders or a table; record:
            the folder that `prepare` wrote.
        root: csv: the folder that image names are relative to; "" is the table's own folder.
        image: csv: the column with the image's path, with or without extension.
        label: csv: the label column, or several with commas between them (0, 1, empty = unknown).
        group: csv: the column that must not straddle splits (patient, lesion); "" = the image.
            dicom: a column of the table or a DICOM keyword such as StudyInstanceUID, or "file"; "" =
            PatientID.
        split: csv: the column with train, val or test; "" = split here.
        splits: a JSON file: written with the split made here, reused when it exists.
        image_size: pixels a side that the network gets.
        resize: "squash" (both sides to size), "crop" (short side, then centre) or "pad" (long side).
        pad_value: 0..255, the gray of the border of "pad".
        val_fraction: share of the images held out for validation where the data has none.
        test_fraction: share held out for the test where the data has none.
        split_seed: which of the possible splits; independent of the training seed.
        split_rule: how a split is made here; 2 gives every group the same chance to be held out. 1 kept
            large ones in train and is gone: it is for runs begun with it whose data have splits.
        folds: if positive, so many folds of whole groups, stratified, instead of the two fractions.
        fold: which of them is the test, and the next one val; val where the data has a test of its own.
        train_share: share of the training images to keep: whole groups, stratified, nested (0.05 lies
            within 0.1).
        train_limit: if positive, about so many training images: whole groups, stratified, nested.
        on_error: "fail" at an image that cannot be read, or "skip" it and say so.
        allow_leaks: accept a split of the user's own in which a group or a copy of an image straddles.
        duplicates: which images count as copies of each other: "altered" (same pixels, alike, or shifted,
            cropped, turned by a few degrees, marked or padded), "near" (same pixels, or alike), "exact" (same
            pixels) or "ignore". Copies share a group: a split made here keeps them together. An image of
            one colour is a copy of none.
        likeness: "altered", "near": least correlation of two gray thumbnails that are alike; lower joins
            neighbouring slices too. Mirrored and turned by quarters: halfway from it to 1.
        resplit: leave the data's own split aside (one that leaks) and make another one here.
        cache_gb: decoded images up to this size are held in memory, larger sets decoded on the fly.
        window: dicom, nifti: "lung", "mediastinum", "bone", "brain", "CENTER/WIDTH", "range" (minimum
            to maximum) or "percentile" (0.5 to 99.5 %); "" = the file's own, else "range".
        slices: dicom, nifti: "all", "middle" or a number of evenly spaced frames or slices, each an
            example; "volume": all of them are one example, (D, S, S, 3).
        depth: D, slices that a volume is scaled to.
        plane: nifti: "axial", "coronal" or "sagittal".
        spacing: dicom, nifti: millimetres a pixel before image_size is applied; 0 = as stored.
        phantom_patients: phantom: generated patients.
        phantom_images_per_patient: phantom: images of each.
        phantom_task: phantom: what the label depends on.
        phantom_difficulty: phantom: 0 (easy) to 1 (hard).
        phantom_seed: phantom: which patients.
    """

    name: str = "folder"
    path: str = ""
    root: str = ""
    image: str = "image"
    label: str = "label"
    group: str = ""
    split: str = ""
    splits: str = ""
    image_size: int = 224
    resize: str = "squash"
    pad_value: int = 0
    val_fraction: float = 0.15
    test_fraction: float = 0.15
    split_seed: int = 0
    split_rule: int = 2
    folds: int = 0
    fold: int = 0
    train_share: float = 1.0
    train_limit: int = 0
    on_error: str = "fail"
    allow_leaks: bool = False
    duplicates: str = "altered"
    likeness: float = 0.97
    resplit: bool = False
    cache_gb: float = 4.0
    window: str = ""
    slices: str = "all"
    depth: int = 32
    plane: str = "axial"
    spacing: float = 0.0
    phantom_patients: int = 200
    phantom_images_per_patient: int = 3
    phantom_task: str = "texture"
    phantom_difficulty: float = 0.5
    phantom_seed: int = 0


def data_config(values: Any) -> DataConfig:
    """The fields of a run's `config.data` (a ConfigDict) that describe the data, not the training."""
    return DataConfig(**{item.name: values[item.name] for item in fields(DataConfig)})
