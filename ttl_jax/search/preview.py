"""`search --preview`: what each unit's fixed features say about the task, from one forward pass."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ttl_jax import data, evaluation, models, strategies, weights
from ttl_jax.analysis.features import capture, some
from ttl_jax.analysis.transferability import h_score, leep, logme, ridge_probe
from ttl_jax.config import RunConfig, data_config
from ttl_jax.data.dataset import Dataset
from ttl_jax.evaluation.registry import metric
from ttl_jax.search.config import SearchConfig
from ttl_jax.search.subject import read
from ttl_jax.system.whole_file import write_json

if TYPE_CHECKING:
    from ml_collections import ConfigDict

SOURCE_CLASSES = 1000  # of ImageNet: what LEEP's source head has where the weights file has one
VALIDATION_SHARE = 0.3  # of the images of a preview


def preview(
    config: ConfigDict | SearchConfig, workdir: str | Path, datasets: Mapping[str, Dataset] | None = None
) -> dict[str, Any]:
    """Scores every candidate unit without training and proposes where to start.

    The figure that proposes is a ridge probe's validation score (`config.select`); LogME and H-score
    of the training images stand beside it. All come from one pass of the pretrained whole network.

    Args:
        config: the config of a search.
        workdir: folder for preview.json and figures/preview.png.
        datasets: splits instead of those that the config names; the test split is not looked at.

    Returns:
        The content of preview.json: "units" (unit, name, probe, logme, h_score), "leep" (of the
        weights' own head, None without one), "best", "proposal", "seconds", "table".

    Raises:
        UserError: something in the config or the data has to be mended.
    """
    workdir, setting = Path(workdir), read(config)
    wanted = setting.options.preview_images
    sets = dict(datasets) if datasets is not None else data.load(data_config(setting.run.data))
    began = time.perf_counter()
    held_out = some(sets["val"], round(VALIDATION_SHARE * wanted), setting.run.seed)
    training = some(sets["train"], wanted - len(held_out), setting.run.seed)
    network, variables, preprocessing, own_head = _pretrained(setting.run)
    names = tuple(point.name for point in setting.points.values())
    seen = capture(network, variables, preprocessing.normalise, training, units=names)
    unseen = capture(network, variables, preprocessing.normalise, held_out, units=names)
    chosen = metric(setting.run.select)
    select = "auroc" if chosen.name == "loss" else chosen.name  # a probe has no loss
    units: list[dict[str, Any]] = [
        {
            "unit": unit,
            "name": point.name,
            "strategy": strategies.title(point.strategy),
            "probe": probe_score(
                seen.units[point.name], training, unseen.units[point.name], held_out, select
            ),
            "logme": _mean(logme, seen.units[point.name], training),
            "h_score": _mean(h_score, seen.units[point.name], training),
        }
        for unit, point in setting.points.items()
    ]
    best = max(units, key=lambda row: (metric(select).sign * row["probe"], -row["unit"]))
    record = {
        "model": setting.run.model.name,
        "select": select,
        "images": [len(training), len(held_out)],
        "leep": _mean(leep, _softmax(seen.logits), training) if own_head else None,
        "best": best["unit"],
        "units": units,
        "seconds": round(time.perf_counter() - began, 1),
    }
    record["proposal"] = _proposal(record, best, wanted)
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "preview.json", record)
    draw(record, workdir / "figures" / "preview.png")
    return record | {"table": rows(record)}


def probe_score(
    features: np.ndarray, training: Dataset, held_out_features: np.ndarray, held_out: Dataset, select: str
) -> float:
    """A ridge probe's validation figure; with several labels each has a probe on its known entries."""
    if training.task == "multiclass":
        predictions = ridge_probe(features, training.labels)(held_out_features)
        missing = len(training.class_names) - predictions.shape[1]  # classes absent from these images
        predictions = np.pad(predictions, ((0, 0), (0, missing)), constant_values=-1.0)
    else:
        columns = []
        for label in training.labels.T:
            told = ~np.isnan(label)
            probe = ridge_probe(features[told], label[told].astype(int))
            columns.append(probe(held_out_features)[:, 1])
        predictions = np.stack(columns, 1)
    figure = evaluation.score(held_out.labels, predictions, held_out.class_names, held_out.task)[select]
    return float("nan") if figure is None else float(figure)


def _mean(measure: Any, features: np.ndarray, training: Dataset) -> float:
    """A measure of features and class labels; with several labels the mean over them."""
    if training.task == "multiclass":
        return float(measure(features, training.labels))
    told = [~np.isnan(label) for label in training.labels.T]
    return float(
        np.mean(
            [
                measure(features[rows], label[rows].astype(int))
                for rows, label in zip(told, training.labels.T, strict=True)
            ]
        )
    )


def _pretrained(run: RunConfig) -> tuple[models.Network, Any, weights.Preprocessing, bool]:
    """The whole network, its variables, and whether its head is the weights' own."""
    name, source, size = run.model.name, run.model.weights, run.data.image_size
    if source == "none":
        variables = weights.initialise(name, SOURCE_CLASSES, seed=run.seed, image_size=size)
        fresh: tuple[str, ...] = ("head",)
    else:
        variables, report = weights.load_with_report(
            source,
            name,
            num_classes=SOURCE_CLASSES,
            partial=run.model.partial,
            seed=run.seed,
            image_size=size,
        )
        fresh = tuple(report.fresh)
        if started := [unit for unit in fresh if unit != "head"]:
            print(f"units without pretrained weights: {', '.join(started)}", flush=True)
    known = source if source != "none" else "imagenet"
    return (
        models.create(name, SOURCE_CLASSES),
        variables,
        weights.preprocessing(known, name),
        "head" not in fresh,
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def _proposal(record: Mapping[str, Any], best: Mapping[str, Any], wanted: int) -> str:
    low = max(record["units"][0]["unit"], best["unit"] - 3)
    high = min(record["units"][-1]["unit"], best["unit"] + 3)
    return (
        f'start at unit {best["unit"]} ({best["name"]}): --config.strategy="{best["strategy"]}", or search '
        f"around it with --config.search.units={low}-{high}; {sum(record['images'])} images in "
        f"{record['seconds']:g} s. Fixed features rank units only roughly: fine-tuning moves the top most."
    )


def rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The printed table."""
    return [
        {
            "unit": f"{row['unit']} {row['name']}",
            f"ridge probe, val {record['select']}": f"{row['probe']:.4f}",
            "LogME": f"{row['logme']:.4f}",
            "H-score": f"{row['h_score']:.4f}",
            "": "start here" if row["unit"] == record["best"] else "",
        }
        for row in record["units"]
    ]


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Writes the three measures along the units as PNG, each scaled to its own range."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    units = [row["unit"] for row in record["units"]]
    for key, label, style in (
        ("probe", f"ridge probe, validation {record['select']}", "o-"),
        ("logme", "LogME", "s--"),
        ("h_score", "H-score", "^:"),
    ):
        values = np.array([row[key] for row in record["units"]])
        span = np.nanmax(values) - np.nanmin(values)
        scaled = (values - np.nanmin(values)) / (span or 1.0)
        axes.plot(units, scaled, style, markersize=4,
                  label=f"{label}: {np.nanmin(values):.3f} to {np.nanmax(values):.3f}")  # fmt: skip
    axes.axvline(record["best"], color="tab:red", linewidth=1)
    axes.set_xticks(units)
    axes.set_xlabel("unit")
    axes.set_ylabel("from lowest to highest")
    axes.set_title(f"{record['model']}: fixed features along the units", fontsize=10)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
