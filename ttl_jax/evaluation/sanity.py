"""Warnings at the end of a run: figures that say that something went wrong; nothing is chosen by them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ttl_jax.evaluation import registry
from ttl_jax.evaluation.calibration import fit_temperature
from ttl_jax.evaluation.metrics import confusion
from ttl_jax.evaluation.predictions import Predictions

HOT = 5.0  # a temperature from which on probabilities say next to nothing
_SPLITS = {"val": "validation", "test": "the test split", "shifted": "the shifted test split"}


@dataclass(frozen=True)
class RunWarning:
    """A fault of a run.

    Attributes:
        code: one word for programs.
        message: what was found, and where.
        remedy: what to do.
    """

    code: str
    message: str
    remedy: str


def warnings_of(
    held: Mapping[str, Predictions],
    scores: Mapping[str, Mapping[str, Any]],
    course: Sequence[Mapping[str, Any]] = (),
    kept_step: int | None = None,
) -> tuple[RunWarning, ...]:
    """Warns of what is undefined or bad about a finished run.

    Args:
        held: split -> its predictions.
        scores: split -> the `score` of these.
        course: the validations in the order of their steps, each with "step" and "loss".
        kept_step: the step whose weights were evaluated; None where they are an average of several.
    """
    warnings: list[RunWarning] = []
    for split, predictions in held.items():
        if len(predictions):
            warnings += _of_split(_SPLITS.get(split, split), predictions, scores[split])
    validation = held["val"] if "val" in held else None
    if validation is not None and len(validation) and np.isfinite(scores["val"]["loss"] or np.nan):
        temperature = fit_temperature(validation.labels, validation.logits, validation.task)
        warnings += _temperature(temperature, scores["val"]["accuracy"] == 1.0)
    losses = {line["step"]: line["loss"] for line in course if line.get("loss") is not None}
    if kept_step in losses and len(losses) > 2 and losses[kept_step] == max(losses.values()):
        best = min(losses, key=lambda step: losses[step])
        if losses[best] < losses[kept_step]:
            warnings.append(
                RunWarning(
                    "kept_worst_loss",
                    f"the weights kept, of step {kept_step}, have the highest validation loss of all, "
                    f"{losses[kept_step]:.3f} (lowest: {losses[best]:.3f} at step {best})",
                    "compare with select='loss': the figure that chose them may be noise on so few images",
                )
            )
    return tuple(warnings)


def _of_split(where: str, held: Predictions, scores: Mapping[str, Any]) -> list[RunWarning]:
    warnings = []
    wanted = [each.name for each in registry.metrics() if each.in_report and held.task in each.tasks]
    undefined = [name for name in wanted if scores[name] is None]
    absent = list(scores["absent"])
    if undefined or absent:
        parts = [f"no example inside or outside of: {', '.join(absent)}"] if absent else []
        parts += [f"not defined: {', '.join(undefined)}"] if undefined else []
        warnings.append(
            RunWarning(
                "undefined",
                f"on {where} {'; '.join(parts)}",
                "means leave those classes out: take more images of them, another split "
                "(data.split_seed, data.val_fraction, data.test_fraction), or folds (data.folds)",
            )
        )
    classes, several = len(held.class_names), held.task == "multilabel"
    chance = math.log(2 if several else classes)
    if scores["loss"] is not None and scores["loss"] > chance:
        warnings.append(
            RunWarning(
                "loss_above_chance",
                f"on {where} the loss is {scores['loss']:.2f}; equal probabilities for all would have "
                f"{chance:.2f}",
                "do not read the probabilities: train for longer or at a lower rate, look at BatchNorm's "
                "statistics and at the learning curve, and scale by the temperature fitted on validation",
            )
        )
    counts = confusion(held.labels, held.logits, held.task)
    if several:
        said, true = counts[:, :, 1].sum(axis=1), counts[:, 1, :].sum(axis=1)
        total = counts.sum(axis=(1, 2))
        constant = bool(((said == 0) | (said == total)).all() and ((true > 0) & (true < total)).any())
        text = "every label is decided alike for all images"
    else:
        said, true = counts.sum(axis=0), counts.sum(axis=1)
        constant = bool((said > 0).sum() == 1 and (true > 0).sum() > 1)
        text = f"all {len(held)} images are decided as {held.class_names[int(said.argmax())]!r}"
        share, accuracy = true.max() / true.sum(), scores["accuracy"]
        if not constant and accuracy < share - 1e-9:
            warnings.append(
                RunWarning(
                    "accuracy_below_prevalence",
                    f"on {where} accuracy is {accuracy:.3f}; always saying "
                    f"{held.class_names[int(true.argmax())]!r} would reach {share:.3f}",
                    "with balanced weights or sampling that may be meant: read balanced accuracy; else take "
                    "a threshold chosen on validation (the report has them) or train for longer",
                )
            )
    if constant:
        warnings.append(
            RunWarning(
                "one_class_said",
                f"on {where} {text}",
                "the decisions say nothing: choose a threshold on validation (the report has them), weigh "
                "the classes (data.class_weights='balanced'), train for longer or at another rate",
            )
        )
    return warnings


def _temperature(value: float, all_right: bool) -> list[RunWarning]:
    if all_right:  # the loss falls with T down to 0, and rounds to 0 before that: any small T is found
        return [
            RunWarning(
                "temperature",
                "no temperature can be fitted: every validation image is right, and it goes to its bound",
                "do not read the scaled probabilities; calibration takes a validation split with errors",
            )
        ]
    if value <= HOT:
        return []
    return [
        RunWarning(
            "temperature",
            f"the temperature fitted on validation is {value:.1f}: the probabilities are far too sure",
            "do not read them unscaled; train for fewer steps, with label smoothing or weight decay",
        )
    ]
