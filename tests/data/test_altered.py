"""Altered copies among phantom patients: each kind is found, and no two patients are taken for one."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from ttl_jax import data
from ttl_jax.data import DataConfig
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.data.splits import altered, copies
from ttl_jax.data.splits.altered import altered_pairs, content
from ttl_jax.data.splits.examine import examine
from ttl_jax.data.splits.leaks import ALTERED
from ttl_jax.errors import UserError

PATIENTS = 60


def shifted(image):
    moved = Image.new("RGB", image.size)
    moved.paste(image, (image.width // 20, -image.height // 20))
    return moved


def cropped(image):
    width, height = image.size
    return image.crop((width // 20, height // 40, width - width // 40, height - height // 20))


def turned(image):
    return image.rotate(3, Image.Resampling.BILINEAR)


def marked(image):
    image = image.copy()
    draw, side = ImageDraw.Draw(image), image.width
    draw.rectangle((0.05 * side, 0.05 * side, 0.25 * side, 0.15 * side), fill=(0, 0, 0))
    draw.text((0.07 * side, 0.05 * side), "L 12", fill=(255, 255, 255))
    return image


def padded(image):
    return ImageOps.pad(image, (image.width * 4 // 3, image.height))


KINDS = {"shift": shifted, "crop": cropped, "turn": turned, "marker": marked, "pad": padded}


def jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return Image.open(buffer)


@pytest.fixture(scope="module", params=["dermoscopy", "radiograph", "mri", "histology", "endoscopy"])
def patients(request):
    config = DataConfig(
        name=f"phantom/{request.param}",
        image_size=128,
        phantom_patients=PATIENTS,
        phantom_images_per_patient=1,
    )
    sets = data.load(config)
    parts = [sets[name].images.read(np.arange(len(sets[name]))) for name in ("train", "val", "test")]
    return [Image.fromarray(pixels) for part in parts for pixels in part]


def test_each_kind_of_copy_is_found_and_no_two_patients_are_one(patients):
    changed = list(KINDS.items())
    twins = [jpeg(changed[number % len(changed)][1](image)) for number, image in enumerate(patients)]
    contents = np.stack([content(image) for image in [*patients, *twins]])
    pairs = altered_pairs(contents)
    found = set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    wanted = {(number, PATIENTS + number) for number in range(PATIENTS)}
    assert found <= wanted
    for place, (name, _) in enumerate(changed):
        own = {pair for pair in wanted if pair[0] % len(changed) == place}
        assert len(own & found) >= 0.9 * len(own), (name, sorted(own - found))


def test_the_map_between_two_images_is_found():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8)).resize((256, 256))
    wanted = np.array([[1.03, 0.04, 0.02], [-0.05, 0.98, -0.03]], np.float32)
    # PIL asks for the same map in pixels of its own corner
    line, move = wanted[:, :2], wanted[:, 2] * 256 + (np.eye(2) - wanted[:, :2]) @ np.full(2, 128)
    other = picture.transform(picture.size, Image.Transform.AFFINE,
                              (*line[0], move[0], *line[1], move[1]), Image.Resampling.BICUBIC)  # fmt: skip
    small = [np.asarray(each.resize((64, 64), Image.Resampling.BILINEAR), np.float32)[None] for each in
             (other, picture)]  # fmt: skip
    start = np.eye(2, 3, dtype=np.float32)[None]
    one, two = (altered._even(altered._detail(each, 21)) for each in small)
    found = altered._align(one, two, start, 30)[0]
    assert np.abs(found - wanted).max() < 0.01


def test_flat_images_are_copies_of_none():
    assert not len(altered_pairs(np.full((20, 64, 64), 7, np.uint8)).first)
    assert not len(altered_pairs(np.zeros((1, 64, 64), np.uint8)).first)
    assert not len(altered_pairs(np.zeros((0, 64, 64), np.uint8)).first)


def test_margins_are_left_out():
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).resize((640, 640))
    framed = Image.new("L", (800, 700), 90)
    framed.paste(picture, (160, 30))
    one, other = (content(image).astype(float) for image in (picture, framed))
    plain = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs(one - plain).max() <= 3  # large images are reduced first
    assert other.std() > 0.7 * plain.std()  # no frame in it
    whole = np.asarray(framed.resize((64, 64), Image.Resampling.BILINEAR)).astype(float)
    assert (np.abs(whole - 90) < 2).mean() > 0.2 and (np.abs(other - 90) < 2).mean() < 0.05


@pytest.fixture
def leaking(tmp_path):
    """36 pictures in three splits; train's first five stand in test again, altered."""
    for seed in range(36):
        split = ("train", "val", "test")[seed // 12]
        rng = np.random.default_rng(seed)
        fine = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        picture = fine.resize((160, 160), Image.Resampling.BICUBIC)
        place = tmp_path / split / "ab"[seed % 2]
        place.mkdir(parents=True, exist_ok=True)
        picture.save(place / f"{seed:02}.png")
        if seed < 5:
            name, change = list(KINDS.items())[seed]
            again = tmp_path / "test" / "ab"[seed % 2] / f"{name}.jpg"
            again.parent.mkdir(parents=True, exist_ok=True)
            change(picture).save(again, quality=90)
    return DataConfig(name="folder", path=str(tmp_path), image_size=32)


def test_splits_with_altered_copies_are_refused_and_made_anew(leaking, monkeypatch, tmp_path_factory):
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
    found = examine(read_listing(leaking), leaking)
    assert {item.other.rpartition("/")[2].partition(".")[0] for item in found.leaks} | {
        item.one.rpartition("/")[2].partition(".")[0] for item in found.leaks
    } == set(KINDS) | {f"{number:02}" for number in range(5)}
    assert {item.kind for item in found.leaks} == {ALTERED}
    assert f"5 x {ALTERED}" in found.summary() and "5 altered pairs of copies" in found.overview()
    with pytest.raises(UserError, match="altered copy"):
        data.load(leaking)
    assert examine(read_listing(leaking), replace(leaking, duplicates="near")).leaks == []
    for seed in range(5):
        fresh = replace(leaking, resplit=True, split_seed=seed)
        again = examine(read_listing(fresh), fresh)
        assert again.leaks == [] and len(set(again.listing.groups)) == 36


def test_what_was_found_is_kept(leaking, monkeypatch, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TTL_JAX_CACHE", str(cache))
    first = examine(read_listing(leaking), leaking)
    (kept,) = (cache / "copies").iterdir()
    monkeypatch.setattr(copies, "altered_pairs", lambda *_: pytest.fail("asked again"))
    again = examine(read_listing(leaking), leaking)
    assert again.leaks == first.leaks
    monkeypatch.setattr(copies, "altered_pairs", altered_pairs)
    for broken in (b"cut off", kept.read_bytes()[:-20], b""):
        kept.write_bytes(broken)
        assert examine(read_listing(leaking), leaking).leaks == first.leaks
