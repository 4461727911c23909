import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from ttl_jax.data import ArrayReader, Dataset, class_weights, frequencies, pos_weight, train_batches
from ttl_jax.data.class_weights import strata
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


def test_frequencies_are_shares_of_what_is_known():
    np.testing.assert_allclose(
        frequencies(dataset(np.repeat([0, 1, 2], [5, 3, 2]))), [0.5, 0.3, 0.2], rtol=1e-6
    )
    labels = np.array([[1, 0], [0, np.nan], [0, 1], [0, 1], [np.nan, 1]], np.float32)
    found = frequencies(dataset(labels, "multilabel", ("x", "y")))
    np.testing.assert_allclose(found, [1 / 4, 3 / 4], rtol=1e-6)


def test_an_image_stands_for_its_rarest_label():
    labels = np.array([[1, 1], [1, 0], [1, np.nan], [0, np.nan], [0, 1]], np.float32)
    assert strata(dataset(labels, "multilabel", ("x", "y"))).tolist() == [1, 0, 0, -1, 1]


def drawn(data, steps, start=0, size=32):
    batches = list(
        train_batches(data, batch_size=size, seed=3, start=start, stop=steps, sampling="balanced", threads=0)
    )
    return np.stack(
        [np.concatenate([batch[key] for batch in batches]) for key in ("label", "example", "epoch")]
    )


def test_balanced_sampling_draws_classes_evenly_and_examples_in_turn():
    data = dataset(np.repeat([0, 1, 2], [300, 40, 7]).astype(np.int32))
    label, example, epoch = drawn(data, 96)  # 3 blocks of 1,026 draws, nearly
    counts = np.bincount(label)
    assert counts.sum() == 96 * 32 and counts.max() - counts.min() <= 2 * 7
    for value in range(3):
        times = np.bincount(example[label == value])
        times = times[np.flatnonzero(data.labels == value)]
        assert times.max() - times.min() <= 2  # a block's order is not the order of its draws
    assert len(set(zip(example, epoch, strict=True))) == len(example)
    first = label[:64]
    assert set(first) == {0, 1, 2} and not np.array_equal(first, np.sort(first))


def test_balanced_batches_are_a_function_of_seed_and_step():
    data = dataset(np.repeat([0, 1, 2], [30, 20, 7]).astype(np.int32))
    assert np.array_equal(drawn(data, 60)[:, 50 * 32 :], drawn(data, 60, start=50))
    again = drawn(data, 30, size=64)
    assert np.array_equal(drawn(data, 60), again)  # the batch size only cuts one sequence of draws
