"""kill -9 at random moments, then the same command: is the end bitwise that of an uninterrupted run?

`make torture-resume N=30` runs it with more kills. Each run is a fork of this process, taken before JAX
has started anything, so that a restart does not cost an import. A checkpoint is written at every step:
many kills fall within a save. Prints one line a strategy and the count; exit status 1 on a difference.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ttl_jax.config import default_config, set_fields
from ttl_jax.data.dataset import ArrayReader, Dataset

STEPS = 12
STRATEGIES = ("truncated(3)+gradual_last_first", "truncated(2)+lp_ft(share=0.5)")


def datasets():
    rng = np.random.default_rng(0)

    def split(name, count):
        labels = (np.arange(count) % 2).astype(np.int32)
        images = rng.integers(0, 120, (count, 16, 16, 3)) + 100 * labels[:, None, None, None]
        ids = np.array([f"{name}-{number}" for number in range(count)])
        return Dataset(name, labels, ids, ids, ("a", "b"), "multiclass", ArrayReader(images.astype(np.uint8)))

    return {"train": split("train", 20), "val": split("val", 10), "test": split("test", 9)}


def config_of(strategy):
    config = default_config()
    set_fields(config, {
        "model.name": "resnet18", "model.weights": "none", "data.image_size": 16, "strategy": strategy,
        "data.batch_size": 8, "data.eval_batch_size": 8, "data.augment": "flip", "total_steps": STEPS,
        "eval_every_epochs": 1.2, "report": False, "log_every_steps": 1, "save_every_minutes": 0.0,
    })  # fmt: skip
    return config


def child(strategy, workdir, cache):
    """Trains in a fork; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with open(workdir.with_suffix(".log"), "ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.environ["TTL_JAX_CACHE"] = str(cache)
        from ttl_jax.system.compilation_cache import set_up_jax
        from ttl_jax.training.run import train

        set_up_jax()
        import jax

        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        result = train(config_of(strategy), workdir, datasets())
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(result.variables)]
        np.savez(workdir / "final.npz", *leaves)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def finish(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def lines(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def killed_run(strategy, workdir, cache, kills, rng):
    """Starts, kills at random moments, starts again, to the end; returns how many kills hit a living run."""
    whole = STEPS + STEPS // 3
    moments = sorted(rng.randrange(0, whole) for _ in range(kills))
    hits = 0
    for moment in moments:
        pid = child(strategy, workdir, cache)
        ended = False
        while not ended and lines(workdir) < moment:
            time.sleep(0.005)
            ended = os.waitpid(pid, os.WNOHANG)[0] != 0
        if ended:
            continue
        time.sleep(rng.random() * (0.15 if moment else 3.0))  # also before the first step
        os.kill(pid, signal.SIGKILL)
        hits += finish(pid) == -signal.SIGKILL
    status = finish(child(strategy, workdir, cache))
    if status != 0:
        print(workdir.with_suffix(".log").read_text()[-3000:], file=sys.stderr)
        sys.exit(f"the last start of {strategy} ended with status {status}")
    return hits


def same(one, other):
    """Parameters, statistics and predictions, bit for bit."""
    for name in ("final.npz", "predictions/val.npz", "predictions/test.npz"):
        with np.load(one / name) as a, np.load(other / name) as b:
            if sorted(a.files) != sorted(b.files):
                return False
            if any(a[key].tobytes() != b[key].tobytes() for key in a.files):
                return False
    return True


def main(kills, seed):
    # Imported before the forks; nothing of it starts JAX's backend.
    import grain  # noqa: F401
    import orbax.checkpoint  # noqa: F401

    import ttl_jax.training.run  # noqa: F401

    rng, total, bad = random.Random(seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for number, strategy in enumerate(STRATEGIES):
            whole, broken = place / f"whole{number}", place / f"broken{number}"
            if finish(child(strategy, whole, place)) != 0:
                sys.exit(whole.with_suffix(".log").read_text()[-3000:])
            share = kills // len(STRATEGIES) + (number < kills % len(STRATEGIES))
            hits = killed_run(strategy, broken, place, share, rng)
            equal = same(whole, broken)
            passed_over = broken.with_suffix(".log").read_text().count("is broken")
            total, bad = total + hits, bad + (not equal)
            print(
                f"{strategy}: {hits} kills, {passed_over} half-written bundles passed over, final parameters "
                f"and predictions {'bitwise equal' if equal else 'DIFFER'}", flush=True,
            )  # fmt: skip
    print(f"{total} kills, {len(STRATEGIES) - bad} of {len(STRATEGIES)} runs bitwise equal (seed {seed})")
    return 1 if bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    sys.exit(main(options.kills, options.seed))
