"""A finished run taken up again: its config, its network, the weights it started from and its best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ttl_jax import evaluation, strategies, weights
from ttl_jax.config import RunConfig
from ttl_jax.errors import UserError
from ttl_jax.models import Network
from ttl_jax.training.build import build_model
from ttl_jax.training.records import provenance
from ttl_jax.training.records.checkpoint import Checkpoints
from ttl_jax.training.start import without_source_head
from ttl_jax.typing import Variables


@dataclass(frozen=True)
class Loaded:
    """The network of a run.

    Attributes:
        config: the run's config.
        network, preprocessing: both as the run built them.
        start: variables at step 0: pretrained, with a fresh head.
        best: the checkpoint that validation picked.
    """

    config: RunConfig
    network: Network
    preprocessing: weights.Preprocessing
    start: Variables
    best: Variables


def load_run(folder: Path) -> Loaded:
    """Builds a finished run's network again and restores its best checkpoint.

    Raises:
        UserError: the folder holds no finished run.
    """
    if not (folder / "config.json").exists() or not (folder / "result.json").exists():
        raise UserError(f"{folder} is not the folder of a finished run: it has no result.json")
    config = provenance.begun_with(folder)
    names = evaluation.predictions.load(folder / "predictions" / "val.npz").class_names
    strategy = strategies.parse(config.strategy)
    network, start, preprocessing = build_model(config, strategy, len(names), names)
    kept = {"params": start["params"], "batch_stats": start["batch_stats"]}
    checkpoints = Checkpoints(folder)
    try:
        best, _ = checkpoints.restore_best(kept)
    finally:
        checkpoints.close()
    return Loaded(config, network, preprocessing, start, without_source_head(best))
