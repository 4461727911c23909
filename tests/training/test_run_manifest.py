"""A run that is started again on what it was not made from is refused in one sentence: what changed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ttl_jax import data
from ttl_jax.config import DataConfig, run_config, set_fields
from ttl_jax.data import patient_key
from ttl_jax.errors import UserError
from ttl_jax.training.progress import Progress
from ttl_jax.training.records import manifest_changes, provenance, run_manifest
from ttl_jax.training.run import train

ROWS = 40


@pytest.fixture
def table(tmp_path):
    """The config of a table of 40 images, a patient each, with splits of its own; data.duplicates="exact"."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        path = tmp_path / "images" / f"i{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
        split = "test" if number >= 32 else "val" if number >= 24 else "train"
        rows.append([f"images/i{number}.png", "ab"[number % 2], f"p{number}", split])
    write(tmp_path, rows)
    config = DataConfig("csv", str(tmp_path / "t.csv"), group="patient", split="split", image_size=32)
    return replace(config, duplicates="exact")


def write(folder, rows):
    text = "\n".join(",".join(row) for row in [["image", "label", "patient", "split"], *rows])
    (folder / "t.csv").write_text(text)


def rows_of(folder):
    return [line.split(",") for line in (folder / "t.csv").read_text().splitlines()[1:]]


def made(config, table, **fields):
    run = run_config(config)
    return run_manifest.made_from(data.load(replace(table, **fields)), run)


def edit(folder, change):
    rows = rows_of(folder)
    change(rows)
    write(folder, rows)


def add(folder):
    rows = rows_of(folder)
    for number in (90, 91, 92):
        image = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(image).save(folder / "images" / f"i{number}.png")
        rows.append([f"images/i{number}.png", "a", f"p{number}", "train"])
    write(folder, rows)


def redraw(folder):
    path = folder / "images" / "i3.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] ^= 255
    Image.fromarray(pixels).save(path)


def blacken(folder):
    Image.new("RGB", (32, 32)).save(folder / "images" / "i3.png")


def rename(folder):
    (folder / "images" / "i3.png").rename(folder / "images" / "j3.png")
    edit(folder, lambda rows: rows[3].__setitem__(0, "images/j3.png"))


def swap(rows):  # two test rows and two train rows
    for one, other in ((0, 32), (1, 33)):
        rows[one][3], rows[other][3] = rows[other][3], rows[one][3]


def relabel(rows):
    rows[0][1], rows[1][1] = rows[1][1], rows[0][1]


CHANGES = {
    "added": (add, ["3 images added (the first is 'images/i9"]),
    "removed": (lambda folder: edit(folder, lambda rows: rows.pop(4)), ["1 image removed"]),
    "edited": (redraw, ["the pixels of 1 changed ('images/i3.png')"]),
    "blackened": (blacken, ["the pixels of 1 changed ('images/i3.png')"]),
    "renamed": (rename, ["1 under another name or in another folder ('images/j3.png')"]),
    "labels": (lambda folder: edit(folder, relabel), ["the labels of 2 changed (the first is 'images/i"]),
    "class": (
        lambda folder: edit(folder, lambda rows: [row.__setitem__(1, "c") for row in rows if row[1] == "b"]),
        ["class 'b' is now 'c'"],
    ),
    "a class more": (
        lambda folder: edit(folder, lambda rows: [row.__setitem__(1, "c") for row in rows[::4]]),
        ["class 'c' is new", "the labels of 10 changed"],
    ),
    "split": (lambda folder: edit(folder, swap), ["the split of 4 changed"]),
    "groups": (
        lambda folder: edit(folder, lambda rows: rows[1].__setitem__(2, rows[0][2])),
        ["the groups of 1 changed"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_each_change_is_told_by_its_kind(tmp_path, table, config, kind):
    before = made(config, table)
    change, said = CHANGES[kind]
    change(tmp_path)
    sets = data.load(table)
    now = run_manifest.made_from(sets, run_config(config))
    assert now.digest != before.digest
    assert [word for word in manifest_changes.changes(before, now, sets)] and len(said) == len(
        found := manifest_changes.changes(before, now, sets)
    ), found
    assert all(any(text in each for each in found) for text in said), found


def test_labels_of_several_columns_are_compared_by_name(tmp_path, table, config):
    before = made(config, table)
    count = len(before.ids)
    labels = np.random.default_rng(0).integers(0, 2, (count, 3)).astype(np.float32)
    before = replace(before, labels=labels, class_names=("a", "b", "c"))
    turned = replace(before, labels=labels[:, [1, 2, 0]], class_names=("b", "c", "a"))
    every = np.arange(count)
    assert not manifest_changes._other_labels(before, turned, every, every, {}).any()
    other = turned.labels.copy()
    other[3, 2] = 1 - other[3, 2]
    different = manifest_changes._other_labels(before, replace(turned, labels=other), every, every, {})
    np.testing.assert_array_equal(np.flatnonzero(different), [3])
    renamed = replace(before, class_names=("a", "b", "d"))
    assert not manifest_changes._other_labels(before, renamed, every, every, {"c": "d"}).any()


def test_what_is_the_same_has_the_same_digest(tmp_path, table, config):
    before = made(config, table)
    before.save(tmp_path)
    assert run_manifest.read(tmp_path).digest == before.digest == made(config, table).digest
    rows = rows_of(tmp_path)
    write(tmp_path, [[*row[:2], f"patient {row[2]}", row[3]] for row in rows[::-1]])  # order, patients' names
    shutil.copytree(tmp_path, moved := tmp_path / "moved")
    again = made(config, table, path=str(moved / "t.csv"))
    assert again.digest == before.digest and again.listed != before.listed
    assert made(config, table, image_size=16).digest != before.digest


def test_weights_and_key_are_part_of_it(tmp_path, table, config):
    before = made(config, table)
    assert manifest_changes.changes(before, replace(before, weights="x"), {}) == ["another weights file"]
    assert manifest_changes.changes(before, replace(before, key="x"), {}) == [
        f"TTL_JAX_PATIENT_KEY (or {patient_key.key_file()}) is another one"
    ]
    file = tmp_path / "w.npz"
    set_fields(config, {"model.weights": str(file)})
    digests = []
    for content in (b"one", b"another"):
        file.write_bytes(content)
        digests.append(run_manifest.weights_digest(run_config(config)))
    assert len(set(digests)) == 2
    set_fields(config, {"strategy": "scratch"})
    assert run_manifest.weights_digest(run_config(config)) == ""


def snapshot(folder: Path):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "owner.json"
    }


def test_a_finished_and_an_interrupted_run_are_refused_and_left_alone(tmp_path, table, config, capsys):
    fields = {
        f"data.{name}": getattr(table, name) for name in ("name", "path", "group", "split", "duplicates")
    }
    set_fields(config, {**fields, "total_steps": 4, "strategy": "linear_probe"})
    run = tmp_path / "run"
    first = train(config, run)
    known = json.loads((run / "config.json").read_text())
    digest = run_manifest.read(run).digest
    assert known["manifest"] == digest
    saved = sorted((run / "checkpoints" / "last").glob("*/progress/metadata"))
    assert saved and all(
        Progress.from_json(json.loads(path.read_text())).made_from == digest for path in saved
    )
    before = snapshot(run)
    edit(tmp_path, swap)
    with pytest.raises(UserError, match=r"the split of 4 changed.*put back"):
        train(config, run)
    assert snapshot(run) == before
    # Interrupted: no result, a checkpoint that is not the last. Its manifest gone, its checkpoint knows.
    (run / "result.json").unlink()
    (run / "manifest.npz").unlink()
    with pytest.raises(UserError, match="other images, labels, split"):
        train(config, run)
    record = {key: value for key, value in known.items() if key != "manifest"}
    (run / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="other images, labels, split"):
        train(config, run)
    assert not (run / "manifest.npz").exists()
    # Put back, as a run of a version that kept no manifest: it goes on, says so, and keeps one.
    edit(tmp_path, swap)
    for path in saved:
        old = {name: value for name, value in json.loads(path.read_text()).items() if name != "made_from"}
        path.write_text(json.dumps(old))
        (path.parent.parent / "manifest.json").unlink()
        (path.parent.parent / "_CHECKPOINT_METADATA").touch()  # as a bundle was before manifests
    capsys.readouterr()
    again = train(config, run)
    assert "kept no manifest" in capsys.readouterr().out
    assert again.metrics["test"] == first.metrics["test"]
    assert run_manifest.read(run).digest == digest
    # Moved as a whole, it is the same; config.json has the new place.
    shutil.copytree(tmp_path / "images", tmp_path / "elsewhere" / "images")
    shutil.copy(tmp_path / "t.csv", tmp_path / "elsewhere")
    config.data.path = str(tmp_path / "elsewhere" / "t.csv")
    assert train(config, run).metrics == again.metrics
    assert json.loads((run / "config.json").read_text())["config"]["data"]["path"] == config.data.path


def test_other_versions_are_refused_unless_they_are_wanted(tmp_path, config):
    provenance.claim(tmp_path, run_config(config))
    path = tmp_path / "config.json"
    record = json.loads(path.read_text())
    record["versions"]["jax"] = "0.0.1"
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"jax 0.0.1 -> .*--config.other_versions=True"):
        provenance.check(tmp_path, run_config(config))
    config.other_versions = True
    provenance.check(tmp_path, run_config(config))


def test_a_split_that_is_held_out_may_come_later_as_for_a_searchs_winner(tmp_path, config, table):
    config, sets, folder = run_config(config), data.load(table), tmp_path / "run"
    begun = {name: split for name, split in sets.items() if name != "test"}
    provenance.claim(folder, config, provenance.check_made_from(folder, config, begun))
    provenance.check_made_from(folder, config, sets)
    with pytest.raises(UserError, match="removed"):
        provenance.check_made_from(folder, config, {"train": sets["train"], "test": sets["test"]})
