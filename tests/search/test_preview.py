"""The preview: one pass, no training, no look at the test split."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ttl_jax.analysis.features import capture, some
from ttl_jax.analysis.transferability import ridge_probe
from ttl_jax.errors import UserError
from ttl_jax.search import preview as preview_module
from ttl_jax.search.preview import preview, probe_score


def test_a_preview_scores_every_unit_and_never_reads_the_test_split(tmp_path, config, datasets):
    config.search.units = "1-4"
    record = preview(config, tmp_path, datasets)
    assert [found["unit"] for found in record["units"]] == [1, 2, 3, 4]
    probes = {found["unit"]: found["probe"] for found in record["units"]}
    assert record["best"] == max(sorted(probes), key=probes.get)
    assert record["leep"] is None  # no weights: no source head
    assert datasets["test"].images.reads == []
    assert sum(datasets["train"].images.reads) == 16 and sum(datasets["val"].images.reads) == 16
    assert f"truncated({record['best']})" in record["proposal"]
    assert (tmp_path / "figures" / "preview.png").stat().st_size > 5000
    saved = json.loads((tmp_path / "preview.json").read_text())
    assert saved["units"] == record["units"] and len(record["table"]) == 4


def test_several_labels_have_a_probe_each_on_their_known_entries(datasets):
    rng = np.random.default_rng(0)
    features, held_out_features = rng.normal(size=(16, 3)), rng.normal(size=(16, 3))
    truth = np.stack([features[:, 0] > 0, features[:, 1] > 0], 1).astype(np.float32)
    truth[::4, 1] = np.nan
    held_out_truth = np.stack([held_out_features[:, 0] > 0, held_out_features[:, 1] > 0], 1).astype(
        np.float32
    )
    fields = {"task": "multilabel", "class_names": ("a", "b")}
    training, held_out = (
        type(split)(
            split.name, labels, split.ids, split.groups, fields["class_names"], fields["task"], split.images
        )
        for split, labels in ((datasets["train"], truth), (datasets["val"], held_out_truth))
    )
    expected = []
    for column in range(2):
        known = ~np.isnan(truth[:, column])
        probe = ridge_probe(features[known], truth[known, column].astype(int))
        expected.append(roc_auc_score(held_out_truth[:, column], probe(held_out_features)[:, 1]))
    found = probe_score(features, training, held_out_features, held_out, "auroc")
    assert found == pytest.approx(np.mean(expected))


def test_capture_takes_means_or_the_same_positions_of_every_image(datasets, config):
    import jax.numpy as jnp

    from ttl_jax import models, weights

    network = models.create("resnet18", 2, cut=2)
    variables = weights.initialise("resnet18", 2, cut=2)
    images = datasets["val"]

    def scaled(pixels):
        return pixels.astype(jnp.float32) / 255

    _, whole = network.apply(variables, scaled(images.images.read(np.arange(16))), capture=("stem",))
    whole = np.asarray(whole["stem"])
    means = capture(network, variables, scaled, images, batch_size=5).units
    assert list(means) == ["stem", "stage1/block1"]
    np.testing.assert_allclose(means["stem"], whole.mean((1, 2)), rtol=1e-5, atol=1e-6)
    points = capture(network, variables, scaled, images, units=("stem",), positions=7, batch_size=5).units[
        "stem"
    ]
    flat = whole.reshape(16, 64, -1)
    places = [int(np.abs(flat[0] - point).sum(1).argmin()) for point in points[0]]
    assert len(set(places)) == 7
    np.testing.assert_allclose(points, flat[:, places], rtol=1e-5, atol=1e-6)


def test_some_takes_a_part_in_order(datasets):
    part = some(datasets["train"], 5)
    numbers = [int(name.split("-")[1]) for name in part.ids]
    assert len(part) == 5 and numbers == sorted(numbers)
    assert some(datasets["train"], 99) is datasets["train"]


def test_too_few_images_are_refused(tmp_path, config, datasets):
    config.search.preview_images = 5
    with pytest.raises(UserError, match="search.preview_images=5 must be 20 or more"):
        preview(config, tmp_path / "new", datasets)
    assert not (tmp_path / "new").exists()


def test_a_preview_s_figure_scales_each_measure_to_its_range(axes_of):
    rows = [(0.6, -2.0, 5.0), (0.9, -1.0, 5.0), (0.7, np.nan, 5.0)]
    record = {
        "units": [
            {"unit": unit, "probe": probe, "logme": logme, "h_score": h_score}
            for unit, (probe, logme, h_score) in enumerate(rows, 1)
        ],
        "select": "auroc", "best": 2, "model": "m",
    }  # fmt: skip
    (axes,) = axes_of(preview_module, record)
    probe, logme, h_score, best = axes.lines
    np.testing.assert_allclose(probe.get_ydata(), [0, 1, 1 / 3])
    np.testing.assert_allclose(logme.get_ydata(), [0, 1, np.nan])
    np.testing.assert_allclose(h_score.get_ydata(), 0)  # all alike
    assert list(best.get_xdata()) == [2, 2]
