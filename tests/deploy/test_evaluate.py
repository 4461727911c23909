"""A finished run on other data: its scores, what stays of validation, leaks, shift, subgroups, refusals."""

import csv
import dataclasses
import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, roc_auc_score

import ttl_jax
from ttl_jax import cli
from ttl_jax.config import DataConfig
from ttl_jax.deploy.evaluate import evaluate
from ttl_jax.deploy.external_data import with_classes_of
from ttl_jax.errors import UserError
from ttl_jax.evaluation import predictions


@pytest.fixture(scope="module")
def run(finished):
    return ttl_jax.load(finished[0].workdir)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory, make_sets, finished):
    """A table of 40 new images, three of the run's training images, and two of these saved anew as JPEG."""
    folder = tmp_path_factory.mktemp("hospital")
    other = make_sets(first_seed=50)["train"]
    trained, random = finished[1]["train"], np.random.default_rng(0)
    rows = []
    for number in range(32):
        Image.fromarray(other.images.images[number]).save(folder / f"new{number}.png")
        rows.append([f"new{number}.png", number, other.labels[number]])
    for number in (4, 9, 14):
        Image.fromarray(trained.images.images[number]).save(folder / f"same{number}.png")
        rows.append([f"same{number}.png", f"s{number}", trained.labels[number]])
    for number in (3, 20):
        large = Image.fromarray(trained.images.images[number]).resize((64, 64), Image.Resampling.BICUBIC)
        large.save(folder / f"alike{number}.jpg", quality=80)
        rows.append([f"alike{number}.jpg", f"a{number}", trained.labels[number]])
    with open(folder / "table.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "patient", "finding", "sex", "age"])
        for name, patient, label in rows:
            table.writerow([name, patient, ("none", "white")[label], "FM"[random.integers(2)],
                            random.integers(20, 90)])  # fmt: skip
    return folder


def config_of(hospital, **more):
    return DataConfig(name="csv", path=str(hospital / "table.csv"), image="file", label="finding",
                      group="patient", keep_ids=True, **more)  # fmt: skip


CLASSES = {"none": "dark", "white": "bright"}


def digests(folder):
    """Of the run's own files."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*") if path.is_file() and "external" not in path.parts
    }  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(run, hospital):
    before = digests(run.folder)
    result = evaluate(run, config_of(hospital), classes=CLASSES, name="hospital_b")
    assert digests(run.folder) == before
    return result, run.folder / "external" / "hospital_b"


def test_scores_are_those_of_the_runs_predictions(run, hospital, evaluated):
    result, folder = evaluated
    held = predictions.load(folder / "predictions" / "test.npz")
    chances = run.predict([str(hospital / name) for name in held.ids])
    np.testing.assert_allclose(held.probabilities, chances, atol=1e-6)
    assert held.class_names == ("dark", "bright") and list(held.columns) == ["sex", "age"]
    assert result["test"]["auroc"] == pytest.approx(roc_auc_score(held.labels, chances[:, 1]))
    assert result["test"]["accuracy"] == pytest.approx(accuracy_score(held.labels, chances.argmax(axis=1)))
    low, high = result["intervals"]["test"]["auroc"]
    assert low < result["test"]["auroc"] < high
    assert json.loads((folder / "result.json").read_text()) == result
    assert json.loads((folder / "config.json").read_text())["evaluated"]["classes"] == CLASSES


def test_what_validation_chose_stays(run, evaluated):
    result, folder = evaluated
    own = run.folder / "predictions" / "val.npz"
    assert (folder / "predictions" / "val.npz").read_bytes() == own.read_bytes()
    assert result["val"] == run.metrics["val"]
    held = predictions.load(folder / "predictions" / "test.npz")
    log_p = held.logits / run.signature.temperature
    log_p = log_p - np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    _, scaled, again = result["external"]["calibration"]
    assert scaled["loss"] == pytest.approx(-log_p[np.arange(len(held)), held.labels].mean(), rel=1e-5)
    assert again["name"] == "recalibrated here"
    row = next(each for each in result["external"]["thresholds"] if each["aim"] == "sensitivity 0.90")
    validation = predictions.load(own)
    said = validation.probabilities[:, 1] >= row["threshold"] - 1e-9
    assert (
        row["validation"][0] == pytest.approx(said[validation.labels == 1].mean())
        and row["validation"][0] >= 0.9
    )
    chosen = held.probabilities[:, 1] >= row["threshold"] - 1e-9
    assert row["sensitivity"]["estimate"] == pytest.approx(chosen[held.labels == 1].mean())


def test_images_that_the_run_was_trained_on_are_found(finished, evaluated):
    result, folder = evaluated
    about = result["external"]
    assert about["leaks"] == {"same_pixels": 3, "alike": 2, "compared_with": 32, "training_images": 32}
    with open(folder / "images.csv") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    found = {name: (row["leak"], row["training_image"]) for name, row in rows.items() if row["leak"]}
    assert found == {f"same{n}.png": ("same pixels", f"train-{n}") for n in (4, 9, 14)} | {
        f"alike{n}.jpg": ("alike", f"train-{n}") for n in (3, 20)
    }
    held = predictions.load(folder / "predictions" / "test.npz")
    new = np.char.startswith(held.ids, "new")
    assert about["without_leaks"]["n"] == new.sum() == 32
    wanted = roc_auc_score(held.labels[new], held.probabilities[new, 1])
    assert about["without_leaks"]["auroc"] == pytest.approx(wanted)
    assert (
        rows["new0.png"]["true"] in ("dark", "bright")
        and 0 <= float(rows["new0.png"]["out_of_distribution"]) <= 100
    )


def test_shift_is_told(evaluated):
    about = evaluated[0]["external"]
    held = predictions.load(evaluated[1] / "predictions" / "test.npz")
    assert about["prevalence"]["bright"]["here"]["estimate"] == pytest.approx(held.labels.mean())
    assert sum(about["histograms"]["bright"]["here"]) == len(held)
    assert 0 <= about["out_of_distribution"]["low"] <= about["out_of_distribution"]["estimate"]
    assert about["conformal"]["asked"] == 0.9 and 0 < about["conformal"]["estimate"] <= 1
    assert {each["column"] for each in about["gaps"]} == {"sex", "age"}
    page = (evaluated[1] / "report.html").read_text()
    for words in (
        "Shift from the validation split", "recalibrated here", "Test of the gap", "hospital_b",
        "Without the images that the run was", "3 have the pixels of one and 2 look like one",
    ):  # fmt: skip
        assert words in page


def test_noise_is_out_of_distribution(run, tmp_path, make_sets):
    random = np.random.default_rng(1)
    for name in run.class_names:
        (tmp_path / name).mkdir()
        for number in range(12):
            stripes = np.zeros((32, 32, 3), np.uint8)
            stripes[:: random.integers(2, 5)] = (255, 0, 0)
            Image.fromarray(stripes).rotate(90 * random.integers(2)).save(tmp_path / name / f"{number}.png")
    result = evaluate(run, DataConfig(path=str(tmp_path), duplicates="ignore"), tmp_path / "out")
    assert result["external"]["out_of_distribution"]["estimate"] > 0.9
    assert result["external"]["leaks"]["same_pixels"] == result["external"]["leaks"]["alike"] == 0


def test_it_is_a_command(run, hospital, capsys, tmp_path, evaluated):
    words = ["ttl_jax", "evaluate", str(run.folder), "--config.data.name=csv", "--name=again",
             f"--config.data.path={hospital / 'table.csv'}", "--config.data.image=file",
             "--config.data.label=finding", "--config.data.group=patient"]  # fmt: skip
    assert cli.main([*words, "--classes=none=dark,white=bright", f"--out={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr().out
    assert "leak check against 32 of 32 training images: 3 with the same pixels, 2 alike" in said
    assert "out of distribution:" in said and f"report: {tmp_path / 'out'}/report.html" in said
    again = json.loads((tmp_path / "out" / "result.json").read_text())
    assert again["test"] == evaluated[0]["test"]
    for more, sentence in (
        ([], "class 'none' of the data is none of the run's (dark, bright): say which of them it is"),
        (["--classes=none=dark,none=bright"], "'none' is 'dark' and 'bright'"),
        (["--classes=none"], "is not of the form THEIRS=OURS"),
        (["--classes=non=dark"], "the data have no class 'non' (did you mean 'none'?)"),
        (["--config.data.image_size=64"], "the run was trained with 32, and is evaluated so; leave it out"),
        (["--config.data.imagesize=64"], "imagesize"),
        (["--split=test"], "it has no splits of its own; leave --split out"),
        (["--classes=none=dark,white=bright", f"--out={run.folder}"], "is the folder of a training"),
        (["--classes=white=bright,none=dark", f"--out={tmp_path / 'out'}", "--config.data.duplicates=exact"],
         "holds the evaluation of other data"),
    ):  # fmt: skip
        assert cli.main([*words, *more]) == 2
        captured = capsys.readouterr().err
        assert sentence in captured and captured.count("\n") == 1
    assert cli.main(words[:3]) == 2 and "evaluate needs the data" in capsys.readouterr().err
    assert cli.main([*words[:2], "--help"]) == 0
    said = capsys.readouterr().out
    assert "--config.data.path" in said and "--config.optimizer" not in said


def test_labels_are_matched_by_name_and_missing_ones_are_unknown(make_sets):
    several = make_sets(task="multilabel")["test"]
    known = dataclasses.make_dataclass("Known", ["task", "class_names"])(
        "multilabel", ("bright", "x", "dark")
    )
    found = with_classes_of(several, known, {})
    np.testing.assert_array_equal(found.labels[:, [2, 0]], several.labels)
    assert np.isnan(found.labels[:, 1]).all()
    with pytest.raises(UserError, match="two labels of the data are 'x'"):
        with_classes_of(several, known, {"dark": "x", "bright": "x"})
    one = make_sets()["test"]
    with pytest.raises(UserError, match="one class an image, and the run several labels an image"):
        with_classes_of(one, known, {})
    joined = with_classes_of(one, dataclasses.replace(known, task="multiclass", class_names=("a", "b")),
                             {"dark": "b", "bright": "b"})  # fmt: skip
    assert (joined.labels == 1).all()


def test_a_run_that_kept_nothing_says_so(tmp_path, make_config, make_sets, hospital):
    from ttl_jax.training.run import train

    train(make_config(training_features=False, total_steps=1), tmp_path / "run", make_sets())
    result = evaluate(ttl_jax.load(tmp_path / "run"), config_of(hospital), classes=CLASSES)
    assert "keeps no features of its training images" in result["external"]["unknown"]
    assert "Neither a leak check nor" in next((tmp_path / "run").rglob("external/*/report.html")).read_text()


def test_arrays_and_folders_are_taken_as_they_are(run, make_sets, tmp_path):
    other = make_sets(first_seed=70)["test"]
    with pytest.raises(UserError, match="class '0' of the data is none of the run's"):
        run.evaluate((other.images.images, other.labels), tmp_path / "arrays")
    named = np.array(run.class_names)[other.labels]
    arrays = run.evaluate((other.images.images, named), tmp_path / "arrays")
    for number, (image, name) in enumerate(zip(other.images.images, named, strict=True)):
        (tmp_path / "folder" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "folder" / name / f"{number}.png")
    folder = run.evaluate(tmp_path / "folder", tmp_path / "out")
    assert folder["test"]["auroc"] == pytest.approx(arrays["test"]["auroc"])
    assert folder["test"]["loss"] == pytest.approx(arrays["test"]["loss"]) and arrays["dataset"] == "arrays"


@pytest.mark.parametrize("name", ["../../x", "/x", "..", "a\\b", "a\nb"])
def test_a_name_that_leads_out_of_the_runs_folder_is_refused(run, hospital, name):
    before = sorted(run.folder.parent.rglob("*"))
    with pytest.raises(UserError, match="is not the name of a folder"):
        evaluate(run, config_of(hospital), classes=CLASSES, name=name)
    assert sorted(run.folder.parent.rglob("*")) == before
