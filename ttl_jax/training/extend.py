"""More epochs for a finished run, in its own folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ttl_jax import strategies
from ttl_jax.config import RunConfig, replace_fields
from ttl_jax.errors import UserError
from ttl_jax.system.json_object import read_object
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.progress import Progress
from ttl_jax.training.records import provenance

LENGTHS = ("total_epochs", "total_steps")
# What the shorter run left goes to WORKDIR/before-1 (or 2, ...), first the sign that it is finished.
LEFT = ("result.json", "predictions", "signature.json", "training_features.npz", "report.html",
        "gallery", "checkpoints/end")  # fmt: skip


def extend(workdir: Path, config: RunConfig) -> None:
    """Make a finished run an unfinished one of more epochs; training it then goes on from its last state.

    Its last phase becomes longer: the schedule is from there on that of the longer phase. The best weights
    so far stay candidates, early stopping begins to count anew, and what is held out is scored again.

    Args:
        workdir: the run's folder.
        config: the run's config, with more total_epochs or total_steps.

    Raises:
        UserError: no finished run, another config, or no more epochs than before.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"--continue: {workdir} holds no run; leave it out to begin one")
    record, result = provenance.read_config_record(path), workdir / "result.json"
    config = provenance.settled(provenance.as_begun(workdir, config))
    begun = provenance.begun_with(workdir)
    known = {name: getattr(begun, name) for name in LENGTHS}
    provenance.check(workdir, replace_fields(config, known))
    if strategies.parse(config.strategy).phases[-1].parts:
        raise UserError(
            "--continue: the last phase of this strategy is solved for, so that it cannot be longer"
        )
    if all(getattr(config, name) == value for name, value in known.items()):
        if "continued" not in record:
            raise UserError(f"--continue: {workdir} is as long already: raise total_epochs (or total_steps)")
    elif not result.exists():
        raise UserError(f"--continue: {workdir} is not finished; the command that began it goes on")
    elif any(getattr(config, name) < value for name, value in known.items()):
        raise UserError(f"--continue: {workdir} is longer already: raise total_epochs (or total_steps)")
    else:
        step = read_object(result, steps=int)["steps"]
        before = {**known, "step": step, "command": provenance.command()}
        record["config"] |= {name: getattr(config, name) for name in LENGTHS}
        record["continued"] = [*record.get("continued", ()), before]
        write_json(path, record)  # first: after a kill the same command moves the rest
    if result.exists() and read_object(result, steps=int)["steps"] == record["continued"][-1]["step"]:
        _set_aside(workdir, len(record["continued"]))


def _set_aside(workdir: Path, number: int) -> None:
    place = workdir / f"before-{number}"
    for name in LEFT:
        if (workdir / name).exists():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(workdir / name, place / name)


def continued(workdir: Path) -> list[dict[str, Any]]:
    """The ends that a run has had before: {"total_epochs", "total_steps", "step", "command"} each."""
    path = workdir / "config.json"
    if not path.exists():
        return []
    held: list[dict[str, Any]] = provenance.read_config_record(path).get("continued", [])
    return held


def as_extended(saved: Progress, ends: list[dict[str, Any]]) -> Progress:
    """The progress of a run's end as that of a run under way, where more epochs were asked for since."""
    if ends and saved.finished and saved.step == ends[-1]["step"]:
        return replace(saved, finished=False, bad=0)
    return saved


def extended_lengths(
    config: RunConfig, ends: list[dict[str, Any]], lengths: Callable[[RunConfig], tuple[int, ...]]
) -> tuple[int, ...]:
    """The steps of every phase: of a run that was continued, all but the last as they were at first.

    Args:
        config: the run's config.
        ends: the result of `continued`.
        lengths: the function from a config to the steps of its phases.
    """
    now = lengths(config)
    if not ends:
        return now
    first = lengths(replace_fields(config, {name: ends[0][name] for name in LENGTHS}))
    return (*first[:-1], sum(now) - sum(first[:-1]))
