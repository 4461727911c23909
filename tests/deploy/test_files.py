"""Files, arrays of those files and the training process give the same predictions, whatever the source is."""

import csv

import numpy as np
import pytest
from PIL import Image

import ttl_jax
from ttl_jax.config import DataConfig, set_fields
from ttl_jax.data.images.decode import Geometry
from ttl_jax.data.prepared.prepare import prepare
from ttl_jax.data.read_images import SourceOptions, read_images
from ttl_jax.errors import UserError
from ttl_jax.evaluation import predictions
from ttl_jax.training.run import train

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("pydicom")

from ..data.dicom_files import save_dicom  # noqa: E402

COUNT = 40
LABELS = ["ab"[number % 2] for number in range(COUNT)]
WINDOW = (1000, 1600)


def windowed(values):
    return np.rint(np.clip((values - WINDOW[0]) / WINDOW[1] + 0.5, 0, 1) * 255).astype(np.uint8)


def values(number, *shape):
    """Numbers of a scanner, brighter in class b, beyond the window at both ends."""
    rng = np.random.default_rng(number)
    return (rng.integers(0, 1500, shape) + 900 * (number % 2)).astype(np.int16)


def photo(number):
    rng = np.random.default_rng(number)
    shape = (int(rng.integers(30, 60)), int(rng.integers(30, 60)), 3)
    return (rng.integers(0, 150, shape) + 100 * (number % 2)).astype(np.uint8)


def folder(root):
    found = {}
    for number, label in enumerate(LABELS):
        name = f"{label}/{number:02}.png"
        (root / label).mkdir(parents=True, exist_ok=True)
        found[name] = photo(number)
        Image.fromarray(found[name]).save(root / name)
    return {"data.name": "folder", "data.path": str(root)}, found, {str(root): f"{root}/"}


def table(root, labels="label"):
    _, found, _ = folder(root)
    with (root / "table.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["image", *labels.split(",")])
        for number, name in enumerate(found):
            marks = [number % 2, (number // 2) % 2]
            rows.writerow([name, *(marks if "," in labels else [LABELS[number]])])
    path = str(root / "table.csv")
    return {"data.name": "csv", "data.path": path, "data.label": labels}, found, {path: ""}


def dicom(root, **attributes):
    found = {}
    for number, label in enumerate(LABELS):
        pixels = values(number, 40, 36)
        save_dicom(root / label / f"IM{number:02}.dcm", pixels, PatientID=f"P{number:05}", **attributes)
        found[f"{label}/IM{number:02}.dcm"] = windowed(pixels)
    fields = {"data.name": "dicom", "data.path": str(root), "data.window": "/".join(map(str, WINDOW))}
    return fields, found, {str(root): f"{root}/"}


def nifti(root, slices="all"):
    found = {}
    for number, label in enumerate(LABELS):
        voxels, name = values(number, 30, 34, 5), f"{label}/scan{number:02}.nii.gz"
        (root / label).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), root / name)
        shown = windowed(np.moveaxis(voxels, 2, 0)[:, ::-1, ::-1].swapaxes(1, 2))
        each = {
            "all": {f"{name}#{place:04}": cut for place, cut in enumerate(shown)},
            "middle": {name: shown[2]},
        }
        found |= each[slices] if slices in each else {name: shown}
    window = "/".join(map(str, WINDOW))
    fields = {"data.name": "nifti", "data.path": str(root), "data.window": window, "data.slices": slices}
    return fields, found, {str(root): f"{root}/"}


def npz(root, *depth):
    root.mkdir()
    images = np.stack([values(number, *depth, 28, 28) // 10 for number in range(COUNT)]).astype(np.uint8)
    labels, parts = np.arange(COUNT) % 2, {"train": slice(0, 20), "val": slice(20, 30), "test": slice(30, 40)}
    arrays = {f"{name}_images": images[part] for name, part in parts.items()}
    np.savez(root / "x.npz", **arrays, **{f"{name}_labels": labels[part] for name, part in parts.items()})
    found = {f"{name}/{n:06}": each for name in parts for n, each in enumerate(arrays[f"{name}_images"])}
    path = str(root / "x.npz")
    return {"data.name": "npz", "data.path": path}, found, {path: f"{path}#"}


def record(root):
    """A prepared folder of DICOM files; it is predicted, and so are the files that it was made from."""
    fields, found, paths = dicom(root / "files")
    settings = {key.removeprefix("data."): value for key, value in fields.items()}
    prepare(DataConfig(**settings), root / "prepared", workers=1)
    made = str(root / "prepared")
    return {"data.name": "record", "data.path": made}, found, paths | {made: f"{made}#"}


FLAT = {"folder": folder, "csv": table, "dicom": dicom, "nifti": nifti, "npz": npz, "record": record}
VOLUMES = {"nifti volumes": lambda root: nifti(root, "volume"), "npz volumes": lambda root: npz(root, 6)}
THREE = {"model.name": "resnet18_3d", "strategy": "truncated(1)", "data.depth": 4}
OPTIONS = {
    "several labels": (lambda root: table(root, "one,two"), {}),
    "crop": (folder, {"data.resize": "crop"}),
    "pad": (folder, {"data.resize": "pad", "data.pad_value": 90}),
    "bfloat16, views": (folder, {"model.dtype": "bfloat16", "data.tta": "dihedral"}),
    "middle slice": (lambda root: nifti(root, "middle"), {}),
}
CASES = (
    {name: (make, {}) for name, make in FLAT.items()}
    | {name: (make, THREE) for name, make in VOLUMES.items()}
    | OPTIONS
)


@pytest.mark.parametrize("case", CASES)
def test_files_arrays_and_the_training_process_agree(tmp_path, make_config, case):
    make, more = CASES[case]
    fields, found, paths = make(tmp_path / "data")
    config = make_config(total_steps=2)
    set_fields(config, fields | more | {"data.keep_ids": True})
    result = train(config, tmp_path / "run")
    run = ttl_jax.load(tmp_path / "run")
    saved = [predictions.load(tmp_path / "run" / "predictions" / f"{name}.npz") for name in ("val", "test")]
    ids = [id for each in saved for id in each.ids.tolist()]
    wanted = np.concatenate([each.probabilities for each in saved])
    assert len(ids) >= 10 and len(np.unique(wanted.round(6))) > 10
    for given in (run, result):
        np.testing.assert_allclose(given.predict([found[id] for id in ids]), wanted, rtol=0, atol=1e-6)
    for path, before in paths.items():
        read = read_images(path, run.signature.geometry, run.signature.source)
        chances = dict(zip([name for name, _ in read], run.predict(path), strict=True))
        by_file = [chances[before + id] for id in ids]
        np.testing.assert_allclose(by_file, wanted, rtol=0, atol=1e-6)


def test_a_series_in_a_folder_is_one_volume(tmp_path):
    volume = np.stack([values(number, 20, 18) for number in range(6)])
    for place in range(6):
        save_dicom(
            tmp_path / "p" / f"IM{(place * 5) % 6}.dcm", volume[place], SeriesInstanceUID="1.2.3",
            ImagePositionPatient=[0, 0, 2.0 * place], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        )  # fmt: skip
    save_dicom(tmp_path / "q" / "flat.dcm", volume[0], SeriesInstanceUID="1.2.4")
    (tmp_path / "q" / "notes.txt").write_text("left out")
    Image.fromarray(photo(0)).save(tmp_path / "q" / "photo.png")
    geometry, options = Geometry(18, depth=6), SourceOptions(window="/".join(map(str, WINDOW)))
    found = dict(read_images(tmp_path, geometry, options))
    assert list(found) == [f"{tmp_path}/p", f"{tmp_path}/q/flat.dcm", f"{tmp_path}/q/photo.png"]
    shown = next(pixels for _, pixels in read_images(windowed(volume), geometry, options))
    np.testing.assert_array_equal(found[f"{tmp_path}/p"], shown)
    assert found[f"{tmp_path}/q/photo.png"] == "is a flat image, and this network takes volumes"
    series = dict(read_images(sorted((tmp_path / "p").iterdir()), geometry, options))
    np.testing.assert_array_equal(series[f"{tmp_path}/p"], shown)


def test_what_cannot_be_read_says_why_and_keeps_its_place(tmp_path):
    Image.fromarray(photo(0)).save(tmp_path / "b.png")
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "c.dcm").write_bytes(b"no DICOM")
    (tmp_path / ".hidden.png").write_text("")
    found = list(read_images(str(tmp_path), Geometry(16), SourceOptions()))
    assert [name for name, _ in found] == [f"{tmp_path}/{name}" for name in ("a.png", "b.png", "c.dcm")]
    assert found[0][1] == "is not an image that PIL can read" and "not a DICOM file" in found[2][1]
    assert found[1][1].shape == (16, 16, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere", "there is nothing at nowhere"),
        ("empty", "holds no image"),
        (["empty", photo(0)], "no path"),
    ],
)
def test_what_names_no_image_is_refused(tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=said):
        list(read_images(given, Geometry(16), SourceOptions()))
