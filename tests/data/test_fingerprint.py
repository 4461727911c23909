"""The DCT hash against its definition, near pairs against brute force."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from ttl_jax.data.splits.fingerprint import (
    alike,
    hash_bits,
    low_frequencies,
    near_pairs,
    thumbnail,
)


def smooth(seed: int, size: int = 120) -> Image.Image:
    """A picture with structure at low frequencies, unlike any other seed's."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue()))


def test_hash_is_the_dct_above_its_median():
    picture = thumbnail(smooth(3)).astype(np.float64)
    n = np.arange(32)
    basis = np.sqrt(2 / 32) * np.cos(np.pi * (2 * n[None, :] + 1) * n[:, None] / 64)
    basis[0] /= np.sqrt(2)
    low = (basis @ picture @ basis.T)[:8, :8].ravel()[1:]
    assert np.array_equal(hash_bits(thumbnail(smooth(3))[None])[0], low > np.median(low))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: jpeg(image, 40),
        lambda image: image.resize((57, 57), Image.Resampling.BILINEAR),
        lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    ],
    ids=["jpeg", "resized", "darker"],
)
def test_a_changed_copy_is_found_among_strangers(change):
    pictures = [smooth(seed) for seed in range(40)]
    thumbnails = np.stack([thumbnail(image) for image in [*pictures, change(pictures[7])]])
    pairs = near_pairs(thumbnails, 0.97)
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(7, 40)]
    assert 0.97 <= pairs.likeness[0] <= 1


def test_pairs_are_those_of_a_brute_search():
    base = np.stack([thumbnail(smooth(seed)) for seed in range(12)])
    noise = np.random.default_rng(0).normal(0, 6, (60, 32, 32))
    thumbnails = np.clip(base[np.arange(60) % 12] + noise, 0, 255).astype(np.uint8)
    thumbnails[::3] = thumbnails[::3, ::-1].swapaxes(1, 2)  # a third of them turned by a quarter
    eight = [np.rot90(flipped, turns, (1, 2)) for flipped in (thumbnails, thumbnails[:, :, ::-1])
             for turns in range(4)]  # fmt: skip
    want: dict[tuple[int, int], float] = {}
    for number, turned in enumerate(eight):
        bits, other_bits = hash_bits(thumbnails), hash_bits(turned)
        for one in range(60):
            for other in range(one + 1, 60):
                likeness = np.corrcoef(thumbnails[one].ravel(), turned[other].ravel())[0, 1]
                if (bits[one] != other_bits[other]).sum() <= 6 and likeness >= (0.95 if number else 0.9):
                    want[one, other] = max(likeness, want.get((one, other), 0.0))
    pairs = near_pairs(thumbnails, 0.9)
    got = dict(
        zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.likeness, strict=True)
    )
    assert len(want) > 20 and got.keys() == want.keys()
    for pair, value in want.items():
        assert abs(got[pair] - value) < 1e-5


def test_copies_are_paired_with_the_first_only_and_black_images_with_none():
    black = [np.zeros((32, 32), np.uint8)] * 5 + [np.full((32, 32), 9, np.uint8)]
    pairs = near_pairs(np.stack([*black, *[thumbnail(smooth(1))] * 4]), 0.97)
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(6, place) for place in range(7, 10)]


def test_a_thumbnail_does_not_depend_on_colour_mode():
    gray = smooth(5).convert("L")
    assert np.array_equal(thumbnail(gray), thumbnail(gray.convert("RGB")))


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_or_mirrored_copy_saved_as_jpeg_is_found_among_strangers(turn):
    pictures = [smooth(seed) for seed in range(40)]
    copy = pictures[7].rotate(90 * (turn % 4))
    copy = jpeg(ImageOps.mirror(copy) if turn >= 4 else copy, 80)
    thumbnails = np.stack([thumbnail(image) for image in [*pictures, copy]])
    pairs = near_pairs(thumbnails, 0.97)
    assert list(zip(pairs.first, pairs.second, strict=True)) == [(7, 40)]
    assert pairs.likeness[0] > 0.999


def test_turned_pairs_must_be_more_alike():
    base = thumbnail(smooth(2)).astype(np.float64)
    noisy = np.clip(base + np.random.default_rng(1).normal(0, 0.2 * base.std(), base.shape), 0, 255)
    upright = near_pairs(np.stack([base, noisy]).astype(np.uint8), 0.97)
    assert 0.97 < upright.likeness[0] < 0.985
    assert not len(near_pairs(np.stack([base, noisy[::-1]]).astype(np.uint8), 0.97).first)


def test_fingerprints_find_copies_of_images_that_are_at_hand_no_more():
    pictures = [smooth(seed) for seed in range(60)]
    flat = Image.new("RGB", (120, 120), (9, 9, 9))
    known = low_frequencies(np.stack([thumbnail(image) for image in [*pictures[:40], flat]]))
    assert np.linalg.norm(known[:40], axis=1) == pytest.approx(1, abs=1e-5) and not known[40].any()
    changed = [jpeg(pictures[5], 40), ImageOps.mirror(pictures[9]), pictures[17].rotate(90), flat]
    asked = np.stack([thumbnail(image) for image in [*pictures[40:], *changed]])
    found = alike(known.astype(np.float16), low_frequencies(asked).astype(np.float16), 0.97)
    assert list(zip(found.first, found.second, strict=True)) == [(5, 20), (9, 21), (17, 22)]
    # the product of two fingerprints is the correlation of thumbnails without their detail
    one, other = (thumbnail(image).astype(np.float64) for image in (pictures[5], jpeg(pictures[5], 40)))
    assert found.likeness[0] == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1], abs=0.01)
