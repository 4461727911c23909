from __future__ import annotations

import numpy as np
import pytest

from ttl_jax.errors import UserError
from ttl_jax.evaluation import predictions

ARGUMENTS = dict(
    ids=["scan-1", "scan-2", "scan-3"],
    groups=["patient-é", "patient-é", "b"],
    labels=np.array([0, 1, 1]),
    logits=np.log([[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]]),
    class_names=("benign", "malignant"),
    task="multiclass",
)


def test_what_is_saved_comes_back(tmp_path):
    path = predictions.save(tmp_path / "predictions" / "test.npz", **ARGUMENTS)
    found = predictions.load(path)
    assert found.ids.tolist() == ARGUMENTS["ids"]
    assert found.groups.tolist() == ARGUMENTS["groups"]
    assert found.labels.tolist() == [0, 1, 1] and found.labels.dtype == np.int32
    assert found.logits.dtype == np.float32
    assert found.class_names == ("benign", "malignant") and found.task == "multiclass"
    assert found.probabilities == pytest.approx(np.array([[0.75, 0.25], [0.5, 0.5], [0.1, 0.9]]), abs=1e-6)
    assert len(found) == 3
    assert [each.name for each in path.parent.iterdir()] == ["test.npz"]


def test_the_file_needs_no_pickle_and_has_the_documented_keys(tmp_path):
    with np.load(predictions.save(tmp_path / "p.npz", **ARGUMENTS), allow_pickle=False) as file:
        assert sorted(file.files) == ["class_names", "group", "id", "label", "logits", "task"]


def test_unknown_labels_survive(tmp_path):
    labels = np.array([[1, np.nan], [0, 1], [np.nan, 0]])
    changed = ARGUMENTS | {"labels": labels, "task": "multilabel"}
    found = predictions.load(predictions.save(tmp_path / "p.npz", **changed))
    np.testing.assert_array_equal(found.labels, labels.astype(np.float32))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = predictions.save(tmp_path / "p.npz", **ARGUMENTS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="2 ids, 3 groups and 3 rows"):
        predictions.save(path, **ARGUMENTS | {"ids": ["a", "b"]})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unreadable_files_are_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match="there is no prediction file"):
        predictions.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(UserError, match=r"text\.npz is not a readable"):
        predictions.load(tmp_path / "text.npz")
    np.savez(tmp_path / "short.npz", id=np.array(["a"]), label=np.array([0]))
    with pytest.raises(UserError, match="lacks group, logits, class_names, task"):
        predictions.load(tmp_path / "short.npz")
    np.savez(
        tmp_path / "wrong.npz", id=np.array(["a"]), group=np.array(["a"]), label=np.array([7]),
        logits=np.zeros((1, 2)), class_names=np.array(["x", "y"]), task=np.array("multiclass"),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"wrong\.npz cannot be used.*from 0 to 1"):
        predictions.load(tmp_path / "wrong.npz")
    np.savez(tmp_path / "pickled.npz", id=np.array(["a", None], dtype=object))
    with pytest.raises(UserError, match="pickled"):
        predictions.load(tmp_path / "pickled.npz")
