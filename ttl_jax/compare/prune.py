"""Removes checkpoints that nothing will be read from again."""

from __future__ import annotations

import shutil
from pathlib import Path

from ttl_jax.compare import cells
from ttl_jax.compare.config import CompareConfig
from ttl_jax.compare.setting_state import SettingState


def prune(config: CompareConfig, workdir: Path, state: SettingState) -> None:
    """Removes checkpoints of finished cells, as `compare.keep` says.

    Those of tuning runs go once hyperparameters are taken, save the folder that a final cell goes on in; of
    final cells the best variables stay with "best".
    """
    if config.compare.keep == "all" or state.taken is None:
        return
    finals = {cells.folder(workdir, cell): outcome for cell, outcome in state.finals.items()}
    for tried in state.tuning:
        place = cells.folder(workdir, cells.tuning_cell(config, state.setting, *tried))
        if place not in finals:
            shutil.rmtree(place / "checkpoints", ignore_errors=True)
    for place, outcome in finals.items():
        if outcome.status == "done":
            what = "checkpoints/last" if config.compare.keep == "best" else "checkpoints"
            shutil.rmtree(place / what, ignore_errors=True)
