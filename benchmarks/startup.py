"""From the start of Python to the end of the first training step: `python -m ttl_jax bench startup`.

A cold start compiles into an empty cache of its own, warm starts find it filled (JAX's persistent
compilation cache, on by default in our command line). Also the time of `import ttl_jax`, with what takes
it (python -X importtime).

    python -m ttl_jax bench startup --model=resnet50 --size=128 --repeats=5
    python -m ttl_jax bench startup --beside=../before  # another checkout of this project, in turn with this
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ttl_jax

ROOT = Path(ttl_jax.__file__).resolve().parents[1]  # where children find the package
FIRST_STEP = """
import sys
sys.path.insert(0, {folder!r})
import cpu
cpu.jax_step({model!r}, {size}, {batch}, "train")()
"""


def seconds_of(code: str, root: Path, environment: dict[str, str]) -> float:
    """Seconds from the start of a Python process until it has run this code, in wall time."""
    command = [sys.executable, "-c", f"{code}\nimport time; print(time.time())"]
    start = time.time()
    ran = subprocess.run(command, env=environment, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    return float(ran.stdout.split()[-1]) - start


def slowest_imports(root: Path, environment: dict[str, str], count: int) -> list[tuple[str, float]]:
    """The modules that `import ttl_jax` spends most time in itself, in seconds."""
    command = [sys.executable, "-X", "importtime", "-c", "import ttl_jax"]
    ran = subprocess.run(command, env=environment, cwd=root, check=True, capture_output=True, text=True)
    rows = [line.removeprefix("import time:").split("|") for line in ran.stderr.splitlines()[1:]]
    found = [(name.strip(), float(own) / 1e6) for own, _, name in rows]
    return sorted(found, key=lambda row: -row[1])[:count]


def spread(values: list[float]) -> str:
    """Median, least and greatest."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f}-{max(values):.2f})"


def main(arguments: list[str]) -> None:
    """Prints the three times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--size", type=int, default=128, help="image edge in pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--beside", type=Path, help="the folder of another checkout")
    given = parser.parse_args(arguments)
    roots = [ROOT] + ([given.beside.absolute()] if given.beside else [])
    if not (roots[-1] / "benchmarks" / "cpu.py").exists():
        parser.error(f"--beside={given.beside}: no checkout of this project is there")
    words = {"model": given.model, "size": given.size, "batch": given.batch}
    first = {root: FIRST_STEP.format(folder=str(root / "benchmarks"), **words) for root in roots}
    with tempfile.TemporaryDirectory() as cache:
        environments = {root: os.environ | {"TTL_JAX_CACHE": f"{cache}/{i}"} for i, root in enumerate(roots)}
        imports: dict[Path, list[float]] = {root: [] for root in roots}
        warm: dict[Path, list[float]] = {root: [] for root in roots}
        for _ in range(given.repeats):
            for root in roots:
                imports[root].append(seconds_of("import ttl_jax", root, environments[root]))
        cold = {root: seconds_of(first[root], root, environments[root]) for root in roots}
        for _ in range(given.repeats):
            for root in roots:
                warm[root].append(seconds_of(first[root], root, environments[root]))
        print(f"{given.model}, {given.size} px, batch {given.batch}")
        for root in roots:
            print(f"{root}\nimport ttl_jax          {spread(imports[root])}")
            for name, own in slowest_imports(root, environments[root], 3):
                print(f"  {name:22}{own:.3f} s")
            print(f"cold start, first step  {cold[root]:.1f} s")
            print(f"warm start, first step  {spread(warm[root])}")


if __name__ == "__main__":
    main(sys.argv[1:])
