"""RandAugment's operations against PIL's, its geometry against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from ttl_jax.data.augment import randaugment as ra

PIXELS = np.random.default_rng(0).integers(20, 200, (17, 17, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)


@pytest.mark.parametrize(
    ("ours", "amount", "pil", "tolerance"),
    [
        (ra.autocontrast, 0.0, lambda: ImageOps.autocontrast(PICTURE), 1),
        (ra.equalize, 0.0, lambda: ImageOps.equalize(PICTURE), 0),
        (ra.solarize, 0.5, lambda: ImageOps.solarize(PICTURE, 128), 0),
        (ra.posterize, 0.5, lambda: ImageOps.posterize(PICTURE, 6), 0),
        (ra.posterize, -1.0, lambda: ImageOps.posterize(PICTURE, 4), 0),
        (ra.brightness, 0.2, lambda: ImageEnhance.Brightness(PICTURE).enhance(1.18), 1),
        (ra.contrast, -0.5, lambda: ImageEnhance.Contrast(PICTURE).enhance(0.55), 1),
        (ra.colour, 0.3, lambda: ImageEnhance.Color(PICTURE).enhance(1.27), 1.5),
        (ra.sharpness, 0.4, lambda: ImageEnhance.Sharpness(PICTURE).enhance(1.36), 1.5),
        (ra.sharpness, -0.4, lambda: ImageEnhance.Sharpness(PICTURE).enhance(0.64), 1.5),
    ],
)
def test_tones_are_pils(ours, amount, pil, tolerance):
    found = np.clip(ours(jnp.asarray(PIXELS, jnp.float32), jnp.float32(amount)), 0, 255)
    assert np.abs(found - np.asarray(pil(), np.float32)).max() <= tolerance


def test_equalize_and_autocontrast_leave_flat_channels():
    flat = jnp.full((5, 5, 3), 40.0)
    assert np.array_equal(ra.equalize(flat, 0.0), flat) and np.array_equal(ra.autocontrast(flat, 0.0), flat)


def test_moves_have_torchvisions_ranges():
    """torchvision's RandAugment: shear 0.3, translate 150/331 of the side, 30 degrees at the top."""
    across, down, right, below, turned = np.asarray(ra.moves(100, jnp.float32(1.0)))
    assert across[1, 0] == pytest.approx(0.3) and down[0, 1] == pytest.approx(0.3)
    assert right[1, 2] == pytest.approx(150 / 331 * 100) and below[0, 2] == pytest.approx(150 / 331 * 100)
    assert turned[0, 0] == pytest.approx(np.cos(np.pi / 6)) and turned[1, 0] == pytest.approx(0.5)
    assert np.allclose(ra.moves(100, jnp.float32(0.0)), np.eye(3))


def test_all_fourteen_are_drawn_and_magnitude_counts():
    image = jnp.asarray(PIXELS, jnp.float32)
    keys = jax.random.split(jax.random.key(0), 200)
    run = jax.jit(jax.vmap(lambda key, m: ra.rand_augment(image, key, 1, m), (0, None)))
    strong, weak = np.asarray(run(keys, 15.0)), np.asarray(run(keys, 0.0))
    different = {array.tobytes() for array in strong.round(3)}
    # identity, autocontrast and equalize once each, the others with either sign (solarize, posterize: one)
    assert len(different) == 3 + 2 + 2 * 9
    assert strong.min() >= 0 and strong.max() <= 255
    unchanged = (np.abs(weak - PIXELS).max((1, 2, 3)) < 1e-3).mean()
    assert 0.75 < unchanged < 0.95  # at magnitude 0 only autocontrast and equalize change it: 12 of 14
