"""The command `predict`: its table, killed and resumed, several runs, and what it refuses."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice

import fsspec
import numpy as np
import pytest
from PIL import Image

import ttl_jax
from ttl_jax.cli import main
from ttl_jax.deploy import prediction_table
from ttl_jax.deploy.predict import Ensemble, ensemble, mutual_information, with_probabilities
from ttl_jax.evaluation import predictions
from ttl_jax.system.lock import held
from ttl_jax.training.records.training_features import load_training_features
from ttl_jax.training.run import train


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 120, (40, 30, 3)) + 100 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="session")
def second(tmp_path_factory, make_config, make_sets):
    """Another seed on the same data, and another size: a member of an ensemble."""
    sets = make_sets()
    return train(make_config(seed=1), tmp_path_factory.mktemp("second") / "run", sets)


def predict(*words):
    return main(["ttl_jax", "predict", *map(str, words)])


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_an_image_with_calibrated_probabilities_and_decisions(finished, images, tmp_path, capsys):
    run = ttl_jax.load(finished[0].workdir)
    (images / "05.png").write_text("no image")
    out = tmp_path / "x.csv"
    assert predict(run.folder, images, f"--out={out}") == 0
    rows = rows_of(out)
    assert [row["id"] for row in rows] == [f"{images}/{number:02}.png" for number in range(12)]
    assert rows[5]["error"] == "is not an image that PIL can read" and rows[5]["class"] == ""
    good = [row for row in rows if not row["error"]]
    files = [row["id"] for row in good]
    logits = run.logits(run.preprocess(files)).astype(np.float64) / run.signature.temperature
    wanted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose([float(row["p_bright"]) for row in good], wanted[:, 1], rtol=0, atol=1e-6)
    assert [row["class"] for row in good] == [run.class_names[place] for place in wanted.argmax(1)]
    at = run.signature.thresholds["bright"]["sensitivity 0.90"]
    assert [row["decision"] for row in good] == [("dark", "bright")[int(p >= at)] for p in wanted[:, 1]]
    about = json.loads((tmp_path / "x.csv.json").read_text())
    assert (about["rows"], about["unreadable"]) == (12, 1) and about["thresholds"] == {"bright": at}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "x.csv", "x.csv.json"]
    before = out.stat().st_mtime_ns
    assert predict(run.folder, images, f"--out={out}") == 0 and out.stat().st_mtime_ns == before
    assert "is finished already" in capsys.readouterr().out


def test_a_tables_columns_are_kept_and_formulas_are_text(finished, images, tmp_path):
    cells = ["=1+1", "-0.5", "@x", "+4912", "- no", "plain, with a comma"]
    with (tmp_path / "t.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "class", "note"])
        table.writerows([f"{number:02}", "known", note] for number, note in enumerate(cells))
        table.writerow(["missing", "known", ""])
    given = (finished[0].workdir, tmp_path / "t.csv", "--image=file", f"--root={images}", "--threshold=none")
    for ending in ("csv", "jsonl"):
        assert predict(*given, f"--out={tmp_path}/x.{ending}") == 0
    rows = rows_of(tmp_path / "x.csv")
    assert [row["note"] for row in rows[:6]] == ["'=1+1", "-0.5", "'@x", "+4912", "'- no", cells[-1]]
    assert rows[6]["error"] == "does not exist" and rows[6]["id"] == "missing"
    assert list(rows[0]) == ["id", "class_given", "note", "p_dark", "p_bright", "class", "error"]
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert [line["note"] for line in lines[:6]] == cells
    np.testing.assert_allclose(
        [line["p_dark"] for line in lines[:6]], [float(row["p_dark"]) for row in rows[:6]], rtol=1e-6
    )
    parquet = pytest.importorskip("pyarrow.parquet")
    assert predict(*given, f"--out={tmp_path}/x.parquet") == 0
    held = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert [row["note"] for row in held[:6]] == cells and held[6]["p_dark"] is None
    assert held[0]["p_dark"] == pytest.approx(lines[0]["p_dark"])


def test_a_killed_command_goes_on(finished, tmp_path):
    folder, out = tmp_path / "images", tmp_path / "x.csv"
    folder.mkdir()
    for number in range(3 * prediction_table.PART_ROWS + 10):
        pixels = np.full((4, 4, 3), number % 256, np.uint8)
        pixels[0, 0] = number // 256
        Image.fromarray(pixels).save(folder / f"{number:05}.png")
    words = [
        sys.executable,
        "-m",
        "ttl_jax",
        "predict",
        str(finished[0].workdir),
        str(folder),
        f"--out={out}",
    ]
    started = subprocess.Popen(words, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    first = tmp_path / "x.csv.parts" / "part-000000.jsonl"
    while not first.exists() and started.poll() is None:
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert first.exists() and not out.exists()
    kept = first.stat().st_mtime_ns
    parts = len(list(first.parent.glob("part-*.jsonl")))
    moved = folder / "00000.png"
    moved.rename(folder / "0000a.png")
    assert predict(finished[0].workdir, folder, f"--out={out}") == 2  # another image stands first
    (folder / "0000a.png").rename(moved)
    assert first.stat().st_mtime_ns == kept and len(list(first.parent.glob("part-*.jsonl"))) == parts
    assert predict(finished[0].workdir, folder, f"--out={out}") == 0
    rows = rows_of(out)
    assert [row["id"] for row in rows] == sorted(str(path) for path in folder.iterdir())
    whole = ttl_jax.load(finished[0].workdir).predict([row["id"] for row in rows], calibrated=True)
    np.testing.assert_allclose([float(row["p_bright"]) for row in rows], whole[:, 1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("harm", ["cut", "emptied", "flipped", "gone", "swapped"])
def test_a_broken_part_is_made_again(finished, images, tmp_path, monkeypatch, capsys, harm):
    words, whole, out = (
        (finished[0].workdir, images, "--batch_size=4"),
        tmp_path / "whole.csv",
        tmp_path / "x.csv",
    )
    assert predict(*words, f"--out={whole}") == 0
    with monkeypatch.context() as patched:
        patched.setattr(prediction_table, "PART_ROWS", 1)
        patched.setattr(prediction_table, "_summary", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            predict(*words, f"--out={out}")
    first, second, *_, last = sorted((tmp_path / "x.csv.parts").glob("part-*.jsonl"))
    content = second.read_bytes()
    if harm == "gone":
        second.unlink()
    else:
        second.write_bytes({
            "cut": content[:-30], "emptied": b"", "flipped": content.replace(b"0.", b"1.", 1),
            "swapped": last.read_bytes()[:-1],
        }[harm])  # fmt: skip
    capsys.readouterr()
    assert predict(*words, f"--out={out}") == 0
    assert "part-000001.jsonl is broken or gone: it is made again" in capsys.readouterr().out
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("seen", [1, 2, 3, 4, 5])
def test_batches_are_the_same_after_a_kill(finished, images, tmp_path, monkeypatch, seen):
    """The last digits of a number depend on the images that are computed with it."""
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(5).integers(0, 255, (40, 30, 7)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), images / "03b.nii")
    words = (finished[0].workdir, images, "--batch_size=4")
    whole, out, batches = tmp_path / "whole.csv", tmp_path / "x.csv", []
    rows, predicted = Ensemble.rows, prediction_table.predict

    def watched(joint, given):
        batches.append(given[0].tobytes())
        return rows(joint, given)

    def cut(*given):
        yield from islice(predicted(*given), seen)
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction_table, "PART_ROWS", 1)
    monkeypatch.setattr(Ensemble, "rows", watched)
    assert predict(*words, f"--out={whole}") == 0
    every = batches.copy()
    monkeypatch.setattr(prediction_table, "predict", cut)
    with pytest.raises(KeyboardInterrupt):
        predict(*words, f"--out={out}")
    monkeypatch.setattr(prediction_table, "predict", predicted)
    batches.clear()
    assert predict(*words, f"--out={out}") == 0
    assert out.read_bytes() == whole.read_bytes()
    assert batches == every[-len(batches) :] and len(batches) < len(every) == 5 or seen == 1


def test_a_second_process_is_refused_and_what_a_kill_left_goes(finished, images, tmp_path, capsys):
    out, parts = tmp_path / "x.csv", tmp_path / "x.csv.parts"
    parts.mkdir()
    with held(parts / "lock", wait=False):
        assert predict(finished[0].workdir, images, f"--out={out}") == 2
        said = capsys.readouterr().err
        assert f"x.csv.parts is in use by process {os.getpid()} on " in said and said.count("\n") == 1
        assert [path.name for path in parts.iterdir()] == ["lock"] and not out.exists()
    assert predict(finished[0].workdir, images, f"--out={out}") == 0
    written = out.read_bytes()
    parts.mkdir()  # as a process leaves it that is killed once the table is there
    (parts / "part-000000.jsonl").write_text("x")
    assert predict(finished[0].workdir, images, f"--out={out}") == 0
    assert out.read_bytes() == written and not parts.exists()


def test_several_runs_are_an_ensemble(finished, second, images, tmp_path):
    one, two = (ttl_jax.load(each.workdir) for each in (finished[0], second))
    assert predict(one.folder, two.folder, images, f"--out={tmp_path}/x.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    each = np.stack([run.predict(str(images), calibrated=True) for run in (one, two)]).astype(float)
    mean = each.mean(0)
    np.testing.assert_allclose([row["p_bright"] for row in rows], mean[:, 1], atol=1e-6)
    np.testing.assert_allclose([row["sd"] for row in rows], each.std(0)[:, 1], atol=1e-6)
    entropy = -(mean * np.log(mean)).sum(1) + (each * np.log(each)).sum(2).mean(0)
    np.testing.assert_allclose([row["mutual_information"] for row in rows], entropy, atol=1e-6)
    val = predictions.load(one.folder / "predictions" / "val.npz")
    joint = ensemble([one, two])
    held = [predictions.load(run.folder / "predictions" / "val.npz").logits for run in (one, two)]
    pairs = zip((one, two), held, strict=True)
    p = np.mean([run.signature.probabilities(logits, True)[:, 1] for run, logits in pairs], 0)
    assert (p[val.labels == 1] >= joint.threshold["bright"]).mean() >= 0.9
    again = with_probabilities(val, np.stack([1 - p, p], 1)).probabilities
    np.testing.assert_allclose(again[:, 1], p, atol=1e-6)


def test_sets_abstention_and_distance_are_columns_on_request(finished, images, tmp_path, capsys):
    run = ttl_jax.load(finished[0].workdir)
    given = (run.folder, images, "--set=0.8", "--by_class", "--abstain=0.7", "--ood")
    assert predict(*given, f"--out={tmp_path}/x.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    val = predictions.load(run.folder / "predictions" / "val.npz")
    p = val.logits.astype(np.float64) / run.signature.temperature
    p = np.exp(p) / np.exp(p).sum(1, keepdims=True)
    asked = np.array([[row["p_dark"], row["p_bright"]] for row in rows])
    # A class is in the set where its probability is no lower than ceil((n + 1) 0.8) true ones' are.
    for place, name in enumerate(("dark", "bright")):
        own = np.sort(p[val.labels == place, place])[::-1]
        at = own[int(np.ceil((len(own) + 1) * 0.8)) - 1]
        clear = np.abs(asked[:, place] - at) > 1e-5
        inside = np.array([name in row["set"].split("|") for row in rows])
        assert (inside == (asked[:, place] >= at))[clear].all()
    about = json.loads((tmp_path / "x.jsonl.json").read_text())
    threshold = about["abstain"]["threshold"]
    assert [row["abstain"] for row in rows] == ["yes" if each else "no" for each in asked.max(1) < threshold]
    sure = p.max(1) >= threshold
    assert (p.argmax(1) == val.labels)[sure].mean() >= 0.7
    # Percentile of the cosine distance to the tenth nearest training image, among validation's.
    training = load_training_features(run.folder)
    here = run.features(run.preprocess(str(images)))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (training.features.astype(float), here)]
    away = np.sort(np.sqrt(np.maximum(2 - 2 * unit[1] @ unit[0].T, 0)), 1)[:, 9]
    wanted = 100 * (training.validation[None] < away[:, None]).sum(1) / (len(training.validation) + 1)
    assert np.abs(np.array([row["ood"] for row in rows]) - wanted).max() <= 100 / len(training.validation)
    joint = ensemble([run])
    (few,) = replace(joint, patients=(np.repeat(np.arange(18), 2),)).notes
    assert joint.notes == () and "18 patients, so that `ood` is 94.7 at most" in few
    capsys.readouterr()
    assert predict(run.folder, images, "--set=0.99", f"--out={tmp_path}/y.csv") == 0
    assert "a coverage of 0.99 takes 99 patients in validation" in capsys.readouterr().out
    assert {row["set"] for row in rows_of(tmp_path / "y.csv")} == {"dark|bright"}


def test_disagreement_is_nothing_where_all_agree_and_most_where_they_are_sure_of_two_things():
    same = np.tile(np.array([[0.2, 0.8], [1.0, 0.0]]), (3, 1, 1))
    np.testing.assert_allclose(mutual_information(same, False), 0, atol=1e-12)
    apart = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    np.testing.assert_allclose(mutual_information(apart, False), np.log(2))
    np.testing.assert_allclose(mutual_information(apart, True), 2 * np.log(2))


def test_what_cannot_be_is_one_sentence(finished, images, tmp_path, capsys):
    run = finished[0].workdir
    (tmp_path / "mine.csv").write_text("precious")
    shutil.copytree(run, tmp_path / "other")
    held = json.loads((tmp_path / "other" / "signature.json").read_text())
    (tmp_path / "other" / "signature.json").write_text(json.dumps(held | {"class_names": ["dark", "light"]}))
    for words, said in (
        ([images, "--out=x.csv"], "is not the folder of a finished run"),
        ([run, "--out=x.csv"], "predict needs images behind the run"),
        ([run, images], "--out"),
        ([run, images, f"--out={tmp_path}/x.xlsx"], "does not end in a kind of table"),
        ([run, images, f"--out={tmp_path}/no/x.csv"], "there is no folder"),
        ([run, images, f"--out={tmp_path}/mine.csv"], "is there already, and is not of this command"),
        ([run, tmp_path / "nothing.png", f"--out={tmp_path}/x.csv"], "there is nothing at"),
        (
            [run, images, f"--out={tmp_path}/x.csv", "--threshold=often"],
            "--threshold=often is no probability",
        ),
        ([run, images, f"--out={tmp_path}/x.csv", "--threshold=sensitivity0.5"], "gave no such one"),
        ([run, images, f"--out={tmp_path}/x.csv", "--tta=spin"], "data.tta='spin' does not exist"),
        ([run, images, f"--out={tmp_path}/x.csv", "--set=90"], "a coverage of 90.0 is not between"),
        ([run, images, f"--out={tmp_path}/x.csv", "--abstain=1"], "an accuracy of 1.0 is not between"),
        ([run, tmp_path / "other", images, f"--out={tmp_path}/x.csv"], "classes are ('dark', 'light') there"),
    ):
        assert predict(*words) == 2
        err = capsys.readouterr().err
        assert said in err and len(err.strip().splitlines()) == 1, err
        assert not (tmp_path / "x.csv.parts").exists(), words
    assert (tmp_path / "mine.csv").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "mine.csv", "other"]


def test_run_images_and_table_may_lie_in_a_bucket(finished, images, tmp_path, monkeypatch):
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]  # else another test's /b/run is a folder into which this one is put
    system.put(str(finished[0].workdir), "/b/run", recursive=True)
    system.put(str(images), "/b/images", recursive=True)
    run = ttl_jax.load("memory://b/run")
    np.testing.assert_array_equal(run.predict("memory://b/images"), finished[0].predict(str(images)))
    assert not (run.folder / "checkpoints" / "last").exists()  # only what is needed was copied
    assert predict("memory://b/run", "memory://b/images", "--out=memory://b/out/x.csv") == 0
    rows = list(csv.DictReader(system.cat_file("/b/out/x.csv").decode().splitlines()))
    assert [row["id"] for row in rows] == [f"memory://b/images/{number:02}.png" for number in range(12)]
    names = set(system.find("/b/out"))
    assert names == {"/b/out/x.csv", "/b/out/x.csv.json"}
    assert predict("memory://b/run", "memory://b/images", "--out=memory://b/out/x.csv") == 0
