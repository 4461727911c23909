"""Trainings as jobs of a Slurm cluster, through submitit; without Slurm, as its local jobs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ttl_jax.engines.task import Report, Task
from ttl_jax.errors import UserError


class SubmititEngine:
    """One job a training. Partition, GPUs and time are Slurm's defaults, or SBATCH_* of the environment.

    Args:
        folder: folder for submitit's own files and the jobs' logs.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import submitit
        except ImportError:
            raise UserError("engine=submitit needs: pip install 'ttl-jax[submitit]'") from None
        self._executor = submitit.AutoExecutor(folder=str(folder))
        self._executor.update_parameters(name="ttl_jax", timeout_min=24 * 60)
        self._jobs: list[tuple[Any, Task, float]] = []

    def submit(self, task: Task) -> None:
        """Hands a job to the queue."""
        self._jobs.append((self._executor.submit(task.run), task, time.perf_counter()))

    def wait(self, seconds: float) -> list[Report]:
        """See `Engine.wait`."""
        until = time.perf_counter() + seconds
        while True:
            ended = [job for job in self._jobs if job[0].done()]
            if ended or time.perf_counter() >= until:
                break
            time.sleep(0.2)
        self._jobs = [job for job in self._jobs if job not in ended]
        return [self._report(*job) for job in ended]

    @staticmethod
    def _report(job: Any, task: Task, began: float) -> Report:
        error = job.exception()
        if error is None:
            report: Report = job.result()
            return report
        first = str(error).splitlines()[0]
        return Report(task.folder, "lost", f"its job ended: {first}", time.perf_counter() - began)

    def close(self, seconds: float = 0.0) -> None:
        """Cancels the jobs that have not ended."""
        for job, _, _ in self._jobs:
            job.cancel()
        self._jobs.clear()
