"""From a run's last step to its result: the weights to keep, their scores, its costs, its report."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np

from ttl_jax import strategies
from ttl_jax.data.card import card, looked_for, title
from ttl_jax.evaluation import predictions
from ttl_jax.evaluation.registry import Merit, merit
from ttl_jax.strategies import flatten
from ttl_jax.strategies.anatomy import SOURCE_HEAD, variables_of
from ttl_jax.strategies.parts import Ended
from ttl_jax.system.json_object import read_object
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.frozen.phase_data import PhaseData
from ttl_jax.training.progress import Progress
from ttl_jax.training.records import loggers, signature
from ttl_jax.training.records.signature import Signature
from ttl_jax.training.records.training_features import write_training_features
from ttl_jax.training.result import Result, evaluate_once
from ttl_jax.training.start import without_source_head
from ttl_jax.training.trainer import Trainer
from ttl_jax.typing import Variables


def best_weights(trainer: Trainer, progress: Progress) -> tuple[Variables, dict[str, Any]]:
    """The variables to evaluate, and what result.json says of an average of several."""
    inputs, layout, last = trainer.inputs, trainer.layout, trainer.phases[-1]
    images, predict = PhaseData(inputs, last, inputs.sets), inputs.predictor()
    best = trainer.best(progress.best_step)
    best = best if layout.plain else jax.device_get(best)  # what it is averaged with lies on one device

    def estimated(candidate: Variables) -> Variables:
        if not trainer.estimate.batches:
            return candidate
        settled = images.estimated(layout.replicate(candidate))
        return settled if layout.plain else jax.device_get(settled)

    def score(candidate: Variables) -> Merit:
        shown = layout.replicate(estimated(candidate))
        return merit(inputs.scores(inputs.sets["val"], shown, predict), trainer.config.select)

    checkpoints, alone = trainer.checkpoints, len(trainer.phases) == 1
    ended = Ended(
        best=flatten(best),
        start=lambda: flatten(trainer.variables if alone else checkpoints.restore_start(best)),
        validated=lambda: [flatten(item) for item in checkpoints.restore_ingredients(best, last.keeps)],
        fresh_head=alone,
    )
    for item in last.parts:
        made = item.end(ended, lambda leaves: score(variables_of(leaves)))
        if made is not None:
            return estimated(variables_of(made[0])), {"after": made[1]}
    return best, {}


def make_result(trainer: Trainer, progress: Progress, best: Variables, averaged: dict[str, Any]) -> Result:
    """Scores what was held out, once; then features of the training images, the caller's hooks, the report.

    Args:
        trainer: the run's trainer.
        progress: the run's progress after its last step.
        best, averaged: the results of `best_weights`.
    """
    inputs, layout = trainer.inputs, trainer.layout
    best = layout.replicate(without_source_head(best))
    metrics = _scored(trainer, best, _costs(trainer, progress) | averaged)
    best = best if layout.plain else jax.device_put(jax.device_get(best))
    predict, signed = inputs.predictor(trainer.config.data.tta), _signature(trainer)
    result = Result(metrics, inputs.workdir, trainer.config, inputs.network, best, signed, predict)
    if layout.first:
        write_training_features(trainer, best)
        for hook in trainer.hooks:
            hook.on_result(trainer, result)
        _report(trainer)
    return result


def _signature(trainer: Trainer) -> Signature:
    """The run's signature, written where it is not there yet."""
    inputs = trainer.inputs

    def known() -> dict[str, Any]:
        written = signature.read(inputs.workdir)
        if written is None:
            validation = predictions.load(inputs.workdir / "predictions" / "val.npz")
            shape = inputs.one_image().shape
            written = signature.signature_of(trainer.config, validation, inputs.preprocessing, shape)
            signature.write(inputs.workdir, written)
        return written.to_json()

    return signature.from_json(trainer.layout.json_from_first(known))


def _scored(trainer: Trainer, best: Variables, about: dict[str, Any]) -> dict[str, Any]:
    """Scores what was held out, where that was not done before, and writes result.json.

    Args:
        trainer: the run's trainer.
        best: the variables to evaluate, placed.
        about: the entries of result.json besides the scores.
    """
    inputs, layout, config = trainer.inputs, trainer.layout, trainer.config
    path, predict = inputs.workdir / "result.json", inputs.predictor(config.data.tta)
    metrics = read_object(path) if path.exists() else {}
    held_out = {name: split for name, split in inputs.sets.items() if name == "val" or config.evaluate_test}
    held_out.pop("train", None)
    # The test split is touched once.
    if layout.json_from_first(lambda: metrics.keys() >= held_out.keys()):
        print(f"this run is finished: {path}", flush=True)
        return metrics
    metrics = evaluate_once(
        inputs.workdir,
        held_out,
        lambda split: inputs.logits(split, best, predict),
        layout.first,
        None if "after" in about else about["best_step"],
    )
    metrics |= about | {"data": card(inputs.sets) | looked_for(config.data)}
    if layout.first:
        write_json(path, metrics)
        for place, event in itertools.product(trainer.log.loggers, loggers.result_events(metrics)):
            place.event(event)
    return metrics


def _costs(trainer: Trainer, progress: Progress) -> dict[str, Any]:
    """The entries of result.json besides the scores: steps, seconds, sizes, and what was run."""
    config, bound, variables = trainer.config, trainer.phases, trainer.variables
    normalised = bool(variables["batch_stats"])
    sizes = {path: leaf.size for path, leaf in strategies.flatten(variables["params"]).items()}
    return {
        "best_step": progress.best_step,
        "best_phase": None if progress.best_phase is None else bound[progress.best_phase].phase.name,
        "seconds": round(progress.seconds, 2),
        "trained_together": progress.together,
        "params": int(sum(size for path, size in sizes.items() if not path.startswith(SOURCE_HEAD))),
        "trainable_params": int(max(sum(sizes[path] for path in item.trainable) for item in bound)),
        "flops_per_step": float(np.average(progress.flops_per_step, weights=trainer.lengths)),
        "steps": progress.step,
        "model": config.model.name,
        "weights": config.model.weights,
        "bn_momentum": config.model.bn_momentum if normalised else None,
        "bn_estimate": config.model.bn_estimate if normalised else None,
        "strategy": strategies.title(config.strategy),
        "dataset": title(config.data),
        "seed": config.seed,
        "image_size": config.data.image_size,
        "epochs": config.total_epochs,
    }


def _report(trainer: Trainer) -> None:
    """Writes the run's report, unless it is there."""
    config, path = trainer.config, trainer.inputs.workdir / "report.html"
    if config.report and not path.exists():
        from ttl_jax import report

        title = f"{config.model.name}, {trainer.strategy.name}"
        report.write([path.parent], path, title)
