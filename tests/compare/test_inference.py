"""What networks cost in use: counted by hand, measured once, None where a cell did not say."""

import json

import pytest

from ttl_jax.compare import inference


def setting(strategy, classes=3, **more):
    data = {"splits": {"train": {"classes": dict.fromkeys("abcdef"[:classes], 9)}}}
    return {"model": "resnet18", "strategy": strategy, "cells": [{"image_size": 16, "data": data, **more}]}


@pytest.fixture
def measured(monkeypatch):
    """Networks that `costs` asked for, instead of measuring them."""
    asked = []

    def measure(network, timed):
        asked.append((network["cut"], network["num_classes"], network["image"]))
        return {"ms": 1.5 if timed else None}

    monkeypatch.setattr(inference, "_measure", measure)
    return asked


def test_a_network_cut_above_its_stem_by_hand(config, tmp_path):
    (found,) = inference.costs(config, tmp_path, [setting("truncated(1)+linear_probe")])
    # 7 x 7 convolution of 3 channels to 64, a norm's scale and bias, a head of three classes with biases
    params = 7 * 7 * 3 * 64 + 2 * 64 + 64 * 3 + 3
    assert found["params"] == params and found["file_bytes"] == 4 * (params + 2 * 64)
    assert found["flops"] == 2 * (8 * 8 * 64 * 7 * 7 * 3 + 64 * 3)  # 16 pixels at a stride of two
    assert found["ms"] > 0 and found["device"]


def test_a_network_is_measured_once_and_all_of_them_anew_with_another(config, tmp_path, measured):
    both = [setting("full"), setting("l2_sp"), setting("truncated(2)")]
    found = inference.costs(config, tmp_path, both)
    assert measured == [(None, 3, [16, 16, 3]), (2, 3, [16, 16, 3])] and found[0] is found[1]
    assert inference.costs(config, tmp_path, both) == found and len(measured) == 2  # from the file
    inference.costs(config, tmp_path, [*both, setting("full", classes=2)])
    assert [cut for cut, *_ in measured[2:]] == [None, 2, None]


def test_without_timing_the_rest_is_known_and_asked_for_later_it_is_timed(config, tmp_path, measured):
    config.compare.latency = False
    assert inference.costs(config, tmp_path, [setting("full")]) == [{"ms": None}]
    config.compare.latency = True
    assert inference.costs(config, tmp_path, [setting("full")]) == [{"ms": 1.5}]
    assert len(json.loads((tmp_path / "inference.json").read_text())) == 1


def test_a_cell_that_did_not_record_its_data_has_no_entry(config, tmp_path, measured):
    old, none = setting("full"), {**setting("full"), "cells": []}
    del old["cells"][0]["data"]
    assert inference.costs(config, tmp_path, [old, none]) == [None, None]
    assert not measured and not (tmp_path / "inference.json").exists()
