import threading
import tracemalloc

import numpy as np
import pytest

from ttl_jax.data import ArrayReader, Dataset, eval_batches, train_batches
from ttl_jax.data import batches as pipeline
from ttl_jax.data.batches import permutation
from ttl_jax.errors import UserError


def dataset(count: int, task: str = "multiclass") -> Dataset:
    """Image number n has all pixels n, and label n % 3."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 4, 4, 3))
    ids = np.array([f"i{number}" for number in range(count)])
    labels = np.arange(count, dtype=np.int32) % 3
    if task == "multilabel":
        labels = np.stack([labels == 1, labels == 2], axis=1).astype(np.float32)
        labels[0, 0] = np.nan
    return Dataset("train", labels, ids, ids, ("a", "b", "c"), task, ArrayReader(images.copy()))


def stream(**options) -> list[dict[str, np.ndarray]]:
    return list(train_batches(dataset(23), batch_size=5, **({"seed": 3, "start": 0} | options)))


def same(first, second) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(one[key], two[key]) for one, two in zip(first, second, strict=True) for key in one
    )


@pytest.mark.parametrize("batch_size", [1, 5, 23, 60])
def test_every_example_once_in_every_epoch(batch_size):
    epochs = 6
    steps = epochs * 23 // batch_size
    batches = list(train_batches(dataset(23), batch_size=batch_size, seed=0, start=0, stop=steps, threads=0))
    assert all(len(batch["example"]) == batch_size for batch in batches)
    examples = np.concatenate([batch["example"] for batch in batches])
    numbers = np.concatenate([batch["epoch"] for batch in batches])
    assert np.array_equal(numbers, np.arange(steps * batch_size) // 23)
    for epoch in range(steps * batch_size // 23):
        assert sorted(examples[numbers == epoch]) == list(range(23))


def test_images_and_labels_belong_to_their_example():
    for batch in stream(stop=12):
        assert batch["image"].shape == (5, 4, 4, 3) and batch["image"].dtype == np.uint8
        assert np.array_equal(batch["image"][:, 0, 0, 0], batch["example"])
        assert np.array_equal(batch["label"], batch["example"] % 3)
        assert batch["label"].dtype == batch["example"].dtype == batch["epoch"].dtype == np.int32


def test_epochs_and_seeds_differ_in_order():
    orders = [tuple(permutation(seed, epoch, 50)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16


def test_permutation_is_uniform_in_its_first_place():
    # 4000 draws of 8 places: chi-square of 7 degrees of freedom lies below 24.3 with p = 0.999
    first = [permutation(7, epoch, 8)[0] for epoch in range(4000)]
    counts = np.bincount(first, minlength=8)
    assert ((counts - 500) ** 2 / 500).sum() < 24.3


@pytest.mark.parametrize("start", [1, 4, 5, 11])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_resumed_stream_is_the_uninterrupted_one(start, threads):
    whole = stream(stop=14, threads=2)
    assert same(stream(start=start, stop=14, threads=threads), whole[start:])


def test_no_steps_left_gives_no_batches():
    assert stream(start=7, stop=7) == []
    assert stream(start=9, stop=7) == []


def test_a_consumer_that_stops_early_leaves_no_threads():
    before = set(threading.enumerate())
    batches = train_batches(dataset(23), batch_size=5, seed=0, start=0, stop=10_000, threads=3)
    next(batches)
    started = set(threading.enumerate()) - before
    assert started
    batches.close()
    for thread in started:
        thread.join(5)
    assert not [thread for thread in started if thread.is_alive()]


@pytest.mark.parametrize("batch_size", [1, 4, 5, 12, 40])
def test_evaluation_visits_each_example_once_in_order(batch_size):
    batches = list(eval_batches(dataset(12), batch_size))
    assert all(batch["image"].shape == (batch_size, 4, 4, 3) for batch in batches)
    kept = np.concatenate([batch["example"][batch["mask"] > 0] for batch in batches])
    assert np.array_equal(kept, np.arange(12))
    assert sum(batch["mask"].sum() for batch in batches) == 12
    assert all(batch["mask"].dtype == np.float32 for batch in batches)


def test_unknown_labels_arrive_as_nan():
    split = dataset(5, "multilabel")
    labels = np.concatenate([batch["label"] for batch in eval_batches(split, 5)])
    assert np.array_equal(labels, split.labels, equal_nan=True)
    assert np.isnan(labels[0, 0]) and labels.dtype == np.float32


def test_senseless_sizes_are_refused():
    with pytest.raises(UserError, match="batch_size=0"):
        list(eval_batches(dataset(3), 0))
    with pytest.raises(UserError, match="loader_threads=-1"):
        list(train_batches(dataset(3), batch_size=1, seed=0, start=0, stop=1, threads=-1))


@pytest.mark.parametrize("threads", [0, 2])
def test_a_vanished_image_is_the_users_error_from_any_thread(tmp_path, save, threads):
    from ttl_jax.data.images.cache import read_all
    from ttl_jax.data.images.decode import Geometry

    files = [tmp_path / f"{number}.png" for number in range(6)]
    for number, file in enumerate(files):
        save(file, number)
    reader = read_all(files, list(map(str, files)), Geometry(4), cache_gb=0).reader
    files[4].unlink()
    ids = np.arange(6).astype(str)
    split = Dataset("val", np.zeros(6, np.int32), ids, ids, ("a", "b"), "multiclass", reader)
    with pytest.raises(UserError, match="4.png does not exist, though"):
        list(eval_batches(split, 2, threads=threads))


@pytest.mark.parametrize("count", [0, 1, 17, 5000])
def test_the_order_is_that_of_one_stable_sort(count):
    words = np.random.default_rng(count).integers(0, 2**64, count, dtype=np.uint64)
    words[: count // 3] = words[count // 3 : 2 * (count // 3)]  # equal ones
    if count:
        words[0], words[-1] = 0, 2**64 - 1
    assert pipeline._order(words).tolist() == np.argsort(words, kind="stable").tolist()


def test_an_example_takes_few_bytes_whatever_the_epochs(monkeypatch):
    """Ids, groups, labels and orders; the images are a mapped file's."""
    monkeypatch.setattr(pipeline, "_ROOM", 0)  # as with a million examples
    count, size = 50_000, 1000
    images = ArrayReader(np.broadcast_to(np.uint8(0), (count, 1, 1, 3)))
    tracemalloc.start()
    try:
        names = np.array([f"folder/{number:07d}.png" for number in range(count)])
        data = Dataset(
            "train", np.zeros(count, np.int32), names, names.copy(), ("a", "b"), "multiclass", images
        )
        del names
        steps = 4 * count // size
        for _ in train_batches(data, batch_size=size, seed=0, start=0, stop=steps, threads=0):
            pass
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 18 + 4 + 2 * 4 < held / count < 32  # an id's characters, a label, two epochs' orders
    assert len(pipeline._HELD) == 2


def test_text_that_is_not_ascii_stays_as_it_is():
    ids, groups = np.array(["ä", "b"]), np.array(["p1", "p10"])
    data = Dataset("train", np.zeros(2, np.int32), ids, groups, ("a", "b"), "multiclass",
                   ArrayReader(np.zeros((2, 1, 1, 3), np.uint8)))  # fmt: skip
    assert data.ids.tolist() == ["ä", "b"] and data.groups.tolist() == ["p1", "p10"]
    assert data.take([1, 0]).ids.tolist() == ["b", "ä"] and data.take([1]).groups.dtype.kind == "U"
    assert data.names([1, 0]) == ["b", "ä"] and data.take([1]).names([0]) == ["b"]
