"""The phantom as a data set: splits of patients, rendered into memory, and their lesion masks."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ttl_jax.config.data import DataConfig
from ttl_jax.data.dataset import ArrayReader, Dataset, Origin
from ttl_jax.data.phantom.render import Rendered, group_id, image_id, parse_id, render
from ttl_jax.data.phantom.sampling import CLASS_NAMES, MODALITIES, Phantom, labels, splits
from ttl_jax.errors import UserError
from ttl_jax.typing import Bool, Int, UInt8


def phantom_of(config: DataConfig) -> Phantom:
    """The phantom that a data config describes. Raises UserError on a wrong modality, task, ..."""
    prefix, _, modality = config.name.partition("/")
    if prefix != "phantom" or not modality:
        raise UserError(
            f"data.name is {config.name!r}, but a phantom is 'phantom/MODALITY' "
            f"(modalities: {', '.join(MODALITIES)})."
        )
    return Phantom(modality, config.phantom_task, config.phantom_seed, config.phantom_difficulty)


def load(config: DataConfig) -> dict[str, Dataset]:
    """Render the data set that `config` describes (its name and its phantom_* fields).

    Returns:
        "train", "val" and "test" (60 / 15 / 25 % of the patients, stratified) and "shifted": as
        many other patients as "test" has, imaged at another hospital. Classes benign, malignant.

    Raises:
        UserError: a field is out of range, a split would lack a class, or memory would not do.
    """
    phantom = phantom_of(config)
    patients, views, size = (
        config.phantom_patients,
        config.phantom_images_per_patient,
        config.image_size,
    )
    if views < 1 or size < 16:
        raise UserError(
            f"data.phantom_images_per_patient is {views} and data.image_size is {size}: "
            "a phantom needs at least 1 and 16."
        )
    gigabytes = 1.25 * patients * views * size * size * 3 / 1e9
    if gigabytes > config.cache_gb:
        raise UserError(
            f"this phantom takes {gigabytes:.1f} GB of memory and data.cache_gb is "
            f"{config.cache_gb}: ask for fewer data.phantom_patients or a smaller data.image_size."
        )
    label = labels(phantom, max(patients, 0))
    split = splits(phantom, max(patients, 0), config.split_seed)
    members = {name: np.flatnonzero(split == name) for name in ("train", "val", "test")}
    for name, chosen in members.items():
        if len(set(label[chosen])) < len(CLASS_NAMES):
            raise UserError(
                f"data.phantom_patients is {patients}: split {name!r} would lack a class; "
                "ask for at least 20."
            )
    others = np.arange(len(members["test"]))
    away = labels(phantom, len(others), shifted=True)
    return {
        name: _dataset(phantom, name, chosen, label[chosen], views, size) for name, chosen in members.items()
    } | {"shifted": _dataset(phantom, "shifted", others, away, views, size)}


def _dataset(
    phantom: Phantom,
    name: str,
    patients: Int[np.ndarray, " p"],
    label: Int[np.ndarray, " p"],
    views: int,
    size: int,
) -> Dataset:
    shifted = name == "shifted"
    images = np.empty((len(patients) * views, size, size, 3), np.uint8)
    for row, (patient, value) in enumerate(zip(patients, label, strict=True)):
        for view in range(views):
            picture = render(phantom, int(patient), view, int(value), size, shifted=shifted)
            images[row * views + view] = picture.image
    return Dataset(
        name=name,
        labels=np.repeat(label, views).astype(np.int32),
        ids=np.array([image_id(int(p), v, shifted) for p in patients for v in range(views)]),
        groups=np.array([group_id(int(p), shifted) for p in patients for _ in range(views)]),
        class_names=CLASS_NAMES,
        task="multiclass",
        images=ArrayReader(images),
        origin=Origin(f"{phantom.modality}, generated: no patient's image", "made anew, patient by patient"),
    )


def masks(config: DataConfig, ids: Iterable[str]) -> Bool[np.ndarray, "n s s"]:
    """Lesion masks, bool (n, image_size, image_size), of the images with these ids, in this order.

    Both classes have a lesion. Raises UserError on an id that is not a phantom's.
    """
    pictures = [_again(config, text, healthy=False).mask for text in ids]
    return np.array(pictures, bool).reshape(-1, config.image_size, config.image_size)


def without_lesion(config: DataConfig, ids: Iterable[str]) -> UInt8[np.ndarray, "n s s 3"]:
    """The same images, uint8 (n, image_size, image_size, 3), had there been no lesion."""
    pictures = [_again(config, text, healthy=True).image for text in ids]
    return np.array(pictures, np.uint8).reshape(-1, config.image_size, config.image_size, 3)


def _again(config: DataConfig, text: str, healthy: bool) -> Rendered:
    phantom = phantom_of(config)
    patient, view, shifted = parse_id(str(text))
    label = int(labels(phantom, patient + 1, shifted)[patient])
    return render(phantom, patient, view, label, config.image_size, shifted=shifted, healthy=healthy)
