"""The positive class of two is the finding, whatever the alphabet says, and it is class 1."""

from dataclasses import replace

import numpy as np
import pytest

from ttl_jax import data
from ttl_jax.config import DataConfig
from ttl_jax.data.dataset import ArrayReader, Dataset
from ttl_jax.data.positive import positive_second
from ttl_jax.data.published import presets
from ttl_jax.errors import UserError


def sets(names, task="multiclass"):
    labels = np.array([0, 1, 1], np.int32) % len(names)
    if task == "multilabel":
        labels = np.eye(3, len(names), dtype=np.float32)
    ids = np.array(["x", "y", "z"])
    return {
        "train": Dataset(
            "train", labels, ids, ids, names, task, ArrayReader(np.zeros((3, 2, 2, 3), np.uint8))
        )
    }


@pytest.mark.parametrize(
    ("names", "positive"),
    [(("abnormal", "normal"), "abnormal"), (("covid", "healthy"), "covid"),
     (("benign", "malignant"), "malignant"), (("malignant", "normal, benign"), "malignant"),
     (("benign", "normal"), "benign"), (("0", "1"), "1"),
     (("Effusion", "No Finding"), "Effusion"), (("no_tumor", "tumor"), "tumor"),
     (("tumor", "notumor"), "tumor"), (("COVID_negative", "COVID_positive"), "COVID_positive"),
     (("Parasitized", "Uninfected"), "Parasitized"),
     (("False", "True"), "True"), (("cat", "dog"), "dog"), (("case", "control"), "case"),
     (("nevus", "melanoma"), "melanoma"), (("vessel", "aneurysm"), "aneurysm"),
     (("non-COVID", "COVID"), "COVID")],
)  # fmt: skip
def test_the_names_say_which_class_is_positive(names, positive):
    (found,) = positive_second(sets(names), "auto").values()
    assert found.positive == positive
    assert [found.class_names[label] for label in found.labels] == [names[0], names[1], names[1]]
    assert found.origin.notes[-1].startswith(f"positive class: {positive}, not ")


def test_it_is_named_or_left_as_it_was():
    assert positive_second(sets(("cat", "dog")), "cat")["train"].positive == "cat"
    assert positive_second(sets(("abnormal", "normal")), "last")["train"].positive == "normal"
    with pytest.raises(UserError, match=r"data.positive='dgo' is no class \(did you mean 'dog'\?\)"):
        positive_second(sets(("cat", "dog")), "dgo")
    for given in (sets(("a", "b", "c")), sets(("a", "b"), "multilabel")):
        (found,) = positive_second(given, "auto").values()
        assert found.positive == "" and found is given["train"]
        with pytest.raises(UserError, match="is for two classes"):
            positive_second(given, "a")


def test_metrics_are_of_the_positive_class_and_the_split_stays(class_folders):
    (class_folders / "a").rename(class_folders / "normal")
    (class_folders / "b").rename(class_folders / "disease")
    config = DataConfig("folder", str(class_folders), image_size=16, duplicates="ignore")
    by_name, by_last = data.load(config), data.load(replace(config, positive="last"))
    for name, split in by_name.items():
        other = by_last[name]
        assert split.class_names == ("normal", "disease") and other.class_names == ("disease", "normal")
        np.testing.assert_array_equal(split.ids, other.ids)
        np.testing.assert_array_equal(split.labels, 1 - other.labels)
        assert all(
            text.startswith(split.class_names[label])
            for text, label in zip(split.ids, split.labels, strict=True)
        )


def test_breastmnist_s_positive_class_is_malignant():
    for name in ("breastmnist", "breastmnist_resplit"):
        assert presets.fields(name, "")["data.positive"] == "0"  # label 0 is malignant: Yang et al. 2023
