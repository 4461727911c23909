"""Entries of metrics: what they are made of, what is refused, and what has no influences."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from ttl_jax import registry as entries
from ttl_jax.errors import UserError
from ttl_jax.evaluation import of_errors, of_outcomes, paired_difference, registry, score
from ttl_jax.registry import register


@pytest.fixture(autouse=True)
def own():
    """Entries that a test makes go with it."""
    kept = dict(entries._ENTRIES["metric"])
    yield
    entries._ENTRIES["metric"] = kept


def generated(seed=0, patients=50, models=2):
    random = np.random.default_rng(seed)
    labels = np.repeat(random.integers(2, size=patients), 2)
    return (
        labels,
        random.normal(size=(models, len(labels), 2)) + np.eye(2)[labels],
        np.arange(len(labels)) // 2,
    )


def test_a_plain_function_of_labels_and_probabilities_is_a_metric():
    @register("metric")
    def hits_at_90(labels, probabilities):
        """Share of the sure that are right."""
        sure = probabilities.max(axis=1) > 0.9
        return (probabilities.argmax(axis=1) == labels)[sure].mean() if sure.any() else None

    labels, logits, _ = generated()
    found = score(labels, 5 * logits[0], "ab", "multiclass")
    chances = np.exp(5 * logits[0]) / np.exp(5 * logits[0]).sum(axis=1, keepdims=True)
    sure = chances.max(axis=1) > 0.9
    assert found["hits_at_90"] == pytest.approx((chances.argmax(axis=1) == labels)[sure].mean())
    assert score(labels, 0 * logits[0], "ab", "multiclass")["hits_at_90"] is None
    made = registry.metric("hits_at_90")
    assert (made.title, made.sign, made.explanation) == (
        "hits at 90",
        1.0,
        "Share of the sure that are right.",
    )
    assert "hits_at_90" in entries.names("metric") and len(entries.digest("metric", "hits_at_90")) == 16


def test_differences_without_influences_are_jackknifed_over_patients():
    @register("metric")
    def gini(labels, probabilities):
        return 2 * roc_auc_score(labels, probabilities[:, 1]) - 1

    labels, logits, groups = generated()
    one, its = (list(logits[place][None]) for place in (0, 1))
    found = paired_difference(labels, one, its, groups, "gini")

    def difference(kept):
        a, b = (roc_auc_score(labels[kept], each[kept, 1] - each[kept, 0]) for each in logits)
        return 2 * (a - b)

    without = np.array([difference(groups != group) for group in range(50)])
    variance = 49 / 50 * ((without - without.mean()) ** 2).sum()
    assert found.estimate == pytest.approx(difference(groups >= 0)) and found.groups == 50
    assert found.variance == pytest.approx(variance)
    smooth = paired_difference(labels, one, its, groups, "auroc")
    assert found.variance == pytest.approx(4 * smooth.variance, rel=0.1)


def test_a_jackknife_without_which_the_metric_is_undefined_says_so():
    labels, logits, groups = generated(patients=12)
    labels = (groups == 0).astype(int)  # all of one class are one patient's
    register("metric", "no_terms")(lambda truth, p: None if len(set(truth)) < 2 else float(p[:, 1].mean()))
    found = paired_difference(labels, [logits[0]], [logits[1]], groups, "no_terms")
    assert np.isfinite(found.estimate) and found.low is None and found.p is None


def test_an_error_an_example_is_a_metric_low_is_good_of():
    @register("metric")
    @of_errors("absolute error", bounds=(0.0, 1.0))
    def absolute_error(seen):
        return np.abs(seen.probabilities[..., 1] - seen.labels)

    labels, logits, groups = generated()
    made = registry.metric("absolute_error")
    chances = 1 / (1 + np.exp(logits[:, :, 0] - logits[:, :, 1]))
    found = score(labels, logits[0], "ab", "multiclass")
    assert made.sign == -1 and found["absolute_error"] == pytest.approx(np.abs(chances[0] - labels).mean())
    each = np.abs(chances - labels)
    sums = np.bincount(groups, weights=(each[0] - each[1]) - (each[0] - each[1]).mean()) / len(labels)
    difference = paired_difference(labels, [logits[0]], [logits[1]], groups, "absolute_error")
    assert difference.variance == pytest.approx(sums @ sums * 50 / 49)


def test_for_another_task_a_metric_is_undefined():
    @register("metric")
    @of_outcomes("of classes", tasks=("multiclass",))
    def of_classes(seen):
        return np.array([matthews_corrcoef(seen.labels, each) for each in seen.decisions])

    labels, logits, _ = generated()
    assert score(labels, logits[0], "ab", "multiclass")["of_classes"] == pytest.approx(
        score(labels, logits[0], "ab", "multiclass")["mcc"]
    )
    assert score(np.eye(2)[labels], logits[0], "ab", "multilabel")["of_classes"] is None


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("aurok", "select='aurok' .did you mean 'auroc'"),
        ("prevalence", "says nothing of which model is better"),
        ("nowhere.py:mine", "no file nowhere.py"),
    ],
)
def test_a_bad_selection_is_one_sentence(select, message):
    with pytest.raises(UserError, match=message):
        registry.selectable(select)


def test_a_key_of_results_is_no_name():
    register("metric", "per_class")(lambda labels, probabilities: 0.0)
    with pytest.raises(UserError, match="'per_class' has to be"):
        registry.metrics()


def test_a_file_is_run_again_where_it_changed_and_never_for_reading_results(tmp_path):
    file = tmp_path / "mine.py"
    for factor in (1, 2):
        file.write_text(f"def doubled(labels, probabilities):\n    return {factor}.0\n")
        labels, logits, _ = generated()
        assert registry.selectable(f"{file}:doubled").name == "doubled"
        assert score(labels, logits[0], "ab", "multiclass")["doubled"] == factor
    file.write_text("def halved(labels, probabilities):\n    return 0.5\n")
    assert registry.metric(f"{file}:halved").name == registry.metric("halved").name == "halved"
    file.write_text("raise RuntimeError\n")
    other = registry.known_metric(f"{file}:another")
    assert (other.name, other.title, other.sign, other.terms) == ("another", "another", 1.0, None)


def test_metrics_of_results_are_in_order_and_those_unknown_here_come_last():
    found = registry.metrics_in([{"n": 3, "loss": 1.0, "mine": 0.5, "absent": []}, {"auroc": None}])
    assert [each.name for each in found] == ["auroc", "loss", "mine"]
