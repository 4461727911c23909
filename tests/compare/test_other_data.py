"""A comparison that is taken up again on other images, labels or weights is refused before a cell is run."""

import shutil

import numpy as np
import pytest
from PIL import Image

from ttl_jax import data
from ttl_jax.compare import cells, compare, comparison
from ttl_jax.compare.config import check
from ttl_jax.config import data_config, set_fields
from ttl_jax.errors import UserError
from ttl_jax.training.records import provenance


@pytest.fixture
def own(tmp_path, config):
    """A comparison on 24 images of one's own, one of whose cells was begun; returns (config, its folder)."""
    for number in range(24):
        path = tmp_path / "set" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(image).save(path)
    (tmp_path / "weights.npz").write_bytes(b"one")
    set_fields(
        config,
        {
            "data.name": "folder", "data.path": str(tmp_path / "set"), "data.duplicates": "exact",
            "compare.datasets": (), "compare.folds": "3", "model.weights": str(tmp_path / "weights.npz"),
        },
    )  # fmt: skip
    (setting, *_) = cells.settings(config, {"": 3})
    cell = cells.tuning_cell(check(config), setting, 1e-3)
    made = cells.cell_config(check(config), cell)
    place = cells.folder(tmp_path / "work", cell)
    manifest = provenance.check_made_from(place, made, data.load(data_config(made.data)))
    provenance.claim(place, made, manifest)
    (tmp_path / "work" / "lock").touch()  # as the comparison that began it left it
    return config


def look(config, workdir):
    typed = check(config)
    settings = cells.settings(typed, {"": 3})
    comparison._refuse_other_data(typed, workdir, settings, comparison._listings(typed))


def test_the_same_data_go_on_wherever_they_lie(tmp_path, own, monkeypatch):
    decoded = []
    monkeypatch.setattr(data, "load", lambda config, load=data.load: decoded.append(1) or load(config))
    look(own, tmp_path / "work")
    assert not decoded  # the list of files says enough
    shutil.copytree(tmp_path / "set", tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "a" / "0.png").touch()
    own.data.path = str(tmp_path / "elsewhere")
    look(own, tmp_path / "work")
    assert decoded == [1]


def invert(path):
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [(lambda folder: (folder / "set/a/0.png").unlink(), "1 image removed"),
     (lambda folder: (folder / "set/a/0.png").rename(folder / "set/b/0.png"), "the labels of 1 changed"),
     (lambda folder: invert(folder / "set/a/2.png"), "the pixels of 1 changed"),
     (lambda folder: (folder / "weights.npz").write_bytes(b"two"), "another weights file")],
)  # fmt: skip
def test_others_are_refused(tmp_path, own, change, said):
    change(tmp_path)
    before = sorted(path.name for path in (tmp_path / "work").rglob("*"))
    with pytest.raises(UserError, match=said):
        compare(own, tmp_path / "work")
    assert sorted(path.name for path in (tmp_path / "work").rglob("*")) == before
