"""The TTL paper's table: what is trained, what looks at the test split, and what the rows say."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ttl_jax.config import set_fields
from ttl_jax.evaluation import predictions
from ttl_jax.search import paper


@pytest.fixture
def larger(datasets):
    """The same images at 96 px: a small network with wide strides needs them."""
    return {
        name: replace(
            split, images=type(split.images)(np.kron(split.images.images, np.ones((1, 3, 3, 1), "u1")))
        )
        for name, split in datasets.items()
    }


def test_only_the_winners_of_the_stages_look_at_the_test_split(tmp_path, config, larger, monkeypatch):
    monkeypatch.setattr(paper, "BATCHES", ())  # no latencies: seconds a network, and not looked at here
    set_fields(config, {
        "search.kind": "all", "search.seeds": 2, "search.units": "1,2,8", "search.stages": "",
        "model.name": "cbr_tiny", "data.image_size": 96, "total_steps": 1, "report": False,
    })  # fmt: skip
    found = paper.paper(config, tmp_path, larger)
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows) == ["FTL", "LWFT-1", "LWFT-2", "TF-1", "TF-2", "TTL-1", "TTL-2"]
    assert rows["FTL"]["strategy"] == "full" and rows["FTL"]["difference"] is None
    for kind in ("lwft", "tf", "ttl"):
        record = json.loads((tmp_path / kind / "search.json").read_text())
        assert [rows[f"{kind.upper()}-{stage}"]["unit"] for stage in (1, 2)] == record["rounds"]
        for result in (tmp_path / kind).glob("trials/*/result.json"):
            unit = int(result.parent.name[4:6])
            chosen = {row["unit"] for name, row in rows.items() if name.startswith(kind.upper())}
            expected = unit in chosen or (kind, unit) == ("tf", rows["FTL"]["unit"])
            assert ("test" in json.loads(result.read_text())) == expected
    for name, kind in (("FTL", "tf"), ("TTL-2", "ttl")):
        row = rows[name]
        scores = []
        for seed in (0, 1):
            seen = predictions.load(
                tmp_path / kind / f"trials/unit{row['unit']:02d}_seed{seed}/predictions/test.npz"
            )
            scores.append(roc_auc_score(seen.labels, seen.logits[:, 1] - seen.logits[:, 0]))
        assert row["auroc"] == pytest.approx(np.mean(scores))
        assert row["auroc_sd"] == pytest.approx(np.std(scores, ddof=1))
        rows[name]["scores"] = scores
    gap = np.mean(rows["TTL-2"]["scores"]) - np.mean(rows["FTL"]["scores"])
    assert rows["TTL-2"]["difference"]["auroc"] == pytest.approx(gap)
    assert rows["TTL-2"]["params"] <= rows["FTL"]["params"]
    assert (tmp_path / "paper.md").read_text().count("\n") == 2 + 7 + 2
    assert len(paper.table(found)) == 7 and "TTL-2" in paper.sentence(found)

    reads = sum(larger["test"].images.reads)
    assert paper.paper(config, tmp_path, larger)["rows"][0]["auroc"] == found["rows"][0]["auroc"]
    assert sum(larger["test"].images.reads) == reads  # looked at once


def _found(low, high):
    row = {"method": "FTL", "unit": 9, "unit_name": "top", "params": 100, "macs": 200}
    cut = {"method": "TTL-2", "unit": 5, "unit_name": "middle", "params": 25, "macs": 100}
    known = {"auroc": (low + high) / 2, "low": low, "high": high}
    return {"rows": [row, cut | {"difference": known}]}


def test_the_sentence_claims_a_difference_only_where_the_interval_leaves_out_zero():
    assert paper.sentence(_found(-0.02, 0.03)).endswith("no difference in the score can be shown.")
    assert paper.sentence(_found(-0.03, -0.01)).endswith("the score falls.")
    said = paper.sentence(_found(0.01, 0.03))
    assert said.endswith("the score rises.") and "25% of the parameters and 50%" in said
    assert "+2.0 [+1.0, +3.0] points of AUROC" in said
