"""The whole evaluation of a finished run on another data set: an external test.

What was chosen on validation (weights, temperature, thresholds, prediction sets) stays. The folder that is
written reads as a run's: predictions/val.npz are the run's own, predictions/test.npz those of the other data,
so that reports and tables of runs are made of it as of any.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax import data, evaluation, report
from ttl_jax.config import DataConfig
from ttl_jax.data.card import card
from ttl_jax.data.dataset import Dataset
from ttl_jax.data.pseudonyms import pseudonymous
from ttl_jax.data.splits.fingerprint import alike
from ttl_jax.deploy.external_data import ALL, as_the_run, config_of, read_external, with_classes_of
from ttl_jax.deploy.finished_run import Run
from ttl_jax.errors import UserError
from ttl_jax.evaluation import Predictions, sanity
from ttl_jax.evaluation.intervals import clustered_proportion
from ttl_jax.evaluation.out_of_distribution import distance, percentile
from ttl_jax.evaluation.probability import probabilities
from ttl_jax.evaluation.shift import shift
from ttl_jax.evaluation.subgroups import gaps
from ttl_jax.report.operating import operating_rows
from ttl_jax.system.csv_cell import csv_line
from ttl_jax.system.json_object import read_object
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.predictor import make_predict
from ttl_jax.training.records import provenance
from ttl_jax.training.records.training_features import (
    Described,
    TrainingFeatures,
    describe,
    load_training_features,
)
from ttl_jax.typing import Float, Int, Shaped

BEYOND = 95.0  # percentile of validation's distances from which an image counts as out of distribution
KEPT = ("model", "weights", "strategy", "seed", "image_size", "epochs", "params", "trainable_params")


@dataclass(frozen=True)
class Leak:
    """An image of the other data that the run was trained on.

    Attributes:
        id, training_id: its name there, and that of the training image.
        kind: "same pixels" or "alike".
        likeness: correlation of their fingerprints.
        row: its place in the other data.
    """

    id: str
    training_id: str
    kind: str
    likeness: float
    row: int


def evaluate(
    run: Run,
    given: DataConfig | str | Path | tuple[Any, Any],
    out: str | Path | None = None,
    *,
    split: str = ALL,
    classes: Mapping[str, str] | None = None,
    name: str = "",
) -> dict[str, Any]:
    """Evaluate a finished run on another data set, and write its predictions, result.json and report.html.

    Args:
        run: the run.
        given: the data's config, a path whose kind is guessed, or a pair (images uint8, labels); size and
            decoding are the run's, whatever a config says.
        out: folder to write, on this machine; None is external/NAME in the run's folder.
        split: "all", or one of the data's own splits.
        classes: {a class of the data: the run's name of the same}.
        name: what tables and the report call the data, and the folder; "" makes one of the config.

    Returns:
        the content of result.json.

    Raises:
        UserError: data that cannot be read, classes that do not agree, a folder of something else, or a name
            that would lead out of the run's folder.
    """
    settings, named = as_the_run(config_of(given), run.signature), classes or {}
    called = name or name_of(settings, split)
    folder = Path(folder_in(str(run.folder), called) if out is None else out)
    about = _about(run, settings, split, named)
    _refuse_folder(folder, about)
    read = read_external(given, settings, run.signature, split)
    dataset = pseudonymous(with_classes_of(read, run.signature, named))
    here, described = _predicted(run, dataset)
    validation_file = run.folder / "predictions" / "val.npz"
    validation = evaluation.predictions.load(validation_file)
    scored = _scored(here)
    against, beyond, leaks = _against_training(run, here, validation, described)
    result = {
        "val": run.metrics["val"],
        "test": {key: value for key, value in scored.items() if key != "intervals"},
        "intervals": {"val": _intervals(validation), "test": scored["intervals"]},
        "warnings": [asdict(each) for each in sanity.warnings_of({"test": here}, {"test": scored})],
        "data": card({"test": dataset}),
        **{key: run.metrics[key] for key in KEPT if key in run.metrics},
        "dataset": called,
        "external": {
            "run": str(run.folder),
            **shift(validation, here, run.signature.temperature),
            "thresholds": [
                asdict(each) | {"threshold": each.threshold if np.isfinite(each.threshold) else None}
                for each in operating_rows(validation, here)
            ],
            "gaps": [asdict(each) for each in gaps(here)],
            **against,
        },
    }
    result = dict(json.loads(json.dumps(result, allow_nan=False)))  # as it is read again
    _write_images(folder / "images.csv", here, run.signature.temperature, beyond, leaks)
    _write(folder, about, validation_file, here, result)
    return result


def name_of(config: DataConfig, split: str) -> str:
    """A name of the data for folders and tables, as csv-hospital_b or phantom-mri-shifted."""
    parts = [config.name, Path(config.path).stem, "" if split == ALL else split]
    return re.sub(r"[^A-Za-z0-9._]+", "-", "-".join(part for part in parts if part)).strip("-")


def folder_in(run: str, name: str) -> str:
    """The folder of an evaluation in its run's, which may be gs://; raise UserError if it lay elsewhere."""
    if name in (".", "..") or set(name) & set("/\\") or not name.isprintable():
        raise UserError(
            f"name={name!r} is not the name of a folder in {run}/external: leave out slashes, or say --out"
        )
    return f"{run.rstrip('/')}/external/{name}"


def _about(run: Run, config: DataConfig, split: str, classes: Mapping[str, str]) -> dict[str, Any]:
    """The content of config.json: the run's, with the other data in the place of its own."""
    about = read_object(run.folder / "config.json")
    settings = run.config.to_dict()
    settings["data"] |= config.to_dict()
    evaluated = {"run": str(run.folder), "split": split, "classes": dict(classes)}
    made = {"versions": provenance.versions(), "command": provenance.command(), "evaluated": evaluated}
    return json.loads(json.dumps(about | {"config": settings} | made))  # type: ignore[no-any-return]


def _refuse_folder(folder: Path, about: Mapping[str, Any]) -> None:
    """Raise UserError where a folder holds something else than an evaluation of the same data."""
    path = folder / "config.json"
    if not path.exists():
        return
    there = read_object(path)
    if "evaluated" not in there:
        raise UserError(f"{folder} is the folder of a training: name another --out")
    if there["evaluated"] != about["evaluated"] or there["config"]["data"] != about["config"]["data"]:
        raise UserError(f"{folder} holds the evaluation of other data: name another --out or --name")


def _predicted(run: Run, dataset: Dataset) -> tuple[Predictions, Described]:
    """Predictions as trained, and the images as the leak check sees them."""
    size = min(run.config.data.eval_batch_size, len(dataset))
    logits = np.concatenate(
        [run.logits(batch["image"][batch["mask"] > 0]) for batch in data.eval_batches(dataset, size)]
    )
    featurize = make_predict(run.model.pooled(), run.signature.normalisation.normalise)
    described = describe(featurize, run.variables, data.eval_batches(dataset, size))
    here = Predictions(
        dataset.ids,
        dataset.groups,
        dataset.labels,
        logits,
        dataset.class_names,
        dataset.task,
        dataset.columns,
    )
    return here, described


def _intervals(held: Predictions) -> dict[str, list[float]]:
    return {metric: list(ends) for metric, ends in evaluation.intervals_of([held]).items()}


def find_leaks(
    ids: Shaped[np.ndarray, "n"], described: Described, known: TrainingFeatures, likeness: float
) -> tuple[Leak, ...]:
    """The images that the run was trained on, each with the training image most like it.

    Args:
        ids: names of the other data's images.
        described: these images.
        known: what the run kept of its training images.
        likeness: `config.data.likeness` of the run.
    """
    by_hash = {bytes(digest): place for place, digest in enumerate(known.hashes) if digest.any()}
    by_row: dict[int, Leak] = {}
    for row, digest in enumerate(described.hashes):
        if (place := by_hash.get(bytes(digest))) is not None:
            by_row[row] = Leak(str(ids[row]), str(known.ids[place]), "same pixels", 1.0, row)
    pairs = alike(known.fingerprints, described.fingerprints, likeness)
    for number in np.argsort(-pairs.likeness, kind="stable"):
        row, place = int(pairs.second[number]), int(pairs.first[number])
        leak = Leak(str(ids[row]), str(known.ids[place]), "alike", float(pairs.likeness[number]), row)
        by_row.setdefault(row, leak)
    return tuple(by_row[row] for row in sorted(by_row))


def _against_training(
    run: Run, here: Predictions, validation: Predictions, described: Described
) -> tuple[dict[str, Any], Float[np.ndarray, "n"], tuple[Leak, ...]]:
    """Compare with the run's training images: result entries, a percentile an image, leaks."""
    try:
        known = load_training_features(run.folder)
    except UserError as error:
        return {"unknown": str(error)}, np.full(len(here), np.nan), ()
    away = distance(known.features, described.features)
    beyond = percentile(away, known.validation, validation.groups)
    leaks = find_leaks(here.ids, described, known, run.config.data.likeness)
    share = clustered_proportion(beyond >= BEYOND, here.groups)
    entries: dict[str, Any] = {
        "out_of_distribution": {"beyond": BEYOND, "expected": 1 - BEYOND / 100, **asdict(share)},
        "leaks": {
            "same_pixels": sum(each.kind == "same pixels" for each in leaks),
            "alike": sum(each.kind == "alike" for each in leaks),
            "compared_with": len(known.ids),
            "training_images": known.images,
        },
    }
    if leaks:
        clean = np.setdiff1d(np.arange(len(here)), [each.row for each in leaks])
        entries["without_leaks"] = _scored(taken(here, clean)) if len(clean) else None
    return entries, beyond, leaks


def _scored(held: Predictions) -> dict[str, Any]:
    scores = evaluation.score(held.labels, held.logits, held.class_names, held.task)
    return {**scores, "intervals": _intervals(held)}


def taken(held: Predictions, rows: Int[np.ndarray, "k"]) -> Predictions:
    """Some rows of predictions."""
    columns = {name: cells[rows] for name, cells in held.columns.items()}
    arrays = {name: getattr(held, name)[rows] for name in ("ids", "groups", "labels", "logits")}
    return replace(held, **arrays, columns=columns)


def _write(
    folder: Path,
    about: dict[str, Any],
    validation: Path,
    here: Predictions,
    result: dict[str, Any],
) -> None:
    """Write the folder's files, those that others are judged by last."""
    evaluation.predictions.save(
        folder / "predictions" / "test.npz",
        ids=here.ids, groups=here.groups, labels=here.labels, logits=here.logits,
        class_names=here.class_names, task=here.task, columns=here.columns,
    )  # fmt: skip
    shutil.copyfile(validation, folder / "predictions" / "val.npz")
    write_json(folder / "config.json", about)
    write_json(folder / "result.json", result)
    title = f"External test of {result['model']}, {result['strategy']}, on {result['dataset']}"
    report.write([folder], folder / "report.html", title)


def _write_images(
    path: Path, here: Predictions, temperature: float, beyond: Float[np.ndarray, "n"], leaks: Sequence[Leak]
) -> None:
    """Write a row an image: truth, calibrated probabilities, distance, and the training image that it is."""
    chances = probabilities(here.logits / temperature, here.task)
    several, by_row = here.task == "multilabel", {each.row: each for each in leaks}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        truth = [f"true_{name}" for name in here.class_names] if several else ["true"]
        heads = ["id", "group", *truth, *(f"p_{name}" for name in here.class_names), "out_of_distribution",
                 "leak", "training_image", "likeness"]  # fmt: skip
        file.write(csv_line(heads))
        for row, id in enumerate(here.ids):
            true = here.labels[row].tolist() if several else [here.class_names[int(here.labels[row])]]
            leak = by_row.get(row)
            away = "" if np.isnan(beyond[row]) else f"{beyond[row]:.1f}"
            about = [leak.kind, leak.training_id, f"{leak.likeness:.4f}"] if leak else ["", "", ""]
            numbers = [f"{chance:.6g}" for chance in chances[row]]
            file.write(csv_line([str(id), str(here.groups[row]), *true, *numbers, away, *about]))
