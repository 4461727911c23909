"""Batches: a pure function of (seed, step), prefetched by grain's threads.

The element of the grain data set is a whole batch: one gather a batch instead of one Python call an
image (644k against 2-30k images/s for 28 px images in memory).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ttl_jax.data.class_weights import strata
from ttl_jax.data.dataset import Dataset, ViewsReader
from ttl_jax.errors import UserError
from ttl_jax.system.host import release_memory
from ttl_jax.typing import Int

Batch = dict[str, np.ndarray]


_HELD: OrderedDict[tuple[int, int, int], Int[np.ndarray, " N"]] = OrderedDict()
_ROOM = 4_000_000  # bytes of permutations that are kept, or two of them: an epoch's and the next one's
_LOCK = threading.Lock()


def permutation(seed: int, epoch: int, count: int) -> Int[np.ndarray, " N"]:
    """Return the order of examples in an epoch, the same under every version of NumPy.

    It sorts raw 64-bit words of Philox: NumPy promises the words, not `Generator.permutation`.

    Returns:
        int32 (count,), read-only; int64 from 2**31 examples on.
    """
    key = seed % 2**64, epoch, count
    with _LOCK:  # the threads that read ahead share one
        if key not in _HELD:
            _HELD[key] = _order(np.random.Philox(np.random.SeedSequence(key[:2])).random_raw(count))
            if 8 * count > _ROOM:
                release_memory()  # malloc keeps for each thread what the words took
        _HELD.move_to_end(key)
        while len(_HELD) > 2 and sum(order.nbytes for order in _HELD.values()) > _ROOM:
            _HELD.popitem(last=False)
        return _HELD[key]


def _order(words: Int[np.ndarray, " N"], parts: int = 16) -> Int[np.ndarray, " N"]:
    """Return a stable argsort of 64-bit words.

    Sixteen ranges of words are sorted one by one: an argsort of all of them at once would hold twice
    their bytes more.
    """
    order = np.empty(len(words), np.int32 if len(words) < 2**31 else np.int64)
    start = 0
    for part in range(parts):
        first, last = (
            np.uint64(number * (2**64 // parts) - step) for number, step in ((part, 0), (part + 1, 1))
        )
        here = np.flatnonzero((words >= first) & (words <= last))
        order[start : start + len(here)] = here[np.argsort(words[here], kind="stable")]
        start += len(here)
    order.flags.writeable = False
    return order


def positions(
    count: int, seed: int, start: int, stop: int
) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]:
    """Return the examples at the global positions start..stop-1 of a training.

    Position p belongs to epoch p // count and is example permutation(seed, epoch)[p % count].

    Returns:
        examples int64 (K,), epochs int64 (K,).
    """
    epochs, places = np.divmod(np.arange(start, stop), count)
    examples = np.empty(len(epochs), np.int64)
    for epoch in range(start // count, -(-stop // count)):
        now = slice(max(epoch * count - start, 0), (epoch + 1) * count - start)
        examples[now] = permutation(seed, epoch, count)[places[now]]
    return examples, epochs


def batch_positions(
    count: int, batch_size: int, seed: int, step: int
) -> tuple[Int[np.ndarray, " B"], Int[np.ndarray, " B"]]:
    """Return the examples of a training batch. Every batch is full; one may reach into the next epoch.

    Returns:
        examples int64 (B,), epochs int64 (B,).
    """
    return positions(count, seed, step * batch_size, (step + 1) * batch_size)


def seeds(seed: int, count: int) -> Int[np.ndarray, " N"]:
    """The seed for each of `count` examples: its low 32 bits, which are what `jax.random.key` takes of it."""
    return np.full(count, seed % 2**32, np.uint32).view(np.int32)


_BLOCK = 1024  # draws; classes are even within every block


@lru_cache(maxsize=64)
def _block(seed: int, number: int, classes: int) -> tuple[Int[np.ndarray, " K"], Int[np.ndarray, " K"]]:
    """Return the classes drawn in a block, in random order, and the count of earlier draws of each class."""
    each = -(-_BLOCK // classes)
    bits = np.random.Philox(np.random.SeedSequence([seed % 2**64, number, 1]))
    order = np.argsort(bits.random_raw(each * classes), kind="stable")
    return order % classes, number * each + order // classes


@lru_cache(maxsize=1024)
def _pass(seed: int, number: int, place: int, count: int) -> Int[np.ndarray, " N"]:
    """Return the order of a class's examples in its `number`-th pass."""
    bits = np.random.Philox(np.random.SeedSequence([seed % 2**64, number, place, 2]))
    return np.argsort(bits.random_raw(count), kind="stable")


@dataclass(frozen=True)
class Balanced:
    """Sampling that draws every class equally often; within a class, every example once before any again.

    Attributes:
        members: Positions of each class's examples.
        seed: Seed of the order.
    """

    members: tuple[Int[np.ndarray, " M"], ...]
    seed: int

    def positions(self, batch_size: int, step: int) -> tuple[Int[np.ndarray, " B"], Int[np.ndarray, " B"]]:
        """Return the examples of a training batch, and how often each was drawn before.

        Returns:
            examples int64 (B,), passes int64 (B,): counted from 0 for each example, so that
            (pass, example) never repeats.
        """
        width = len(self.members)
        size = -(-_BLOCK // width) * width
        examples = np.empty(batch_size, np.int64)
        passes = np.empty(batch_size, np.int64)
        place = step * batch_size + np.arange(batch_size)
        for block in np.unique(place // size).tolist():
            classes, draws = _block(self.seed, block, width)
            now = np.flatnonzero(place // size == block)
            classes, draws = classes[place[now] % size], draws[place[now] % size]
            for at, which, draw in zip(now.tolist(), classes.tolist(), draws.tolist(), strict=True):
                own = self.members[which]
                passes[at] = draw // len(own)
                order = _pass(self.seed, draw // len(own), which, len(own))
                examples[at] = own[order[draw % len(own)]]
        return examples, passes


@dataclass(frozen=True)
class Rows:
    """The rows of a batch, padded and shared out among processes.

    Attributes:
        padded: examples with padding at the end, a multiple of the devices (and parts).
        own: the rows that are read and yielded: one process's share.
    """

    padded: int
    own: slice


@dataclass(frozen=True)
class _Batches:
    """grain's random-access source: batch number -> batch."""

    count: int
    make: Callable[[int], Batch]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        return self.make(int(index))


def train_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    sampling: str = "uniform",
    threads: int = 2,
    rows: Rows | None = None,
) -> Iterator[Batch]:
    """Yield the training batches of steps start..stop-1.

    Args:
        dataset: The training split.
        batch_size: Number of examples per batch, B.
        seed: Seed of the order.
        start: First step. A resumed run goes on with the batches of an uninterrupted one.
        stop: One past the last step.
        sampling: "uniform" (every example once per epoch) or "balanced" (every class equally often; with
            several labels an image stands for its rarest one).
        threads: Number of threads that gather or decode ahead; 0 works in the caller's thread. The batches
            are the same.
        rows: Rows of every batch that are read and yielded. A padded batch is filled with its last example,
            of label -1 (NaN for several labels) and "mask" float32 (B,) 0. None yields the batch as it is.

    Yields:
        {"image": uint8 (B, S, S, 3), "label": int32 (B,) or float32 (B, L), "example": int32 (B,)
        position in the data set, "epoch": int32 (B,) how often the example was drawn before, "seed": int32
        (B,) the low bits of the seed: with it a batch names all that its randomness depends on, so that
        runs of different seeds share one compiled step}.

    Raises:
        UserError: batch_size or threads out of range, or an image that vanished meanwhile.
    """
    _check(batch_size, threads)
    share = rows or Rows(batch_size, slice(None))
    filling = share.padded - batch_size
    balanced = None
    if sampling == "balanced":
        which = strata(dataset)
        balanced = Balanced(tuple(np.flatnonzero(which == value) for value in np.unique(which)), seed)

    def make(index: int) -> Batch:
        if balanced is not None:
            examples, epochs = balanced.positions(batch_size, start + index)
        else:
            examples, epochs = batch_positions(len(dataset), batch_size, seed, start + index)
        # Pad before this process's rows are cut out, so that all processes agree on the batch.
        if filling:
            examples, epochs = (np.pad(values, (0, filling), mode="edge") for values in (examples, epochs))
        real = (np.arange(len(examples)) < batch_size)[share.own]
        examples, epochs = examples[share.own], epochs[share.own]
        reader = dataset.images
        if isinstance(reader, ViewsReader):
            images = reader.read_epochs(examples, epochs)
        else:
            images = reader.read(examples)
        batch = {
            "image": images,
            "label": dataset.labels[examples],
            "example": examples.astype(np.int32),
            "epoch": epochs.astype(np.int32),
            "seed": seeds(seed, len(examples)),
        }
        if filling:
            batch["mask"] = real.astype(np.float32)
            batch["label"][~real] = np.nan if dataset.task == "multilabel" else -1
        return batch

    return _iterate(_Batches(max(0, stop - start), make), threads)


def eval_batches(
    dataset: Dataset, batch_size: int, threads: int = 2, rows: slice | None = None
) -> Iterator[Batch]:
    """Yield every example once, in order; the last batch is filled up with its last example, masked.

    Args:
        dataset: The split to read.
        batch_size: Number of examples per batch, B.
        threads: Number of threads that gather or decode ahead, as for `train_batches`.
        rows: Rows of every batch that are read: one process's share of it. None reads all.

    Yields:
        {"image", "label", "example", "epoch" (zeros)} as `train_batches`, and "mask" float32 (B,) of the
        whole batch whatever `rows`: 1 for an example, 0 for padding.

    Raises:
        UserError: batch_size or threads out of range, or an image that vanished meanwhile.
    """
    _check(batch_size, threads)
    count = len(dataset)

    def make(index: int) -> Batch:
        place = index * batch_size + np.arange(batch_size)
        examples = np.minimum(place, count - 1)[rows or slice(None)]
        return {
            "image": dataset.images.read(examples),
            "label": dataset.labels[examples],
            "example": examples.astype(np.int32),
            "epoch": np.zeros(len(examples), np.int32),
            "mask": (place < count).astype(np.float32),
        }

    return _iterate(_Batches(-(-count // batch_size), make), threads)


def _check(batch_size: int, threads: int) -> None:
    if batch_size < 1:
        raise UserError(f"data.batch_size={batch_size} must be above 0")
    if threads < 0:
        raise UserError(f"data.loader_threads={threads} is negative; 0 means no threads")


def _iterate(batches: _Batches, threads: int) -> Iterator[Batch]:
    import grain

    if not len(batches):
        return
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads if threads else 0)
    iterator = iter(grain.MapDataset.source(batches).to_iter_dataset(options))
    try:
        yield from iterator
    finally:
        iterator.close()  # a consumer that stops early leaves no thread behind
