"""Whether prediction sets cover what they are asked for, on test splits of real data.

    python -m ttl_jax bench conformal [--data=../shared/data] [--sets=pneumoniamnist,breastmnist]
        [--out=runs/conformal] [--deals=1000]

A linear probe of EfficientNet-Lite0 a data set (a minute on two cores; one that is there is read). Sets are
fitted on its validation split at the run's temperature and asked on its test split. "dealt anew": validation
and test are shuffled together and dealt 1,000 times: then they are exchangeable, as the official splits need
not be, and the share of deals whose coverage lies in its beta-binomial 95 % band is to be 95 %.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax.config import default_config, set_fields
from ttl_jax.data.published import presets
from ttl_jax.evaluation import Predictions, conformal, fit_abstention, fit_sets, fit_temperature, predictions
from ttl_jax.evaluation.intervals import clustered_proportion

DEFAULTS = {"data": "../shared/data", "sets": "pneumoniamnist,breastmnist", "out": "runs/conformal",
            "deals": "1000"}  # fmt: skip
ASKED = (  # score, in every class, coverage
    ("threshold", False, 0.9),
    ("threshold", False, 0.95),
    ("adaptive", False, 0.9),
    ("threshold", True, 0.9),
)


def trained(name: str, data: str, folder: Path) -> tuple[Predictions, Predictions]:
    """Validation and test predictions of the run, trained where it is not there, at its temperature."""
    if not (folder / "result.json").exists():
        from ttl_jax.training.run import train

        config = default_config()
        set_fields(config, presets.fields(name, data))
        set_fields(config, {
            "model.name": "efficientnet_lite0", "strategy": "linear_probe", "optimizer.lr": 2e-3,
            "total_epochs": 8.0, "report": False, "loggers": (),
        })  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            train(config, folder)
    held = [predictions.load(folder / "predictions" / f"{split}.npz") for split in ("val", "test")]
    temperature = fit_temperature(held[0].labels, held[0].logits, held[0].task)
    first, second = (replace(each, logits=each.logits.astype(np.float64) / temperature) for each in held)
    return first, second


def rows(held: Predictions, places: np.ndarray) -> Predictions:
    """Some of the predictions."""
    return replace(held, ids=held.ids[places], groups=held.groups[places], labels=held.labels[places],
                   logits=held.logits[places], columns={})  # fmt: skip


def covered(
    validation: Predictions, test: Predictions, options: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each test image's set holds its class, and the sizes of the sets."""
    sets = fit_sets(validation, **options).sets(test.probabilities, test.ids)
    return conformal.covers(sets, test.labels), sets.sum(axis=1)


def main(arguments: list[str]) -> None:
    """Train, and print a table of coverage."""
    given = DEFAULTS | dict(word.lstrip("-").split("=", 1) for word in arguments)
    head = ("data", "score", "asked", "class", "cases in validation", "in test", "covered", "95 % band",
            "classes a set", "dealt anew: mean", "in the band")  # fmt: skip
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for name in given["sets"].split(","):
        validation, test = trained(name, given["data"], Path(given["out"]) / name)
        for score, by_class, asked in ASKED:
            options = {"coverage": asked, "score": score, "by_class": by_class}
            for line in table(validation, test, options, int(given["deals"])):
                print(f"| {name} | {score} | {asked} | {line}", flush=True)
        for accuracy in (0.9, 0.95, 0.97):
            rule = fit_abstention(validation, accuracy)
            kept = ~rule.abstains(test.probabilities, test.task)
            right = (test.probabilities.argmax(axis=1) == test.labels)[kept]
            found = clustered_proportion(right, test.groups[kept])
            print(name, rule, f"test: kept {kept.mean():.3f}", found, file=sys.stderr)


def table(validation: Predictions, test: Predictions, options: dict[str, Any], deals: int) -> Iterator[str]:
    """A line for all images, or for each class."""
    arrays = {
        key: np.concatenate([getattr(validation, key), getattr(test, key)])
        for key in ("ids", "groups", "labels", "logits")
    }
    both, random, dealt = replace(validation, **arrays, columns={}), np.random.default_rng(0), []
    for _ in range(deals):
        order = random.permutation(len(both))
        first, second = rows(both, order[: len(validation)]), rows(both, order[len(validation) :])
        dealt.append((covered(first, second, options)[0], first.labels, second.labels))
    hits, sizes = covered(validation, test, options)
    for place, name in [*enumerate(test.class_names)] if options["by_class"] else [(None, "all")]:

        def own(labels: np.ndarray, place: int | None = place) -> np.ndarray:
            return np.ones(len(labels), bool) if place is None else labels == place

        def band(before: np.ndarray, later: np.ndarray) -> tuple[float, float]:
            count = int(own(before).sum()), int(own(later).sum())  # noqa: B023
            return conformal.coverage_band(count[0], options["coverage"], count[1])

        shares = np.array([got[own(later)].mean() for got, _, later in dealt])
        low, high = np.array([band(before, later) for _, before, later in dealt]).T
        inside, there = (low <= shares) & (shares <= high), own(test.labels)
        now = band(validation.labels, test.labels)
        yield (
            f"{name} | {own(validation.labels).sum()} | {there.sum()} | {hits[there].mean():.3f} | "
            f"{now[0]:.3f} to {now[1]:.3f} | {sizes[there].mean():.2f} | {shares.mean():.3f} | "
            f"{inside.mean():.3f} |"
        )
