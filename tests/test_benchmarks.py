"""The GPU benchmark at a tiny size, with nothing but what the GPU image carries; what `bench cpu` refuses."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from ttl_jax.errors import UserError

GPU = Path(__file__).parent.parent / "benchmarks" / "gpu.py"
# flax brings rich, msgpack and orbax itself.
BLOCKED = (
    "grain",
    "tensorflow_datasets",
    "ml_collections",
    "sklearn",
    "scipy",
    "PIL",
    "safetensors",
    "jaxtyping",
)
WORKER = """
import runpy, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ImportError(f"{{name}} is not there")

sys.meta_path.insert(0, Block())
sys.argv = ["gpu.py", "--worker", "jax", "resnet18", "64", "4", "2"]
runpy.run_path({path!r}, run_name="__main__")
"""


def module(name, monkeypatch):
    spec = importlib.util.spec_from_file_location(name, GPU.with_name(f"{name}.py"))
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, made)  # where dataclasses look for it
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def gpu(monkeypatch):
    return module("gpu", monkeypatch)


def test_the_validity_of_claims_is_tabled(monkeypatch, tmp_path, capsys):
    validity = module("validity", monkeypatch)
    study = validity.Study(patients=60, seeds=3, sds=(0.0, 7.0))
    # seeds of b vary: its mean AUROC is below that of the same signal without variation
    assert 0 < validity.truth(study, (0.8, 0.8)) < 0.03
    assert validity.truth(validity.Study(), (0.85, 0.8)) == pytest.approx(0.05, abs=0.002)
    monkeypatch.setattr(validity, "studies", lambda full: [(study, ("now", "added", "issue", "bootstrap"))])
    out, table = tmp_path / "v.json", tmp_path / "v.md"
    validity.main(["--parts=differences,folds", "--repeats=4", f"--out={out}", f"--table={table}"])
    found = json.loads(out.read_text())
    assert [row["method"] for row in found["differences"]] == list(validity.TITLES.values())[:4]
    assert {"type I", "coverage", "power"} <= set(found["differences"][0])
    assert table.read_text() in capsys.readouterr().out.replace(
        "\ndifferences\n", "## differences\n"
    ).replace("\n\nfolds\n", "\n## folds\n")
    assert validity.markdown([{"type I": 0.3, "coverage": None}]).endswith("| **0.300** | – |\n")


def test_seeds_move_auroc_by_the_points_that_the_table_says(monkeypatch):
    validity = module("validity", monkeypatch)
    random = validity.np.random.default_rng(0)
    study = validity.Study(patients=3000, seeds=40, sds=(7.0, 7.0), apart=0.0)
    labels, (a,), groups = validity.draw(random, study, (0.8,), (7.0,))
    aurocs = validity.influence(labels, a, groups).values
    assert aurocs.std(ddof=1) == pytest.approx(0.07, rel=0.35) and len(groups) == 3000


def test_a_dispatch_needs_only_jax_flax_optax_and_numpy():
    ran = subprocess.run(
        [sys.executable, "-c", WORKER.format(blocked=set(BLOCKED), path=str(GPU))],
        input="go\ngo\n", capture_output=True, text=True, check=True, cwd=GPU.parent.parent,
        # Whole steps in bfloat16: here XLA is to compile well, but in one piece.
        env=os.environ | {"XLA_FLAGS": "--xla_cpu_parallel_codegen_split_count=1",
                          "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir},
    )  # fmt: skip
    known, *seconds = ran.stdout.splitlines()
    # ResNet-18 at 224 px: 1.82 G multiply-adds (torchvision's table); here 1/12.25 of that, times 2 times 3.
    # Not at 32 px: there XLA leaves out the padding of 1x1 maps, and the optimizer outweighs the images.
    assert json.loads(known)["flops an image"] == pytest.approx(1.82e9 / 12.25 * 6, rel=0.15)
    assert len(seconds) == 2
    assert all(float(second) > 0 for second in seconds)


def test_the_table_has_a_column_for_every_figure(gpu):
    lines = gpu.table([{"model": "a", "ratio": 1.5}, {"model": "b"}]).splitlines()
    assert lines == ["| model | ratio |", "| --- | --- |", "| a | 1.5 |", "| b | - |"]


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--smoke"], "torch and torchvision not installed here: install it, or say --sides=jax"),
     (["--sides=torch"], "--sides takes jax or jax,torch, not 'torch'")],
)  # fmt: skip
def test_a_side_that_is_not_there_is_one_sentence_and_status_2(gpu, monkeypatch, capsys, words, message):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        gpu.main(words)
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_batches_of_a_dispatch(gpu):
    given = gpu.data(8, 3, 2)
    assert given["image"].shape == (2, 3, 8, 8, 3)
    assert given["image"].dtype == "uint8"
    assert given["label"].shape == given["example"].shape == (2, 3)


def test_importing_the_package_does_not_import_jax():
    code = "import sys, ttl_jax; print(sorted({'jax', 'flax', 'numpy', 'scipy', 'grain'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_measured_card_stands_in_the_projection(tmp_path):
    spec = importlib.util.spec_from_file_location("scale", GPU.with_name("scale.py"))
    scale = importlib.util.module_from_spec(spec)
    sys.modules["scale"] = scale  # dataclasses look their module up
    spec.loader.exec_module(scale)
    path = tmp_path / "gpu.json"
    row = {"model": "resnet50", "px": 224, "jax img/s": "3000 (2900-3100)", "on": "a card"}
    path.write_text(json.dumps([row | {"px": 32}, row]))
    (machine,) = scale.measured(str(path))
    assert (machine.chips, machine.images, machine.source) == (8, 3000.0, "measured, a card")
    torch_alone = json.dumps([{"model": "resnet50", "px": 224, "on": "a card"}])
    for content in ("[]", "{}", '[{"model": "resnet50"}]', torch_alone, "no JSON"):
        path.write_text(content)
        with pytest.raises(UserError, match="gpu.json"):
            scale.measured(str(path))


@pytest.mark.parametrize(
    ("word", "said"), [("--cases=vgg19", "MODEL:PIXELS"), ("--repeats=0", "--repeats=0: give 1 or more")]
)
def test_bad_words_are_refused_before_anything_is_timed(word, said):
    ran = subprocess.run(
        [sys.executable, "-m", "ttl_jax", "bench", "cpu", word],
        capture_output=True, text=True, check=False, cwd=GPU.parent.parent,
    )  # fmt: skip
    assert ran.returncode == 2 and said in ran.stderr


def test_one_value_has_no_spread(monkeypatch):
    monkeypatch.syspath_prepend(GPU.parent)
    spread = importlib.import_module("cpu").spread
    assert spread([2.0]) == "2 (2-2)"
    assert spread([0.001, 0.002, 0.003, 0.004, 0.005], 1e3, digits=1) == "3.0 (1.5-4.5)"


def test_many_files_are_made_and_a_killed_command_is_watched(monkeypatch, tmp_path):
    predict = module("predict", monkeypatch)
    monkeypatch.setattr(predict, "DISTINCT", 3)
    predict.make(tmp_path / "many", 1002)
    files = sorted((tmp_path / "many").rglob("*.png"))
    assert len(files) == 1002 and len({file.stat().st_ino for file in files}) == 3
    said = 'print("predicted 7 of 20 images, about 3 s left", flush=True); import time; time.sleep(60)'
    seen = predict.watched([sys.executable, "-c", said], kill=5)
    assert seen["killed"] and seen["seconds"] < 50 and [done for _, done, _ in seen["said"]] == [7]


def test_statistics_of_an_exported_network_are_those_of_the_images(monkeypatch):
    export = module("export", monkeypatch)
    monkeypatch.setattr(export, "CHECKED", 8)
    shown, leaves = export.leaves_of("cbr_tiny", 91, "")
    paths = [path for path in leaves if path.startswith("batch_stats/")]
    again = export.moved("cbr_tiny", leaves, paths, 0.0, shown.images)
    for path in paths:  # from zero, a step keeps 1 - momentum of the batch's
        np.testing.assert_allclose(again[path], 0.1 * leaves[path], rtol=2e-3, atol=1e-6)
