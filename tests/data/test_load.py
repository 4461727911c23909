import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ttl_jax import data
from ttl_jax.data import DataConfig, patient_key
from ttl_jax.errors import UserError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def config(class_folders) -> DataConfig:
    return DataConfig(name="folder", path=str(class_folders), image_size=8)


def ids(sets) -> dict[str, list[str]]:
    return {name: split.ids.tolist() for name, split in sets.items()}


def test_a_folder_is_split_into_stratified_parts(config):
    sets = data.load(config)
    assert list(sets) == ["train", "val", "test"]
    counts = {name: np.bincount(split.labels).tolist() for name, split in sets.items()}
    assert counts == {"train": [28, 14], "val": [6, 3], "test": [6, 3]}
    assert len(set().union(*ids(sets).values())) == 60
    for name, split in sets.items():
        assert split.name == name and split.class_names == ("a", "b")


def test_each_image_keeps_its_own_pixels(config, class_folders):
    from ttl_jax.data.images.decode import Geometry, decode

    for split in data.load(replace(config, train_limit=20)).values():
        for place, name in enumerate(split.ids):
            want = decode(class_folders / name, Geometry(8))
            assert np.array_equal(split.images.read(np.array([place]))[0], want)
            assert split.class_names[split.labels[place]] == name.split("/")[0]


def test_loading_without_cache_gives_the_same(config):
    held, fresh = data.load(config), data.load(replace(config, cache_gb=0.0))
    for name in held:
        everyone = np.arange(len(held[name]))
        assert np.array_equal(held[name].images.read(everyone), fresh[name].images.read(everyone))
        assert np.array_equal(held[name].labels, fresh[name].labels)


def test_limits_are_nested_and_leave_the_held_out_splits_alone(config):
    whole = ids(data.load(config))
    smaller, larger = (ids(data.load(replace(config, train_limit=size))) for size in (9, 21))
    assert set(smaller["train"]) < set(larger["train"]) < set(whole["train"])
    assert (len(smaller["train"]), len(larger["train"])) == (9, 21)
    assert smaller["test"] == larger["test"] == whole["test"]
    assert smaller["val"] == larger["val"] == whole["val"]


def test_a_missing_val_comes_out_of_train_and_the_test_folder_stays_whole(tmp_path, save, capsys):
    for seed in range(60):
        split = "train" if seed < 40 else "test"
        save(tmp_path / split / "ab"[seed % 2] / f"{seed}.png", seed)
    sets = data.load(DataConfig(name="folder", path=str(tmp_path), image_size=8))
    assert {name: len(split) for name, split in sets.items()} == {"train": 34, "val": 6, "test": 20}
    assert all(item.startswith("test/") for item in sets["test"].ids)
    assert all(item.startswith("train/") for item in sets["val"].ids)
    assert "has no val: taken from train" in capsys.readouterr().out


def test_a_split_file_is_kept_and_reused(config, tmp_path):
    config = replace(config, splits=str(tmp_path / "kept" / "splits.json"), train_limit=10)
    first = data.load(config)
    kept = json.loads((tmp_path / "kept" / "splits.json").read_text())["splits"]
    assert {name: len(items) for name, items in kept.items()} == {"train": 42, "val": 9, "test": 9}
    again = data.load(replace(config, split_seed=99, val_fraction=0.4))
    assert ids(again)["test"] == ids(first)["test"] and ids(again)["val"] == ids(first)["val"]
    assert ids(data.load(replace(config, splits="", split_seed=99)))["test"] != ids(first)["test"]


def test_a_split_file_of_other_data_is_refused(config, class_folders, tmp_path, save):
    config = replace(config, splits=str(tmp_path / "splits.json"))
    data.load(config)
    save(class_folders / "a" / "new.png", 77)
    with pytest.raises(UserError, match="lacks 1 of the data's images, the first is 'a/new.png'"):
        data.load(config)
    (class_folders / "a" / "new.png").rename(class_folders / "a" / "00.png")
    (class_folders / "b" / "01.png").unlink()
    with pytest.raises(UserError, match="lists 1 images that the data lacks.*b/01.png"):
        data.load(config)
    (tmp_path / "splits.json").write_text("{}")
    with pytest.raises(UserError, match="not a split file"):
        data.load(config)
    lists = {"train": ["a/00.png", "a/00.png"], "val": [], "test": []}
    (tmp_path / "splits.json").write_text(json.dumps({"splits": lists}))
    with pytest.raises(UserError, match="lists 'a/00.png' twice"):
        data.load(config)


def test_an_image_skipped_now_may_stand_in_the_split_file(config, class_folders, tmp_path):
    config = replace(config, splits=str(tmp_path / "splits.json"), on_error="skip")
    data.load(config)
    (class_folders / "a" / "03.png").write_bytes(b"damaged")
    assert sum(len(split) for split in data.load(config).values()) == 59


@pytest.fixture
def patients(table) -> DataConfig:
    """20 patients of 3 images each; p0's images stand in train and test by the split column."""
    rows = ["image,label,patient,part"]
    for number in range(60):
        patient = number // 3
        part = "test" if number == 2 or patient % 4 == 3 else "val" if patient % 4 == 2 else "train"
        rows.append(f"i{number},{'ab'[patient % 2]},p{patient},{part}")
    path = table("\n".join(rows))
    return DataConfig(
        name="csv", path=str(path), root=str(path.parent / "images"), group="patient", image_size=8
    )


def test_no_patient_straddles_a_split_made_here(patients):
    sets = data.load(patients)
    groups = [set(split.groups) for split in sets.values()]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 20
    limited = data.load(replace(patients, train_limit=12))["train"]
    assert len(limited) == 12 and len(set(limited.groups)) == 4


@pytest.mark.parametrize("way", ["column", "file"])
def test_a_straddling_patient_in_the_users_split_is_refused(patients, tmp_path, way, capsys):
    if way == "column":
        config = replace(patients, split="part")
    else:
        path = tmp_path / "s.json"
        lists = {"train": [f"i{n}" for n in range(40)], "val": [f"i{n}" for n in range(40, 48)],
                 "test": [f"i{n}" for n in range(48, 60)]}  # fmt: skip
        path.write_text(json.dumps({"splits": lists}))
        config = replace(patients, splits=str(path))
    with pytest.raises(UserError, match=r"leak: 1 x same group, the first: same group \[p(0|13)\]: "):
        data.load(config)
    assert {"train", "val", "test"} == set(data.load(replace(config, allow_leaks=True)))
    assert "leak: 1 x same group" in capsys.readouterr().out


def test_unreadable_images_fail_or_are_listed(config, class_folders, capsys):
    for name in ("a/03.png", "b/07.png"):
        (class_folders / name).write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"a/03.png is not an image.*and 1 more images.*on_error=skip"):
        data.load(config)
    sets = data.load(replace(config, on_error="skip"))
    assert sum(len(split) for split in sets.values()) == 58
    out = capsys.readouterr().out
    assert "skipped 2 of 60 images" in out and "a/03.png" in out and "b/07.png" in out
    for split in sets.values():
        assert not set(split.ids) & {"a/03.png", "b/07.png"}


def test_rows_without_file_can_be_skipped(patients):
    Path(patients.root, "i5.png").unlink()
    with pytest.raises(UserError, match="row 7 names image 'i5'"):
        data.load(patients)
    sets = data.load(replace(patients, on_error="skip"))
    assert sum(len(split) for split in sets.values()) == 59


def test_columns_follow_their_images(patients):
    for split in data.load(patients).values():
        number = [int(name[1:]) // 3 for name in split.ids]
        assert split.groups.tolist() == [f"p{patient}" for patient in number]
        assert len(split.columns["part"]) == len(split)


def test_arrays_are_split_like_files():
    images = np.random.default_rng(0).integers(0, 256, (100, 6, 6), dtype=np.uint8)
    sets = data.from_arrays(images, np.arange(100) % 2, DataConfig(image_size=6))
    assert {name: len(split) for name, split in sets.items()} == {"train": 70, "val": 15, "test": 15}
    for split in sets.values():
        for place, name in enumerate(split.ids):
            got = split.images.read(np.array([place]))[0]
            assert np.array_equal(got, np.repeat(images[int(name)][..., None], 3, -1))
    with pytest.raises(UserError, match="3 labels for 100 images"):
        data.from_arrays(images, np.arange(3), DataConfig(image_size=6))


def test_a_split_without_images_and_a_class_without_training(tmp_path, save):
    for name in "ab":
        save(tmp_path / "two" / name / "1.png", ord(name))
    with pytest.raises(UserError, match="has no images; it needs more"):
        data.load(DataConfig(name="folder", path=str(tmp_path / "two"), image_size=8))
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6), dtype=np.uint8)
    labels = np.repeat([0, 1, 2], 10)
    split = np.repeat(["train", "val", "test"], 10)
    lists = {name: np.flatnonzero(split == name) for name in ("train", "val", "test")}
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"splits": {k: [f"{n:06d}" for n in v] for k, v in lists.items()}}))
    with pytest.raises(UserError, match="class '1' .* has no image in train"):
        data.from_arrays(images, labels, DataConfig(image_size=6, splits=str(path)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "foldr"}, "did you mean 'folder'"),
        ({"name": "phantom/mrt"}, "did you mean 'phantom/mri'"),
        ({"duplicates": "nearly"}, "did you mean 'near'"),
        ({"likeness": 1.2}, "data.likeness=1.2"),
        ({"resize": "squish"}, "did you mean 'squash'"),
        ({"on_error": "ignore"}, "choose from: fail, skip"),
        ({"path": ""}, "data.path is empty"),
        ({"image_size": 0}, "data.image_size=0"),
        ({"pad_value": 300}, "data.pad_value=300"),
        ({"val_fraction": 0.0}, "data.val_fraction=0.0"),
        ({"val_fraction": 0.6, "test_fraction": 0.5}, "leave nothing"),
        ({"folds": 2}, "folds are 3 or more"),
        ({"folds": 5, "fold": 5}, "data.fold=5"),
        ({"train_share": 0.0}, "data.train_share=0.0"),
        ({"train_share": 0.5, "train_limit": 9}, "and 1 with data.train_limit"),
        ({"train_limit": -1}, "data.train_limit=-1"),
        ({"group": "patient"}, "data.group='patient' .*csv"),
        ({"split": "part"}, "data.split='part' .* csv"),
        ({"name": "phantom/mri"}, "data.path=.* is not read by data.name=phantom/mri"),
        ({"name": "phantom/mri", "path": "", "group": "patient"}, "data.group='patient' .* csv"),
        ({"name": "phantom/mri", "path": "", "splits": "s.json"}, "data.splits='s.json'.* phantom"),
        ({"name": "phantom/mri", "path": "", "folds": 5}, "data.folds=5.* phantom"),
    ],
)
def test_fields_that_make_no_sense(config, fields, message):
    with pytest.raises(UserError, match=message):
        data.load(replace(config, **fields))


def test_parts_of_different_length_are_refused(config):
    split = data.load(config)["val"]
    with pytest.raises(ValueError, match="differ in length"):
        replace(split, labels=split.labels[:-1])


@pytest.mark.skipif(not SHARED.exists(), reason="shared data are absent")
def test_breastmnist_has_its_official_split():
    path = SHARED / "medmnist" / "breastmnist.npz"
    sets = data.load(DataConfig(name="npz", path=str(path), image_size=28, allow_leaks=True))
    assert [len(sets[name]) for name in ("train", "val", "test")] == [546, 78, 156]
    with np.load(path) as file:
        for name, split in sets.items():
            assert np.array_equal(split.labels, file[f"{name}_labels"].ravel())
            everyone = split.images.read(np.arange(len(split)))
            assert np.array_equal(everyone[..., 1], file[f"{name}_images"])


@pytest.mark.skipif(not SHARED.exists(), reason="shared data are absent")
def test_ham10000_lesions_do_not_straddle():
    config = DataConfig(
        name="csv",
        path=str(SHARED / "ham10000" / "metadata.csv"),
        root=str(SHARED / "ham10000" / "images"),
        image="image_id",
        label="dx",
        group="lesion_id",
        image_size=8,
        duplicates="near",  # altered copies join four pairs of lesions more (docs/leaks.md), in a minute
    )
    sets = data.load(config)
    assert sum(len(split) for split in sets.values()) == 10015
    groups = [set(split.groups) for split in sets.values()]
    assert len(set().union(*groups)) == sum(map(len, groups)) == 7466
    whole = np.concatenate([split.labels for split in sets.values()])
    for name in ("val", "test"):
        share = np.bincount(sets[name].labels, minlength=7) / np.bincount(whole)
        np.testing.assert_allclose(share, 0.15, atol=0.02)


def test_phantoms_are_loaded_by_name_and_obey_the_limit():
    config = DataConfig(name="phantom/mri", image_size=16, phantom_patients=40, phantom_images_per_patient=2)
    whole, limited = data.load(config), data.load(replace(config, train_limit=10))
    assert list(whole) == ["train", "val", "test", "shifted"]
    assert len(limited["train"]) == 10 and len(set(limited["train"].groups)) == 5
    assert set(limited["train"].ids) < set(whole["train"].ids)
    for name in ("val", "test", "shifted"):
        assert limited[name].ids.tolist() == whole[name].ids.tolist()


def test_arrays_have_no_column_to_group_by():
    images = np.zeros((10, 6, 6), np.uint8)
    with pytest.raises(UserError, match="data.group='patient'"):
        data.from_arrays(images, np.arange(10) % 2, DataConfig(image_size=6, group="patient"))


def test_skipped_images_come_back_with_their_reason(config, class_folders):
    (class_folders / "a" / "03.png").write_bytes(b"damaged")
    sets = data.load(replace(config, on_error="skip", train_limit=10))
    for split in sets.values():
        assert len(split.skipped) == 1
        assert "a/03.png is not an image" in split.skipped[0]
    (class_folders / "a" / "03.png").unlink()
    assert all(split.skipped == () for split in data.load(config).values())


def test_progress_counts_every_image_in_order(config):
    seen = []
    data.load(config, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 60) for number in range(1, 61)]


@pytest.mark.parametrize(("column", "kind"), [(1, "positive"), (0, "negative")])
def test_a_label_that_train_cannot_teach_is_refused(table, column, kind):
    # y is 1 in the test rows only (kind "positive"), or 0 there only (kind "negative")
    part = ["train"] * 8 + ["val"] * 2 + ["test"] * 4
    rows = [f"i{n},{n % 2},{int((part[n] == 'test') == bool(column))},{part[n]}" for n in range(14)]
    path = table("\n".join(["image,x,y,part", *rows]))
    config = DataConfig(
        name="csv", path=str(path), root=str(path.parent / "images"), label="x,y", split="part", image_size=8
    )
    with pytest.raises(UserError, match=f"label 'y' .* has no {kind} in train"):
        data.load(config)


def test_labels_that_an_evaluation_split_lacks_are_told(table, capsys):
    part = ["train"] * 8 + ["val"] * 2 + ["test"] * 4
    rows = [f"i{n},{n % 2},{int(n % 3 == 0 and part[n] != 'val')},{part[n]}" for n in range(14)]
    path = table("\n".join(["image,x,y,part", *rows]))
    data.load(DataConfig(name="csv", path=str(path), root=str(path.parent / "images"), label="x,y",
                         split="part", image_size=8))  # fmt: skip
    assert "note: val has no positive of y" in capsys.readouterr().out


@pytest.fixture
def mixed_patients() -> tuple[np.ndarray, np.ndarray]:
    """Class 1 stands only in patients who have the rarer class 2 too."""
    patients = [[2, 1, 1, 1]] * 10 + [[2]] * 8 + [[0]] * 67
    groups = np.repeat([f"p{number}" for number in range(85)], [len(own) for own in patients])
    return np.concatenate(patients).astype(np.int32), groups


def test_a_limit_that_loses_a_class_is_refused(mixed_patients, table):
    labels, groups = mixed_patients
    rows = [f"i{n},{label},{group}" for n, (label, group) in enumerate(zip(labels, groups, strict=True))]
    path = table("\n".join(["image,label,patient", *rows]))
    config = DataConfig(name="csv", path=str(path), root=str(path.parent / "images"), group="patient",
                        image_size=8)  # fmt: skip
    outcomes = set()
    for seed in range(6):
        try:
            training = data.load(replace(config, split_seed=seed, train_limit=2))["train"]
        except UserError as error:
            assert "data.train_limit=2 leaves class '1' without a training image" in str(error)
            outcomes.add("refused")
        else:
            assert set(training.labels) == {0, 1, 2}
            outcomes.add("whole")
    assert outcomes == {"refused", "whole"}


def test_a_limit_that_whole_groups_miss_is_told(patients, capsys):
    data.load(replace(patients, train_limit=10))
    assert "data.train_limit=10: 9 of" in capsys.readouterr().out
    data.load(replace(patients, train_limit=12))
    assert "train_limit" not in capsys.readouterr().out


@pytest.mark.parametrize(("name", "package"), [("dicom", "pydicom"), ("nifti", "nibabel")])
def test_a_missing_extra_is_named(config, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)  # what import finds where it is not installed
    with pytest.raises(UserError, match=f"data.name={name} needs {package}: pip install 'ttl-jax.{name}.'"):
        data.load(replace(config, name=name))


def test_the_rule_of_older_splits_is_gone_but_where_the_data_have_splits(class_folders, tmp_path):
    config = DataConfig(name="folder", path=str(class_folders), image_size=8, split_rule=1)
    with pytest.raises(UserError, match="split_rule=1 is gone, .* has no test and no val.*start anew"):
        data.load(config)
    kept = str(tmp_path / "kept.json")
    sets = data.load(replace(config, split_rule=2, splits=kept))
    again = data.load(replace(config, splits=kept))
    assert all(np.array_equal(sets[name].ids, again[name].ids) for name in sets)
    with pytest.raises(UserError, match="split_rule=3 is neither"):
        data.load(replace(config, split_rule=3))


def test_the_origin_of_a_split_is_told(config, class_folders, tmp_path, save):
    import shutil

    assert data.load(config)["val"].origin.splits_from == "made anew by data.split_seed=0: no copies found"
    for number in range(4):  # copies of two images of class a
        shutil.copy(class_folders / "a" / "00.png", class_folders / "a" / f"copy{number}.png")
    shutil.copy(class_folders / "a" / "01.png", class_folders / "a" / "again.png")
    origin = data.load(config)["val"].origin
    assert origin.splits_from == "made anew by data.split_seed=0: 7 copies kept together"
    assert origin.source == f"folder {class_folders}"
    assert data.load(replace(config, duplicates="ignore"))["val"].origin.splits_from.endswith(
        "copies not looked for"
    )
    assert data.load(replace(config, folds=4, fold=1))["val"].origin.splits_from.startswith(
        "fold 1 of 4 by data"
    )
    file = str(tmp_path / "split.json")
    data.load(replace(config, splits=file))
    assert data.load(replace(config, splits=file))["val"].origin.splits_from == file
    for number in range(32):
        place = ("train" if number % 2 else "test", "ab"[number // 2 % 2], f"{number}.png")
        save(tmp_path.joinpath("own", *place), 1000 + number)
    told = data.load(replace(config, path=str(tmp_path / "own")))["val"].origin.splits_from
    assert told.startswith("the data's own, the folders test/, train/; val made anew by data.split_seed=0")


def test_images_of_one_colour_are_told(config, class_folders, tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (12, 10), (9, 9, 9)).save(class_folders / "a" / "00.png")
    data.load(config)
    assert "1 of 60 images show one colour throughout, the first is" in capsys.readouterr().out
    for number in range(12):
        path = tmp_path / "clear" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (12, 10, 4), np.uint8)
        pixels[..., 3] = 0
        Image.fromarray(pixels).save(path)
    for duplicates in ("altered", "ignore"):
        with pytest.raises(UserError, match="all 12 images .* show one colour.*transparent throughout"):
            data.load(replace(config, path=str(tmp_path / "clear"), duplicates=duplicates))


def test_a_data_set_knows_the_key_that_its_patients_are_hashed_under(tmp_path, monkeypatch):
    pytest.importorskip("pydicom")
    from .dicom_files import save_dicom

    pixels = np.random.default_rng(0).integers(0, 4096, (24, 8, 8), dtype=np.uint16)
    for number, each in enumerate(pixels):
        save_dicom(tmp_path / "d" / "ab"[number % 2] / f"{number}.dcm", each, PatientID=f"MRN-{number:07}")
        path = tmp_path / "f" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((each >> 4).astype(np.uint8)).save(path)
    keys = {}
    for key in ("one", "other"):
        monkeypatch.setenv(patient_key.KEY_VARIABLE, key)
        for name in "df":
            config = DataConfig(
                name={"d": "dicom", "f": "folder"}[name], path=str(tmp_path / name), image_size=8
            )
            keys[key, name] = data.load(config)["train"].origin.key
        assert keys[key, "d"] == patient_key.key_digest() != ""
    assert keys["one", "d"] != keys["other", "d"] and keys["one", "f"] == keys["other", "f"] == ""
