"""The strategies' pictures: one a strategy and network, drawn once, and shown in the report's page."""

from __future__ import annotations

import re

from ttl_jax import report
from ttl_jax.compare.summary import write_pictures
from ttl_jax.report.svg import inline

SETTINGS = [
    {"strategy": strategy, "model": "cbr_tiny", "dataset": dataset}
    for dataset in ("a", "b")
    for strategy in ("full", "lp_ft+truncated('stage2/pool')")
]


def test_a_picture_of_units_and_phases_for_every_strategy(tmp_path):
    found = write_pictures(tmp_path, SETTINGS, image_size=128)
    assert [each["strategy"] for each in found] == ["full", "lp_ft+truncated('stage2/pool')"]
    text = (tmp_path / found[1]["path"]).read_text()
    for unit in ("stage1/conv", "stage2/pool", "stage4/pool", "head", "dropped", "of steps"):
        assert unit in text, unit
    assert "GFLOP" not in text  # not counted: that would trace every step
    before = (tmp_path / found[1]["path"]).stat().st_mtime_ns
    assert write_pictures(tmp_path, SETTINGS, image_size=128) == found
    assert (tmp_path / found[1]["path"]).stat().st_mtime_ns == before


def test_in_the_page_it_takes_the_pages_ink_and_no_ids_twice(tmp_path):
    found = {"pictures": write_pictures(tmp_path, SETTINGS[:1], image_size=128)}
    (shown,) = report.with_pictures(found, tmp_path)["pictures"]
    one, two = (inline(shown["svg"], "Plan of full") for _ in range(2))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0] and not ids[0] & ids[1] and 'aria-label="Plan of full"' in one and "xmlns" not in one
    (tmp_path / found["pictures"][0]["path"]).unlink()
    assert report.with_pictures(found, tmp_path)["pictures"] == []
    assert report.with_pictures({}, tmp_path)["pictures"] == []  # an older compare.json
