"""MedMNIST's files by name and size, on tiny ones of the same layout."""

import numpy as np
import pytest

from ttl_jax import data
from ttl_jax.cli import main
from ttl_jax.data import DataConfig
from ttl_jax.data.images.decode import Geometry, decode
from ttl_jax.data.published import presets
from ttl_jax.data.published.medmnist import FILES, IMAGES, VOLUMES
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.errors import UserError


def write(path, shape, classes, columns=1, counts=(12, 6, 6)):
    rng = np.random.default_rng(len(path.stem))
    arrays = {}
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        numbers = np.arange(count)[:, None]
        several = (numbers + np.arange(columns)) % 2
        arrays[f"{split}_labels"] = numbers % classes if columns == 1 else several
    np.savez(path, **arrays)
    return arrays


def test_every_set_and_size_has_a_preset_and_a_file():
    assert len(IMAGES) == 12 and len(VOLUMES) == 6 and len(FILES) == 60
    assert set(FILES.values()) <= set(presets.names())
    fields = presets.fields("organmnist3d_64", "/d")
    assert fields["data.name"] == "medmnist/organmnist3d_64" and fields["data.path"] == "/d/medmnist"
    assert fields["data.image_size"] == fields["data.depth"] == 64


def test_images_go_by_the_names_of_their_classes(tmp_path):
    arrays = write(tmp_path / "bloodmnist_64.npz", (64, 64, 3), 8)
    found = read_listing(DataConfig(name="medmnist/bloodmnist_64", path=str(tmp_path)))
    assert found.class_names[6] == "neutrophil" and found.labels[:12].tolist() == [n % 8 for n in range(12)]
    assert np.bincount([("train", "val", "test").index(name) for name in found.splits]).tolist() == [12, 6, 6]
    assert np.array_equal(found.images[13], arrays["val_images"][1])


def test_a_class_that_a_file_lacks_keeps_its_number(tmp_path):
    arrays = write(tmp_path / "octmnist.npz", (28, 28), 4)
    for split in ("train", "val", "test"):
        arrays[f"{split}_labels"] = np.where(arrays[f"{split}_labels"] == 1, 3, arrays[f"{split}_labels"])
    np.savez(tmp_path / "octmnist.npz", **arrays)
    found = read_listing(DataConfig(name="medmnist/octmnist", path=str(tmp_path)))
    assert found.class_names[3] == "normal" and found.labels[:4].tolist() == [0, 3, 2, 3]


def test_several_labels(tmp_path):
    write(tmp_path / "chestmnist.npz", (28, 28), 2, columns=14)
    found = read_listing(DataConfig(name="medmnist/chestmnist", path=str(tmp_path)))
    assert found.task == "multilabel" and found.class_names[13] == "hernia" and found.labels.shape == (24, 14)


def test_volumes_are_read_whole_and_scaled_in_depth(tmp_path):
    arrays = write(tmp_path / "nodulemnist3d.npz", (28, 28, 28), 2)
    config = DataConfig(name="medmnist/nodulemnist3d", path=str(tmp_path), image_size=28, depth=28)
    sets = data.load(config)
    assert sets["train"].class_names == ("benign", "malignant") and len(sets["test"]) == 6
    got = sets["val"].images.read(np.arange(6))
    assert got.shape == (6, 28, 28, 28, 3)
    assert np.array_equal(got[..., 2], arrays["val_images"])
    listing = read_listing(config)
    assert decode(listing.images[0], Geometry(14, depth=7)).shape == (7, 14, 14, 3)


@pytest.mark.parametrize(
    ("stem", "shape", "classes", "columns", "message"),
    [
        ("bloodmnist", (64, 64, 3), 8, 1, r"holds images of \(64, 64\) pixels, not bloodmnist at 28"),
        ("organmnist3d", (28, 28), 11, 1, "not organmnist3d at 28"),
        ("breastmnist", (28, 28), 3, 1, "not the 2 of breastmnist"),
        ("pathmnist", (28, 28, 3), 2, 9, "not the 9 of pathmnist"),
        ("chestmnist", (28, 28), 2, 5, "not the 14 of chestmnist"),
    ],
)
def test_other_files_under_a_sets_name(tmp_path, stem, shape, classes, columns, message):
    write(tmp_path / f"{stem}.npz", shape, classes, columns)
    with pytest.raises(UserError, match=message):
        read_listing(DataConfig(name=f"medmnist/{stem}", path=str(tmp_path)))


def test_the_command_prepares_volumes_by_name(tmp_path, capsys):
    arrays = write(tmp_path / "vesselmnist3d.npz", (28, 28, 28), 2, counts=(3, 2, 2))
    out = tmp_path / "out"
    words = [
        "ttl_jax",
        "prepare",
        str(tmp_path),
        "--name=medmnist/vesselmnist3d",
        f"--out={out}",
        "--workers=1",
    ]
    assert main(words) == 0 and "7 images in" in capsys.readouterr().out
    found = read_listing(DataConfig(name="record", path=str(out)))
    assert found.class_names == ("vessel", "aneurysm") and found.splits.tolist()[3] == "val"
    read = np.stack([np.asarray(picture.read()) for picture in found.images[4].slices])
    assert np.array_equal(read, arrays["val_images"][1])
