import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from ttl_jax.config import default_config
from ttl_jax.data import augment, example_keys, parse_augment
from ttl_jax.data.augment import warp
from ttl_jax.data.augment.pipeline import NAMES, PRESETS, Augmentation
from ttl_jax.data.published import presets
from ttl_jax.errors import UserError

EVERYTHING = (
    "flip,flip_vertical,rotate90,rotate(20),translate(0.1),zoom(0.8,1.2),"
    "random_resized_crop(0.3,1),brightness(0.2),contrast(0.2),saturation(0.2),gamma(0.2),noise(5),"
    "hue(0.1),stain(0.1),bias_field(0.3),blur(1),erase(0.1),hair(2),randaugment(1,9)"
)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (48, 9, 9, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def keys():
    return example_keys(0, jnp.zeros(48, jnp.int32), jnp.arange(48))


def run(images, keys, text):
    return np.asarray(jax.jit(augment, static_argnums=2)(jnp.asarray(images), keys, parse_augment(text)))


def test_identity_costs_nothing(images, keys):
    given = jnp.asarray(images)
    assert augment(given, keys, parse_augment("none")) is given
    assert augment(given, keys, parse_augment("")) is given


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("flip", [lambda x: x, lambda x: x[:, ::-1]]),
        ("flip_vertical", [lambda x: x, lambda x: x[::-1]]),
        ("rotate90", [lambda x, k=k: np.rot90(x, k) for k in range(4)]),
    ],
)
def test_exact_moves_are_numpys_and_equally_frequent(images, keys, text, choices):
    out = run(images, keys, text)
    counts = np.zeros(len(choices))
    for before, after in zip(images, out, strict=True):
        matches = [np.array_equal(after, choice(before)) for choice in choices]
        assert sum(matches) == 1
        counts += matches
    expected = len(images) / len(choices)
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # chi-square, p = 0.999, 3 degrees


def scipy_warp(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    centre = (np.array(image.shape[:2]) - 1) / 2
    offset = centre - matrix[:2, :2] @ centre + matrix[:2, 2]
    return np.stack(
        [
            ndimage.affine_transform(image[..., c], matrix[:2, :2], offset, order=1, mode="nearest")
            for c in range(3)
        ],
        axis=-1,
    )


@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(3),
        [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
        [[math.cos(0.3), -math.sin(0.3), 0], [math.sin(0.3), math.cos(0.3), 0], [0, 0, 1]],
        [[0.7, 0, 1.3], [0, 1.2, -2.1], [0, 0, 1]],
    ],
)
def test_sampling_is_scipys_bilinear(images, matrix):
    matrix = np.array(matrix, np.float64)
    got = warp.sample(jnp.asarray(images[0]), [jnp.asarray(matrix, jnp.float32)])
    np.testing.assert_allclose(got, scipy_warp(images[0], matrix), atol=2e-3)


def test_composed_steps_are_one_map_applied_first_to_last(images):
    # Quarter turn, then a move by two rows: whole pixels, so two samplings equal the composed one.
    turn = jnp.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    move = jnp.array([[1.0, 0, 2], [0, 1, 0], [0, 0, 1]])
    image = jnp.asarray(images[0])
    once = warp.sample(image, [turn, move])
    twice = warp.sample(warp.sample(image, [turn]), [move])
    np.testing.assert_allclose(once[:7], twice[:7], atol=1e-3)
    assert not np.allclose(once, warp.sample(warp.sample(image, [move]), [turn]), atol=1)


def test_rotation_stays_within_its_degrees_and_uses_them():
    drawn = [
        np.asarray(warp.AFFINE["rotate"](9, key, 20.0)) for key in jax.random.split(jax.random.key(1), 300)
    ]
    angles = np.degrees([math.atan2(matrix[1, 0], matrix[0, 0]) for matrix in drawn])
    assert np.abs(angles).max() <= 20
    assert angles.max() > 18 and angles.min() < -18
    for matrix in drawn[:5]:
        np.testing.assert_allclose(matrix[:2, :2] @ matrix[:2, :2].T, np.eye(2), atol=1e-6)


def test_crops_lie_inside_with_the_area_and_aspect_asked_for():
    side, aspects = 16, []
    for key in jax.random.split(jax.random.key(2), 300):
        matrix = np.asarray(warp.AFFINE["random_resized_crop"](side, key, 0.3, 1.0))
        height, width = matrix[0, 0], matrix[1, 1]
        assert 0.3 - 1e-5 <= height * width <= 1 + 1e-5
        assert 3 / 4 - 1e-4 <= width / height <= 4 / 3 + 1e-4
        aspects.append(width / height)
        for share, shift in ((height, matrix[0, 2]), (width, matrix[1, 2])):
            assert abs(shift) + share * side / 2 <= side / 2 + 1e-3
    assert min(aspects) < 0.8 and max(aspects) > 1.25 and abs(np.mean(np.log(aspects))) < 0.03


def test_brightness_contrast_saturation_follow_their_formulas(images, keys):
    gray = images @ np.array([0.299, 0.587, 0.114], np.float32)
    pivots = {
        "brightness": np.zeros_like(images),
        "contrast": np.broadcast_to(gray.mean((1, 2))[:, None, None, None], images.shape),
        "saturation": np.broadcast_to(gray[..., None], images.shape),
    }
    for name, pivot in pivots.items():
        out = run(images, keys, f"{name}(0.3)")
        inside = (out > 0.5) & (out < 254.5) & (np.abs(images - pivot) > 20)
        factors = np.where(inside, (out - pivot) / np.where(inside, images - pivot, 1), np.nan)
        each = np.nanmedian(factors.reshape(len(images), -1), axis=1)
        # one factor for all pixels of an image, another for each image, within 0.7 to 1.3
        assert np.nanmax(np.abs(factors - each[:, None, None, None])) < 1e-3
        assert each.min() >= 0.7 and each.max() <= 1.3 and each.std() > 0.1


def test_noise_has_the_deviation_asked_for(keys):
    flat = np.full((48, 20, 20, 3), 128, np.float32)
    difference = run(flat, keys, "noise(7)") - flat
    assert abs(difference.std() - 7) < 0.15 and abs(difference.mean()) < 0.15


def test_all_values_stay_in_range_and_finite(images, keys):
    out = run(images, keys, EVERYTHING)
    assert out.shape == images.shape and out.dtype == np.float32
    assert np.isfinite(out).all() and out.min() >= 0 and out.max() <= 255
    assert {step.name for step in parse_augment(EVERYTHING)} == set(NAMES)


def test_an_example_is_augmented_the_same_wherever_it_stands(images):
    order = np.random.default_rng(1).permutation(48)
    epoch = jnp.full(48, 3)
    straight = run(images, example_keys(5, epoch, jnp.arange(48)), EVERYTHING)
    moved = run(images[order], example_keys(5, epoch, jnp.asarray(order)), EVERYTHING)
    np.testing.assert_allclose(moved, straight[order], atol=1e-3)
    part = run(images[10:13], example_keys(5, epoch[:3], jnp.arange(10, 13)), EVERYTHING)
    np.testing.assert_allclose(part, straight[10:13], atol=1e-3)


def test_keys_differ_by_seed_epoch_and_example_and_can_be_jitted():
    epoch, example = jnp.repeat(jnp.arange(5), 20), jnp.tile(jnp.arange(20), 5)
    data = [np.asarray(jax.random.key_data(example_keys(seed, epoch, example))) for seed in (0, 1)]
    assert len({tuple(row) for row in np.concatenate(data)}) == 200
    jitted = jax.jit(lambda e, x: example_keys(0, e, x))(epoch, example)
    assert np.array_equal(jax.random.key_data(jitted), data[0])


@pytest.mark.parametrize("name", PRESETS)
def test_modality_presets_stand_for_their_lists(name):
    spec = parse_augment(name)
    assert spec == parse_augment(PRESETS[name]) and len(spec) > 1
    steps = {step.name for step in spec}
    if name in ("chest_xray", "ct"):  # the heart is on the left
        assert not steps & {"flip", "flip_vertical", "rotate90"}
    if name in ("mri", "ultrasound", "fundus"):
        assert not steps & {"flip_vertical", "rotate90"}


def test_parsing_keeps_order_and_numbers():
    assert parse_augment(" flip, zoom(0.9, 1.1) ,rotate(10)") == (
        Augmentation("flip"),
        Augmentation("zoom", (0.9, 1.1)),
        Augmentation("rotate", (10.0,)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flop", "did you mean 'flip'"),
        ("flip,rotat(10)", "did you mean 'rotate'"),
        ("rotate", r"write rotate\(degrees\)"),
        ("flip(3)", "write flip"),
        ("zoom(1.2)", r"write zoom\(low, high\)"),
        ("zoom(1.2,0.8)", "low and high"),
        ("rotate(ten)", "not numbers"),
        ("rotate(-5)", "from 0 on"),
        ("random_resized_crop(0.5,1.5)", "1 at most"),
        ("brightness(2)", "share from 0 to 1"),
        ("flip,,rotate(3)", "not of the form"),
        ("rotate(10", "not of the form"),
    ],
)
def test_mistakes_in_the_text_are_named(text, message):
    with pytest.raises(UserError, match=message):
        parse_augment(text)


@pytest.mark.parametrize(
    ("name", "text", "mirrored"),
    [
        ("phantom/radiograph", presets.CAREFUL, False),
        ("phantom/dermoscopy", "flip", True),
        ("chexpert/ignore/mix", "chest_xray", False),
        ("shenzhen", "chest_xray", False),
        ("radfusion", "ct", False),
        ("midog", "histology", True),
        ("medmnist/pathmnist", "none", False),
        ("folder", presets.CAREFUL, False),
        ("dicom", presets.CAREFUL, False),
        ("tfds/whatever", presets.CAREFUL, False),
    ],
)
def test_the_default_mirrors_only_what_has_no_sides(name, text, mirrored):
    config = default_config()
    assert config.data.augment == "auto"
    config.data.name = name
    assert presets.auto_augment(name)[0] == text
    spec = presets.augmentation(config.data)
    assert spec == parse_augment(text)
    assert mirrored == any(step.name.startswith("flip") for step in spec)
    config.data.augment = "flip"  # what a person says, and configs of before, stays
    assert presets.augmentation(config.data) == parse_augment("flip")
