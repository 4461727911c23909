"""Trainings as Ray tasks, on a laptop or on a cluster whose machines share the work folder."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

from ttl_jax.engines.task import Report, Task
from ttl_jax.errors import UserError


def _run(task: Task) -> Report:
    return task.run()


class RayEngine:
    """One Ray task a training, in a fresh process, with the cluster of RAY_ADDRESS or a local one."""

    def __init__(self) -> None:
        try:
            import ray
        except ImportError:
            raise UserError("engine=ray needs: pip install 'ttl-jax[ray]'") from None
        self._ray, self._began = ray, not ray.is_initialized()
        if self._began:
            handler = signal.getsignal(signal.SIGTERM)
            ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray takes it over, and would end without a word
        gpus = 1 if ray.cluster_resources().get("GPU", 0) else 0
        # max_calls=1: a process of its own, so that a task that dies takes no other along.
        self._run = ray.remote(num_gpus=gpus, max_retries=0, max_calls=1)(_run)
        self._tasks: dict[Any, tuple[Task, float]] = {}

    def submit(self, task: Task) -> None:
        """Starts a Ray task."""
        self._tasks[self._run.remote(task)] = task, time.perf_counter()

    def wait(self, seconds: float) -> list[Report]:
        """See `Engine.wait`."""
        if not self._tasks:
            return []
        ended, _ = self._ray.wait(list(self._tasks), num_returns=1, timeout=seconds)
        return [self._report(reference) for reference in ended]

    def _report(self, reference: Any) -> Report:
        task, began = self._tasks.pop(reference)
        try:
            report: Report = self._ray.get(reference)
            return report
        except self._ray.exceptions.RayError as error:
            first = str(error).splitlines()[0]
            return Report(task.folder, "lost", f"its Ray task ended: {first}", time.perf_counter() - began)

    def close(self, seconds: float = 0.0) -> None:
        """Cancels what is under way, and ends the local Ray if this engine began it."""
        for reference in self._tasks:
            self._ray.cancel(reference, force=True)
        self._tasks.clear()
        if self._began:
            self._ray.shutdown()
