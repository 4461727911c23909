"""The fast forms on a CPU against the plain convolution: values and both gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ttl_jax.models.cpu import convolution as convolution_module
from ttl_jax.models.cpu.convolution import convolution
from ttl_jax.models.cpu.max_pool import max_pool

CASES = [  # height, width, channels, features, window, stride, padding, groups
    (8, 9, 6, 6, 3, 1, "SAME", 6),
    (8, 9, 6, 6, 3, 2, "SAME", 6),
    (9, 8, 4, 4, 5, 2, "SAME", 4),
    (7, 7, 4, 4, 5, 1, 2, 4),
    (8, 9, 4, 4, 3, 2, 1, 4),
    (2, 2, 4, 4, 5, 1, "SAME", 4),
    (8, 9, 6, 5, 1, 1, 0, 1),
    (8, 9, 6, 5, 1, 2, 0, 1),
    (9, 9, 6, 5, 1, 2, "SAME", 1),
    (8, 9, 6, 5, 3, 2, 1, 1),
    (8, 9, 6, 4, 3, 1, 1, 2),
    (4, 5, 3, 40, 3, 1, 1, 1),
    (8, 9, 3, 40, 3, 2, 1, 1),
    (7, 7, 3, 40, 3, 2, "SAME", 1),
    (9, 8, 3, 40, 5, 2, 2, 1),
    (4, 4, 3, 40, 4, 3, 1, 1),
    (12, 13, 16, 4, 3, 2, 1, 1),
    (13, 12, 16, 4, 5, 3, "SAME", 1),
    (5, 5, 3, 40, 2, 3, 0, 1),
    (8, 8, 4, 40, 1, 2, 1, 1),
    (2, 2, 6, 5, 3, 1, 1, 1),
    (2, 3, 6, 5, 3, 2, 1, 1),
    (1, 1, 6, 5, 3, 1, 1, 1),
    (1, 4, 6, 5, 5, 2, "SAME", 1),
]


@pytest.mark.usefixtures("fresh_traces")
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_the_plain_convolution(case):
    height, width, channels, features, window, stride, padding, groups = case
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, height, width, channels)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(window, window, channels // groups, features)), jnp.float32)
    pads = padding if isinstance(padding, str) else [(padding, padding)] * 2

    def plain(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )  # fmt: skip

    def ours(x, kernel):
        return convolution(x, kernel, (stride, stride), pads, groups)

    expected, pull = jax.vjp(plain, x, kernel)
    found, our_pull = jax.vjp(ours, x, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    g = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    for mine, theirs in zip(our_pull(g), pull(g), strict=True):
        assert np.abs(mine - theirs).max() < 1e-5 * np.abs(theirs).max()
    moved = jax.jvp(ours, (x, kernel), (kernel.sum() * x, jnp.sin(kernel)))[1]
    wanted = jax.jvp(plain, (x, kernel), (kernel.sum() * x, jnp.sin(kernel)))[1]
    assert np.abs(moved - wanted).max() < 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("stride", "padding", "window"), [(1, 1, 3), (2, 1, 3), (2, 3, 7), (3, 0, 2), (1, "SAME", 2), (2, 0, 1)]
)
def test_three_dimensions_equal_the_plain_convolution(stride, padding, window):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 5, 8, 7, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(window, window, window, 3, 4)), jnp.float32)
    pads = padding if isinstance(padding, str) else [(padding, padding)] * 3

    def plain(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, [stride] * 3, pads, dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
        )

    expected, pull = jax.vjp(plain, x, kernel)
    found, our_pull = jax.vjp(lambda x, kernel: convolution(x, kernel, [stride] * 3, pads), x, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    g = jnp.asarray(rng.normal(size=expected.shape), jnp.float32)
    for mine, theirs in zip(our_pull(g), pull(g), strict=True):
        assert np.abs(mine - theirs).max() < 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_have_their_dimensions_in_the_order_that_is_fast_in_a_loop(stride, dimensions):
    # XLA:CPU reorders them in a program, not in a loop, where another order takes 10 to 90 times as long.
    x = jnp.zeros((2, *[9] * dimensions, 3))
    kernel = jnp.zeros((*[3] * dimensions, 3, 40))

    def both(x, kernel):
        padding = [(1, 1)] * dimensions
        _, pull = jax.vjp(lambda *given: convolution(*given, [stride] * dimensions, padding), x, kernel)
        return pull(jnp.ones((2, *[-(-9 // stride)] * dimensions, 40)))

    text = jax.jit(both).lower(x, kernel).as_text()
    orders = re.findall(r"dim_numbers = (.+?\]->.+?\])", text)
    places = ", ".join(map(str, range(dimensions)))
    assert len(orders) >= 1 and set(orders) == {f"[b, {places}, f]x[{places}, i, o]->[b, {places}, f]"}
    assert "reverse = [true" not in text


@pytest.mark.parametrize("mapped", [(0, None), (None, 0), (0, 0)])
@pytest.mark.parametrize("groups", [1, 4])
def test_mapped_over_it_and_its_gradients_are_those_of_each(mapped, groups):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(5, 2, 6, 7, 4)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(5, 3, 3, 4 // groups, 4)), jnp.float32)
    given = [array if axis == 0 else array[0] for array, axis in zip((x, kernel), mapped, strict=True)]

    def all_of(x, kernel):
        gradients = jax.grad(lambda x, kernel: jnp.sin(ours(x, kernel)).sum(), (0, 1))(x, kernel)
        return ours(x, kernel), *gradients

    def ours(x, kernel):
        return convolution(x, kernel, (2, 2), "SAME", groups)

    found = jax.vmap(all_of, mapped)(*given)
    for place in range(5):
        one = [array[place] if axis == 0 else array for array, axis in zip(given, mapped, strict=True)]
        for mine, theirs in zip(found, all_of(*one), strict=True):
            np.testing.assert_allclose(mine[place], theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("fresh_traces")
@pytest.mark.parametrize("stride", [1, 2])
def test_a_second_derivative_equals_the_plain_convolutions(stride):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 9, 8, 16)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 16, 4)), jnp.float32)
    pads = [(1, 1)] * 2

    def plain(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def ours(x, kernel):
        return convolution(x, kernel, (stride, stride), pads)

    def penalty(convolve):
        def steepness(x, kernel):
            both = jax.grad(lambda x, kernel: jnp.sin(convolve(x, kernel)).sum(), (0, 1))(x, kernel)
            return sum(jnp.square(one).sum() for one in both)

        return jax.grad(steepness, (0, 1))(x, kernel)

    for mine, theirs in zip(penalty(ours), penalty(plain), strict=True):
        assert np.abs(mine - theirs).max() < 1e-5 * np.abs(theirs).max()


@pytest.mark.usefixtures("fresh_traces")
def test_layers_of_one_shape_are_lowered_once(monkeypatch):
    lowered, forms = [], convolution_module._forms
    monkeypatch.setattr(
        convolution_module, "_forms", lambda geometry, rows: lowered.append(geometry) or forms(geometry, rows)
    )
    x, kernel = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 4))

    def thrice(x):
        for padding in ("SAME", "SAME", [(1, 1), (1, 1)]):  # one geometry
            x = convolution(x, kernel, (1, 1), padding)
        return x

    traced = jax.jit(thrice).trace(x)
    assert [equation.primitive.name for equation in traced.jaxpr.eqns] == 3 * ["convolution"]
    assert not lowered
    traced.lower()
    assert len(lowered) == 1
    traced.lower(lowering_platforms=("tpu",))
    assert len(lowered) == 1  # another machine takes the plain form


def test_three_dimensions_and_half_precision_go_the_plain_way_or_keep_their_type():
    x, kernel = jnp.ones((1, 4, 4, 4, 2)), jnp.ones((3, 3, 3, 2, 5))
    assert convolution(x, kernel, (1, 1, 1), [(1, 1)] * 3).shape == (1, 4, 4, 4, 5)
    half = convolution(jnp.ones((1, 4, 4, 2), jnp.bfloat16), jnp.ones((3, 3, 1, 2), jnp.bfloat16),
                       (1, 1), "SAME", 2)  # fmt: skip
    assert half.dtype == jnp.bfloat16


def test_the_forward_pass_keeps_no_copy_for_the_weight_gradient():
    """XLA's own form keeps the transposed inputs of all weight gradients of a unit of VGG."""
    images, layers = jnp.ones((8, 32, 32, 32)), 6
    kernels = [jnp.ones((3, 3, 32, 32))] * layers

    def memory(convolve, pool):
        def loss(kernels, x):
            for kernel in kernels:
                x = jax.nn.relu(convolve(x, kernel))
            return pool(x).sum()

        compiled = jax.jit(jax.grad(loss)).lower(kernels, images).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    def plain(x, kernel):
        return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    ours = memory(lambda x, kernel: convolution(x, kernel, (1, 1), "SAME"), lambda x: max_pool(x, 2, 2))
    assert ours < memory(plain, lambda x: max_pool(x, 2, 2)) - 3 * images.nbytes
