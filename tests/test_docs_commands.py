"""Every command of README.md and docs/, typed in a folder where what it names is there: `make docs-check`.

A command is typed as its page has it, with the words of SHORTER and LESS after it: fewer epochs, smaller
images. A page's commands follow each other in one folder, as a reader's would. What is left out is in
LEFT_OUT and NEEDS, with the reason. The tutorials' marked blocks are run in full by tests/test_docs.py.
"""

import csv
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .test_docs import DOCS, PAGES, blocks, commands, ids, shell

ROOT = Path(__file__).parents[1]
LEFT_OUT = {  # how a line begins, and why it is not typed here
    "python -m ttl_jax bench how_sure runs/": "reads a finished study of five seeds",
    "python -m ttl_jax bench how_sure --check": "two minutes of simulation, nothing to shorten",
    "pip install": "installs: `make package` does it in an environment of its own",
    "make ": "starts a check of its own",
    "launch/": "needs a cloud: tests/launch",
    "python -m http.server": "Python's own",
}
RUN = ["--config.data.image_size=32", "--config.data.train_limit=48", "--config.total_epochs=1"]
COMPARED = [
    *RUN,
    "--config.compare.seeds=(0, 1)",
    "--config.compare.lrs=(0.001,)",
    "--config.compare.folds=0",
]
NETWORK = ["--config.model.name=efficientnet_lite0", "--config.model.weights=imagenet"]
STRATEGIES = "--config.compare.strategies=('full', 'linear_probe')"
ONE_SET = "--config.compare.datasets=('brain_tumor_mri',)"
ONE_NETWORK = "--config.compare.models=('efficientnet_lite0',)"
SHORTER = {  # of a command, or of one on a page; a flag that the page gives stays
    "train": RUN,
    "compare": COMPARED,
    "search": [*RUN, "--config.search.units=6,12,16"],
    "comparison_study.md compare": [*COMPARED, STRATEGIES, ONE_SET],
}
LESS = {  # of a command, whether the page gives it or not
    "train": ["--config.data.image_size=32"],
    "papers.md compare": ["--config.data.image_size=32", STRATEGIES, ONE_SET, ONE_NETWORK],
    "papers.md search": ["--config.data.image_size=32", "--config.search.seeds=1", *NETWORK],
    "serve": ["--port=0"],
    "bench batch_norm": ["--steps=75", "--batches=32", "--networks=efficientnet_lite0"],  # all are kept
    "bench cpu": ["--cases=efficientnet_lite0:32", "--repeats=1", "--modes=infer", "--peers=torch"],
    "bench export": ["--networks=resnet18", "--cuts=none", "--size=32", "--repeats=3", "--formats=onnx"],
    "bench lp_ft": ["--sets", "breastmnist", "--seeds", "0", "--rates", "1e-3", "--steps", "2"],
    "bench search_validity": ["--searches=2", "--methods=two_stage"],
    "bench validity": ["--repeats=4", "--parts=intervals"],
    "bench validity_intervals": ["--quick"],
}  # fmt: skip
REFUSED = {"leaks.md leaks"}  # the page shows a split that leaks: status 2
NEEDS = {"--format=litert": "litert_converter"}  # `make extras` has it
RESNET50 = """import sys, conftest, reference, torch
torch.save(reference.build("resnet50", 1000).state_dict(), sys.argv[1])"""
PLACEHOLDERS = {
    r"(?<![\w.$])/data\b": "data",
    r" RUN ": " runs/skin ",
    r" IMAGES\b": " new_images",
    r"=PATH\b": "=skin",
    r"=PHOTOS\b": "=new_images",
    r"\bhospital_b/": "chest_b/",
}


def typed(words, place, environment, status=0):
    """A command, typed in `place`; it has to end well, or with another exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "ttl_jax", *words], cwd=place, env=environment, text=True, capture_output=True
    )
    assert done.returncode == status, f"{shlex.join(words)}\n{done.stdout[-1500:]}\n{done.stderr[-2500:]}"
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def served(words, place, environment):
    """`serve` answers at its address, and ends at Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ttl_jax", *words], cwd=place, env=environment | {"PYTHONUNBUFFERED": "1"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    said = ""
    try:
        while not (address := re.search(r"http://127\.0\.0\.1:\d+", said)):
            line = process.stdout.readline()
            assert line, f"{shlex.join(words)}\n{said}"
            said += line
        with urllib.request.urlopen(address[0]) as answer:
            assert answer.status == 200 and b"<html" in answer.read()
    finally:
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in said + rest, said + rest


def picture(file, label, seed, side=48):
    """A noisy image, brighter where the label is 1."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 120 + 100 * label, (side, side, 3), np.uint8)
    Image.fromarray(pixels).save(file)


def table(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as target:
        csv.writer(target).writerows(rows)


def class_folders(place, names, images=30, suffix=".png"):
    for number in range(images * len(names)):
        label = number % len(names)
        picture(place / names[label] / f"{number:03d}{suffix}", label / (len(names) - 1), number)


def published(data, shared):
    """The published layouts that the pages name, with noise for images."""
    random = np.random.default_rng(0)
    for name in ("breastmnist", "pneumoniamnist"):
        parts = {}
        for part, count in (("train", 60), ("val", 20), ("test", 20)):
            parts[f"{part}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
            noise = random.integers(0, 120, (count, 28, 28)) + 100 * parts[f"{part}_labels"][:, :, None]
            parts[f"{part}_images"] = noise.astype(np.uint8)
        (shared / "medmnist").mkdir(parents=True, exist_ok=True)
        np.savez(shared / "medmnist" / f"{name}.npz", **parts)
    for place in (data, shared):
        for part in ("train", "test"):
            class_folders(place / "brain_tumor_mri" / part, ("glioma_tumor", "no_tumor"), 30, ".jpg")
    class_folders(shared / "lc25000_colon", ("colon_aca", "colon_n"), suffix=".jpeg")
    rows = [("lesion_id", "image_id", "dx")]
    for number in range(80):
        picture(shared / "ham10000" / "images" / f"ISIC_{number}.jpg", number % 2, number)
        rows.append((f"HAM_{number // 2 * 2 + number % 2}", f"ISIC_{number}", ("nv", "mel")[number % 2]))
    table(shared / "ham10000" / "metadata.csv", rows)
    for number in range(80):
        part, view = ("negative", "positive")[number % 2], f"sub-S{number:05d}/ses-E1/mod-rx"
        file = data / "bimcv_covid19" / part / view / f"sub-S{number:05d}_ses-E1_run-1_bp-chest_vp-ap_cr.png"
        picture(file, number % 2, number)
        Image.open(file).convert("L").save(file)
        file.with_suffix(".json").write_text(json.dumps({"00280004": {"vr": "CS", "Value": ["MONOCHROME2"]}}))
    midog = data / "midog"
    images, cells = [], []
    for number in range(1, 25):
        picture(midog / "images" / f"{number:03}.tiff", number % 2, number, side=128)
        images.append({"id": number, "file_name": f"{number:03}.tiff", "width": 128, "height": 128,
                       "tumor_type": "human melanoma"})  # fmt: skip
        for corner in (0, 40):
            kind, box = 1 + (number + corner // 40) % 2, [corner, corner, corner + 50, corner + 50]
            cells.append({"id": len(cells) + 1, "image_id": number, "category_id": kind, "bbox": box})
    categories = [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "hard negative"}]
    (midog / "databases").mkdir()
    content = {"images": images, "annotations": cells, "categories": categories}
    (midog / "databases" / "MIDOG++.json").write_text(json.dumps(content))


def scans(place, data):
    """NIfTI volumes in class folders, DICOM files in a table, and some that are sent to a run."""
    import nibabel

    from .data.dicom_files import save_dicom

    random = np.random.default_rng(0)
    rows = [("image", "label")]
    for number in range(24):
        label = ("healthy", "ill")[number % 2]
        volume = random.normal(-700 + 400 * (number % 2), 50, (24, 24, 8)).astype(np.int16)
        (data / "scans" / label).mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(volume, np.eye(4)).to_filename(data / "scans" / label / f"{number}.nii.gz")
        for folder in (data / "dicom", place / "scans"):
            folder.mkdir(exist_ok=True)
            save_dicom(folder / f"{number}.dcm", volume[:, :, 0], PatientID=f"P{number}")
        rows.append((f"dicom/{number}.dcm", label))
    table(data / "scans.csv", rows)


@pytest.fixture(scope="module")
def environment(pytestconfig):
    python = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    programs = str(pytestconfig.cache.mkdir("programs"))
    return os.environ | {"PYTHONPATH": python, "JAX_COMPILATION_CACHE_DIR": programs, "BUCKET": "none"}


@pytest.fixture(scope="module")
def world(tmp_path_factory, environment):
    """The images, tables, weights and finished runs that the pages speak of, made once for all workers."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with open(root / "docs.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "docs").exists():
            make_world(root / "begun" / "world", environment)
            (root / "begun").rename(root / "docs")
    return root / "docs" / "world"


def make_world(place, environment):
    """Write it to a folder, and train the runs."""
    data, shared = place / "data", place.parent / "shared" / "data"
    (place / "runs").mkdir(parents=True)
    (place / "docs").symlink_to(DOCS)
    (draw,) = [block for block in blocks(DOCS / "own_data.md") if block.run and block.language == "python"]
    subprocess.run([sys.executable, "-c", draw.text], cwd=place, env=environment, check=True)
    shutil.copytree(place / "skin", data / "skin")
    shutil.copytree(place / "skin", data / "xrays")
    class_folders(place / "xrays", ("normal", "pneumonia"))
    class_folders(place / "chest_b" / "all", ("none", "pneu"))
    rows = [("file", "diagnosis", "patient")]
    (place / "chest_b" / "images").mkdir()
    for file in sorted((place / "chest_b" / "all").rglob("*.png")):
        rows.append((file.name, file.parent.name, file.stem))
        file.rename(place / "chest_b" / "images" / file.name)
    table(place / "chest_b" / "table.csv", rows)
    files = sorted((place / "new_images").rglob("*.png"))[:6]
    for number, file in enumerate(files):
        for folder in ("photos", "masks", "handed_on"):
            (place / folder).mkdir(exist_ok=True)
            shutil.copy(file, place / folder / f"x{number + 1}.png")
        shutil.copy(file, place / f"x{number + 1}.png")
        half = np.zeros((128, 128), np.uint8)
        half[:64] = 255
        Image.fromarray(half).save(place / "masks" / f"x{number + 1}.png")
    table(place / "patients.csv", [("file", "age"), *((f"x{number + 1}.png", 60) for number in range(6))])
    (place / "patients.txt").write_text("Erika Mustermann\n")
    for number in range(60):  # docs/own.md
        label = ("benign", "malignant")[number % 2]
        picture(
            place / "images" / f"p{number // 2}{label[0]}_{label}_{number}.png", number % 2, number, side=32
        )
    published(data, shared)
    scans(place, data)
    torch = [sys.executable, "-c", RESNET50, str(data / "resnet50.pth")]
    subprocess.run(torch, cwd=ROOT / "parity", env=environment, check=True)
    for name, strategy, more in (
        ("seed0", "full", []),
        ("seed1", "full", ["--config.seed=1"]),
        ("seed2", "full", ["--config.seed=2"]),
        ("layerwise", "layerwise(8)", []),
        ("transfusion", "transfusion(8)", []),
        ("ttl", "truncated(8)", []),
        ("xrays", "full", ["--config.data.path=xrays"]),
        ("phantom", "full", ["--config.data.name=phantom/dermoscopy", "--config.data.path="]),
    ):
        given = ["--config.data.path=skin", *RUN, *more, f"--config.strategy={strategy}"]
        typed(["train", "--config=train", f"--workdir=runs/{name}", *given], place, environment)
    for name, same in (("skin", "seed0"), ("full", "seed0"), ("chest", "seed1"), ("skin-ttl", "ttl"),
                       ("patients", "layerwise")):  # fmt: skip
        shutil.copytree(place / "runs" / same, place / "runs" / name)
    (place / "runs" / "deployment").mkdir()  # its trainings are kept in docs/results: it goes on
    shutil.copy(DOCS / "results" / "deployment.jsonl", place / "runs" / "deployment")


@pytest.fixture
def reader(world, request):
    """A copy of the world, with the page's own Python files; nothing of it stays."""
    page = request.getfixturevalue("page")
    place = world.parent / os.environ.get("PYTEST_XDIST_WORKER", "reader")
    shutil.copytree(world, place, symlinks=True)
    for block in blocks(page):
        if block.language == "python" and (named := re.match(r"# (\w+\.py)", block.text)):
            (place / named[1]).write_text(block.text)
    if page.name == "metrics.md":
        (text,) = [block.text for block in blocks(page) if block.language == "python"]
        (place / "my_metrics.py").write_text(text)
    for line in lines(page):  # what a page trains is not there before
        for words in commands(line):
            for workdir in (
                re.findall(r"--workdir=(runs/\w+)", " ".join(words)) if words[0] == "train" else ()
            ):
                shutil.rmtree(place / workdir, ignore_errors=True)
    yield place
    shutil.rmtree(place)


def lines(page):
    """The commands of a page's shell blocks, a line each, but for those of a session that it shows ("$ ")."""
    for block in shell(page):
        if not block.text.startswith("$ "):
            text = re.sub(r"\\\n\s*", "", block.text)
            yield from (line.strip() for line in text.splitlines())


def test_what_is_left_out_is_not_ours():
    """Each line of a shell block is typed, or begins as one of LEFT_OUT does."""
    ours = ("ttl-jax ", "python -m ttl_jax", "cp ", "#")
    for page in PAGES:
        if any(map(commands, (block.text for block in shell(page)))):
            for line in lines(page):
                known = any(map(line.startswith, (*ours, *LEFT_OUT))) or not line
                assert known or not re.match(r"(ttl|python|pip|make|launch|git)\b", line), (
                    f"{page.name}: {line}"
                )


@pytest.mark.docs
@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_command_runs(page, reader, environment):
    """Each command of a page, in its order, ends with status 0 and without a traceback."""
    for line in lines(page):
        for name, there in PLACEHOLDERS.items():
            line = re.sub(name, there, line)
        if line.startswith("cp "):
            subprocess.run(shlex.split(line, comments=True), cwd=reader, check=True)
        if any(map(line.startswith, LEFT_OUT)):
            continue
        for words in commands(line):
            words = [os.path.expandvars(word) for word in words]
            if any(word in NEEDS and find_spec(NEEDS[word]) is None for word in words):
                continue
            kind = " ".join(words[: 2 if words[0] == "bench" else 1])
            here, given = f"{page.name} {kind}", {word.partition("=")[0] for word in words}
            shorter = SHORTER.get(here, SHORTER.get(kind, []))
            words += [word for word in shorter if word.partition("=")[0] not in given]
            words += LESS.get(here, LESS.get(kind, []))
            if "--config.data.depth" in given:
                words.append("--config.data.depth=8")
            if kind == "serve":
                served(words, reader, environment)
            else:
                typed(words, reader, environment, status=2 if here in REFUSED else 0)
