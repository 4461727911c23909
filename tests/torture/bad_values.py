# ruff: noqa: E501 (rows of tables)
"""Bad values, damaged files and folders that cannot be written, typed at every command in one process.

`make torture-values` types all of them, a short form is in the suite (test_bad_values.py). Each has to end
with status 2 and one printable line on standard error, and to leave the work folder as it was; or to end as
the case says.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

MEMORY = 6 << 30  # bytes
SENTENCE = 900  # characters of a line, besides paths
FOLDER = Path("f")  # of a case, in a folder of its own
ANY = frozenset({0, 2})  # it is mended, and says so, or refused


@dataclass(frozen=True)
class Case:
    """What is typed, after what was done to the files, and how it may end.

    Attributes:
        name: kind and value.
        words: of the command line; {run}, {data}, {table}, {new} and so on are paths of the case's folder.
        damage: what is done to the case's folder before.
        ends: the exit statuses that are right.
        says: what the line on standard error has to hold.
        file_bytes: the largest file that may be written, as a full disk leaves; 0 is no limit.
        kept: whether the run's folder has to stay as it was.
        environment: variables of the process.
    """

    name: str
    words: tuple[str, ...]
    damage: Callable[[Path], None] | None = None
    ends: frozenset[int] = frozenset({2})
    says: str = ""
    file_bytes: int = 0
    kept: bool = True
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Outcome:
    """How a case ended, and what is wrong with that; "" for nothing."""

    status: int | None
    said: str
    fault: str
    seconds: float


# --- the files


def make_files(folder: Path) -> None:
    """Write images, a table and a finished run of them, to be copied for each case."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        shown = rng.integers(0, 156, (32, 32, 3)) + 100 * (number % 2)
        path = folder / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shown.astype(np.uint8)).save(path)
        split = "train" if number < 24 else "val" if number < 32 else "test"
        rows.append(f"images/{path.parent.name}/{number}.png,{'ab'[number % 2]},p{number},{split}")
    (folder / "table.csv").write_text("image,label,patient,split\n" + "\n".join(rows) + "\n")


TRAIN = (
    "train", "--config=train", "--workdir={run}", "--config.data.path={table}",
    "--config.data.group=patient", "--config.data.split=split",
)  # fmt: skip
SMALL = (
    "--config.data.image_size=32", "--config.data.batch_size=8", "--config.model.name=resnet18",
    "--config.model.weights=none", "--config.strategy=truncated(2)", "--config.total_steps=4",
    "--config.data.augment=none", "--config.data.duplicates=exact", "--config.report_images=False",
)  # fmt: skip
NEW = tuple(word.replace("{run}", "{new}") for word in TRAIN) + SMALL  # a run that is not there yet
AGAIN = TRAIN + SMALL  # the finished or interrupted one
TUNED = (
    *(word for word in AGAIN if not word.startswith(("--workdir", "--config.strategy", "--config.model.weights"))),
    "--workdir={tuned}", "--config.strategy=truncated(2)+l2_sp", "--config.model.weights={run}",
)  # fmt: skip


def interrupted(folder: Path) -> None:
    """Make of the finished run one that was killed before its end."""
    (folder / "run" / "result.json").unlink()


# --- the ways a file of one's own is damaged


def _edit(path: Path, change: Callable[[dict], object]) -> None:
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": _cut,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "no text": lambda path: path.write_bytes(b"\xff\xfe\x00\x80" * 50),
    "another type": lambda path: path.write_text("[1, 2]"),
    "null": lambda path: path.write_text("null"),
    "empty object": lambda path: path.write_text("{}"),
    "deep": lambda path: path.write_text("[" * 100_000),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a number": lambda path: path.write_text("1e999"),
    "odd": lambda path: path.write_text(
        '{"config": 5, "versions": [], "test": "x", "step": "y", "split": 1}'
    ),
}


def damaged(name: str, way: str, also: Callable[[Path], None] | None = None) -> Callable[[Path], None]:
    """Return what damages the first file of a pattern in the run."""

    def damage(folder: Path) -> None:
        if also is not None:
            also(folder)
        for path in sorted((folder / "run").glob(name))[-1:]:
            DAMAGE[way](path)

    return damage


# --- the cases

OWN = (
    "config.json", "result.json", "metrics.jsonl", "manifest.npz", "signature.json",
    "training_features.npz", "predictions/val.npz", "predictions/test.npz",
)  # fmt: skip
CHECKPOINT = (
    "checkpoints/last/*/progress/metadata", "checkpoints/last/*/manifest.json",
    "checkpoints/best/*/manifest.json",
)  # fmt: skip


def own_files() -> Iterator[Case]:
    """Damaged files of our own at a resume, in a report and in every command that reads a run."""
    readers = {
        "train": AGAIN,
        "report": ("report", "{run}", "--out={out}/r.html"),
        "runs": ("runs", "{folder}"),
        "predict": ("predict", "{run}", "{data}", "--out={out}/p.csv", "--ood"),
        "evaluate": ("evaluate", "{run}", "--config.data.path={data}", "--out={out}/e"),
        "explain": ("explain", "{run}", "{data}/a/0.png", "--out={out}/x", "--checks=0"),
        "export": ("export", "{run}", "--format=safetensors", "--out={out}/s"),
    }
    for command, words in readers.items():
        ways = DAMAGE if command in ("train", "report", "runs") else ("cut", "another type", "odd")
        for name in OWN + CHECKPOINT:
            for way in ways:
                kept = command != "train"
                yield Case(f"{command}: {name} {way}", words, damaged(name, way), ANY, kept=kept)
                if command == "train" and name != "result.json":
                    yield Case(
                        f"resume: {name} {way}", words, damaged(name, way, interrupted), ANY, kept=False
                    )


def _rows(folder: Path, change: Callable[[list[list[str]]], object], to: str = "table.csv") -> None:
    head, *lines = (folder / "table.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines]
    change(rows)
    (folder / to).write_text("\n".join([head, *(",".join(row) for row in rows)]) + "\n")


def _swap(column: int, pairs: tuple[tuple[int, int], ...]) -> Callable[[list[list[str]]], None]:
    def swap(rows: list[list[str]]) -> None:
        for one, other in pairs:
            rows[one][column], rows[other][column] = rows[other][column], rows[one][column]

    return swap


def _add(folder: Path) -> None:
    shown = np.random.default_rng(77).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(shown).save(folder / "images" / "a" / "new.png")
    _rows(folder, lambda rows: rows.append(["images/a/new.png", "a", "pnew", "train"]))


def _redraw(folder: Path) -> None:
    path = folder / "images" / "b" / "5.png"
    shown = np.asarray(Image.open(path)).copy()
    shown[3, 3] ^= 1
    Image.fromarray(shown).save(path)


def _other_seed(folder: Path) -> None:
    """Weights of another seed in the place of those that a run began from."""
    shutil.rmtree(folder / "run" / "checkpoints")
    shutil.copytree(folder / "run2" / "checkpoints", folder / "run" / "checkpoints")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "an image added": (_add, "1 image added ('images/a/new.png')"),
    "an image removed": (lambda folder: _rows(folder, lambda rows: rows.pop(7)), "1 image removed"),
    "an image edited": (_redraw, "the pixels of 1 changed ('images/b/5.png')"),
    "labels swapped": (lambda folder: _rows(folder, _swap(1, ((0, 1),))), "the labels of 2 changed"),
    "a class renamed": (
        lambda folder: _rows(folder, lambda rows: [row.__setitem__(1, "z") for row in rows if row[1] == "b"]),
        "class 'b' is now 'z'",
    ),
    "test and train rows swapped": (
        lambda folder: _rows(folder, _swap(3, ((0, 38), (1, 39)))), "the split of 4 changed",
    ),
    "patients swapped": (lambda folder: _rows(folder, lambda rows: rows[2].__setitem__(2, "p4")), "the groups of 1"),
    "an image under another name": (
        lambda folder: (
            (folder / "images/a/6.png").rename(folder / "images/a/six.png"),
            _rows(folder, lambda rows: rows[6].__setitem__(0, "images/a/six.png")),
        ),
        "1 under another name",
    ),
}  # fmt: skip


def runs() -> Iterator[Case]:
    """Changes of what a finished or an interrupted run was made from."""
    for name, (change, says) in CHANGES.items():
        yield Case(
            f"finished: {name}", AGAIN, lambda folder, change=change: change(folder) and None, says=says
        )
        yield Case(
            f"interrupted: {name}", AGAIN,
            lambda folder, change=change: (interrupted(folder), change(folder)) and None, says=says,
        )  # fmt: skip
    other = tuple(word.replace("{table}", "{folder}/other.csv") for word in AGAIN)
    fewer = lambda folder: _rows(folder, lambda rows: rows.pop(), "other.csv")  # noqa: E731
    yield Case("finished: another data.path", other, fewer, says="other.csv")
    yield Case("finished: another seed", (*AGAIN, "--config.seed=5"), says="seed: 0 -> 5")
    yield Case("finished: another weights file under l2_sp", TUNED, _other_seed, says="another weights file")
    yield Case(
        "finished: other weights under l2_sp", (*TUNED[:-1], "--config.model.weights={run2}"), says="run2"
    )


def newer() -> Iterator[Case]:
    """Files of a newer version, which hold what this one does not know."""

    def progress(folder: Path) -> None:
        interrupted(folder)
        for path in (folder / "run").glob("checkpoints/last/*/progress/metadata"):
            _edit(path, lambda record: record.update(tomorrow=1))
            _mend(path.parent.parent)

    def config(folder: Path) -> None:
        _edit(folder / "run" / "config.json", lambda record: record["config"].update(tomorrow=1))

    def signature(folder: Path) -> None:
        _edit(folder / "run" / "signature.json", lambda record: record.update(tomorrow=1))

    yield Case("resume: progress of tomorrow", AGAIN, progress, says="newer")
    yield Case("resume: config of tomorrow", AGAIN, config, says="tomorrow")
    yield Case(
        "predict: signature of tomorrow", ("predict", "{run}", "{data}", "--out={out}/p.csv"), signature, ANY
    )


def _mend(bundle: Path) -> None:
    """Make a bundle's manifest agree with its files again."""
    from ttl_jax.training.records.bundle import MANIFEST, seal

    (bundle / MANIFEST).unlink()
    seal(bundle)


def folders() -> Iterator[Case]:
    """Work folders that are files, cannot be made, are read-only, or on a full disk."""

    def blocked(folder: Path) -> None:
        (folder / "new").write_text("a file")
        (folder / "out").rmdir()
        (folder / "out").write_text("a file")

    places = {
        "a file": ("{new}", blocked), "below a file": ("{table}/x", None), "cannot be made": ("/proc/x/y", None),
        "read-only": ("{read_only}/x", None), "a long name": ("{new}" + "x" * 300, None),
    }  # fmt: skip
    commands = {
        "train": NEW,
        "fresh": (*NEW, "--fresh"),
        "compare": (
            "compare",
            "--config=compare",
            "--workdir={new}",
            "--config.data.path={data}",
            *SMALL,
            "--config.compare.models=('resnet18',)",
            "--config.compare.strategies=('truncated(2)',)",
            "--config.compare.seeds=(0,)",
            "--config.compare.folds=0",
            "--config.compare.lrs=()",
        ),
        "search": (
            "search",
            "--config=search",
            "--workdir={new}",
            "--config.data.path={data}",
            *SMALL[:4],
            "--config.total_steps=2",
        ),
        "soup": ("soup", "{run}", "{run2}", "--workdir={new}"),
        "quickstart": ("quickstart", "--workdir={new}"),
        "prepare": ("prepare", "{data}", "--out={new}"),
        "report": ("report", "{run}", "--out={new}/r.html"),
        "predict": ("predict", "{run}", "{data}", "--out={new}/p.csv"),
        "evaluate": ("evaluate", "{run}", "--config.data.path={data}", "--out={new}"),
        "explain": ("explain", "{run}", "{data}/a/0.png", "--out={new}", "--checks=0"),
        "export": ("export", "{run}", "--format=safetensors", "--out={new}"),
    }
    for command, words in commands.items():
        for where, (place, damage) in places.items():
            typed = tuple(word.replace("{new}", place) for word in words)
            yield Case(f"{command}: folder is {where}", typed, damage)
        for size in (1, 3000, 30_000):
            yield Case(f"{command}: disk full after {size}", words, None, frozenset({0, 2}), file_bytes=size)


HARMLESS = ("parallel.steps_per_call=", "data.views=", "eval_every_epochs=1e-300", "data.loader_threads=0")


def values() -> Iterator[Case]:
    """Fields out of any range."""
    fields = [
        "seed=-1", "seed=99999999999999999999", "data.split_seed=-1", "total_steps=9223372036854775807",
        "total_steps=-1",
        "total_epochs=1e300", "total_epochs=nan", "total_epochs=inf", "data.phantom_patients=0",
        "data.phantom_patients=-5", "data.phantom_patients=1", "loggers=(1,)", "loggers=('x',)",
        "data.batch_size=1000000000", "data.batch_size=1e9", "data.eval_batch_size=1000000000000",
        "parallel.accumulate=2147483647", "parallel.steps_per_call=2147483647",
        "parallel.devices=2147483647", "preemption_notice=file:", "preemption_notice=x",
        "data.image_size=1000000000", "data.image_size=1", "data.image_size=0", "data.image_size=-1",
        "optimizer.lr=inf", "optimizer.lr=nan", "data.loader_threads=0", "data.loader_threads=-3",
        "data.loader_threads=1000000000", "data.views=2147483647", "log_every_steps=9223372036854775807",
        "nan_check_steps=9223372036854775808", "data.cache_gb=nan", "data.cache_gb=-1", "early_stop.patience=-1",
        "save_every_minutes=nan", "eval_every_epochs=1e-300", "eval_every_epochs=nan", "data.folds=1",
        "data.folds=1000000000", "data.fold=7", "data.val_fraction=2", "data.test_fraction=nan",
        "data.label=\x1b[31mx", "data.label=" + "L" * 100_000, "data.splits=" + "S" * 100_000,
        "strategy=" + "s" * 100_000, "strategy=" + "(" * 5000, "strategy=full+" * 3000, "model.name=\x1b]0;x\x07",
        "model.weights=" + "w" * 100_000, "model.weights=\x1b[2J", "data.augment=" + "a" * 100_000,
        "data.augment=rotate(" + "9" * 5000 + ")", "data.path=" + "p" * 100_000, "data.path=a\x1b[2Jb",
        "data.name=" + "n" * 100_000, "data.mix=mixup(nan)", "data.mix=mixup(1e999)", "select=\x1b[31m",
        "nothing=" + "v" * 100_000, "n" * 100_000 + "=1", "optimizer.lr=" + "z" * 100_000, "loss.gamma=-inf",
        "schedule.warmup=nan", "model.bn_estimate=precise(0)", "model.bn_estimate=precise(99999999999999)",
        "data.window=" + "1" * 5000, "data.positive=" + "\u202e" + "x",
    ]  # fmt: skip
    generated = tuple(word for word in NEW if "data." not in word) + SMALL[:2]
    for field in fields:
        base = generated if "phantom" in field else NEW
        base = tuple(word for word in base if word.partition("=")[0] != f"--config.{field.partition('=')[0]}")
        ends = ANY if field.startswith(HARMLESS) else frozenset({2})
        yield Case(f"train: {field[:60]!r}", (*base, f"--config.{field}"), ends=ends)
    yield Case("train: TTL_JAX_CACHE empty", (*NEW, "--config.seed=-1"), environment={"TTL_JAX_CACHE": ""})
    numbers = {
        "predict": ("--batch_size=0x", "--batch_size=-1", "--batch_size=99999999999999999999", "--set=nan", "--set=1",
                    "--set=2", "--abstain=nan", "--abstain=-1", "--threshold=nan", "--threshold=" + "t" * 100_000,
                    "--tta=x", "--image=\x1b[2J", "--root=" + "r" * 5000),
        "explain": ("--unit=" + "u" * 100_000, "--class=9", "--class=\x1b", "--checks=-1", "--checks=x",
                    "--method=" + "m" * 100_000, "--masks=/nowhere", "--count=-1"),
        "export": ("--format=" + "f" * 100_000, "--quantize=int4", "--images=/nowhere", "--format=\x1b[2J"),
        "evaluate": ("--split=" + "s" * 10_000, "--classes=" + "c" * 100_000, "--classes=a=\x1b[2J", "--name=../../x",
                     "--name=" + "n" * 10_000, "--config.data.path=/nowhere", "--config.data.label=" + "L" * 10_000,
                     "--config.data.split_seed=-1"),
    }  # fmt: skip
    words = {
        "predict": ("predict", "{run}", "{data}", "--out={out}/p.csv"),
        "explain": ("explain", "{run}", "{data}/a/0.png", "--out={out}/x"),
        "export": ("export", "{run}", "--out={out}/s"),
        "evaluate": ("evaluate", "{run}", "--config.data.path={data}"),
    }
    for command, given in numbers.items():
        for word in given:
            typed = tuple(
                each for each in words[command] if not word.startswith(each.partition("=")[0] + "=")
            )
            ends = (
                ANY if word.startswith(("--image=", "--root=")) and command == "predict" else frozenset({2})
            )
            yield Case(f"{command}: {word[:60]!r}", (*typed, word), ends=ends)
    for command in ("predict", "explain", "export", "evaluate", "report", "runs", "soup", "nothing", "bench"):
        for word in ("--" + "x" * 100_000, "x" * 100_000, "\x1b[2J", "a\0b", "\udcff"):
            yield Case(f"{command}: word {word[:20]!r}", (command, word))
    yield Case("predict: out is text", ("predict", "{run}", "{data}", "--out={out}/p.txt"))
    yield Case("runs: no folder", ("runs", "/nowhere"))
    yield Case("report: nothing there", ("report", "/nowhere"))


def config_files() -> Iterator[Case]:
    """Config files that are none."""
    contents = {
        "syntax error": "def get_config(:\n", "raises": "1 / 0\n", "raises inside": "def get_config(a=None):\n  [][1]\n",
        "no get_config": "x = 1\n", "None": "def get_config(a=None):\n  return None\n", "zero byte": "a\0b",
        "exits": "import sys; sys.exit(3)\n", "imports nothing": "import nothing_of_that_name\n",
        "recursion": "def get_config(a=None):\n  return get_config()\n", "no text": "\udcff\udcfe",
        "a dict": "def get_config(a=None):\n  return {'seed': 1}\n", "prints": "raise ValueError('x\\ny' * 1000)\n",
        "tabs": "if 1:\n\tx=1\n        y=2\n",
        "memory": "def get_config(a=None):\n  raise MemoryError\n", "assert": "assert False\n",
    }  # fmt: skip
    for name, content in contents.items():

        def write(folder: Path, content: str = content) -> None:
            (folder / "mine.py").write_text(content, errors="surrogateescape")

        for command in ("train", "search", "compare"):
            yield Case(
                f"{command}: config {name}", (command, "--config={folder}/mine.py", "--workdir={new}"), write
            )


def tables() -> Iterator[Case]:
    """Tables and split files that are wide, long, deep or something else."""
    words = tuple(word for word in NEW if "data.split" not in word)

    def table(content: Callable[[Path], str]) -> Callable[[Path], None]:
        return lambda folder: (folder / "table.csv").write_text(content(folder)) and None

    head = "image,label,patient\n"
    bad = {
        "20,000 columns": lambda folder: ",".join(f"c{n}" for n in range(20_000)) + "\n" + "1," * 19_999 + "1\n",
        "20,000 equal columns": lambda folder: ",".join(["c"] * 20_000) + "\n" + "1," * 19_999 + "1\n",
        "20,000 semicolons": lambda folder: ";".join(f"c,{n}" for n in range(20_000)) + "\n",
        "200,000 missing": lambda folder: head + "".join(f"x/{n}.png,{'ab'[n % 2]},p{n}\n" for n in range(200_000)),
        "control characters": lambda folder: head + "\x1b[2J.png,a,p\n\x07.png,b,q\n",
        "a long cell": lambda folder: head + "x" * 100_000 + ".png,a,p\n",
        "one quote": lambda folder: head + '"images/a/0.png,a,p\n' * 3,
        "header alone": lambda folder: head,
        "one line of 10 MB": lambda folder: "x" * 10_000_000,
    }  # fmt: skip
    for name, content in bad.items():
        yield Case(f"train: table of {name}", words, table(content))
        yield Case(
            f"predict: table of {name}",
            ("predict", "{run}", "{table}", "--out={out}/p.csv"),
            table(content),
            ANY,
        )
    splits = {
        "folds of numbers": '{"folds": [1, 2]}', "deep": "[" * 100_000, "deep object": '{"a":' * 50_000,
        "null": "null", "a number": "1", "text": '"x"', "train is a number": '{"train": 1, "val": 2, "test": 3}',
        "train of lists": '{"train": [[1]], "val": [[2]], "test": [{}]}', "folds is text": '{"folds": "ab"}',
        "folds of null": '{"folds": [null]}', "folds of objects": '{"folds": [{"a": 1}, {"b": 2}]}',
        "nan": '{"train": NaN}', "no text": "\udcff\udcfe", "no ids": '{"train": [], "val": [], "test": []}',
        "huge number": '{"train": [' + "9" * 5000 + "]}", "names of 100 kB": '{"train": ["' + "x" * 100_000 + '"]}',
        "empty": "", "ids twice": '{"train": ["a", "a"], "val": ["a"], "test": ["a"]}',
        "twice": '{"train": [], "train": []}', "ids": '{"train": ["images/a/0.png"], "val": [null], "test": [true]}',
        "splits is a list": '{"splits": [1]}', "a split is a number": '{"splits": {"train": 1, "val": [], "test": []}}',
        "a split of lists": '{"splits": {"train": [[1], {}], "val": [null], "test": [true]}}', "splits of null": '{"splits": null}',
        "version": '{"version": 99}', "seed": '{"seed": "x", "train": {}, "val": {}, "test": {}}',
    }  # fmt: skip
    for name, content in splits.items():

        def write(folder: Path, content: str = content) -> None:
            (folder / "split.json").write_text(content, errors="surrogateescape")

        yield Case(f"train: split file {name}", (*words, "--config.data.splits={folder}/split.json"), write)


def images() -> Iterator[Case]:
    """Images of one colour, and names of classes that are markup."""

    def same(folder: Path) -> None:
        for path in (folder / "images").rglob("*.png"):
            Image.new("RGB", (32, 32), (90, 90, 90)).save(path)

    def colours(folder: Path) -> None:
        for number, path in enumerate((folder / "images").rglob("*.png")):
            Image.new("RGB", (32, 32), (number * 5, 90, 90)).save(path)

    def renamed(one: str, other: str) -> Callable[[Path], None]:
        names = {"a": one, "b": other}
        return lambda folder: _rows(folder, lambda rows: [row.__setitem__(1, names[row[1]]) for row in rows])

    words = tuple(word for word in NEW if "data." not in word) + ("--config.data.path={data}", *SMALL)
    yield Case("train: all one image", words, same)
    yield Case("train: images of one colour each", words, colours, ANY)
    for one, other in (
        ("[high]", "[/low]"),
        ("ä", "漢字"),
        ("\u202eabc", "x"),
        ("=1+1", "@x"),
        ("%s", "{0}"),
    ):
        yield Case(f"train: classes {one!r} {other!r}", NEW, renamed(one, other), frozenset({0}))
    yield Case(
        "train: class with an escape", NEW, renamed("x\x1b[31m", "y"), says="control characters: rename it"
    )


KINDS: dict[str, Callable[[], Iterator[Case]]] = {
    "values": values, "config_files": config_files, "tables": tables, "images": images, "folders": folders,
    "newer": newer, "own_files": own_files, "runs": runs,
}  # fmt: skip


# --- typing them


def make_base(folder: Path, runs: tuple[str, ...] = ("run", "run2", "tuned")) -> None:
    """Write the files and train the runs that the cases damage."""
    make_files(folder)
    for name, words in (("run", AGAIN), ("run2", (*AGAIN, "--config.seed=1")), ("tuned", TUNED)):
        if name not in runs:
            continue
        words = tuple(word.replace("--workdir={run}", f"--workdir={folder / name}") for word in words)
        outcome = type_in(folder, Case("base", words, ends=frozenset({0}), kept=False))
        if outcome.fault:
            raise RuntimeError(f"{outcome.fault}\n{outcome.said}")
    (folder / "out").mkdir()


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file but the lock."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "owner.json"
    }


class _Terminal(io.TextIOWrapper):
    """A stream that holds ASCII alone, as a terminal of LANG=C."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii", errors="strict", write_through=True)

    def text(self) -> str:
        self.flush()
        buffer: io.BytesIO = self.buffer  # type: ignore[assignment]
        return buffer.getvalue().decode("ascii")


def type_in(folder: Path, case: Case) -> Outcome:
    """Run a case's command in this process, its files in a folder of the case's own."""
    from ttl_jax.cli import main

    places = {
        "folder": folder, "run": folder / "run", "tuned": folder / "tuned", "run2": folder / "run2", "data": folder / "images",
        "table": folder / "table.csv", "new": folder / "new", "out": folder / "out", "read_only": "/sys",
    }  # fmt: skip
    words = list(case.words)
    for name, place in places.items():
        words = [word.replace(f"{{{name}}}", str(place)) for word in words]
    before = snapshot(folder)
    out, told = _Terminal(), _Terminal()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    environment = dict(os.environ)
    os.environ.update(case.environment or {})
    began, raised, status = time.monotonic(), "", None
    try:
        if case.file_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (case.file_bytes, limits[1]))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
            status = main(["ttl_jax", *words])
    except BaseException:
        raised = traceback.format_exc()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        os.environ.clear()
        os.environ.update(environment)
    took = time.monotonic() - began
    said = told.text()
    fault = _fault(case, status, raised, said, folder, before)
    if not fault and "\x1b" in out.text():
        fault = "control characters on standard output"
    return Outcome(status, said or raised, fault, took)


def _fault(case: Case, status: int | None, raised: str, said: str, folder: Path, before: object) -> str:
    if raised:
        return "raised " + raised.strip().splitlines()[-1][:300]
    if status not in case.ends:
        return f"status {status}"
    lines = [line for line in said.splitlines() if not line.startswith("note: ")]
    if status == 2:
        if len(lines) != 1:
            return f"{len(lines)} lines"
        line = lines[0]
        if len(line) > SENTENCE:
            return f"{len(line)} characters"
        if not line.isprintable():
            return "control characters"
        if case.says not in line:
            return f"does not say {case.says!r}"
        now = snapshot(folder)
        if case.kept and {name: now.get(name) for name in before} != before:
            return "files that were there were touched"
    return ""


def typed(cases: Iterator[Case], base: Path) -> Iterator[tuple[Case, Outcome]]:
    """Type each case in a copy of the base folder, all paths relative to the folder above it."""
    for case in cases:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, contextlib.chdir(name):
            shutil.copytree(base, FOLDER)
            if case.damage is not None:
                case.damage(FOLDER)
            yield case, type_in(FOLDER, case)


def _last_line(text: str) -> str:
    """The last place of ours in a traceback, and what was raised there."""
    lines = text.strip().splitlines()
    ours = [number for number, line in enumerate(lines) if "/ttl_jax/" in line]
    return " ".join(lines[ours[-1] : ours[-1] + 2]).strip() if ours else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--show", action="store_true", help="print what every case says")
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))  # so that this machine survives
    faults = count = 0
    with tempfile.TemporaryDirectory() as name:
        os.environ["TTL_JAX_CACHE"] = str(Path(name) / "cache")  # a full disk leaves broken entries
        base = Path(name) / FOLDER
        base.mkdir()
        with contextlib.chdir(name):
            make_base(FOLDER)
        for kind in chosen.kinds.split(","):
            cases = (case for case in KINDS[kind]() if chosen.only in case.name)
            for case, outcome in typed(cases, base):
                count += 1
                faults += bool(outcome.fault)
                slow = outcome.seconds > 10
                if outcome.fault or slow or chosen.show:
                    said = _last_line(outcome.said) if outcome.fault.startswith("raised") else outcome.said
                    told = said.strip()[:300]
                    print(
                        f"{outcome.fault or 'ok'} | {case.name} | {outcome.seconds:.1f} s | {told!r}",
                        flush=True,
                    )
    print(f"{count} cases, {faults} at fault")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
