"""Whose head: the file's only where it sits on what it was trained on, with the classes asked for."""

import numpy as np
import pytest

from ttl_jax import weights
from ttl_jax.errors import UserError


def head_of(state, **shape):
    variables, report = weights.load_with_report(state, "resnet18", **shape)
    return variables["params"]["head"], "head" in report.fresh


@pytest.mark.parametrize("shape", [{}, {"num_classes": 1000}, {"num_classes": 1000, "head": "gap"}])
def test_the_files_head_when_the_classes_are_the_same(resnet18, shape):
    head, is_fresh = head_of(resnet18, **shape)
    assert not is_fresh
    np.testing.assert_array_equal(head["kernel"], resnet18["fc.weight"].T)
    np.testing.assert_array_equal(head["bias"], resnet18["fc.bias"])


@pytest.mark.parametrize(
    "shape, path, size",
    [
        ({"num_classes": 7}, ("kernel",), (512, 7)),
        ({"cut": "stage3/block2"}, ("kernel",), (256, 1000)),
        ({"cut": "stage4/block1", "num_classes": 1000}, ("kernel",), (512, 1000)),  # the size would fit
        ({"num_classes": 1000, "head": "flatten"}, ("kernel",), (512 * 49, 1000)),
        ({"num_classes": 1000, "head": "mlp"}, ("out", "kernel"), (512, 1000)),
        ({"num_classes": 1000, "slim_from": 7}, ("kernel",), (256, 1000)),
    ],
)
def test_a_fresh_head_everywhere_else(resnet18, shape, path, size):
    head, is_fresh = head_of(resnet18, **shape)
    for key in path:
        head = head[key]
    assert is_fresh and head.shape == size
    if size == (512, 1000) and path == ("kernel",):
        assert not np.array_equal(head, resnet18["fc.weight"].T)


def test_features_need_no_head(resnet18):
    variables, report = weights.load_with_report(resnet18, "resnet18", num_classes=0)
    assert "head" not in variables["params"] and report.fresh == ()


def test_our_own_cut_network_comes_back_with_its_head(resnet18):
    cut = weights.load(resnet18, "resnet18", num_classes=3, cut="stage3/block2", seed=4)
    again, report = weights.load_with_report(cut, "resnet18", cut="stage3/block2", seed=5)
    assert report.fresh == ()
    np.testing.assert_array_equal(again["params"]["head"]["kernel"], cut["params"]["head"]["kernel"])


def test_our_own_network_with_another_kind_of_head(resnet18):
    mlp = weights.load(resnet18, "resnet18", num_classes=3, head="mlp")
    _, report = weights.load_with_report(mlp, "resnet18", num_classes=3)
    assert report.fresh == ("head",)
    with pytest.raises(UserError, match="head/hidden"):
        weights.export_torch(mlp, "resnet18")


def test_our_own_tensor_of_another_rank_is_an_error(resnet18):
    own = weights.load(resnet18, "resnet18")
    own["params"]["stem"]["conv"]["kernel"] = np.zeros(3, np.float32)
    with pytest.raises(UserError, match=r"shape of conv1.weight: the file has \(3,\)"):
        weights.load(own, "resnet18")
