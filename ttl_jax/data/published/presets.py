"""Named data sets: the config fields that each one fills in, its licence and its citation.

A preset holds no images. `DATA_DIR` in a path stands for the folder given on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ttl_jax import registry
from ttl_jax.config import parse_arg, set_fields
from ttl_jax.config.run import RunDataConfig
from ttl_jax.data.augment.pipeline import Spec, parse_augment
from ttl_jax.data.published.medmnist import FILES, VOLUMES
from ttl_jax.errors import UserError, nearest

if TYPE_CHECKING:
    from ml_collections import ConfigDict


# What may stand behind the colon of a config file that trains one network on one data set.
GIVEN = {
    "dataset": "phantom/dermoscopy",
    "data_dir": "../shared/data",  # where the presets look for files
    "model": "efficientnet_lite0",
    "weights": "imagenet",
}
PHANTOM_MODALITIES = ("radiograph", "mri", "histology", "dermoscopy", "endoscopy")


@dataclass(frozen=True)
class Preset:
    """One data set that users know by name.

    Attributes:
        fields: Dotted config fields and their values.
        licence: Terms of the data set's owner.
        citation: Publication to cite.
        note: Caveat that a user must know before trusting a score on it.
        group: Kind of group that never straddles splits. "" if the owner names none, and each image is its
            own group.
        metric: Validation metric that picks the best checkpoint (`select`).
    """

    fields: dict[str, Any]
    licence: str
    citation: str
    note: str = ""
    group: str = ""
    metric: str = "auroc"


def _medmnist(name: str, note: str = "", *, resplit: bool = False, positive: str = "auto") -> Preset:
    return Preset(
        {
            "data.name": "npz",
            "data.path": f"DATA_DIR/medmnist/{name}.npz",
            "data.image_size": 64,
            "data.augment": "none",
            # The official split is kept for comparison with published figures, with its copies; split
            # anew there are none, but images that their owner labels in two ways stay.
            "data.allow_leaks": True,
            "data.resplit": resplit,
            "data.positive": positive,
        },
        "CC BY 4.0",
        "Yang et al. 2023, MedMNIST v2, doi:10.1038/s41597-022-01721-8",
        note,
    )


PRESETS: dict[str, Preset] = {
    **{
        f"phantom/{modality}": Preset(
            {"data.name": f"phantom/{modality}", "data.image_size": 64},
            "generated, no licence needed",
            "ttl_jax/data/phantom",
            group="patient",
        )
        for modality in PHANTOM_MODALITIES
    },
    "breastmnist": _medmnist(
        "breastmnist",
        "label 0 is malignant; no patient ids; 59 of 156 test images of the official split have a "
        "near-duplicate or altered copy in train: see breastmnist_resplit",
        positive="0",
    ),
    "breastmnist_resplit": _medmnist(
        "breastmnist",
        "label 0 is malignant; split anew with near-duplicates kept together, 3 of which differ in label",
        resplit=True,
        positive="0",
    ),
    "pneumoniamnist": _medmnist(
        "pneumoniamnist", "no patient ids; 8 val images of the official split stand in train too"
    ),
    "brain_tumor_mri": Preset(
        {
            "data.name": "folder",
            "data.path": "DATA_DIR/brain_tumor_mri",
            "data.image_size": 64,
            "data.augment": "flip",
            # Looser than the default, so that neighbouring slices of a patient join: 1,806 of 3,264
            # images in 627 clusters, none above 10.
            "data.resplit": True,
            "data.likeness": 0.93,
        },
        "research use",
        "Bhuvaji et al. 2020, Brain Tumor Classification (MRI)",
        "the author's own split leaks (251 of 394 test images stand in its train, pixel by pixel); split "
        "anew, look-alikes together; no patient ids, so a patient's unlike slices may still be in two splits",
    ),
    "lc25000_colon": Preset(
        {
            "data.name": "folder",
            "data.path": "DATA_DIR/lc25000_colon",
            "data.image_size": 64,
            "data.augment": "flip,flip_vertical",
        },
        "research use",
        "Borkowski et al. 2019, LC25000, arXiv:1912.12142",
        "augmented copies of fewer originals: near-duplicates straddle a random split",
    ),
    "ham10000": Preset(
        {
            "data.name": "csv",
            "data.path": "DATA_DIR/ham10000/metadata.csv",
            "data.root": "DATA_DIR/ham10000/images",
            "data.image": "image_id",
            "data.label": "dx",
            "data.group": "lesion_id",
            "data.image_size": 64,
            "data.augment": "flip,flip_vertical",
            "data.class_weights": "balanced",
        },
        "CC BY-NC 4.0",
        "Tschandl et al. 2018, HAM10000, doi:10.1038/sdata.2018.161",
        group="lesion",
    ),
}


def _published(
    name: str,
    folder: str,
    augment: str,
    licence: str,
    citation: str,
    note: str = "",
    group: str = "",
    metric: str = "auroc",
    **more: Any,
) -> Preset:
    """A data set that `data.builders` reads as its owner publishes it, unpacked to DATA_DIR/folder."""
    values = {f"data.{key}": value for key, value in more.items()}
    return Preset(
        {
            "data.name": name,
            "data.path": f"DATA_DIR/{folder}",
            "data.image_size": 224,
            "data.augment": augment,
            **values,
        },
        licence,
        citation,
        note,
        group,
        metric,
    )


_ASK = "see its owner's page: terms are agreed to at download"
PRESETS |= {
    "bimcv_covid19": _published(
        "bimcv_covid19", "bimcv_covid19", "chest_xray", _ASK,
        "de la Iglesia Vaya et al. 2020, BIMCV COVID-19+, arXiv:2006.01174",
        "unpack the two publications to positive/ and negative/; the label is the publication that a patient "
        "stands in, not a test of that day; views by file name, some of which are wrong",
        group="patient", class_weights="balanced",
    ),
    "busi": _published(
        "busi", "Dataset_BUSI_with_GT", "ultrasound", _ASK,
        "Al-Dhabyani et al. 2020, Dataset of breast ultrasound images, doi:10.1016/j.dib.2019.104863",
        "no patient ids; holds near-duplicates, which are kept in one split", class_weights="balanced",
    ),
    "chexpert": _published(
        "chexpert/ignore/mix", "CheXpert-v1.0-small", "chest_xray", _ASK,
        "Irvin et al. 2019, CheXpert, arXiv:1901.07031",
        "frontal images; uncertain labels unknown: data.name=chexpert/{zeros,ones,ignore}/{mix,low,high}; "
        "the owner's valid.csv is the test split",
        resize="pad", pad_value=255, class_weights="balanced",
        group="patient",
    ),
    "cholec80": _published(
        "cholec80/phase", "cholec80", "endoscopy", "CC BY-NC-SA 4.0",
        "Twinanda et al. 2017, EndoNet, doi:10.1109/TMI.2016.2593957",
        "one frame a second of .mp4 files (prepare them once): 7 phases; data.name=cholec80/tools: 7 tools; "
        "videos 41 to 80 are the test split; likeness is left out, as neighbouring frames are one video's",
        group="video", metric="f1_macro", class_weights="balanced", duplicates="ignore",
    ),
    "isic2019": _published(
        "isic2019", "isic2019", "skin", "CC BY-NC 4.0",
        "Tschandl et al. 2018, doi:10.1038/sdata.2018.161; Codella et al. 2018, arXiv:1710.05006; "
        "Combalia et al. 2019, arXiv:1908.02288",
        "contains HAM10000: do not use one to test the other", class_weights="balanced",
        group="lesion",
    ),
    "isic2020": _published(
        "isic2020", "isic2020", "skin", "CC BY-NC 4.0",
        "Rotemberg et al. 2021, doi:10.1038/s41597-021-00815-z",
        "1.8 % malignant: read auprc beside auroc", class_weights="balanced",
        group="patient", metric="auprc",
    ),
    "kvasir": _published(
        "kvasir", "kvasir-dataset-v2", "endoscopy", _ASK,
        "Pogorelov et al. 2017, Kvasir, doi:10.1145/3083187.3083212", "no patient ids",
    ),
    "lc25000": _published(
        "lc25000", "lc25000", "histology", _ASK, "Borkowski et al. 2019, LC25000, arXiv:1912.12142",
        "25,000 augmented copies of 1,250 tiles, and the files do not say of which: the leak check finds the "
        "mirrored ones, not those turned by other angles, so no random split of it is clean",
    ),
    "midog": _published(
        "midog", "midog", "histology", "CC BY 4.0",
        "Aubreville et al. 2023, MIDOG++, doi:10.1038/s41597-023-02327-4",
        "64-pixel patches around mitotic figures and look-alikes; tumour types in the column tumor_type",
        group="region (case)", image_size=64,
    ),
    "montgomery": _published(
        "montgomery", "MontgomerySet", "chest_xray", _ASK,
        "Jaeger et al. 2014, doi:10.3978/j.issn.2223-4292.2014.11.20", "138 images",
        group="patient",
    ),
    "radfusion": _published(
        "radfusion", "multimodalpulmonaryembolismdataset", "ct", _ASK,
        "Zhou et al. 2021, RadFusion, arXiv:2111.11665",
        "whole volumes for a 3D network (penet, resnet18_3d); Hounsfield window 400/1000 as PENet's",
        group="study", image_size=192, depth=24, class_weights="balanced",
    ),
    "shenzhen": _published(
        "shenzhen", "ChinaSet_AllFiles", "chest_xray", _ASK,
        "Jaeger et al. 2014, doi:10.3978/j.issn.2223-4292.2014.11.20",
        group="patient",
    ),
}  # fmt: skip


def _medmnist_file(name: str, size: int) -> Preset:
    """A file of MedMNIST+ under its classes' names, scored as in the paper."""
    volume = name in VOLUMES
    fields = {
        "data.name": f"medmnist/{FILES[name, size]}",
        "data.path": "DATA_DIR/medmnist",
        "data.image_size": max(size, 64) if not volume else size,
        "data.augment": "none",
        # The official split is kept for comparison with published figures, with its copies.
        "data.allow_leaks": True,
    }
    if volume:
        fields["data.depth"] = size
    about = "volumes, for a 3D network (resnet18_3d); " if volume else ""
    return Preset(
        fields,
        "CC BY-NC 4.0" if name == "dermamnist" else "CC BY 4.0",
        "Yang et al. 2023, MedMNIST v2, doi:10.1038/s41597-022-01721-8",
        f"{about}official split; no patient ids",
    )


# The two that were measured keep their presets above.
PRESETS |= {stem: _medmnist_file(name, size) for (name, size), stem in FILES.items() if stem not in PRESETS}


# What nobody can object to where the modality is not known: sides, what is up, and colours stay.
CAREFUL = "rotate(7),translate(0.04)"
_FILES = ("folder", "csv", "npz", "phantom")  # names that say nothing of what is in the images


def auto_augment(name: str) -> tuple[str, str]:
    """Resolve config data.augment="auto"; return (augmentation, reason).

    Images are mirrored only where the modality is known and its sides are alike. A chest radiograph is
    not: the heart lies on the left, and burnt-in markers say which side is which.

    Args:
        name: Value of config data.name.
    """
    kind, _, modality = name.partition("/")
    if name == "phantom/radiograph":
        return CAREFUL, "radiograph, whose sides differ"
    if kind == "phantom":
        return "flip", f"{modality}, whose sides are alike"
    known = [preset.fields for preset in PRESETS.values() if preset.fields["data.name"].split("/")[0] == kind]
    if known and kind not in _FILES:
        return str(known[0]["data.augment"]), f"as the data set's preset {kind}"
    return CAREFUL, "modality not known; name one, as data.augment=histology"


def augmentation(values: RunDataConfig) -> Spec:
    """Return the steps that config.data asks for, with "auto" resolved; raises as `parse_augment`."""
    return parse_augment(auto_augment(values.name)[0] if values.augment == "auto" else values.augment)


def names() -> tuple[str, ...]:
    """Return the presets' names."""
    return tuple(PRESETS)


def metric(name: str) -> str:
    """Return the validation metric that picks a checkpoint on this data set; raises as `fields`."""
    if registry.is_own("source", name):
        return "auroc"
    if name not in PRESETS:
        raise UserError(f"there is no data set preset {name!r}{nearest(name, names())}")
    return PRESETS[name].metric


def fields(name: str, data_dir: str) -> dict[str, Any]:
    """The config fields of a preset, with its paths under `data_dir`; a source of the user's own reads that.

    Raises:
        UserError: no such preset; the nearest is named.
    """
    if registry.is_own("source", name):
        return {"data.name": name, "data.path": data_dir}
    if name not in PRESETS:
        raise UserError(f"there is no data set preset {name!r}{nearest(name, names())}")
    return {
        key: value.replace("DATA_DIR", data_dir.rstrip("/")) if isinstance(value, str) else value
        for key, value in PRESETS[name].fields.items()
    }


def fill(config: ConfigDict, arg: str | None, **own: str) -> dict[str, str]:
    """Fill in the data set, the network and its weights from what stands behind a config file's colon.

    Args:
        config: Config of a run or of a search.
        arg: Text after the colon, or None.
        own: Further names that may stand there besides those of `GIVEN`, with their defaults.

    Returns:
        Name -> value, of all names that may stand there.

    Raises:
        UserError: not of the form NAME=VALUE, an unknown name, or no such preset.
    """
    given = parse_arg(arg, **GIVEN, **own)
    set_fields(config, fields(given["dataset"], given["data_dir"]))
    set_fields(config, {"model.name": given["model"], "model.weights": given["weights"]})
    return given
