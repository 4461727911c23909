"""The export of a finished run: one file that was checked, and what travels with it."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import ttl_jax
from ttl_jax import cli
from ttl_jax.data.images.decode import Geometry
from ttl_jax.deploy.export import checklist, format
from ttl_jax.deploy.export.check_images import CheckImages, generated_images, read_check_images
from ttl_jax.deploy.export.export import InexactExportError, export, largest_error
from ttl_jax.deploy.export.forward import forward_of, in_float32
from ttl_jax.errors import UserError
from ttl_jax.training.records import signature
from ttl_jax.training.records.signature import Signature

onnxruntime = pytest.importorskip("onnxruntime")
huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def run(finished):
    return ttl_jax.load(finished[0].workdir)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """80 pictures of several sizes, bright and dark, in a folder a class."""
    folder, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(5)
    for number in range(80):
        name, low = (("dark", 0), ("bright", 100))[number % 2]
        (folder / name).mkdir(exist_ok=True)
        pixels = draw.integers(low, low + 120, (30 + number % 7, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def exported(run, photos, tmp_path_factory):
    """The run as ONNX, and in 8 bits, checked on the photos."""
    return export(run, quantized="int8", images=str(photos), out=tmp_path_factory.mktemp("exported"))


def test_the_file_predicts_what_the_run_does(run, photos, exported):
    assert exported.largest_error < 1e-5 and exported.images.startswith("64 of 80 images of")
    session = onnxruntime.InferenceSession(str(exported.path.with_name("model.onnx")))
    (found,) = session.run(None, {"images": run.preprocess(str(photos))})
    np.testing.assert_allclose(found, run.predict(str(photos), calibrated=True), atol=1e-5)
    held = session.get_modelmeta().custom_metadata_map
    assert json.loads(held["class_names"]) == ["dark", "bright"]
    assert signature.from_json(json.loads(held["signature"])) == run.signature
    assert signature.read(exported.path.parent) == run.signature


def test_eight_bits_keep_what_the_file_says_and_nearly_what_it_computes(run, photos, exported):
    change, eight = exported.quantised, exported.path
    assert eight.name == "model.int8.onnx"
    assert eight.stat().st_size < 0.4 * eight.with_name("model.onnx").stat().st_size
    session = onnxruntime.InferenceSession(str(eight))
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == ["dark", "bright"]
    (found,) = session.run(None, {"images": run.preprocess(str(photos))})
    wanted = run.predict(str(photos), calibrated=True)
    assert 0 < np.abs(found - wanted).max() < 0.05
    assert (change.calibrated_on, change.compared_on) == (40, 40) and change.largest < 0.05
    assert abs(change.before["auroc"] - change.after["auroc"]) < 0.05 and "ece" in change.after


def test_the_card_tells_the_runs_figures_and_the_change(run, exported):
    folder = exported.path.parent
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    figures = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert figures["auroc"] == run.metrics["test"]["auroc"]
    for said in (
        "Research use only",
        "dark, bright",
        "model.int8.onnx",
        "8 bits: ranges from 40 images",
        "stage1/block2",
    ):
        assert said in card.text


def test_the_checklists_have_every_item(exported):
    text = (exported.path.parent / "CHECKLIST.md").read_text()
    assert [item for item, *_ in checklist.CLAIM] == [str(number) for number in range(1, 43)]
    numbers = [int("".join(filter(str.isdigit, item.split("-")[0]))) for item, *_ in checklist.TRIPOD]
    assert sorted(set(numbers)) == list(range(1, 28))
    assert "| 24 | initialisation | pretrained weights: none |" in text and text.count("| authors |") > 20
    assert "None" not in text and "{" not in text


@pytest.mark.parametrize("name", ["stablehlo", "safetensors"])
def test_formats_that_need_nothing_more(name, run, tmp_path):
    assert run.export(name, out=tmp_path).largest_error < 1e-5


def test_weights_start_a_run(run, tmp_path):
    from ttl_jax import weights

    path = run.export("safetensors", out=tmp_path).path
    loaded = weights.load(path, "resnet18", num_classes=2, cut=3)
    np.testing.assert_array_equal(
        loaded["params"]["head"]["kernel"], run.variables["params"]["head"]["kernel"]
    )


def test_a_wrong_file_is_not_kept(run, tmp_path, monkeypatch):
    from ttl_jax.deploy.export import onnx

    (tmp_path / "model.onnx").write_bytes(b"an older export")
    monkeypatch.setattr(onnx, "OUTPUT", "probabilities")
    build = onnx.build

    def wrong(forward, metadata):
        model = build(forward, metadata)
        for node in model.graph.node:
            if node.op_type == "Relu":
                node.op_type = "Sigmoid"
        return model

    monkeypatch.setattr(onnx, "build", wrong)
    with pytest.raises(InexactExportError, match="differ from JAX's by up to"):
        export(run, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert (tmp_path / "model.onnx").read_bytes() == b"an older export"


def test_no_number_is_no_agreement(run):
    forward = forward_of(run)
    shown = CheckImages(np.zeros((2, *forward.shape), np.uint8), None, "zeros")
    with pytest.raises(InexactExportError):
        largest_error(forward, lambda images: np.full((len(images), 2), np.nan), shown)


def test_a_network_trained_in_bfloat16_is_exported_in_float32(run):
    half = run.model.clone(dtype=jnp.bfloat16)
    assert in_float32(half) == in_float32(run.model) == run.model


def test_generated_images_are_of_every_shape(run):
    known = run.signature
    flat = generated_images(known, 7)
    assert flat.images.shape == (7, 32, 32, 3) and len(np.unique(flat.images.reshape(7, -1), axis=0)) == 7
    volume = Signature(
        known.network,
        Geometry(24, depth=5),
        known.normalisation,
        known.source,
        "none",
        known.task,
        known.class_names,
    )
    assert generated_images(volume, 2).images.shape == (2, 5, 24, 24, 3)


def test_labels_come_from_folders_of_classes_alone(run, photos):
    assert read_check_images(str(photos), run.signature).labels is not None
    assert read_check_images(str(photos / "dark"), run.signature).labels is not None
    assert read_check_images(np.zeros((3, 32, 32, 3), np.uint8), run.signature).labels is None


def test_bad_requests_are_one_sentence(run, capsys, tmp_path, monkeypatch):
    def said(*words):
        assert cli.main(["ttl_jax", "export", str(run.folder), f"--out={tmp_path}", *words]) == 2
        return capsys.readouterr().err

    assert "--format=onxx does not exist (did you mean 'onnx'" in said("--format=onxx")
    assert "--quantize=int4 does not exist" in said("--quantize=int4")
    assert "--quantize=int8 is for --format=onnx" in said("--quantize=int8", "--format=litert")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "--format=onnx needs onnxruntime: pip install 'ttl-jax[export]'" in said()
    assert list(tmp_path.iterdir()) == []


def test_every_format_is_a_module_with_a_file():
    for name in format.FORMATS:
        if name in ("litert", "torch"):
            continue  # their libraries are others
        assert format.find(name).FILE.startswith("model.")
    with pytest.raises(UserError, match="does not exist"):
        format.find("pickle")
