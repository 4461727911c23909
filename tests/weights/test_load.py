"""Strict loading, partial loading, heads, cuts, the way back, and real files."""

import hashlib
from pathlib import Path

import jax
import numpy as np
import pytest

from ttl_jax import models, weights
from ttl_jax.errors import UserError
from ttl_jax.weights.initialise import flatten
from ttl_jax.weights.pretrained import entry, locate

RESNET18 = Path(__file__).parents[3] / "shared" / "weights" / "resnet18_imagenet_to_layer3.safetensors"


@pytest.fixture(scope="module")
def state():
    return weights.export_torch(weights.initialise("resnet18", 7, seed=3), "resnet18")


def test_every_fault_is_listed_in_one_error(state):
    broken = dict(state)
    del broken["layer1.0.conv1.weight"], broken["bn1.running_var"]
    broken["layer9.conv.weight"] = np.zeros(3)
    broken["layer2.0.conv1.weight"] = np.zeros((128, 64, 5, 5))
    broken["layer3.0.bn1.weight"] = np.zeros(7)
    with pytest.raises(UserError) as caught:
        weights.load(broken, "resnet18")
    assert str(caught.value).splitlines()[1:] == [
        "  extra layer9.conv.weight",
        "  missing bn1.running_var",
        "  missing layer1.0.conv1.weight",
        "  shape of layer2.0.conv1.weight: the file has (128, 64, 5, 5), the network wants (128, 64, 3, 3)",
        "  shape of layer3.0.bn1.weight: the file has (7,), the network wants (256,)",
    ]


def test_the_head_comes_from_the_file_only_when_it_fits(state):
    same = weights.load(state, "resnet18")["params"]["head"]["kernel"]
    np.testing.assert_array_equal(same, state["fc.weight"].T)
    fresh = weights.load(state, "resnet18", num_classes=2, seed=5)["params"]["head"]
    again = weights.load(state, "resnet18", num_classes=2, seed=5)["params"]["head"]
    other = weights.load(state, "resnet18", num_classes=2, seed=6)["params"]["head"]
    np.testing.assert_array_equal(fresh["kernel"], again["kernel"])
    assert not np.allclose(fresh["kernel"], other["kernel"]) and not fresh["bias"].any()
    scratch = weights.initialise("resnet18", 2, seed=5)["params"]["head"]
    np.testing.assert_array_equal(fresh["kernel"], scratch["kernel"])  # whatever lies below it
    assert np.abs(fresh["kernel"]).max() <= 1 / np.sqrt(512)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "model.", "module._orig_mod.model."])
def test_what_wrappers_put_before_names_and_beside_the_network(state, prefix, capsys):
    wrapped = {prefix + key: value for key, value in state.items()} | {"criterion.weight": np.ones(5, "f4")}
    want, got = (weights.load(given, "resnet18", num_classes=3) for given in (state, wrapped))
    assert all(map(np.array_equal, *(jax.tree.leaves(each) for each in (want, got))))
    assert "left out 1 beside it ('criterion.weight')" in capsys.readouterr().out


def test_a_head_of_another_kind_is_left_out_where_it_starts_fresh(state, capsys):
    other = dict(state)
    other["fc.1.weight"], other["fc.1.bias"] = other.pop("fc.weight")[:7], other.pop("fc.bias")[:7]
    want, got = (weights.load(given, "resnet18", num_classes=3) for given in (state, other))
    assert all(map(np.array_equal, *(jax.tree.leaves(each) for each in (want, got))))
    assert "left out a head of another kind ('fc.1.weight', 'fc.1.bias')" in capsys.readouterr().out


def test_a_cut_takes_its_units_and_nothing_else(state):
    variables, report = weights.load_with_report(state, "resnet18", num_classes=2, cut="stage2/block1")
    assert report.loaded == ("stem", "stage1/block1", "stage1/block2", "stage2/block1")
    assert report.fresh == ("head",)
    kernel = variables["params"]["stage2"]["block1"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, state["layer2.0.conv1.weight"].transpose(2, 3, 1, 0))
    assert "stage3" not in variables["params"] and "stage3" not in variables["batch_stats"]


def test_slim_units_start_fresh_and_the_others_are_taken(state):
    variables, report = weights.load_with_report(state, "resnet18", num_classes=2, slim_from=7, seed=4)
    assert report.fresh == ("stage4/block1", "stage4/block2", "head")
    assert variables["params"]["stage4"]["block1"]["conv1"]["kernel"].shape == (3, 3, 256, 256)
    scratch = weights.export_torch(weights.initialise("resnet18", 2, seed=4, slim_from=7), "resnet18")
    for key, value in weights.export_torch(variables, "resnet18").items():
        expected = scratch if key.startswith(("layer4.", "fc.")) else state
        np.testing.assert_array_equal(value, expected[key], err_msg=key)


def test_partial_must_be_asked_for_and_is_listed(state):
    part = {key: value for key, value in state.items() if not key.startswith(("layer4", "fc"))}
    with pytest.raises(UserError, match="say partial"):
        weights.load(part, "resnet18", num_classes=2)
    _, report = weights.load_with_report(part, "resnet18", num_classes=2, partial=True)
    assert report.fresh == ("stage4/block1", "stage4/block2", "head")
    del part["layer3.0.conv1.weight"]  # a unit that is there in part is still an error
    with pytest.raises(UserError, match="missing layer3.0.conv1.weight"):
        weights.load(part, "resnet18", num_classes=2, partial=True)
    with pytest.raises(UserError, match="say num_classes"):
        weights.load(part, "resnet18")


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "densenet121", "efficientnet_b0", "efficientnet_lite0"]
)
def test_the_way_back_is_exact(name):
    variables = weights.initialise(name, 3, seed=1)
    for path, value in flatten(variables).items():  # statistics of their own
        value += np.random.default_rng(len(path)).random(value.shape).astype(np.float32)
    there = weights.export_torch(variables, name)
    back = weights.export_torch(weights.load(there, name), name)
    assert set(back) == set(there)
    for key in there:
        assert back[key].dtype == there[key].dtype and back[key].shape == there[key].shape, key
        assert back[key].tobytes() == there[key].tobytes(), key


def test_our_own_names_in_an_npz(tmp_path):
    variables = weights.initialise("resnet18", 3, seed=1)
    np.savez(tmp_path / "own.npz", **flatten(variables))
    loaded = flatten(weights.load(tmp_path / "own.npz", "resnet18"))
    for path, value in flatten(variables).items():
        np.testing.assert_array_equal(loaded[path], value)


def test_fresh_values_follow_their_formulas():
    params = weights.initialise("resnet50", 10, seed=0)["params"]
    kernel = params["stage3"]["block2"]["conv2"]["kernel"]  # fan-out 3 * 3 * 256
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 256)), rtol=0.01)
    assert np.abs(kernel).max() < 2.3 * np.sqrt(2 / (9 * 256))
    head = params["head"]["kernel"]
    np.testing.assert_allclose(head.std(), 1 / np.sqrt(2048) / np.sqrt(3), rtol=0.02)
    bound = 1 / np.sqrt(2048)
    assert 0.999 * bound < np.abs(head).max() <= np.float32(bound)
    assert (params["stem"]["norm"]["scale"] == 1).all()


def test_an_unknown_source_names_what_there_is():
    with pytest.raises(UserError, match="did you mean 'imagenet'"):
        weights.load("imagnet", "resnet18")
    with pytest.raises(UserError, match="no such file"):
        weights.load("/nowhere/x.pth", "resnet18")


@pytest.mark.skipif(not RESNET18.exists(), reason="../shared is not here")
def test_real_resnet18_up_to_layer3():
    variables, report = weights.load_with_report(RESNET18, "resnet18", num_classes=2, cut="stage3/block2")
    assert report.fresh == ("head",)
    count = sum(value.size for path, value in flatten(variables).items() if "/head/" not in path)
    assert count == 2_787_264  # ../shared/weights/README.md
    _, report = weights.load_with_report(RESNET18, "resnet18", num_classes=2, partial=True)
    assert report.fresh == ("stage4/block1", "stage4/block2", "head")


def test_real_lite0_is_the_file_that_its_name_says_and_knows_photographs():
    import matplotlib
    from PIL import Image
    from sklearn.datasets import load_sample_image

    digest = hashlib.sha256(locate("imagenet", "efficientnet_lite0").read_bytes()).hexdigest()
    assert digest.startswith(entry("imagenet", "efficientnet_lite0").sha256)
    photo = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    pictures = [Image.open(photo).convert("RGB").crop((0, 0, 512, 512)),
                Image.fromarray(load_sample_image("flower.jpg"))]  # fmt: skip
    images = np.stack([np.asarray(item.resize((224, 224), Image.Resampling.BICUBIC)) for item in pictures])
    network, variables = (
        models.create("efficientnet_lite0", 1000),
        weights.load("imagenet", "efficientnet_lite0"),
    )
    normalise = weights.preprocessing("imagenet", "efficientnet_lite0").normalise
    logits = jax.jit(lambda v, x: network.apply(v, normalise(x)))(variables, images)
    assert list(logits.argmax(-1)) == [652, 985]  # military uniform, daisy
