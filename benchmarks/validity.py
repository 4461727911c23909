"""Whether claims hold: strategies simulated with a known truth, through the package's own comparison.

Logits are class signal + patient effect (the same for all strategies) + what a strategy alone sees in a
patient ("apart", its standard deviation; that of noise is 1) + noise; training seeds move the signal so that
AUROC varies by "seed SD" points. Identical strategies give the type I error, strategies 5 points apart
coverage and power, nine strategies on five sets against one reference the family-wise error after Holm's
correction. Beside it what was claimed by before: patients and seeds resampled together, and twice the median
of the seeds' McNemar p-values.

    python -m ttl_jax bench validity                      # one to two minutes of one core
    python -m ttl_jax bench validity --full --out=runs/validity.json --table=runs/validity.md
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

from ttl_jax.compare.statistics import inferences, pool
from ttl_jax.evaluation import (
    difference_of,
    fold_difference,
    holm,
    influence,
    mcnemar,
    paired_components,
    score,
)
from ttl_jax.evaluation.bootstrap import weighing
from ttl_jax.evaluation.components import student

GAIN = 0.05  # between strategies that differ, in AUROC
BASE = 0.80  # AUROC of the reference
RANGE = {"type I": (0.02, 0.065), "coverage": (0.935, 0.98), "family-wise": (0.0, 0.06)}
Row = dict[str, Any]
Drawn = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Study:
    """Two strategies on one test set; sds: of AUROC between seeds, in points, of the two."""

    patients: int = 200
    each: int = 1
    seeds: int = 5
    sds: tuple[float, float] = (2.0, 2.0)
    apart: float = 0.5
    positive: float = 0.5
    metric: str = "auroc"

    @property
    def width(self) -> float:
        """Standard deviation of a score within a class: patient, strategy and patient, noise."""
        return float(np.sqrt(2.0 + self.apart**2))


def signal(study: Study, auroc: float) -> float:
    """The distance of the classes that has this AUROC."""
    return float(ndtri(auroc)) * study.width * 2**0.5


def spread(study: Study, strength: float, points: float) -> float:
    """Standard deviation of the signal that moves AUROC by so many points."""
    slope = stats.norm.pdf(strength / (study.width * 2**0.5)) / (study.width * 2**0.5)
    return points / 100 / float(slope)


def draw(random: np.random.Generator, study: Study, aurocs: tuple[float, ...], sds: tuple[float, ...]) -> Any:
    """Labels, logits of each strategy (strategies, seeds, images, 2), patients."""
    labels = (random.random(study.patients) < study.positive).astype(int)
    labels[:4] = 0, 0, 1, 1
    groups = np.repeat(np.arange(study.patients), study.each)
    labels, shared = labels[groups], random.normal(size=study.patients)[groups]
    made = np.empty((len(aurocs), study.seeds, len(groups)))
    for place, (auroc, points) in enumerate(zip(aurocs, sds, strict=True)):
        strength = signal(study, auroc)
        strengths = strength + spread(study, strength, points) * random.normal(size=(study.seeds, 1))
        own = study.apart * random.normal(size=study.patients)[groups]
        made[place] = strengths * (labels - 0.5) + shared + own + random.normal(size=made.shape[1:])
    return labels, np.stack([np.zeros_like(made), made], axis=-1), groups


def truth(study: Study, aurocs: tuple[float, float]) -> float:
    """The difference of the means over seeds in an endless population of patients."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(21)
    weights = weights / weights.sum()
    means = []
    for auroc, points in zip(aurocs, study.sds, strict=True):
        strength = signal(study, auroc)
        strengths = strength + spread(study, strength, points) * nodes
        if study.metric == "auroc":
            values = ndtr(strengths / (study.width * 2**0.5))
        elif study.metric == "accuracy":
            values = ndtr(strengths / 2 / study.width)
        else:
            random = np.random.default_rng(0)
            labels = (random.random(100_000) < study.positive).astype(int)
            noise = study.width * random.normal(size=len(labels))
            scores = (each * (labels - 0.5) + noise for each in strengths)
            values = [score(labels, np.stack([0 * one, one], 1), ("0", "1"), "multiclass")[study.metric]
                      for one in scores]  # fmt: skip
        means.append(float(weights @ np.asarray(values)))
    return means[0] - means[1]


# The methods: (p, low, high) of one comparison


def now(drawn: Drawn, metric: str) -> Any:
    """The package's own; None where it says that nothing can be told."""
    found = difference_of(paired_components(*drawn, metric))
    return None if found.caveat else (found.p, found.low, found.high)


def issue(drawn: Drawn, metric: str) -> Any:
    """All of the patients' variance + s^2 / S, Satterthwaite's degrees of freedom."""
    labels, a, b, groups = drawn
    found = influence(labels, np.concatenate([a, b]), groups, metric)
    seeds = len(a)
    differences = found.values[:seeds] - found.values[seeds:]
    moved = found.groups[:seeds] - found.groups[seeds:]
    patients, of_seeds = float((moved.mean(axis=0) ** 2).sum()), float(differences.var(ddof=1)) / seeds
    return satterthwaite(float(differences.mean()), ((patients, moved.shape[1] - 1), (of_seeds, seeds - 1)))


def added(drawn: Drawn, metric: str) -> Any:
    """The package's components, Satterthwaite's degrees of freedom."""
    found = paired_components(*drawn, metric)
    return satterthwaite(found.estimate, [(part.variance, part.freedom) for part in found.parts])


def satterthwaite(estimate: float, parts: Any) -> Any:
    """One quantile for the sum of the parts (variance, degrees of freedom)."""
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / own for part, own in parts)
    half = student(0.05, freedom) * variance**0.5
    return 2 * stats.t.sf(abs(estimate) / variance**0.5, freedom), estimate - half, estimate + half


def bootstrap(drawn: Drawn, metric: str, resamples: int = 200) -> Any:
    """What `paired_difference` was: patients and runs resampled together, percentiles, a normal p-value."""
    labels, a, b, groups = drawn
    names, place = np.unique(groups, return_inverse=True)
    random = np.random.default_rng(len(labels))
    times = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)[:, place]

    def differences(weights: np.ndarray) -> np.ndarray:
        first, second = (
            np.stack([weighing(labels, run, metric, "multiclass")(weights) for run in runs], axis=1)
            for runs in (a, b)
        )
        return first - second

    estimate = float(differences(np.ones((1, len(labels)))).mean())
    runs = random.integers(len(a), size=(resamples, len(a)))
    values = np.take_along_axis(differences(times.astype(np.float64)), runs, axis=1).mean(axis=1)
    low, high = np.nanquantile(values, (0.025, 0.975))
    return 2 * stats.norm.sf(abs(estimate) / np.nanstd(values, ddof=1)), low, high


def twice_the_median(drawn: Drawn, metric: str) -> Any:
    """What decisions were claimed by: of the seeds' two-sided McNemar p-values twice the median."""
    labels, a, b, _ = drawn
    rights = (runs.argmax(axis=2) == labels for runs in (a, b))
    ps = sorted(mcnemar(one, two).p for one, two in zip(*rights, strict=True))
    return min(1.0, 2 * ps[len(ps) // 2]), np.nan, np.nan


METHODS = {"now": now, "added": added, "issue": issue, "bootstrap": bootstrap, "median": twice_the_median}
TITLES = {"now": "now", "added": "Satterthwaite", "issue": "V + s2/S, Satterthwaite",
          "bootstrap": "before: bootstrap", "median": "before: twice the median"}  # fmt: skip


# The tables


def compare_two(study: Study, repeats: int, methods: tuple[str, ...] = ("now",), seed: int = 0) -> list[Row]:
    """Type I error of identical strategies; coverage and power of strategies GAIN apart."""
    random, tallies = np.random.default_rng([seed, zlib.crc32(repr(study).encode())]), []
    for aurocs in ((BASE, BASE), (BASE + GAIN, BASE)):
        # Where one's seeds vary more its mean is lower: then what is rejected is the true difference.
        true = truth(study, aurocs) if aurocs[0] != aurocs[1] or study.sds[0] != study.sds[1] else 0.0
        tally = {name: np.zeros(3) for name in methods}  # told, p below .05, interval that holds the truth
        for _ in range(repeats):
            labels, (a, b), groups = draw(random, study, aurocs, study.sds)
            for name in methods:
                found = METHODS[name]((labels, a, b, groups), study.metric)
                if found is not None:
                    p, low, high = found
                    held = low <= true <= high
                    tally[name] += 1, p < 0.05 if true == 0.0 or aurocs[0] != aurocs[1] else not held, held
        tallies.append(tally)
    about = {"metric": study.metric, "patients": study.patients, "images each": study.each,
             "positive": study.positive, "seeds": study.seeds, "apart": study.apart,
             "seed SD": "/".join(f"{sd:g}" for sd in dict.fromkeys(study.sds))}  # fmt: skip
    rows = []
    for name in methods:
        null, gain = (tally[name] for tally in tallies)
        told = null[0] + gain[0]
        covered = (null[2] + gain[2]) / told if told and name != "median" else None
        rows.append(about | {
            "method": TITLES[name], "told": told / (2 * repeats),
            "type I": null[1] / null[0] if null[0] else None, "coverage": covered,
            "power": gain[1] / gain[0] if gain[0] else None, "repeats": repeats,
        })  # fmt: skip
    return rows


KINDS = {"equal": "2 points", "sets": "0.3 to 7 points by set", "one": "1 point, one strategy on one set 7"}


def family(seeds: int, kind: str, apart: float, repeats: int, patients: int = 150) -> list[Row]:
    """Nine strategies like the reference on five sets: the chance that any is "found" after Holm."""
    random = np.random.default_rng([seeds, len(kind)])
    names = ("now", "moderated", "Satterthwaite", "pooled")
    hits, singles, counted = (dict.fromkeys(names, 0.0) for _ in range(3))
    for _ in range(repeats):
        points = np.full((5, 10), 2.0)
        if kind == "sets":
            points = np.repeat([[0.3], [1.0], [2.0], [4.0], [7.0]], 10, axis=1)
        if kind == "one":
            points = np.full((5, 10), 1.0)
            points[random.integers(5), random.integers(1, 10)] = 7.0
        study, parts = Study(patients, seeds=seeds, apart=apart), []
        for of_set in points:
            labels, logits, groups = draw(random, study, (BASE,) * 10, tuple(of_set))
            parts += [paired_components(labels, each, logits[0], groups) for each in logits[1:]]
        ps = {"Satterthwaite": [satterthwaite(each.estimate, [(part.variance, part.freedom) for part in
                                each.parts])[0] for each in parts]}  # fmt: skip
        told = {"Satterthwaite": holm(ps["Satterthwaite"])}
        for name, moderate in (("now", False), ("moderated", True)):
            made = inferences(parts, moderate)
            ps[name] = [each["p"] for each in made if each["p_holm"] is not None]
            told[name] = [each["p_holm"] for each in made if each["p_holm"] is not None]
            if name == "now":
                places = [{"model": "m", "strategy": place % 9} for place in range(45)]
                pooled = pool([place | each for place, each in zip(places, made, strict=True)])
                ps["pooled"], told["pooled"] = ([each[key] for each in pooled] for key in ("p", "p_holm"))
        for name in names:
            hits[name] += bool(len(told[name])) and min(told[name]) < 0.05
            singles[name] += sum(p < 0.05 for p in ps[name])
            counted[name] += len(ps[name])
    return [
        {"method": name, "comparisons": 9 if name == "pooled" else 45, "seeds": seeds,
         "seed SD": KINDS[kind], "apart": apart, "type I": singles[name] / max(counted[name], 1),
         "family-wise": hits[name] / repeats, "repeats": repeats}
        for name in names
    ]  # fmt: skip


def folds(count: int, repeats: int, examples: int = 200) -> Row:
    """Two learners that are equally good (nearest class mean on two halves of the features) over folds."""
    random, hits = np.random.default_rng(count), 0
    for _ in range(repeats):
        labels = random.integers(2, size=examples)
        features = random.normal(size=(examples, 2, 4)) + 0.3 * labels[:, None, None]
        place, differences = random.permutation(examples) % count, []
        for fold in range(count):
            test = place == fold
            means = [features[~test & (labels == kind)].mean(axis=0) for kind in (0, 1)]
            axis = means[1] - means[0]
            scores = ((features[test] - (means[0] + means[1]) / 2) * axis).sum(axis=2)
            right = (scores > 0) == (labels[test] == 1)[:, None]
            differences.append(right[:, 0].mean() - right[:, 1].mean())
        p = fold_difference(differences, 1 / (count - 1), groups=examples, seeds=1).p
        hits += p is not None and p < 0.05
    return {
        "method": "folds, Nadeau and Bengio",
        "folds": count,
        "type I": hits / repeats,
        "repeats": repeats,
    }


def studies(full: bool) -> list[tuple[Study, tuple[str, ...]]]:
    """The cells: the first few beside the methods of before."""
    base, every = Study(), ("now", "added", "issue", "bootstrap")
    made = [(Study(seeds=seeds, sds=(sd, sd), apart=apart), every)
            for seeds, sd, apart in ((3, 0, 0.0), (3, 2, 0.5), (3, 7, 0.0), (5, 2, 0.5))]  # fmt: skip
    made += [(Study(metric="accuracy", seeds=seeds, sds=(sd, sd)), ("now", "median"))
             for seeds, sd in ((3, 2), (5, 7))]  # fmt: skip
    if not full:
        made += [
            (Study(100, seeds=3, sds=(0, 0)), ("now",)),
            (replace(base, each=3, seeds=10), ("now",)),
            (Study(sds=(1, 7), seeds=3), ("now",)),
            (Study(metric="auprc", positive=0.2), ("now",)),
        ]
        return made
    for patients, seeds in itertools.product((100, 500, 2000), (3, 5, 10)):
        moves = ((0, 0.0), (2, 0.0), (2, 0.7), (7, 0.0))
        made += [(Study(patients, 1, seeds, (sd, sd), apart), ("now",)) for sd, apart in moves]
        if patients < 2000:
            made += [
                (Study(patients, seeds=seeds, metric=metric), ("now",)) for metric in ("auprc", "accuracy")
            ]
    for patients, each, positive in ((100, 4, 0.5), (200, 3, 0.2), (200, 1, 0.05), (500, 2, 0.1)):
        for seeds, sds in ((3, (2, 2)), (5, (1, 7)), (10, (2, 2))):
            made.append((Study(patients, each, seeds, sds, 0.5, positive), ("now",)))
    return made


def markdown(rows: list[Row]) -> str:
    """A pipe table; figures outside their range are bold."""

    def cell(name: str, value: Any) -> str:
        if value is None:
            return "–"
        if not isinstance(value, float):
            return str(value)
        low, high = RANGE[name] if name in RANGE else (-np.inf, np.inf)
        return f"{value:.3f}" if low <= value <= high else f"**{value:.3f}**"

    lines = [list(rows[0]), ["---"] * len(rows[0]), *([cell(*pair) for pair in row.items()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(arguments: list[str]) -> None:
    """Prints the tables, and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default="differences,families,folds,intervals", help="which tables")
    parser.add_argument("--full", action="store_true", help="many cells, about ten minutes of one core")
    parser.add_argument("--repeats", type=int, default=0, help="studies a cell; 0: 300, or with --full 800")
    parser.add_argument("--out", default="", help="a JSON file")
    parser.add_argument("--table", default="", help="a Markdown file")
    given = parser.parse_args(arguments)
    repeats, start = given.repeats or (800 if given.full else 300), time.process_time()
    found: dict[str, list[Row]] = {}
    for part in given.parts.split(","):
        for rows in made(part, given.full, repeats):
            found[part] = [*(found[part] if part in found else ()), *rows]
            if given.out:  # after every cell: a long run that is stopped has said something
                Path(given.out).write_text(json.dumps(found, indent=1), encoding="utf-8")
        if part in found and found[part]:
            print(f"\n{part}\n\n{markdown(found[part])}", flush=True)
    if given.table:
        tables = (f"## {name}\n\n{markdown(rows)}" for name, rows in found.items() if rows)
        Path(given.table).write_text("\n".join(tables), encoding="utf-8")
    print(f"{time.process_time() - start:.0f} s of one core")


def made(part: str, full: bool, repeats: int) -> Iterator[list[Row]]:
    """The rows of a part, cell by cell."""
    if part == "differences":
        for study, methods in studies(full):
            yield compare_two(study, repeats, methods)
    elif part == "families":
        cells = itertools.product((3, 5, 10), KINDS) if full else ((3, "equal"),)
        for seeds, kind in cells:
            yield family(seeds, kind, 0.5, max(repeats // 4, 40))
    elif part == "folds":
        yield [folds(count, 10 * repeats) for count in (5, 10)]
    elif part == "intervals":
        yield interval_rows(full, repeats)


def interval_rows(full: bool, samples: int) -> list[Row]:
    """Coverage of the intervals of one model, as benchmarks/validity_intervals.py simulates it."""
    sys.path.insert(0, str(Path(__file__).parent))
    from validity_intervals import interval_coverage

    return [
        {key: value for key, value in row.items() if not isinstance(value, dict)}
        for row in interval_coverage(quick=not full, seed=0, samples=samples, old_samples=0)
    ]


if __name__ == "__main__":
    main(sys.argv[1:])
