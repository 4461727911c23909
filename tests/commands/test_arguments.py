"""Data that are named on the command line are what every command reads, or they are refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ttl_jax.cli import main
from ttl_jax.commands.arguments import config_and_workdir
from ttl_jax.compare.config import CompareConfig, check
from ttl_jax.config import RunConfig
from ttl_jax.errors import UserError
from ttl_jax.search.config import SearchConfig

CONFIGS = Path(__file__).parent.parent.parent / "configs"
KINDS = {"train": RunConfig, "search": SearchConfig, "ttl": SearchConfig, "compare": CompareConfig}


@pytest.fixture
def places(tmp_path):
    """{kind: a path that holds data of this kind}."""
    rng = np.random.default_rng(0)
    for number in range(24):
        file = tmp_path / "folder" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).save(file)
    files = (tmp_path / "folder").rglob("*.png")
    rows = [f"{file.relative_to(tmp_path)},{file.parent.name}" for file in files]
    (tmp_path / "table.csv").write_text("image,label\n" + "\n".join(rows) + "\n")
    images = rng.integers(0, 256, (24, 20, 20), np.uint8)
    np.savez(tmp_path / "file.npz", train_images=images, train_labels=np.arange(24) % 2)
    for name, content in {"dicom": ("a.dcm", b"\0" * 128 + b"DICM"), "nifti": ("a.nii", b"")}.items():
        (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / name / "a" / content[0]).write_bytes(content[1])
    (tmp_path / "record").mkdir()
    (tmp_path / "record" / "manifest.json").write_text("{}")
    return {
        "folder": tmp_path / "folder", "csv": tmp_path / "table.csv", "npz": tmp_path / "file.npz",
        "dicom": tmp_path / "dicom", "nifti": tmp_path / "nifti", "record": tmp_path / "record",
    }  # fmt: skip


def read(name, *words):
    """The config of a command, made as the command makes it."""
    given = [f"--config={CONFIGS / name}.py", "--workdir=x", *words]
    return config_and_workdir(given, KINDS[name])[0]


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_of_source_follows_from_the_path(places, name):
    for kind, path in places.items():
        config = read(name, f"--config.data.path={path}")
        assert (config.data.name, config.data.path) == (kind, str(path))
    assert read("compare", f"--config.data.path={path}").compare.datasets == ()


def test_a_preset_of_another_kind_leaves_nothing_behind(places):
    given = [f"--config={CONFIGS}/train.py:dataset=ham10000", "--workdir=x", "--config.data.group=file"]
    made = config_and_workdir([*given, f"--config.data.path={places['folder']}"], RunConfig)[0].data
    assert (made.name, made.root, made.label, made.image, made.group) == (
        "folder",
        "",
        "label",
        "image",
        "file",
    )
    table = config_and_workdir([*given[:2], f"--config.data.path={places['csv']}"], RunConfig)[0].data
    assert (table.name, table.label, table.group) == ("csv", "dx", "lesion_id")  # its file may lie elsewhere


def test_what_is_typed_beside_it_stays(places):
    table = f"--config.data.path={places['csv']}"
    assert read("train", table, "--config.data.name=dicom").data.name == "dicom"
    assert read("train", table, "--config.data.label=finding").data.label == "finding"
    assert read("compare", "--config.compare.seeds=(1,)").compare.datasets == ("phantom/dermoscopy",)
    assert read("compare", "--config.data.name=phantom/mri").compare.datasets == ()


@pytest.mark.parametrize("command", ["train", "search", "leaks"])
@pytest.mark.parametrize(
    ("words", "said"),
    [(["--config.data.path=nowhere"], "data.path='nowhere' does not exist, seen from"),
     (["--config.data.path={folder}", "--config.data.name=phantom/mri"], "not read by data.name=phantom/mri"),
     (["--config.data.path={folder}", "--config.data.root=elsewhere"], "data.root='elsewhere' is read by"),
     (["--config.data.path={folder}", "--config.data.label=finding"], "data.label='finding' names a column")],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(places, tmp_path, monkeypatch, capsys, command, words, said):
    monkeypatch.chdir(tmp_path)
    preset = CONFIGS / ("search.py" if command == "search" else "train.py")
    words = [word.format(**places) for word in words]
    words += [f"--workdir={tmp_path}/run"] if command != "leaks" else []
    assert main(["ttl_jax", command, f"--config={preset}", *words]) == 2
    told = capsys.readouterr().err
    assert said in told and len(told.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_around_a_table_or_file_names_it(places, tmp_path, capsys):
    for place, inside in (("around", "x.csv"), ("above", "prepared")):
        (tmp_path / place).mkdir()
        places["csv" if inside == "x.csv" else "record"].rename(tmp_path / place / inside)
        words = [f"--config={CONFIGS}/train.py", f"--config.data.path={tmp_path / place}"]
        assert main(["ttl_jax", "leaks", *words]) == 2
        assert f"name {tmp_path / place / inside}" in capsys.readouterr().err


def test_a_comparison_of_named_data_sets_refuses_other_data(places, tmp_path):
    words = [f"--config.data.path={places['folder']}", '--config.compare.datasets=("phantom/mri",)']
    with pytest.raises(UserError, match="data.path=.* is not read, as compare.datasets"):
        check(read("compare", *words))


def test_generated_images_are_named_in_the_first_line(tmp_path, capsys):
    words = ["--config.data.phantom_patients=20", "--config.data.image_size=32"]
    words += ["--config.model.weights=nowhere.npz"]  # it ends before it trains
    words += [f"--config={CONFIGS}/train.py", f"--workdir={tmp_path}/run"]
    assert main(["ttl_jax", "train", *words]) == 2
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("GENERATED IMAGES: phantom/dermoscopy") and "--config.data.path=" in first
