"""Grouping of the training steps that go to the device in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def in_calls(
    batches: Iterable[T], start: int, most: int, ends: Callable[[int], bool]
) -> Iterator[tuple[T, ...]]:
    """Yield batches in groups of `most`, or one by one where the host has to act before the group is done.

    The result is two compiled programs at most, and a host that waits at every step where it has to act.

    Args:
        batches: one a step, from step `start` on.
        start: steps done so far.
        most: largest number of batches in a group.
        ends: says whether the host has to act (validate, log, save) after a given step.
    """
    left = iter(batches)
    while True:
        free = not any(ends(start + number) for number in range(1, most))
        group = tuple(islice(left, most if free else 1))
        if not group:
            return
        yield group
        start += len(group)
