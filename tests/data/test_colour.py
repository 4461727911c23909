"""Colour steps against their formulas, solved for the numbers that were drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from ttl_jax.data.augment.colour import COLOUR, STAINS

RNG = np.random.default_rng(0)
SIDE = 24


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    """Pinks and purples, so that no density is negative."""
    density = RNG.uniform(0.05, 0.5, (SIDE, SIDE, 3)) @ STAINS
    return (255 * 10.0**-density).astype(np.float32)


def step(name, image, seed, *arguments):
    return np.asarray(COLOUR[name](jnp.asarray(image), jax.random.key(seed), *arguments), np.float64)


def test_stains_are_orthodox():
    """Ruifrok and Johnston 2001: haematoxylin is blue (absorbs red), eosin pink (absorbs green)."""
    assert np.allclose(np.linalg.norm(STAINS, axis=1), 1)
    assert STAINS[0].argmin() == 2 and STAINS[1].argmax() == 1


def test_stain_scales_and_shifts_each_density(tissue):
    unmix = np.linalg.inv(STAINS)
    before = -np.log10(tissue.astype(np.float64) / 255).reshape(-1, 3) @ unmix
    scales = []
    for seed in range(8):
        after = -np.log10(step("stain", tissue, seed, 0.1) / 255).reshape(-1, 3) @ unmix
        for place in range(3):
            system = np.stack([before[:, place], np.ones(len(before))], 1)
            (scale, shift), residual, *_ = np.linalg.lstsq(system, after[:, place], rcond=None)
            assert residual[0] < 1e-8 and 0.9 <= scale <= 1.1 and -0.1 <= shift <= 0.1
            scales.append(scale)
    assert np.ptp(scales) > 0.1


def test_bias_field_is_the_exponential_of_a_cubic(tissue):
    line = np.linspace(-1, 1, SIDE)
    y, x = np.meshgrid(line, line, indexing="ij")
    terms = [y**i * x**j for i in range(4) for j in range(4 - i) if i + j]
    field = np.log(step("bias_field", tissue, 1, 0.3) / tissue)
    assert np.abs(field - field[..., :1]).max() < 1e-5  # one field for all channels
    system = np.stack([term.ravel() for term in terms], 1)
    weights, residual, *_ = np.linalg.lstsq(system, field[..., 0].ravel(), rcond=None)
    assert residual[0] < 1e-8 and np.abs(weights).max() <= 0.3 and np.ptp(weights) > 0.1


def test_hue_turns_about_the_gray_axis(tissue):
    plain = np.full((4, 4, 3), 77.0, np.float32)
    assert np.allclose(step("hue", plain, 0, 0.5), plain, atol=1e-3)
    for seed in range(4):
        after = step("hue", tissue, seed, 0.1)
        assert np.allclose(after.sum(-1), tissue.sum(-1), rtol=1e-5)
        assert np.allclose((after**2).sum(-1), (tissue.astype(float) ** 2).sum(-1), rtol=1e-4)
        angle = np.arccos(np.clip(_cosine(after, tissue), -1, 1))
        assert np.ptp(angle) < 0.02 and angle.max() <= 2 * np.pi * 0.1 + 1e-3


def _cosine(one, other):
    one, other = (value - value.mean(-1, keepdims=True) for value in (one, other.astype(float)))
    return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


def test_blur_is_scipys_gaussian(tissue):
    found = step("blur", tissue, 3, 2.0)
    sigmas = np.linspace(0.02, 2, 400)
    errors = [
        np.abs(ndimage.gaussian_filter(tissue, (s, s, 0), mode="nearest", radius=(6, 6, 0)) - found).max()
        for s in sigmas
    ]
    assert min(errors) < 0.2
    assert np.ptp([step("blur", tissue, seed, 2.0).std() for seed in range(5)]) > 1


def test_erase_gives_one_square_the_mean(tissue):
    for seed in range(5):
        after = step("erase", tissue, seed, 0.25)
        rows, columns = np.nonzero(np.abs(after - tissue).max(-1) > 1e-4)
        assert (np.ptp(rows), np.ptp(columns)) == (SIDE // 2 - 1, SIDE // 2 - 1)
        assert np.allclose(after[rows, columns], tissue.mean((0, 1)), atol=1e-3)


def test_hair_draws_thin_dark_lines_and_nothing_else():
    skin = np.full((96, 96, 3), 200.0, np.float32)
    covered = []
    draw = jax.jit(jax.vmap(lambda key: COLOUR["hair"](jnp.asarray(skin), key, 4)))
    for after in np.asarray(draw(jax.random.split(jax.random.key(0), 12))):
        assert after.max() <= 200.001 and after.min() >= 0
        covered.append((np.abs(after - skin).max(-1) > 5).mean())
    assert 0 < np.mean(covered) < 0.15 and np.ptp(covered) > 0


def test_a_hair_is_dark_along_its_curve_and_nowhere_else():
    image, count = np.full((64, 64, 3), 220.0, np.float32), 0
    for seed in range(12):
        after = step("hair", image, seed, 1)
        changed = np.abs(after - image).max(-1) > 1e-3
        ends_key, bend_key, width_key, _, present_key = jax.random.split(
            jax.random.split(jax.random.key(seed), 1)[0], 5
        )
        if not jax.random.bernoulli(present_key):
            assert not changed.any()
            continue
        angles = np.asarray(jax.random.uniform(ends_key, (2,), maxval=2 * np.pi))
        ends = 0.5 + 0.75 * np.stack([np.sin(angles), np.cos(angles)], 1)  # on a circle round the image
        bend = np.asarray(jax.random.uniform(bend_key, (2,), minval=-0.25, maxval=0.25))
        t = np.linspace(0, 1, 5000)[:, None]  # Bezier's quadratic curve
        curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * (ends.mean(0) + bend) + t**2 * ends[1]
        place = np.stack(np.meshgrid(*[np.arange(64) / 64] * 2, indexing="ij"), -1).reshape(-1, 2)
        away, _ = cKDTree(curve).query(place)
        width = float(jax.random.uniform(width_key, (), minval=0.003, maxval=0.009))
        away = away.reshape(64, 64)
        assert not changed[away > 1.5 * width + 0.004].any()  # .004: the curve is drawn in straight pieces
        assert changed[away < 1.5 * width - 0.004].all()
        count += changed.any()
    assert count >= 3
