"""The fields that describe a data set."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ttl_jax.config.fields import Section, option

# What makes a data set the one that it is: in a comparison a preset's are never overruled.
IDENTITY = ("name", "path", "root", "image", "label", "group", "split")


@dataclass(frozen=True)
class DataConfig(Section):
    """The images, their size, and how they are split."""

    name: str = option(
        "folder",
        "kind of source: folder, csv, npz, dicom, nifti, record, phantom/MODALITY, or a published layout "
        "(see `ttl-jax datasets`)",
    )
    path: str = option("", "folder, table or .npz file; of name=record, the folder that `prepare` wrote")
    root: str = option("", "tables: folder that image names are relative to; empty is the table's own")
    image: str = option("image", "tables: column with the image's path, with or without extension")
    label: str = option(
        "label", "tables: label column, or several with commas between them (0, 1, empty = unknown)"
    )
    labels: str = option(
        "auto",
        "reading of labels: auto (by what stands in them), classes (one an image; of several columns, the "
        "one with the 1), several (labels an image: columns of 1 and 0, or words as a|b or ['a', 'b']), or "
        "columns (one column is classes, more are labels)",
        choices=("auto", "classes", "several", "columns"),
    )
    group: str = option(
        "",
        "tables: column that must not straddle splits (patient, lesion); empty is the image itself. dicom: a "
        "column, a DICOM keyword such as StudyInstanceUID, or file; empty is PatientID. folder: folder (each "
        "within a class is a patient's) or file; empty looks whether they seem to be",
    )
    positive: str = option(
        "auto",
        "two classes: the positive one, which AUPRC, sensitivity and thresholds are of; auto is the one "
        "whose name does not say normal, healthy, negative, benign, control or no finding, else the last",
    )
    split: str = option("", "tables: column with train, val or test; empty splits here")
    splits: str = option("", "JSON file of the split made here: written once, then reused")
    image_size: int = option(224, "pixels a side that the network gets", above=0)
    resize: str = option(
        "squash",
        "squash (both sides to image_size), crop (short side, then the centre) or pad (long side)",
        choices=("squash", "crop", "pad"),
    )
    pad_value: int = option(0, "gray of the border of resize=pad", at_least=0, at_most=255)
    val_fraction: float = option(
        0.15, "share of the images held out for validation where the data have none", above=0, below=1
    )
    test_fraction: float = option(
        0.15, "share of the images held out for the test where the data have none", above=0, below=1
    )
    split_seed: int = option(0, "seed of the split; independent of the training's seed", at_least=0)
    split_rule: int = option(
        2,
        "rule of a split made here: 2 gives every group the same chance to be held out; 1, which kept large "
        "ones in train, is gone and stands in older runs whose data have splits of their own",
    )
    folds: int = option(
        0, "if positive, so many stratified folds of whole groups instead of the two fractions", at_least=0
    )
    fold: int = option(
        0, "fold that is the test split; the next one is val, or this one where the data have a test split"
    )
    train_share: float = option(
        1.0,
        "share of the training images to keep: whole groups, stratified, nested (0.05 lies within 0.1)",
        above=0,
        at_most=1,
    )
    train_limit: int = option(
        0, "if positive, about so many training images: whole groups, stratified, nested", at_least=0
    )
    on_error: str = option(
        "fail", "at an image that cannot be read: fail, or skip it and say so", choices=("fail", "skip")
    )
    allow_leaks: bool = option(
        False, "accept a split of your own in which a group or a copy of an image straddles"
    )
    duplicates: str = option(
        "altered",
        "images that count as copies, which share a group: altered (same pixels, alike, or shifted, cropped, "
        "turned by a few degrees, marked or padded), near (same pixels, or alike), exact (same pixels) or "
        "ignore; an image of one colour is a copy of none",
        choices=("altered", "near", "exact", "ignore"),
    )
    likeness: float = option(
        0.97,
        "altered, near: least correlation of two gray thumbnails that are alike; lower joins neighbouring "
        "slices too; mirrored and turned by quarters: halfway from it to 1",
        above=0,
        at_most=1,
    )
    resplit: bool = option(False, "leave the data's own split aside (one that leaks) and make another one")
    keep_ids: bool = option(
        False,
        "keep ids, groups and identifying columns in predictions, reports and logs; else these have keyed "
        "hashes (docs/privacy.md)",
    )
    cache_gb: float = option(
        4.0, "decoded images up to this size are held in memory, larger sets decoded on the fly", at_least=0
    )
    window: str = option(
        "",
        "dicom, nifti: lung, mediastinum, bone, brain, CENTER/WIDTH, range (minimum to maximum) or "
        "percentile (0.5 to 99.5 %); empty is the file's own, else range",
    )
    slices: str = option(
        "all",
        "dicom, nifti: all, middle, or a number of evenly spaced slices, each an example; volume: all of "
        "them are one example, (depth, image_size, image_size, 3)",
    )
    depth: int = option(32, "slices that a volume is scaled to", above=0)
    plane: str = option("axial", "nifti: axial, coronal or sagittal")
    spacing: float = option(
        0.0, "dicom, nifti: millimetres a pixel before image_size is applied; 0 is as stored",
        at_least=0, below=1000,
    )  # fmt: skip
    phantom_patients: int = option(200, "phantom: generated patients", at_least=1)
    phantom_images_per_patient: int = option(3, "phantom: images of each patient", at_least=1)
    phantom_task: str = option("texture", "phantom: what the label depends on, texture or shape")
    phantom_difficulty: float = option(0.5, "phantom: from 0 (easy) to 1 (hard)")
    phantom_seed: int = option(0, "phantom: seed of the patients", at_least=0)


def generated(name: str) -> bool:
    """Return whether a data.name means generated images: a phantom's, which read no path."""
    return name.startswith("phantom/")


def data_config(values: DataConfig) -> DataConfig:
    """Returns the fields of a run's `config.data` that describe the data, not the training."""
    return DataConfig(**{item.name: getattr(values, item.name) for item in fields(DataConfig)})
