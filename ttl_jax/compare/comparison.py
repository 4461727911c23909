"""The comparison itself: what is not done yet is run, then summed up in compare.json."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttl_jax import data, engines, strategies, weights
from ttl_jax.compare import budget, cells, fold_counts, summary, tune
from ttl_jax.compare.cells import Cell, Setting
from ttl_jax.compare.config import CompareConfig, check, strategy_texts
from ttl_jax.compare.progress_table import Board, ProgressLine, make_board
from ttl_jax.compare.setting_state import SettingState, prune, setting_state
from ttl_jax.compare.space import Hyperparameters, space
from ttl_jax.compare.worker import CellTask
from ttl_jax.config import replace_fields
from ttl_jax.config.data import data_config, generated
from ttl_jax.data.load import GENERATED
from ttl_jax.data.positive import LAST
from ttl_jax.data.sources.listing import listed
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.engines.task import Report
from ttl_jax.errors import UserError
from ttl_jax.evaluation.registry import metric
from ttl_jax.report import comparisons, data_sets, headlines, warned
from ttl_jax.system import remote, terminal
from ttl_jax.system.lock import held
from ttl_jax.system.preemption import SAVING, Notice, Preempted
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.programs import one_program
from ttl_jax.training.records import provenance, run_manifest

if TYPE_CHECKING:
    from ml_collections import ConfigDict


POLL = 1.0  # seconds between looks at the notice: with preemption.SAVING, less than ten to the end


class FailedCellsError(RuntimeError):
    """Some cells could not be run; everything else is done and written."""


def compare(
    config: ConfigDict | CompareConfig,
    workdir: str | Path,
    notice: Notice | None = None,
    committed: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Runs all cells that are not done, and writes compare.json, the tables and the report.

    Args:
        config: a comparison's config, `ttl_jax.compare.default_config` filled in; Strategies are taken too.
        workdir: folder of the comparison; each cell has a folder of its own in WORKDIR/cells.
        notice: the notice of `preemption.watch`, polled so that cells can be asked to save and stop.
        committed: called whenever a cell has ended (to copy the folder elsewhere).

    Returns:
        The content of compare.json.

    Raises:
        UserError: the config is wrong, or another one than the cells there were made with.
        FailedCellsError: cells failed; the same command tries them again.
        Preempted: the notice asked to stop; the same call goes on.
    """
    config = check(config)
    workdir = remote.only_local(workdir)
    config = _as_begun(config, workdir)
    cells.settings(config)  # two names for one folder are refused before anything is read
    for name in filter(generated, config.compare.datasets or (config.data.name,)):
        print(GENERATED.format(name), flush=True)
    listings = _listings(config)
    workdir.mkdir(parents=True, exist_ok=True)
    with held(workdir / "lock", wait=False):
        counts, lengths = fold_counts.resolve(config, workdir), budget.lengths(config, workdir)
        settings = cells.settings(config, counts, lengths)
        tuners = {setting: _tuner(config, workdir, setting) for setting in settings}
        _refuse_other_config(config, workdir, settings, tuners)
        _refuse_other_data(config, workdir, settings, listings)
        failures = _run(config, workdir, tuners, notice or Notice(), committed)
        if not failures:
            shutil.rmtree(workdir / "features", ignore_errors=True)
        states = [setting_state(config, workdir, setting, tuners[setting]) for setting in settings]
        comparison = summary.summarise(config, workdir, states, failures)
        write_json(workdir / "compare.json", comparison)
        paths = summary.write_outputs(workdir, comparison, config.report)
    wrote = [f"wrote {path}" for path in paths]
    out = terminal.console(elsewhere=140)
    terminal.say(*wrote, *data_sets(comparison), *warned(comparison))
    said, rows = terminal.without_constants(comparisons(comparison), ("model",))
    if rows:
        out.print(terminal.table(rows, out.width, caption=said.rstrip("; ")))
    terminal.say(*headlines(comparison))
    if failures:
        first = next(iter(failures.items()))
        raise FailedCellsError(
            f"{len(failures)} cells failed, the first is {first[0]}: {first[1]} (see its log.txt); "
            "the same command tries them again"
        )
    return comparison


def _as_begun(config: CompareConfig, workdir: Path) -> CompareConfig:
    """The config; where cells of an earlier version are, all read their data as these do."""
    for path in (workdir / "cells").glob("**/config.json"):
        older = provenance.begun_as(provenance.read_config_record(path)["config"]["data"])
        return replace_fields(config, {"data.positive": LAST}) if older else config
    return config


def _tuner(config: CompareConfig, workdir: Path, setting: Setting) -> tune.Tuner | None:
    if budget.solved(setting.strategy):
        return None
    if config.compare.tuner == "optuna":
        return tune.Optuna(workdir / "optuna", setting, config)
    if config.compare.tuner == "latin":
        return tune.LatinHypercube(space(config, setting.strategy), config.compare.trials)
    rates = config.compare.lrs
    return tune.Grid(rates, config.compare.extend) if len(rates) > 1 else None


def _refuse_other_config(
    config: CompareConfig,
    workdir: Path,
    settings: Sequence[Setting],
    tuners: Mapping[Setting, tune.Tuner | None],
) -> None:
    """Fails before anything is run if a cell's folder was made with other fields."""
    for setting in settings:
        tuner = tuners[setting]
        rate = config.compare.lrs[0] if config.compare.lrs else config.optimizer.lr
        for each in tuner.known() if tuner is not None else (Hyperparameters(rate),):
            for cell in (
                cells.tuning_cell(config, setting, *each),
                *cells.final_cells(config, setting, *each),
            ):
                provenance.check(cells.folder(workdir, cell), cells.cell_config(config, cell))


def _refuse_other_data(
    config: CompareConfig, workdir: Path, settings: Sequence[Setting], listings: Mapping[str, str]
) -> None:
    """Fails before anything is run if the cells there were made from other images, labels, splits or weights.

    Images are decoded only where the digest of their list, or of the weights, is another one.
    """
    looked_at: set[tuple[str, str]] = set()
    for setting in settings:
        cell = cells.tuning_cell(config, setting, config.optimizer.lr)
        known = sorted(cells.folder(workdir, cell).parent.glob(f"*/{run_manifest.FILE}"))
        before = run_manifest.read(known[0].parent) if known else None
        if before is None or (setting.dataset, setting.model) in looked_at:
            continue
        looked_at.add((setting.dataset, setting.model))
        made = cells.cell_config(config, cell)
        same = before.listed == listings.get(setting.dataset, "")
        if not same or before.weights != run_manifest.weights_digest(made):
            provenance.check_made_from(known[0].parent, made, data.load(data_config(made.data)))


def _listings(config: CompareConfig) -> dict[str, str]:
    """Reads the list of every data set's images: what is not there would fail in each of its cells.

    Returns:
        {data set: digest of its list}.
    """
    listings = {}
    for setting in {each.dataset: each for each in cells.settings(config)}.values():
        made = cells.cell_config(config, cells.tuning_cell(config, setting, config.optimizer.lr))
        if not generated(made.data.name):
            try:
                listings[setting.dataset] = listed(read_listing(data_config(made.data)), made.data)
            except UserError as error:
                raise UserError(f"data set {setting.dataset or made.data.name}: {error}") from None
    return listings


def _refuse_missing_weights(config: CompareConfig) -> None:
    """Fetches every network's weights once, before any cell; what cannot be had would fail in each."""
    started = [strategies.parse(text).surgery.init != "scratch" for text in strategy_texts(config)]
    if config.model.weights != "none" and any(started):
        for name in config.compare.models:
            path = weights.find(config.model.weights, name)
            if not path.exists():
                raise UserError(f"config model.weights: {path} does not exist")


def _run(
    config: CompareConfig,
    workdir: Path,
    tuners: Mapping[Setting, tune.Tuner | None],
    notice: Notice,
    committed: Callable[[], None],
) -> dict[str, str]:
    """Runs until nothing is left that can be run; returns folder -> message of what failed."""
    states = {setting: setting_state(config, workdir, setting, tuner) for setting, tuner in tuners.items()}
    board: Board = make_board(sys.stdout)
    running: dict[str, tuple[Cell, float]] = {}
    failures: dict[str, str] = {}
    losses: dict[str, int] = {}
    clock = _Clock(config.compare.workers)
    engine: engines.Engine | None = None
    try:
        while True:
            for cell in _next(states, workdir, running, failures, config.compare.workers):
                place = cells.folder(workdir, cell)
                if engine is None:
                    _refuse_missing_weights(config)
                    engine = engines.start(config.compare.engine, config.compare.workers, workdir)
                engine.submit(_task(config, workdir, cell, states[cell.setting].todo))
                running[str(place)] = cell, time.perf_counter()
                board.event("started", cell, {})
            board.show(_lines(states, running, failures, workdir, clock, metric(config.select).sign))
            if not running:
                break
            assert engine is not None
            reports = engine.wait(POLL)
            if notice.asked():
                board.close()
                raise Preempted(f"{notice.reason}: {_left(len(running))}")
            for report in reports:
                cell, _ = running.pop(report.folder)
                if report.status == "refused":
                    raise UserError(f"{report.message}; the same command goes on")
                _note(report, cell, config.compare.retries, losses, failures)
                if report.status == "done":
                    clock.add(cell, report.seconds)
                states[cell.setting] = setting_state(config, workdir, cell.setting, tuners[cell.setting])
                prune(config, workdir, states[cell.setting])
                committed()
                _announce(board, report, cell, config, workdir, states, clock)
    finally:
        board.close()
        if engine is not None:
            engine.close(SAVING if notice.asked() else 0.0)
    return failures


def _left(count: int) -> str:
    return (
        "1 cell under way keeps what it saved"
        if count == 1
        else f"{count} cells under way keep what they saved"
    )


def _task(config: CompareConfig, workdir: Path, cell: Cell, todo: tuple[Cell, ...]) -> CellTask:
    """A cell's task; probes take along what else of their setting is to be run now."""

    def place(cell: Cell) -> str:
        return str(cells.folder(workdir, cell))

    store = str(workdir / "features") if config.cache_disk_gb > 0 else ""
    made = cells.cell_config(config, cell)
    others = (
        [other for other in todo if other != cell and other.options == cell.options]
        if config.compare.together and one_program(made)
        else []
    )
    along = tuple((place(other), cells.cell_config(config, other)) for other in others)
    return CellTask(place(cell), made, store, along)


def _next(
    states: Mapping[Setting, SettingState], workdir: Path, running: Any, failures: Any, workers: int
) -> list[Cell]:
    """The cells to start now, in the order of the settings.

    A setting that no worker is busy with goes first: its programs are compiled by one of them, and not
    by two at the same time.
    """
    chosen: list[Cell] = []
    busy = {cell.setting for cell, _ in running.values()}
    while len(running) + len(chosen) < workers:
        ready = [
            cell
            for each in states.values()
            for cell in each.todo
            if str(cells.folder(workdir, cell)) not in running
            and str(cells.folder(workdir, cell)) not in failures
            and cell not in chosen
        ]
        if not ready:
            break
        chosen.append(next((cell for cell in ready if cell.setting not in busy), ready[0]))
        busy.add(chosen[-1].setting)
    return chosen


def _note(report: Report, cell: Cell, retries: int, losses: dict[str, int], failures: dict[str, str]) -> None:
    """Counts what went wrong: a process that died is started again, a program's fault is not."""
    if report.status == "lost":
        losses[report.folder] = (losses[report.folder] if report.folder in losses else 0) + 1
        if losses[report.folder] > retries:
            failures[report.folder] = report.message
    elif report.status == "failed":
        failures[report.folder] = report.message


def _announce(
    board: Board, report: Report, cell: Cell, config: CompareConfig, workdir: Path, states: Any, clock: _Clock
) -> None:
    known = cells.state_of(workdir, cell, config.select)
    left = sum(each.total - each.done for each in states.values())
    selected = metric(config.select)
    figure = None if known.score is None else selected.sign * known.score.figure
    about: dict[str, Any] = {"seconds": round(report.seconds, 1), f"val_{selected.name}": figure}
    if report.message:
        about["message"] = report.message
    about |= {"cells_left": left, "eta_seconds": clock.eta(states.values())}
    board.event(report.status, cell, about)


def _lines(
    states: Mapping[Setting, SettingState],
    running: Any,
    failures: Any,
    workdir: Path,
    clock: _Clock,
    sign: float,
) -> tuple[list[ProgressLine], float | None]:
    lines = []
    for setting, each in states.items():
        busy = [cell for cell, _ in running.values() if cell.setting == setting]
        failed = [cell for cell in each.todo if str(cells.folder(workdir, cell)) in failures]
        scores = [outcome.score for outcome in each.finals.values()]
        known = [score.figure for score in scores if score is not None]
        known = known or [score.figure for score in each.tuning.values() if score is not None]
        best = sign * max(known) if known else None
        lines.append(ProgressLine(setting, each.done, each.total, len(busy), len(failed), each.taken, best))
    return lines, clock.eta(states.values())


class _Clock:
    """Durations of cells, for an estimate of the time that is left."""

    def __init__(self, workers: int) -> None:
        self._workers, self._seconds = workers, dict[tuple[str, str], list[float]]()

    def add(self, cell: Cell, seconds: float) -> None:
        if seconds > 1.0:  # less is one that had only the test split to score
            self._seconds.setdefault((cell.setting.dataset, cell.setting.model), []).append(seconds)

    def eta(self, states: Any) -> float | None:
        """Seconds left, from the mean of finished cells of the same data set and model, or of all."""
        everything = [value for values in self._seconds.values() for value in values]
        if not everything:
            return None
        left = 0.0
        for each in states:
            key = each.setting.dataset, each.setting.model
            values = self._seconds[key] if key in self._seconds else everything
            left += (each.total - each.done) * sum(values) / len(values)
        return round(left / self._workers, 1)
