"""Exported to ONNX, a network computes in ONNX Runtime what it does in JAX."""

from collections import Counter
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax.deploy.export import onnx
from ttl_jax.errors import UserError
from ttl_jax.models import cpu
from ttl_jax.models.layers.basic import Activation
from ttl_jax.models.unit import unit
from ttl_jax.weights import Preprocessing

onnxruntime = pytest.importorskip("onnxruntime")

# name, edge of an image, cut; every block of every family, and the head of each that has its own
NETWORKS = [
    ("resnet18", 32, "stage2/block1"),
    ("resnet50", 32, "stage1/block2"),
    ("densenet121", 32, "transition1"),
    ("vgg16", 32, None),
    ("vgg16_bn", 32, "stage2/pool"),
    ("efficientnet_b0", 32, "stage2/block2"),
    ("efficientnet_lite0", 33, "stage3/block1"),
    ("alexnet", 70, None),
    ("cbr_tiny", 64, "stage2/pool"),
    ("bit_r50x1", 32, "stage2/block1"),
    ("penet", 32, "stage2/block1"),
    ("resnet18_3d", 32, "stage2/block1"),
    ("densenet121_3d", 32, "dense1/layer2"),
]


def run(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {onnx.INPUT: images})[0]


def check(forward, images):
    """The model, after a comparison of its probabilities with JAX's at two sizes of a batch."""
    model = onnx.build(forward, {})
    with cpu.disabled():
        wanted = forward(images)
    assert wanted.std(0).min() > 0.01, "these images do not tell a wrong network from a right one"
    np.testing.assert_allclose(run(model, images), wanted, atol=2e-5)
    np.testing.assert_allclose(run(model, images[:1]), wanted[:1], atol=2e-5)
    return model


def operations(model):
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize(("name", "size", "cut"), NETWORKS)
def test_every_family(name, size, cut, forward_of, images_of):
    slim = {"slim_from": 1, "slim": 8} if name in ("vgg16", "alexnet") else None
    forward = forward_of(name, size, cut=cut, slim=slim)
    model = check(forward, images_of(forward.shape))
    seen = operations(model)
    # One Transpose, of bytes, puts channels first; a flattened map takes another.
    assert seen["Transpose"] == 1 or name in ("vgg16", "alexnet")
    assert not seen.keys() & {"Expand", "Where", "Gather"}


def test_the_attention_of_clip(forward_of, images_of):
    forward = forward_of("clip_resnet50", 32, only=("stem", "attention"))
    check(forward, images_of(forward.shape))


@pytest.mark.parametrize(
    "options",
    [
        {"task": "multilabel"},
        {"head": "mlp", "temperature": 1.7},
        {"head": "flatten"},
        {"tta": "dihedral"},
        {"preprocessing": Preprocessing((120.0,), (60.0,), channels=1)},
        {"preprocessing": Preprocessing((100.0, 110.0, 120.0), (50.0, 60.0, 70.0), reverse=True)},
    ],
    ids=lambda options: "-".join(options),
)
def test_what_stands_before_and_behind_the_network(options, forward_of, images_of):
    forward = forward_of("resnet18", 32, cut=2, **options)
    check(forward, images_of(forward.shape))


def test_nothing_is_left_of_batch_norm_behind_a_convolution(forward_of):
    seen = operations(onnx.build(forward_of("resnet18", 32, cut="stage2/block1"), {}))
    # entry: Transpose, Cast, Add (- mean); end: pool, Squeeze, Gemm, Mul (temperature), Softmax
    assert seen == Counter(
        Conv=8,
        Relu=7,
        Add=4,
        MaxPool=1,
        Transpose=1,
        Cast=1,
        GlobalAveragePool=1,
        Squeeze=1,
        Gemm=1,
        Mul=1,
        Softmax=1,
    )


def test_the_file_says_what_it_is(forward_of):
    model = onnx.build(forward_of("resnet18", 32, cut=1), {"class_names": '["a"]'})
    assert {entry.key: entry.value for entry in model.metadata_props} == {"class_names": '["a"]'}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert any(node.name.startswith("stem/norm") for node in model.graph.node)


def test_an_operation_without_a_form_is_named(forward_of):
    forward = forward_of("resnet18", 32, cut=1)
    ordered = unit("ordered", "stem", Activation, function=lambda x: jnp.sort(x, axis=1))
    network = forward.network.clone(units=(*forward.network.units, ordered))
    with pytest.raises(UserError, match="operation 'sort', which resnet18 has in ordered; use"):
        onnx.build(replace(forward, network=network), {})
