from dataclasses import replace

import numpy as np
import pytest

from ttl_jax.config.data import DataConfig
from ttl_jax.data.sources.csv_table import read_table
from ttl_jax.errors import UserError


@pytest.fixture
def read(table, tmp_path):
    def run(text: str, encoding: str = "utf-8", images: int | None = None, **fields):
        path = table(text, encoding, images)
        config = DataConfig(name="csv", path=str(path), root=str(tmp_path / "images"))
        return read_table(replace(config, **fields))

    return run


def test_words_become_sorted_classes(read):
    found = read("image,label\ni0.png,nevus\ni1.png,melanoma\ni2.png,nevus\n")
    assert found.class_names == ("melanoma", "nevus")
    assert found.labels.tolist() == [1, 0, 1] and found.labels.dtype == np.int32
    assert found.ids.tolist() == found.groups.tolist() == ["i0.png", "i1.png", "i2.png"]


def test_integers_are_sorted_by_value(read):
    found = read("image,label\ni0,10\ni1,9\ni2,10\n")
    assert found.class_names == ("9", "10") and found.labels.tolist() == [1, 0, 1]


def test_names_without_ending_find_their_file(read, save, tmp_path):
    save(tmp_path / "images" / "1.2.840.5.png", 9)
    found = read("image,label\ni0,a\ni1.png,b\n1.2.840.5,a\n", images=2)
    assert [file.name for file in found.images] == ["i0.png", "i1.png", "1.2.840.5.png"]


def test_the_root_is_the_tables_folder_when_not_given(table):
    path = table("image,label\nimages/i0,a\nimages/i1,b\nimages\\i2.png,a\n")
    found = read_table(DataConfig(name="csv", path=str(path)))
    assert all(file.exists() for file in found.images)


def test_several_labels_with_unknowns(read):
    found = read("image,x,y\ni0,1,0\ni1,,1\ni2,-1,1.0\ni3,0,nan\n", label="x, y")
    want = [[1, 0], [np.nan, 1], [np.nan, 1], [0, np.nan]]
    assert found.task == "multilabel" and found.class_names == ("x", "y")
    np.testing.assert_array_equal(found.labels, np.array(want, np.float32))
    assert found.labels.dtype == np.float32


def test_groups_splits_and_other_columns(read):
    found = read(
        "image,label,patient,part,age,sex,code\n"
        "i0,a,p1,Train,40,f,007\ni1,b,p1,training,,m,12\ni2,a,p2,Validation,61.5,,3\n",
        group="patient",
        split="part",
    )
    assert found.groups.tolist() == ["p1", "p1", "p2"]
    assert found.splits.tolist() == ["train", "train", "val"]
    assert set(found.columns) == {"age", "sex", "code"}
    np.testing.assert_array_equal(found.columns["age"], [40, np.nan, 61.5])
    assert found.columns["sex"].tolist() == ["f", "m", ""]
    assert found.columns["code"].tolist() == ["007", "12", "3"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_encodings_and_delimiters(read, encoding, delimiter):
    text = 'image,label,note\r\ni0,Nävus,"x"\r\n\r\ni1,andere,y\r\ni2,Nävus,z\r\n,,\r\n'
    found = read(text.replace(",", delimiter), encoding, images=3)
    assert found.class_names == ("Nävus", "andere")
    assert list(found.columns) == ["note"]


def test_quoted_cells_may_hold_delimiters_and_line_ends(read):
    found = read('image,label,note\ni0,a,"x, ""y""\nz"\ni1,b,n\n', images=2)
    assert found.columns["note"].tolist() == ['x, "y"\nz', "n"]
    assert "row 4" in found.where[1]


TABLE_FAULTS = [
    ("image,diagnosis\ni0,a\ni1,b\n", {"label": "diagnosi"}, "did you mean 'diagnosis'"),
    ("image,label\ni0,a\ni1,b\n", {"image": "imge"}, "'imge' for data.image.*'image'"),
    ("image,label\ni0,a\ni1,b\n", {"group": "patient"}, "'patient' for data.group"),
    ("image,label\ni0,a\ni1,b\ni9,a\n", {}, "row 4 names image 'i9', but there is no"),
    ("image,label\ni0,a\ni1,\n", {}, "row 3 has no label"),
    ("image,label\ni0,1\ni1,0.5\n", {}, "row 3 has 0.5 in label column"),
    ("image,label\ni0,1\ni1,yes\n", {}, "row 3 has a word .'yes'. .*an integer"),
    ("image,label\ni0,yes\ni1,1\n", {}, "row 3 has an integer .'1'. .*a word"),
    ("image,label\ni0,a\ni1,a\n", {}, "one class only"),
    ("image,label\ni0,Naevus\ni1,b\ni0b,naevus\n", {"on_error": "skip"}, "write the class one way"),
    ("image,label\ni0,a\ni1,b\ni2,c\n", {}, "another value in every row"),
    ("image,label\ni0,a\ni0,b\n", {}, "row 3 names image 'i0', which row 2 names too"),
    ("image,label\n../i0,a\ni1,b\n", {}, "row 2 .*leads out of data.root"),
    ("image,label\n/etc/passwd,a\ni1,b\n", {}, "row 2 .*leads out of data.root"),
    ("image,label\n,a\ni1,b\n", {}, "row 2 names no image"),
    ("image,label\ni0,a\ni1\n", {}, "row 3 has 1 cells where the header has 2"),
    ("image,label\n", {}, "has no rows"),
    ("image,label,label\ni0,a,a\ni1,b,b\n", {}, "two columns named 'label'"),
    ("image,x,y\ni0,1,0\ni1,2,1\n", {"label": "x,y"}, "row 3 has '2' in label column 'x'"),
    ("image,x,y\ni0,1,0\ni1,,1\n", {"label": "x,y"}, "'x' has only 1"),
    ("image,x,y\ni0,,0\ni1,,1\n", {"label": "x,y"}, "'x' has nothing known"),
    ("image,label,s\ni0,a,train\ni1,b,dev\n", {"split": "s"}, "row 3 has 'dev' in split"),
    ("image,label,g\ni0,a,p\ni1,b,\n", {"group": "g"}, "row 3 has no group"),
    ("image,label,g\ni0,a,p\ni1,b,NA\n", {"group": "g"}, "row 3 has no group .'NA'."),
    ("image,label\ni0,a\ni1,b\ni0.png,a\n", {}, "row 4 names image 'i0.png', the file of row 2"),
    ("image,label\ni0,a\ni1,b\n./i1,a\n", {}, "row 4 names image './i1', the file of row 3"),
    ("image,label\ni0,a\ni1,b\nx9,a\n./x9,a\n", {"on_error": "skip"}, "row 5 .* the file of row 4"),
    ('image,label\ni0,"a\ni1,b\n', {}, "is not CSV"),
    ("image,label\ni0,a\ni1,b\n", {"root": "/nowhere"}, "data.root='/nowhere' is not a folder"),
    ("image,label\ni0,a\0\ni1,b\n", {}, "not a text file"),
]


@pytest.mark.parametrize(("text", "fields", "message"), TABLE_FAULTS)
def test_faults_name_row_and_column(read, text, fields, message):
    with pytest.raises(UserError, match=message) as caught:
        read(text, **fields)
    assert "\n" not in str(caught.value)


def test_two_files_that_fit_are_ambiguous(read, save, tmp_path):
    save(tmp_path / "images" / "i0.jpg", 1)
    with pytest.raises(UserError, match="could be i0.jpg or i0.png"):
        read("image,label\ni0,a\ni1,b\n")


def test_all_missing_files_are_counted(read):
    with pytest.raises(UserError, match="row 3 .*and 2 rows more"):
        read("image,label\ni0,a\nx1,b\nx2,b\nx3,a\n", images=1)


def test_a_missing_table(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_table(DataConfig(name="csv", path=str(tmp_path / "t.csv")))
    with pytest.raises(UserError, match="cannot be read"):
        read_table(DataConfig(name="csv", path=str(tmp_path)))


@pytest.mark.parametrize("missing", ["", "NA", "nan", "null"])
def test_numbers_with_gaps_stay_numbers(read, missing):
    found = read(f"image,label,age\ni0,a,40\ni1,b,{missing}\ni2,a,61.5\n")
    np.testing.assert_array_equal(found.columns["age"], [40, np.nan, 61.5])
