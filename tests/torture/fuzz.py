"""Hostile and damaged files, read in a process with limits: does each end as read or in one sentence?

`make torture-fuzz` makes and reads all of them, `--seed` others; a short form is in the suite
(test_fuzz.py). A process reads file after file: a fork for each would cost more than the reading. It says
how each ended, how long it took and how much memory; one that is silent for 10 s of a core is killed: a hang.

A file is at fault where its reading ran code of the file, hung, died, took more than 2 GB, or raised anything
but one sentence. Prints a line for each fault, the counts of each kind, and the seed; exit status 1 on a
fault.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # `python tests/torture/fuzz.py`: its folder is no package then
    sys.path.insert(0, str(Path(__file__).parent))

SECONDS, BYTES = 10.0, 2 << 30
SHARED = 6  # times as long that a file may take where other processes have the cores
SENTENCE = 600  # characters
CANARY = "TTL_JAX_FUZZ_CANARY"  # the file that a hostile pickle would make

ENDS = "read", "refused"  # how a file may end
Case = tuple[str, str, bytes]  # kind, name of the file, its bytes


class Outcome(NamedTuple):
    """How the reading of a file ended: one of ENDS, or a fault: "ran", "hang", "died", "memory", "raised"."""

    how: str
    said: str
    seconds: float
    bytes: int

    @property
    def fault(self):
        return self.how not in ENDS


# --- the reader process


def peak() -> int:
    """Most memory that this process has had since `forget_peak`, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


def forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def reader() -> None:
    """Read the files that are named on standard input; answer each with a line of JSON."""
    from reading import READERS

    from ttl_jax.data.images.decode import UnreadableImageError
    from ttl_jax.errors import UserError

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    held = 4 * BYTES  # so that this machine survives; a file that takes more than BYTES is at fault below it
    resource.setrlimit(resource.RLIMIT_AS, (held, held))
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        forget_peak()
        before, began = peak(), time.monotonic()
        try:
            READERS[path.name.split("-")[0]](path)
            how, said = "read", ""
        except (UserError, UnreadableImageError) as error:
            how, said = "refused", str(error)
            if "MemoryError" in said or "for the memory" in said or "nable to allocate" in said:
                how = "memory"
            elif len(said) > SENTENCE + len(str(path)) or "\n" in said or not said.isprintable():
                how = "raised"
        except BaseException as error:
            how, said = "raised", f"{type(error).__name__}: {error}"[:300]
        took = peak() - before
        if Path(os.environ[CANARY]).exists():
            how = "ran"
        elif took > BYTES:
            how = "memory"
        answers.write(json.dumps([how, said, time.monotonic() - began, took]) + "\n")
        answers.flush()


# --- the process that watches it


def busy(pid: int) -> float:
    """Seconds of a core that a process has had."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


class Watched:
    """A reader process, started again after a file that it did not survive."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.process, self.log = folder, None, (folder / "log").open("ab")

    def start(self) -> None:
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", CANARY: str(self.folder / "canary")}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), "--reader"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, env=environment,
        )  # fmt: skip
        self.ask(Path("/weights-none"), 120)  # imports are not the file's time

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def ask(self, path: Path, seconds: float = SECONDS) -> Outcome:
        if self.process is None:
            self.start()
        process = self.process
        process.stdin.write(f"{path}\n".encode())
        process.stdin.flush()
        began = busy(process.pid)
        for _ in range(SHARED):
            ready, _, _ = select.select([process.stdout], [], [], seconds)
            if ready or busy(process.pid) - began >= seconds:
                break
        line = process.stdout.readline() if ready else b""
        if line:
            return Outcome(*json.loads(line))
        if ready:
            outcome = Outcome("died", f"status {process.wait()}", 0.0, 0)
        else:
            outcome = Outcome("hang", "", seconds, 0)
        self.end()
        return outcome


def run(cases: Iterable[Case]) -> Iterator[tuple[str, str, Outcome]]:
    """Yield (kind, file, outcome) of every case; the process that reads ends with the last one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[CANARY] = str(folder / "canary")  # the makers of hostile pickles ask for it
        watched = Watched(folder)
        try:
            for kind, file, content in cases:
                (folder / file).write_bytes(content)
                yield kind, file, watched.ask(folder / file)
                (folder / file).unlink()
                (folder / "canary").unlink(missing_ok=True)
        finally:
            watched.end()


def report(kind: str, seed: int, outcomes: Iterable[tuple[str, str, Outcome]]) -> int:
    """Print faults as they come, then counts; return the number of faults."""
    counts: Counter[tuple[str, str]] = Counter()
    ends: Counter[str] = Counter()
    slowest = largest = ("", Outcome("read", "", 0.0, 0))
    for group, file, outcome in outcomes:
        counts[group, outcome.how] += 1
        ends[outcome.how] += 1
        slowest = max(slowest, (file, outcome), key=lambda each: each[1].seconds)
        largest = max(largest, (file, outcome), key=lambda each: each[1].bytes)
        if outcome.fault:
            print(f"{file}: {outcome.how} {outcome.said} ({outcome.seconds:.1f} s)", flush=True)
    for (group, how), count in sorted(counts.items()):
        print(f"{group}: {count} {how}")
    faults = sum(count for how, count in ends.items() if how not in ENDS)
    print(
        f"{kind}, seed {seed}: {ends.total()} files, {dict(ends)}, {faults} at fault; the slowest took "
        f"{slowest[1].seconds:.2f} s ({slowest[0]}), the largest {largest[1].bytes >> 20} MiB ({largest[0]})"
    )
    return faults


# --- mutations


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Damage a file in one of the ways that disks, networks and people have."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 512))
        way = rng.randrange(8)
        if way == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif way == 1:
            data[place] = rng.randrange(256)
        elif way == 2:  # a number that is a size or an address becomes an extreme one
            width = rng.choice((2, 4, 8))
            value = rng.choice(
                (0, 1, -1, 1 << (8 * width - 1), (1 << (8 * width - 1)) - 1, rng.randrange(1 << 31))
            )
            order = rng.choice(("little", "big"))
            data[place : place + width] = (value % (1 << (8 * width))).to_bytes(width, order)
        elif way == 3:
            del data[place:]
        elif way == 4:
            del data[place : place + rng.randrange(1, 64)]
        elif way == 5:
            data[place:place] = rng.randbytes(rng.randrange(1, 64))
        elif way == 6:
            other = rng.randrange(len(data))
            data[place : place + 16] = data[other : other + 16]
        else:
            data[place : place + 64] = bytes(len(data[place : place + 64]))
        if not data:
            return bytes(content[:1])
    return bytes(data)


def mutated(kind: str, files: dict[str, bytes], count: int, seed: int) -> Iterator[Case]:
    """Yield so many mutations of the files, in turn."""
    names = sorted(files)
    for number in range(count):
        name = names[number % len(names)]
        yield (
            f"mutated {name}",
            f"{kind}-{number}-{name}",
            mutate(files[name], random.Random(f"{seed} {number} {name}")),
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reader", action="store_true", help="be the process that reads")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutations", type=int, default=2000, help="of each kind of file")
    parser.add_argument("--kinds", default="", help="some of them, with commas between; empty is all")
    chosen = parser.parse_args()
    if chosen.reader:
        reader()
        return 0
    import kinds

    wanted = chosen.kinds.split(",") if chosen.kinds else list(kinds.KINDS)
    faults = [
        report(kind, chosen.seed, run(kinds.KINDS[kind](chosen.seed, chosen.mutations))) for kind in wanted
    ]
    return sum(faults) > 0


if __name__ == "__main__":
    sys.exit(main())
