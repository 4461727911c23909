"""The interface of engines: the tasks that they are given, and the reports that they return.

Nothing heavy is imported here, so that an engine can set a process up before JAX is in it.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ttl_jax.errors import of_system, system_error
from ttl_jax.system.lock import held
from ttl_jax.system.preemption import Notice, Preempted


@dataclass(frozen=True)
class Report:
    """A worker's report of a task; the results themselves are in the folder.

    Attributes:
        folder: folder of the task.
        status: "done", "diverged", "failed", "lost" where the process died, or "refused" where the system
            would not write or read: no other task fares better.
        message: one line about what went wrong.
        seconds: wall time that the task took.
    """

    folder: str
    status: str
    message: str = ""
    seconds: float = 0.0


class Task(Protocol):
    """A training in a folder of its own; it can be pickled."""

    @property
    def folder(self) -> str:
        """Its folder; the task resumes what it finds there."""

    @property
    def kin(self) -> str:
        """Tasks of the same kin use the same compiled programs: one worker should have them all."""

    def run(self, notice: Notice | None = None) -> Report:
        """Runs or resumes it; every fault but a killed process comes back as a Report."""


def attempt(folder: Path, work: Callable[[], str]) -> Report:
    """Does a task's work alone in its folder, with all that it prints in log.txt there.

    Args:
        folder: folder of the task; made where it is not there.
        work: does the task; returns "", or the reason why the training diverged.

    Returns:
        The report; "lost" where a notice stopped the work: it is saved, and whoever asked knows why.
    """
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    status, message = "done", ""
    # One that was left behind stops within seconds.
    with held(folder / "lock", wait=True), _output_to(folder / "log.txt"):
        try:
            message = work()
            status = "diverged" if message else "done"
        except Preempted as error:
            status, message = "lost", str(error)
        except Exception as error:
            status, message = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
            if (refusal := system_error(error)) is not None:
                status, message = "refused", str(of_system(refusal, str(folder)))
            with suppress(OSError):  # the log is on the full disk too
                traceback.print_exc()
    return Report(str(folder), status, message, time.perf_counter() - began)


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Sends all that the process prints, C++ libraries included, to the end of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = os.dup(1), os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        for place, old in zip((1, 2), before, strict=True):
            os.dup2(old, place)
            os.close(old)
