"""Images with the very same pixels in two splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttl_jax.data.listing import SPLITS


def duplicate_line(hashes: Sequence[bytes], splits: np.ndarray, ids: np.ndarray) -> str:
    """One line of warning about copies across splits, or "" without any.

    Args:
        hashes: of the decoded pixels at the size trained on, one for each image.
        splits: (N,) names.
        ids: (N,) names for the example that the line gives.
    """
    first: dict[str, dict[bytes, int]] = {name: {} for name in SPLITS}
    for place, (digest, split) in enumerate(zip(hashes, splits.tolist(), strict=True)):
        first[split].setdefault(digest, place)
    parts: list[str] = []
    example = ""
    for one, other in (("test", "train"), ("val", "train"), ("test", "val")):
        copies = [place for place in np.flatnonzero(splits == one).tolist() if hashes[place] in first[other]]
        if copies:
            parts.append(f"{len(copies)} images of {one} stand in {other} too")
            twin = first[other][hashes[copies[0]]]
            example = example or f"{ids[copies[0]]} = {ids[twin]}"
    if not parts:
        return ""
    return f"warning: same pixels in two splits: {', '.join(parts)} (as {example}); scores are too good"
