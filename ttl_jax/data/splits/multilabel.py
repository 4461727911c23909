"""Shares of several labels at once: iterative stratification over whole groups.

Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data", algorithm 1: the
rarest label is dealt out first, each of its examples to the part that wants that label most. Here an
example is a whole group, and a label's known negatives are dealt out like a label of their own, so
that a label which is nearly always present, or mostly unknown, keeps its shares too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ttl_jax.typing import Float, Int


def known_counts(
    labels: Float[np.ndarray, "N L"], members: Sequence[Sequence[int]]
) -> Int[np.ndarray, "G 2L"]:
    """Count the images with each label present, then with each known to be absent, group by group.

    Args:
        labels: 1, 0 or NaN = unknown, (N, L).
        members: Positions of each group's images.
    """
    values = np.concatenate([labels == 1, labels == 0], axis=1).astype(np.int64)
    return np.stack([values[list(positions)].sum(axis=0) for positions in members])


def deal(
    counts: Int[np.ndarray, "G C"],
    sizes: Int[np.ndarray, " G"],
    shares: Sequence[float],
    turn: Callable[[int], bytes],
) -> Int[np.ndarray, " G"]:
    """Return the part that each group goes to.

    Args:
        counts: Number of images of each group with each property.
        sizes: Number of images of each group.
        shares: Share of each part; they sum to 1.
        turn: Returns a group's place in the order. It is a hash, so that neither the order of the files nor a
            library's random numbers matter.

    Returns:
        Part numbers, (G,).
    """
    share = np.asarray(shares, np.float64)
    wanted = share[:, None] * counts.sum(axis=0)  # of each property, still
    room = share * sizes.sum()  # images, still
    turns = [turn(group) for group in range(len(sizes))]
    # Large groups first: what they upset, the small ones can put right.
    order = np.array(sorted(range(len(sizes)), key=lambda group: (-sizes[group], turns[group])), np.int64)
    part = np.full(len(sizes), -1)

    def give(group: int, wish: np.ndarray) -> None:
        best = np.flatnonzero(wish >= wish.max() - 1e-9)
        best = best[room[best] >= room[best].max() - 1e-9]
        chosen = int(best[turns[group][0] % len(best)])
        part[group] = chosen
        wanted[chosen] -= counts[group]
        room[chosen] -= sizes[group]

    left = counts.sum(axis=0).astype(np.float64)
    while (left > 0).any():
        rarest = int(np.argmin(np.where(left > 0, left, np.inf)))
        for group in order[(part[order] < 0) & (counts[order, rarest] > 0)].tolist():
            give(group, wanted[:, rarest])
        left = counts[part < 0].sum(axis=0).astype(np.float64)
    for group in order[part[order] < 0].tolist():  # nothing is known of these
        give(group, room)
    return part
