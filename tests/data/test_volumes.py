"""Volumes: DICOM series in the order of their positions, and any volume prepared and read back exactly."""

from dataclasses import replace

import numpy as np
import pytest

from ttl_jax import data
from ttl_jax.data import DataConfig
from ttl_jax.data.images.decode import Geometry, decode
from ttl_jax.data.prepared.prepare import prepare
from ttl_jax.data.sources.dicom_series import Place, order
from ttl_jax.data.sources.record import read_manifest
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.errors import UserError

pytest.importorskip("pydicom")
pytest.importorskip("nibabel")

from .dicom_files import save_dicom  # noqa: E402

AXIAL = [1, 0, 0, 0, 1, 0]
OBLIQUE = [0.8, 0.6, 0, 0, 0, -1]


def save_series(folder, volume, uid, patient, orientation=AXIAL, step=2.5, names=None):
    """Slices (D, H, W) whose file names do not follow their positions."""
    normal = np.cross(orientation[:3], orientation[3:])
    names = names or [*range(1, len(volume), 2), *range(0, len(volume), 2)]
    for number, (pixels, name) in enumerate(zip(volume, names, strict=True)):
        position = [round(float(value), 6) for value in np.array([-90.0, 30.0, 7.0]) + number * step * normal]
        save_dicom(
            folder / f"IM{name:04}.dcm", pixels, SeriesInstanceUID=uid, PatientID=patient,
            ImageOrientationPatient=list(orientation), ImagePositionPatient=position, PixelSpacing=[0.7, 0.6],
        )  # fmt: skip


@pytest.fixture
def series(tmp_path):
    """Class a: two series in one folder; class b: one of another patient, oblique."""
    rng = np.random.default_rng(0)
    made = {name: rng.integers(0, 4000, (depth, 10, 8)).astype(np.uint16)
            for name, depth in (("one", 6), ("two", 9), ("three", 7))}  # fmt: skip
    root = tmp_path / "scans"
    save_series(root / "a" / "p", made["one"], "1.2.1", "P1")
    save_series(root / "a" / "p", made["two"], "1.2.2", "P1", names=list(range(100, 109)))
    save_series(root / "b" / "q", made["three"], "1.2.3", "P2", OBLIQUE, 1.0)
    config = DataConfig(name="dicom", path=str(root), slices="volume", window="2000/4000")
    return config, made


def windowed(volume):
    return np.rint(np.clip(volume.astype(float) / 4000, 0, 1) * 255)


def test_slices_are_sorted_along_the_normal(series):
    config, made = series
    found = read_listing(config)
    assert found.volumes and found.labels.tolist() == [0, 0, 1] and len(set(found.ids)) == 3
    assert len(set(found.groups)) == 2 and not any("P1" in text for text in (*found.ids, *found.groups))
    by_depth = {len(stack.slices): stack for stack in found.images}
    for name, step in (("one", 2.5), ("two", 2.5), ("three", 1.0)):
        stack = by_depth[len(made[name])]
        got = np.stack([np.asarray(picture.read()) for picture in stack.slices])
        assert np.array_equal(got, windowed(made[name]))
        assert stack.millimetres == pytest.approx((step, 0.7, 0.6))
    assert read_listing(replace(config, slices="all")).labels.tolist() == [0] * 15 + [1] * 7


def test_a_table_names_files_or_folders_of_series(series, tmp_path):
    config, made = series
    (tmp_path / "t.csv").write_text("image,label\nb/q,sick\na/p,well\n")
    named = replace(config, path=str(tmp_path / "t.csv"), root=config.path)
    with pytest.raises(UserError, match="is a folder of several series"):
        read_listing(named)
    for file in (tmp_path / "scans" / "a" / "p").glob("IM01*.dcm"):
        file.unlink()
    found = read_listing(named)
    assert found.ids.tolist() == ["b/q", "a/p"] and [len(stack.slices) for stack in found.images] == [7, 6]
    assert np.array_equal(decode(found.images[0], Geometry(10, depth=7)).shape, (7, 10, 10, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: next((root / "b" / "q").glob("IM0000*")).unlink(), "lacks slices: a gap of 2 mm"),
        (lambda root: save_series(root / "b" / "q", np.zeros((1, 10, 8), np.uint16), "1.2.3", "P2", OBLIQUE,
                                  names=[50]), "two slices at one position"),
        (lambda root: save_series(root / "b" / "q", np.zeros((1, 10, 8), np.uint16), "1.2.3", "P2", AXIAL,
                                  names=[50]), "not parallel"),
        (lambda root: save_dicom(root / "b" / "q" / "x.dcm", np.zeros((10, 8), np.uint16), PatientID="P2",
                                 SeriesInstanceUID="1.2.3"), "do not tell their position"),
    ],
    ids=["gap", "twice", "scout", "nowhere"],
)  # fmt: skip
def test_a_series_whose_order_is_unsure_is_a_fault(series, change, message):
    from pathlib import Path

    config, _ = series
    change(Path(config.path))
    with pytest.raises(UserError, match=message):
        data.load(replace(config, image_size=8, depth=4))
    listing = read_listing(config)
    assert len(listing.ids) == 3  # of on_error=skip: one example fewer, and said so


def test_a_series_in_two_classes_is_refused(series):
    from pathlib import Path

    config, made = series
    save_series(Path(config.path) / "b" / "q", made["one"][:1], "1.2.1", "P1", names=[77])
    with pytest.raises(UserError, match="are of one series but have two labels"):
        read_listing(config)


def test_order_against_a_shuffle():
    rng = np.random.default_rng(3)
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    shuffled = rng.permutation(20)
    places = [
        Place("1", tuple(5.0 + 3.0 * number * normal), tuple(OBLIQUE), (1.0, 2.0)) for number in shuffled
    ]
    found, millimetres = order(places)
    assert shuffled[found].tolist() == list(range(20)) and millimetres == pytest.approx((3.0, 1.0, 2.0))


def test_prepared_series_are_the_series(series, tmp_path):
    config, made = series
    done = prepare(config, tmp_path / "out", workers=1)
    assert done.images == 3
    again = read_listing(DataConfig(name="record", path=str(tmp_path / "out")))
    first = read_listing(config)
    assert again.volumes and again.ids.tolist() == first.ids.tolist()
    for one, other in zip(first.images, again.images, strict=True):
        assert len(one.slices) == len(other.slices) and other.millimetres == pytest.approx(one.millimetres)
        for mine, yours in zip(one.slices, other.slices, strict=True):
            assert np.array_equal(np.asarray(mine.read()), np.asarray(yours.read()))
    manifest = read_manifest(tmp_path / "out")
    assert manifest["examples"]["slices"] == [len(stack.slices) for stack in first.images]
    assert manifest["shards"][0]["records"] == 22 and manifest["images"] == 3
    assert prepare(config, tmp_path / "out", workers=1).made == 0


def test_prepared_nifti_volumes_load_as_the_volumes_do(tmp_path):
    import nibabel

    rng = np.random.default_rng(5)
    affine = np.diag([-0.5, 0.75, 3.0, 1])
    for number in range(24):
        path = tmp_path / "scans" / "ab"[number % 2] / f"sub-{number:02}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(rng.integers(0, 900, (12, 10, 5)).astype(np.int16), affine), path)
    (tmp_path / "scans" / "a" / "sub-98.nii").write_bytes(b"nothing")
    config = DataConfig(name="nifti", path=str(tmp_path / "scans"), slices="volume", depth=6, image_size=16,
                        on_error="skip")  # fmt: skip
    done = prepare(config, tmp_path / "out", workers=1)
    assert (done.images, done.skipped) == (24, 1)
    record = DataConfig(name="record", path=str(tmp_path / "out"), depth=6, image_size=16)
    assert read_listing(record).images[0].millimetres == (3.0, 0.75, 0.5)
    for name, split in data.load(record).items():
        other = data.load(config)[name]
        assert split.ids.tolist() == other.ids.tolist()
        places = np.arange(len(split))
        assert np.array_equal(split.images.read(places), other.images.read(places))


def test_slices_of_a_volume_are_augmented_alike():
    import jax
    import jax.numpy as jnp

    flat = jnp.asarray(np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3)), jnp.float32)
    volume = jnp.stack([flat, flat + 0, flat], axis=1)  # (B, D, S, S, C) of equal slices
    keys = data.example_keys(0, jnp.zeros(3, jnp.int32), jnp.arange(3))
    spec = data.parse_augment("flip,flip_vertical,rotate90,rotate(20),brightness(0.2)")
    got, want = data.augment(volume, keys, spec), data.augment(flat, keys, spec)
    assert got.shape == volume.shape
    for depth in range(3):
        np.testing.assert_allclose(got[:, depth], want, atol=1e-3)
    mixed, _ = data.mix(volume, jnp.arange(3), keys, data.parse_mix("cutmix(1)"), 3)
    alone, _ = data.mix(flat, jnp.arange(3), keys, data.parse_mix("cutmix(1)"), 3)
    assert jax.numpy.array_equal(mixed[:, 1], alone)


@pytest.mark.parametrize("name", ["flip", "flips", "dihedral"])
def test_views_of_a_volume_are_its_slices_views(name):
    volume = np.random.default_rng(2).normal(size=(2, 3, 4, 4, 1))
    for view in data.test_time.views(name):
        np.testing.assert_array_equal(view(volume)[:, 1], view(volume[:, 1]))
