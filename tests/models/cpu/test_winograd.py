"""The convolution with fewer products: the plain one's values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax.models.cpu import winograd
from ttl_jax.models.cpu.convolution import convolution

SAME = ((1, 1), (1, 1))


def numpys(x, kernel, padding):
    """The sum over taps, in float64."""
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), *padding, (0, 0)))
    height, width = padded.shape[1] - 2, padded.shape[2] - 2
    return sum(
        padded[:, row : row + height, column : column + width] @ np.asarray(kernel[row, column], np.float64)
        for row in range(3)
        for column in range(3)
    )


def close(one, other, share):
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= share * np.abs(other).max()


@pytest.mark.parametrize("together", [1, winograd.TOGETHER])
@pytest.mark.parametrize(
    ("n", "height", "width", "channels", "features", "padding"),
    [(6, 8, 8, 5, 7, SAME), (5, 7, 9, 4, 3, SAME), (4, 6, 5, 3, 4, ((0, 0), (2, 1))),
     (1, 3, 3, 2, 2, ((0, 0), (0, 0))), (2, 2, 1, 3, 3, SAME)],
)  # fmt: skip
def test_values_and_gradients(n, height, width, channels, features, padding, together, monkeypatch):
    monkeypatch.setattr(winograd, "TOGETHER", together)  # 1: an image at a time
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(n, height, width, channels)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, channels, features)), jnp.float32)
    wanted = numpys(x, kernel, padding)
    close(np.asarray(jax.jit(lambda *given: winograd.convolve(padding, *given))(x, kernel)), wanted, 1e-6)

    g = jnp.asarray(rng.normal(size=wanted.shape), jnp.float32)
    _, plain = jax.vjp(lambda *given: _plain(*given, padding), x, kernel)
    dx, dkernel = plain(g)
    close(winograd.input_gradient(padding, g, kernel), dx, 2e-6)
    close(winograd.kernel_gradient(padding, x, g), dkernel, 2e-6)


def _plain(x, kernel, padding):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )


@pytest.mark.parametrize(
    ("change", "taken"),
    [({}, True), ({"channels": 64}, False), ({"dtype": jnp.bfloat16}, False), ({"stride": 2}, False),
     ({"window": 5}, False), ({"edge": 3}, False)],
)  # fmt: skip
def test_a_cpu_takes_it_where_it_is_exact_and_pays(change, taken):
    how = {"channels": 128, "dtype": jnp.float32, "stride": 1, "window": 3, "edge": 1} | change
    x = jnp.zeros((2, 8, 8, how["channels"]), how["dtype"])
    kernel = jnp.zeros((how["window"], how["window"], how["channels"], 128), how["dtype"])
    padding = 2 * ((how["edge"], how["edge"]),)

    def run(x, kernel):
        return convolution(x, kernel, (how["stride"],) * 2, padding)

    text = jax.jit(run).trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
    assert ("stablehlo.convolution" not in text) == taken
    elsewhere = jax.jit(run).trace(x, kernel).lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" in elsewhere


def test_a_second_derivative_is_there():
    x, kernel = jnp.ones((1, 4, 4, 128)), jnp.full((3, 3, 128, 128), 0.01)

    def slope(size):
        return jax.grad(lambda size: jnp.square(convolution(size * x, kernel, (1, 1), SAME)).sum())(size)

    total = float(jnp.square(convolution(x, kernel, (1, 1), SAME)).sum())
    assert float(jax.grad(slope)(2.0)) == pytest.approx(2 * total, rel=1e-5)
