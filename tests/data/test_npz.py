import numpy as np
import pytest

from ttl_jax.data.sources.npz import read_arrays, read_npz
from ttl_jax.errors import UserError


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    made = {}
    for split, count in (("train", 20), ("val", 4), ("test", 6)):
        made[f"{split}_images"] = rng.integers(0, 256, (count, 5, 5), dtype=np.uint8)
        made[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    return made


@pytest.fixture
def read(tmp_path):
    def run(arrays):
        np.savez(tmp_path / "set.npz", **arrays)
        return read_npz(tmp_path / "set.npz")

    return run


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_gray_and_colour_images_with_their_own_splits(arrays, read, shape):
    for split in ("train", "val", "test"):
        images = arrays[f"{split}_images"]
        arrays[f"{split}_images"] = np.repeat(images[..., None], shape[0], -1) if shape else images
    found = read(arrays)
    assert found.splits.tolist() == ["train"] * 20 + ["val"] * 4 + ["test"] * 6
    assert found.task == "multiclass" and found.class_names == ("0", "1")
    assert found.labels.tolist() == arrays["train_labels"][:, 0].tolist() + [0, 1] * 2 + [0, 1] * 3
    assert np.array_equal(found.images[21], arrays["val_images"][1])
    assert found.ids[21] == "val/000001" and len(set(found.ids)) == 30


def test_labels_of_one_dimension_and_of_several_columns(arrays, read):
    for split in ("train", "val", "test"):
        arrays[f"{split}_labels"] = arrays[f"{split}_labels"][:, 0]
    assert read(arrays).task == "multiclass"
    for split in ("train", "val", "test"):
        one = arrays[f"{split}_labels"]
        arrays[f"{split}_labels"] = np.stack([one, 1 - one, one], axis=1)
    found = read(arrays)
    assert found.task == "multilabel" and found.labels.dtype == np.float32
    assert found.labels.shape == (30, 3) and found.labels[0].tolist() == [0, 1, 0]


def test_absent_splits_are_left_to_the_caller(arrays, read):
    del arrays["val_images"], arrays["val_labels"]
    assert set(read(arrays).splits) == {"train", "test"}


def change(arrays, name, function):
    return arrays | {name: function(arrays[name])}


def with_nan(images):
    images = images.astype(np.float32)
    images[3, 0, 0] = np.nan
    return images


FAULTS = [
    ("train_images", with_nan, "train_images: image 3 has NaN"),
    ("train_images", lambda x: x / 255, "train_images are float64; scale them to 0..255"),
    ("train_images", lambda x: x.astype(np.uint16), "are uint16"),
    ("train_images", lambda x: x[:, :, :, None].repeat(4, -1), r"shape \(20, 5, 5, 4\)"),
    ("test_images", lambda x: x[:0], "test_images are empty"),
    ("val_labels", lambda x: x[:-1], "val_labels are 3 labels for 4 images"),
    ("train_labels", lambda x: x.astype(np.float32) / 2, "labels are float"),
    ("train_labels", lambda x: x.astype(np.int64) - 1, "image train/000000 has class -1"),
    (
        "train_labels",
        lambda x: np.where(np.arange(20)[:, None] == 7, -1, x.astype(np.int64)),
        "image train/000007 has class -1",
    ),
    ("val_labels", lambda x: x.repeat(2, 1), "labels of .1, 2. columns"),
]


@pytest.mark.parametrize(("name", "function", "message"), FAULTS)
def test_faults(arrays, read, name, function, message):
    with pytest.raises(UserError, match=message):
        read(change(arrays, name, function))


def test_wrong_names_and_files(arrays, read, tmp_path):
    arrays["train_image"] = arrays.pop("train_images")
    with pytest.raises(UserError, match="no array 'train_images'.*'train_image'"):
        read(arrays)
    with pytest.raises(UserError, match="does not exist"):
        read_npz(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK not a zip")
    with pytest.raises(UserError, match="not a readable .npz"):
        read_npz(tmp_path / "bad.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(UserError, match="not a readable .npz"):
        read_npz(tmp_path / "one.npz")


def test_one_class_only(arrays, read):
    for split in ("train", "val", "test"):
        arrays[f"{split}_labels"] = arrays[f"{split}_labels"] * 0
    with pytest.raises(UserError, match="one class only"):
        read(arrays)


def test_arrays_with_text_labels_and_unknowns():
    images = np.zeros((4, 3, 3), np.uint8)
    found = read_arrays(images, np.array(["b", "a", "b", "a"]))
    assert found.class_names == ("a", "b") and found.labels.tolist() == [1, 0, 1, 0]
    labels = np.array([[0, 1], [1, np.nan], [0, 0], [1, 1]])
    found = read_arrays(images, labels)
    np.testing.assert_array_equal(found.labels, labels.astype(np.float32))
    with pytest.raises(UserError, match="image 000001 has 2.0 in label 0"):
        read_arrays(images, np.array([[0, 1], [2, 0], [1, 0], [0, 1.0]]))
