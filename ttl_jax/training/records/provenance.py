"""Provenance of a run, and the check that a work folder belongs to the same config."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ttl_jax import registry
from ttl_jax.config import FREE, RunConfig, paths, replace_fields, run_config
from ttl_jax.config.data import generated
from ttl_jax.data.dataset import Dataset
from ttl_jax.data.positive import LAST
from ttl_jax.data.published.presets import auto_augment
from ttl_jax.errors import UserError
from ttl_jax.strategies import terms, text_of
from ttl_jax.system.json_object import check_fields, read_object
from ttl_jax.system.lock import held
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.records import manifest_changes
from ttl_jax.training.records.run_manifest import RunManifest, made_from, read

if TYPE_CHECKING:
    from ml_collections import ConfigDict

C = TypeVar("C", bound=RunConfig)
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scikit-learn")
# Fields that name a registered thing, and of which kind.
NAMES: dict[str, registry.Kind] = {
    "strategy": "strategy", "model.name": "backbone", "data.name": "source", "loss.name": "loss",
    "select": "metric",
}  # fmt: skip


def settled(config: ConfigDict | RunConfig) -> RunConfig:
    """The config as files and other processes know it: a Strategy as text, and the digests of `config.own`.

    Raises:
        UserError: something that it names is not there, or has been edited since `config.own` was filled in.
    """
    made = run_config(config)
    named = own(made)
    for name, old, new in _edited(made.own, named):
        raise UserError(
            f"{name} was edited while this was under way ({old} -> {new}): restore it, or start anew"
        )
    return replace(made, strategy=text_of(made.strategy), own=named)


def own(config: RunConfig) -> tuple[str, ...]:
    """Everything of the user's own that a run's config names, each with its digest: "FILE.py:NAME DIGEST"."""
    entries = []
    for field, kind in NAMES.items():
        value: Any = reduce(getattr, field.split("."), config)
        for name in [term.key for term in terms(value)] if kind == "strategy" else [value]:
            if registry.is_own(kind, name):
                entries.append(f"{name} {registry.digest(kind, name)}")
    return tuple(dict.fromkeys(entries))


def _edited(before: Iterable[str], now: Iterable[str]) -> list[tuple[str, str, str]]:
    """(name, digest before, digest now) of what stands in both and is no longer the same."""
    old, new = ({name: digest for name, _, digest in map(_split, each)} for each in (before, now))
    return [(name, old[name], new[name]) for name in old.keys() & new.keys() if old[name] != new[name]]


def _split(entry: str) -> tuple[str, str, str]:
    return entry.rpartition(" ")


def check(workdir: Path, config: RunConfig) -> None:
    """Refuses a work folder that holds a run of another config, or of a strategy that has changed since.

    Raises:
        UserError: listing every field that differs.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    # A field that came after the run began stood at its default, or where `_older` says.
    newer = _dotted(json.loads(json.dumps(RunConfig().to_dict())))
    record = read_config_record(path)
    saved = _dotted(record["config"])
    before = newer | _older(saved) | saved | begun_as(record["config"]["data"])
    if "model.bn_momentum" not in saved and (key := _changed_strategy(saved["strategy"])):
        raise UserError(
            f"{workdir} holds a run that an earlier version of ttl_jax began, whose {key} was another one "
            "(docs/results/withdrawn.md): finish it with that version, or use another --workdir, or --fresh"
        )
    now = _dotted(json.loads(json.dumps(config.to_dict())))  # as JSON keeps it: tuples are lists
    if not config.other_versions:
        _refuse_other_versions(workdir, record.get("versions", {}))
    absent = "absent"
    changed = [
        f"{name}, which was edited: {old} -> {new}"
        for name, old, new in _edited(before.pop("own"), now.pop("own"))
    ]
    for key in sorted((before.keys() | now.keys()) - FREE):
        old = before[key] if key in before else absent
        new = now[key] if key in now else absent
        if old != new:
            changed.append(f"{key}: {old} -> {new}")
    if changed:
        raise UserError(
            f"{workdir} holds a run of another config ({'; '.join(changed)}); "
            "use another --workdir, or --fresh, which moves that folder aside and starts anew"
        )


def _refuse_other_versions(workdir: Path, begun: Mapping[str, str]) -> None:
    """Raises UserError where a package, or Python's minor version, is another one than a run began with."""
    now = versions()
    now["python"], begun = _minor(now["python"]), {**begun, "python": _minor(begun.get("python", ""))}
    changed = [f"{name} {old} -> {now[name]}" for name, old in begun.items() if old and now.get(name) != old]
    if changed:
        raise UserError(
            f"{workdir} holds a run of other versions ({', '.join(changed)}): install them again, go on with "
            "these by --config.other_versions=True, or use another --workdir, or --fresh"
        )


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def read_config_record(path: Path) -> dict[str, Any]:
    """Reads the config.json of a run.

    Raises:
        UserError: it is damaged.
    """
    remedy = "put back the run's own, or use another --workdir, or --fresh"
    record = read_object(path, remedy, config=dict)
    check_fields(path, record["config"], f"; {remedy}", data=dict, model=dict, strategy=str)
    check_fields(path, record["config"]["data"], f"; {remedy}", name=str)
    if not isinstance(record.setdefault("versions", {}), dict):
        raise UserError(f"{path} is damaged: 'versions' is a {type(record['versions']).__name__}; {remedy}")
    return record


def begun_with(workdir: Path) -> RunConfig:
    """The config that a folder's run was begun with; a field that came after stands where it stood then."""
    begun = read_config_record(workdir / "config.json")["config"]
    known, saved = paths(RunConfig().to_dict()), _dotted(begun)
    values = _older(saved) | {key: value for key, value in saved.items() if key in known}
    values |= begun_as(begun["data"])
    return replace_fields(RunConfig(), values)


def _older(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the values that newer fields had in older runs, where a config could not set them."""
    lite = "model.name" in saved and saved["model.name"] == "efficientnet_lite0"  # TensorFlow's momentum
    drawn = not (
        generated(str(saved.get("data.name"))) or saved.get("data.splits") or saved.get("data.folds")
    )
    norm = {"model.bn_momentum": 0.99 if lite else 0.9, "model.bn_estimate": "moving"}
    return norm | ({"data.split_rule": 1} if drawn else {})


def _changed_strategy(text: str) -> str | None:
    """The key of a strategy that did something else in a version whose configs have no bn_momentum.

    Measured rates counted the fresh head, penalties that are not coupled were no proximal steps (and l1_sp's
    was coupled), and of several phases the weights were chosen among all.
    """
    for term in terms(text):
        strategy = term.strategy
        phased = len(strategy.phases) > 1 or any(phase.each for phase in strategy.phases)
        if phased or any(part.changed for part in strategy.parts):
            return term.key
    return None


def as_begun(workdir: Path, config: C) -> C:
    """The config, where "auto" stays what it meant when the folder's run was begun; see `begun_as`."""
    path = workdir / "config.json"
    if not path.exists():
        return config
    begun = read_config_record(path)["config"]["data"]
    older = begun_as(begun)
    if config.data.augment == "auto" and begun.get("augment", "auto") != "auto":
        older["data.augment"] = begun["augment"]
    return replace_fields(config, older) if older else config


def begun_as(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of how data are read, as a version without these fields read them; {} for a newer one.

    It took the last of two classes for the positive one (a head's outputs are in that order), several label
    columns for several labels, and each image of a folder for a group of its own.

    Args:
        data: the section `data` of a config.json.
    """
    if "labels" in data:
        return {}
    kind, table = data["name"], str(data.get("path", "")).lower().endswith((".csv", ".tsv", ".txt"))
    older = {"data.positive": LAST}
    if kind in ("csv", "npz", "dicom", "nifti"):
        older["data.labels"] = "columns"
    if kind == "folder" or kind == "nifti" and not table:
        older["data.group"] = "file"
    return older


@contextmanager
def alone(workdir: Path) -> Iterator[None]:
    """Holds a work folder, made where it is not there.

    Raises:
        HeldError: another process works in it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with held(workdir / "owner.json", wait=False):
        yield


def set_aside(workdir: Path) -> Path | None:
    """Moves what a run left in its folder to WORKDIR.1 (or .2, ...) and returns that; None where nothing is.

    Raises:
        UserError: another process works there.
    """
    if not workdir.exists() or not any(workdir.iterdir()):
        return None
    number = 1
    while (place := workdir.with_name(f"{workdir.name}.{number}")).exists():
        number += 1
    with alone(workdir):
        workdir.rename(place)
    return place


def check_made_from(
    workdir: Path, config: RunConfig, sets: Mapping[str, Dataset], first: bool = True
) -> RunManifest:
    """Refuses a work folder whose run was made from other data or weights; returns the manifest of now.

    Args:
        workdir: the run's folder; one that holds no run is not looked at.
        config: the run's config.
        sets: the splits.
        first: whether this process may speak of what cannot be told.

    Raises:
        UserError: saying what is another.
    """
    now, path = made_from(sets, config), workdir / "config.json"
    if path.exists():
        begun = str(read_config_record(path).get("manifest") or "")
        known = {begun, *_checkpoints_made_from(workdir)} - {""}
        if known or first:
            manifest_changes.check(workdir, known, now, sets, config)
    return now


def _checkpoints_made_from(workdir: Path) -> list[str]:
    """The digests that the checkpoints to resume from have of the manifest; what is broken says nothing."""
    digests = []
    for path in workdir.glob("checkpoints/last/*/progress/metadata"):
        with contextlib.suppress(UserError):
            digests.append(str(read_object(path).get("made_from") or ""))
    return digests


def claim(workdir: Path, config: RunConfig, manifest: RunManifest | None = None) -> None:
    """Writes config.json and the manifest where they are not yet.

    A run whose data have moved has their new place in it: all that reads them later looks there.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "config.json"
    if path.exists():
        if manifest is not None:
            _update(path, config, manifest)
        return
    if manifest is not None:
        manifest.save(workdir)
    record = {
        "config": config.to_dict(),
        "manifest": manifest and manifest.digest,
        "versions": versions(),
        "git": _git_commit(),
        "command": command(),
        # what "auto" stood for in this version
        "augment": auto_augment(config.data.name)[0]
        if config.data.augment == "auto"
        else config.data.augment,
        "platform": f"{platform.platform()}, {os.cpu_count()} cores",
    }
    write_json(path, record)


def _update(path: Path, config: RunConfig, manifest: RunManifest) -> None:
    """Brings config.json up to date where data lie elsewhere now, or an earlier version wrote it."""
    record = read_config_record(path)
    places = {"path": config.data.path, "root": config.data.root}
    data = record["config"]["data"]
    if record.get("manifest") == manifest.digest and data | places == data:
        if read(path.parent) is None:
            manifest.save(path.parent)
        return
    manifest.save(path.parent)
    record["config"]["data"] = data | places
    write_json(path, {**record, "manifest": manifest.digest})


def command() -> str:
    """This process's command as a shell takes it."""
    program, *words = sys.argv
    started = ["python", "-m", "ttl_jax"] if Path(program).name == "__main__.py" else [program]
    return " ".join(quoted(word) for word in [*started, *words])


def quoted(word: str) -> str:
    """A word as one would type it: --config.x="('full', 'lp_ft')"."""
    flag, sign, value = word.partition("=")
    if not sign or shlex.quote(flag) != flag:
        flag, sign, value = "", "", word
    plain = "'" not in value or set(value) & set('"$`\\!')
    return f"{flag}{sign}{shlex.quote(value) if plain else chr(34) + value + chr(34)}"


def versions() -> dict[str, str]:
    """Python's version and that of every package that a result depends on."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = "absent"
    return installed


def _dotted(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _dotted(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _git_commit() -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True, text=True, timeout=5,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
