"""Similarity of features unit by unit: two runs, or a run and the network that it started from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax import data
from ttl_jax.analysis.features import capture, common_units, some
from ttl_jax.analysis.similarity import Measure, cka, pwcca, random_baseline, svcca
from ttl_jax.config.data import data_config
from ttl_jax.errors import UserError
from ttl_jax.training.build import load_run
from ttl_jax.training.records import provenance
from ttl_jax.typing import Variables

MEASURES: dict[str, Measure] = {"svcca": svcca, "pwcca": pwcca, "cka": cka}
POSITIONS = 16  # of each map and image: examples of the similarity


def compare(measure: str, run: Path, against: str, examples: int) -> list[dict[str, Any]]:
    """Return one row per unit that both networks have: its similarity, and that of random features.

    Args:
        measure: "svcca", "pwcca" or "cka".
        run: Folder of a finished run. Features are compared on its validation images.
        against: "pretrained" (the run's own network at step 0) or the folder of another run.
        examples: Maximum number of images to compare on.

    Raises:
        UserError: folders that hold no finished run, or other data than the run's.
    """
    function, one = MEASURES[measure], load_run(run)
    sets = data.load(data_config(one.config.data))
    provenance.check_made_from(run, one.config, sets, first=False)
    images = some(sets["val"], examples)

    def features(loaded: Any, variables: Variables) -> dict[str, np.ndarray]:
        return capture(
            loaded.network, variables, loaded.preprocessing.normalise, images, positions=POSITIONS
        ).units

    mine = features(one, one.best)
    if against == "pretrained":
        theirs = features(one, one.start)
    else:
        other = load_run(Path(against))
        if other.config.data.image_size != one.config.data.image_size:
            raise UserError(f"{run} and {against} were trained at different image sizes")
        theirs = features(other, other.best)
    rows = []
    for unit in common_units(mine, theirs):
        row: dict[str, Any] = {"unit": unit, "examples": int(np.prod(mine[unit].shape[:-1]))}
        try:
            row[measure] = round(function(mine[unit], theirs[unit]), 4)
            chance = random_baseline(function, mine[unit], theirs[unit], repeats=3)
            row["random features"] = round(float(chance.mean()), 4)
        except UserError as error:
            if "more examples than features" not in str(error):
                raise
            row |= {measure: "too few examples", "random features": ""}
        rows.append(row)
    if not rows:
        raise UserError(f"{run} and {against} have no unit in common")
    return rows
