"""The HTML page, read back with html.parser: its elements, its numbers, and that it is alone."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest

from ttl_jax import report
from ttl_jax.errors import UserError
from ttl_jax.evaluation import (
    calibration,
    clustered_proportion,
    fit_temperature,
    predictions,
    score,
    score_interval,
)

VOID = {"meta", "br", "path", "use", "rect", "link", "img"}


class Page(HTMLParser):
    """Every element with its attributes and text, and whether all that opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.stack: list[tuple[str, list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        words: list[str] = []
        self.elements.append((tag, dict(attrs), words))
        if tag not in VOID:
            self.stack.append((tag, words))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.stack.pop()[0] == tag

    def handle_data(self, data):
        for _, words in self.stack:
            words.append(data)

    def all(self, tag: str, **wanted: str) -> list[tuple[dict, str]]:
        return [
            (attributes, " ".join("".join(words).split()))
            for name, attributes, words in self.elements
            if name == tag and all(attributes.get(key) == value for key, value in wanted.items())
        ]


def page_of(run_dirs, tmp_path, title="A report") -> Page:
    path = report.write(run_dirs, tmp_path / "out" / "report.html", title)
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]
    assert path.stat().st_size < 5_000_000
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.stack
    return page


def test_a_single_run(run, tmp_path):
    directory = run("one", strategy="lp_ft", shifted=True)
    page = page_of([directory], tmp_path, title="Phantom X-ray")
    result = json.loads((directory / "result.json").read_text())
    assert [text for _, text in page.all("title")] == ["Phantom X-ray"]
    headline = page.all("p", **{"class": "headline"})[0][1]
    assert "phantom/xray test split" in headline and "lp_ft (resnet50)" in headline
    assert f"AUROC {result['test']['auroc']:.3f}" in headline
    assert "training 4.1 k of 23.5 M parameters in 13 min 32 s" in headline
    assert {attributes["id"] for attributes, _ in page.all("table") if "id" in attributes} == {
        "results-test", "results-shifted",
    }  # fmt: skip
    shown = [attributes.get("data-value") for attributes, _ in page.all("td")]
    for key in ("auroc", "auprc", "accuracy", "mcc", "ece", "brier"):
        assert str(result["test"][key]) in shown and str(result["shifted"][key]) in shown
    # the scores beside the answer, learning curve, ROC and PR, confusion matrix, reliability, decision curve
    assert len(page.all("svg")) == len(page.all("figcaption")) == 6
    assert all(text.startswith("How to read it: ") for _, text in page.all("figcaption"))
    assert str(score(*_of(directory, "test"))["ece"]) in shown  # the calibration table
    headings = [text for _, text in page.all("h3")]
    assert "Calibration" in headings and "Thresholds chosen on validation" in headings
    assert any("prevalence" in text for _, text in page.all("svg"))
    assert "python -m ttl_jax train" in page.all("pre")[0][1]
    assert any("jax 0.10.2" in text and "Git 0123abc" in text for _, text in page.all("p"))
    assert any(text == "data.image_size" for _, text in page.all("th"))


def _of(directory, split):
    found = predictions.load(directory / "predictions" / f"{split}.npz")
    return found.labels, found.logits, found.class_names, found.task


def test_thresholds_come_from_validation_and_probabilities_are_scaled_by_it(run, tmp_path):
    directory = run("one")
    page = page_of([directory], tmp_path)
    labels, logits, *_ = _of(directory, "val")
    odds = np.sort((logits[:, 1] - logits[:, 0])[labels == 1])
    at = odds[int(0.1 * len(odds))]  # leaves nine positives in ten at or above it
    labels, logits, *_ = _of(directory, "test")
    said = logits[:, 1] - logits[:, 0] >= at
    shown = [attributes.get("data-value") for attributes, _ in page.all("td")]
    assert str(said[labels == 1].mean()) in shown and str(labels[said].mean()) in shown
    temperature = fit_temperature(*_of(directory, "val")[:2])
    named = [text for _, text in page.all("th", scope="row")]
    assert f"at temperature {temperature:.2f}" in named
    scaled = calibration(labels, logits / temperature, adaptive=True)
    assert str(scaled.ece) in shown


def test_intervals_count_whole_patients(run, tmp_path):
    directory = run("one")
    found = predictions.load(directory / "predictions" / "test.npz")
    page = page_of([directory], tmp_path)
    for metric in ("auroc", "accuracy"):
        want = score_interval(found.labels, found.logits, metric, found.groups)
        naive = score_interval(found.labels, found.logits, metric)
        shown = [text for _, text in page.all("span", **{"class": "under"})]
        assert f"{want.low:.3f} to {want.high:.3f}" in shown
        assert f"{naive.low:.3f} to {naive.high:.3f}" not in shown


def test_shares_of_a_class_have_intervals_over_patients(run, tmp_path):
    directory = run("one")
    found = predictions.load(directory / "predictions" / "test.npz")
    shown = [text for _, text in page_of([directory], tmp_path).all("span", **{"class": "under"})]
    said = found.logits.argmax(axis=1)
    for place in (0, 1):
        for hits, among in ((said == place, found.labels == place), (found.labels == place, said == place)):
            share = clustered_proportion(hits[among], found.groups[among])
            assert f"{share.low:.3f} to {share.high:.3f}" in shown


def test_warnings_stand_on_top(run, tmp_path):
    quiet, loud = run("quiet"), run("loud", strategy="lp_ft")
    assert not page_of([quiet], tmp_path).all("div", id="warnings")
    result = json.loads((loud / "result.json").read_text())
    warning = {
        "code": "one_class_said",
        "message": "all images are decided as 'a'",
        "remedy": "weigh the <b>",
    }
    (loud / "result.json").write_text(json.dumps(result | {"warnings": [warning]}))
    ((_, text),) = page_of([loud], tmp_path).all("div", id="warnings")
    assert "all images are decided as 'a'" in text and "Weigh the <b>." in text
    ((_, text),) = page_of([quiet, loud], tmp_path).all("div", id="warnings")
    assert "1 of 2 runs (loud)" in text


def test_confusion_counts_are_drawn(run, tmp_path):
    directory = run("one")
    found = predictions.load(directory / "predictions" / "test.npz")
    counts = np.zeros((2, 2), int)
    np.add.at(counts, (found.labels, found.logits.argmax(axis=1)), 1)
    drawn = [text for attributes, text in page_of([directory], tmp_path).all("svg")
             if "Confusion" in attributes["aria-label"]]  # fmt: skip
    assert len(drawn) == 1
    assert {str(count) for count in counts.ravel()} <= set(drawn[0].split())


def test_the_page_is_alone(run, tmp_path):
    page = page_of([run("one"), run("two", strategy="lp_ft")], tmp_path)
    for tag, attributes, words in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        for name in ("src", "srcset", "href", "xlink:href", "data", "action", "poster"):
            if name in attributes:
                assert attributes[name].startswith("#"), (tag, attributes)
        if tag in ("style", "script"):
            text = "".join(words)
            assert not re.search(r"@import|https?:|//\w|fetch\(|XMLHttp|import\(", text)
        assert all(place.startswith("#") for place in re.findall(r"url\(([^)]*)", str(attributes)))


def test_ids_are_unique_and_references_resolve(run, tmp_path):
    page = page_of([run("one"), run("two", strategy="lp_ft")], tmp_path)
    ids = Counter(each["id"] for _, each, _ in page.elements if "id" in each)
    assert max(ids.values()) == 1
    text = (tmp_path / "out" / "report.html").read_text()
    wanted = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert wanted and wanted <= set(ids)


def test_drawings_take_the_colours_of_the_page(run, tmp_path):
    page = page_of([run("one")], tmp_path)
    for tag, attributes, _ in page.elements:
        if tag in ("path", "text", "use", "rect") and "style" in attributes:
            bare = re.sub(r"var\(--[\w-]+, #\w+\)", "", attributes["style"])
            assert "#" not in bare, attributes["style"]
    style = "".join(text for _, text in page.all("style"))
    assert "prefers-color-scheme: dark" in style and "@media print" in style
    used = set(re.findall(r"var\((--[\w-]+)", (tmp_path / "out" / "report.html").read_text()))
    assert used <= set(re.findall(r"(--[\w-]+):", style))


def test_runs_that_differ_only_in_seed_share_a_row(run, tmp_path):
    three = [run(f"a{seed}", strategy="lp_ft", seed=seed) for seed in range(3)]
    page = page_of([*three, run("b", strategy="full")], tmp_path)
    results = [json.loads((each / "result.json").read_text())["test"] for each in three]
    values = np.array([each["auroc"] for each in results])
    cells = [text for _, text in page.all("td")]
    assert f"{values.mean():.3f} ± {values.std(ddof=1):.3f}" in cells
    assert "0–2" in cells
    rows = [text for each, text in page.all("th", scope="row") if each.get("data-value") == "lp_ft"]
    assert len(rows) == 1


def test_the_preferred_row_is_validations_choice_not_the_tests(run, tmp_path):
    weak, strong = run("weak", strategy="full"), run("strong", strategy="lp_ft")
    for directory, validation, test in ((weak, 0.9, 0.6), (strong, 0.8, 0.99)):
        result = json.loads((directory / "result.json").read_text())
        result["val"]["auroc"], result["test"]["auroc"] = validation, test
        (directory / "result.json").write_text(json.dumps(result))
    page = page_of([weak, strong], tmp_path)
    headline = page.all("p", **{"class": "headline"})[0][1]
    assert "full (resnet50), preferred on validation," in headline and "0.600" in headline
    chosen = page.all("tr", **{"class": "chosen"})
    assert len(chosen) == 1 and chosen[0][1].startswith("full")


def test_runs_that_are_still_going_say_so(run, tmp_path):
    going = run("going", strategy="lp_ft", finished=False)
    alone = page_of([going], tmp_path)
    assert "no result yet, at step 80" in alone.all("p", **{"class": "headline"})[0][1]
    assert len(alone.all("svg")) == 1  # the learning curve
    both = page_of([going, run("done")], tmp_path)
    notes = [text for _, text in both.all("span", **{"class": "note"})]
    assert notes == ["no result yet, at step 80"]
    bare = run("bare", finished=False)
    (bare / "metrics.jsonl").unlink()
    assert "no step logged yet" in page_of([bare], tmp_path).all("p", **{"class": "headline"})[0][1]


def test_without_a_test_result_validation_is_shown_with_a_warning(run, tmp_path):
    directory = run("one")
    result = json.loads((directory / "result.json").read_text())
    del result["test"]
    (directory / "result.json").write_text(json.dumps(result))
    page = page_of([directory], tmp_path)
    assert "validation split" in page.all("p", **{"class": "headline"})[0][1]
    assert any("so they flatter" in text for _, text in page.all("p"))


def test_missing_prediction_files_cost_only_their_figures(run, tmp_path):
    directory = run("one")
    for path in (directory / "predictions").iterdir():
        path.unlink()
    page = page_of([directory], tmp_path)
    assert len(page.all("svg")) == 2  # the scores, and the learning curve
    assert not any(" to " in text for _, text in page.all("span", **{"class": "under"}))


def test_many_classes_and_labels(run, tmp_path):
    names = tuple(f"finding {number}" for number in range(11))
    page = page_of([run("a", class_names=names, task="multilabel"), run("b", class_names=names)], tmp_path)
    headings = [text for _, text in page.all("h3")]
    assert headings.count("Per class") == 2
    assert headings.count("Decisions at a probability of 0.5") == 1
    drawn = [each["aria-label"] for each, _ in page.all("svg")]
    assert sum("Confusion" in label for label in drawn) == 1


def test_names_cannot_inject_markup_or_mathematics(run, tmp_path):
    names = ("<script>alert(1)</script>", "a & $x^2$")
    page = page_of([run("one", class_names=names, strategy="<b>bold</b>")], tmp_path, "<i>t</i>")
    assert len(page.all("script")) == 1 and not page.all("b") and not page.all("i")
    assert any(names[1] in text for _, text in page.all("svg"))
    assert any(text == names[0] for _, text in page.all("th"))


def test_text_of_another_direction_turns_none_around_it(run, tmp_path):
    page_of([run("turned", class_names=("\u05d0\u05d1", "ab\u202egnp"))], tmp_path)
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "\u202e" not in text and "abU+202Egnp" in text and "\u2068\u05d0\u05d1\u2069" in text


def test_tables_can_be_sorted_from_the_keyboard_and_read_aloud(run, tmp_path):
    page = page_of([run("one"), run("two", strategy="lp_ft")], tmp_path)
    tables = page.all("table", **{"class": "sortable"})
    assert tables and len(page.all("caption")) >= len(tables)
    for each, _ in page.all("div", **{"class": "scroll"}):
        assert each["tabindex"] == "0" and each["role"] == "region" and each["aria-label"]
    assert all(each["role"] == "img" and each["aria-label"] for each, _ in page.all("svg"))
    script = page.all("script")[0][1]
    assert 'createElement("button")' in script and "aria-sort" in script
    assert page.all("html")[0][0]["lang"] == "en" and len(page.all("h1")) == 1


def test_a_run_whose_files_are_links_to_elsewhere_is_not_read(run, tmp_path):
    directory = run("linked")
    (tmp_path / "secret.json").write_text('{"config": {"token": "x"}}')
    (directory / "config.json").unlink()
    (directory / "config.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(UserError, match="leads out of"):
        page_of([directory], tmp_path)


def test_what_cannot_be_read_is_the_users_to_mend(run, tmp_path):
    with pytest.raises(UserError, match="at least one run directory"):
        report.write([], tmp_path / "r.html", "t")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty is not a run directory"):
        report.write([tmp_path / "empty"], tmp_path / "r.html", "t")
    directory = run("one")
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    (directory / "metrics.jsonl").write_text("\n".join([lines[0], "{oops", *lines[1:], ""]))
    with pytest.raises(UserError, match=r"metrics\.jsonl line 2 is not JSON"):
        report.write([directory], tmp_path / "r.html", "t")
    assert not (tmp_path / "r.html").exists()
