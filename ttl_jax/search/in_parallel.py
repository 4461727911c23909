"""Trials on an engine: so many at a time, and one whose process died is started again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from ttl_jax import engines
from ttl_jax.errors import UserError
from ttl_jax.search.trial import TrialTask
from ttl_jax.system.preemption import SAVING, Notice, Preempted

RETRIES = 2  # of a trial whose process died
POLL = 1.0  # seconds between looks at the notice: with preemption.SAVING, less than ten to the end


def side_by_side(
    tasks: Sequence[TrialTask],
    engine: str,
    workers: int,
    workdir: Path,
    notice: Notice,
    committed: Callable[[], None],
) -> None:
    """Runs trials to their end; the answers are in their folders.

    Args:
        tasks: the trials, in the order in which they are to begin.
        engine: one of `engines.ENGINES`.
        workers: trials at a time.
        workdir: folder of the search, under which submitit keeps its files.
        notice: polled, so that trainings under way can be asked to save and stop.
        committed: called whenever a trial has ended.

    Raises:
        UserError: a trial failed, or its process died once more than `RETRIES` times.
        Preempted: the notice asked to stop; the same call goes on.
    """
    waiting, running, lost = list(tasks), dict[str, TrialTask](), Counter[str]()
    place = engines.start(engine, workers, workdir)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                task = waiting.pop(0)
                place.submit(task)
                running[task.folder] = task
            reports = place.wait(POLL)
            if notice.asked():
                raise Preempted(f"{notice.reason}: the trainings under way keep what they saved")
            for report in reports:
                task, name = running.pop(report.folder), Path(report.folder).name
                lost[name] += report.status == "lost"
                if report.status == "lost" and lost[name] <= RETRIES:
                    waiting.append(task)
                elif report.status != "done":
                    raise UserError(f"trial {name}: {report.message}; {report.folder}/log.txt has the rest")
                else:
                    ended = len(tasks) - len(waiting) - len(running)
                    print(f"{name}: {report.seconds:.0f} s ({ended} of {len(tasks)})", flush=True)
                committed()
    finally:
        place.close(SAVING if notice.asked() else 0.0)
