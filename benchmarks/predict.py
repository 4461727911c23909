"""Speed and memory of `predict` over many files, and a kill in the middle.

`predict` is started, killed (SIGKILL) once it has said that half of the images are done, and started again.
Its resident set and the images done are read every quarter of a second; the table that it makes in two
pieces is compared with that of the same command without a kill where --whole asks for it.

    python -m ttl_jax bench predict RUN --images=10000 --folder=/tmp/many

--folder is made where it is not there: PNG files of 64 x 48 pixels, two thousand distinct ones under many
names.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

DISTINCT = 2000
SAID = re.compile(r"predicted (\d+) of \d+ images, about (\d+) s left|going on after (\d+) of")


def main(arguments: list[str]) -> None:
    """Measures, and prints JSON."""
    parser = argparse.ArgumentParser(prog="bench predict", description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", required=True, help="of the images")
    parser.add_argument("--whole", action="store_true", help="also without a kill, and compare")
    given, further = parser.parse_known_args(arguments)  # the rest goes to `predict`
    folder = Path(given.folder)
    if not folder.exists():
        make(folder, given.images)
    out = folder.with_name(f"{folder.name}.csv")
    for old in (out, Path(f"{out}.json")):
        old.unlink(missing_ok=True)
    words = [sys.executable, "-m", "ttl_jax", "predict", given.run, str(folder), *further]
    first = watched([*words, f"--out={out}"], kill=given.images // 2)
    second = watched([*words, f"--out={out}"])
    made = {"first": first, "second": second, "rows": rows(out), "images": given.images}
    if given.whole:
        other = folder.with_name(f"{folder.name}-whole.csv")
        made["whole"] = watched([*words, f"--out={other}"])
        made["equal"] = other.read_bytes() == out.read_bytes()
    print(json.dumps(made, indent=1))


def watched(words: list[str], kill: int = 0) -> dict[str, object]:
    """Runs a command; what it held in memory and how far it was, by time."""
    started, memory, seen, begun = time.monotonic(), dict[int, float](), [(0.0, 0, 0)], 0
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    done, ended = 0, threading.Event()

    def sample() -> None:
        while not ended.wait(0.25):
            try:
                held = int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[0])
            except (OSError, IndexError):
                return
            step = 10_000 * (1 + done // 10_000)
            memory[step] = max(memory.get(step, 0), round(held / 1024, 1))

    threading.Thread(target=sample, daemon=True).start()
    assert process.stdout is not None
    for line in process.stdout:
        if (said := SAID.search(line)) is None:
            continue
        begun = int(said[3] or begun)
        done = begun if said[3] else begun + int(said[1])
        seen.append((time.monotonic() - started, done, int(said[2] or 0)))
        if kill and done >= kill:
            process.kill()
            break
    process.wait()
    ended.set()
    (early, low, _), (late, high, _) = seen[1], seen[-1]
    return {
        "seconds": round(time.monotonic() - started, 1),
        "begun_at": begun,
        "images_per_second": round((high - low) / (late - early), 1) if late > early else None,
        "mb_most_until": memory,
        "said": [(round(at, 1), done, left) for at, done, left in seen[1::6]],
        "killed": bool(kill),
    }


def rows(path: Path) -> dict[str, int]:
    """Rows of a table, and different ids among them."""
    with path.open(encoding="utf-8") as file:
        ids = [line.partition(",")[0] for line in file][1:]
    return {"rows": len(ids), "ids": len(set(ids))}


def make(folder: Path, count: int) -> None:
    """Files of noise in which neighbours are alike; those beyond the distinct ones are hard links."""
    from PIL import Image

    draw = np.random.default_rng(0)
    kept: list[Path] = []
    for number in range(count):
        path = folder / f"{number // 1000:04d}" / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < DISTINCT:
            small = draw.integers(0, 256, (6, 8, 3)).astype(np.uint8)
            Image.fromarray(small).resize((64, 48), Image.Resampling.BICUBIC).save(path)
            kept.append(path)
        else:
            os.link(kept[number % DISTINCT], path)


if __name__ == "__main__":
    main(sys.argv[1:])
