"""Files of Big Transfer, CLIP and PENet under the names that their own code writes."""

import numpy as np
import pytest

from ttl_jax import weights
from ttl_jax.errors import UserError
from ttl_jax.weights.initialise import flatten


def same(variables, others):
    mine, theirs = flatten(variables), flatten(others)
    assert set(mine) == set(theirs)
    for path, value in theirs.items():
        np.testing.assert_array_equal(mine[path], value, err_msg=path)


def google_names(state):
    """timm's state dict of BiT as google-research/big_transfer saves it: HWIO, 1-based, a/b/c."""
    outside = {
        "stem.conv.weight": "root_block/standardized_conv2d/kernel", "norm.weight": "group_norm/gamma",
        "norm.bias": "group_norm/beta", "head.fc.weight": "head/conv2d/kernel",
        "head.fc.bias": "head/conv2d/bias",
    }  # fmt: skip
    found = {}
    for key, value in state.items():
        if key not in outside:
            _, stage, _, block, *module, leaf = key.split(".")
            if module == ["downsample", "conv"]:
                part = "a/proj/standardized_conv2d/kernel"
            elif module[0].startswith("conv"):
                part = f"{'abc'[int(module[0][-1]) - 1]}/standardized_conv2d/kernel"
            else:
                leaf = "gamma" if leaf == "weight" else "beta"
                part = f"{'abc'[int(module[0][-1]) - 1]}/group_norm/{leaf}"
            outside[key] = f"block{int(stage) + 1}/unit{int(block) + 1:02d}/{part}"
        found[f"resnet/{outside[key]}"] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    return found


def test_bit_in_googles_layout_and_timms_are_the_same(torchvision_state, tmp_path):
    state = torchvision_state("bit_r50x1")
    google = google_names(state)
    assert google["resnet/block4/unit01/a/proj/standardized_conv2d/kernel"].shape == (1, 1, 1024, 2048)
    np.savez(tmp_path / "BiT-M-R50x1.npz", **google)
    timm = weights.load(state, "bit_r50x1")
    same(weights.load(tmp_path / "BiT-M-R50x1.npz", "bit_r50x1"), timm)
    assert timm["params"]["head"]["kernel"].shape == (2048, 1000)


def test_clip_leaves_the_text_tower_out_and_says_that_it_has_no_classifier(torchvision_state):
    state = {key: value for key, value in torchvision_state("clip_resnet50").items() if key[:3] != "fc."}
    whole = state | {
        "logit_scale": np.float32(4.6), "text_projection": np.ones((2, 2), np.float32),
        "positional_embedding": np.ones((77, 2), np.float32), "token_embedding.weight": np.ones((3, 2)),
        "transformer.resblocks.0.ln_1.weight": np.ones(2), "ln_final.bias": np.ones(2),
        "input_resolution": np.array(224), "context_length": np.array(77), "vocab_size": np.array(49408),
    }  # fmt: skip
    loaded = weights.load(whole, "clip_resnet50", num_classes=2)
    assert loaded["params"]["attention"]["positions"].shape == (50, 2048)
    tower = {key.removeprefix("visual."): value for key, value in state.items()}
    same(weights.load(tower, "clip_resnet50", num_classes=2), loaded)
    with pytest.raises(UserError, match="no head .* say num_classes"):
        weights.load(whole, "clip_resnet50")


def test_penets_checkpoint_has_wrappers_and_once_another_name(torchvision_state):
    state = torchvision_state("penet")
    old = {f"module.{key.replace('penet_blocks', 'xnet_blocks')}": value for key, value in state.items()}
    assert set(old) != {f"module.{key}" for key in state}
    same(weights.load(old, "penet"), weights.load(state, "penet"))
