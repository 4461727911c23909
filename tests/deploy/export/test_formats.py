"""The other formats compute what JAX does, for a network of every family."""

import numpy as np
import pytest

from ttl_jax.deploy.export import format
from ttl_jax.errors import UserError

# name, edge of an image, cut
NETWORKS = [
    ("resnet18", 32, "stage2/block1"),
    ("densenet121", 32, "transition1"),
    ("vgg16", 64, None),
    ("efficientnet_lite0", 33, "stage3/block1"),
    ("bit_r50x1", 32, "stage1/block1"),
]


def check(name, forward, images, folder):
    written = format.find(name)
    path = folder / written.FILE
    written.write(forward, path, {})
    predict, _ = written.open(forward, path)
    wanted = forward(images)
    np.testing.assert_allclose(predict(images), wanted, atol=2e-5)
    np.testing.assert_allclose(predict(images[:1]), wanted[:1], atol=2e-5)


def network_of(name, size, cut, forward_of):
    slim = {"slim_from": 1, "slim": 8} if name == "vgg16" else None
    return forward_of(name, size, cut=cut, slim=slim)


@pytest.mark.parametrize(("name", "size", "cut"), [*NETWORKS, ("penet", 32, "stage1/block1")])
def test_stablehlo(name, size, cut, forward_of, images_of, tmp_path):
    forward = network_of(name, size, cut, forward_of)
    check("stablehlo", forward, images_of(forward.shape), tmp_path)


@pytest.mark.extras
@pytest.mark.parametrize(("name", "size", "cut"), [*NETWORKS, ("resnet18_3d", 32, "stage1/block1")])
def test_litert(name, size, cut, forward_of, images_of, tmp_path):
    pytest.importorskip("litert_converter")
    forward = network_of(name, size, cut, forward_of)
    check("litert", forward, images_of(forward.shape), tmp_path)


@pytest.mark.extras
@pytest.mark.parametrize(
    ("cut", "lacking"),
    [("stage1/block1", "Conv3D"), (None, "an operation")],  # the whole one ends the converter's process
)
def test_litert_says_what_it_lacks(cut, lacking, forward_of, tmp_path):
    pytest.importorskip("litert_converter")
    forward = forward_of("penet", 32, cut=cut)
    with pytest.raises(UserError, match=f"LiteRT has no form for {lacking} as penet has it; use onnx"):
        format.find("litert").write(forward, tmp_path / "model.tflite", {})
    assert not list(tmp_path.iterdir())
