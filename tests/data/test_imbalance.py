import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from ttl_jax.data import ArrayReader, Dataset, class_weights, pos_weight
from ttl_jax.errors import UserError


def dataset(labels, task="multiclass", names=("a", "b", "c")) -> Dataset:
    ids = np.arange(len(labels)).astype(str)
    images = ArrayReader(np.zeros((len(labels), 2, 2, 3), np.uint8))
    return Dataset("train", np.asarray(labels), ids, ids, names, task, images)


def test_class_weights_are_sklearns_balanced():
    labels = np.repeat([0, 1, 2], [50, 7, 13]).astype(np.int32)
    want = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    got = class_weights(dataset(labels))
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert got.dtype == np.float32
    assert abs(got[labels].mean() - 1) < 1e-6


def test_pos_weight_counts_known_entries_only():
    nan = np.nan
    labels = np.array([[1, 0], [0, nan], [0, 1], [0, 1], [nan, 1], [nan, 0]], np.float32)
    data = dataset(labels, "multilabel", ("x", "y"))
    np.testing.assert_allclose(pos_weight(data), [3 / 1, 2 / 3], rtol=1e-6)
    np.testing.assert_array_equal(class_weights(data), pos_weight(data))


def test_a_class_that_cannot_be_balanced_is_named():
    with pytest.raises(UserError, match="'b' has no image"):
        class_weights(dataset(np.array([0, 2, 2], np.int32)))
    with pytest.raises(UserError, match="'y' has no positive"):
        pos_weight(dataset(np.array([[1, 0], [0, np.nan]], np.float32), "multilabel", ("x", "y")))
