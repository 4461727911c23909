"""The main job: a config in, a trained and evaluated model under a work folder out.

`train` is what the command line, `ttl_jax.finetune` and every sweep call.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax import data, evaluation, host, models, remote, strategies, weights
from ttl_jax.data.card import card
from ttl_jax.data.config import data_config
from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError, nearest
from ttl_jax.strategies.anatomy import SOURCE_HEAD
from ttl_jax.strategies.average import Soup, WiseFT
from ttl_jax.training import loggers, parallel, provenance
from ttl_jax.training.checkpoint import Checkpoints
from ttl_jax.training.constants import source_constants
from ttl_jax.training.feature_store import FeatureStore
from ttl_jax.training.finish import finish
from ttl_jax.training.inputs import Inputs
from ttl_jax.training.loop import Feed, Job, Progress, selected
from ttl_jax.training.loop import run as run_loop
from ttl_jax.training.loss import Loss, check_loss, log_prior, make_loss
from ttl_jax.training.predict import Predict, logits_of, make_predict
from ttl_jax.training.preemption import Notice
from ttl_jax.training.programs import Programs
from ttl_jax.training.schedule import phase_lengths
from ttl_jax.training.start import restart, with_source_head, without_source_head
from ttl_jax.typing import Array, Variables

SCORED = ("auroc", "auprc", "accuracy", "balanced_accuracy", "f1_macro", "mcc", "kappa", "loss")


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        metrics: the content of result.json.
        workdir: where its files are.
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


Illustrate = Callable[[Result, Mapping[str, Dataset], Callable[[Array], Array]], object]


def check(config: Any) -> None:
    """Refuses values that would only fail after minutes.

    Raises:
        UserError: naming the field, the value and what it takes.
    """
    if config.select not in SCORED:
        raise UserError(f"config select={config.select!r}{nearest(config.select, SCORED)}")
    for key, value in (
        ("data.batch_size", config.data.batch_size),
        ("data.eval_batch_size", config.data.eval_batch_size),
        ("optimizer.lr", config.optimizer.lr),
        ("eval_every_epochs", config.eval_every_epochs),
        ("log_every_steps", config.log_every_steps),
        ("nan_check_steps", config.nan_check_steps),
    ):
        if not value > 0:
            raise UserError(f"config {key}={value} must be above 0")
    if config.total_steps <= 0 and not config.total_epochs > 0:
        raise UserError(f"config total_epochs={config.total_epochs} must be above 0")
    if config.data.views < 0:
        raise UserError(f"config data.views={config.data.views} is negative; 0 means new views every epoch")
    if config.data.class_weights not in ("none", "balanced"):
        raise UserError(
            f"config data.class_weights={config.data.class_weights!r} is not 'none' or 'balanced'"
        )
    if config.data.sampling not in ("uniform", "balanced"):
        raise UserError(f"config data.sampling={config.data.sampling!r} is not 'uniform' or 'balanced'")
    check_loss(config.loss)
    data.parse_augment(config.data.augment)
    loggers.check(config.loggers)
    data.views.views(config.data.tta)
    if config.model.dtype not in ("float32", "bfloat16"):
        raise UserError(f"config model.dtype={config.model.dtype!r} is not 'float32' or 'bfloat16'")


def build_model(
    config: Any, strategy: strategies.Strategy, num_classes: int
) -> tuple[models.Network, Variables, weights.Preprocessing]:
    """Creates the network after the strategy's surgery, with its weights and their preprocessing."""
    surgery, source, size = strategy.surgery, config.model.weights, config.data.image_size
    shape = surgery.shape(config.model.name)
    shape["head"] = config.model.head or shape["head"]
    network = models.create(config.model.name, num_classes, dtype=jnp.dtype(config.model.dtype), **shape)
    if source == "none" or surgery.init == "scratch":
        variables = weights.initialise(
            config.model.name, num_classes, seed=config.seed, **shape, image_size=size
        )
    else:
        variables, report = weights.load_with_report(
            source,
            config.model.name,
            num_classes=num_classes,
            partial=config.model.partial,
            seed=config.seed,
            image_size=size,
            **shape,
        )
        started_fresh = [unit for unit in report.fresh if unit != "head"]
        if started_fresh:
            print(f"units that start fresh: {', '.join(started_fresh)}", flush=True)
        variables = restart(variables, surgery.starts, config.model.name, config.seed)
    if strategy.keeps_source_head:
        variables = with_source_head(variables, source, config.model.name, network)
    # From scratch the images are scaled as the architecture's own weights would have them.
    known = source if source != "none" else "imagenet"
    return network, variables, weights.preprocessing(known, config.model.name)


def train(
    config: Any,
    workdir: str | Path,
    datasets: Mapping[str, Dataset] | None = None,
    *,
    pause_after: float = math.inf,
    notice: Notice | None = None,
    committed: Callable[[], None] | None = None,
    programs: Programs | None = None,
    features: FeatureStore | None = None,
    illustrate: Illustrate | None = None,
) -> Result:
    """Runs or resumes one training, evaluates it, and writes its files.

    Args:
        config: from `ttl_jax.config.default_config`, filled in.
        workdir: folder for config.json, metrics.jsonl, checkpoints, predictions, result.json.
        datasets: {"train", "val", "test", ...} instead of the ones that `config.data` names.
        pause_after: share of the steps; the first validation from there on raises Paused.
        notice: of `preemption.watch`: polled, so that the run can be asked to save and stop.
        committed: called, in another thread, whenever a checkpoint is on disk (to copy it elsewhere).
        programs: the same for several runs, on the same data sets, keeps what was compiled.
        features: shared with other runs, processes too: outputs of frozen units are computed once for
            all of them, as far as `config.cache_disk_gb` allows.
        illustrate: called before the report, with the result, the splits and the network's normalisation,
            where config.report_images allows images.

    Raises:
        Paused: see `pause_after`; the same call without it goes on, bit for bit.
        Preempted: the notice asked to stop; the same call goes on, bit for bit.
        UserError: something in the config or the data has to be mended.
        DivergedError: the loss stopped being a number.
    """
    workdir = remote.only_local(workdir)
    check(config)
    strategies.parse(config.strategy)
    provenance.check(workdir, config)
    parallel.check(config.parallel)
    fault = host.deterministic_fault(os.environ.get("XLA_FLAGS", ""))
    if config.deterministic and fault and jax.default_backend() == "gpu":
        raise UserError(f"config deterministic=True: {fault}")
    rest = (
        datasets, pause_after, notice or Notice(), committed, programs or Programs(), features, illustrate,
    )  # fmt: skip
    if jax.process_index() > 0:  # the first process alone writes
        return _train(config, workdir, *rest)
    new = not workdir.exists()
    try:
        with (
            provenance.alone(workdir),
            loggers.opened(config.loggers, workdir, config.to_dict()) as places,
        ):
            return _train(config, workdir, *rest, places)
    finally:
        if new and not (workdir / "config.json").exists():  # refused before it began
            shutil.rmtree(workdir, ignore_errors=True)


def _train(
    config: Any,
    workdir: Path,
    datasets: Mapping[str, Dataset] | None,
    pause_after: float,
    notice: Notice,
    committed: Callable[[], None] | None,
    programs: Programs,
    features: FeatureStore | None,
    illustrate: Illustrate | None,
    places: Sequence[loggers.Logger] = (),
) -> Result:
    programs.claim(config)
    strategy = strategies.parse(config.strategy)
    sets = dict(datasets) if datasets is not None else data.load(data_config(config.data))
    training = sets["train"]
    network, variables, preprocessing = build_model(config, strategy, len(training.class_names))
    bound = strategies.bind(strategy, variables["params"], config.model.name)
    constants = source_constants(
        bound, network, variables, training, preprocessing.normalise, config.data.eval_batch_size
    )
    layout = parallel.make_layout(
        config.parallel, config.data.batch_size, penalised=any(item.features for item in bound)
    )
    if layout.several and isinstance(strategy.after, Soup | WiseFT):
        raise UserError("soup and wise_ft read checkpoints: they need parallel.hosts='one'")
    notice.agree = layout.agree if layout.several else None
    train_rows = layout.rows(config.data.batch_size)
    mixing = data.parse_mix(config.data.mix)
    inputs = Inputs(config, network, preprocessing, sets, programs, features, workdir)
    if mixing and strategy.keeps_source_head:
        raise UserError("cotuning needs one class an image, so data.mix must be 'none'")
    if mixing and (layout.axis or layout.accumulate > 1 or train_rows.padded != config.data.batch_size):
        raise UserError(
            "data.mix pairs the images of a whole batch: it needs parallel.mode='jit', no accumulation and a "
            "batch that the devices divide"
        )
    predictor_of = partial(make_predict, network, preprocessing.normalise)
    predict = programs.get("predict", predictor_of)
    tta = config.data.tta
    predict_views = predict if tta == "none" else programs.get("views", partial(predictor_of, tta=tta))

    def logits_for(split: Dataset, variables: Variables, predict: Predict = predict) -> np.ndarray:
        rows = layout.rows(min(config.data.eval_batch_size, len(split)), parts=1)
        batches = data.eval_batches(split, rows.padded, rows=rows.own)
        return logits_of(layout.spread(predict), variables, notice.polled(batches))

    def feed(bound: strategies.LabelledPhase, variables: Variables) -> Feed:
        """Images, or the outputs of the frozen bottom units where these are always the same."""
        given, ready, predictor, after, cached = sets, inputs.prepare, predict, None, None
        # The starting network of a feature penalty wants the images themselves.
        if config.cache_features and not (mixing or "source" in constants or layout.several):
            cached = inputs.frozen(bound, variables)
        if cached is not None:
            after, given = cached
            ready = as_they_are
            predictor = programs.get(
                ("predict", after), partial(make_predict, network, lambda features: features, after=after)
            )

        def validate(variables: Variables) -> dict[str, Any]:
            split = given["val"]
            logits = logits_for(split, variables, predictor)
            return evaluation.score(split.labels, logits, split.class_names, split.task)

        def batches(start: int, stop: int) -> Iterator[dict[str, Any]]:
            return data.train_batches(
                given["train"],
                batch_size=config.data.batch_size,
                seed=config.seed,
                start=start,
                stop=stop,
                sampling=config.data.sampling,
                threads=config.data.loader_threads,
                padded=train_rows.padded,
                rows=train_rows.own,
            )

        return Feed(batches, ready, validate, given["train"], after)

    steps_per_epoch = len(training) / config.data.batch_size
    lengths = lengths_of(config, bound, steps_per_epoch)
    if layout.first:
        provenance.claim(workdir, config)
    job = Job(
        config=config,
        network=network,
        phases=bound,
        lengths=lengths,
        loss=loss_of(config, training),
        keys_of=inputs.keys_of,
        feed=feed,
        steps_per_epoch=steps_per_epoch,
        eval_every=config.eval_every_epochs * steps_per_epoch,
        constants=constants,
        after=strategy.after,
        programs=programs,
        mix=partial(data.mix, spec=mixing, classes=len(training.class_names)) if mixing else None,
        pause_at=pause_after * sum(lengths),
        notice=notice,
        layout=layout,
        names=training.names,
        loggers=places,
    )
    if layout.first:
        print_header(config, sets, bound, lengths, variables)
    checkpoints = Checkpoints(workdir, writes=layout.first, committed=committed)
    try:
        progress = run_loop(job, variables, checkpoints, workdir / "metrics.jsonl")
        shapes = jax.tree.map(
            jnp.asarray, {"params": variables["params"], "batch_stats": variables["batch_stats"]}
        )
        best_step = progress.best_step
        best = layout.replicate(
            layout.from_first(lambda: checkpoints.restore_best(shapes, best_step)[0], shapes)
        )

        def select(candidate: Variables) -> float:
            split = sets["val"]
            scores = evaluation.score(
                split.labels,
                logits_for(split, layout.replicate(candidate)),
                split.class_names,
                split.task,
            )
            return selected(scores, config.select)

        best = best if layout.plain else jax.device_get(best)  # what it is averaged with lies on one device
        best, averaged = finish(strategy.after, bound[-1], len(bound), variables, best, checkpoints, select)
        best = layout.replicate(without_source_head(best))
    finally:
        checkpoints.close()
        shutil.rmtree(workdir / "features", ignore_errors=True)
    result_path = workdir / "result.json"
    metrics = json.loads(result_path.read_text()) if result_path.exists() else {}
    scored = {name: split for name, split in sets.items() if name == "val" or config.evaluate_test}
    scored.pop("train", None)
    if layout.json_from_first(
        lambda: metrics.keys() >= scored.keys()
    ):  # the test split was touched already, once
        print(f"this run is finished: {result_path}", flush=True)
    else:
        metrics = evaluate_once(
            workdir, scored, lambda split: logits_for(split, best, predict_views), layout.first
        )
        metrics |= _costs(config, strategy, bound, lengths, variables, progress, best_step)
        metrics |= {"after": averaged} if averaged else {}
        metrics["data"] = card(sets)
        if layout.first:
            provenance.write_json(result_path, metrics)
            for place, event in itertools.product(places, loggers.result_events(metrics)):
                place.event(event)
    best = best if layout.plain else jax.tree.map(jnp.asarray, jax.device_get(best))
    result = Result(metrics, workdir, network, best, training.class_names, predict_views, training.task)
    if illustrate is not None and layout.first and config.report_images and config.evaluate_test:
        illustrate(result, sets, preprocessing.normalise)
    if layout.first and config.report and not (workdir / "report.html").exists():
        from ttl_jax import report

        beside = report.write([workdir], workdir / "report.tmp.html", f"{config.model.name}, {strategy.name}")
        beside.replace(workdir / "report.html")
    return result


def lengths_of(
    config: Any, bound: tuple[strategies.LabelledPhase, ...], steps_per_epoch: float
) -> tuple[int, ...]:
    """The steps of every phase."""
    total = config.total_steps or math.ceil(config.total_epochs * steps_per_epoch)
    return tuple(phase_lengths([item.phase for item in bound], total, steps_per_epoch))


def as_they_are(images: Array, keys: Array) -> Array:
    """Cached features need no preparation."""
    return images


def loss_of(config: Any, training: Dataset) -> Loss:
    """The loss that the config names, with weights and frequencies counted on the training split."""
    weights = np.ones(len(training.class_names), np.float32)
    if config.data.class_weights == "balanced":
        weights = data.class_weights(training)
    options: dict[str, Any] = {"smoothing": config.loss.smoothing}
    if config.loss.name == "focal":
        options["gamma"] = config.loss.gamma
    if config.loss.name == "logit_adjusted":
        frequency = jnp.asarray(data.frequencies(training))
        options["shift"] = log_prior(training.task, frequency, config.loss.tau)
    return make_loss(training.task, jnp.asarray(weights), **options)


def evaluate_once(
    workdir: Path, sets: Mapping[str, Dataset], logits_for: Any, writes: bool = True
) -> dict[str, Any]:
    """Scores every held-out split with the best variables and keeps its predictions."""
    scores: dict[str, Any] = {}
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
        scores[name] = evaluation.score(split.labels, logits, split.class_names, split.task)
    return scores


def _costs(
    config: Any,
    strategy: strategies.Strategy,
    bound: tuple[strategies.LabelledPhase, ...],
    lengths: tuple[int, ...],
    variables: Variables,
    progress: Progress,
    best_step: int,
) -> dict[str, Any]:
    sizes = {path: leaf.size for path, leaf in strategies.flatten(variables["params"]).items()}
    return {
        "best_step": best_step,
        "seconds": round(progress.seconds, 2),
        "trained_together": progress.together,
        "params": int(sum(size for path, size in sizes.items() if not path.startswith(SOURCE_HEAD))),
        "trainable_params": int(max(sum(sizes[path] for path in item.trainable) for item in bound)),
        "flops_per_step": float(np.average(progress.flops_per_step, weights=lengths)),
        "steps": progress.step,
        "model": config.model.name,
        "weights": config.model.weights,
        "strategy": config.strategy,
        "dataset": config.data.name
        if not config.data.path
        else f"{config.data.name}:{Path(config.data.path).name}",
        "seed": config.seed,
        "image_size": config.data.image_size,
        "epochs": config.total_epochs,
    }


def print_header(
    config: Any,
    sets: Mapping[str, Dataset],
    bound: tuple[strategies.LabelledPhase, ...],
    lengths: tuple[int, ...],
    variables: Variables,
) -> None:
    """Prints data, model and the label table of every phase, before step 0."""
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else 110)
    for name, split in sets.items():
        console.print(f"{name:8}{_describe(split)}")
    console.print(
        f"model   {config.model.name}, weights {config.model.weights}, "
        f"{config.data.image_size} px, {jax.default_backend()}, seed {config.seed}"
    )
    table = Table("phase", "steps", "label", "leaves", "parameters", "share", "BatchNorm statistics")
    for item, length in zip(bound, lengths, strict=True):
        for number, row in enumerate(strategies.table(item, variables["params"], config.model.name)):
            table.add_row(
                item.phase.name if number == 0 else "",
                str(length) if number == 0 else "",
                row.label,
                str(row.leaves),
                f"{row.parameters:,}",
                f"{row.share:.2%}",
                row.statistics,
            )
    console.print(table)


def _describe(split: Dataset) -> str:
    if split.task == "multilabel":
        counts = np.nansum(split.labels, axis=0).astype(int)
    else:
        counts = np.bincount(split.labels, minlength=len(split.class_names))
    parts = ", ".join(f"{name} {count}" for name, count in zip(split.class_names, counts, strict=True))
    return f"{len(split.ids)} images, {len(set(split.groups.tolist()))} groups: {parts}"
