"""Reads what runs have left on disk; a run that is not finished yet is read as far as it got."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttl_jax.errors import UserError
from ttl_jax.evaluation.predictions import Predictions, load
from ttl_jax.system.json_object import read_object

SOURCES = ("folder", "csv", "npz", "dicom", "nifti", "record")  # kinds of source, which are no names
# Names of files and folders that say nothing of the data set; the folder above them does.
GENERIC = (
    "data", "dataset", "images", "index", "labels", "list", "metadata", "prepared", "table", "train",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One run directory: config.json, metrics.jsonl, and result.json if it is there yet."""

    path: Path
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    git: str | None
    command: str | None
    training: tuple[Mapping[str, Any], ...]
    validation: tuple[Mapping[str, Any], ...]
    result: Mapping[str, Any] | None
    platform: str | None = None

    def told(self, key: str, *place: str) -> Any:
        """A key of the result; before there is one, the config's field at `place`; else None."""
        if self.result is not None and key in self.result:
            return self.result[key]
        return look_up(self.config, *place)

    @property
    def model(self) -> str:
        return str(self.told("model", "model", "name") or "unknown")

    @property
    def strategy(self) -> str:
        return str(self.told("strategy", "strategy") or "unknown")

    @property
    def dataset(self) -> str:
        return dataset_name(look_up(self.config, "data") or {"name": self.told("dataset") or "unknown"})

    @property
    def seed(self) -> int | None:
        return self.told("seed", "seed")

    def scores(self, split: str) -> Mapping[str, Any] | None:
        """The scores of a split; None if the run has not got there."""
        return None if self.result is None else look_up(self.result, split)

    def predictions(self, split: str) -> Predictions | None:
        """The split's prediction file; None if there is none."""
        path = self.path / "predictions" / f"{split}.npz"
        return load(path) if path.exists() else None

    @property
    def warnings(self) -> tuple[Mapping[str, str], ...]:
        """Warnings about undefined or bad figures: code, message, remedy; older runs have none."""
        return tuple(look_up(self.result, "warnings") or ())

    @property
    def state(self) -> str:
        """Return a sentence about a run that has no test result."""
        if self.result is not None:
            return "finished, not evaluated on the test split"
        return f"no result yet, {f'at step {self.last_step}' if self.last_step else 'no step logged yet'}"

    @property
    def last_step(self) -> int:
        """The last step that metrics.jsonl has; 0 where it has none."""
        steps = [look_up(line, "step") for line in (*self.training, *self.validation)]
        return max((step for step in steps if step is not None), default=0)


def read_runs(paths: Sequence[str | Path]) -> tuple[Run, ...]:
    """Reads run directories, each once, in the order given.

    Raises:
        UserError: no directory is given, one is no run, or one of its files is not readable.
    """
    if not paths:
        raise UserError("a report needs at least one run directory; none was given")
    unique = {Path(path).resolve(): Path(path) for path in paths}
    return tuple(read_run(path) for path in unique.values())


def read_run(path: Path) -> Run:
    """Reads one run directory; errors as `read_runs`."""
    if not (path / "config.json").is_file():
        raise UserError(f"{path} is not a run directory: it has no config.json")
    about = read_object(inside(path, "config.json"))
    result = inside(path, "result.json")
    lines = _read_lines(inside(path, "metrics.jsonl"))
    return Run(
        path=path,
        config=look_up(about, "config") or {},
        versions=look_up(about, "versions") or {},
        git=look_up(about, "git"),
        command=look_up(about, "command"),
        training=tuple(line for line in lines if "split" not in line),
        validation=tuple(line for line in lines if look_up(line, "split") == "val"),
        result=read_object(result) if result.is_file() else None,
        platform=look_up(about, "platform"),
    )


def dataset_name(data: Mapping[str, Any]) -> str:
    """The name that people use for a data set: of its file or folder, without "npz:" or "metadata".

    Args:
        data: the `data` section of a config; with name="npz" and path=".../pneumoniamnist.npz".
    """
    name, path = str(look_up(data, "name") or "unknown"), str(look_up(data, "path") or "")
    kind, _, detail = name.partition(":")
    parts = [part for part in (path or detail).replace("\\", "/").split("/") if part not in ("", ".", "..")]
    while parts and (stem := parts[-1].partition(".")[0]).lower() in GENERIC:
        parts.pop()
    known = stem if parts and kind in SOURCES else name
    return known + ", split anew" * bool(look_up(data, "resplit"))


def inside(folder: Path, name: str) -> Path:
    """A path within a folder, as a file that others may have written names it.

    Raises:
        UserError: it leads out of the folder.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{name!r} leads out of {folder}; such a file is not read")
    return path


def look_up(tree: Any, *place: str) -> Any:
    """The value at a place in nested mappings, None where there is none."""
    for key in place:
        if not isinstance(tree, Mapping) or key not in tree:
            return None
        tree = tree[key]
    return tree


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, {"data.image_size": 64}."""
    dotted: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            dotted |= flat(value, f"{prefix}{key}.")
        else:
            dotted[f"{prefix}{key}"] = value
    return dotted


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    values = []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError) as error:
            if number == len(lines):
                break  # no line end yet: the run is writing it
            raise UserError(f"{path} line {number} is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise UserError(f"{path} line {number} is not a JSON object")
        if value:
            values.append(value)
    return values
