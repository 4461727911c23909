"""Table of methods as in papers: metrics, parameters, MACs and latency of finished runs and searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ttl_jax import evaluation, models, strategies
from ttl_jax.analysis.cost import BATCHES, Cost, cost_of
from ttl_jax.errors import UserError
from ttl_jax.evaluation import registry
from ttl_jax.system.json_object import read_object


@dataclass(frozen=True)
class _Line:
    """One setting (table row): its runs' test scores and prediction files, by seed."""

    dataset: str
    model: str
    strategy: str
    written: str  # the strategy, as the config has it
    head: str
    size: int
    classes: int
    scores: list[dict[str, Any]]
    predictions: list[Path]


def table(folders: Sequence[Path], *, latency: bool = False) -> list[dict[str, str]]:
    """One row a setting: mean ± sample sd over seeds on the test split, and the 95 % interval over patients
    (and seeds).

    Args:
        folders: Folders of runs or of searches. A search adds the runs of its best unit.
        latency: Also measure milliseconds at batch sizes 1 and 32 on this machine.

    Raises:
        UserError: a folder that is neither, or a run that is not finished.
    """
    runs = [run for folder in folders for run in _runs(folder)]
    lines: dict[tuple[Any, ...], _Line] = {}
    for folder in dict.fromkeys(run.resolve() for run in runs):
        read = _read(folder)
        key = (read.dataset, read.model, read.strategy, read.written, read.head, read.size, read.classes)
        line = lines.setdefault(key, _Line(*key, scores=[], predictions=[]))
        line.scores.extend(read.scores)
        line.predictions.extend(read.predictions)
    several = len({line.dataset for line in lines.values()}) > 1
    rows = []
    for line in lines.values():
        surgery = strategies.parse(line.written).surgery.shape(line.model)
        surgery["head"] = line.head or surgery["head"]
        network = models.create(line.model, line.classes, **surgery)
        spent = cost_of(
            network, models.input_shape(line.model, line.size), batches=BATCHES if latency else ()
        )
        rows.append(_row(line, spent, several))
    return rows


def _row(line: _Line, spent: Cost, with_dataset: bool) -> dict[str, str]:
    row = {"dataset": line.dataset} if with_dataset else {}
    row |= {"method": f"{line.strategy} · {line.model}", "seeds": str(len(line.scores))}
    held = [evaluation.predictions.load(path) for path in line.predictions if path.exists()]
    whole = len(held) == len(line.scores)
    shown = [each for each in registry.metrics_in(line.scores) if each.in_table]
    intervals = evaluation.intervals_of(held, [each.name for each in shown]) if whole else {}
    for each in shown:
        known = [score.get(each.name) for score in line.scores]
        values = [100 * value for value in known if value is not None]
        spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
        if each.name in intervals:
            spread += " ({:.1f} to {:.1f})".format(*(100 * end for end in intervals[each.name]))
        row[f"{each.title} %"] = f"{fmean(values):.1f}{spread}" if values else "not defined"
    row |= {"params (M)": f"{spent.params / 1e6:.3f}", "MACs (G)": f"{spent.macs / 1e9:.3f}"}
    return row | {f"ms (batch {batch})": f"{value:.2f}" for batch, value in spent.latency_ms.items()}


def _runs(folder: Path) -> list[Path]:
    """Return the run folder itself, or the runs of a search's best unit."""
    record = folder / "search.json"
    if not record.exists():
        return [folder]
    search = read_object(record)
    chosen = [trial for trial in search["trials"] if trial["unit"] == search["best"] and trial["budget"] == 1]
    return [folder / trial["folder"] for trial in chosen]


def _read(folder: Path) -> _Line:
    if not (folder / "config.json").exists():
        raise UserError(f"{folder} is neither the folder of a run nor of a search")
    if not (folder / "result.json").exists():
        raise UserError(f"the run in {folder} is not finished: it has no result.json; train it to its end")
    result = read_object(folder / "result.json")
    config = read_object(folder / "config.json", config=dict)["config"]
    if "test" not in result:
        raise UserError(
            f"the run in {folder} has no test scores: it is a trial that its search did not choose"
        )
    return _Line(
        dataset=result["dataset"],
        model=result["model"],
        strategy=result["strategy"],
        written=config.get("strategy", result["strategy"]),
        head=config["model"]["head"],
        size=result["image_size"],
        classes=len(result["val"]["per_class"]),
        scores=[result["test"]],
        predictions=[folder / "predictions" / "test.npz"],
    )
