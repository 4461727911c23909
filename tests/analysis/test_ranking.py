"""Kendall's tau by counting pairs."""

import itertools
import json

import numpy as np
import pytest

from ttl_jax.analysis.ranking import ranking
from ttl_jax.errors import UserError


def write(folder, count=6, select="auroc", seed=0):
    rng = np.random.default_rng(seed)
    looked = [{"unit": unit, "probe": float(rng.random()), "logme": float(unit), "h_score": -float(unit)}
              for unit in range(1, count + 1)]  # fmt: skip
    scores = [0.5 + 0.01 * unit for unit in range(1, count)] + [None]  # the last one was not trained
    trained = [{"unit": unit, "score": score} for unit, score in enumerate(scores, start=1)]
    (folder / "preview.json").write_text(json.dumps({"units": looked}))
    (folder / "search.json").write_text(json.dumps({"units": trained, "select": select}))
    return looked[:-1], scores[:-1]


@pytest.mark.parametrize(("select", "sign"), [("auroc", 1), ("loss", -1)])
def test_tau_counts_pairs_and_the_loss_is_at_the_measures_best(tmp_path, select, sign):
    looked, scores = write(tmp_path, select=select)
    rows = {row["measure"]: row for row in ranking(tmp_path, tmp_path)}
    pairs = list(itertools.combinations(range(5), 2))
    probes = [unit["probe"] for unit in looked]
    agree = sum(np.sign(probes[a] - probes[b]) * np.sign(sign * (scores[a] - scores[b])) for a, b in pairs)
    assert float(rows["ridge probe"]["tau"]) == pytest.approx(agree / len(pairs), abs=5e-4)
    assert float(rows["LogME"]["tau"]) == sign and float(rows["H-score"]["tau"]) == -sign
    assert float(rows["LogME"][f"{select} lost there"]) == pytest.approx(0.0 if sign == 1 else 0.04)
    assert rows["LogME"]["units"] == "5" and rows["depth alone"]["its best unit"] == "5"


def test_what_cannot_be_ranked_is_refused(tmp_path):
    with pytest.raises(UserError, match="preview.json does not exist"):
        ranking(tmp_path, tmp_path)
    write(tmp_path, count=3)
    with pytest.raises(UserError, match="2 units in common"):
        ranking(tmp_path, tmp_path)
