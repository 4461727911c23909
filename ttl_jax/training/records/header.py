"""The header printed before the first step: the data, the model, and who trains when."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from ttl_jax import strategies
from ttl_jax.config import RunConfig
from ttl_jax.data import auto_augment, parse_augment
from ttl_jax.data.dataset import Dataset
from ttl_jax.system import terminal
from ttl_jax.training.batch_statistics import estimate_of
from ttl_jax.typing import Variables


def print_header(
    config: RunConfig,
    sets: Mapping[str, Dataset],
    bound: tuple[strategies.LabelledPhase, ...],
    lengths: tuple[int, ...],
    variables: Variables,
) -> None:
    """Prints data, model and the label table of every phase, before step 0."""
    console = terminal.console()
    training, origin = sets["train"], sets["train"].origin
    for label, text in (
        ("data", f"{origin.source or config.data.name}, {_kind(training)}"),
        ("split", origin.splits_from),
        *(("", note) for note in origin.notes),
    ):
        if text:
            console.print(f"{label:8}{text}", markup=False)
    for name, split in sets.items():
        console.print(f"{name:8}{_describe(split)}", markup=False)
    console.print(
        f"model   {config.model.name}, weights {config.model.weights}, "
        f"{config.data.image_size} px, {jax.default_backend()}, seed {config.seed}"
    )
    if variables["batch_stats"]:
        console.print(f"BatchNorm statistics: {estimate_of(config.model)}")
    text = config.data.augment
    if text == "auto":
        text, why = auto_augment(config.data.name)
        mirrored = (
            "" if {"flip", "flip_vertical"} & {step.name for step in parse_augment(text)} else "; no mirror"
        )
        text = f"auto: {text}{mirrored} ({why})"
    console.print(f"augment {text}")
    rows = [
        {
            "phase": item.phase.name if number == 0 else "",
            "steps": length if number == 0 else "",
            "label": row.label,
            "leaves": row.leaves,
            "parameters": row.parameters,
            "share": f"{row.share:.2%}",
            "BatchNorm statistics": row.statistics,
        }
        for item, length in zip(bound, lengths, strict=True)
        for number, row in enumerate(strategies.table(item, variables["params"], config.model.name))
    ]
    console.print(terminal.table(rows, console.width))
    if len(bound) > 1:
        console.print(between_phases(config))


def between_phases(config: RunConfig) -> str:
    """Return, as one sentence, what a run of several phases hands over from one to the next and keeps."""
    among = "the last phase" if config.select_phase == "last" else "all phases"
    return (
        f"a phase starts from the {config.hand_over} state of the one before (hand_over); kept: the best "
        f"{config.select} on validation of {among} (select_phase), then the lower loss, then the later step"
    )


def _kind(split: Dataset) -> str:
    names = len(split.class_names)
    if split.task == "multilabel":
        return "one label" if names == 1 else f"{names} labels, several an image"
    return f"{names} classes"


def _describe(split: Dataset) -> str:
    if split.task == "multilabel":
        counts = np.nansum(split.labels, axis=0).astype(int)
    else:
        counts = np.bincount(split.labels, minlength=len(split.class_names))
    parts = ", ".join(f"{name} {count}" for name, count in zip(split.class_names, counts, strict=True))
    return f"{len(split.ids)} images, {len(set(split.groups.tolist()))} groups: {parts}"
