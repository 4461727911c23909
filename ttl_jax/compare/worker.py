"""Runs one cell in a process of its own; what every engine calls.

Nothing heavy is imported before a cell is run, so that an engine can set the process up first.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttl_jax.lock import HeldError, held
from ttl_jax.training.preemption import Notice, Preempted


@dataclass(frozen=True)
class Task:
    """A cell to be run.

    Attributes:
        folder: its own.
        config: its run's, as nested dictionaries.
        features: folder of the features that the cells share; "" where they share none.
        others: folder and config of cells that this worker may train along with it, as one program; each
            is still to be run by itself, and then only has to be scored.
    """

    folder: str
    config: dict[str, Any]
    features: str = ""
    others: tuple[tuple[str, dict[str, Any]], ...] = ()


@dataclass(frozen=True)
class Report:
    """What a worker says of a task; the results themselves are in the folder.

    Attributes:
        folder: of the task.
        status: "done", "diverged", "failed", or "lost" where the process died.
        message: one line about what went wrong.
        seconds: how long it took.
    """

    folder: str
    status: str
    message: str = ""
    seconds: float = 0.0


_DATASETS: dict[str, Any] = {}  # the data set read last, for the next cell of the same
_PROGRAMS: list[Any] = []  # what was compiled for the cell before, for the next of the same setting


def run_cell(task: Task, notice: Notice | None = None) -> Report:
    """Runs or resumes a cell; every fault but a killed process comes back as a Report.

    Where the notice asks to stop, the cell is saved and "lost": whoever asked knows why.
    """
    began, folder = time.perf_counter(), Path(task.folder)
    folder.mkdir(parents=True, exist_ok=True)
    status, message = "done", ""
    # One that was left behind stops within seconds.
    with held(folder / "lock", wait=True), _output_to(folder / "log.txt"):
        try:
            _train(task, folder, notice)
        except Preempted as error:
            status, message = "lost", str(error)
        except Exception as error:
            from ttl_jax.training.loop import DivergedError
            from ttl_jax.training.provenance import write_json

            status, message = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
            if isinstance(error, DivergedError):
                status, message = "diverged", str(error)
                write_json(folder / "diverged.json", {"message": message})
            traceback.print_exc()
    return Report(task.folder, status, message, time.perf_counter() - began)


def _train(task: Task, folder: Path, notice: Notice | None) -> None:
    from ml_collections import ConfigDict

    from ttl_jax import data, host
    from ttl_jax.analysis.gallery import write_gallery
    from ttl_jax.compilation_cache import set_up_jax
    from ttl_jax.data.config import data_config
    from ttl_jax.training.feature_store import FeatureStore
    from ttl_jax.training.programs import Programs
    from ttl_jax.training.run import train
    from ttl_jax.training.together import train_together

    config = ConfigDict(task.config).lock()
    host.set_deterministic(config.deterministic)
    set_up_jax()
    key = json.dumps(task.config["data"], sort_keys=True)
    if key not in _DATASETS:
        _DATASETS.clear()
        _DATASETS[key] = data.load(data_config(config.data))
    if not _PROGRAMS:
        _PROGRAMS.append(Programs())
    store = FeatureStore(Path(task.features), config.cache_disk_gb * 1e9) if task.features else None
    sets, programs = _DATASETS[key], _PROGRAMS[0]
    with _free(task.others) as others:
        if others:
            members = [(config, folder), *((ConfigDict(made).lock(), place) for place, made in others)]
            train_together(members, sets, programs=programs, features=store, notice=notice)
    train(
        config,
        folder,
        sets,
        notice=notice,
        programs=programs,
        features=store,
        illustrate=write_gallery,
    )


@contextmanager
def _free(cells: tuple[tuple[str, dict[str, Any]], ...]) -> Iterator[list[tuple[Path, dict[str, Any]]]]:
    """Those cells that no other worker is at, held."""
    with ExitStack() as locks:
        found = []
        for name, config in cells:
            folder = Path(name)
            folder.mkdir(parents=True, exist_ok=True)
            try:
                locks.enter_context(held(folder / "lock", wait=False))
            except HeldError:
                continue
            found.append((folder, config))
        yield found


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
        sys.stdout.flush()
        sys.stderr.flush()
        for place, old in zip((1, 2), before, strict=True):
            os.dup2(old, place)
            os.close(old)
