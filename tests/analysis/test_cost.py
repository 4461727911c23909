"""Costs against the published table of cuts, hand counts, and files on disk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from safetensors.numpy import save

from ttl_jax import models
from ttl_jax.analysis import cost, count
from ttl_jax.analysis.cost import cost_of, latency
from ttl_jax.errors import UserError

# methods.md B.3, ResNet-50 at 224, two classes: unit -> params (M), conv GMACs
CUTS = {
    1: (0.01, 0.118), 2: (0.09, 0.349), 3: (0.16, 0.568), 4: (0.23, 0.786), 5: (0.61, 1.158),
    6: (0.89, 1.377), 7: (1.17, 1.595), 8: (1.45, 1.814), 9: (2.96, 2.186), 10: (4.08, 2.404),
    11: (5.19, 2.623), 12: (6.31, 2.841), 13: (7.43, 3.060), 14: (8.55, 3.278), 15: (14.59, 3.650),
    16: (19.05, 3.869), 17: (23.51, 4.087),
}  # fmt: skip


def test_resnet50_at_every_cut_is_the_published_table():
    for cut, (params, gmacs) in CUTS.items():
        found = cost("resnet50", (224, 224, 3), cut=cut)
        assert found.params / 1e6 == pytest.approx(params, abs=0.0051)
        assert found.macs / 1e9 == pytest.approx(gmacs, rel=0.001)


def test_exact_sizes_of_the_papers_networks():
    assert cost("resnet50", (224, 224, 3), strategy="truncated(12)").params == 6_310_978
    assert cost("resnet50", (224, 224, 3), cut="stage3/block6").params == 8_545_346
    slim = cost("resnet50", (224, 224, 3), strategy="transfusion(14)")
    assert slim.params == 12_947_522 and slim.macs / 1e9 == pytest.approx(3.53, abs=0.005)


@pytest.mark.parametrize(("cut", "gmacs", "transitions"), [("transition2", 2.08, 2), (None, 2.83, 3)])
def test_densenet121_as_published_but_that_its_transitions_pool_first(cut, gmacs, transitions):
    spared = transitions * 3 / 4 * 56 * 56 * 256 * 128 / 1e9  # each halves the edge and doubles the channels
    assert cost("densenet121", (224, 224, 3), cut=cut).macs / 1e9 == pytest.approx(gmacs - spared, rel=0.01)


def test_depthwise_convolutions_are_counted_as_what_they_are():
    """EfficientNet-Lite0: 407 M multiply-adds at 224 (TensorFlow's TPU repository, lite README)."""
    assert cost("efficientnet_lite0", (224, 224, 3), num_classes=1000).macs / 1e6 == pytest.approx(
        407, rel=0.06
    )


def test_counting_by_hand():
    image, kernel = jnp.zeros((2, 9, 8, 6)), jnp.zeros((3, 2, 2, 12))

    def grouped(x, k):
        y = lax.conv_general_dilated(
            x, k, (2, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=3
        )
        return jnp.einsum("nhwc,cd->nhwd", y, jnp.zeros((12, 5)))

    out = 2 * 4 * 7
    assert count(grouped, image, kernel).macs == out * 12 * (3 * 2 * 2) + out * 5 * 12
    assert count(grouped, image, kernel).activations == out * 12 + out * 5
    looped = count(lambda x: lax.scan(lambda c, _: (c @ x, None), x, None, length=7)[0], jnp.zeros((4, 4)))
    assert looped.macs == 7 * 64


def test_three_dimensions_and_nested_programs_are_counted():
    volume, kernel = jnp.zeros((1, 5, 5, 5, 2)), jnp.zeros((3, 3, 3, 2, 4))

    @jax.jit
    def convolve(x, k):
        return lax.conv_general_dilated(
            x, k, (1, 1, 1), "SAME", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
        )

    assert count(convolve, volume, kernel).macs == 125 * 4 * 27 * 2


def test_file_bytes_are_those_of_a_weights_file():
    network = models.create("resnet18", 2, cut=3)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    flat = {
        str(number): np.zeros(leaf.shape, "float32") for number, leaf in enumerate(jax.tree.leaves(shapes))
    }
    header = 80 * len(flat) + 8
    assert abs(len(save(flat)) - cost("resnet18", (32, 32, 3), cut=3).file_bytes) < header


def test_compute_type_halves_activations_only():
    whole = cost_of(models.create("resnet18", 2), (64, 64, 3))
    half = cost_of(models.create("resnet18", 2, dtype=jnp.bfloat16), (64, 64, 3))
    assert half.activation_bytes * 2 == whole.activation_bytes
    assert (half.params, half.macs, half.flops) == (whole.params, whole.macs, 2 * whole.macs)


def test_latency_is_measured_at_each_batch_size():
    network = models.create("resnet18", 2, cut=2)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    found = latency(network, shapes, (32, 32, 3), (1, 8), seconds=0.05)
    assert list(found) == [1, 8] and all(value > 0 for value in found.values())


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("resnet5", (224, 224, 3)), {}, "did you mean 'resnet50'"),
        (("resnet50", (224, 224)), {}, "is not \\(H, W, C\\)"),
        (("resnet50", (224, 0, 3)), {}, "all above 0"),
        (("resnet50", (64, 64, 3)), {"cut": 18}, "has units 1 to 17"),
        (("resnet50", (64, 64, 3)), {"cut": 3, "strategy": "truncated(3)"}, "a cut or a strategy"),
    ],
)
def test_bad_arguments_are_refused(arguments, options, message):
    with pytest.raises(UserError, match=message):
        cost(*arguments, **options)
