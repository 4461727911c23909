"""Random draw of whole groups: equal chances whatever their size, with the classes' shares kept.

Groups are decided one after the other, the large ones first. The chance of each is the share of the images
still to come that is still wanted: with single images this is selection sampling (Fan, Muller and Rezucha
1962; Knuth's algorithm S), which meets the number wanted. To it comes, for several properties, what makes
up for their shares so far: the least-squares change of all chances to come, as in balanced sampling
(Deville and Tille 2004). Both are right on average whatever was drawn before, so that a group's chance
before anything is drawn is the share asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttl_jax.typing import Bool, Float, Int


def draw(
    counts: Int[np.ndarray, "G C"],
    sizes: Int[np.ndarray, " G"],
    images: float,
    turns: Sequence[bytes],
    chances: Float[np.ndarray, " G"],
) -> Bool[np.ndarray, " G"]:
    """Draw groups of about `images` images that keep each property's share; True for those drawn.

    Args:
        counts: Number of images of each group with each property whose share is to be kept; C may be 0.
        sizes: Number of images of each group.
        images: Number of images wanted. A group is left out if the total comes nearer without it.
        turns: Order among groups of one size.
        chances: One number from 0 to 1 per group, uniform and independent of `turns`.
    """
    drawn = np.zeros(len(sizes), bool)
    fits = np.flatnonzero(sizes / 2 <= images + 1e-9)
    left = float(sizes[fits].sum())
    having = counts[fits].sum(axis=0).astype(np.float64)  # of the images left, with each property
    wanted = having * (images / max(left, 1.0))  # of these
    mixed = (counts[fits] / sizes[fits, None]).T @ counts[fits]
    for group in sorted(fits.tolist(), key=lambda group: (-sizes[group], turns[group])):
        chance = min(images / left, 1.0)
        if counts.shape[1]:
            # The ridge keeps the change small where little is left to make up with. It is cut as far
            # above as below: cut at a chance of 0 alone, it would favour the last, the smallest groups.
            spread = mixed - np.outer(having, having) / left + 0.5 * np.eye(len(having))
            change = np.linalg.solve(spread, wanted - chance * having)
            reach = min(chance, 1 - chance)
            chance += np.clip((counts[group] / sizes[group] - having / left) @ change, -reach, reach)
        drawn[group] = sizes[group] / 2 <= images + 1e-9 and chances[group] < chance
        if drawn[group]:
            images -= sizes[group]
            wanted -= counts[group]
        left -= sizes[group]
        having -= counts[group]
        mixed -= np.outer(counts[group] / sizes[group], counts[group])
    return drawn
