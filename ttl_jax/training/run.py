"""The main job: a config in, a trained and evaluated model under a work folder out.

`train` is what the command line, `ttl_jax.finetune` and every sweep call.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ttl_jax import data, evaluation, host, remote, strategies
from ttl_jax.data.card import card
from ttl_jax.data.config import data_config
from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.strategies.average import Soup, WiseFT
from ttl_jax.training import loggers, parallel, provenance
from ttl_jax.training.build import build_model, lengths_of, loss_of
from ttl_jax.training.check import check
from ttl_jax.training.checkpoint import Checkpoints
from ttl_jax.training.constants import source_constants
from ttl_jax.training.feature_store import FeatureStore
from ttl_jax.training.finish import finish
from ttl_jax.training.header import print_header
from ttl_jax.training.inputs import Inputs, as_they_are
from ttl_jax.training.loggers import Logger
from ttl_jax.training.loop import Feed, Job, Outline, selected
from ttl_jax.training.loop import run as run_loop
from ttl_jax.training.predict import Predict, logits_of, make_predict
from ttl_jax.training.preemption import Notice
from ttl_jax.training.programs import Programs
from ttl_jax.training.result import Illustrate, Result, costs, evaluate_once
from ttl_jax.training.start import without_source_head
from ttl_jax.typing import Variables


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
    given = _Given(
        datasets, pause_after, notice or Notice(), committed, programs or Programs(), features, illustrate
    )
    if jax.process_index() > 0:  # the first process alone writes
        return _train(config, workdir, given)
    new = not workdir.exists()
    try:
        with (
            provenance.alone(workdir),
            loggers.opened(config.loggers, workdir, config.to_dict()) as places,
        ):
            return _train(config, workdir, replace(given, loggers=places))
    finally:
        if new and not (workdir / "config.json").exists():  # refused before it began
            shutil.rmtree(workdir, ignore_errors=True)


@dataclass(frozen=True)
class _Given:
    """What `train` is given besides the config; its docstring explains each."""

    datasets: Mapping[str, Dataset] | None
    pause_after: float
    notice: Notice
    committed: Callable[[], None] | None
    programs: Programs
    features: FeatureStore | None
    illustrate: Illustrate | None
    loggers: Sequence[Logger] = ()  # opened: they take the events besides metrics.jsonl


def _train(config: Any, workdir: Path, given: _Given) -> Result:
    notice, programs = given.notice, given.programs
    programs.claim(config)
    strategy = strategies.parse(config.strategy)
    sets = dict(given.datasets) if given.datasets is not None else data.load(data_config(config.data))
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
    inputs = Inputs(config, network, preprocessing, sets, programs, given.features, workdir)
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

    # The starting network of a feature penalty wants the images themselves.
    caching = config.cache_features and not (mixing or "source" in constants or layout.several)

    def outline(bound: strategies.LabelledPhase, variables: Variables) -> Outline:
        frozen = inputs.plan(bound, variables) if caching else None
        if frozen is not None:
            return Outline(as_they_are, lambda: frozen.one, frozen)
        return Outline(inputs.prepare, inputs.one_image)

    def feed(outline: Outline, variables: Variables) -> Feed:
        """Images, or the outputs of the frozen bottom units where these are always the same."""
        fed, predictor = sets, predict
        if outline.frozen is not None:
            fed = inputs.computed(outline.frozen, variables)
            predictor = programs.get(
                ("predict", outline.after),
                partial(make_predict, network, lambda features: features, after=outline.after),
            )

        def validate(variables: Variables) -> dict[str, Any]:
            split = fed["val"]
            logits = logits_for(split, variables, predictor)
            return evaluation.score(split.labels, logits, split.class_names, split.task)

        def batches(start: int, stop: int) -> Iterator[dict[str, Any]]:
            return data.train_batches(
                fed["train"],
                batch_size=config.data.batch_size,
                seed=config.seed,
                start=start,
                stop=stop,
                sampling=config.data.sampling,
                threads=config.data.loader_threads,
                padded=train_rows.padded,
                rows=train_rows.own,
            )

        return Feed(batches, validate, fed["train"])

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
        outline=outline,
        feed=feed,
        steps_per_epoch=steps_per_epoch,
        eval_every=config.eval_every_epochs * steps_per_epoch,
        constants=constants,
        after=strategy.after,
        programs=programs,
        mix=partial(data.mix, spec=mixing, classes=len(training.class_names)) if mixing else None,
        pause_at=given.pause_after * sum(lengths),
        notice=notice,
        layout=layout,
        names=training.names,
        loggers=given.loggers,
    )
    if layout.first:
        print_header(config, sets, bound, lengths, variables)
    checkpoints = Checkpoints(
        workdir, writes=layout.first, share=config.save_share, committed=given.committed
    )
    try:
        progress = run_loop(job, variables, checkpoints, workdir / "metrics.jsonl")
        shapes = {"params": variables["params"], "batch_stats": variables["batch_stats"]}
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
        metrics |= costs(config, strategy, bound, lengths, variables, progress, best_step)
        metrics |= {"after": averaged} if averaged else {}
        metrics["data"] = card(sets)
        if layout.first:
            provenance.write_json(result_path, metrics)
            for place, event in itertools.product(given.loggers, loggers.result_events(metrics)):
                place.event(event)
    best = best if layout.plain else jax.device_put(jax.device_get(best))
    result = Result(metrics, workdir, network, best, training.class_names, predict_views, training.task)
    if given.illustrate is not None and layout.first and config.report_images and config.evaluate_test:
        given.illustrate(result, sets, preprocessing.normalise)
    if layout.first and config.report and not (workdir / "report.html").exists():
        from ttl_jax import report

        beside = report.write([workdir], workdir / "report.tmp.html", f"{config.model.name}, {strategy.name}")
        beside.replace(workdir / "report.html")
    return result
