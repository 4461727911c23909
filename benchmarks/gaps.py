"""Type I error of the test of a gap between subgroups, and coverage of the worst one's interval.

    python -m ttl_jax bench gaps [--repeats=800]

Patients of several sites whose figures are the same in truth (equal normal scores, of unit variance), with
other prevalences and, in some cells, one to four images a patient that share 70 % of their variance.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from ttl_jax.evaluation import Predictions
from ttl_jax.evaluation.subgroups import gaps

CELLS = (  # patients of each site, prevalences, AUROC, images of a patient at most
    ((100, 100), (0.4, 0.4), 0.85, 1),
    ((30, 30), (0.4, 0.4), 0.85, 1),
    ((200, 40), (0.5, 0.15), 0.85, 1),
    ((60, 60, 60, 60), (0.3,) * 4, 0.9, 1),
    ((300, 60, 25), (0.4, 0.3, 0.4), 0.95, 1),
    ((40,) * 6, (0.5,) * 6, 0.75, 1),
    ((60, 60), (0.4, 0.4), 0.85, 4),
    ((80, 40, 40, 30), (0.4, 0.2, 0.5, 0.3), 0.9, 4),
)


def study(cell: tuple[tuple[int, ...], tuple[float, ...], float, int], seed: int) -> Predictions:
    """One draw of a cell."""
    sizes, prevalences, auroc, most = cell
    random, apart, parts, first = np.random.default_rng(seed), 2**0.5 * stats.norm.ppf(auroc), [], 0
    shared = 0.7 if most > 1 else 0.0
    for site, (size, prevalence) in enumerate(zip(sizes, prevalences, strict=True)):
        labels = (random.random(size) < prevalence).astype(int)
        labels[:2], labels[-2:] = 1, 0
        of = np.repeat(np.arange(size), random.integers(1, most + 1, size=size))
        noise = shared**0.5 * random.normal(size=size)[of] + (1 - shared) ** 0.5 * random.normal(size=len(of))
        parts.append(
            (of + first, labels[of], apart * (labels[of] - 0.5) + noise, np.full(len(of), f"{site}"))
        )
        first += size
    groups, labels, scores, sites = (np.concatenate(each) for each in zip(*parts, strict=True))
    logits = np.stack([np.zeros(len(scores)), scores], axis=1)
    return Predictions(groups, groups, labels, logits, ("a", "b"), "multiclass", {"site": sites})


def main(arguments: list[str]) -> None:
    """Print a line a cell."""
    given = {"repeats": "800"} | dict(word.lstrip("-").split("=", 1) for word in arguments)
    print("| patients of the sites | prevalence | AUROC | images a patient | AUROC: type I | worst covered | "
          "accuracy: type I | worst covered |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    for cell in CELLS:
        truth = {"auroc": cell[2], "accuracy": stats.norm.cdf(stats.norm.ppf(cell[2]) / 2**0.5)}
        found = [each for seed in range(int(given["repeats"])) for each in gaps(study(cell, seed))]
        line = []
        for name, value in truth.items():
            own = [each for each in found if each.metric == name]
            line.append(np.mean([each.p < 0.05 for each in own]))
            line.append(np.mean([each.low <= value <= each.high for each in own]))
        sites, shares = (", ".join(map(str, each)) for each in cell[:2])
        images = "1" if cell[3] == 1 else f"1 to {cell[3]}"
        figures = " | ".join(f"{value:.3f}" for value in line)
        print(f"| {sites} | {shares} | {cell[2]} | {images} | {figures} |", flush=True)
