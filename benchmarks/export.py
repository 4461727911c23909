"""Exported networks: whether they compute what JAX does, how fast, how large.

Three parts, each a row for a network and cut. A row that --out (JSON lines) holds already is not measured
again, so the benchmark can be stopped and go on; at the end the rows are printed as tables.

    python -m ttl_jax bench export --networks=all --cuts=stages --size=96 --out=agreement.jsonl
    python -m ttl_jax bench export --part=speed --networks=resnet18,resnet50,densenet121 --out=speed.jsonl
    python -m ttl_jax bench export --part=cuts --networks=resnet50 --out=cuts.jsonl

agreement: the largest difference of a probability to JAX's on 64 images, of formats that --formats names.
Weights are random, and the head is scaled so that probabilities differ between images.
speed: one image and 32, milliseconds, median of --repeats; ONNX Runtime with our file, ONNX Runtime with the
file that PyTorch exports of torchvision's network (`make parity` installs both), and the jitted JAX function,
in turn in one process. Ours takes bytes and gives probabilities; PyTorch's takes normalised floats and gives
logits.
cuts: the whole network beside its cuts: parameters, MB, MB in 8 bits, milliseconds for one image.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.special import softmax

import ttl_jax
from ttl_jax import models, weights
from ttl_jax.data.images.decode import Geometry
from ttl_jax.data.read_images import SourceOptions
from ttl_jax.deploy.export import format, onnx, quantize
from ttl_jax.deploy.export.check_images import CHECKED, CheckImages, generated_images, read_check_images
from ttl_jax.deploy.export.forward import Forward
from ttl_jax.errors import UserError
from ttl_jax.models import cpu
from ttl_jax.models.registry import position
from ttl_jax.training.records.signature import Architecture, Signature
from ttl_jax.weights.initialise import flatten, fresh, initialise, template, unflatten

CLASSES = ("a", "b", "c")
LAST_NORM = re.compile(r"/block\d+/norm\d/scale$")  # of a residual block the one with the highest number
SMALLEST = {  # below these nothing is left of an image, or LiteRT does not run the network
    "cbr_larget": 221, "cbr_largew": 121, "cbr_small": 121, "cbr_tiny": 91, "alexnet": 64,
    "vgg16": 64, "vgg16_bn": 64, "vgg19": 64, "vgg19_bn": 64,
}  # fmt: skip
BATCHES = (1, 32)


def depth_of(name: str) -> int:
    """Slices of a volume: DenseNets halve them four times."""
    return 16 if name.startswith("densenet") else 8


def images_of(name: str, size: int, given: str) -> CheckImages:
    """64 images at the size of a network, or for DenseNets 16 volumes: 256 images, which are its slices."""
    known = signature_of(name, size)
    count = CHECKED // 4 if name.startswith("densenet") and known.geometry.depth else CHECKED
    if not given:
        return generated_images(known, count)
    shown = read_check_images(given, replace(known, geometry=Geometry(size)))
    return CheckImages(np.resize(shown.images, (count, *known.geometry.shape)), None, shown.origin)


def signature_of(name: str, size: int) -> Signature:
    """What stands between a pixel and a probability of such a network."""
    depth = depth_of(name) if len(models.input_shape(name)) == 4 else 0
    normalisation, shape = weights.preprocessing("imagenet", name), Geometry(size, depth=depth)
    return Signature(Architecture(name), shape, normalisation, SourceOptions(), "none", "multiclass", CLASSES)


@lru_cache(maxsize=1)
def leaves_of(name: str, size: int, given: str) -> tuple[CheckImages, dict[str, np.ndarray]]:
    """The images, and random weights of the whole network; its BatchNorms have their statistics.

    Statistics that saw no data would let a signal die or explode on its way up, and hide what an export does.
    A residual block adds a quarter of what came in. With as much, random weights let rounding grow by a fifth
    from block to block, in JAX alone too: jitted, ResNet-50 was 5e-5 from its operations one by one.
    """
    jax.clear_caches()  # of the network before
    shown = images_of(name, size, given)
    draw = np.random.default_rng(0)
    leaves = {
        path: np.asarray(value) * np.exp(0.1 * draw.standard_normal(value.shape)).astype(np.float32)
        + np.float32(0.05) * draw.standard_normal(value.shape).astype(np.float32) * (value.ndim == 1)
        for path, value in flatten(
            initialise(name, len(CLASSES), image_size=size, depth=depth_of(name))
        ).items()
    }
    lasts: dict[str, str] = {}
    for path in sorted(path for path in leaves if LAST_NORM.search(path)):
        lasts[path.rpartition("/norm")[0]] = path
    for path in lasts.values():
        leaves[path] = leaves[path] / 4
    statistics = [path for path in leaves if path.startswith("batch_stats/")]
    if statistics:
        zero, one = (moved(name, leaves, statistics, old, shown.images) for old in (0, 1))
        for path in statistics:  # new = momentum * old + (1 - momentum) * batch, for two values of old
            momentum = one[path] - zero[path]
            leaves[path] = zero[path] / (1 - momentum)
    return shown, leaves


def moved(
    name: str, leaves: dict[str, np.ndarray], statistics: list[str], old: float, images: np.ndarray
) -> dict[str, np.ndarray]:
    """Running statistics after a step on the images, from some that are all the same."""
    variables = unflatten(leaves | {path: np.full_like(leaves[path], old) for path in statistics})
    pixels = weights.preprocessing("imagenet", name).normalise(jax.numpy.asarray(images))
    with cpu.disabled():  # as by_jax: operations are compiled once for both
        made = models.create(name, len(CLASSES)).apply(variables, pixels, train=True, mutable=["batch_stats"])
    return {path: np.asarray(value) for path, value in flatten(made[1]).items()}


def forward_of(name: str, cut: str | None, size: int, given: str) -> tuple[Forward, CheckImages]:
    """A network, whole or cut, whose head tells the images apart (logits of spread 1), and the images."""
    shown, whole = leaves_of(name, size, given)
    wanted = template(name, len(CLASSES), cut=cut, image_size=size, depth=depth_of(name))
    kept = {path: whole[path] for path in wanted if path in whole and (cut is None or "/head/" not in path)}
    drawn = {path: fresh(path, of.shape, 0) for path, of in wanted.items() if path not in kept}
    variables = unflatten({path: np.array((kept | drawn)[path]) for path in wanted})
    network = models.create(name, len(CLASSES), cut=cut)
    preprocessing = weights.preprocessing("imagenet", name)
    forward = Forward(name, network, variables, preprocessing, shown.images.shape[1:], CLASSES)
    logits = by_jax(forward, shown.images)
    variables["params"]["head"]["bias"] -= logits.mean(0)
    return replace(forward, temperature=float(logits.std(0).mean())), shown


def at_size(name: str, cut: str | None, given: argparse.Namespace) -> tuple[Forward, CheckImages]:
    """The same at --size; the weights' statistics are those of smaller images, which costs a tenth."""
    forward, _ = forward_of(name, cut, 64, given.images)
    return replace(forward, shape=(given.size, given.size, 3)), images_of(name, given.size, given.images)


def by_jax(forward: Forward, images: np.ndarray) -> np.ndarray:
    """Logits, operation by operation: a cut's operations were compiled for the cut before."""
    with cpu.disabled():
        return np.asarray(forward.logits(forward.variables, jax.numpy.asarray(images)))


def agreement(name: str, cut: str | None, given: argparse.Namespace) -> dict[str, Any]:
    """The largest difference to JAX on 64 images, of probabilities and of logits less their mean."""
    size = max(given.size, SMALLEST.get(name, 0))
    forward, shown = forward_of(name, cut, size, given.images)
    logits = by_jax(forward, shown.images)
    wanted = softmax(logits, axis=1) if cut else forward(shown.images)  # a whole network as users run it
    row: dict[str, Any] = {"images": shown.origin, "size": size, "spread": float(wanted.std(0).mean())}
    row["logits"] = forward.temperature  # their standard deviation, as the head has them
    if "torch" in given.formats:
        torchvision_models()
    with tempfile.TemporaryDirectory() as folder:
        for each in given.formats.split(",") if cut is None else given.formats.split(",")[:1]:
            written = format.find(each)
            path = Path(folder) / written.FILE
            try:
                written.write(forward, path, {})
                run, row[f"{each} by"] = written.open(forward, path)
                found = run(shown.images)
            except (UserError, RuntimeError, ValueError, NotImplementedError) as error:
                row[each] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
                continue
            row[each] = float(np.abs(found - wanted).max())
            row[f"{each} logits"] = float(
                np.abs(centred(found) - centred(wanted)).max() * forward.temperature
            )
            if each == "onnx":
                row["nodes"] = nodes_of(path)["written"]
    return row


def centred(chances: np.ndarray) -> np.ndarray:
    """Logits of probabilities: a softmax forgets their mean."""
    logits = np.log(np.asarray(chances, np.float64))
    return logits - logits.mean(axis=1, keepdims=True)


def speed(name: str, cut: str | None, given: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of ours, of PyTorch's export and of JAX, and what the two graphs are made of."""
    forward, shown = at_size(name, cut, given)
    row: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.onnx", Path(folder) / "theirs.onnx"
        onnx.write(forward, ours, {})
        exported = cut is None and torch_export(name, given.size, theirs)
        row["nodes"] = nodes_of(ours), nodes_of(theirs) if exported else {}
        for batch in BATCHES:
            images = np.resize(shown.images, (batch, *shown.images.shape[1:]))
            floats = np.random.default_rng(0).standard_normal((batch, 3, given.size, given.size), np.float32)
            calls = {"onnx": partial(onnx.open_file(ours), images)}
            if exported:
                calls["torch_onnx"] = partial(onnx.open_file(theirs), floats)
            if given.jax:
                calls["jax"] = jax_call(forward, images)
            row |= {f"{side}_{batch}": value for side, value in in_turn(calls, given.repeats).items()}
    return row


def cuts(name: str, cut: str | None, given: argparse.Namespace) -> dict[str, Any]:
    """Parameters, file sizes and milliseconds for one image."""
    forward, shown = at_size(name, cut, given)
    with tempfile.TemporaryDirectory() as folder:
        whole, eight = Path(folder) / "whole.onnx", Path(folder) / "eight.onnx"
        onnx.write(forward, whole, {})
        change = quantize.quantize(whole, eight, shown, signature_of(name, given.size))
        calls = {
            side: partial(onnx.open_file(path), shown.images[:1])
            for side, path in (("ms", whole), ("int8_ms", eight))
        }
        sizes = flatten(forward.variables["params"]).values()
        return {
            "params": sum(int(np.size(value)) for value in sizes),
            "mb": whole.stat().st_size / 1e6,
            "int8_mb": eight.stat().st_size / 1e6,
            "int8_moved": change.mean,
            **in_turn(calls, given.repeats),
        }


def torchvision_models() -> Any:
    """torchvision.models, which parity/conftest.py makes importable on a CPU build of torch."""
    sys.path.insert(0, str(Path(ttl_jax.__file__).resolve().parents[1] / "parity"))
    import_module("conftest")
    return import_module("torchvision.models")


def torch_export(name: str, size: int, path: Path) -> bool:
    """Writes what PyTorch exports of the same network; False where it has none."""
    import torch

    theirs = torchvision_models()
    if name.startswith("efficientnet_lite"):
        network = (
            import_module("efficientnet_lite_pytorch").EfficientNet.from_name(name.replace("_", "-")).eval()
        )
    elif name in theirs.list_models():
        network = theirs.get_model(name).eval()
    else:
        return False
    torch.onnx.export(
        network, (torch.zeros(2, 3, size, size),), str(path), input_names=["images"], output_names=["logits"],
        dynamic_axes={"images": {0: "N"}, "logits": {0: "N"}}, dynamo=False,
    )  # fmt: skip
    return True


def nodes_of(path: Path) -> dict[str, int]:
    """The operations of a file, and how many ONNX Runtime makes of them."""
    import onnx as library
    import onnxruntime

    counted = Counter(node.op_type for node in library.load(path, load_external_data=False).graph.node)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".optimized.onnx"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    fused = library.load(options.optimized_model_filepath, load_external_data=False)
    return {"written": sum(counted.values()), "run": len(fused.graph.node)}


def jax_call(forward: Forward, images: np.ndarray) -> Callable[[], Any]:
    """One run of the jitted function, with the forms for a CPU and folded norms, as `Run.predict` has it."""
    from ttl_jax.training.predictor import make_predict

    predict = make_predict(forward.network, forward.preprocessing.normalise)
    run: Any = predict.fixed(jax.device_put(forward.variables), images)  # type: ignore[attr-defined]
    return lambda: jax.block_until_ready(run(images))


def in_turn(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """Medians and least values in milliseconds; every round calls each twice, and counts the second."""
    for call in calls.values():
        call()
        call()
    taken: dict[str, list[float]] = {side: [] for side in calls}
    for _ in range(repeats):
        for side, call in calls.items():
            time.sleep(0.02)  # until the threads of the call before have ceased to wait for more work
            call()  # brings the weights back into the caches
            start = time.perf_counter()
            call()
            taken[side].append(1e3 * (time.perf_counter() - start))
    return {side: (statistics.median(values), min(values)) for side, values in taken.items()}


PARTS = {"agreement": agreement, "speed": speed, "cuts": cuts}


def asked(given: argparse.Namespace) -> Iterator[tuple[str, str | None]]:
    """Networks and cuts; None is the whole network."""
    names = models.names() if given.networks == "all" else given.networks.split(",")
    for name in names:
        yield name, None
        if given.cuts == "none":
            continue
        if given.cuts in ("stages", "units"):
            known = (models.stages if given.cuts == "stages" else models.units)(name)
            found = [unit.name for unit in known][:-1]
        else:
            found = [models.units(name)[position(name, cut) - 1].name for cut in given.cuts.split(",")]
        for cut in found:
            yield name, cut


def main(arguments: list[str]) -> None:
    """Measures what is missing, prints everything."""
    parser = argparse.ArgumentParser(prog="bench export", description=__doc__)
    parser.add_argument("--part", choices=PARTS, default="agreement")
    parser.add_argument("--networks", default="resnet18")
    parser.add_argument("--cuts", default="", help="none, stages, units, or names with commas")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--formats", default="onnx", help="of whole networks; cuts have the first alone")
    parser.add_argument("--images", default="", help="a folder of real ones; else phantoms")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--jax", type=int, default=1, help="0 leaves the jitted function out")
    parser.add_argument("--out", required=True)
    given = parser.parse_args(arguments)
    given.cuts = given.cuts or {"agreement": "stages", "speed": "none", "cuts": "stages"}[given.part]
    out = Path(given.out)
    lines = out.read_text().splitlines() if out.exists() else []
    rows = {(row["part"], row["network"], row["cut"], row["px"]): row for row in map(json.loads, lines)}
    for name, cut in asked(given):
        key = (given.part, name, cut or "", given.size)
        if key not in rows:
            start = time.perf_counter()
            measured = PARTS[given.part](name, cut, given)
            rows[key] = dict(zip(("part", "network", "cut", "px"), key, strict=True)) | measured
            with out.open("a") as file:
                file.write(json.dumps(rows[key]) + "\n")
            print(f"{time.perf_counter() - start:6.1f} s  {rows[key]}", flush=True)
    print("\n" + table([row for row in rows.values() if row["part"] == given.part]))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown; of the agreement one for each network."""
    lines = summary(rows) if rows[0]["part"] == "agreement" else rows
    columns = [name for name in dict.fromkeys(key for row in lines for key in row) if name != "part"]
    text = [
        columns,
        ["---"] * len(columns),
        *([cell(row.get(name, "")) for name in columns] for row in lines),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in text)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The worst of a network and its cuts in ONNX, and the other formats of the whole network."""
    made = []
    for name in dict.fromkeys(row["network"] for row in rows):
        mine = [row for row in rows if row["network"] == name]
        (whole,) = (row for row in mine if not row["cut"])
        failed = [f"{row['cut']}: {row['onnx']}" for row in mine if isinstance(row["onnx"], str)]
        worst = failed[0] if failed else max(row["onnx"] for row in mine)
        apart = "" if failed else max(row["onnx logits"] / row["logits"] for row in mine)
        torch = whole.get("torch logits", "") if whole.get("torch by") == "torchvision" else ""
        made.append({
            "network": name, "px": whole["size"], "cuts": len(mine) - 1, "nodes": whole.get("nodes", ""),
            "onnx, largest of all": worst, "logits, by their spread": apart,
            "litert": whole.get("litert", ""), "stablehlo": whole.get("stablehlo", ""),
            "torch: logits": torch,
        })  # fmt: skip
    return made


def cell(value: object) -> str:
    """A value as a table shows it."""
    if isinstance(value, tuple | list):
        return " / ".join(map(cell, value))
    if isinstance(value, dict):  # nodes: written, run
        return ", ".join(map(str, value.values()))
    if str(value).startswith("UserError"):
        return "refused"
    digits = 2 if isinstance(value, float) and value < 1 else 4
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
