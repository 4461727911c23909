"""What identifies patients is planted in the data and looked for in every output."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ttl_jax.cli import main
from ttl_jax.data import patient_key
from ttl_jax.data.pseudonyms import identifies, pseudonym
from ttl_jax.deploy.identifying import scan

NAMES = ("Mueller", "Okonkwo", "Haakonsen", "Pettersson", "Quesada", "Ravindran", "Szymanska", "Thorvald")
COUNT = 40
TRAIN = (
    "--config=train", "--config.data.path=table.csv", "--config.data.group=patient",
    "--config.data.image_size=32", "--config.data.batch_size=8", "--config.model.name=resnet18",
    "--config.model.weights=none",
    "--config.strategy=truncated(2)", "--config.total_steps=4", "--config.data.augment=none",
    "--config.data.duplicates=exact", "--config.data.split=split",
)  # fmt: skip
KINDS = {
    "id",
    "group",
    "column born",
    "column name",
    "column accession",
    "value",
    "date",
    "DICOM name",
    "UID",
}


def who(number):
    """(name, date of birth, accession number) of a patient."""
    return (
        f"{NAMES[number % 8]}^Ana{chr(97 + number // 8)}",
        f"19{40 + number}-03-{number % 27 + 1:02d}",
        f"ACC77{number:04d}01",
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with images named by their patients, their table, and every text that is planted."""
    folder = tmp_path_factory.mktemp("planted")
    rng, planted = np.random.default_rng(0), []
    (folder / "photos").mkdir()
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "patient", "split", "name", "born", "accession", "sex", "age"])
        for number in range(COUNT):
            name, born, accession = who(number)
            image = f"photos/{name.replace('^', '_')}_{born.replace('-', '')}_{accession}.png"
            pixels = rng.integers(0, 156, (32, 32, 3)) + 100 * (number % 2)
            about = PngInfo()
            about.add_text("PatientName", name)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / image, pnginfo=about)
            split = "train" if number < 24 else "val" if number < 32 else "test"
            label = ("benign", "malignant")[number % 2]
            table.writerow(
                [image, label, accession, split, name, born, accession, "fm"[number % 2], 40 + number]
            )
            planted += [name, name.partition("^")[2], born, born.replace("-", ""), accession]
    (folder / "planted.txt").write_text("\n".join([*planted, *NAMES]))
    before = os.getcwd()
    os.chdir(folder)
    assert main(["ttl_jax", "train", *TRAIN, "--workdir=run"]) == 0
    yield folder
    os.chdir(before)


def kinds_in(folder, capsys):
    """What `privacy` says of a folder: its status, and the kinds that it found but paths."""
    capsys.readouterr()
    status = main(["ttl_jax", "privacy", str(folder), "--values=planted.txt", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (status == 1) == bool(found)
    return {(each["file"], each["kind"]) for each in found if each["kind"] != "path"}


def test_no_output_of_a_run_has_what_was_planted(place, capsys):
    assert main(["ttl_jax", "report", "run", "--out=page/report.html"]) == 0
    assert main(["ttl_jax", "export", "run", "--format=safetensors", "--out=export"]) == 0
    words = ["run", "photos", "--out=handed/p.csv", "--anonymous"]
    (place / "handed").mkdir()
    assert main(["ttl_jax", "predict", *words]) == 0
    for folder in ("run", "page", "export", "handed"):
        assert kinds_in(folder, capsys) == set(), folder
    with open("handed/p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == COUNT and rows[0]["id"].startswith("image-")


def test_a_comparison_and_a_search_have_nothing_of_what_was_planted(place, capsys):
    fields = [
        word for word in TRAIN if not word.startswith(("--config=", "--config.strategy", "--config.model"))
    ]
    none = "--config.model.weights=none"
    compare = (
        "--config=compare", "--config.compare.datasets=()", "--config.compare.models=('resnet18',)",
        "--config.compare.strategies=('truncated(2)+linear_probe',)",
        "--config.compare.seeds=(0,)", "--config.compare.lrs=()", "--config.compare.latency=False",
        "--config.report_images=True", "--config.training_features=True", none,
    )  # fmt: skip
    search = (
        "--config=search", "--config.search.units=1-2", "--config.search.allowance=1.0",
        "--config.model.name=resnet18", none,
    )  # fmt: skip
    for command, words in (("compare", compare), ("search", search)):
        assert main(["ttl_jax", command, *words, *fields, f"--workdir={command}"]) == 0
        assert kinds_in(command, capsys) == set(), command


def test_a_prepared_folder_has_no_tag_and_no_metadata(place, capsys):
    """Its ids are the files' names, and those that name the patient are hashed where DICOM says so."""
    pytest.importorskip("pydicom")
    from ..data.dicom_files import save_dicom

    rng = np.random.default_rng(0)
    for number in range(12):
        name, born, accession = who(number)
        pixels = rng.integers(0, 256, (16, 16), dtype=np.uint8)
        file = f"{accession}_{number}.dcm" if number % 3 else f"IM{number}.dcm"
        save_dicom(
            place / "scans" / "ab"[number % 2] / file, pixels, PatientID=accession, PatientName=name,
            PatientBirthDate=born.replace("-", ""), AccessionNumber=accession,
        )  # fmt: skip
        about = PngInfo()
        about.add_text("PatientName", f"{name} {born}")
        (place / "shots" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / "shots" / "ab"[number % 2] / f"{number}.png", pnginfo=about)
    for source in ("scans", "shots"):
        assert main(["ttl_jax", "prepare", source, f"--out=prepared/{source}"]) == 0
        assert kinds_in(f"prepared/{source}", capsys) == set(), source


def test_names_come_back_from_the_data_and_the_key(place, capsys):
    capsys.readouterr()
    assert main(["ttl_jax", "privacy", "run", "--names", "--json"]) == 0
    known = {row["image"]: row["id"] for row in json.loads(capsys.readouterr().out)}
    with np.load("run/predictions/test.npz") as file:
        held = file["id"].tolist()
        assert {"column/sex", "column/age"} <= set(file.files) and "column/born" not in file.files
    assert [known[each] for each in held] == [row["image"] for row in csv.DictReader(open("table.csv"))][32:]


def test_where_they_are_kept_they_are_found(place, capsys):
    assert main(["ttl_jax", "train", *TRAIN, "--config.data.keep_ids=True", "--workdir=kept"]) == 0
    found = kinds_in("kept", capsys)
    assert {("predictions/test.npz", kind) for kind in ("value", "date", "DICOM name")} <= found
    assert {name for name, _ in found} >= {"report.html", "training_features.npz", "gallery/index.json"}


def test_each_kind_is_found_in_each_form(tmp_path):
    texts = {
        "name.txt": ("DICOM name", "Doe^Jane"), "u.json": ("UID", "1.2.840.113619.2.55.3.604688119.971.1"),
        "d.md": ("date", "born 04.03.1961"), "e.bin": ("date", "Doe.19610304.png"),
        "p.html": ("path", "/home/jdoe/scans/1.png"), "w.csv": ("path", "C:\\Users\\jdoe\\x.png"),
        "i.jsonl": ("id", "Zo\u00eb-77123"),
    }  # fmt: skip
    for name, (_, text) in texts.items():
        content = json.dumps({"x": text}).encode() if "json" in name else f"a {text} b".encode()
        (tmp_path / name).write_bytes(b"\x00\xff\x9a\n" * 9 + content if name == "e.bin" else content)
    np.savez(tmp_path / "a.npz", id=np.array(["Zo\u00eb-77123", "other"]), x=np.arange(3))
    (tmp_path / "Zo\u00eb-77123.jpg").write_bytes(b"\xff\xd8")
    found = {(each.file, each.kind) for each in scan(tmp_path, {"Zo\u00eb-77123": "id"})}
    assert found == {(name, kind) for name, (kind, _) in texts.items()} | {
        ("a.npz", "id"),
        ("Zo\u00eb-77123.jpg", "id"),
    }


def test_what_is_no_ones_is_not_found(tmp_path):
    (tmp_path / "a.txt").write_text(
        "jax 0.10.1, loss 0.19610304, sha 19610304ab, step 20000101.5, </td></tr>, a/b.png, 1.2.3, x^2"
    )
    assert scan(tmp_path, {}) == []


def test_numbers_are_no_names(tmp_path):
    """2 MB of random bytes hold a dozen times two letters about a ^."""
    noise = np.random.default_rng(0).bytes(2_000_000)
    (tmp_path / "weights").write_bytes(noise)
    assert [each for each in scan(tmp_path, {}) if each.kind == "DICOM name"] == []
    (tmp_path / "weights").write_bytes(noise + b"Haakonsen^Anna" + noise[:100])
    assert [(each.kind, each.first) for each in scan(tmp_path, {})] == [("DICOM name", "Haakonsen^Anna")]


def test_columns_that_identify():
    assert identifies([f"19{year}-01-02" for year in range(60, 70)]) and identifies(["3.4.1961"])
    assert identifies([f"name {number}" for number in range(20)]) and identifies(
        [f"{10**7 + n}" for n in range(20)]
    )
    assert not identifies(["f", "m", ""] * 9) and not identifies(np.arange(30) + 0.5)
    assert not identifies([f"{number}" for number in range(90)])


def test_the_key_is_random_kept_for_the_user_alone_and_told_once(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(patient_key.KEY_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "one"))
    first, again = pseudonym("p1"), pseudonym("p1")
    path = tmp_path / "one" / "ttl_jax" / "patient_key"
    assert first == again and path.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr().out.count(str(path)) == 1
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "two"))
    assert pseudonym("p1") != first
    monkeypatch.setenv(patient_key.KEY_VARIABLE, "mine")
    assert pseudonym("p1") not in (first, patient_key.hashed("p1", keyed=False))
