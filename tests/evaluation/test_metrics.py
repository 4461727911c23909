"""score() against worked examples and against formulas written out in NumPy."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ttl_jax.evaluation import confusion, log_odds, metrics, score, score_many

# Two classes, six examples. p(1) = sigmoid(second logit), the first being 0.
LABELS = np.array([0, 0, 0, 0, 1, 1])
CHANCES = np.array([0.1, 0.2, 0.6, 0.3, 0.9, 0.4])
LOGITS = np.stack([np.zeros(6), np.log(CHANCES / (1 - CHANCES))], axis=1)


def random_case(examples: int = 60, classes: int = 4, seed: int = 0):
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=examples)
    logits = random.normal(size=(examples, classes)) + 1.5 * np.eye(classes)[labels]
    return labels, logits.round(1)  # rounded, so that ties occur


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def pairwise_auroc(truth, scores):
    """Share of (positive, negative) pairs that are in order, ties counting half."""
    gap = scores[truth][:, None] - scores[~truth][None, :]
    return ((gap > 0) + 0.5 * (gap == 0)).mean()


def average_precision(truth, scores):
    """Sum of precision times the gain in recall, at every distinct score from the top."""
    total, recall_before = 0.0, 0.0
    for cut in np.unique(scores)[::-1]:
        said = scores >= cut
        recall = (said & truth).sum() / truth.sum()
        total += (recall - recall_before) * (said & truth).sum() / said.sum()
        recall_before = recall
    return total


def odds_of(logits):
    """log p / (1 - p), class by class, rounded so that equal chances tie."""
    chances = softmax(logits)
    return np.log(chances / (1 - chances)).round(9)


def test_two_classes_by_hand():
    found = score(LABELS, LOGITS, ("benign", "malignant"), "multiclass")
    # decisions 0 0 1 0 1 0: TP 1, FN 1, FP 1, TN 3
    assert found["n"] == 6
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert found["f1_macro"] == pytest.approx((2 / (2 + 1 + 1) + 6 / (6 + 1 + 1)) / 2)
    assert found["mcc"] == pytest.approx((1 * 3 - 1 * 1) / math.sqrt(2 * 2 * 4 * 4))
    # expected agreement: (4 * 4 + 2 * 2) / 36
    assert found["kappa"] == pytest.approx((4 / 6 - 20 / 36) / (1 - 20 / 36))
    # positives .9 and .4 against .1 .2 .6 .3: 4 + 3 of 8 pairs in order
    assert found["auroc"] == pytest.approx(7 / 8)
    # the positives stand first and third: (1/1 + 2/3) / 2
    assert found["auprc"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["prevalence"] == pytest.approx(2 / 6)
    right = np.where(LABELS == 1, CHANCES, 1 - CHANCES)
    assert found["loss"] == pytest.approx(-np.log(right).mean())
    assert found["brier"] == pytest.approx(2 * ((1 - right) ** 2).mean())
    # confidences .9 .8 .6 .7 .9 .6 are in bins 13, 12, 9 (.6 is its upper edge), 10 of 15
    gaps = 2 * abs(0.9 - 1) + abs(0.8 - 1) + abs(0.7 - 1) + 2 * abs(0.6 - 0)
    assert found["ece"] == pytest.approx(gaps / 6)
    assert found["absent"] == []
    assert found["per_class"]["malignant"] == pytest.approx(
        {"recall": 0.5, "precision": 0.5, "f1": 0.5, "auroc": 7 / 8, "auprc": 5 / 6,
         "prevalence": 1 / 3, "support": 2}
    )  # fmt: skip


def test_threshold_moves_decisions_only():
    plain = score(LABELS, LOGITS, ("a", "b"), "multiclass")
    moved = score(LABELS, LOGITS, ("a", "b"), "multiclass", threshold=0.35)
    assert moved["per_class"]["b"]["recall"] == 1.0  # .9 and .4 are both found now
    assert moved["accuracy"] == pytest.approx(5 / 6)
    for key in ("auroc", "auprc", "ece", "brier", "loss"):
        assert moved[key] == plain[key]


@pytest.mark.parametrize("seed", range(3))
def test_many_classes_against_the_formulas(seed):
    labels, logits = random_case(seed=seed)
    found = score(labels, logits, "abcd", "multiclass")
    chances, said = softmax(logits), logits.argmax(axis=1)
    table = np.zeros((4, 4))
    np.add.at(table, (labels, said), 1)
    recall = np.diag(table) / table.sum(axis=1)
    f1 = 2 * np.diag(table) / (table.sum(axis=1) + table.sum(axis=0))
    assert found["accuracy"] == pytest.approx(np.trace(table) / 60)
    assert found["balanced_accuracy"] == pytest.approx(recall.mean())
    assert found["f1_macro"] == pytest.approx(f1.mean())
    chance = (table.sum(axis=0) @ table.sum(axis=1)) / 60**2
    assert found["kappa"] == pytest.approx((np.trace(table) / 60 - chance) / (1 - chance))
    # Gorodkin 2004: R_K is the correlation of the two indicator matrices
    x, y = np.eye(4)[labels], np.eye(4)[said]
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    assert found["mcc"] == pytest.approx((x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum()))
    odds = odds_of(logits)
    aurocs = [pairwise_auroc(labels == place, odds[:, place]) for place in range(4)]
    auprcs = [average_precision(labels == place, odds[:, place]) for place in range(4)]
    assert found["auroc"] == pytest.approx(np.mean(aurocs))
    assert found["auprc"] == pytest.approx(np.mean(auprcs))
    assert [found["per_class"][name]["auroc"] for name in "abcd"] == pytest.approx(aurocs)
    assert found["prevalence"] == pytest.approx(1 / 4)
    assert found["brier"] == pytest.approx(((chances - np.eye(4)[labels]) ** 2).sum() / 60)
    assert found["loss"] == pytest.approx(-np.log(chances[np.arange(60), labels]).mean())
    assert np.array_equal(confusion(labels, logits), table)


def test_absent_classes_are_listed_and_left_out():
    logits = np.array([[2.0, 0, 1, 0], [0, 2, 1, 0], [3, 0, 1, 0], [0, 0, 3, 0]])
    found = score(np.array([0, 1, 0, 1]), logits, "abcd", "multiclass")
    assert found["absent"] == ["c", "d"]
    assert found["per_class"]["c"] == {
        "recall": None, "precision": 0.0, "f1": None, "auroc": None, "auprc": None,
        "prevalence": 0.0, "support": 0,
    }  # fmt: skip
    assert found["per_class"]["d"]["precision"] is None
    assert found["balanced_accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["prevalence"] == pytest.approx(1 / 2)
    kept = [found["per_class"][name]["auroc"] for name in "ab"]
    assert found["auroc"] == pytest.approx(np.mean(kept))


def test_undefined_is_none_and_the_result_is_json():
    one_class = score(np.zeros(3, int), LOGITS[:3], ("a", "b"), "multiclass")
    for key in ("auroc", "auprc", "mcc", "kappa", "prevalence"):
        assert one_class[key] is None
    assert one_class["accuracy"] == pytest.approx(2 / 3)
    assert one_class["absent"] == ["a", "b"]
    nothing = score(np.zeros(0, int), np.zeros((0, 2)), ("a", "b"), "multiclass")
    assert nothing["n"] == 0 and nothing["loss"] is None and nothing["ece"] is None
    for found in (one_class, nothing, score(LABELS, LOGITS, ("a", "b"), "multiclass")):
        assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_constant_decisions_have_no_agreement_beyond_chance():
    found = score(LABELS, np.tile([1.0, 0.0], (6, 1)), ("a", "b"), "multiclass")
    assert found["mcc"] == 0.0 and found["kappa"] == 0.0
    assert found["auroc"] == 0.5  # all tied
    assert found["auprc"] == pytest.approx(found["prevalence"])
    assert found["per_class"]["b"] == pytest.approx(
        {"recall": 0.0, "precision": None, "f1": 0.0, "auroc": 0.5, "auprc": 1 / 3,
         "prevalence": 1 / 3, "support": 2}
    )  # fmt: skip


def test_confident_networks_do_not_tie():
    # softmax rounds to exactly 1.0 for all four; their order is still right
    logits = np.array([[0, 40.0, -9], [0, 50.0, -9], [0, 60.0, -9], [0, 70.0, -9]])
    found = score(np.array([0, 0, 1, 1]), logits, "abc", "multiclass")
    assert found["per_class"]["b"]["auroc"] == 1.0
    assert found["loss"] == pytest.approx((40 + 50) / 4)


def test_multilabel_with_unknown_entries():
    nan = np.nan
    labels = np.array([[1, 0, 1], [0, nan, 1], [1, 1, nan], [0, 0, 1], [nan, 1, 1]])
    logits = np.array(
        [[2.0, -1, 3], [1.0, 5, 1], [0.5, 1, -9], [-1.0, 2, 1], [9.0, -0.5, -1]]
    )  # fmt: skip
    found = score(labels, logits, ("x", "y", "z"), "multilabel")
    # x, known 1 0 1 0 with scores 2 1 .5 -1: 3 of 4 pairs; decided 1 1 1 0
    # y, known 0 1 0 1 with scores -1 1 2 -.5: 2 of 4 pairs; decided 0 1 1 0
    # z, known 1 1 1 1: cannot be ranked; decided 1 1 1 0
    assert found["per_class"]["x"]["auroc"] == pytest.approx(3 / 4)
    assert found["per_class"]["y"]["auroc"] == pytest.approx(2 / 4)
    assert found["auroc"] == pytest.approx(5 / 8)
    # x: found first and third; y: second and third
    assert found["auprc"] == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2 + 2 / 3) / 2) / 2)
    assert found["prevalence"] == pytest.approx(1 / 2)
    assert found["absent"] == ["z"]
    assert found["accuracy"] == pytest.approx((3 / 4 + 2 / 4 + 3 / 4) / 3)
    assert found["balanced_accuracy"] == pytest.approx(((1 + 1 / 2) / 2 + (1 / 2 + 1 / 2) / 2) / 2)
    assert found["f1_macro"] == pytest.approx((4 / 5 + 2 / 4) / 2)
    assert found["mcc"] == pytest.approx((2 / math.sqrt(2 * 2 * 3 * 1) + 0) / 2)
    assert found["per_class"]["z"]["support"] == 4
    known = ~np.isnan(labels)
    chances, truth = (1 / (1 + np.exp(-logits)))[known], labels[known]
    entropy = -(truth * np.log(chances) + (1 - truth) * np.log(1 - chances))
    assert found["loss"] == pytest.approx(entropy.mean())
    assert found["brier"] == pytest.approx(((chances - truth) ** 2).mean())
    assert confusion(labels, logits, "multilabel").tolist() == [
        [[1, 1], [0, 2]], [[1, 1], [1, 1]], [[0, 0], [1, 3]],
    ]  # fmt: skip


def test_multilabel_threshold_per_label():
    labels, logits = np.array([[1, 0], [0, 1.0]]), np.array([[-1.0, 1], [-2.0, 2]])
    # sigmoid: .269 .731 / .119 .881
    found = score(labels, logits, ("x", "y"), "multilabel", threshold=(0.2, 0.8))
    assert found["accuracy"] == 1.0
    assert score(labels, logits, ("x", "y"), "multilabel")["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("labels", "logits", "names", "task", "message"),
    [
        ([0, 2], [[0, 1.0], [1, 0]], "ab", "multiclass", "from 0 to 1"),
        ([0, 1, 1], [[0, 1.0], [1, 0]], "ab", "multiclass", "do not fit"),
        ([0, 1], [[0, np.nan], [1, 0]], "ab", "multiclass", "1 of 2 examples are not finite"),
        ([0, 1], [[0, 1.0], [1, 0]], "aa", "multiclass", "different class names"),
        ([0, 1], [[0, 1.0], [1, 0]], "ab", "binary", "not 'binary'"),
        ([[0, 2.0]], [[0, 1.0]], "ab", "multilabel", "0, 1 or NaN"),
    ],
)
def test_wrong_input_is_refused(labels, logits, names, task, message):
    with pytest.raises(ValueError, match=message):
        score(np.array(labels), np.array(logits), names, task)


def test_no_threshold_for_many_classes():
    labels, logits = random_case()
    with pytest.raises(ValueError, match="two classes only, not for 4"):
        score(labels, logits, "abcd", "multiclass", threshold=0.5)


def against_scikit_learn(truth, said, scores):
    """One class or label: recall, F1, AUROC, AUPRC of scikit-learn."""
    from sklearn.metrics import average_precision_score, f1_score, recall_score, roc_auc_score

    return (
        recall_score(truth, said),
        f1_score(truth, said),
        roc_auc_score(truth, scores),
        average_precision_score(truth, scores),
    )


@pytest.mark.parametrize("classes", [2, 4])
def test_many_models_have_scikit_learns_scores(classes):
    from sklearn.metrics import accuracy_score, cohen_kappa_score, log_loss, matthews_corrcoef

    labels = random_case(classes=classes)[0]
    labels[labels == 2] = 1  # with four classes one is absent
    # rounded, so that scores tie; with classes as equally spread logits, odds tie as the logits do
    logits = np.stack([random_case(classes=classes, seed=seed)[1] for seed in range(7)])
    logits[6] = 0.0  # a model that says nothing
    names = "abcd"[:classes]
    found = score_many(labels, logits, names, "multiclass")
    present = np.unique(labels)
    assert len(found) == 7
    for mine, values in zip(found, logits, strict=True):
        said, odds = values.argmax(axis=1), log_odds(values, "multiclass")
        each = np.array([against_scikit_learn(labels == c, said == c, odds[:, c]) for c in present])
        ranked = each[1:] if classes == 2 else each
        assert mine["balanced_accuracy"] == pytest.approx(each[:, 0].mean(), abs=1e-12)
        assert mine["f1_macro"] == pytest.approx(each[:, 1].mean(), abs=1e-12)
        assert mine["auroc"] == pytest.approx(ranked[:, 2].mean(), abs=1e-12)
        assert mine["auprc"] == pytest.approx(ranked[:, 3].mean(), abs=1e-12)
        assert mine["auprc_macro"] == pytest.approx(each[:, 3].mean(), abs=1e-12)
        assert mine["accuracy"] == pytest.approx(accuracy_score(labels, said), abs=1e-12)
        assert mine["mcc"] == pytest.approx(matthews_corrcoef(labels, said), abs=1e-12)
        assert mine["kappa"] == pytest.approx(cohen_kappa_score(labels, said), abs=1e-12)
        nats = log_loss(labels, softmax(values), labels=range(classes))
        assert mine["loss"] == pytest.approx(nats, abs=1e-12)
        assert mine["absent"] == (["c"] if classes == 4 else [])


def test_many_models_of_several_labels_have_scikit_learns_scores():
    from sklearn.metrics import cohen_kappa_score, matthews_corrcoef

    random = np.random.default_rng(3)
    labels = random.integers(2, size=(40, 3)).astype(float)
    labels[random.random((40, 3)) < 0.2] = np.nan
    labels[:, 2] = np.where(np.isnan(labels[:, 2]), np.nan, 1.0)  # cannot be ranked
    logits = random.normal(size=(5, 40, 3)).round(1)
    for mine, values in zip(score_many(labels, logits, "abc", "multilabel"), logits, strict=True):
        each = []
        for place in range(2):
            known = ~np.isnan(labels[:, place])
            truth, scores = labels[known, place] == 1, values[known, place]
            said = scores >= 0
            specificity = (~said[~truth]).mean()
            agreement = matthews_corrcoef(truth, said), cohen_kappa_score(truth, said)
            each.append((*against_scikit_learn(truth, said, scores), specificity, *agreement))
        recall, f1, auroc, auprc, specificity, mcc, kappa = np.mean(each, axis=0)
        wanted = {"balanced_accuracy": (recall + specificity) / 2, "f1_macro": f1, "auroc": auroc,
                  "auprc": auprc, "mcc": mcc, "kappa": kappa}  # fmt: skip
        assert {name: mine[name] for name in wanted} == pytest.approx(wanted, abs=1e-12)
        assert mine["absent"] == ["c"]


def test_many_models_are_scored_as_each_alone(monkeypatch):
    labels, logits = random_case()[0], np.stack([random_case(seed=seed)[1] for seed in range(5)])
    monkeypatch.setattr(metrics, "AT_ONCE", 2 * logits[0].size)  # two at a time, the last alone
    for mine, values in zip(score_many(labels, logits, "abcd", "multiclass"), logits, strict=True):
        alone = score(labels, values, "abcd", "multiclass")
        assert mine == {name: value for name, value in alone.items() if name != "per_class"}
    assert score_many(labels, logits[:0], "abcd", "multiclass") == []
