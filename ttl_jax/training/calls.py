"""Which steps go to the device in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def in_calls(
    batches: Iterable[T], start: int, most: int, ends: Callable[[int], bool]
) -> Iterator[tuple[T, ...]]:
    """Batches in groups of `most`, or of one where something is due before so many steps are done.

    So there are two programs at most, and what is due at a step finds the host waiting there.

    Args:
        batches: of the steps from `start` on, one each; something is due at their end.
        start: steps done.
        most: of a group.
        ends: whether something is due once so many steps are done.
    """
    left = iter(batches)
    while True:
        free = not any(ends(start + number) for number in range(1, most))
        group = tuple(islice(left, most if free else 1))
        if not group:
            return
        yield group
        start += len(group)
