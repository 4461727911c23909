"""Weights & Biases, offline unless WANDB_MODE says otherwise: nothing leaves the machine unasked.

`wandb sync WORKDIR/wandb/offline-run-*` sends it later; WANDB_PROJECT names the project.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttl_jax.training.records.loggers import figures


class WeightsAndBiases:
    """One W&B run a work folder, taken up again under its id (kept in WORKDIR/wandb/id)."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder, self._config = folder, config
        self._run: Any = None

    def begin(self, step: int) -> None:
        """Starts or takes up the run; the service ignores steps that it has already."""
        import wandb

        place = self._folder / "wandb" / "id"
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.write_text(uuid.uuid4().hex[:12])
        mode = os.environ["WANDB_MODE"] if "WANDB_MODE" in os.environ else "offline"
        self._run = wandb.init(
            dir=str(self._folder),
            project=os.environ["WANDB_PROJECT"] if "WANDB_PROJECT" in os.environ else "ttl_jax",
            name=self._folder.name,
            id=place.read_text(),
            config=dict(self._config),
            mode=mode,
            resume="allow" if mode == "online" else None,
            reinit="create_new",  # a sweep's worker has one run after another
            settings=wandb.Settings(console="off", silent=True),
        )

    def event(self, values: Mapping[str, Any]) -> None:
        """Logs every number of the event at its step."""
        if self._run is None:
            self.begin(0)
        self._run.log(figures(values), step=values["step"])

    def close(self) -> None:
        """Hands everything to W&B's own process, which writes it to its end (or sends it)."""
        if self._run is not None:
            self._run.finish()


def make(folder: Path, config: Mapping[str, Any]) -> WeightsAndBiases:
    """The logger of a run."""
    return WeightsAndBiases(folder, config)
