"""Lists the trainings, searches and comparisons of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ttl_jax.commands.arguments import Parser
from ttl_jax.commands.printing import print_rows
from ttl_jax.errors import UserError
from ttl_jax.system import terminal
from ttl_jax.system.json_object import readable_folder

SUMMARY = "the runs of a folder: data, strategy, score, state"

HELP = """usage: ttl-jax runs [FOLDER] [--json]

Lists every training, search and comparison in FOLDER (runs where none is named)
and below it: data, strategy, network, the score on the test split with its 95 %
interval, and the state: finished, running, interrupted (the same command goes
on), refused (it would not, and why) or unreadable. Cells of a comparison and
trials of a search are counted, not listed: name their folder to see them.

  --json                   for programs

examples:
  ttl-jax runs
  ttl-jax runs runs/compare/cells --json
"""


def run(arguments: list[str]) -> None:
    """Prints the list, or writes it as JSON."""
    parser = Parser("runs")
    parser.add_argument("folder", nargs="?", default="runs", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if not given.folder.is_dir():
        raise UserError(f"{given.folder} is no folder: name the one that --workdir of your runs lies in")
    rows = [{"folder": str(place), "kind": kind} | _row(kind, place) for kind, place in works(given.folder)]
    if given.json:
        print_rows(rows, json_wanted=True)
    elif rows:
        _print(rows, given.folder)
    else:
        print(f"there is no training, search or comparison in {given.folder}")


def _row(kind: str, place: Path) -> dict[str, Any]:
    """Describe a work; of one whose files are damaged, say that."""
    try:
        with readable_folder(place):
            return _KINDS[kind](place)
    except UserError as error:
        unknown: dict[str, Any] = dict.fromkeys(("score", "low", "high"))
        return dict.fromkeys(("data", "strategy", "network", "metric"), "") | unknown | {
            "split": "test", "state": f"unreadable: {error}",
        }  # fmt: skip


def works(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yields (kind, folder) of each training, search and comparison in a folder, in the order of names."""
    if (folder / "compare.json").is_file() or (folder / "cells").is_dir():
        yield "comparison", folder
    elif (folder / "search.json").is_file() or (folder / "trials").is_dir():
        yield "search", folder
    elif (folder / "config.json").is_file():
        yield "training", folder
    else:
        below = [place for place in folder.iterdir() if place.is_dir() and not place.is_symlink()]
        for place in sorted(below):
            yield from works(place)


def _print(rows: list[dict[str, Any]], folder: Path) -> None:
    shown = [
        {
            "run": str(Path(row["folder"]).relative_to(folder)),
            "kind": row["kind"],
            "data": row["data"],
            "strategy": row["strategy"],
            "network": row["network"],
            "score [95 %]": _score(row),
            "state": row["state"],
        }
        for row in rows
    ]
    said, shown = terminal.without_constants(shown, ("kind", "data", "network"))
    out = terminal.console(elsewhere=160)
    out.print(terminal.table(shown, out.width, caption=said.rstrip("; ")))


def _score(row: dict[str, Any]) -> str:
    if row["score"] is None:
        return "–"
    spread = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    on = "" if row["split"] == "test" else " on validation"
    return f"{row['metric']} {row['score']:.3f}{spread}{on}"


def _training(place: Path) -> dict[str, Any]:
    from ttl_jax.report.read import look_up, read_run
    from ttl_jax.report.rows import selected_by

    known, metric = read_run(place), ""
    scores: dict[str, Any] = {"score": None, "low": None, "high": None, "split": "test"}
    metric = selected_by(known)
    for split in ("val", "test"):
        if (score := look_up(known.result, split, metric)) is not None:
            low, high = look_up(known.result, "intervals", split, metric) or (None, None)
            scores = {"score": score, "low": low, "high": high, "split": split}
    return {
        "data": known.dataset,
        "strategy": known.strategy,
        "network": known.model,
        "metric": metric,
        **scores,
        "state": "finished" if known.result is not None else _unfinished(place, known.last_step),
    }


def _unfinished(place: Path, step: int) -> str:
    """The state of a training without a result: its folder is held, or its command would go on or not."""
    from ttl_jax.system.lock import is_held
    from ttl_jax.training.records import provenance

    if is_held(place / "owner.json"):
        return f"running, step {step}"
    try:
        begun = provenance.begun_with(place)
        provenance.check(place, provenance.as_begun(place, provenance.settled(begun)))
    except UserError as error:
        return f"refused at step {step}: {error}"
    return f"interrupted at step {step}"


def _search(place: Path) -> dict[str, Any]:
    from ttl_jax.report.read import dataset_name, look_up, read_run
    from ttl_jax.system.json_object import read_object
    from ttl_jax.system.lock import is_held

    trials = sorted((place / "trials").glob("*/config.json"))
    if (place / "search.json").is_file():
        record = read_object(place / "search.json")
        config = look_up(read_object(place / "config.json"), "config") or {}
        metric = record["select"]
        return {
            "data": dataset_name(look_up(config, "data") or {"name": record["dataset"]}),
            "strategy": record["strategy"],
            "network": record["model"],
            "metric": metric,
            "score": look_up(record, "test", metric),
            "low": None,
            "high": None,
            "split": "test",
            "state": f"finished: {len(trials)} trials",
        }
    begun = read_run(place)
    running = any(is_held(trial.with_name("owner.json")) for trial in trials)
    return {
        "data": begun.dataset,
        "strategy": "not chosen yet",
        "network": begun.model,
        "metric": "",
        **{"score": None, "low": None, "high": None, "split": "test"},
        "state": f"{'running' if running else 'interrupted'}: {len(trials)} trials begun",
    }


def _comparison(place: Path) -> dict[str, Any]:
    from ttl_jax.report import read_comparison
    from ttl_jax.report.comparison.text import preferred
    from ttl_jax.report.read import look_up
    from ttl_jax.system.lock import is_held

    cells = [path.parent for path in (place / "cells").rglob("config.json")]
    done = sum((cell / "result.json").is_file() for cell in cells)
    running = is_held(place / "lock")
    row: dict[str, Any] = {"metric": "", "score": None, "low": None, "high": None, "split": "test"}
    if not (place / "compare.json").is_file() or running:
        names = sorted({cell.relative_to(place / "cells").parts[:3] for cell in cells})
        told = [", ".join(dict.fromkeys(name[part] for name in names)) for part in range(3)]
        row |= dict(zip(("data", "network", "strategy"), told, strict=True))
        return row | {"state": f"{'running' if running else 'interrupted'}: {done} cells done"}
    comparison, _ = read_comparison(place)
    best, metric = preferred(comparison), comparison["statistics"]["metric"]
    settings, failed = comparison["settings"], sum(bool(each["note"]) for each in comparison["settings"])
    of_best = [each for each in settings if each["strategy"] == best]
    if len(of_best) == 1:  # one data set and network: a figure of its own
        low, high = (look_up(of_best[0], "test", metric, end) for end in ("low", "high"))
        row |= {"score": look_up(of_best[0], "test", metric, "mean"), "low": low, "high": high}
    count = len({each["strategy"] for each in settings})
    return row | {
        "data": ", ".join(dict.fromkeys(each["dataset"] or "data" for each in settings)),
        "strategy": f"{best}, of {count}" if best else f"{count} strategies",
        "network": ", ".join(dict.fromkeys(each["model"] for each in settings)),
        "metric": metric,
        "state": f"finished: {done} cells" + f", {failed} settings with faults" * bool(failed),
    }


_KINDS = {"training": _training, "search": _search, "comparison": _comparison}
