"""The result of a finished run: its scores, its costs, and the model that it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax import evaluation
from ttl_jax.data.dataset import Dataset
from ttl_jax.evaluation import sanity
from ttl_jax.training.predict import Predict
from ttl_jax.typing import Variables


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        metrics: the content of result.json.
        workdir: the run's folder.
        model: the Flax module.
        variables: the best parameters and statistics.
        class_names: the order of the columns of `predict`.
    """

    metrics: dict[str, Any]
    workdir: Path
    model: nn.Module
    variables: Variables
    class_names: tuple[str, ...]
    _predict: Predict
    _task: str

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (N, classes) for uint8 images (N, S, S, C) at the size trained on."""
        logits = self._predict(self.variables, jnp.asarray(images))
        probability = jax.nn.softmax if self._task == "multiclass" else jax.nn.sigmoid
        return np.asarray(probability(logits))

    def report(self) -> Path:
        """The run's one-file HTML report."""
        return self.workdir / "report.html"


def evaluate_once(
    workdir: Path,
    sets: Mapping[str, Dataset],
    logits_for: Any,
    writes: bool = True,
    kept_step: int | None = None,
) -> dict[str, Any]:
    """Scores every held-out split with the best variables and keeps its predictions.

    Returns:
        split -> `score`; "intervals": split -> {metric: [low, high]}, 95 % over patients; and "warnings": a
        list of {"code", "message", "remedy"}, see `evaluation.sanity`, which are printed too.
    """
    scores: dict[str, Any] = {}
    held: dict[str, evaluation.Predictions] = {}
    for name, split in sets.items():
        logits = logits_for(split)
        if writes:
            evaluation.predictions.save(
                workdir / "predictions" / f"{name}.npz",
                ids=split.ids,
                groups=split.groups,
                labels=split.labels,
                logits=logits,
                class_names=split.class_names,
                task=split.task,
                columns=split.columns,
            )
        given = split.labels, logits, split.class_names, split.task
        scores[name] = evaluation.score(*given)
        held[name] = evaluation.Predictions(split.ids, split.groups, *given)
    log = workdir / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    course = [line for line in lines if line.get("split") == "val"]
    warnings = sanity.warnings_of(held, scores, course, kept_step)
    if writes:
        for warning in warnings:
            print(f"WARNING {warning.message}. {warning.remedy[0].upper()}{warning.remedy[1:]}.", flush=True)
    intervals = {
        name: {metric: list(ends) for metric, ends in evaluation.intervals_of([each]).items()}
        for name, each in held.items()
    }
    return scores | {"intervals": intervals, "warnings": [asdict(warning) for warning in warnings]}
