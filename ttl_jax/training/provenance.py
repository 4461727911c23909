"""What a run records of itself, and the check that a work folder belongs to the same config."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from ttl_jax.errors import UserError

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scikit-learn")
# Fields that may differ between the start of a run and its continuation: they change no result.
FREE = frozenset(
    {"data.loader_threads", "data.cache_gb", "data.path", "data.root", "log_every_steps",
     "nan_check_steps", "report", "data.eval_batch_size"}
)  # fmt: skip


def claim(workdir: Path, config: Any) -> None:
    """Writes config.json, or checks that the one there is the same.

    Raises:
        UserError: the folder holds a run of another config; the differences are listed.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path, values = workdir / "config.json", config.to_dict()
    if path.exists():
        before, now = _dotted(json.loads(path.read_text())["config"]), _dotted(values)
        changed = [
            f"{key}: {before[key] if key in before else 'absent'} -> {now[key] if key in now else 'absent'}"
            for key in sorted(before.keys() | now.keys())
            if key not in FREE
            and (key in before, before[key] if key in before else None)
            != (key in now, now[key] if key in now else None)
        ]
        if changed:
            raise UserError(
                f"{workdir} holds a run of another config ({'; '.join(changed)}); "
                "use another --workdir, or remove that folder"
            )
        return
    record = {
        "config": values,
        "versions": versions(),
        "git": _git_commit(),
        "command": " ".join(sys.argv),
        "platform": f"{platform.platform()}, {os.cpu_count()} cores",
    }
    write_json(path, record)


def versions() -> dict[str, str]:
    """Python's version and that of every package that a result depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def write_json(path: Path, value: Any) -> None:
    """Writes a file as a whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    temporary.replace(path)


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
