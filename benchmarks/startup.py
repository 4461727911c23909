"""From the start of Python to the end of the first training step: `python -m ttl_jax bench startup`.

A cold start compiles into an empty cache of its own, warm starts find it filled (JAX's persistent
compilation cache, on by default in our command line). Also the time of `import ttl_jax`, with what takes
it (python -X importtime).

    python -m ttl_jax bench startup --model=resnet50 --size=128 --repeats=5
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


def seconds_of(code: str, environment: dict[str, str]) -> float:
    """Seconds from the start of a Python process until it has run this code, in wall time."""
    command = [sys.executable, "-c", f"{code}\nimport time; print(time.time())"]
    start = time.time()
    ran = subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return float(ran.stdout.split()[-1]) - start


def slowest_imports(environment: dict[str, str], count: int) -> list[tuple[str, float]]:
    """The modules that `import ttl_jax` spends most time in itself, in seconds."""
    command = [sys.executable, "-X", "importtime", "-c", "import ttl_jax"]
    ran = subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
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
    given = parser.parse_args(arguments)
    folder = str(Path(__file__).parent)
    code = FIRST_STEP.format(folder=folder, model=given.model, size=given.size, batch=given.batch)
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TTL_JAX_CACHE": cache}
        imports = [seconds_of("import ttl_jax", environment) for _ in range(given.repeats)]
        print(f"import ttl_jax          {spread(imports)}", flush=True)
        for name, own in slowest_imports(environment, 3):
            print(f"  {name:22}{own:.3f} s")
        what = f"{given.model}, {given.size} px, batch {given.batch}"
        print(f"cold start, first step  {seconds_of(code, environment):.1f} s ({what})", flush=True)
        warm = [seconds_of(code, environment) for _ in range(given.repeats)]
        print(f"warm start, first step  {spread(warm)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
