"""`doctor`: checks of this machine before a run; each is a function that says how it is and what to do."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ttl_jax.commands.arguments import config_and_workdir, unknown_argument
from ttl_jax.config import RunConfig
from ttl_jax.errors import UserError
from ttl_jax.system import remote
from ttl_jax.system.folders import user_cache

SUMMARY = "what of this machine would stop a run"

HELP = """usage: ttl-jax doctor [--json] [--config=NAME --workdir=DIR ...]

Looks at Python, packages, JAX and its devices, memory, disk, caches, weights,
data paths and Google Cloud Storage: one line a check, with the remedy. Exit
status 2 where a run would fail.

  --json                   for programs
  --config=NAME            also looks at what this run needs
  --workdir=DIR            also looks at the disk under this folder
  --config.FIELD=VALUE     as for `train`

examples:
  ttl-jax doctor
  ttl-jax doctor --config=train:model=resnet50 --config.data.path=/data
"""
OK, WARN, FAIL = "ok", "warn", "fail"
GB = 1e9
LEAST_PYTHON = (3, 11)
MEMORY = (1.0, 4.0)  # GB free below which a run fails, or may
DISK = (0.5, 5.0)  # checkpoints and caches


def run(arguments: list[str]) -> None:
    """Says what of this machine would stop a run; exit status 2 where something would."""
    words = [word for word in arguments if word != "--json"]
    paths, model, source = {}, "", ""
    if any(word.startswith("--config") for word in words):
        config, workdir = config_and_workdir(arguments, RunConfig, needs_workdir=False, switches=("--json",))
        model, source = config.model.name, config.model.weights
        paths = {"workdir": workdir, "data": config.data.path}
        if source.endswith((".pth", ".pt", ".safetensors", ".h5", ".keras", ".npz")) or "/" in source:
            paths["weights"] = source
    elif words:
        raise unknown_argument(words[0], ("--json", "--config", "--workdir"))
    checks = examine(paths, model, source)
    if "--json" in arguments:
        print(json.dumps(as_rows(checks), indent=1))
    else:
        for check in checks:
            print(check.line())
    bad = [check.name for check in checks if check.status == FAIL]
    if bad:
        raise UserError(f"{len(bad)} of {len(checks)} checks failed: {', '.join(bad)}")


@dataclass(frozen=True)
class Check:
    """One line.

    Attributes:
        name: name of the check.
        status: "ok", "warn" (a run goes, but) or "fail".
        found: state of the machine, in words.
        remedy: remedy for the user; "" where all is well.
    """

    name: str
    status: str
    found: str
    remedy: str = ""

    def line(self) -> str:
        """As it is printed."""
        return f"{self.status:5} {self.name:16} {self.found}" + (f" -> {self.remedy}" if self.remedy else "")


def examine(paths: Mapping[str, str] | None = None, model: str = "", source: str = "") -> list[Check]:
    """Looks at everything.

    Args:
        paths: {"workdir" | "data" | "weights": path} that a run would use, where one is known.
        model: network of the run, to look for its weights.
        source: weights of the run: a catalogue key, a path or "none".
    """
    given = {name: path for name, path in (paths or {}).items() if path}
    cache = str(user_cache())
    tests: list[Callable[[], Check | Iterable[Check]]] = [
        lambda: python(sys.version_info[:3]),
        lambda: versions(requirements(), _installed),
        devices,
        lambda: memory(_free_memory()),
        lambda: disk("disk, cache", cache),
        lambda: disk("disk, workdir", given.get("workdir", ".")),
        lambda: writable("cache", cache, "set TTL_JAX_CACHE to a folder of yours"),
        lambda: weights(model, source),
        lambda: [place(name, path) for name, path in given.items() if name != "workdir"],
        lambda: gcs(
            [path for name, path in given.items() if name != "workdir"],
            [path for name, path in given.items() if name == "workdir"],
        ),
    ]
    checks: list[Check] = []
    for test in tests:
        result = test()
        checks += [result] if isinstance(result, Check) else list(result)
    return checks


def python(version: tuple[int, ...]) -> Check:
    """Python is new enough."""
    name = ".".join(map(str, version))
    if version[:2] < LEAST_PYTHON:
        return Check("python", FAIL, name, "install Python 3.11 or newer, and make .venv again")
    return Check("python", OK, f"{name}, {platform.platform()}")


def requirements() -> list[str]:
    """Return the requirements of pyproject.toml, from the installed package or the checkout."""
    path = Path(__file__).resolve().parent.parent / "pyproject.toml"
    if path.is_file():
        import tomllib

        asked: list[str] = tomllib.loads(path.read_text())["project"]["dependencies"]
        return asked
    asked = metadata.requires("ttl-jax") or []
    return [line for line in asked if "extra ==" not in line]


def versions(asked: Iterable[str], installed: Callable[[str], str | None]) -> list[Check]:
    """Every package is there and within its range; those that are not have a line each."""
    from packaging.requirements import Requirement

    wrong, count = [], 0
    for line in asked:
        requirement, count = Requirement(line), count + 1
        version = installed(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            has = "absent" if version is None else f"{version}, not {requirement.specifier}"
            remedy = f"pip install -c constraints.txt '{requirement.name}{requirement.specifier}'"
            wrong.append(Check(f"package {requirement.name}", FAIL, has, remedy))
    return wrong or [Check("packages", OK, f"{count} within their ranges")]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def devices() -> Check:
    """JAX starts, and uses the accelerator that the machine has."""
    try:
        import jax

        present = jax.devices()
    except Exception as error:  # whatever a broken driver raises
        reason = str(error).splitlines()[0][:160]
        return Check("jax", FAIL, reason, "JAX_PLATFORMS=cpu to go on without the accelerator")
    said = f"{jax.__version__}, {len(present)} x {present[0].device_kind} ({jax.default_backend()})"
    if jax.default_backend() == "cpu":
        for file, kind, extra in (
            ("/dev/nvidia0", "an NVIDIA GPU", "cuda13"),
            ("/dev/accel0", "a TPU", "tpu"),
        ):
            if Path(file).exists():
                return Check("jax", WARN, f"{said}; {kind} is not used", f"pip install -U 'jax[{extra}]'")
    return Check("jax", OK, said)


def memory(free: float | None) -> Check:
    """Bytes that may be taken."""
    if free is None:
        return Check("memory", OK, "unknown on this system")
    text = f"{free / GB:.1f} GB free"
    if free < MEMORY[0] * GB:
        return Check("memory", FAIL, text, "end other programs, or lower data.batch_size and data.cache_gb")
    if free < MEMORY[1] * GB:
        return Check("memory", WARN, text, "lower data.batch_size, data.cache_gb or parallel.accumulate")
    return Check("memory", OK, text)


def _free_memory() -> float | None:
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    fields = dict(line.split(":", 1) for line in path.read_text().splitlines())
    return float(fields["MemAvailable"].split()[0]) * 1024


def disk(name: str, path: str) -> Check:
    """Bytes free where a path is, or will be."""
    if remote.is_remote(path):
        return Check(name, OK, f"{path} is remote")
    there = _nearest(Path(path))
    free = shutil.disk_usage(there).free
    text = f"{free / GB:.1f} GB free at {there}"
    if free < DISK[0] * GB:
        return Check(name, FAIL, text, "free some space, or use another --workdir or TTL_JAX_CACHE")
    return Check(
        name, WARN if free < DISK[1] * GB else OK, text, "" if free >= DISK[1] * GB else "free some space"
    )


def _nearest(path: Path) -> Path:
    """The path, or the first of its parents that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def writable(name: str, path: str, remedy: str) -> Check:
    """A file can be made there."""
    try:
        with tempfile.TemporaryFile(dir=_nearest(Path(path))):
            return Check(name, OK, path)
    except OSError as error:
        return Check(name, FAIL, f"{path}: {error.strerror}", remedy)


def weights(model: str, source: str) -> Check:
    """The weights of a run are here, or how many of the catalogue are."""
    from ttl_jax import weights as package

    rows = package.listing()
    if model and source and source != "none" and source in {row["weights"] for row in rows}:
        row = next((row for row in rows if (row["model"], row["weights"]) == (model, source)), None)
        if row is None:
            return Check("weights", FAIL, f"{source} of {model} is not in the catalogue", "see `weights`")
        if row["here"] == "yes":
            return Check("weights", OK, f"{source} of {model} is here")
        return Check("weights", WARN, f"{source} of {model} is not here", f"it is fetched from {row['from']}")
    here = [row for row in rows if row["here"] == "yes"]
    remedy = "" if here else "they are fetched when a run names them, or give a file with model.weights=PATH"
    return Check("weights", OK if here else WARN, f"{len(here)} of {len(rows)} catalogued are here", remedy)


def place(name: str, path: str) -> Check:
    """A path that a run reads exists."""
    if remote.is_remote(path) or Path(path).exists():
        return Check(name, OK, path)
    return Check(name, FAIL, f"{path} does not exist", f"mend the path: it is relative to {Path.cwd()}")


def gcs(read: Iterable[str], written: Iterable[str] = ()) -> list[Check]:
    """Google Cloud Storage can be read and written, where a path lies there."""
    reads, writes = (
        [path for path in read if remote.is_remote(path)],
        [path for path in written if remote.is_remote(path)],
    )
    if not reads and not writes:
        return [Check("gcs", OK, "not used")]
    if _installed("gcsfs") is None:
        return [
            Check("gcs", FAIL, f"{[*reads, *writes][0]} needs gcsfs",
                  "pip install -c constraints.txt 'ttl-jax[gcs]'")
        ]  # fmt: skip
    checks = []
    for path, doing in [*((path, "read") for path in reads), *((path, "written") for path in writes)]:
        try:
            if doing == "written":
                remote.bucket(path).probe()
            elif not remote.bucket(path).exists():
                checks.append(Check("gcs", FAIL, f"{path} is not there", remote.ACCESS))
                continue
            checks.append(Check("gcs", OK, f"{path} can be {doing}"))
        except UserError as error:
            checks.append(Check("gcs", FAIL, str(error)))
    return checks


def as_rows(checks: Iterable[Check]) -> list[dict[str, Any]]:
    """For --json."""
    return [asdict(check) for check in checks]
