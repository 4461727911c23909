"""Does a search find the best unit, and does its confidence hold? `python -m ttl_jax bench search_validity`.

The product's own searches, with the defaults of search/config.py, on simulated learning curves whose
truth is known. A search draws at random: 7 to 18 units; 9, 10, 18 or 27 epochs; a profile of the final
score along the units; a seed noise of .3 to 2 points at the end (log-uniform), larger early and correlated
along a curve; and curves

parallel  all units learn alike fast
crossing  the time constant changes with depth by a factor of 5 to 25, and what learns slowly ends higher

Two settings: `tuned` (profiles with one peak or a plateau, exponential curves), on which the defaults were
chosen (seed 0), and `held out` (monotone, two-peaked and the TTL authors' published profiles, power-law
curves), which had less of a say: docs/search.md.

Regret: the best unit's true score less the chosen one's, in points (hundredths). A claim: the search says
that no unit is better by more than a point, with 95 % confidence; it is wrong where the regret is above one.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

PUBLISHED = Path(__file__).with_name("published_units.csv")
METHODS = ("bayesian", "halving", "two_stage", "exhaustive")
CURVES = ("parallel", "crossing")
PROFILES = {"tuned": ("peak", "plateau"), "held out": ("monotone", "two peaks", "published")}
SEEDS = 5


@dataclass(frozen=True)
class Task:
    """A network on a data set whose every training is known.

    Attributes:
        truth: expected score of each unit at the end, in points; the best has 0.
        scores: of each unit, seed and epoch, the best so far, in points.
        noise: standard deviation over seeds at the end, in points.
    """

    truth: Float[np.ndarray, "units"]
    scores: Float[np.ndarray, "units seeds epochs"]
    noise: float

    @property
    def units(self) -> int:
        """How many there are."""
        return len(self.truth)

    def score(self, unit: int, budget: float, seed: int) -> float:
        """What a trial of the search returns."""
        epochs = self.scores.shape[2]
        return float(self.scores[unit - 1, seed, max(1, math.floor(budget * epochs + 1e-6)) - 1]) / 100


def profile(kind: str, units: int, rng: np.random.Generator) -> Float[np.ndarray, "units"]:
    """Final scores along the units, in points."""
    x = np.linspace(0, 1, units)
    rise, fall = rng.uniform(5, 30), rng.uniform(1, 10)
    bend, turn = rng.uniform(1, 2.5, 2)

    def climb(top: float) -> np.ndarray:
        return -rise * np.clip((top - x) / top, 0, None) ** bend

    def descent(top: float) -> np.ndarray:
        return -fall * np.clip((x - top) / (1 - top), 0, None) ** turn

    if kind == "peak":
        top = rng.uniform(0.25, 0.9)
        found = climb(top) + descent(top)
    elif kind == "plateau":
        found = climb(rng.uniform(0.3, 0.8))
    elif kind == "monotone":
        speed = rng.uniform(0.5, 4)
        found = -rise * (np.exp(-speed * x) - np.exp(-speed)) / (1 - np.exp(-speed))
    elif kind == "two peaks":
        low, high = rng.uniform(0.2, 0.45), rng.uniform(0.65, 0.95)
        between = np.clip((x - low) / (high - low), 0, 1)
        dip, step = rng.uniform(1, 6), rng.uniform(-4, 4)
        found = climb(low) - dip * np.sin(np.pi * between) + step * between + descent(high)
    else:
        series = published()
        known = series[rng.integers(len(series))]
        found = np.interp(x, np.linspace(0, 1, len(known)), known)
    if kind in ("plateau", "monotone", "two peaks") and rng.random() < 0.5:
        found = found[::-1]
    return found + rng.normal(0, 0.2, units)


def published() -> list[Float[np.ndarray, "units"]]:
    """The layer-wise series that the TTL authors ran over all units, in points of AUPRC."""
    found: dict[tuple[str, ...], dict[int, float]] = {}
    with PUBLISHED.open(newline="") as file:
        for row in csv.DictReader(file):
            key = (row["run_set"], row["dataset"], row["model"])
            found.setdefault(key, {})[int(row["unit"])] = 100 * float(row["auprc"])
    layers = [scores for (_, _, model), scores in found.items() if "layer" in model and len(scores) >= 16]
    return [np.array([scores[unit] for unit in sorted(scores)]) for scores in layers]


def simulate(setting: str, curves: str, rng: np.random.Generator) -> Task:
    """Draws a task."""
    units, epochs = int(rng.integers(7, 19)), int(rng.choice((9, 10, 18, 27)))
    noise = math.exp(rng.uniform(math.log(0.3), math.log(2.0)))
    truth = profile(str(rng.choice(PROFILES[setting])), units, rng)
    depth, t = np.linspace(-1, 1, units), np.arange(1, epochs + 1) / epochs
    slow = np.zeros(units)  # log of the time constant's factor
    if curves == "crossing":
        side = 1 if rng.random() < 0.7 else -1  # mostly what is deeper learns more slowly
        slow = side * rng.uniform(0.8, 1.6) * depth
        truth = truth + side * rng.uniform(2, 10) * (depth + 1) / 2
    constant = (rng.uniform(0.1, 0.3) * np.exp(slow))[:, None]
    if setting == "tuned":
        left = (np.exp(-t / constant) - np.exp(-1 / constant)) / (1 - np.exp(-1 / constant))
    else:  # as fast at the beginning, with a longer tail
        left = 1 / (1 + t / constant) - 1 / (1 + 1 / constant)
        left = left / (1 - 1 / (1 + 1 / constant))
    mean = truth[:, None] - rng.uniform(10, 35) * left
    seen = mean[:, None] + noise * _shaken(units, t, rng)
    return Task(truth - truth.max(), np.maximum.accumulate(seen, 2), noise)


def _shaken(
    units: int, t: Float[np.ndarray, "epochs"], rng: np.random.Generator
) -> Float[np.ndarray, "units seeds epochs"]:
    """Seed noise of unit variance at the end: half of a training, half a process along its curve."""
    steps = rng.standard_normal((units, SEEDS, len(t)))
    for epoch in range(1, len(t)):
        steps[..., epoch] = 0.7 * steps[..., epoch - 1] + math.sqrt(1 - 0.7**2) * steps[..., epoch]
    own = rng.standard_normal((units, SEEDS, 1))
    return (1 + 3 * np.exp(-t / 0.15)) * (own + steps) / math.sqrt(2)


def stages(units: int) -> tuple[int, ...]:
    """Four boundaries."""
    return tuple(sorted({max(1, round(units * part / 4)) for part in (1, 2, 3, 4)}))


def searched(task: Task, method: str, fields: dict[str, Any]) -> dict[str, float]:
    """One search of a task: regret (points), cost (share of the exhaustive one), claimed, units, noise."""
    from ttl_jax.config import replace_fields
    from ttl_jax.search import follow
    from ttl_jax.search.config import SearchConfig
    from ttl_jax.search.subject import is_sure, plan_of

    config = replace_fields(SearchConfig(), {
        **{f"search.{name}": value for name, value in fields.items()},
        "search.method": method, "total_epochs": float(task.scores.shape[2]),
    })  # fmt: skip
    units = tuple(range(1, task.units + 1))
    plan = plan_of(config.search, config, stages(task.units), units)
    result = follow(plan, lambda requests: [task.score(*request) for request in requests])
    return {
        "regret": -float(task.truth[result.best - 1]),
        "cost": result.cost / task.units,
        "claimed": float(is_sure(config.search, units, result)),
        "units": task.units,
        "noise": task.noise,
    }


def summary(found: list[dict[str, float]]) -> dict[str, float]:
    """A row of the table."""
    regret = np.array([each["regret"] for each in found])
    claimed = np.array([each["claimed"] > 0 for each in found])
    return {
        "searches": len(found),
        "regret": float(regret.mean()),
        "90th percentile": float(np.quantile(regret, 0.9)),
        "regret > 1": float((regret > 1).mean()),
        "cost": float(np.mean([each["cost"] for each in found])),
        "claims": float(claimed.mean()),
        "wrong claims": float((regret[claimed] > 1).mean()) if claimed.any() else math.nan,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    head = ("method", "setting", "curves", "searches", "mean regret", "90th percentile", "regret > 1",
            "cost", "claims 95 %", "of these wrong")  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for row in rows:
        wrong = "" if math.isnan(row["wrong claims"]) else f"{row['wrong claims']:.1%}"
        lines.append((row["method"], row["setting"], row["curves"], str(row["searches"]),
                      f"{row['regret']:.2f}", f"{row['90th percentile']:.2f}", f"{row['regret > 1']:.0%}",
                      f"{row['cost']:.0%}", f"{row['claims']:.0%}", wrong))  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def study(
    methods: tuple[str, ...], count: int, seed: int, fields: dict[str, Any]
) -> dict[tuple[str, str, str], list[dict[str, float]]]:
    """Searches by method, setting and curves: every method meets the same tasks."""
    found: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    for place, (setting, curves) in enumerate(product(PROFILES, CURVES)):
        for number in range(count):
            task = simulate(setting, curves, np.random.default_rng([seed, place, number]))
            for method in methods:
                found.setdefault((method, setting, curves), []).append(searched(task, method, fields))
    return found


def main(arguments: list[str]) -> None:
    """Prints the tables; writes them as JSON with --out."""
    parser = argparse.ArgumentParser(prog="python -m ttl_jax bench search_validity", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--searches", type=int, default=400, help="of each setting and kind of curves")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seed", type=int, default=1, help="of the tasks; 0 was used to tune")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE",
                        help="a field of config.search, as eta=3.0")  # fmt: skip
    parser.add_argument("--out", default="", help="JSON file")
    given = parser.parse_args(arguments)
    fields = {name: json.loads(value) for name, _, value in (text.partition("=") for text in given.set)}
    found = study(tuple(given.methods.split(",")), given.searches, given.seed, fields)

    def rows(parts: dict[str, Callable[[dict[str, float]], bool]]) -> list[dict[str, Any]]:
        return [
            {"method": method, "setting": setting, "curves": f"{curves}{part}"} | summary(chosen)
            for method in given.methods.split(",")
            for (its, setting, curves), results in found.items()
            if its == method
            for part, holds in parts.items()
            if (chosen := [each for each in results if holds(each)])
        ]

    whole = rows({"": lambda each: True})
    print(table(whole), flush=True)
    parts = rows({
        ", 7 to 9 units": lambda each: each["units"] < 10,
        ", 10 to 13 units": lambda each: 10 <= each["units"] < 14,
        ", 14 to 18 units": lambda each: each["units"] >= 14,
        ", noise below .8": lambda each: each["noise"] < 0.8,
        ", noise from .8": lambda each: each["noise"] >= 0.8,
    })  # fmt: skip
    print(f"\n{table(parts)}")
    if given.out:
        Path(given.out).write_text(json.dumps({"rows": whole, "parts": parts}, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
