"""MixUp and CutMix: labels follow the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax.data import example_keys
from ttl_jax.data.augment.mix import mix, parse_mix
from ttl_jax.errors import UserError

COUNT, SIDE = 64, 16
KEYS = example_keys(0, jnp.zeros(COUNT, jnp.int32), jnp.arange(COUNT))
LABELS = np.arange(COUNT) % 3
# Image i is gray i, so that a mixed pixel says what it was mixed of.
IMAGES = np.broadcast_to(np.arange(COUNT, dtype=np.float32)[:, None, None, None], (COUNT, SIDE, SIDE, 3))


def run(text, labels=LABELS, keys=KEYS):
    jitted = jax.jit(mix, static_argnums=(3, 4))
    images, targets = jitted(jnp.asarray(IMAGES), jnp.asarray(labels), keys, parse_mix(text), 3)
    return np.asarray(images), np.asarray(targets)


def shares(images, cut):
    """The first image's share of each mixture, read off its pixels."""
    first, second = np.arange(COUNT), np.roll(np.arange(COUNT), -1)
    if cut:
        return (images[..., 0] == first[:, None, None]).mean((1, 2))
    return (images[:, 0, 0, 0] - second) / (first - second)


@pytest.mark.parametrize(("text", "cut"), [("mixup(1)", False), ("cutmix(1)", True)])
def test_labels_are_mixed_as_the_pixels(text, cut):
    images, targets = run(text)
    share = shares(images, cut)
    assert (share > -1e-5).all() and (share < 1 + 1e-5).all() and share.std() > 0.15
    eye = np.eye(3)
    want = share[:, None] * eye[LABELS] + (1 - share[:, None]) * eye[np.roll(LABELS, -1)]
    np.testing.assert_allclose(targets, want, atol=1e-4)
    if not cut:
        assert np.ptp(images, (1, 2, 3)).max() < 1e-4


def test_alpha_is_that_of_the_beta_distribution():
    """Beta(a, a) has variance 1 / (4 (2a + 1))."""
    count = 3000
    keys = example_keys(1, jnp.zeros(count, jnp.int32), jnp.arange(count))
    images, labels = jnp.zeros((count, 1, 1, 3)), jnp.arange(count) % 2
    for alpha in (0.2, 1.0):
        _, targets = jax.jit(mix, static_argnums=(3, 4))(
            images, labels, keys, parse_mix(f"mixup({alpha})"), 2
        )
        own = np.asarray(targets)[np.arange(count), np.arange(count) % 2]
        assert own.mean() == pytest.approx(0.5, abs=0.03)
        assert own.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_cutmix_boxes_are_one_rectangle():
    images, _ = run("cutmix(1)")
    for number, image in enumerate(images[..., 0]):
        rows, columns = np.nonzero(image != number)
        if len(rows):
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_both_are_drawn_about_equally():
    images, _ = run("mixup(1),cutmix(1)")
    cut = np.ptp(images, (1, 2, 3)) > 0.5
    assert 16 <= cut.sum() <= 48


def test_unknown_labels_stay_unknown_and_none_changes_nothing():
    labels = np.tile(np.array([[1, 0, np.nan]], np.float32), (COUNT, 1))
    labels[5, 2] = 1
    _, targets = run("mixup(0.4)", labels)
    assert np.isnan(targets[:, 2]).all() and np.allclose(targets[:, :2], [1, 0], atol=1e-6)
    images, targets = run("none")
    assert np.array_equal(images, IMAGES) and np.array_equal(targets, LABELS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixap(1)", "did you mean 'mixup'"),
        ("mixup", r"write mixup\(alpha\)"),
        ("cutmix(0)", "an alpha above 0"),
        ("mixup(a)", "are not numbers"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(UserError, match=f"data.mix=.*{message}"):
        parse_mix(text)
