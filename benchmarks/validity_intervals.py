"""Do 95 % intervals of one model's figures hold the true figure in 95 % of samples?

    python -m ttl_jax bench validity_intervals [--quick] [--samples=600] [--seed=0] [--out=FILE]

draws samples of patients from a population whose figures are known and asks the product's own
`score_interval` each time; beside it the percentile bootstrap that it replaces, on the first few samples
of each cell. Scores are normal within a class (separated so that AUROC is as said), images of a patient
correlated; the label is the patient's or each image's own. No cell has fewer than ten patients of a
class. Its tables are kept in docs/validity.md, "Intervals of one model".
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

LEAST = 10  # patients of the rarest class
REPLACED = ("auroc", "accuracy")  # what had a bootstrap interval before
METRICS = ("auroc", "auprc", "accuracy", "sensitivity", "balanced_accuracy")
OTHERS = ("f1_macro", "mcc", "kappa", "brier", "loss")  # on a third of the samples, in the summary alone
SAMPLES, OLD_SAMPLES, OLD_RESAMPLES = 600, 60, 200
POPULATION = 200_000  # examples from which the true figures are taken


@dataclass(frozen=True)
class Cell:
    """A population, and how it is sampled.

    auroc: of class 1 against 0 with two classes; with four, of each pair, so that the mean of each
    against the rest is above it. images: of each patient. correlation: of the scores of a patient's
    images. by_image: the label is each image's own, not the patient's. exact: as many positive patients
    as expected, instead of a random number. spread: standard deviation of the positives' scores.
    """

    patients: int
    prevalence: float
    auroc: float
    images: int = 1
    correlation: float = 0.0
    by_image: bool = False
    classes: int = 2
    exact: bool = False
    spread: float = 1.0

    @property
    def chances(self) -> np.ndarray:
        """Of each class; with four, the prevalence is shared by three of them."""
        rest = self.classes - 1
        return np.array([1 - self.prevalence] + [self.prevalence / rest] * rest)


def cells(quick: bool) -> Iterator[Cell]:
    """The table's rows."""
    if quick:
        yield Cell(30, 0.5, 0.983)
        yield Cell(60, 0.3, 0.9, 3, 0.6)
        return
    for auroc in (0.7, 0.9, 0.983, 0.995):
        yield Cell(100, 0.1, auroc, exact=True)
        for patients, prevalence in ((30, 0.5), (60, 0.3), (150, 0.1)):
            yield Cell(patients, prevalence, auroc)
            yield Cell(patients, prevalence, auroc, images=5, correlation=0.6)
        yield Cell(60, 0.3, auroc, images=3, correlation=0.3, by_image=True)
        yield Cell(500, 0.1, auroc)
        yield Cell(60, 0.7, auroc, classes=4)
        yield Cell(60, 0.7, auroc, images=5, correlation=0.6, classes=4)
    for spread in (0.6, 1.6):
        yield Cell(60, 0.3, 0.9, spread=spread)


def draw(cell: Cell, patients: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, logits and patients of one sample."""
    from scipy import stats

    least = min(LEAST, patients // 50 if patients > 10_000 else LEAST)
    while True:
        if cell.exact:
            positive = round(cell.prevalence * patients)
            of_patient = random.permutation(np.arange(patients) < positive).astype(int)
        else:
            of_patient = random.choice(cell.classes, size=patients, p=cell.chances)
        if np.bincount(of_patient, minlength=cell.classes).min() >= least:
            break
    patient = np.repeat(np.arange(patients), cell.images)
    labels = of_patient[patient]
    if cell.by_image:
        labels = random.choice(cell.classes, size=len(patient), p=cell.chances)
    shared, own = np.sqrt(cell.correlation), np.sqrt(1 - cell.correlation)
    apart = np.sqrt(2) * stats.norm.ppf(cell.auroc)
    if cell.classes == 2:
        noise = shared * random.normal(size=patients)[patient] + own * random.normal(size=len(patient))
        score = apart * (labels - 0.5) + noise * np.where(labels == 1, cell.spread, 1.0)
        return labels, np.stack([np.zeros_like(score), 2 * score], axis=1), patient
    noise = shared * random.normal(size=(patients, 4))[patient] + own * random.normal(size=(len(patient), 4))
    return labels, 2 * (apart * np.eye(4)[labels] + noise), patient


def interval(labels: Any, logits: Any, patient: Any, metric: str) -> tuple[float, float]:
    """The product's."""
    from ttl_jax.evaluation import clustered_proportion, score_interval

    if metric == "sensitivity":
        among = labels == 1
        found: Any = clustered_proportion(logits.argmax(axis=1)[among] == 1, patient[among])
    else:
        found = score_interval(labels, logits, metric, patient)
    assert found.low is not None and found.high is not None
    return found.low, found.high


def percentile(labels: Any, logits: Any, patient: Any, metric: str) -> tuple[float, float] | None:
    """What it replaces; None where half of the resamples are undefined."""
    from ttl_jax.evaluation import bootstrap_ci

    found = bootstrap_ci(
        labels, logits, metric, patient, method="percentile", resamples=OLD_RESAMPLES
    )  # fmt: skip
    return None if found.low is None or found.high is None else (found.low, found.high)


def estimate(labels: np.ndarray, logits: np.ndarray, metric: str) -> float:
    """A figure of a sample."""
    from ttl_jax.evaluation.influence import linearise

    if metric == "sensitivity":
        said = logits.argmax(axis=1)[labels == 1]
        return float((said == 1).mean()) if len(said) else np.nan
    found = linearise(labels, logits, metric)
    return np.nan if found is None else found.estimate


def interval_coverage(quick: bool, seed: int, samples: int, old_samples: int) -> list[dict[str, Any]]:
    """One row a cell and metric: coverage, mean width, shares of samples whose interval lies below and above.

    Args:
        quick: two cells in place of all.
        seed: of the samples.
        samples: of each cell.
        old_samples: of these, how many get the percentile bootstrap too.
    """
    found = []
    for number, cell in enumerate(cells(quick)):
        print(f"cell {number}", file=sys.stderr, flush=True)
        found += coverage(cell, np.random.default_rng([seed, number]), samples, old_samples)
    return found


def coverage(cell: Cell, random: np.random.Generator, samples: int, old_samples: int) -> list[dict[str, Any]]:
    """The rows of one cell."""
    whole = replace(cell, images=1, correlation=0.0, by_image=False, exact=False)
    labels, logits, _ = draw(whole, POPULATION, random)
    every = (*METRICS, *OTHERS)
    truths = {metric: estimate(labels, logits, metric) for metric in every}
    ends: dict[str, list[tuple[float, float]]] = {metric: [] for metric in every}
    old: dict[str, list[tuple[float, float]]] = {metric: [] for metric in every}
    for place in range(samples):
        sample = draw(cell, cell.patients, random)
        for metric in METRICS if place % 3 else every:
            ends[metric].append(interval(*sample, metric))
            if metric in REPLACED and place < old_samples:
                before = percentile(*sample, metric)
                old[metric] += [] if before is None else [before]
    return [
        vars(cell)
        | {"metric": metric, "truth": truths[metric], "samples": len(ends[metric])}
        | _summary(ends[metric], truths[metric])
        | {"old": _summary(old[metric], truths[metric]) if old[metric] else None}
        for metric in every
    ]


def _summary(ends: Sequence[tuple[float, float]], truth: float) -> dict[str, float]:
    low, high = np.array(ends).T
    return {
        "coverage": float(((low <= truth) & (truth <= high)).mean()),
        "width": float((high - low).mean()),
        "narrowest": float((high - low).min()),
        "below": float((high < truth).mean()),
        "above": float((truth < low).mean()),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as markdown."""
    lines = [
        "| patients | prevalence | images a patient | label of | classes | AUROC | figure | truth | coverage "
        "| below / above | width | percentile: coverage | width |",
        "|---:|---:|---:|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        if row["metric"] in OTHERS:
            continue
        old = row["old"]
        images = str(row["images"]) + (f" (r {row['correlation']:g})" if row["images"] > 1 else "")
        shape = f", sd {row['spread']:g}" if row["spread"] != 1 else ""
        lines.append(
            f"| {row['patients']} | {row['prevalence']:g}{', exactly' * row['exact']} | {images} "
            f"| {'image' if row['by_image'] else 'patient'} | {row['classes']} | {row['auroc']:g}{shape} "
            f"| {row['metric']} | {row['truth']:.3f} | {100 * row['coverage']:.1f} | "
            f"{100 * row['below']:.1f} / {100 * row['above']:.1f} | {row['width']:.3f} | "
            + (f"{100 * old['coverage']:.0f} | {old['width']:.3f} |" if old else "– | – |")
        )
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """The least, the tenth percentile and the mean of the coverage of each figure, new and old."""
    lines = [
        "| figure | cells | least | 10th percentile | mean | cells below 93 % "
        "| percentile bootstrap: least | mean | cells below 93 % |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]

    def coverages(some: Sequence[dict[str, Any]]) -> np.ndarray:
        return 100 * np.array([each["coverage"] for each in some])

    for metric in dict.fromkeys(row["metric"] for row in rows):
        mine = [row for row in rows if row["metric"] == metric]
        new, old = coverages(mine), coverages([row["old"] for row in mine if row["old"]])
        lines.append(
            f"| {metric} | {len(new)} | {new.min():.1f} | {np.quantile(new, 0.1):.1f} | {new.mean():.1f} | "
            f"{(new < 93).sum()} | "
            + (
                f"{old.min():.0f} | {old.mean():.1f} | {(old < 93).sum()} of {len(old)} |"
                if len(old)
                else "– | – | – |"
            )
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables, and writes them to a file where one is named."""
    parser = argparse.ArgumentParser("bench validity_intervals", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of each cell")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    began = time.process_time()
    samples, old_samples = (150, 0) if given.quick else (given.samples, OLD_SAMPLES)
    rows = interval_coverage(given.quick, given.seed, samples, old_samples)
    text = f"{summary(rows)}\n{table(rows)}"
    print(text, f"{time.process_time() - began:.0f} s of one core")
    if given.out is not None:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
