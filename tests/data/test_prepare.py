import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ttl_jax import data
from ttl_jax.cli import main
from ttl_jax.config.data import DataConfig
from ttl_jax.data import patient_key
from ttl_jax.data.prepared.prepare import prepare
from ttl_jax.data.sources import record as record_source
from ttl_jax.errors import UserError


def same(one, other):
    """Whether two loads gave the same data set."""
    assert list(one) == list(other)
    for name in one:
        left, right = one[name], other[name]
        everyone = np.arange(len(left))
        assert left.ids.tolist() == right.ids.tolist() and left.groups.tolist() == right.groups.tolist()
        assert left.class_names == right.class_names and left.task == right.task
        np.testing.assert_array_equal(left.labels, right.labels)
        assert left.labels.dtype == right.labels.dtype
        assert set(left.columns) == set(right.columns)
        for column, values in left.columns.items():
            np.testing.assert_array_equal(values, right.columns[column])
        assert np.array_equal(left.images.read(everyone), right.images.read(everyone))


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"  # says which process had it last
    }


def record(folder, like):
    return DataConfig(name="record", path=str(folder), image_size=like.image_size)


@pytest.fixture
def config(class_folders):
    return DataConfig(name="folder", path=str(class_folders), image_size=8)


@pytest.fixture
def rich_table(table):
    """Several labels with unknowns, patients, splits, a column with gaps and one of words."""
    rows = ["image,x,y,who,part,age,site"]
    for n in range(90):
        part = "test" if n // 3 % 5 == 0 else "val" if n // 3 % 5 == 1 else "train"
        rows.append(
            f"i{n},{n % 2},{'' if n % 7 == 0 else n % 3 // 2},p{n // 3},{part},{n if n % 4 else ''},é{n}"
        )
    path = table("\n".join(rows))
    return DataConfig(name="csv", path=str(path), root=str(path.parent / "images"), label="x,y", group="who",
                      split="part", image_size=8)  # fmt: skip


def test_a_prepared_folder_is_the_folder(config, tmp_path):
    done = prepare(config, tmp_path / "out", workers=1)
    assert (done.images, done.skipped, done.made, done.kept) == (60, 0, 1, 0)
    same(data.load(config), data.load(record(tmp_path / "out", config)))


def test_a_prepared_table_keeps_groups_splits_unknowns_and_columns(rich_table, tmp_path):
    assert prepare(rich_table, tmp_path / "out", workers=1).made == 2
    same(data.load(rich_table), data.load(record(tmp_path / "out", rich_table)))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["images"] == 90 and manifest["groups"] == 30
    assert manifest["split_counts"] == {"train": 54, "val": 18, "test": 18}
    assert manifest["class_counts"]["x"] == 45


def test_official_splits_of_arrays_are_kept(tmp_path):
    rng = np.random.default_rng(0)
    made = {}
    for split, count in (("train", 20), ("val", 6), ("test", 8)):
        made[f"{split}_images"] = rng.integers(0, 256, (count, 8, 8), dtype=np.uint8)
        made[f"{split}_labels"] = np.arange(count) % 2
    np.savez(tmp_path / "set.npz", **made)
    config = DataConfig(name="npz", path=str(tmp_path / "set.npz"), image_size=8)
    prepare(config, tmp_path / "out", workers=1)
    sets = data.load(record(tmp_path / "out", config))
    same(data.load(config), sets)
    assert {name: len(split) for name, split in sets.items()} == {"train": 20, "val": 6, "test": 8}


def test_the_manifest_tells_hashes_and_sizes(config, tmp_path):
    from array_record.python.array_record_module import ArrayRecordReader

    prepare(config, tmp_path / "out", workers=1)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (shard,) = manifest["shards"]
    whole = (tmp_path / "out" / shard["file"]).read_bytes()
    assert hashlib.sha256(whole).hexdigest() == shard["sha256"] and len(whole) == shard["bytes"]
    records = ArrayRecordReader(str(tmp_path / "out" / shard["file"])).read_all()
    examples = manifest["examples"]
    assert [hashlib.sha256(item).hexdigest() for item in records] == examples["sha256"]
    assert [len(item) for item in records] == examples["bytes"]
    assert set(examples["height"]) == {12} and set(examples["width"]) == {10}
    assert manifest["class_names"] == ["a", "b"] and manifest["class_counts"] == {"a": 40, "b": 20}


def test_the_same_images_give_the_same_bytes_by_any_number_of_workers(rich_table, tmp_path):
    one = prepare(rich_table, tmp_path / "one", workers=1)
    two = prepare(rich_table, tmp_path / "two", workers=2)
    assert one.made == two.made == 2
    assert content(tmp_path / "one") == content(tmp_path / "two")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").glob("shard*")}
    again = prepare(rich_table, tmp_path / "one", workers=1)
    assert (again.made, again.kept) == (0, 2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "one").glob("shard*")}


def test_only_shards_of_changed_files_are_made_again(rich_table, tmp_path, save):
    prepare(rich_table, tmp_path / "out", workers=1)
    same(data.load(rich_table), data.load(record(tmp_path / "out", rich_table)))
    save(Path(rich_table.root, "i3.png"), 12345)
    done = prepare(rich_table, tmp_path / "out", workers=1)
    assert (done.made, done.kept) == (1, 1)
    same(data.load(rich_table), data.load(record(tmp_path / "out", rich_table)))
    table = Path(rich_table.path)
    table.write_text("\n".join(table.read_text().splitlines()[:61]))
    done = prepare(rich_table, tmp_path / "out", workers=1)
    assert (done.made, done.images) == (1, 60)
    assert (
        len(list((tmp_path / "out").glob("shard*"))) == 1 == len(list((tmp_path / "out/.resume").glob("sh*")))
    )
    same(data.load(rich_table), data.load(record(tmp_path / "out", rich_table)))


def test_a_killed_run_goes_on(tmp_path, save):
    """kill -9 in the middle: finished shards stay, the same command ends with the same bytes."""
    for number in range(400):
        save(tmp_path / "set" / "ab"[number % 2] / f"{number:03}.png", number, (120, 120, 3))
    config = DataConfig(name="folder", path=str(tmp_path / "set"), image_size=8)
    command = [
        sys.executable,
        "-m",
        "ttl_jax",
        "prepare",
        config.path,
        f"--out={tmp_path / 'out'}",
        "--workers=2",
    ]
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).resolve().parents[2]))
    run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 900  # a guard: this machine pauses processes
    while (
        not list((tmp_path / "out" / ".resume").glob("shard*.json"))
        and run.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.002)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    finished = list((tmp_path / "out" / ".resume").glob("shard*.json"))
    assert 0 < len(finished) < 7 and not (tmp_path / "out" / "manifest.json").exists()
    with pytest.raises(UserError, match="no finished prepared folder"):
        data.load(record(tmp_path / "out", config))
    done = prepare(config, tmp_path / "out", workers=1)
    assert (done.made, done.kept) == (7 - len(finished), len(finished))
    prepare(config, tmp_path / "other", workers=1)
    assert content(tmp_path / "out") == content(tmp_path / "other")


def test_unreadable_images_fail_after_the_others_or_are_counted(config, class_folders, tmp_path, capsys):
    (class_folders / "a" / "03.png").write_bytes(b"damaged")
    with pytest.raises(UserError, match="a/03.png is not an image .*what was prepared is kept"):
        prepare(config, tmp_path / "out", workers=1)
    skipping = replace(config, on_error="skip")
    done = prepare(skipping, tmp_path / "out", workers=1)
    assert (done.images, done.skipped, done.made) == (59, 1, 0)
    assert "skipped 1 of 60 images" in capsys.readouterr().out
    same(data.load(skipping), data.load(record(tmp_path / "out", config)))
    assert "1 images of the source could not be read" in capsys.readouterr().out


def test_progress_ends_at_the_last_image(config, tmp_path):
    seen = []
    prepare(config, tmp_path / "out", workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 60) for number in range(1, 61)]


def test_folders_of_something_else_are_left_alone(config, tmp_path, rich_table):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="holds other files"):
        prepare(config, tmp_path / "home", workers=1)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.tex"]
    prepare(config, tmp_path / "out", workers=1)
    with pytest.raises(UserError, match="prepared from another source .name 'folder', now 'csv'"):
        prepare(rich_table, tmp_path / "out", workers=1)
    with pytest.raises(UserError, match="prepared already"):
        prepare(record(tmp_path / "out", config), tmp_path / "again", workers=1)
    with pytest.raises(UserError, match="phantom"):
        prepare(DataConfig(name="phantom/mri"), tmp_path / "again", workers=1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder, shard: shard.unlink(), "is missing; run the same prepare command again"),
        (lambda folder, shard: shard.write_bytes(shard.read_bytes()[:-10]), "bytes instead of"),
        (lambda folder, shard: (folder / "manifest.json").write_text("{"), "manifest.json cannot be read"),
        (lambda folder, shard: (folder / "manifest.json").write_text("{}"), "not a manifest"),
        (
            lambda folder, shard: (folder / "manifest.json").write_text('{"format": "ttl_jax record 1"}'),
            "manifest.json is not as it was written",
        ),
        (
            lambda folder, shard: (folder / "manifest.json").write_text(
                (folder / "manifest.json").read_text().replace('"label":[0', '"label":[1')
            ),
            "manifest.json is not as it was written; run the same prepare command again",
        ),
    ],
)
def test_damaged_folders(config, tmp_path, spoil, message):
    prepare(config, tmp_path / "out", workers=1)
    spoil(tmp_path / "out", next((tmp_path / "out").glob("shard*")))
    with pytest.raises(UserError, match=message):
        data.load(record(tmp_path / "out", config))


def test_a_damaged_folder_is_mended_by_the_same_command(config, tmp_path):
    prepare(config, tmp_path / "out", workers=1)
    before = content(tmp_path / "out")
    next((tmp_path / "out").glob("shard*")).unlink()
    (tmp_path / "out" / "manifest.json").write_text("{}")
    assert prepare(config, tmp_path / "out", workers=1).made == 1
    assert content(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["shard", ".resume/shard"])
def test_a_flipped_bit_in_a_shard_or_its_note_is_mended(config, tmp_path, name, capsys):
    prepare(config, tmp_path / "out", workers=1)
    before = content(tmp_path / "out")
    (path,) = (tmp_path / "out").glob(f"{name}*")
    spoilt = bytearray(path.read_bytes())
    # in the note the last digit of a record's hash
    spoilt[spoilt.index(b'","', spoilt.index(b'"sha256"')) - 1 if "." in name else len(spoilt) // 2] ^= 1
    path.write_bytes(spoilt)
    assert prepare(config, tmp_path / "out", workers=1).made == 1
    assert "is not as it was written; it is written anew" in capsys.readouterr().out
    assert content(tmp_path / "out") == before
    assert prepare(config, tmp_path / "out", workers=1).kept == 1


def test_a_damaged_record_is_found(config, tmp_path):
    prepare(config, tmp_path / "out", workers=1)
    (shard,) = (tmp_path / "out").glob("shard*")
    spoilt = bytearray(shard.read_bytes())
    spoilt[len(spoilt) // 2] ^= 255
    shard.write_bytes(spoilt)
    with pytest.raises(UserError, match="record .* is damaged"):
        data.load(record(tmp_path / "out", config))


def test_the_command(class_folders, tmp_path, capsys):
    Image.new("RGB", (4, 4)).save(class_folders / "a" / "ünï çode.jpg")
    command = ["ttl_jax", "prepare", str(class_folders), f"--out={tmp_path / 'out'}", "--workers=1"]
    assert main(command) == 0
    assert "61 images in" in capsys.readouterr().out
    for words, message in (
        (["--ot=x"], "'--ot=x' is not understood .did you mean '--out'"),
        (["--workers=x"], "--workers=x is not a number"),
        (["--workers=0"], "--workers=0 is less than one"),
        (["--name=foldr"], "did you mean 'folder'"),
        (["extra"], "needs one source and --out=DIR"),
    ):
        assert main([*command, *words]) == 2
        assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("fields", [{}, {"slices": "volume"}])
@pytest.mark.parametrize("use", [{}, {"folds": 3}, {"train_share": 0.5}])
def test_the_split_of_prepared_dicom_files_does_not_depend_on_the_key(tmp_path, monkeypatch, fields, use):
    pytest.importorskip("pydicom")
    from .dicom_files import save_dicom

    rng = np.random.default_rng(0)
    for number in range(24):
        stored = rng.integers(0, 4096, (2, 8, 8), dtype=np.uint16)
        save_dicom(tmp_path / "dicom" / "ab"[number // 2 % 2] / f"IM{number}.dcm", stored, NumberOfFrames=2,
                   PatientID=f"MRN-{number // 2:07}")  # fmt: skip
    splits, groups = [], []
    for key in ("one", "other"):
        monkeypatch.setenv(patient_key.KEY_VARIABLE, key)
        config = DataConfig(name="dicom", path=str(tmp_path / "dicom"), image_size=8, **fields)
        prepare(config, tmp_path / key, workers=1)
        depth = {"depth": 2} if fields else {}
        sets = data.load(replace(record(tmp_path / key, config), **use, **depth))
        splits.append({name: part.ids.tolist() for name, part in sets.items()})
        groups.append({name: set(part.groups) for name, part in sets.items()})
        assert sets["train"].origin.key == ""
        assert not groups[-1]["train"] & (groups[-1]["val"] | groups[-1]["test"])
    assert splits[0] == splits[1] and not groups[0]["train"] & groups[1]["train"]


def test_dicom_and_nifti_folders(tmp_path, monkeypatch):
    # As the source's own split: that of the folder is drawn by the images, not by what names the patients.
    monkeypatch.setattr(patient_key, "_key", lambda: b"")
    monkeypatch.setattr(record_source, "_contents", lambda examples: np.array(examples["group"]))
    nibabel = pytest.importorskip("nibabel")
    pytest.importorskip("pydicom")
    from .dicom_files import save_dicom

    rng = np.random.default_rng(0)
    for number in range(24):
        stored = rng.integers(0, 4096, (2, 8, 8), dtype=np.uint16)
        save_dicom(tmp_path / "dicom" / "ab"[number % 2] / f"IM{number}.dcm", stored, NumberOfFrames=2,
                   PatientID=f"MRN-{number:07}", PatientName=f"Surname{number}^Given",
                   WindowCenter=2000, WindowWidth=3000)  # fmt: skip
        values = rng.integers(0, 100, (5, 5, 4)).astype(np.int16)
        path = tmp_path / "nifti" / "ab"[number % 2] / f"v{number}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
    for name, fields in (("dicom", {"window": "1000/2000"}), ("nifti", {"slices": "2", "plane": "coronal"})):
        config = DataConfig(name=name, path=str(tmp_path / name), image_size=8, **fields)
        prepare(config, tmp_path / f"{name}_out", workers=1)
        same(data.load(config), data.load(record(tmp_path / f"{name}_out", config)))
    written = b"".join(content(tmp_path / "dicom_out").values())
    for text in (b"MRN-", b"Surname", b"Given", b"19510203", b"1.2.826"):
        assert text not in written
