"""Stratified folds of whole groups, for cross-validation."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ttl_jax.data.splits.multilabel import deal, known_counts
from ttl_jax.data.splits.splits import collect, turn
from ttl_jax.errors import UserError
from ttl_jax.typing import Int


def assign_folds(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> Int[np.ndarray, " N"]:
    """Give every image a fold 0..folds-1; a group is in one fold.

    One class an image: the groups whose rarest class it is are dealt out, the largest first, each to
    the fold that has fewest images of them so far (as scikit-learn's StratifiedGroupKFold, greedy).
    Several labels: iterative stratification.

    Args:
        labels: Int class numbers (N,), or float (N, L) with NaN = unknown.
        groups: Group names, (N,).
        folds: Number of folds, 2 or more.
        seed: Seed of the order among groups of one size.

    Raises:
        UserError: fewer groups than folds.
    """
    all_groups = collect(labels, groups)
    if len(all_groups) < folds:
        raise UserError(
            f"data.folds={folds} needs as many groups, and there are {len(all_groups)}; ask for fewer"
        )
    fold_of = np.zeros(len(groups), np.int64)
    if labels.ndim == 2:
        members = [group.members for group in all_groups]
        sizes = np.array([len(positions) for positions in members])
        shares = [1 / folds] * folds
        part = deal(known_counts(labels, members), sizes, shares, lambda at: turn(seed, all_groups[at].name))
        for positions, number in zip(members, part.tolist(), strict=True):
            fold_of[list(positions)] = number
        return fold_of
    total = np.zeros(folds, np.int64)
    strata = defaultdict(list)
    for group in all_groups:
        strata[group.stratum].append(group)
    # The rarest class first, as the total balances what its few images upset.
    for stratum in sorted(strata, key=lambda key: (sum(len(group.members) for group in strata[key]), key)):
        own = np.zeros(folds, np.int64)
        for group in sorted(strata[stratum], key=lambda item: (-len(item.members), turn(seed, item.name))):
            chosen = min(range(folds), key=lambda fold: (own[fold], total[fold], fold))
            fold_of[list(group.members)] = chosen
            own[chosen] += len(group.members)
            total[chosen] += len(group.members)
    return fold_of


def splits_of_fold(
    fold_of: Int[np.ndarray, " N"], folds: int, fold: int, has_test: np.ndarray | None = None
) -> np.ndarray:
    """Return the split of each image when `fold` is held out.

    Args:
        fold_of: Output of `assign_folds`; used only where `has_test` is False.
        folds: Number of folds.
        fold: The held-out fold, 0..folds-1.
        has_test: True for images of the data's own test split, (N,). That split stays, and the fold becomes
            "val". Without one the fold is "test" and the next one, cyclically, "val".

    Returns:
        (N,) "train", "val", "test".
    """
    splits = np.full(len(fold_of), "train", dtype="U5")
    if has_test is not None and has_test.any():
        splits[fold_of == fold] = "val"
        splits[has_test] = "test"
        return splits
    splits[fold_of == fold] = "test"
    splits[fold_of == (fold + 1) % folds] = "val"
    return splits
