"""The main job: a config in, a trained and evaluated model under a work folder out.

`train` is what the command line, `ttl_jax.finetune` and every sweep call.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from ttl_jax import data, strategies
from ttl_jax.config import RunConfig, data_config, run_config
from ttl_jax.data.card import card, looked_for
from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.evaluation.selection import Merit, merit
from ttl_jax.strategies.average import Soup, WiseFT
from ttl_jax.system import host, remote
from ttl_jax.system.preemption import Notice
from ttl_jax.training import devices
from ttl_jax.training.build import build_model
from ttl_jax.training.check import check
from ttl_jax.training.constants import source_constants
from ttl_jax.training.feeding import Feeding
from ttl_jax.training.finish import finish
from ttl_jax.training.frozen.inputs import Inputs
from ttl_jax.training.frozen.store import FeatureStore
from ttl_jax.training.job import job_of, mix_of
from ttl_jax.training.loop import Job, Pause, Paused, restore_best
from ttl_jax.training.loop import run as run_loop
from ttl_jax.training.programs import Programs
from ttl_jax.training.records import loggers, provenance
from ttl_jax.training.records.checkpoint import Checkpoints
from ttl_jax.training.records.header import print_header
from ttl_jax.training.records.loggers import Logger
from ttl_jax.training.result import Illustrate, Result, costs, evaluate_once
from ttl_jax.training.start import without_source_head
from ttl_jax.typing import Variables

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def train(
    config: ConfigDict | RunConfig,
    workdir: str | Path,
    datasets: Mapping[str, Dataset] | None = None,
    *,
    pause_after: float = math.inf,
    go_on: Callable[[], float | None] = lambda: None,
    pausing: contextlib.ExitStack | None = None,
    began: Callable[[], object] = lambda: None,
    notice: Notice | None = None,
    committed: Callable[[], None] | None = None,
    programs: Programs | None = None,
    features: FeatureStore | None = None,
    illustrate: Illustrate | None = None,
) -> Result:
    """Runs or resumes one training, evaluates it, and writes its files.

    Args:
        config: from `ttl_jax.config.default_config`, filled in, or a RunConfig.
        workdir: folder for config.json, metrics.jsonl, checkpoints, predictions, result.json.
        datasets: {"train", "val", "test", ...} instead of the ones that `config.data` names.
        pause_after: share of the steps; the first validation from there on raises Paused.
        go_on: asked there, once the validation is in metrics.jsonl: says the share after which to pause next,
            and the run goes on at once; None pauses it.
        pausing: is handed what ends a paused run, which may go on while another begins: its state is written,
            then its folder let go. Without it Paused is raised once that is done.
        began: called whenever a phase's programs are there and its steps begin.
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
    config = check(provenance.as_begun(workdir, run_config(config)))
    strategies.parse(config.strategy)
    provenance.check(workdir, config)
    devices.check(config.parallel)
    fault = host.deterministic_fault(os.environ.get("XLA_FLAGS", ""))
    if config.deterministic and fault and jax.default_backend() == "gpu":
        raise UserError(f"config deterministic=True: {fault}")
    new = not workdir.exists()
    with contextlib.ExitStack() as ending:
        given = _Given(
            datasets,
            Pause(pause_after, go_on),
            began,
            notice or Notice(),
            committed,
            programs or Programs(),
            features,
            illustrate,
            ending,
        )
        try:
            if jax.process_index() > 0:  # the first process alone writes
                return _train(config, workdir, given)
            ending.enter_context(provenance.alone(workdir))
            with loggers.opened(config.loggers, workdir, config.to_dict()) as places:
                return _train(config, workdir, replace(given, loggers=places))
        except Paused:
            if pausing is not None:
                pausing.enter_context(ending.pop_all())
            raise
        finally:
            if new and not (workdir / "config.json").exists():  # refused before it began
                shutil.rmtree(workdir, ignore_errors=True)


@dataclass(frozen=True)
class _Given:
    """What `train` is given besides the config; its docstring explains each."""

    datasets: Mapping[str, Dataset] | None
    pause: Pause
    began: Callable[[], object]
    notice: Notice
    committed: Callable[[], None] | None
    programs: Programs
    features: FeatureStore | None
    illustrate: Illustrate | None
    ending: contextlib.ExitStack  # what is left to do when the run is left
    loggers: Sequence[Logger] = ()  # opened: they take the events besides metrics.jsonl


def _train(config: RunConfig, workdir: Path, given: _Given) -> Result:
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
    layout = devices.make_layout(
        config.parallel, config.data.batch_size, penalised=any(item.features for item in bound)
    )
    if layout.several and isinstance(strategy.after, Soup | WiseFT):
        raise UserError("soup and wise_ft read checkpoints: they need parallel.hosts='one'")
    if isinstance(strategy.after, WiseFT) and len(bound) > 1 and config.select_phase == "any":
        raise UserError("wise_ft ends at the best weights of the last phase: it needs select_phase='last'")
    notice.agree = layout.agree if layout.several else None
    mix = mix_of(config, strategy, layout, len(training.class_names))
    # The starting network of a feature penalty wants the images themselves.
    caching = config.cache_features and not (mix or "source" in constants or layout.several)
    inputs = Inputs(config, network, preprocessing, sets, programs, given.features, workdir)
    feeding = Feeding(inputs, layout, notice, caching)
    job = replace(
        job_of(feeding, bound, mix, constants, strategy.after),
        pause=given.pause,
        began=given.began,
        loggers=given.loggers,
    )
    if layout.first:
        provenance.claim(workdir, config)
    if layout.first:
        print_header(config, sets, bound, job.lengths, variables)
    checkpoints = Checkpoints(
        workdir, writes=layout.first, share=config.save_share, committed=given.committed
    )
    with contextlib.ExitStack() as closing:
        closing.callback(shutil.rmtree, workdir / "features", ignore_errors=True)
        closing.callback(checkpoints.close)
        try:
            progress = run_loop(job, variables, checkpoints, workdir / "metrics.jsonl")
        except Paused:
            given.ending.enter_context(closing.pop_all())
            raise
        where = f"step {progress.best_step} of {progress.step}"
        if len(bound) > 1 and progress.best_phase is not None:
            where += f", phase {bound[progress.best_phase].phase.name!r}"
        if layout.first:
            print(f"kept: {where}", flush=True)
        best, averaged = _best(job, feeding, variables, checkpoints, progress.best_step)
    best = layout.replicate(without_source_head(best))
    found = costs(config, strategy, bound, job.lengths, variables, progress)
    return _finished(given, workdir, strategy.name, feeding, best, found | averaged)


def _best(
    job: Job, feeding: Feeding, variables: Variables, checkpoints: Checkpoints, step: int
) -> tuple[Variables, dict[str, Any]]:
    """The variables to evaluate, and what result.json says of an average of several.

    Args:
        job: that was run.
        feeding: of it.
        variables: that it started from.
        checkpoints: of it.
        step: of its best validation.
    """
    layout, split, predict = job.layout, feeding.inputs.sets["val"], feeding.predictor()
    best = restore_best(job, checkpoints, variables, step)
    best = best if layout.plain else jax.device_get(best)  # what it is averaged with lies on one device

    images = feeding.images(job.phases[-1])

    def select(candidate: Variables) -> Merit:
        shown = layout.replicate(estimated(candidate))
        return merit(feeding.scores(split, shown, predict), job.config.select)

    def estimated(candidate: Variables) -> Variables:
        if not job.estimate.batches:
            return candidate
        found = feeding.estimated(images, feeding.inputs.sets["train"], layout.replicate(candidate))
        return found if layout.plain else jax.device_get(found)

    best, averaged = finish(job.after, job.phases[-1], len(job.phases), variables, best, checkpoints, select)
    return (estimated(best), {"after": averaged}) if averaged else (best, {})


def _finished(
    given: _Given, workdir: Path, strategy: str, feeding: Feeding, best: Variables, found: dict[str, Any]
) -> Result:
    """Scores what was held out, where that was not done before, and writes the run's last files.

    Args:
        given: of the run.
        workdir: for predictions, result.json and the report.
        strategy: its name.
        feeding: of the run.
        best: the variables to evaluate, placed.
        found: what result.json says besides the scores.
    """
    layout, sets, config = feeding.layout, feeding.inputs.sets, feeding.inputs.config
    training, predict = sets["train"], feeding.predictor(config.data.tta)
    path = workdir / "result.json"
    metrics = json.loads(path.read_text()) if path.exists() else {}
    scored = {name: split for name, split in sets.items() if name == "val" or config.evaluate_test}
    scored.pop("train", None)
    if layout.json_from_first(
        lambda: metrics.keys() >= scored.keys()
    ):  # the test split was touched already, once
        print(f"this run is finished: {path}", flush=True)
    else:
        metrics = evaluate_once(
            workdir,
            scored,
            lambda split: feeding.logits(split, best, predict),
            layout.first,
            None if "after" in found else found["best_step"],
        )
        metrics |= found | {"data": card(sets) | looked_for(config.data)}
        if layout.first:
            provenance.write_json(path, metrics)
            for place, event in itertools.product(given.loggers, loggers.result_events(metrics)):
                place.event(event)
    best = best if layout.plain else jax.device_put(jax.device_get(best))
    network = feeding.inputs.network
    result = Result(metrics, workdir, network, best, training.class_names, predict, training.task)
    if given.illustrate is not None and layout.first and config.report_images and config.evaluate_test:
        given.illustrate(result, sets, feeding.inputs.preprocessing.normalise)
    if layout.first and config.report and not (workdir / "report.html").exists():
        from ttl_jax import report

        beside = report.write([workdir], workdir / "report.tmp.html", f"{config.model.name}, {strategy}")
        beside.replace(workdir / "report.html")
    return result
