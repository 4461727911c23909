"""Each reader on a tiny folder of its owner's layout."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ttl_jax import data, registry
from ttl_jax.config import default_config, set_fields
from ttl_jax.data import DataConfig
from ttl_jax.data.published import presets
from ttl_jax.data.published.chexpert import GROUPS, LABELS
from ttl_jax.data.sources.registry import names as sources
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.errors import UserError


def read(name: str, folder: Path):
    return read_listing(DataConfig(name=name, path=str(folder)))


def test_busi_leaves_masks_out(tmp_path, save):
    for name in ("benign", "malignant", "normal"):
        for number in range(3):
            save(tmp_path / name / f"{name} ({number}).png", number)
            save(tmp_path / name / f"{name} ({number})_mask.png", 9)
    save(tmp_path / "benign" / "benign (1)_mask_1.png", 9)
    found = read("busi", tmp_path)
    assert len(found.ids) == 9 and not any("mask" in name for name in found.ids)
    assert np.bincount(found.labels).tolist() == [3, 3, 3]


def test_kvasir_and_lc25000_are_class_folders(tmp_path, save):
    for name in ("dyed-lifted-polyps", "dyed-resection-margins", "esophagitis", "normal-cecum",
                 "normal-pylorus", "normal-z-line", "polyps", "ulcerative-colitis"):  # fmt: skip
        save(tmp_path / "k" / name / "1.jpg", 0)
    assert len(read("kvasir", tmp_path / "k").class_names) == 8
    for part, names in (("colon", ("aca", "n")), ("lung", ("aca", "n", "scc"))):
        for name in names:
            folder = tmp_path / "l" / "lung_colon_image_set" / f"{part}_image_sets" / f"{part}_{name}"
            save(folder / "a1.jpeg", 0)
    found = read("lc25000", tmp_path / "l")
    assert found.class_names == ("colon_aca", "colon_n", "lung_aca", "lung_n", "lung_scc")
    assert found.labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("name", "prefix"), [("montgomery", "MCUCXR"), ("shenzhen", "CHNCXR")])
def test_tuberculosis_by_the_last_digit(tmp_path, save, name, prefix):
    for number in range(4):
        save(tmp_path / "CXR_png" / f"{prefix}_{number:04}_{number % 2}.png", number)
    found = read(name, tmp_path)
    assert found.labels.tolist() == [0, 1, 0, 1] and found.class_names == ("normal", "tuberculosis")
    save(tmp_path / "CXR_png" / f"{prefix}_0009_2.png", 1)
    with pytest.raises(UserError, match=r"0009_2.png is not named"):
        read(name, tmp_path)


def test_isic2019_classes_and_lesions(tmp_path):
    classes = ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"]
    rows = [("ISIC_1", "NV", "L1"), ("ISIC_2", "SCC", "L1"), ("ISIC_3", "MEL", "")]
    header = "image," + ",".join([*classes, "UNK"])
    truth = [f"{name}," + ",".join(str(float(c == k)) for c in classes) + ",0.0" for name, k, _ in rows]
    (tmp_path / "ISIC_2019_Training_GroundTruth.csv").write_text("\n".join([header, *truth]))
    about = [f"{name},55,torso,{lesion},male" for name, _, lesion in reversed(rows)]
    head = "image,age_approx,anatom_site_general,lesion_id,sex"
    (tmp_path / "ISIC_2019_Training_Metadata.csv").write_text("\n".join([head, *about]))
    (tmp_path / "ISIC_2019_Training_Input").mkdir()
    found = read("isic2019", tmp_path)
    assert [found.class_names[label] for label in found.labels] == ["NV", "SCC", "MEL"]
    assert found.groups.tolist() == ["L1", "L1", "ISIC_3"]
    assert found.images[0] == tmp_path / "ISIC_2019_Training_Input" / "ISIC_1.jpg"


def test_isic2020_patients(tmp_path):
    head = (
        "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target"
    )
    rows = [
        "ISIC_1,IP_7,male,45.0,torso,unknown,benign,0",
        "ISIC_2,IP_7,male,45.0,torso,melanoma,malignant,1",
    ]
    (tmp_path / "ISIC_2020_Training_GroundTruth.csv").write_text("\n".join([head, *rows]))
    (tmp_path / "train").mkdir()
    found = read("isic2020", tmp_path)
    assert found.labels.tolist() == [0, 1] and found.groups.tolist() == ["IP_7", "IP_7"]


@pytest.fixture
def chexpert(tmp_path):
    head = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(LABELS)

    def row(split, patient, view, cells):
        values = ",".join(cells.get(label, "") for label in LABELS)
        path = f"CheXpert-v1.0-small/{split}/patient{patient:05}/study1/view1_{view.lower()}.jpg"
        return f"{path},Female,68,{view},AP,{values}"

    train = [row("train", 1, "Frontal", {"Edema": "-1.0", "Fracture": "1.0"}),
             row("train", 1, "Lateral", {"Edema": "1.0"}),
             row("train", 2, "Frontal", {"Edema": "1.0", "Fracture": "0.0"})]  # fmt: skip
    valid = [row("valid", 9, "Frontal", {"No Finding": "1.0"})]
    (tmp_path / "train.csv").write_text("\n".join([head, *train]))
    (tmp_path / "valid.csv").write_text("\n".join([head, *valid]))
    return tmp_path


@pytest.mark.parametrize(("policy", "value"), [("zeros", 0.0), ("ones", 1.0), ("ignore", np.nan)])
def test_chexpert_frontal_images_and_uncertainty(chexpert, policy, value):
    found = read(f"chexpert/{policy}/mix", chexpert)
    assert found.class_names == LABELS and found.splits.tolist() == ["train", "train", "test"]
    assert found.groups.tolist() == ["patient00001", "patient00002", "patient00009"]
    edema = found.labels[:, LABELS.index("Edema")]
    np.testing.assert_array_equal(edema, np.array([value, 1, 0], np.float32))
    assert found.ids[0] == "train/patient00001/study1/view1_frontal.jpg"


def test_chexpert_halves_are_the_papers(chexpert):
    """methods.md: low = indices 3, 5, 6, 7, 8, 10, 11; high = the rest."""
    assert [LABELS.index(name) for name in GROUPS["low"]] == [3, 5, 6, 7, 8, 10, 11]
    assert [LABELS.index(name) for name in GROUPS["high"]] == [0, 1, 2, 4, 9, 12, 13]
    assert read("chexpert/ones/low", chexpert).labels.shape == (3, 7)


GENERAL = ("folder", "csv", "npz", "dicom", "nifti", "record")
PUBLISHED = [name for name in registry.names("source") if name not in GENERAL]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_missing_part_is_named(tmp_path, name):
    with pytest.raises(UserError, match="is missing; data.path must be"):
        read(name, tmp_path)


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_fills_in_fields_that_exist(name):
    config = default_config()
    set_fields(config, presets.fields(name, "data"))
    assert config.data.name in sources()
    presets.augmentation(config.data)
    preset = presets.PRESETS[name]
    assert preset.licence and preset.citation
    set_fields(config, {"select": preset.metric})
    assert all(key.startswith("data.") for key in preset.fields)  # as `compare` needs them


def test_a_published_layout_is_split_and_read(tmp_path, save):
    for number in range(30):
        save(tmp_path / "CXR_png" / f"MCUCXR_{number:04}_{number % 2}.png", number)
    config = DataConfig(name="montgomery", path=str(tmp_path), image_size=8)
    assert sum(len(split) for split in data.load(replace(config, split_seed=1)).values()) == 30
