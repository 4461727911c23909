"""Probes on cached features: `python -m ttl_jax bench probes [--seeds=4] [--rates=8] [--images=546]`.

loop     one probe by the ordinary loop (`train`): its training alone
one      one probe by the program that trains many
many     all of them, seeds x learning rates, by that program
one_new, many_new  the same as a new data set meets them: networks and features are made within the clock
lbfgs    one probe solved by L-BFGS for eight penalties; ridge: in closed form

Else the features are there before the clock starts; every program is compiled; validations count, files
of weights and checkpoints do not (`files`, once: what all folders of `many` take to write). In turn, in
one process; medians with the 25th and 75th percentile.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from cpu import spread  # noqa: E402
from strategies import datasets, in_turn  # noqa: E402


def config_of(model: str, epochs: int, seed: int, rate: float, strategy: str = "linear_probe") -> Any:
    """A probe's config, of ImageNet weights where the model has some here."""
    from ttl_jax.config import default_config, set_fields

    config = default_config()
    set_fields(
        config,
        {
            "model.name": model, "strategy": strategy, "seed": seed, "optimizer.lr": rate,
            "total_epochs": float(epochs), "data.augment": "none", "report": False, "cache_disk_gb": 4.0,
            "evaluate_test": False, "log_every_steps": 100, "save_every_minutes": 1000.0,
        },
    )  # fmt: skip
    return config


class Bench:
    """The ways to train, each a function that returns its seconds."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        from ttl_jax.training.programs import Programs

        self.given, self.folder = given, folder
        self.sets = datasets(given.images, given.size, given.held_out)
        self.number = 0
        self.store = self.new_store()
        self.programs = {name: Programs() for name in ("steps", "lbfgs", "ridge")}

    def new_store(self) -> Any:
        """A store without features."""
        from ttl_jax.training.frozen.store import FeatureStore

        self.number += 1
        return FeatureStore(self.folder / f"features{self.number}", 4e9)

    def loop(self, strategy: str = "linear_probe", programs: str = "steps") -> float:
        from ttl_jax.training.programs import Session
        from ttl_jax.training.run import train

        self.number += 1
        config = config_of(self.given.model, self.given.epochs, self.number, 1e-3, strategy)
        with contextlib.redirect_stdout(io.StringIO()):
            session = Session(programs=self.programs[programs], features=self.store)
            found = train(config, self.folder / f"run{self.number}", self.sets, session=session)
        return found.metrics["seconds"]

    def together(self, seeds: int, rates: int, write: bool = False, new: bool = False) -> float:
        from ttl_jax.training.heads import many, many_runs
        from ttl_jax.training.programs import Session

        members = [
            (
                config_of(self.given.model, self.given.epochs, seed, float(rate)),
                self.folder / f"{seed}-{rate}",
            )
            for seed in range(seeds)
            for rate in np.geomspace(1e-4, 1e-2, rates)
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            if write:
                began = time.perf_counter()
                session = Session(programs=self.programs["steps"], features=self.store)
                many_runs.train_together(members, self.sets, session)
                return time.perf_counter() - began
            self.programs["steps"].claim(members[0][0])
            store = self.new_store() if new else self.store
            session = Session(programs=self.programs["steps"], features=store)
            began = time.perf_counter()
            probes = many_runs.prepare(members, seeds, self.sets, session)
            assert probes is not None
            ready = time.perf_counter()
            many.fit(probes)
        return time.perf_counter() - (began if new else ready)


def main(arguments: list[str]) -> None:
    from ttl_jax.system.compilation_cache import set_up_jax

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=546)
    parser.add_argument("--held_out", type=int, default=78)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rates", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", default="", help="also write the figures to this JSON file")
    given = parser.parse_args(arguments)
    set_up_jax()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(given, Path(name))
        ways: dict[str, Callable[[], float]] = {
            "loop": bench.loop,
            "one": lambda: bench.together(1, 1),
            "many": lambda: bench.together(given.seeds, given.rates),
            "one_new": lambda: bench.together(1, 1, new=True),
            "many_new": lambda: bench.together(given.seeds, given.rates, new=True),
            "lbfgs": lambda: bench.loop("linear_probe(solver='lbfgs')", "lbfgs"),
            "ridge": lambda: bench.loop("linear_probe(solver='ridge')", "ridge"),
        }
        seconds = in_turn(ways, given.repeats, before=1)  # the first of each compiles
        files = bench.together(given.seeds, given.rates, write=True)
    found: dict[str, Any] = {}
    for way, values in seconds.items():
        found[way] = statistics.median(values)
        print(f"{way:8} {spread(values, 1e3)} ms", flush=True)
    count = given.seeds * given.rates
    found |= {"files": files, "probes": count, "many / one": found["many"] / found["one"],
              "many / one, new": found["many_new"] / found["one_new"],
              "many / loop": found["many"] / found["loop"]}  # fmt: skip
    print(f"files  {1e3 * files:.0f} ms, training of all {count} included")
    print(f"{count} probes take {found['many / one']:.2f} times the time of one by the same program "
          f"({found['many / one, new']:.2f} with their features), "
          f"{found['many / loop']:.2f} times that of one by the ordinary loop")  # fmt: skip
    if given.out:
        Path(given.out).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
