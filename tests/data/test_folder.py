import shutil

import numpy as np
import pytest
from PIL import Image

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


def patients(root, save, masks=False):
    """Two classes of four patients of three scans; patient P0 in both."""
    for number, label in enumerate("ab"):
        for patient in range(4):
            name = f"P{patient + 4 * number if patient else 0}"
            for scan in range(3):
                save(root / label / name / f"{scan}.png", 100 * number + 10 * patient + scan)
                if masks:
                    save(root / label / name / f"{scan}_mask.png", 500 + 100 * number + 10 * patient + scan)
    return root


def test_folders_within_classes_are_patients(tmp_path, save, capsys):
    found = read_folder(patients(tmp_path / "set", save))
    assert found.groups.tolist() == [name.split("/")[1] for name in found.ids] and len(set(found.groups)) == 7
    assert "the 7 folders within the classes are patients" in found.notes[0]
    assert found.notes[0] in capsys.readouterr().out
    assert read_folder(tmp_path / "set", group="file").groups.tolist() == found.ids.tolist()
    with pytest.raises(UserError, match="data.group='patient' is for a table"):
        read_folder(tmp_path / "set", group="patient")


def test_folders_that_part_a_class_are_not_patients(tmp_path, save):
    for label in "ab":
        for side in ("left1", "right1"):
            for number in range(4):
                save(tmp_path / "set" / label / side / f"{number}.png", ord(label) + number)
    found = read_folder(tmp_path / "set")
    assert found.groups.tolist() == found.ids.tolist() and "not taken for patients" in found.notes[0]
    assert set(read_folder(tmp_path / "set", group="folder").groups) == {"left1", "right1"}


def test_masks_beside_images_are_no_images(tmp_path, save, capsys):
    found = read_folder(patients(tmp_path / "set", save, masks=True))
    assert len(found.ids) == 24 and not any("mask" in name for name in found.ids)
    assert "left out 24 masks beside the images, as a/P0/0_mask.png" in capsys.readouterr().out
    for number in range(4):
        save(tmp_path / "apart" / "ab"[number % 2] / "images" / f"{number}.png", number)
        save(tmp_path / "apart" / "ab"[number % 2] / "masks" / f"{number}.png", number + 50)
        save(tmp_path / "before" / "ab"[number % 2] / f"img_{number}.png", number)
        save(tmp_path / "before" / "ab"[number % 2] / f"mask_{number}.png", number + 50)
        save(tmp_path / "plain" / "ab"[number % 2] / f"unmask_{number}.png", number)
        save(tmp_path / "plain" / "ab"[number % 2] / f"face_mask_{number}.png", number + 90)
    assert read_folder(tmp_path / "apart").ids.tolist() == [
        f"{'ab'[n % 2]}/images/{n}.png" for n in (0, 2, 1, 3)
    ]
    assert all("/img_" in name for name in read_folder(tmp_path / "before").ids)
    assert len(read_folder(tmp_path / "plain").ids) == 8  # no image stands beside them under the same name
    with pytest.raises(UserError, match="images and their masks"):
        read_folder(tmp_path / "apart" / "a")


MASKS = {
    "x_lung_mask.png": "left out 4", "xMask.png": "left out 4", "x_roi.png": "left out 4",
    "masks/x.png": "left out 4", "../masks/x.png": "left out 4", "../masks/LABEL/x.png": "left out 4",
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_masks_in_every_place(tmp_path, save, name, capsys):
    for number in range(4):
        label, stem = "ab"[number % 2], f"i{number}"
        save(tmp_path / "set" / label / f"{stem}.png", number)
        place = name.replace("LABEL", label)
        end = place.rpartition("/")[2].replace("x", stem, 1)
        save(tmp_path / "set" / label / place.rpartition("/")[0] / end, number + 50)
    found = read_folder(tmp_path / "set")
    assert found.ids.tolist() == ["a/i0.png", "a/i2.png", "b/i1.png", "b/i3.png"]
    assert found.class_names == ("a", "b") and MASKS[name] in capsys.readouterr().out


def test_a_class_called_mask_is_one_where_it_holds_images_of_its_own(tmp_path, save):
    for number in range(4):
        save(tmp_path / ("mask", "none")[number % 2] / f"{number}.png", number)
    assert read_folder(tmp_path).class_names == ("mask", "none")


def test_patients_above_the_classes_and_an_empty_folder_beside_the_set(tmp_path, save, class_folders):
    for number in range(6):
        save(tmp_path / "patients" / f"P{number}" / "ab"[number % 2] / "x.png", number)
    with pytest.raises(UserError, match="its folders, as P0 and P1, hold a, b.*in a table"):
        read_folder(tmp_path / "patients")
    (tmp_path / "outer" / "docs").mkdir(parents=True)
    class_folders.rename(inner := tmp_path / "outer" / "set")
    with pytest.raises(UserError, match=f"a, b: set data.path={inner}"):
        read_folder(tmp_path / "outer")


def test_a_path_that_is_off_by_one_folder_is_named(tmp_path, save, class_folders):
    (outer := tmp_path / "outer").mkdir()
    class_folders.rename(inner := outer / "set")
    with pytest.raises(UserError, match=f"outer holds one folder.*a, b: set data.path={inner}"):
        read_folder(outer)
    with pytest.raises(UserError, match=f"is one class's folder.*data.path={inner}"):
        read_folder(inner / "a")
    for place in ("one", "two"):
        for label in ("benign", "malignant"):
            save(tmp_path / "sites" / place / label / "x.png", 1)
    with pytest.raises(UserError, match="is above the classes: its folders, as one and two, hold benign"):
        read_folder(tmp_path / "sites")


@pytest.mark.parametrize("twin", ["NAEVUS", "naevus ", "nae\u200bvus"])
def test_one_class_in_two_folders_is_refused(tmp_path, twin):
    for number, name in enumerate(("naevus", "other", twin)):
        path = tmp_path / "set" / name / f"{number}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(path)
    with pytest.raises(UserError, match="differ in case, accents or spaces alone"):
        read_folder(tmp_path / "set")
