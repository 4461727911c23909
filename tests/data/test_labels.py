"""Labels as people have them are read as they are meant, and the note says how."""

import numpy as np
import pytest

from ttl_jax import data
from ttl_jax.config import DataConfig
from ttl_jax.data.sources.csv_table import read_table
from ttl_jax.data.sources.npz import read_arrays, read_npz
from ttl_jax.errors import UserError


@pytest.fixture
def read(table, tmp_path):
    """read(header, rows, ...): a table whose first column names images, read by the columns after it."""

    def run(header, rows, label="label", how="auto", delimiter=","):
        lines = [delimiter.join((f"i{number}.png", *row)) for number, row in enumerate(rows)]
        path = table("\n".join([delimiter.join(["image", *header]), *lines]))
        return read_table(DataConfig("csv", str(path), str(tmp_path / "images"), label=label, labels=how))

    return run


NIH = ["No Finding", "Cardiomegaly", "Cardiomegaly|Effusion", "Effusion", "Effusion|Mass", "Mass"]


def test_bars_part_several_labels(read):
    found = read(["label"], [[cell] for cell in NIH])
    assert found.class_names == ("Cardiomegaly", "Effusion", "Mass") and found.task == "multilabel"
    assert found.labels.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert "split at '|': 3 labels, several an image, 'No Finding' meaning none of them" in found.notes[0]
    assert read(["label"], [[cell] for cell in NIH * 2], how="classes").task == "multiclass"
    apart = read(["label"], [["left|right"], ["up|down"]] * 3)  # no piece stands anywhere else
    assert apart.task == "multiclass" and apart.class_names == ("left|right", "up|down")


def test_semicolons_and_commas_part_labels_too(read):
    found = read(["label"], [["a;b"], ["b"], ["a"], ["c"]])
    assert found.class_names == ("a", "b", "c") and found.labels[0].tolist() == [1, 1, 0]
    found = read(["label"], [["a, b"], ["b"], ["a"], ["c"]], delimiter="\t")
    assert found.labels.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
    names = ["left, upper", "left, lower", "right, upper", "right, lower"]
    found = read(["label"], [[name] for name in names * 2], delimiter="\t")
    assert found.task == "multiclass" and found.class_names == tuple(sorted(names))


@pytest.mark.parametrize("mark", ["/", "+", " & ", ", "])
def test_marks_that_names_have_part_labels_where_all_their_parts_are_labels(read, mark):
    found = read(["label"], [[f"a{mark}b"], ["b"], ["a"], ["c"]], delimiter="\t")
    assert found.class_names == ("a", "b", "c") and found.labels[0].tolist() == [1, 1, 0]
    for names in ((f"a{mark}b", "a", "c"), (f"a{mark}", "a", "c")):  # HER2 and HER2+ are two classes
        found = read(["label"], [[name] for name in names * 2], delimiter="\t")
        assert found.task == "multiclass" and found.class_names == tuple(
            sorted({each.strip() for each in names})
        )


def test_sets_without_quotes_are_several_labels_beside_words(read):
    found = read(["label"], [["{a,b}"], ["a"], ["b"]], delimiter="\t")
    assert found.class_names == ("a", "b") and found.labels.tolist() == [[1, 1], [1, 0], [0, 1]]


@pytest.mark.parametrize("twin", ["e\u0301ruption", "\u00e9ruption\u200b", "\u00c9RUPTION"])
def test_one_class_in_two_forms_is_refused(read, twin):
    with pytest.raises(UserError, match="write the class one way"):
        read(["label"], [["\u00e9ruption"], ["other"], [twin]] * 2)


@pytest.mark.parametrize("one, other", [("3", "3.0"), ("P7", "p7"), ("Zo\u00eb", "Zoe\u0308")])
def test_one_patient_in_two_forms_is_one_group(table, tmp_path, capsys, one, other):
    rows = [f"i{n}.png,{'ab'[n % 2]},{(one, other, 'x', 'y')[n % 4]}" for n in range(8)]
    path = table("\n".join(["image,label,who", *rows]))
    found = read_table(DataConfig("csv", str(path), str(tmp_path / "images"), group="who"))
    assert sorted(set(found.groups)) == sorted({one, "x", "y"})
    said = capsys.readouterr().out
    assert "1 of the groups in column 'who' are written in several ways" in said and "row 3 differs" in said


def test_lists_of_words_are_several_labels(read):
    cells = ["['b', 'a']", "['a']", "[]", "['normal']", '["b"]']
    found = read(["label"], [[cell] for cell in cells], delimiter="\t")
    assert found.class_names == ("a", "b")
    assert found.labels.tolist() == [[1, 1], [1, 0], [0, 0], [0, 0], [0, 1]]
    with pytest.raises(UserError, match="row 7 has no label"):
        read(["label"], [[cell] for cell in (*cells, "")], delimiter="\t")


def test_lists_without_quotes_are_several_labels_and_brackets_alone_are_none(read):
    found = read(["l"], [["[edema, mass]"], ["[edema]"], ["[mass]"], ["[]"]], "l", delimiter="\t")
    assert found.class_names == ("edema", "mass") and found.task == "multilabel"
    assert found.labels[:4].tolist() == [[1, 1], [1, 0], [0, 1], [0, 0]]
    assert read(["l"], [["[high]"], ["[/low]"]], "l").class_names == ("[/low]", "[high]")


def test_one_hot_columns_are_a_choice(read):
    rows = [["1.0", "0.0", "0.0"], ["0.0", "0.0", "1.0"], ["0", "1", "0"], ["True", "False", "False"]]
    found = read(["NV", "MEL", "BCC"], rows, "NV,MEL,BCC")
    assert found.task == "multiclass" and found.class_names == ("NV", "MEL", "BCC")
    assert found.labels.tolist() == [0, 2, 1, 0] and found.notes[0].startswith(
        "one-hot over 3 columns: one class"
    )
    several = read(["NV", "MEL", "BCC"], rows, "NV,MEL,BCC", "several")
    assert several.labels.tolist() == np.eye(3)[[0, 2, 1, 0]].tolist() and not several.notes
    more = [*rows, ["1", "1", "0"]]
    assert read(["NV", "MEL", "BCC"], more, "NV,MEL,BCC").task == "multilabel"
    with pytest.raises(UserError, match="row 6 has not one 1"):
        read(["NV", "MEL", "BCC"], more, "NV,MEL,BCC", "classes")


def test_whole_floats_are_integers_and_one_uncertain_label_is_one(read):
    found = read(["label"], [["1.0"], ["0.0"], ["10.0"], ["1"]])
    assert found.class_names == ("0", "1", "10") and found.labels.tolist() == [1, 0, 2, 1]
    found = read(["Edema"], [["1.0"], ["0.0"], ["-1.0"], [""]], "Edema")
    np.testing.assert_array_equal(found.labels, [[1], [0], [np.nan], [np.nan]])
    assert found.class_names == ("Edema",) and "one label of 1, 0 and unknown" in found.notes[0]
    with pytest.raises(UserError, match="row 4 has no label .*data.labels=several"):
        read(["Edema"], [["1.0"], ["0.0"], [""]], "Edema")
    found = read(["Edema"], [["1.0"], ["0.0"], [""]], "Edema", "several")
    np.testing.assert_array_equal(found.labels, [[1], [0], [np.nan]])


def test_delimiters_are_those_that_the_rows_have(table, tmp_path):
    def labels(text):
        config = DataConfig("csv", str(table(text, images=2)), str(tmp_path / "images"))
        return read_table(config).labels.tolist()

    assert labels("image;label;size (x,y,z)\ni0;0;3\ni1;1;4\n") == [0, 1]
    assert labels("sep=;\nimage;label\ni0;0\ni1;1\n") == [0, 1]
    assert labels('"sep=|"\nimage|label\ni0|0\ni1|1\n') == [0, 1]
    assert labels("sep=\t\nimage\tlabel\ta;b\ni0\t0\t,\ni1\t1\t,\n") == [0, 1]
    with pytest.raises(UserError, match="row 4 has 3 cells where the header has 2"):
        labels("sep=;\nimage;label\ni0;0\ni1;1;2\n")


IMAGES = np.random.default_rng(0).integers(0, 256, (24, 12, 12), np.uint8)
WORDS = ["benign", "malignant"] * 12


def test_arrays_of_a_notebook():
    pandas = pytest.importorskip("pandas")
    wanted = np.arange(24) % 2
    for labels in (
        pandas.Series(WORDS), np.array(WORDS, object), WORDS, wanted * 1.0, wanted.astype(bool),
        np.array(wanted.tolist(), object), np.array(wanted * 1.0, object),
    ):  # fmt: skip
        found = read_arrays(IMAGES, labels)
        assert found.labels.tolist() == wanted.tolist() and found.task == "multiclass"
    found = read_arrays(list(IMAGES), [["a"], ["a", "b"], []] * 8)
    assert found.labels.tolist() == [[1, 0], [1, 1], [0, 0]] * 8
    found = read_arrays(IMAGES, np.eye(3)[np.arange(24) % 3])
    assert found.task == "multiclass" and found.labels.tolist() == (np.arange(24) % 3).tolist()
    with pytest.raises(UserError, match="image 000001 has no label"):
        read_arrays(IMAGES, np.array([0, np.nan] * 12))


def test_images_of_several_sizes_are_each_resized():
    parts = [IMAGES[0][:9], *IMAGES[1:]]
    config = DataConfig(image_size=16, duplicates="exact")
    sets = data.from_arrays(parts, WORDS, config)
    assert sum(map(len, sets.values())) == 24 and sets["train"].images.read(np.arange(2)).shape == (
        2,
        16,
        16,
        3,
    )
    with pytest.raises(UserError, match=r"image 1 has shape \(5,\)"):
        data.from_arrays([IMAGES[0], np.zeros(5, np.uint8)], ["a", "b"], config)


def test_objects_in_a_file_are_refused_with_the_remedy(tmp_path):
    path = tmp_path / "o.npz"
    np.savez(path, train_images=IMAGES, train_labels=np.array(WORDS, object))
    with pytest.raises(UserError, match=r"train_labels holds Python objects.*np.array\(labels, dtype=str\)"):
        read_npz(path)
