"""Agreement between a preview's ranking of the units and the scores of the search that trained them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scipy.stats import kendalltau

from ttl_jax.errors import UserError
from ttl_jax.evaluation.registry import known_metric
from ttl_jax.system.json_object import read_object

MEASURES = (("probe", "ridge probe"), ("logme", "LogME"), ("h_score", "H-score"), ("unit", "depth alone"))


def ranking(preview: Path, search: Path) -> list[dict[str, Any]]:
    """One row a measure: Kendall's tau-b with the true scores, and what starting at its best unit costs.

    Args:
        preview: Folder that holds preview.json.
        search: Folder that holds search.json, at best of an exhaustive search. Only units that it trained to
            the end are compared.

    Returns:
        Rows of "measure", "tau", "p" (two-sided, of no association), "units", "its best unit" and
        "score lost there" against the best trained unit.

    Raises:
        UserError: a folder without its file, or fewer than 3 units in both.
    """
    previewed, trained = _read(preview / "preview.json"), _read(search / "search.json")
    true = {unit["unit"]: unit["score"] for unit in trained["units"] if unit["score"] is not None}
    looked = {unit["unit"]: unit for unit in previewed["units"] if unit["unit"] in true}
    if len(looked) < 3:
        raise UserError(f"{preview} and {search} have {len(looked)} units in common; a ranking needs 3")
    sign = known_metric(trained["select"]).sign
    scores = [sign * true[unit] for unit in looked]
    rows = []
    for key, name in MEASURES:
        values = [looked[unit][key] for unit in looked]
        tau = kendalltau(values, scores)
        best = max(looked, key=lambda unit: looked[unit][key])  # noqa: B023
        rows.append(
            {
                "measure": name,
                "tau": f"{tau.statistic:.3f}",
                "p": f"{tau.pvalue:.3f}",
                "units": str(len(looked)),
                "its best unit": str(best),
                f"{trained['select']} lost there": f"{max(scores) - sign * true[best]:.4f}",
            }
        )
    return rows


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path} does not exist; `search --preview` and `search` write these files")
    return read_object(path)
