"""What a comparison with so many test patients and seeds can show, from the variances of a study's own.

    python -m ttl_jax bench how_sure runs/comparison_study --out=docs/results/how_sure.csv
    python -m ttl_jax bench how_sure --check

Of every strategy less the reference, on every data set of a finished comparison, the variance has three
parts: patients that both see alike over seeds, seeds, and what a seed sees in a patient. The first and the
last shrink with the patients, the last two with the seeds. So the least true gain that is found in four of
five studies follows for test sets and seeds that the study did not have.

--check: the parts are taken from simulated studies of 200 patients (`bench validity`), and the power that
they foretell for 100, 500 and 2,000 patients stands beside the power that was simulated there.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

PATIENTS, SEEDS, POWER = (60, 300, 3000), (3, 5, 10), 0.8
MOST = 0.5  # gain that is looked for: from .5 of AUROC to 1
Row = dict[str, Any]


@dataclass(frozen=True)
class Variances:
    """Of one seed's difference between two strategies, in one test set.

    Attributes:
        groups: test patients.
        shared: of the patients, what all seeds have in common.
        own: of the patients, what a seed alone has.
        seeds: between seeds, in an endless test set.
        freedom: degrees of freedom of `shared`.
    """

    groups: int
    shared: float
    own: float
    seeds: float
    freedom: float

    def at(self, groups: int, seeds: int) -> Any:
        """The components that a study with so many patients and seeds would have."""
        from ttl_jax.evaluation.components import Component, Components

        scale = self.groups / groups
        patients = Component(self.shared * scale, max(self.freedom / scale, 1.0))
        return Components(0.0, patients, self.seeds + self.own * scale, seeds - 1, seeds, groups)


def variances(labels: Any, ours: Any, theirs: Any, groups: Any, metric: str = "auroc") -> Variances:
    """The parts, from the logits of every seed of two strategies; see `evaluation.paired_components`."""
    from ttl_jax.evaluation import influence, paired_components

    known = paired_components(labels, ours, theirs, groups, metric)
    each = influence(labels, np.concatenate([ours, theirs]), groups, metric)
    moved = each.groups[: len(ours)] - each.groups[len(ours) :]
    own = max(float((moved**2).sum(axis=1).mean()) - known.patients.variance, 0.0)
    seeds = max(known.seed_variance - own, 0.0)
    return Variances(known.groups, known.patients.variance, own, seeds, known.patients.freedom)


def least_gain(known: Variances, groups: int, seeds: int, alpha: float) -> float | None:
    """The least true difference that is found with the chance POWER; None above MOST or if none can be."""
    from ttl_jax.evaluation import power_at

    study = known.at(groups, seeds)
    low, high = 0.0, MOST
    if power_at(study, seeds, high, alpha) < POWER:
        return None
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if power_at(study, seeds, middle, alpha) >= POWER else (middle, high)
    return high


def of_study(workdir: Path) -> Iterator[Row]:
    """A row for each data set and strategy: its parts, standard deviations in points of AUROC."""
    from ttl_jax.evaluation import predictions

    held = json.loads((workdir / "compare.json").read_text(encoding="utf-8"))
    reference, settings = held["statistics"]["reference"], held["settings"]

    def logits(setting: Row) -> dict[int, Any]:
        return {
            cell["seed"]: predictions.load(workdir / cell["folder"] / "predictions" / "test.npz")
            for cell in setting["cells"]
        }

    for base in (each for each in settings if each["strategy"] == reference):
        theirs = logits(base)
        for each in settings:
            if each["dataset"] != base["dataset"] or each["model"] != base["model"] or each is base:
                continue
            ours = logits(each)
            both = sorted(set(ours) & set(theirs))
            first = theirs[both[0]]
            known = variances(
                first.labels,
                [ours[seed].logits for seed in both],
                [theirs[seed].logits for seed in both],
                first.groups,
            )
            yield {"dataset": each["dataset"], "strategy": each["strategy"]} | asdict(known)


def table(rows: list[Row]) -> str:
    """The least gain in points, median (quartiles) over the comparisons, for test patients and seeds.

    Comparisons of which nothing can be told count as ones that need an endless gain, which is "–".
    """
    lines = [
        "| test patients | seeds | one comparison | of nine, after Holm | cannot be told |",
        "|---:|---:|---|---|---:|",
    ]
    for groups in PATIENTS:
        for seeds in SEEDS:
            cells = [f"{groups:,}", str(seeds)]
            for alpha in (0.05, 0.05 / 9):
                gains = [least_gain(parts(row), groups, seeds, alpha) for row in rows]
                points = np.sort([np.inf if gain is None else 100 * gain for gain in gains])
                low, middle, high = (
                    f"{value:.1f}" if np.isfinite(value) else "–"
                    for value in np.quantile(points, (0.25, 0.5, 0.75), method="nearest")
                )
                cells.append(f"{middle} ({low} to {high})")
                if alpha == 0.05:
                    untold = f"{np.isinf(points).sum()} of {len(rows)}"
            lines.append("| " + " | ".join([*cells, untold]) + " |")
    return "\n".join(lines) + "\n"


def by_set(rows: list[Row]) -> str:
    """Standard deviations of the parts in points, medians over strategies, and the test patients needed."""
    lines = [
        "| data set | test patients | seeds: SD, points | patients, in common: SD at 300 "
        "| a seed's own: SD at 300 | test patients for +2 points, 5 seeds | 20 seeds |",
        "|---|---:|---:|---:|---:|---|---|",
    ]
    for name in dict.fromkeys(row["dataset"] for row in rows):
        mine = [parts(row) for row in rows if row["dataset"] == name]
        shown = (
            median(100 * each.seeds**0.5 for each in mine),
            median(100 * (each.shared * each.groups / 300) ** 0.5 for each in mine),
            median(100 * (each.own * each.groups / 300) ** 0.5 for each in mine),
        )
        cells = [f"{value:.1f}" for value in shown]
        for seeds in (5, 20):
            wanted = sorted(patients_for(each, 0.02, seeds) or np.inf for each in mine)
            middle = wanted[len(wanted) // 2]
            never = f" ({sum(not np.isfinite(each) for each in wanted)} of {len(wanted)}: no number)"
            cells.append(f"{middle:,}{never}" if np.isfinite(middle) else f"no number{never}")
        lines.append(f"| {name} | {mine[0].groups:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def patients_for(known: Variances, gain: float, seeds: int) -> int | None:
    """The test patients with which so many seeds find a gain; None where 100,000 do not."""
    from ttl_jax.evaluation import power_at

    sizes = np.unique(np.geomspace(10, 100_000, 161).astype(int)).tolist()
    return next((groups for groups in sizes if power_at(known.at(groups, seeds), seeds, gain) >= POWER), None)


def parts(row: Row) -> Variances:
    """A row's, read from a file or not."""
    return Variances(
        int(row["groups"]), *(float(row[name]) for name in ("shared", "own", "seeds", "freedom"))
    )


def check(draws: int, studies: int) -> str:
    """Power that 200 patients foretell for other sizes, beside simulation."""
    sys.path.insert(0, str(Path(__file__).parent))
    import validity

    from ttl_jax.evaluation import power_at

    lines = [
        "| test patients | seeds | seed SD, points | foretold by 200 patients | simulated |",
        "|---:|---:|---:|---:|---:|",
    ]
    for seeds, points in ((3, 2.0), (5, 2.0), (10, 2.0), (5, 7.0)):
        small = validity.Study(seeds=seeds, sds=(points, points), apart=0.7)
        random, seen = np.random.default_rng([seeds, int(points)]), []
        for _ in range(draws):
            labels, (ours, theirs), groups = validity.draw(
                random, small, (validity.BASE + validity.GAIN, validity.BASE), small.sds
            )
            seen.append(variances(labels, ours, theirs, groups))
        known = Variances(200, *(float(np.mean([getattr(each, name) for each in seen]))
                                 for name in ("shared", "own", "seeds", "freedom")))  # fmt: skip
        for patients in (100, 500, 2000):
            study = validity.Study(patients, seeds=seeds, sds=small.sds, apart=small.apart)
            (row,) = validity.compare_two(study, studies)
            gain = validity.truth(study, (validity.BASE + validity.GAIN, validity.BASE))
            foretold = power_at(known.at(patients, seeds), seeds, gain)
            lines.append(f"| {patients:,} | {seeds} | {points:g} | {foretold:.2f} | {row['power']:.2f} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Prints the tables, and writes the parts to a file where one is named."""
    parser = argparse.ArgumentParser("bench how_sure", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("workdir", nargs="?", help="a finished comparison")
    parser.add_argument("--out", type=Path, help="a CSV file of the parts")
    parser.add_argument(
        "--check", action="store_true", help="against simulation: some ten minutes of one core"
    )
    given = parser.parse_args(arguments)
    if given.check:
        print(check(200, 400))
    if given.workdir:
        rows = list(of_study(Path(given.workdir)))
        print(f"{by_set(rows)}\n{table(rows)}")
        if given.out:
            with given.out.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
