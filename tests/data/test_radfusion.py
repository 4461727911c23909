"""RadFusion's volumes in Hounsfield units."""

from dataclasses import replace

import numpy as np
import pytest

from ttl_jax import data
from ttl_jax.data import DataConfig
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.errors import UserError

ROWS = [("3", "1", "central", "train"), ("10", "0", "", "val"), ("11", "1", "segmental", "test"),
        ("12", "0", "", "train"), ("13", "0", "", "test"), ("14", "1", "", "val")]  # fmt: skip


def write(folder, rows):
    (folder / "Labels.csv").write_text("\n".join(["idx,label,pe_type,split", *map(",".join, rows)]))


@pytest.fixture
def radfusion(tmp_path):
    write(tmp_path, ROWS)
    for place, (study, *_) in enumerate(ROWS):
        (tmp_path / str(place % 2)).mkdir(exist_ok=True)
        volume = np.random.default_rng(place).integers(-1024, 2000, (5 + place, 12, 12)).astype(np.int16)
        np.save(tmp_path / str(place % 2) / f"{study}.npy", volume)
    return DataConfig(name="radfusion", path=str(tmp_path), image_size=12, depth=5)


def test_volumes_through_the_window_with_the_owners_split(radfusion, tmp_path):
    found = read_listing(radfusion)
    assert found.volumes and found.ids.tolist() == [row[0] for row in ROWS]
    assert found.splits.tolist() == [row[3] for row in ROWS]
    assert found.columns["pe_type"][0] == "central" and found.class_names == ("no embolism", "embolism")
    sets = data.load(radfusion)
    values = np.load(tmp_path / "0" / "3.npy").astype(float)
    # 400/1000: -100 is black and 900 white; five slices stay five
    want = np.rint(np.clip((values + 100) / 1000, 0, 1) * 255)
    assert np.array_equal(sets["train"].images.read(np.array([0]))[0, ..., 1], want)
    assert sets["test"].images.read(np.array([1])).shape == (1, 5, 12, 12, 3)


def test_rows_of_slices_are_one_study(radfusion, tmp_path):
    write(tmp_path, [ROWS[0], ROWS[0], *ROWS[1:]])
    assert len(read_listing(radfusion).ids) == 6
    write(tmp_path, [ROWS[0], ("3", "0", "", "train"), *ROWS[1:]])
    with pytest.raises(UserError, match="row 3 gives study 3 another label or split than row 2"):
        read_listing(radfusion)


def test_missing_and_damaged_volumes(radfusion, tmp_path):
    (tmp_path / "1" / "10.npy").write_bytes(b"no array")
    with pytest.raises(UserError, match=r"10.npy cannot be read as .npy"):
        data.load(radfusion)
    skipped = data.load(replace(radfusion, on_error="skip", allow_leaks=True))["train"].skipped
    assert len(skipped) == 1
    (tmp_path / "1" / "10.npy").unlink()
    with pytest.raises(UserError, match=r"holds no 10.npy"):
        read_listing(radfusion)
    write(tmp_path, [("3", "2", "", "train")])
    with pytest.raises(UserError, match="has label '2'"):
        read_listing(radfusion)
