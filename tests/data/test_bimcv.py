"""BIMCV-COVID19 in the layout of its archives."""

import json

import numpy as np
import pytest
from PIL import Image

from ttl_jax.data import DataConfig
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.errors import UserError


@pytest.fixture
def bimcv(tmp_path):
    def add(part, archive, subject, session, rest, photometric="MONOCHROME2"):
        folder = tmp_path / part / archive / f"sub-S{subject}" / f"ses-E{session}" / "mod-rx"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"sub-S{subject}_ses-E{session}_{rest}.png"
        Image.fromarray(np.array([[100, 200], [300, 4100]], np.uint16)).save(path)
        path.with_suffix(".json").write_text(json.dumps({"00280004": {"vr": "CS", "Value": [photometric]}}))

    add("positive", "bimcv_covid19_posi_subjects_1", "03047", "07985", "run-1_bp-chest_vp-ap_dx")
    add(
        "positive",
        "bimcv_covid19_posi_subjects_1",
        "03047",
        "08000",
        "acq-2_run-1_bp-chest_vp-pa_cr",
        "MONOCHROME1",
    )
    add("positive", "bimcv_covid19_posi_subjects_1", "03047", "08000", "run-1_bp-chest_vp-ll_cr")
    add("negative", ".", "03068", "06592", "run-1_bp-chest_vp-ap_cr")
    add("negative", ".", "03069", "06593", "run-1_bp-chest_cr")
    return tmp_path


def test_frontal_images_grouped_by_patient(bimcv, capsys):
    found = read_listing(DataConfig(name="bimcv_covid19", path=str(bimcv)))
    assert found.class_names == ("negative", "positive") and found.labels.tolist() == [0, 1, 1]
    assert found.groups.tolist() == ["sub-S03068", "sub-S03047", "sub-S03047"]
    assert "left out 2 lateral" in capsys.readouterr().out
    assert found.ids[1].startswith("positive/bimcv_covid19_posi_subjects_1/sub-S03047/ses-E07985/mod-rx/")


def test_16_bits_are_stretched_and_monochrome1_is_inverted(bimcv):
    found = read_listing(DataConfig(name="bimcv_covid19", path=str(bimcv)))
    plain = np.asarray(found.images[1].read())
    assert plain.tolist() == [[0, 6], [13, 255]]  # (v - 100) / 4000 * 255
    assert np.array_equal(np.asarray(found.images[2].read()), 255 - plain)


def test_a_part_without_frontal_images(bimcv):
    for file in (bimcv / "negative").rglob("*vp-ap*.png"):
        file.unlink()
    with pytest.raises(UserError, match="negative holds no frontal radiograph"):
        read_listing(DataConfig(name="bimcv_covid19", path=str(bimcv)))
