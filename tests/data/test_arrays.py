"""Images in memory: shapes and scales that users have, and those that are refused."""

import numpy as np
import pytest

from ttl_jax.data.images.arrays import array_images
from ttl_jax.data.images.decode import Geometry, Stack, decode
from ttl_jax.errors import UserError

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (5, 12, 9, 3), np.uint8)
GRAY = COLOUR[..., 0]
GEOMETRY = Geometry(9)


def pixels(given):
    return np.stack([decode(each, GEOMETRY) for each in array_images(given)])


@pytest.mark.parametrize(
    ("given", "same"),
    [
        (COLOUR / 255.0, COLOUR),
        ((COLOUR / 255).astype(np.float32), COLOUR),
        (COLOUR.astype(np.float64), COLOUR),
        (COLOUR.astype(np.int64), COLOUR),
        (list(COLOUR), COLOUR),
        (COLOUR[0], COLOUR[:1]),
        (GRAY, np.repeat(GRAY[..., None], 3, -1)),
        (GRAY[..., None], np.repeat(GRAY[..., None], 3, -1)),
        (GRAY[0], np.repeat(GRAY[:1, ..., None], 3, -1)),
        (np.concatenate([COLOUR, np.full((5, 12, 9, 1), 255, np.uint8)], -1), COLOUR),
    ],
)
def test_the_same_images_however_they_are_held(given, same):
    np.testing.assert_array_equal(pixels(given), pixels(same))


def test_transparent_pixels_show_the_background_and_sizes_may_differ():
    clear = np.concatenate([COLOUR, np.zeros((5, 12, 9, 1), np.uint8)], -1)
    assert (decode(array_images(clear)[0], Geometry(9, pad_value=7)) == 7).all()
    mixed = [COLOUR[0], GRAY[1], COLOUR[2, :7, :5] / 255.0]
    assert [each.shape for each in array_images(mixed)] == [(12, 9, 3), (12, 9), (7, 5, 3)]
    assert array_images([]) == [] and array_images(COLOUR[:0]) == []


@pytest.mark.parametrize("given", [GRAY, GRAY[None], COLOUR, COLOUR[None], [GRAY, COLOUR[:3]]])
def test_volumes(given):
    made = array_images(given, volumes=True)
    assert all(isinstance(each, Stack) for each in made)
    first = made[0].slices[0]
    np.testing.assert_array_equal(first, GRAY[0] if first.ndim == 2 else COLOUR[0])
    assert len(made) == (2 if isinstance(given, list) else 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (COLOUR / 127.5 - 1, "image 0 goes from -1 to"),
        (COLOUR / 100.0, "the brightest pixel of all images is 2.55"),
        ([COLOUR[0] / 255.0, COLOUR[1].astype(float)], "image 0 goes from 0 to .* where others go to 255"),
        (COLOUR.astype(np.uint16) * 16, "image 0 goes from 0 to 40"),
        ((GRAY > 100).astype(np.int32), "image 0 has whole numbers from 0 to 1, as a mask"),
        (GRAY > 100, "of type bool"),
        (np.where(GRAY == GRAY[2, 3, 4], np.nan, GRAY), "has pixels that are NaN"),
        (np.moveaxis(COLOUR, -1, 1), "channels come first, as in PyTorch"),
        (COLOUR[None], "takes flat images, not volumes"),
        (COLOUR[0, 0, 0], "has shape"),
        ([[COLOUR[0], GRAY[0]]], "image 0 cannot be made an array"),
        (COLOUR[:, :0], "has shape"),
        ("ab", "of type <U2"),
    ],
)
def test_what_is_not_told_is_refused(given, said):
    with pytest.raises(UserError, match=said):
        array_images(given)


def test_a_flat_image_is_no_volume():
    with pytest.raises(UserError, match="takes volumes, not flat images"):
        array_images([GRAY[0]], volumes=True)
