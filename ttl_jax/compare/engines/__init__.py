"""Where cells are run: processes of this machine, Ray, or Slurm through submitit."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ttl_jax.compare.worker import Report, Task


class Engine(Protocol):
    """Runs tasks, so many at a time."""

    def submit(self, task: Task) -> None:
        """Starts a task; called with fewer than `compare.workers` under way."""

    def wait(self, seconds: float) -> list[Report]:
        """Reports of tasks that have ended, after one has or the time is over."""

    def close(self, seconds: float = 0.0) -> None:
        """Ends everything, tasks under way too; where the engine can, these get so long to save."""


def start(config: Any, workdir: Path) -> Engine:
    """The engine that `compare.engine` names.

    Raises:
        UserError: its library is not installed.
    """
    if config.compare.engine == "ray":
        from ttl_jax.compare.engines.ray import RayEngine

        return RayEngine()
    if config.compare.engine == "submitit":
        from ttl_jax.compare.engines.submitit import SubmititEngine

        return SubmititEngine(workdir / "slurm")
    from ttl_jax.compare.engines.local import LocalEngine

    return LocalEngine(config.compare.workers)
