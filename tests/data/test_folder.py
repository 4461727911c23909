import shutil

import numpy as np
import pytest

from ttl_jax.data.sources.folder import read_folder
from ttl_jax.errors import UserError


@pytest.fixture
def split_folders(tmp_path, save):
    seed = 0
    for split, count in (("Training", 6), ("valid", 2), ("testing", 3)):
        for name in ("b", "a"):
            for number in range(count):
                save(tmp_path / "set" / split / name / f"{number}.png", seed)
                seed += 1
    return tmp_path / "set"


def test_class_folders(class_folders):
    found = read_folder(class_folders)
    assert found.class_names == ("a", "b") and found.task == "multiclass"
    assert np.bincount(found.labels).tolist() == [40, 20] and found.labels.dtype == np.int32
    assert found.ids[0] == "a/00.png" and len(set(found.ids)) == 60
    assert np.array_equal(found.groups, found.ids)
    assert set(found.splits) == {""}
    for file, label in zip(found.images, found.labels, strict=True):
        assert file.parent.name == found.class_names[label]


def test_split_folders_by_any_of_their_names(split_folders):
    found = read_folder(split_folders)
    names, counts = np.unique(found.splits, return_counts=True)
    assert dict(zip(names, counts, strict=True)) == {"train": 12, "val": 4, "test": 6}
    assert found.class_names == ("a", "b")
    for item, split in zip(found.ids, found.splits, strict=True):
        assert item.split("/")[0] == {"train": "Training", "val": "valid", "test": "testing"}[split]


def test_deeper_folders_belong_to_their_class(class_folders, save):
    save(class_folders / "a" / "patient7" / "scan.JPG", 1)
    found = read_folder(class_folders)
    assert found.labels[list(found.ids).index("a/patient7/scan.JPG")] == 0


def test_other_files_are_counted_aloud_and_hidden_ones_passed_over(class_folders, save, capsys):
    (class_folders / "a" / "notes.txt").write_text("x")
    (class_folders / "readme.md").write_text("x")
    save(class_folders / ".cache" / "x.png", 1)
    (class_folders / "a" / ".DS_Store").write_text("x")
    assert len(read_folder(class_folders).ids) == 60
    assert "left out 2 files" in capsys.readouterr().out


def test_a_class_called_test_is_a_class(tmp_path, save):
    save(tmp_path / "control" / "1.png", 1)
    save(tmp_path / "test" / "2.png", 2)
    assert read_folder(tmp_path).class_names == ("control", "test")


def test_links_to_folders_are_followed(class_folders, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.move(class_folders / "b", moved)
    (class_folders / "b").symlink_to(moved)
    assert np.bincount(read_folder(class_folders).labels).tolist() == [40, 20]


@pytest.mark.parametrize("target", ["a", ".", "..", "a/deep"])
def test_links_in_a_circle_are_refused(class_folders, target):
    (class_folders / "a" / "deep").mkdir()
    (class_folders / "a" / "deep" / "round").symlink_to((class_folders / target).resolve())
    with pytest.raises(UserError, match="link"):
        read_folder(class_folders)


def test_faults_are_one_sentence(tmp_path, class_folders, split_folders, save):
    with pytest.raises(UserError, match="is not a folder"):
        read_folder(tmp_path / "nowhere")
    (class_folders / "c").mkdir()
    with pytest.raises(UserError, match="class folder .*/c holds no image"):
        read_folder(class_folders)
    (class_folders / "c" / "x.dcm").write_text("x")
    with pytest.raises(UserError, match="only files ending in .dcm; read DICOM files with data.name=dicom"):
        read_folder(class_folders)
    shutil.rmtree(class_folders / "c")
    shutil.rmtree(class_folders / "b")
    with pytest.raises(UserError, match=r"one class only \(a\)"):
        read_folder(class_folders)
    with pytest.raises(UserError, match="no folders in it"):
        read_folder(class_folders / "a")
    save(split_folders / "testing" / "A" / "x.png", 1)
    with pytest.raises(UserError, match="'A' stands in test.*not in train"):
        read_folder(split_folders)
    shutil.rmtree(split_folders / "testing" / "A")
    (split_folders / "masks").mkdir()
    with pytest.raises(UserError, match="masks/ beside train"):
        read_folder(split_folders)
    (split_folders / "masks").rename(split_folders / "train")
    with pytest.raises(UserError, match="both mean train"):
        read_folder(split_folders)
    (split_folders / "train").rmdir()
    shutil.rmtree(split_folders / "Training")
    with pytest.raises(UserError, match="no train folder"):
        read_folder(split_folders)
