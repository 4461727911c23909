"""The TTL authors' published scores by unit (methods.md B.12): a table of scores, no patients' data.

`published_units.csv` holds run_set, dataset, model, unit and AUPRC of every row whose unit is a
truncation, freezing or slimming point. Unit -1 of `resnet50` is the whole network.
"""

from __future__ import annotations

import csv
from pathlib import Path

PUBLISHED = Path(__file__).parents[2] / "benchmarks" / "published_units.csv"
KINDS = {"layerttl_resnet50": "ttl", "layer_wise_freeze_resnet50": "lwft", "layer_wise_slim_resnet50": "tf"}
BOUNDARIES = (4, 8, 14, 17)
WHOLE_SERIES = 16  # bottlenecks; a series with fewer units was not run to its end


def series():
    """{(run_set, dataset, model): {unit: AUPRC}} in the file's order."""
    found = {}
    with open(PUBLISHED, newline="") as file:
        for row in csv.DictReader(file):
            key = (row["run_set"], row["dataset"], row["model"])
            found.setdefault(key, {})[int(row["unit"])] = float(row["auprc"])
    return found


def whole_series():
    """The layer-wise series that were run over all units: the ones a search can be replayed on."""
    return {key: units for key, units in series().items() if key[2] in KINDS and len(units) >= WHOLE_SERIES}


def boundaries(units):
    """Stage boundaries within a series; slimming counts bottlenecks and so ends at 16."""
    return tuple(min(boundary, max(units)) for boundary in BOUNDARIES)
