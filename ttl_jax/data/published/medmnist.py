"""MedMNIST v2 and MedMNIST+: 12 sets of images and 6 of volumes (Yang et al. 2023), at every size.

Layout: NAME.npz at 28 pixels a side, NAME_SIZE.npz above (64, 128, 224; volumes 64), each with
{train,val,test}_{images,labels}. No patient is named; the official splits are kept.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ttl_jax.data.images.decode import ImageSource, Stack
from ttl_jax.data.published.layout import need, published
from ttl_jax.data.sources.listing import Listing
from ttl_jax.data.sources.npz import read_npz
from ttl_jax.errors import UserError

_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left",
    "lung-right", "pancreas", "spleen",
)  # fmt: skip
# The owner's names (medmnist/info.py), in the order of the labels.
IMAGES = {
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
        "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "chestmnist": (
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia",
        "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia",
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma",
        "benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions",
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "breastmnist": ("malignant", "normal, benign"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte",
        "neutrophil", "platelet",
    ),
    "tissuemnist": (
        "Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells",
        "Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments",
        "Thick Ascending Limb",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}  # fmt: skip
VOLUMES = {
    "organmnist3d": (
        "liver", "kidney-right", "kidney-left", "femur-right", "femur-left", "bladder", "heart", "lung-right",
        "lung-left", "spleen", "pancreas",
    ),
    "nodulemnist3d": ("benign", "malignant"),
    "adrenalmnist3d": ("normal", "hyperplasia"),
    "fracturemnist3d": (
        "buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture",
    ),
    "vesselmnist3d": ("vessel", "aneurysm"),
    "synapsemnist3d": ("inhibitory synapse", "excitatory synapse"),
}  # fmt: skip
# Every file: (name, size) -> its name without ending.
FILES = {
    (name, size): name if size == 28 else f"{name}_{size}"
    for sets, sizes in ((IMAGES, (28, 64, 128, 224)), (VOLUMES, (28, 64)))
    for name in sets
    for size in sizes
}


def read_medmnist(folder: Path, name: str, size: int) -> Listing:
    """List one file's images or volumes under their classes' names.

    Args:
        folder: Folder that holds the .npz files.
        name: Name of the set.
        size: Pixels per side.

    Raises:
        UserError: no such file, another size in it, or labels of other classes.
    """
    file = need(folder / f"{FILES[name, size]}.npz", "MedMNIST")
    listing = read_npz(file, how="columns")
    names, wanted = (IMAGES | VOLUMES)[name], (size,) * (3 if name in VOLUMES else 2)
    if (shape := _shape(listing.images[0])) != wanted:
        raise UserError(f"{file} holds images of {shape} pixels, not {name} at {size}; fetch it anew")
    given = [int(text) if text.isdecimal() else len(names) for text in listing.class_names]
    several = listing.task == "multilabel"
    fits = max(given) < len(names) and several == (name == "chestmnist")
    if not fits or (several and len(given) != len(names)):
        raise UserError(
            f"{file} has the labels {', '.join(listing.class_names)}, not the {len(names)} of {name}; "
            "fetch it anew"
        )
    # A class that the file happens to lack leaves a gap in its numbers.
    return replace(
        listing, class_names=names, labels=listing.labels if several else np.array(given)[listing.labels]
    )


def _shape(image: ImageSource) -> tuple[int, ...]:
    """Return the shape of an array or a stack of arrays, without the colour axis."""
    if isinstance(image, Stack):
        return len(image.slices), *np.asarray(image.slices[0]).shape
    return np.asarray(image).shape[:2]


for (_name, _size), _stem in FILES.items():
    published(f"medmnist/{_stem}", "depth")(partial(read_medmnist, name=_name, size=_size))
