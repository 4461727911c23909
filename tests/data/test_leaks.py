"""The leak check on files, by its command."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ttl_jax import cli, data
from ttl_jax.data import DataConfig
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.data.splits.copies import find_copies
from ttl_jax.data.splits.examine import examine
from ttl_jax.data.splits.leaks import (
    CONFLICT,
    NEAR,
    SAME_FILE,
    SAME_GROUP,
    SAME_PIXELS,
    find_conflicts,
    find_leaks,
)
from ttl_jax.errors import UserError


@pytest.fixture
def leaking(tmp_path, save):
    """Splits with a copied file, the same pixels in another file, a JPEG of a PNG, two labels."""
    root = tmp_path / "leaking"
    for seed in range(30):
        split = ("train", "val", "test")[seed // 10]
        small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        path = root / split / "ab"[seed % 2] / f"{seed:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).save(path)
    train, test, val = root / "train" / "a", root / "test" / "a", root / "val" / "b"
    shutil.copy(train / "00.png", test / "file.png")
    Image.open(train / "02.png").save(test / "pixels.bmp")
    Image.open(train / "04.png").save(test / "near.jpg", quality=70)
    shutil.copy(train / "06.png", val / "label.png")
    return root


def test_each_kind_is_found_and_named(leaking):
    config = DataConfig(name="folder", path=str(leaking), image_size=32)
    found = examine(read_listing(config), config)
    kinds = {(item.kind, *sorted((item.one, item.other))) for item in found.leaks}
    assert kinds == {
        (SAME_FILE, "test/a/file.png", "train/a/00.png"),
        (SAME_FILE, "train/a/06.png", "val/b/label.png"),
        (SAME_PIXELS, "test/a/pixels.bmp", "train/a/02.png"),
        (NEAR, "test/a/near.jpg", "train/a/04.png"),
    }
    assert [(item.kind, item.about) for item in found.conflicts] == [(CONFLICT, "a and b")]
    assert "3 images of test stand in train too" in found.summary()


def test_training_refuses_what_leaks(leaking, capsys):
    config = DataConfig(name="folder", path=str(leaking), image_size=32)
    with pytest.raises(UserError, match="leak: 3 images of test stand in train too.*data.resplit=True"):
        data.load(config)
    sets = data.load(replace(config, allow_leaks=True))
    assert len(sets["test"]) == 13
    assert "allowed by data.allow_leaks" in capsys.readouterr().out


def test_a_new_split_keeps_copies_together(leaking, tmp_path):
    config = DataConfig(name="folder", path=str(leaking), image_size=32, resplit=True)
    for seed in range(8):
        fresh = replace(config, split_seed=seed, splits=str(tmp_path / f"{seed}.json"))
        found = examine(read_listing(fresh), fresh)
        assert found.leaks == [] and len(found.copies) == 4
        sets = data.load(fresh)
        again = data.load(fresh)  # from the file
        home = {name: split for split in sets for name in sets[split].ids}
        assert home["train/a/04.png"] == home["test/a/near.jpg"]
        for split in sets:
            assert np.array_equal(sets[split].ids, again[split].ids)
    assert len(home) == 34


def test_the_split_does_not_depend_on_the_size_trained_on(leaking):
    homes = []
    for size in (16, 48):
        config = DataConfig(name="folder", path=str(leaking), image_size=size, resplit=True)
        sets = data.load(config)
        homes.append({name: split for split in sets for name in sets[split].ids})
    assert homes[0] == homes[1]


def test_the_command_lists_and_exits_with_2(leaking, capsys):
    words = ["ttl_jax", "leaks", "--config=train", "--config.data.name=folder",
             f"--config.data.path={leaking}", "--config.data.image_size=32"]  # fmt: skip
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert "near-duplicate" in shown.out and "test test/a/near.jpg" in shown.out
    assert "same file: " in shown.out and "same image, other label [a and b]" in shown.out
    assert "3 images of test stand in train too" in shown.err
    # New splits leave the conflict of labels, which only the user can settle.
    assert cli.main([*words, "--config.data.resplit=True"]) == 2
    shown = capsys.readouterr()
    assert "near-duplicate (" not in shown.out and "other label" in shown.err
    assert cli.main([*words, "--config.data.allow_leaks=True"]) == 0


def test_groups_and_unknown_labels():
    where, splits = ["u", "v", "w"], np.array(["train", "test", "val"])
    copies = find_copies(
        [b"a", b"a", b"a"], np.zeros((3, 32, 32), np.uint8), np.zeros((3, 64, 64), np.uint8), "exact", 0.97
    )
    images = [np.zeros((2, 2), np.uint8)] * 3
    found = find_leaks(where, images, np.array(["p", "p", "q"]), splits, copies)
    assert [item.kind for item in found] == [SAME_GROUP, SAME_PIXELS, SAME_PIXELS]
    assert (found[0].one, found[0].other, found[0].about) == ("v", "u", "p")
    labels = np.array([[1, 0], [np.nan, 0], [1, 1]], np.float32)
    conflicts = find_conflicts(where, labels, ["x", "y"], splits, copies)
    assert [(item.one, item.other, item.about) for item in conflicts] == [("u", "w", "y 0 and 1")]
