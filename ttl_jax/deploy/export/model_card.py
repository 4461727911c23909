"""A model card (Mitchell et al. 2019) in Hugging Face's form, and filled-in checklists, of a run."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttl_jax import models
from ttl_jax.deploy.export import checklist
from ttl_jax.models.registry import position
from ttl_jax.training.result import Result

if TYPE_CHECKING:
    from ttl_jax.deploy.export.export import Exported

FIGURES = ("auroc", "auprc", "accuracy", "balanced_accuracy", "ece", "brier", "n")
HERE = Path(__file__).parent


def write(folder: Path, run: Result, made: Exported) -> None:
    """Writes README.md and CHECKLIST.md into a folder of exports; the card of the last export stands."""
    from huggingface_hub import ModelCard
    from jinja2 import Template

    said = facts(run, made)
    card = ModelCard.from_template(
        _index(run), template_str=(HERE / "model_card.md").read_text(encoding="utf-8"), **said
    )
    card.save(folder / "README.md")
    rows = {
        "claim": checklist.filled(checklist.CLAIM, said["answers"]),
        "tripod": checklist.filled(checklist.TRIPOD, said["answers"]),
    }
    template = Template((HERE / "checklist.md").read_text(encoding="utf-8"))
    (folder / "CHECKLIST.md").write_text(template.render(title=said["title"], **rows), encoding="utf-8")


def _index(run: Result) -> Any:
    """The part of a card that programs read: licence, tags, figures of the held-out split."""
    from huggingface_hub import EvalResult, ModelCardData

    split = "test" if "test" in run.metrics else "val"
    scores = run.metrics.get(split, {})
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=run.metrics.get("dataset", "unknown"),
            dataset_name=f"{run.metrics.get('dataset', 'unknown')} ({split})",
            metric_type=name,
            metric_value=scores[name],
        )
        for name in FIGURES[:-1]
        if scores.get(name) is not None
    ]
    return ModelCardData(
        library_name="ttl_jax",
        pipeline_tag="image-classification",
        tags=["medical-imaging", "transfer-learning", "research-use-only"],
        model_name=run.workdir.name,
        eval_results=results or None,
    )


def facts(run: Result, made: Exported) -> dict[str, Any]:
    """Collect the values that the templates show; "answers" are those of the checklists."""
    known, metrics, config = run.signature, run.metrics, run.config
    held_out = [name for name in ("val", "test") if name in metrics]
    said: dict[str, Any] = {
        "title": f"{run.workdir.name}: {known.network.name}, {known.network.strategy}",
        "network": known.network.name,
        "cut": _cut(run),
        "strategy": known.network.strategy,
        "weights": config.model.weights,
        "parameters": f"{metrics.get('params', 0):,}",
        "shape": ", ".join(map(str, known.geometry.shape)),
        "output": _output(run),
        "classes": ", ".join(name.replace("|", "\\|") for name in known.class_names),
        "temperature": f"{known.temperature:.4g}",
        "version": known.version,
        "seed": config.seed,
        "preparation": _preparation(run),
        "files": _files(made),
        "use": _use(made),
        "dataset": metrics.get("dataset", config.data.name),
        "leaks": _leaks(metrics.get("data", {})),
        "splits": _splits(metrics.get("data", {})),
        "held_out": held_out,
        "figures": _figures(metrics, held_out),
        "thresholds": _thresholds(run),
        "warnings": [warning["message"] for warning in metrics.get("warnings", [])],
        "check": (
            f"`{made.path.name}` was run by {made.runtime} on {made.images}: no probability differs from "
            f"JAX's by more than {made.largest_error:.1g} (float model)."
        ),
        "quantised": quantised_text(made),
    }
    return said | {"answers": _answers(run, said)}


def _cut(run: Result) -> str:
    """The last unit that is kept; "" of a whole network."""
    built = run.signature.network
    if built.cut is None:
        return ""
    return models.units(built.name)[position(built.name, built.cut) - 1].name


def _output(run: Result) -> str:
    if run.signature.task == "multilabel":
        return "float32, shape (N, labels): calibrated probability of each label"
    return "float32, shape (N, classes): calibrated probabilities, each row sums to 1"


def _preparation(run: Result) -> str:
    known = run.signature
    ways = {
        "squash": "both sides scaled",
        "crop": "short side scaled, middle cut out",
        "pad": f"long side scaled, filled up with {known.geometry.pad_value}",
    }
    depth = f"{known.geometry.depth} slices of " if known.geometry.depth else ""
    window = f", window {known.source.window}" if known.source.window else ""
    views = f"; logits averaged over the views `{known.tta}`" if known.tta != "none" else ""
    size = known.geometry.size
    way = ways.get(known.geometry.resize, known.geometry.resize)
    return f"{depth}{size} x {size} px ({way}), bilinear with antialiasing{window}{views}"


def _files(made: Exported) -> list[tuple[str, str]]:
    folder, files = made.path.parent, []
    for path in sorted(folder.glob("model*")):
        files.append((path.name, f"the model, {path.stat().st_size / 1e6:.1f} MB"))
    return [
        *files,
        ("signature.json", "preprocessing, classes, temperature, thresholds"),
        ("CHECKLIST.md", "CLAIM and TRIPOD+AI, filled in as far as the run tells"),
    ]


_USES = {
    ".onnx": """```python
import onnxruntime

model = onnxruntime.InferenceSession("{file}")
(probabilities,) = model.run(None, {{"images": images}})  # uint8 as above
```""",
    ".tflite": """```python
from ai_edge_litert.interpreter import Interpreter

model = Interpreter("{file}").get_signature_runner()
probabilities = model(images=images)["probabilities"]  # one uint8 image as above
```""",
    ".stablehlo": """```python
from jax import export

model = export.deserialize(bytearray(open("{file}", "rb").read()))
probabilities = model.call(images)  # uint8 as above
```""",
    ".pth": """```python
model.load_state_dict(torch.load("{file}", weights_only=True), strict=False)  # of torchvision
```

The state dict takes normalised images, `(image - mean) / std` of signature.json; its outputs are logits, to
be divided by the temperature.""",
    ".safetensors": """```
python -m ttl_jax train --config.model.weights={file} ...
```""",
}


def _use(made: Exported) -> str:
    return _USES[made.path.suffix].format(file=made.path.name)


def _leaks(data: Mapping[str, Any]) -> str:
    if not data:
        return ""
    straddling = f"Patients that stand in more than one split: {data.get('straddling', 'unknown')}."
    return f"{straddling} {data.get('copies', '')}".strip()


def _splits(data: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, split in data.get("splits", {}).items():
        classes = ", ".join(f"{label} {count:,}" for label, count in split["classes"].items())
        rows.append(f"{name} | {split['examples']:,} | {split['groups']:,} | {classes}")
    return rows


def _figures(metrics: Mapping[str, Any], splits: Sequence[str]) -> list[tuple[str, list[str]]]:
    def cell(split: str, name: str) -> str:
        value = metrics[split].get(name)
        if value is None:
            return "-"
        ends = metrics.get("intervals", {}).get(split, {}).get(name)
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
        return shown if not ends else f"{shown} ({ends[0]:.3f} to {ends[1]:.3f})"

    return [(name, [cell(split, name) for split in splits]) for name in FIGURES]


def _thresholds(run: Result) -> str:
    return "; ".join(
        f"{name}: {', '.join(f'{aim} at {at:.3g}' for aim, at in aims.items() if np.isfinite(at))}"
        for name, aims in run.signature.thresholds.items()
    )


def quantised_text(made: Exported) -> str:
    """Describe in words the change by 8 bits; "" without them."""
    change = made.quantised
    if change is None:
        return ""
    scores = "; ".join(
        f"{name} {change.before[name]:.4f} -> {change.after[name]:.4f}" for name in change.before
    )
    return (
        f"8 bits: ranges from {change.calibrated_on} images, change measured on {change.compared_on} others: "
        f"a probability moves by {change.mean:.2g} on average and {change.largest:.2g} at most; the "
        f"likeliest class stays for {change.same_class:.1%} of the images. "
        + (f"{scores}." if scores else "No labels were given (--images=FOLDER with a folder a class).")
    )


def _answers(run: Result, said: Mapping[str, Any]) -> dict[str, str]:
    """Answers from a run's files, by the names in `checklist`."""
    config, metrics = run.config, run.metrics
    libraries = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "flax", "optax"))
    sizes = "; ".join(row.replace(" | ", ", ") for row in said["splits"])
    performance = "; ".join(
        f"{split}: " + ", ".join(f"{name} {values[place]}" for name, values in said["figures"][:4])
        for place, split in enumerate(said["held_out"])
    )
    skipped = metrics.get("data", {}).get("skipped", [])
    return {
        "method": "deep learning: a convolutional network, transfer learning",
        "dataset": f"{said['dataset']} (where it comes from: authors)",
        "preparation": said["preparation"],
        "classes": said["classes"],
        "missing": f"{len(skipped)} images could not be read and were left out",
        "sizes": sizes,
        "partitions": f"config.data of the run: split_seed {config.data.split_seed}",
        "disjoint": said["leaks"],
        "model": f"{said['network']}" + (f", cut behind {said['cut']}" if said["cut"] else "")
        + f"; {said['parameters']} parameters; input (N, {said['shape']})",
        "software": f"ttl_jax {said['version']}; at export {libraries}, Python {platform.python_version()}",
        "weights": f"pretrained weights: {said['weights']}",
        "training": f"strategy {said['strategy']}; {metrics.get('steps', '?')} steps; seed {said['seed']}; "
        "all settings in the run's config.json",
        "selection": f"the checkpoint with the best validation {config.select}",
        "ensemble": "none: one network",
        "metrics": "AUROC, AUPRC, accuracy, ECE, Brier score and more: result.json",
        "uncertainty": "95 % intervals over patients (docs/metrics.md)",
        "performance": performance,
        "failures": "report.html of the run shows the surest errors",
        "input": f"pixels alone, uint8 (N, {said['shape']})",
        "output": said["output"],
        "imbalance": f"class weights: {config.data.class_weights}",
        "thresholds": said["thresholds"] or "the likeliest class",
        "files": ", ".join(name for name, _ in said["files"]),
    }  # fmt: skip
