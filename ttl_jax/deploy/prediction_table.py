"""A table of predictions: .csv, .parquet or .jsonl, made in parts so that a killed command goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ttl_jax.data.patient_key import hashed
from ttl_jax.data.progress_lines import progress_lines
from ttl_jax.data.pseudonyms import pseudonym
from ttl_jax.data.read_images import Entry, list_images
from ttl_jax.deploy.predict import Ensemble, Row, geometries, predict
from ttl_jax.deploy.prediction_parts import part_lines, part_rows, whole_parts, write_part
from ttl_jax.errors import UserError, nearest
from ttl_jax.system import remote
from ttl_jax.system.csv_cell import csv_line
from ttl_jax.system.json_object import read_object
from ttl_jax.system.lock import held
from ttl_jax.system.whole_file import whole_file, write_json
from ttl_jax.training.records.provenance import command

if TYPE_CHECKING:
    from ttl_jax.deploy.dicom_folder import AnswerFolder

ENDINGS = (".csv", ".parquet", ".jsonl")
PART_ROWS, PART_SECONDS = 1000, 15.0  # a part is written after so much: what a kill may cost
NUMBERS = ("ood", "mutual_information", "sd")  # columns, besides the probabilities
ANSWERS = ["report", "overlay", "dicom_error"]  # columns: names of DICOM files, or why there are none


@dataclass(frozen=True)
class PredictionTable:
    """A table to be written.

    Attributes:
        out: file to write; its ending decides on the kind. Beside it OUT.json says what made it, and
            OUT.parts holds what is done as long as not all is.
        image, root: of tables of images, see `list_images`.
        anonymous: whether hashes stand in the place of the images' names, and no columns of the user's.
        answers: a folder that gets a DICOM report and an overlay for each DICOM file.
    """

    out: str
    image: str = "image"
    root: str = ""
    anonymous: bool = False
    answers: AnswerFolder | None = None


def predict_table(
    joint: Ensemble, paths: Sequence[str], table: PredictionTable, batch_size: int
) -> dict[str, Any]:
    """Predict images and write a row for each; the same call goes on after a kill, or finds all done.

    Args:
        joint: the runs.
        paths: images, as for `list_images`.
        table: the table.
        batch_size: images a batch.

    Returns:
        the content of OUT.json.

    Raises:
        UserError: a file there that something else wrote, or images that changed meanwhile.
    """
    out, answers = table.out, table.answers
    check_out(out)
    volumes = bool(joint.runs[0].signature.geometry.depth)

    def entries() -> Iterator[Entry]:
        return list_images(list(paths), volumes, table.image, table.root)

    about = deciding(joint, paths, table)
    if answers is not None:
        about["columns"] += ANSWERS
        about["dicom_out"] = str(answers.path)
    if (done := _finished(out, about)) is not None:
        if not remote.is_remote(out):  # a kill may have left them
            shutil.rmtree(f"{out}.parts", ignore_errors=True)
        if answers is not None and len(answers) < done["objects"]:
            raise UserError(f"{answers.path} lacks files that {out} names: remove {out} to make them anew")
        return done
    total = sum(1 for _ in entries())
    with ExitStack() as closing:
        folder, push = closing.enter_context(remote.workfolder(f"{out}.parts"))
        folder.mkdir(parents=True, exist_ok=True)
        closing.enter_context(held(folder / "lock", wait=False, name=f"{out}.parts"))
        record = _finished(out, about)  # by a process that has let it go meanwhile
        if record is None:
            _claim(folder, about, out)
            _predict_parts(joint, entries, folder, total, batch_size, table)
            record = about | _summary(folder, table)
            with remote.output(f"{out}.json") as place:
                write_json(place, record)
            with remote.output(out) as place:
                _write(place, table, about["columns"], folder)
        for part in folder.iterdir():
            part.unlink()
        push()
    if not remote.is_remote(out):
        with suppress(OSError):  # one that comes now holds its lock there
            folder.rmdir()
    return record


def check_out(out: str) -> None:
    """Raise UserError unless a table can be written there."""
    ending = Path(out).suffix.lower()
    if ending not in ENDINGS:
        raise UserError(f"--out={out} does not end in a kind of table{nearest(ending, ENDINGS)}")
    if ending == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise UserError(f"--out={out} needs pyarrow: pip install 'ttl-jax[parquet]'") from None
    if remote.is_remote(out):
        return
    place = Path(out)
    if place.is_dir():
        raise UserError(f"--out={out} is a folder: name a file in it")
    if not place.parent.is_dir():
        raise UserError(f"--out={out}: there is no folder {place.parent}; make it first")
    if not os.access(place.parent, os.W_OK):
        raise UserError(f"--out={out}: {place.parent} may not be written to; name another folder")


def deciding(joint: Ensemble, paths: Sequence[str], table: PredictionTable) -> dict[str, Any]:
    """The rule that decides about every row."""
    runs = [
        {"run": str(run.folder), "weights": weights_digest(run.variables), **run.signature.to_json()}
        for run in joint.runs
    ]
    thresholds = {name: None if np.isinf(at) else at for name, at in joint.threshold.items()}
    images: dict[str, Any] = {"paths": list(paths), "image": table.image, "root": table.root}
    if table.anonymous:  # a digest tells another command all the same
        images = {"anonymous": hashed(json.dumps(images))}
    rules: dict[str, Any] = {"thresholds": thresholds}
    if joint.sets is not None:
        sets = joint.sets
        at = [None if np.isinf(each) else float(each) for each in sets.thresholds.flat]
        rules["set"] = {"coverage": sets.coverage, "by_class": sets.by_class, "thresholds": at}
    if joint.abstention is not None:
        held = vars(joint.abstention)
        rules["abstain"] = {name: None if value == np.inf else value for name, value in held.items()}
    return {"runs": runs, "images": images, **rules, "columns": list(joint.columns)}


def weights_digest(variables: Mapping[str, Any]) -> str:
    """BLAKE2 of all parameters and statistics, sixteen hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=8)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


def _exists(path: str) -> bool:
    return remote.bucket(path).exists() if remote.is_remote(path) else Path(path).exists()


def _finished(out: str, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the same command's finished table; None where there is no table."""
    if not _exists(out):
        return None
    try:
        record = read_object(Path(remote.local(f"{out}.json")))
    except (OSError, UserError):
        record = {}
    if {name: record.get(name) for name in about} != json.loads(json.dumps(about)):
        raise UserError(
            f"{out} is there already, and is not of this command: remove it, or name another --out"
        )
    print(f"{out} is finished already", flush=True)
    return record


def _claim(folder: Path, about: Mapping[str, Any], out: str) -> None:
    path = folder / "about.json"
    if path.exists():
        if read_object(path, f"remove {out}.parts") != json.loads(json.dumps(about)):
            raise UserError(
                f"{out}.parts is of another command: finish that one, remove it, or name another --out"
            )
        return
    write_json(path, about)


def _predict_parts(
    joint: Ensemble,
    entries: Any,
    folder: Path,
    total: int,
    batch_size: int,
    table: PredictionTable,
) -> None:
    """Write the parts that are missing. The first line of each says how many entries are done, and which."""
    out, answers = table.out, table.answers
    parts = whole_parts(folder)
    state: dict[str, Any] = next(part_lines(parts[-1])) if parts else {"entries": 0, "names": ""}
    before, number = state["entries"], len(parts)
    at, skip = state.get("batch", (before, 0))
    streams, names = zip(*(_from(entries(), at, before) for _ in geometries(joint)), strict=True)
    if any(known != state["names"] for _, known in names):
        raise UserError(f"the images have changed since {out}.parts was begun: remove it to start anew")
    if before:
        print(f"going on after {before} of {total} images", flush=True)
    say, pending, since = progress_lines("predicted"), list[Row](), time.monotonic()
    seen = _Names(streams[0], names[0][0])
    first = dict[int, tuple[int, int]]()  # where the batch begins in which an entry does
    done = int(skip > 0)

    def flush(rows: list[Row], done: int) -> None:
        nonlocal number
        if answers is not None:
            for count, own in groupby(rows, lambda row: row["entry"]):
                answers.add(seen.sources[count], list(own))
        batch = first.get(done + 1, (at + done, 0))
        about = {"entries": at + done, "names": seen.after(done), "batch": batch}
        write_part(folder, number, about, rows)
        number += 1

    begin = at, skip
    for rows in predict(joint, [seen, *streams[1:]], batch_size, skip):
        first |= {row["entry"]: begin for row in rows if row["entry"] not in first}
        new = [row for row in rows if at + row["entry"] > before]  # the batch that a kill cut is made again
        pending += new
        last = rows[-1]["entry"]
        begin = at + last - 1, sum(row["entry"] == last for row in rows) + (skip if last == done else 0)
        skip, done = begin[1], last
        say(at + done, max(total, at + done))
        if len(pending) >= PART_ROWS or time.monotonic() - since > PART_SECONDS:
            whole = [row for row in pending if row["entry"] < done]  # the last one may have more rows
            if whole:
                flush(whole, done - 1)
                pending, since = pending[len(whole) :], time.monotonic()
                first = {entry: place for entry, place in first.items() if entry >= done}
    if pending:
        flush(pending, done)


def _from(entries: Iterator[Entry], at: int, before: int) -> tuple[Iterator[Entry], tuple[str, str]]:
    """The entries from a place on, and the digests of all names up to there and up to a later place."""
    names, there, again = "", "", list[Entry]()
    for number in range(before):
        there = names if number == at else there
        entry = next(entries, None)
        names = _chained(names, entry)
        if number >= at and entry is not None:
            again.append(entry)
    return chain(again, entries), (there if at < before else names, names)


def _chained(names: str, entry: Entry | None) -> str:
    """The digest of all names up to an entry."""
    return hashlib.blake2b(f"{names}\n{entry and entry.name}".encode(), digest_size=8).hexdigest()


class _Names:
    """Entries as they go by: the sources of the last ones, and the digest of all names up to each of them."""

    def __init__(self, entries: Iterator[Entry], names: str) -> None:
        self._entries, self._last = entries, names
        self._count, self._known = 0, {0: names}
        self.sources: dict[int, Any] = {}

    def __iter__(self) -> Iterator[Entry]:
        for entry in self._entries:
            self._count, self._last = self._count + 1, _chained(self._last, entry)
            self._known[self._count], self.sources[self._count] = self._last, entry.source
            yield entry

    def after(self, count: int) -> str:
        """The digest after so many entries; what came before is forgotten."""
        self._known = {number: names for number, names in self._known.items() if number >= count}
        self.sources = {number: source for number, source in self.sources.items() if number >= count}
        return self._known[count]


def _summary(folder: Path, table: PredictionTable) -> dict[str, Any]:
    rows = unreadable = unanswered = 0
    objects = set[str]()
    for row in part_rows(folder):
        rows, unreadable = rows + 1, unreadable + ("error" in row)
        unanswered += "dicom_error" in row
        objects |= {row[name] for name in ("report", "overlay") if name in row}
    made = {} if table.anonymous else {"command": command()}
    answered = {"objects": len(objects), "unanswered": unanswered} if table.answers is not None else {}
    return {"rows": rows, "unreadable": unreadable} | made | answered


def _flat(folder: Path, columns: Sequence[str]) -> tuple[list[str], Iterator[dict[str, Any]]]:
    """The columns of the table, the user's own behind the id, and its rows."""
    own: dict[str, str] = {}
    for row in part_rows(folder):
        for name in row["columns"]:
            own.setdefault(name, f"{name}_given" if name in columns else name)

    def rows() -> Iterator[dict[str, Any]]:
        for row in part_rows(folder):
            cells = row.pop("columns")
            yield {**row, **{place: cells.get(name, "") for name, place in own.items()}}

    first, *others = columns
    return [first, *own.values(), *others], rows()


def _write(place: Path, table: PredictionTable, wanted: Sequence[str], folder: Path) -> None:
    """Write the table beside its place, and rename it there."""
    columns, rows = _flat(folder, wanted)
    if table.anonymous:
        columns = list(wanted)
        rows = ({**row, "id": pseudonym(row["id"])} for row in rows)
    ending = Path(table.out).suffix.lower()
    with whole_file(place) as beside:
        {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}[ending](beside, columns, rows)


def _short(value: Any) -> object:
    return str(np.float32(value)) if isinstance(value, float) else value


def _csv(place: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with place.open("w", newline="", encoding="utf-8") as file:
        file.write(csv_line(columns))
        file.writelines(csv_line(_short(row.get(name)) for name in columns) for row in rows)


def _jsonl(place: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    with place.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({name: row[name] for name in columns if name in row}) + "\n")


def _parquet(place: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    numbers = {name for name in columns if name.startswith("p_") or name in NUMBERS}
    schema = pa.schema([(name, pa.float32() if name in numbers else pa.string()) for name in columns])
    with parquet.ParquetWriter(place, schema) as writer:
        batch: list[Mapping[str, Any]] = []
        for row in rows:
            batch.append({name: row.get(name) for name in columns})
            if len(batch) == PART_ROWS:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch = []
        writer.write_table(pa.Table.from_pylist(batch, schema=schema))
