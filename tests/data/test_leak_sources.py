"""The leak check on what is no image file: DICOM frames, NIfTI slices, volumes, records."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tests.data.dicom_files import save_dicom
from ttl_jax.data import DataConfig
from ttl_jax.data.images.cache import read_all
from ttl_jax.data.images.decode import Geometry
from ttl_jax.data.prepared.prepare import prepare
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.data.splits.examine import examine
from ttl_jax.data.splits.leaks import NEAR, SAME_PIXELS

SPLITS = ("train", "val", "test")


def blobs(seed, noise=0):
    """(64, 64, 6): structure unlike any other seed's, but for noise; of one range, so of one window."""
    rng = np.random.default_rng(seed)
    planes = [Image.fromarray(rng.integers(20, 230, (7, 7), dtype=np.uint8)) for _ in range(6)]
    bicubic = Image.Resampling.BICUBIC
    volume = np.stack([np.asarray(plane.resize((64, 64), bicubic)) for plane in planes], axis=-1)
    shaken = volume + np.random.default_rng(99).integers(-noise, noise + 1, volume.shape)
    shaken[0, 0], shaken[0, 1] = 0, 255
    return shaken.clip(0, 255).astype(np.int16)


def cases():
    """(split, class, name, volume): 18 strangers; in test a copy and a noisy copy of two of train's."""
    for seed in range(18):
        yield SPLITS[seed // 6], "ab"[seed % 2], f"s{seed:02}", blobs(seed)
    yield "test", "a", "copy", blobs(0)
    yield "test", "a", "near", blobs(2, noise=6)


def place(root, split, label, name):
    (root / split / label).mkdir(parents=True, exist_ok=True)
    return root / split / label / name


def nifti(root, slices):
    nibabel = pytest.importorskip("nibabel")
    for split, label, name, volume in cases():
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), place(root, split, label, f"{name}.nii"))
    return DataConfig(name="nifti", path=str(root), slices=slices, depth=3)


def dicom(root):
    pytest.importorskip("pydicom")
    for number, (split, label, name, volume) in enumerate(cases()):
        path = place(root, split, label, f"{name}.dcm")
        save_dicom(path, volume[..., 3].astype(np.uint16), PatientID=f"patient {1000 + number}")
    return DataConfig(name="dicom", path=str(root), window="range")


def record(root):
    for split, label, name, volume in cases():
        path = place(root / "images", split, label, f"{name}.png")
        Image.fromarray(volume[..., 3].astype(np.uint8)).save(path)
    prepare(DataConfig(name="folder", path=str(root / "images")), root / "prepared", workers=1)
    return DataConfig(name="record", path=str(root / "prepared"))


def stem(name):
    return name.rpartition("/")[2].partition(".")[0]


SOURCES = {
    "dicom": dicom,
    "record": record,
    "slice": partial(nifti, slices="middle"),
    "volume": partial(nifti, slices="volume"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_copies_across_splits_are_found(source, tmp_path):
    config = SOURCES[source](tmp_path)
    listing = read_listing(config)
    for size in (12, 64):  # what is alike does not depend on the size trained on
        found = examine(listing, replace(config, image_size=size))
        kinds = [(item.kind, {stem(item.one), stem(item.other)}) for item in found.leaks]
        assert len(kinds) == 2 and len(set(found.listing.groups)) == 18
        assert (SAME_PIXELS, {"s00", "copy"}) in kinds and (NEAR, {"s02", "near"}) in kinds
    assert examine(listing, replace(config, image_size=12, resplit=True)).leaks == []


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_volume_goes_by_its_middle_slice_at_its_own_size(resize, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    volume = blobs(3)[:, :48]
    for label in "ab":
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), place(tmp_path, ".", label, "v.nii"))
    listing = read_listing(DataConfig(name="nifti", path=str(tmp_path), slices="volume"))
    shown = volume[::-1, ::-1, 3].T.astype(np.uint8)  # 0 and 255 are in it: the window leaves it as it is
    wanted = np.asarray(Image.fromarray(shown).resize((32, 32), Image.Resampling.BILINEAR))
    for size in (8, 40):
        checked = read_all(listing.images, listing.where, Geometry(size, resize, depth=2), 1.0)
        assert np.array_equal(checked.thumbnails[0], wanted)


def test_slices_of_air_do_not_make_patients_one(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    for seed in range(12):
        volume = blobs(seed)
        volume[..., [0, 5]] = 0
        volume[seed, 40, 5] = 9  # of hardly anything: equal thumbnails, other pixels
        path = place(tmp_path, "ab"[seed % 2], "", f"{seed}.nii")
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
    config = DataConfig(name="nifti", path=str(tmp_path), image_size=64)
    found = examine(read_listing(config), config)
    assert len(set(found.listing.groups)) == 12 and len(found.copies) == 0
    assert set(found.splits) == set(SPLITS)
