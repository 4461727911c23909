"""Worker processes on this machine, each of which runs one task after another."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing import connection
from typing import Any

from ttl_jax.engines.task import Report, Task
from ttl_jax.system import preemption
from ttl_jax.system.preemption import SAVING

# Tasks after which a process is replaced, once it comes to another kin: what JAX and malloc keep from
# one kin's programs to the next's grows to gigabytes.
LIFE = 10


class LocalEngine:
    """Keeps up to `workers` processes; one that dies is told of, and replaced when next needed.

    With several workers, each gets its share of the cores, and JAX takes GPU memory as it needs it
    instead of most of it at once. Workers end by themselves within a second if this process is killed.
    """

    def __init__(self, workers: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._shares = _shares(workers)
        self._workers: dict[int, _Worker] = {}

    def submit(self, task: Task) -> None:
        """Hands a task to the idle worker that has its kin's programs, to another, or to a new one."""
        idle = {
            place: self._workers[place] if place in self._workers else None
            for place in range(len(self._shares))
            if place not in self._workers or self._workers[place].task is None
        }
        if not idle:
            raise RuntimeError("every worker is busy")
        same = [place for place, worker in idle.items() if worker and worker.kin == task.kin]
        place = (same or list(idle))[0]
        worker = idle[place]
        if worker is not None and worker.served >= LIFE and not same:
            self._workers.pop(place).stop()
            worker = None
        if worker is None:
            worker = self._workers[place] = _Worker(self._context, self._shares[place])
        worker.give(task)

    def wait(self, seconds: float) -> list[Report]:
        """See `Engine.wait`."""
        busy = {place: worker for place, worker in self._workers.items() if worker.task is not None}
        connection.wait([worker.pipe for worker in busy.values()], timeout=seconds)
        reports = []
        for place, worker in busy.items():
            report = worker.report()
            if report is not None:
                reports.append(report)
                if report.status == "lost":
                    self._workers.pop(place).stop()
        return reports

    def close(self, seconds: float = 0.0) -> None:
        """Stops the workers; asked to save first, they have so long for it. Checkpoints stay."""
        busy = [worker for worker in self._workers.values() if worker.task is not None] if seconds else []
        until = time.perf_counter() + seconds
        for worker in busy:
            worker.ask()
        for worker in busy:  # a report, or the end of the pipe
            connection.wait([worker.pipe], timeout=max(0.0, until - time.perf_counter()))
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()


class _Worker:
    def __init__(self, context: Any, cores: frozenset[int]) -> None:
        self.pipe, theirs = context.Pipe()
        self.task: Task | None = None
        self.served = 0
        self.kin = ""
        self._began = 0.0
        self._process = context.Process(
            target=_serve, args=(theirs, os.getpid(), cores, list(sys.path)), daemon=True
        )
        self._process.start()
        theirs.close()  # so that the pipe ends when the worker does

    def give(self, task: Task) -> None:
        self.task, self.kin, self._began = task, task.kin, time.perf_counter()
        try:
            self.pipe.send(task)
        except OSError:
            pass  # it died idle: `report` will find the pipe at its end

    def report(self) -> Report | None:
        """Return a worker's report, if one came in; a worker that died reports its task as lost."""
        assert self.task is not None
        if not self.pipe.poll():
            return None
        try:
            report: Report = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            code = self._process.exitcode
            how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
            hint = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
            seconds = time.perf_counter() - self._began
            report = Report(self.task.folder, "lost", f"its process ended by {how}{hint}", seconds)
        self.task, self.served = None, self.served + 1
        return report

    def ask(self) -> None:
        self._process.terminate()

    def stop(self) -> None:
        self._process.kill()
        self._process.join(5)
        self.pipe.close()


def _shares(workers: int) -> list[frozenset[int]]:
    """The cores of each worker; an empty set leaves them to the operating system."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if workers == 1 or len(cores) < workers:
        return [frozenset()] * workers
    return [frozenset(cores[place::workers]) for place in range(workers)]


def _serve(pipe: Any, parent: int, cores: frozenset[int], path: list[str]) -> None:
    """The worker's life: tasks in, reports out, until the pipe or the parent ends."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    sys.path[:] = path
    if cores:
        os.sched_setaffinity(0, cores)  # before JAX counts them
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    with preemption.watch(grace=SAVING) as notice:  # Ctrl-C reaches workers too: they save, the parent leaves
        while True:
            try:
                task = pipe.recv()
            except EOFError:
                return
            pipe.send(task.run(notice))
            if notice.reason:
                return


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
