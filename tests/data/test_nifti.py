import itertools
from dataclasses import replace

import numpy as np
import pytest

from ttl_jax import data
from ttl_jax.config.data import DataConfig
from ttl_jax.data.images.decode import Geometry, Stack, UnreadableImageError, decode
from ttl_jax.data.sources.nifti import NiftiSlice, read_nifti, read_volume
from ttl_jax.data.sources.window import parse_window
from ttl_jax.errors import UserError

nibabel = pytest.importorskip("nibabel")

RAS = np.diag([2.0, 3.0, 4.0, 1.0])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def save(path, values, affine=RAS):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def slice_of(path, plane="axial", number=0, window="", spacing=0.0):
    return np.asarray(NiftiSlice(path, plane, number, parse_window(window), spacing).read())


def stretched(values):
    return np.rint((values - values.min()) / (values.max() - values.min()) * 255)


def test_planes_as_a_radiologist_sees_them(tmp_path):
    # one bright voxel in the patient's right, front and head corner
    values = np.zeros((4, 5, 6), np.int16)
    values[3, 4, 5] = 100
    path = save(tmp_path / "x.nii", values)
    axial, coronal, sagittal = (
        slice_of(path, plane, number) for plane, number in (("axial", 5), ("coronal", 4), ("sagittal", 3))
    )
    assert axial.shape == (5, 4) and coronal.shape == (6, 4) and sagittal.shape == (6, 5)
    for picture in (axial, coronal, sagittal):
        assert picture[0, 0] == 255 and picture.sum() == 255
    assert slice_of(path, "axial", 4).sum() == 0


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3)))[::2])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_any_orientation_becomes_ras(tmp_path, rng, axes, signs):
    world = rng.integers(0, 1000, (4, 5, 6)).astype(np.int16)  # x to the right, y to the front, z up
    stored = world.transpose(axes)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for column, axis in enumerate(axes):
        affine[axis, column] = signs[column] * (axis + 2.0)
    stored = stored[tuple(slice(None, None, sign) for sign in signs)]
    volume = read_volume(save(tmp_path / "x.nii.gz", np.ascontiguousarray(stored), affine))
    assert np.array_equal(volume.voxels, stretched(world))
    np.testing.assert_allclose(volume.millimetres, (2, 3, 4), rtol=1e-6)


def test_scale_factors_and_windows(tmp_path, rng):
    units = rng.integers(-1000, 2000, (5, 5, 5)).astype(np.float64)
    image = nibabel.Nifti1Image(((units + 1000) / 0.5).astype(np.int16), RAS)
    image.header.set_slope_inter(0.5, -1000)
    nibabel.save(image, tmp_path / "x.nii")
    for window, low, high in (("lung", -1350, 150), ("brain", 0, 80), ("100/50", 75, 125),
                              ("", units.min(), units.max())):  # fmt: skip
        want = np.clip((units[::-1, ::-1, 2].T - low) / (high - low), 0, 1) * 255
        np.testing.assert_allclose(slice_of(tmp_path / "x.nii", "axial", 2, window), want, atol=0.5001)
    low, high = np.percentile(units, [0.5, 99.5])
    want = np.clip((units[::-1, ::-1, 2].T - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(slice_of(tmp_path / "x.nii", "axial", 2, "percentile"), want, atol=0.501)


def test_spacing_makes_voxels_square(tmp_path):
    path = save(tmp_path / "x.nii", np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6))
    sizes = {plane: slice_of(path, plane, 0, "", 0.5).shape for plane in ("axial", "coronal", "sagittal")}
    assert sizes == {"axial": (30, 16), "coronal": (48, 16), "sagittal": (48, 30)}


@pytest.fixture
def volumes(tmp_path, rng):
    """8 subjects, two visits each, of 6 slices; even ones are cases."""
    for subject in range(8):
        for visit in "12":
            name = f"sub-{subject:02}_ses-{visit}.nii.gz"
            values = rng.integers(0, 100, (5, 5, 6)).astype(np.int16)
            save(tmp_path / "set" / ("case", "control")[subject % 2] / name, values)
    return DataConfig(name="nifti", path=str(tmp_path / "set"), image_size=5)


def test_slices_of_a_subject_stay_in_one_split(volumes):
    sets = data.load(volumes)
    assert sum(len(split) for split in sets.values()) == 8 * 2 * 6
    groups = [set(split.groups) for split in sets.values()]
    assert len(set().union(*groups)) == sum(map(len, groups)) == 8
    for split in sets.values():
        for place, (name, group) in enumerate(zip(split.ids, split.groups, strict=True)):
            file, _, number = name.partition("#")
            assert group in file
            values = stretched(np.asarray(nibabel.load(f"{volumes.path}/{file}").dataobj))
            got = split.images.read(np.array([place]))[0, ..., 1]
            assert np.array_equal(got, values[::-1, ::-1, int(number)].T)


def test_one_slice_of_each(volumes):
    found = read_nifti(replace(volumes, slices="middle", plane="sagittal"))
    assert len(found.ids) == 16 and all(picture.number == 2 for picture in found.images)
    assert not any("#" in name for name in found.ids)


def test_a_table_of_volumes(volumes, tmp_path):
    rows = [f"{('case', 'control')[n % 2]}/sub-{n:02}_ses-1,{'xy'[n // 4]},g{n // 2}" for n in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,who", *rows]))
    config = replace(volumes, path=str(tmp_path / "t.csv"), root=volumes.path, slices="2")
    assert read_nifti(config).groups.tolist() == [f"sub-{n // 2:02}" for n in range(16)]
    found = read_nifti(replace(config, group="who"))
    assert found.groups.tolist() == [f"g{n // 4}" for n in range(16)] and found.class_names == ("x", "y")


def test_whole_volumes(volumes, tmp_path):
    config = replace(volumes, slices="volume", depth=6)
    sets = data.load(config)
    assert sum(len(split) for split in sets.values()) == 16
    for split in sets.values():
        for place, name in enumerate(split.ids):
            values = stretched(np.asarray(nibabel.load(f"{volumes.path}/{name}").dataobj))
            got = split.images.read(np.array([place]))
            assert got.shape == (1, 6, 5, 5, 3)
            want = values[::-1, ::-1].transpose(2, 1, 0)  # slices from the feet, rows from the front
            assert np.array_equal(got[0, ..., 0], want) and np.array_equal(got[0, ..., 2], want)
    fresh = data.load(replace(config, cache_gb=0.0))
    order = np.array([2, 0])
    assert np.array_equal(fresh["train"].images.read(order), sets["train"].images.read(order))
    with pytest.raises(UserError, match="data.depth=0"):
        data.load(replace(config, depth=0))


def test_the_depth_of_a_volume_is_scaled_with_antialiasing(tmp_path):
    # a wave along the axis vanishes at half the depth, a ramp stays a ramp
    for name, along, want in (
        ("wave", np.arange(64) % 2 * 250, np.full(16, 125)),
        ("ramp", np.arange(64) * 4, np.arange(16) * 16 + 6),
    ):
        values = np.broadcast_to(along, (3, 3, 64)).astype(np.int16)
        path = save(tmp_path / f"{name}.nii", values)
        stack = Stack(tuple(NiftiSlice(path, "axial", n, parse_window("127.5/255"), 0.0) for n in range(64)))
        got = decode(stack, Geometry(3, depth=16))
        np.testing.assert_allclose(got[2:-2, 1, 1, 0], want[2:-2], atol=2)


def test_a_damaged_volume_is_skipped_whole(volumes, tmp_path):
    (tmp_path / "set" / "case" / "bad.nii").write_bytes(b"hello")
    config = replace(volumes, slices="volume", depth=2, on_error="skip")
    sets = data.load(config)
    assert sum(len(split) for split in sets.values()) == 16 and len(sets["val"].skipped) == 1
    with pytest.raises(UserError, match="bad.nii .*on_error=skip"):
        data.load(replace(config, on_error="fail"))


def test_fields_that_make_no_sense(volumes):
    for fields, message in (
        ({"plane": "axail"}, "did you mean 'axial'"),
        ({"window": "lungs"}, "did you mean 'lung'"),
        ({"window": "40/0"}, "'40/0' is not CENTER/WIDTH.*too small"),
        ({"slices": "0"}, "data.slices='0'"),
        ({"group": "who"}, "data.group='who' names a column"),
        ({"spacing": -1.0}, "data.spacing=-1.0"),
    ):
        with pytest.raises(UserError, match=message):
            data.load(replace(volumes, **fields))
    with pytest.raises(UserError, match="data.window='lung' is read by the sources dicom, nifti"):
        data.load(replace(volumes, name="folder", window="lung"))


def nan(values):
    values = values.astype(np.float32)
    values[1, 1, 1] = np.nan
    return values


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (nan, "NaN"),
        (lambda x: np.stack([x, x], axis=-1), "holds 2 volumes"),
        (lambda x: x[..., 0], "no volume"),
        (lambda x: x.astype(np.complex64), "complex64"),
    ],
)
def test_volumes_that_are_none(tmp_path, make, message):
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    path = save(tmp_path / "x.nii", make(values))
    with pytest.raises(UnreadableImageError, match=message):
        read_volume(path)
    save(path, values[..., None])
    assert read_volume(path).voxels.shape == (3, 4, 5)


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_damaged_volumes(tmp_path, rng, name):
    path = save(tmp_path / name, rng.integers(0, 1000, (9, 9, 9)).astype(np.int16))
    whole = path.read_bytes()
    for content in (b"", b"hello", whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UnreadableImageError, match="NIfTI"):
            read_volume(path)


def test_a_header_that_claims_too_much(tmp_path):
    path = save(tmp_path / "x.nii", np.zeros((3, 3, 3), np.int16))
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([30000] * 3, "<i2").tobytes()  # dim[1..3] of the header
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match="claims 30000 x 30000 x 30000 voxels"):
        read_volume(path)


def test_nifti_2_is_read_without_a_word(tmp_path, rng, caplog, capfd):
    voxels = rng.integers(0, 900, (7, 6, 5), dtype=np.int16)
    affine = np.diag([-2.0, 1, 3, 1])
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        kind(voxels, affine).to_filename(tmp_path / f"{kind.__name__}.nii.gz")
    one, two = (read_volume(tmp_path / f"Nifti{version}Image.nii.gz") for version in (1, 2))
    assert np.array_equal(one.voxels, two.voxels) and one.millimetres == two.millimetres
    (tmp_path / "bad.nii").write_bytes(b"\x5c\1\0\0" + bytes(600))
    with pytest.raises(UnreadableImageError):
        read_volume(tmp_path / "bad.nii")
    assert not caplog.records and capfd.readouterr() == ("", "")
