"""Engines that run trainings: processes of this machine, Ray, or Slurm through submitit."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ttl_jax.engines.task import Report, Task
from ttl_jax.errors import UserError

ENGINES = ("local", "ray", "submitit")


class Engine(Protocol):
    """Runs tasks, so many at a time."""

    def submit(self, task: Task) -> None:
        """Starts a task; called with fewer than its workers under way."""

    def wait(self, seconds: float) -> list[Report]:
        """Reports of tasks that have ended, after one has or the time is over."""

    def close(self, seconds: float = 0.0) -> None:
        """Ends everything, tasks under way too; where the engine can, these get so long to save."""


def start(name: str, workers: int, workdir: Path) -> Engine:
    """The engine of that name.

    Args:
        name: one of ENGINES.
        workers: processes of a local one.
        workdir: under which submitit keeps its files.

    Raises:
        UserError: its library is not installed.
    """
    if name == "ray":
        from ttl_jax.engines.ray import RayEngine

        return RayEngine()
    if name == "submitit":
        from ttl_jax.engines.submitit import SubmititEngine

        return SubmititEngine(workdir / "slurm")
    from ttl_jax.engines.local import LocalEngine

    return LocalEngine(workers)


def one_machine(name: str, field: str) -> None:
    """Refuses an engine of several machines: a work folder in a bucket has its local copy on this one.

    Args:
        name: name of the engine.
        field: dotted name of the config field that names it.

    Raises:
        UserError: naming the engine.
    """
    if name != "local":
        raise UserError(
            f"config {field}={name!r} needs a --workdir that its machines share (a mounted file system): one "
            f"in a bucket is for {field}='local'"
        )
