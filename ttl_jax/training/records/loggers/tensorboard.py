"""WORKDIR/tensorboard: event files for `tensorboard --logdir=WORKDIR`, written without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttl_jax.training.records.loggers import figures


class TensorBoard:
    """Scalars by step; after a resume TensorBoard hides what is about to come again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Opens an event file; one that a resumed run opens takes back the steps after this one."""
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(
            str(self._folder),
            purge_step=step + 1 if step else None,
            filename_suffix=f".from{step}",  # else two within a second are one file
        )

    def event(self, values: Mapping[str, Any]) -> None:
        """Writes every number of the event."""
        if self._writer is None:
            self.begin(0)
        for name, value in figures(values).items():
            self._writer.add_scalar(name, value, values["step"])

    def close(self) -> None:
        """Writes what is still held back."""
        if self._writer is not None:
            self._writer.close()


def make(folder: Path, config: Mapping[str, Any]) -> TensorBoard:
    """The logger of a run."""
    return TensorBoard(folder)
