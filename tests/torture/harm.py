"""What befalls a command while it runs: is its end bitwise that of one that was left in peace?

`make torture-resume` does it to `train` in every kind of phase, `search`, `compare`, `prepare` and `predict`;
a short form of training is in the suite. The harms:

    kill    -9 at a moment drawn from the time that an undisturbed run takes, alone or with all processes
            that it started, then the same command; what is over by then is compared and begun anew
    damage  a kill, and a file of the checkpoints cut, flipped, zeroed, removed or swapped for another
    twice   the same command a second time meanwhile: the second is to end with status 2, or waits
    clock   the clock is put back a day or forward ten years, and back again (run under libfaketime:
            LD_PRELOAD=.../libfaketimeMT.so.1 FAKETIME_TIMESTAMP_FILE=FILE FAKETIME_NO_CACHE=1
            FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1)

Each run is a fork of this process, taken before JAX has started anything, so that a restart does not cost an
import. One that takes LATE times as long as it should is at fault. Prints a line for each job and the count;
exit status 1 on a difference.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ttl_jax.config import default_config, set_fields
from ttl_jax.data.dataset import ArrayReader, Dataset
from ttl_jax.errors import UserError

COMMANDS = ("train", "search", "compare", "prepare", "predict")
HARMS = ("kill", "damage", "twice", "clock")
STEPS = 12
LATE = 10
TRAININGS: tuple[tuple[str, dict[str, Any]], ...] = (  # every kind of phase and of what lasts beyond one
    ("truncated(3)+gradual_last_first", {}),
    ("truncated(2)+lp_ft(share=0.5)", {}),
    ("truncated(2)+lp_ft(solver='ridge')", {"data.augment": "none"}),
    ("truncated(2)+linear_probe(solver='lbfgs')", {"data.augment": "none"}),
    ("truncated(2)+lp_ft(share=0.5)+auto_rgn(batches=1)", {}),
    ("truncated(2)+auto_snr(batches=2)", {"cache_features": False}),
    ("truncated(2)+full+soup(kind='greedy', last=3)", {}),
    ("truncated(2)+lp_ft+wise_ft(alpha=0.5)", {"select_phase": "last"}),
    ("truncated(2)+ema(decay=0.8)+mixout+l2_sp", {"model.bn_estimate": "precise(2)"}),
    ("truncated(2)+full+bss+stochnorm", {"schedule.name": "plateau", "schedule.patience": 0}),
)
SMALL = (
    "--config.data.image_size=16", "--config.data.batch_size=8", "--config.data.eval_batch_size=8",
    "--config.model.name=resnet18", "--config.model.weights=none", "--config.total_steps=8",
    "--config.save_every_minutes=0.0", "--config.save_share=1.0", "--config.report=False",
)  # fmt: skip
TIMES = ("seconds", "_ms", "per_s", "made", "eta", "when")  # ends of names of what no two runs share


class Job(NamedTuple):
    """A command to be harmed.

    Attributes:
        name: what is said of it.
        run: does or goes on with it in a folder.
        result: what has to be the same: name -> its bytes or their digest.
    """

    name: str
    run: Callable[[Path], None]
    result: Callable[[Path], dict[str, Any]]


# --- the jobs


def datasets() -> dict[str, Dataset]:
    rng = np.random.default_rng(0)

    def split(name: str, count: int) -> Dataset:
        labels = (np.arange(count) % 2).astype(np.int32)
        images = rng.integers(0, 120, (count, 16, 16, 3)) + 100 * labels[:, None, None, None]
        ids = np.array([f"{name}-{number}" for number in range(count)])
        return Dataset(name, labels, ids, ids, ("a", "b"), "multiclass", ArrayReader(images.astype(np.uint8)))

    return {"train": split("train", 20), "val": split("val", 10), "test": split("test", 9)}


def write_images(folder: Path, count: int) -> Path:
    rng = np.random.default_rng(1)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 156, (16, 16, 3)) + 100 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def training(strategy: str, fields: dict[str, Any]) -> Job:
    config = default_config()
    set_fields(config, {
        "model.name": "resnet18", "model.weights": "none", "data.image_size": 16, "strategy": strategy,
        "data.batch_size": 8, "data.eval_batch_size": 8, "data.augment": "flip", "total_steps": STEPS,
        "eval_every_epochs": 1.2, "report": False, "log_every_steps": 1, "save_every_minutes": 0.0,
        "save_share": 1.0, **fields,
    })  # fmt: skip

    def run(place: Path) -> None:
        import jax

        from ttl_jax.training.run import train

        result = train(config, place, datasets())
        np.savez(place / "final.npz", *(np.asarray(leaf) for leaf in jax.tree.leaves(result.variables)))

    def result(place: Path) -> dict[str, Any]:
        files = ("final.npz", "predictions/val.npz", "predictions/test.npz")
        return {name: arrays(place / name) for name in files} | {"result": table(place / "result.json")}

    return Job(f"train {strategy}", run, result)


def arrays(path: Path) -> dict[str, bytes]:
    with np.load(path) as file:
        return {name: file[name].tobytes() for name in file.files}


def table(path: Path) -> Any:
    """A record without what no two runs share."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(each) for name, each in value.items() if not name.endswith(TIMES)}
        return [kept(each) for each in value] if isinstance(value, list) else value

    return kept(json.loads(path.read_text()))


def predictions(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): arrays(path) for path in sorted(folder.glob("**/predictions/*.npz"))
    }


def typed(*words: str) -> None:
    from ttl_jax.cli import main

    if status := main(["ttl-jax", *words]):
        raise SystemExit(status)


def searching(images: Path) -> Job:
    def run(place: Path) -> None:
        typed(
            "search", "--config=search", f"--workdir={place}", f"--config.data.path={images}", *SMALL,
            "--config.search.units=1-4", "--config.search.seeds=2", "--config.search.finalists=2",
        )  # fmt: skip

    return Job("search", run, lambda place: predictions(place) | {"search": table(place / "search.json")})


def comparing(images: Path) -> Job:
    def run(place: Path) -> None:
        typed(
            "compare", "--config=compare", f"--workdir={place}", f"--config.data.path={images}", *SMALL,
            "--config.compare.datasets=()", "--config.compare.models=('resnet18',)",
            "--config.compare.strategies=('truncated(2)', 'truncated(2)+linear_probe')",
            "--config.compare.seeds=(0, 1)", "--config.compare.lrs=(1e-3, 1e-2)", "--config.compare.folds=0",
            "--config.compare.latency=False", "--config.compare.retries=5",
        )  # fmt: skip

    def result(place: Path) -> dict[str, Any]:
        return predictions(place) | {"compare": table(place / "compare.json")}

    return Job("compare", run, result)


def preparing(images: Path) -> Job:
    def run(place: Path) -> None:
        typed("prepare", str(images), f"--out={place}", "--workers=1")

    return Job("prepare", run, every_file)


def predicting(images: Path, trained: Path) -> Job:
    def run(place: Path) -> None:
        from ttl_jax.deploy import prediction_table

        prediction_table.PART_ROWS = 16  # so that a part costs as little as an image
        place.mkdir(exist_ok=True)
        typed(
            "predict", str(trained), str(images), f"--out={place}/table.csv", "--ood", "--set=0.9",
            "--batch_size=8",
        )  # fmt: skip

    return Job("predict", run, every_file)


def every_file(place: Path) -> dict[str, Any]:
    """What is there at the end: nothing of a killed run may be left."""
    whole = {path.relative_to(place): path for path in sorted(place.rglob("*"))}
    return {
        str(name): "a folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in whole.items()
        if ".resume" not in name.parts or "partial" in name.name
    }


def jobs(command: str, times: int, place: Path) -> Iterator[tuple[Job, int]]:
    """Yield each job of a command and how often it is harmed."""
    if command == "train":
        chosen = TRAININGS[: max(1, min(len(TRAININGS), times // 3))]
        for number, each in enumerate(chosen):
            yield training(*each), times // len(chosen) + (number < times % len(chosen))
    elif command == "search":
        yield searching(write_images(place / "images", 60)), times
    elif command == "compare":
        yield comparing(write_images(place / "images", 60)), times
    elif command == "prepare":
        yield preparing(write_images(place / "images", 2000)), times
    else:
        trained, images = place / "trained", write_images(place / "images", 60)
        words = ("train", "--config=train", f"--workdir={trained}", f"--config.data.path={images}")
        finish(fork(lambda _: typed(*words, "--config.strategy=truncated(2)", *SMALL), trained, place))
        yield predicting(write_images(place / "more", 600), trained), times


# --- the harms


def fork(run: Callable[[Path], None], workdir: Path, cache: Path) -> int:
    """Run in a fork, in a process group of its own; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setpgid(0, 0)
        with open(workdir.with_suffix(".log"), "ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.environ["TTL_JAX_CACHE"] = str(cache)
        from ttl_jax.system.compilation_cache import set_up_jax

        set_up_jax()
        import jax

        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        run(workdir)
        status = 0
    except UserError as error:  # as the command line ends
        print(error)
        status = 2
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def finish(pid: int) -> int:
    """Wait for a fork's end; return its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ended_before(pid: int, seconds: float) -> bool:
    """Wait so long at most; return whether the fork has ended."""
    until = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= until:
            return False
        with suppress(OSError):  # libfaketime's sleep, where the clock is set meanwhile
            time.sleep(0.002)
    return True


@dataclass
class Torture:
    """A job that is harmed so often, and how its ends compare with that of an undisturbed one.

    Attributes:
        job: what is harmed.
        harm: one of HARMS.
        times: how often.
        rng: says when, and how.
        place: folder of all that it does.
        ends, differing: ends that were compared, and those of them that differ.
        names: of what differs.
        passed_over: checkpoints that were said to be broken.
        refused: second processes that ended with status 2.
    """

    job: Job
    harm: str
    times: int
    rng: random.Random
    place: Path
    ends: int = 0
    differing: int = 0
    names: set[str] = field(default_factory=set)
    passed_over: int = 0
    refused: int = 0

    def run(self) -> None:
        """Do it."""
        whole = self.place / "whole"
        for _ in range(2):  # the first has programs to compile, the second says how long it takes
            shutil.rmtree(whole, ignore_errors=True)
            began = time.monotonic()
            if finish(self.fork(whole)) != 0:
                sys.exit(f"{self.job.name}: {said(whole)}")
            self.seconds = time.monotonic() - began
        self.wanted, self.broken = self.job.result(whole), self.place / "broken"
        {"kill": self.kill, "damage": self.kill, "twice": self.twice, "clock": self.clock}[self.harm]()

    def fork(self, workdir: Path) -> int:
        return fork(self.job.run, workdir, self.place)

    def moment(self) -> float:
        return self.rng.random() * self.seconds

    def end(self, pid: int) -> None:
        """Wait for the end of a run, compare it, and clear its folder."""
        if not ended_before(pid, LATE * self.seconds + 60):
            os.killpg(pid, signal.SIGKILL)
        if (status := finish(pid)) != 0:
            sys.exit(f"{self.job.name} ended with status {status}: {said(self.broken)}")
        self.compare()

    def compare(self) -> None:
        """Compare an end, and clear its folder."""
        found = self.job.result(self.broken)
        names = {
            each for each in self.wanted.keys() | found.keys() if self.wanted.get(each) != found.get(each)
        }
        self.ends, self.differing, self.names = (
            self.ends + 1,
            self.differing + bool(names),
            self.names | names,
        )
        shutil.rmtree(self.broken)
        log = self.broken.with_suffix(".log")
        self.passed_over += log.read_text().count("is broken")
        log.write_text("")

    def kill(self) -> None:
        hits = 0
        while hits < self.times:
            pid = self.fork(self.broken)
            if ended_before(pid, self.moment()):
                self.end(pid)
                continue
            try:
                (os.killpg if self.rng.random() < 0.5 else os.kill)(pid, signal.SIGKILL)
            except ProcessLookupError:  # it has not come to making its group
                os.kill(pid, signal.SIGKILL)
            hit = finish(pid) == -signal.SIGKILL
            if self.harm == "damage":
                hit = hit and damage(self.broken, self.rng)
            hits += hit
        self.end(self.fork(self.broken))

    def twice(self) -> None:
        for _ in range(self.times):
            pids = [self.fork(self.broken)]
            time.sleep(self.moment() * self.rng.choice((0.0, 0.1, 1.0)))
            pids.append(self.fork(self.broken))
            late = [not ended_before(pid, 2 * LATE * self.seconds + 60) for pid in pids]
            statuses = sorted(finish(pid) for pid in pids)
            if any(late) or statuses not in ([0, 0], [0, 2]):
                sys.exit(f"{self.job.name} twice ended with {statuses}: {said(self.broken)}")
            self.refused += statuses == [0, 2]
            self.compare()

    def clock(self) -> None:
        file = Path(os.environ["FAKETIME_TIMESTAMP_FILE"])
        for _ in range(self.times):
            pid = self.fork(self.broken)
            for offset in (self.rng.choice(("-1d", "+3650d", "-3600", "+3600")), "+0"):
                if not ended_before(pid, self.moment() / 2):
                    file.write_text(offset)
            self.end(pid)
            file.write_text("+0")


def damage(run: Path, rng: random.Random) -> bool:
    """Damage a file of the checkpoints, where there is one; say in the log what was done."""
    files = [path for path in sorted(run.glob("**/checkpoints/**/*")) if path.is_file()]
    if not files:
        return False
    path = rng.choice(files)
    content, way = (
        bytearray(path.read_bytes()),
        rng.choice(("cut", "flipped", "zeroed", "removed", "swapped")),
    )
    other = rng.choice(files).read_bytes()
    if way == "removed":
        path.unlink()
        return True
    place = rng.randrange(max(1, len(content)))
    if way == "cut":
        content = content[:place]
    elif way == "flipped" and content:
        content[place] ^= 1 << rng.randrange(8)
    else:
        content = bytearray(len(content)) if way == "zeroed" else bytearray(other)
    path.write_bytes(content)
    return True


def said(workdir: Path) -> str:
    return workdir.with_suffix(".log").read_text()[-3000:]


def main(command: str, harm: str, times: int, seed: int) -> int:
    # Imported before the forks; nothing of it starts JAX's backend.
    import grain  # noqa: F401
    import orbax.checkpoint  # noqa: F401

    import ttl_jax.cli
    import ttl_jax.compare.comparison
    import ttl_jax.deploy.prediction_table
    import ttl_jax.search.search
    import ttl_jax.training.run  # noqa: F401

    rng, ends, bad, refused = random.Random(seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        for number, (job, share) in enumerate(jobs(command, times, Path(name))):
            place = Path(name) / str(number)
            place.mkdir()
            done = Torture(job, harm, share, rng, place)
            done.run()
            ends, bad, refused = ends + done.ends, bad + done.differing, refused + done.refused
            print(
                f"{job.name}: {harm} {share} times, {done.passed_over} broken checkpoints passed over, "
                f"{done.ends - done.differing} of {done.ends} ends bitwise equal {sorted(done.names) or ''}",
                flush=True,
            )
    more = f", {refused} second processes refused" if harm == "twice" else ""
    print(f"{command}: {harm} {times} times{more}, {ends - bad} of {ends} ends bitwise equal (seed {seed})")
    return 1 if bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--command", default="train", choices=COMMANDS)
    parser.add_argument("--harm", default="kill", choices=HARMS)
    parser.add_argument("--times", type=int, default=6)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    sys.exit(main(options.command, options.harm, options.times, options.seed))
