"""The main job: a config in, a trained and evaluated model under a work folder out.

`train` is what the command line, `ttl_jax.finetune` and every sweep call; docs/architecture.md tells it in
ten lines.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from ttl_jax import data, strategies
from ttl_jax import data as data_package
from ttl_jax.config import RunConfig, data_config, run_config
from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.evaluation import registry
from ttl_jax.system import host, preemption, remote
from ttl_jax.system.host import machine_memory
from ttl_jax.system.lock import HeldError
from ttl_jax.training import devices
from ttl_jax.training.batch_statistics import estimate_of
from ttl_jax.training.build import build_constants, build_model, lengths_of, loss_of, mix_of
from ttl_jax.training.extend import continued, extended_lengths
from ttl_jax.training.frozen.inputs import Inputs
from ttl_jax.training.hooks.pause import Paused
from ttl_jax.training.loop import run_phases
from ttl_jax.training.loss import check_loss
from ttl_jax.training.make_result import best_weights, make_result
from ttl_jax.training.programs import Session
from ttl_jax.training.records import loggers, provenance
from ttl_jax.training.records.checkpoints import Checkpoints
from ttl_jax.training.records.event_log import EventLog
from ttl_jax.training.records.header import print_header
from ttl_jax.training.result import Result
from ttl_jax.training.start import without_source_head
from ttl_jax.training.trainer import Hook, Trainer

if TYPE_CHECKING:
    from ml_collections import ConfigDict

FLOATS = 5  # bytes a value: as it was read, and as the network gets it


def train(
    config: ConfigDict | RunConfig,
    workdir: str | Path,
    data: Mapping[str, Dataset] | None = None,
    hooks: Sequence[Hook] = (),
    session: Session | None = None,
) -> Result:
    """Runs or resumes one training, evaluates it, and writes its files.

    Args:
        config: `ttl_jax.config.default_config` filled in, or a RunConfig.
        workdir: folder for config.json, metrics.jsonl, checkpoints, predictions, result.json.
        data: {"train", "val", "test", ...} instead of the splits that `config.data` names.
        hooks: called along the way, as a search pauses its trainings; see `trainer.Hook`.
        session: what the process lends: its notice to stop, compiled programs, and features of other runs.

    Raises:
        Paused: by a hook; the same call without it goes on, bit for bit.
        Preempted: the session's notice asked to stop; the same call goes on, bit for bit.
        UserError: something in the config or the data has to be mended.
        DivergedError: the loss stopped being a number.
    """
    # ---- What can be refused is refused before anything is written or loaded.
    workdir = remote.only_local(workdir)
    config = check(provenance.as_begun(workdir, provenance.settled(config)))
    strategies.parse(config.strategy)
    provenance.check(workdir, config)
    devices.check(config.parallel)
    fault = host.deterministic_fault(os.environ.get("XLA_FLAGS", ""))
    if config.deterministic and fault and jax.default_backend() == "gpu":
        raise UserError(f"config deterministic=True: {fault}")
    # ---- The folder is held as long as the run lasts; the first process alone writes.
    new, first = not workdir.exists(), jax.process_index() == 0
    with contextlib.ExitStack() as ending:
        try:
            if first:
                ending.enter_context(provenance.alone(workdir))
            with loggers.opened(config.loggers if first else (), workdir, config.to_dict()) as places:
                log = EventLog(workdir / "metrics.jsonl", silent=not first, loggers=places)
                return _train(_trainer(config, workdir, data, hooks, session or Session(), log), ending)
        except HeldError:
            new = False  # the folder is another process's
            raise
        except Paused as paused:
            if paused.ending is not None:
                paused.ending.enter_context(ending.pop_all())
            raise
        finally:
            if new and not (workdir / "config.json").exists():  # refused before it began
                shutil.rmtree(workdir, ignore_errors=True)


def _trainer(
    config: RunConfig,
    workdir: Path,
    data: Mapping[str, Dataset] | None,
    hooks: Sequence[Hook],
    session: Session,
    log: EventLog,
) -> Trainer:
    """Loads the data, builds the network and binds the strategy to it; arguments are as for `train`."""
    session.programs.claim(config)
    # ---- Data.
    sets = dict(data) if data is not None else data_package.load(data_config(config.data))
    training = sets["train"]
    manifest = provenance.check_made_from(workdir, config, sets, jax.process_index() == 0)
    # ---- Network, and who of it trains when.
    strategy = strategies.parse(config.strategy)
    network, variables, preprocessing = build_model(
        config, strategy, len(training.class_names), training.class_names
    )
    phases = strategies.bind(strategy, variables["params"], config.model.name)
    constants = build_constants(
        phases, network, variables, training, preprocessing.normalise, config.data.eval_batch_size
    )
    # ---- Devices.
    whole_batch = any(bound.capture for bound in phases)
    layout = devices.make_layout(config.parallel, config.data.batch_size, whole_batch=whole_batch)
    last = phases[-1]
    if layout.several and (last.keeps or last.keeps_start):
        raise UserError("soup and wise_ft read checkpoints: they need parallel.hosts='one'")
    if last.keeps_start and len(phases) > 1 and config.select_phase == "any":
        raise UserError("wise_ft ends at the best weights of the last phase: it needs select_phase='last'")
    session.notice.agree = layout.agree if layout.several else None
    # ---- What is computed once. A starting network that is compared with wants the images themselves.
    mix = mix_of(config, strategy, layout, len(training.class_names))
    caching = config.cache_features and not (mix or "source" in constants or layout.several)
    inputs = Inputs(config, network, preprocessing, sets, workdir, session, layout, caching)
    return Trainer(
        inputs=inputs,
        strategy=strategy,
        phases=phases,
        lengths=extended_lengths(
            config,
            continued(workdir),
            lambda config: lengths_of(config, phases, len(training) / config.data.batch_size),
        ),
        variables=variables,
        loss=loss_of(config, training),
        constants=constants,
        mix=mix,
        checkpoints=Checkpoints(
            workdir, writes=layout.first, share=config.save_share, committed=session.committed
        ),
        log=log,
        manifest=manifest,
        hooks=tuple(hooks),
    )


def _train(trainer: Trainer, ending: contextlib.ExitStack) -> Result:
    """Runs the phases, and makes a result of the best weights.

    Args:
        trainer: the run's trainer.
        ending: takes over what a paused run has left to write.
    """
    config, layout, workdir = trainer.config, trainer.layout, trainer.inputs.workdir
    with contextlib.ExitStack() as closing:
        # Callbacks run in reverse: what is still being saved is on disk before the features go.
        closing.callback(shutil.rmtree, workdir / "features", ignore_errors=True)
        closing.callback(trainer.checkpoints.close)
        if layout.first:
            provenance.claim(workdir, config, trainer.manifest)
            print_header(config, trainer.inputs.sets, trainer.phases, trainer.lengths, trainer.variables)
        # ---- The loop.
        try:
            progress = run_phases(trainer)
        except Paused:
            ending.enter_context(closing.pop_all())
            raise
        # ---- The weights to keep.
        where = f"step {progress.best_step} of {progress.step}"
        if len(trainer.phases) > 1 and progress.best_phase is not None:
            where += f", phase {trainer.phases[progress.best_phase].phase.name!r}"
        if layout.first:
            print(f"kept: {where}", flush=True)
        best, averaged = best_weights(trainer, progress)
        if averaged:  # they are no validation's: without a place of their own they would be gone
            trainer.checkpoints.save_end(progress.best_step, without_source_head(best))
    # ---- The result: scores, costs, report.
    return make_result(trainer, progress, best, averaged)


def check(config: ConfigDict | RunConfig) -> RunConfig:
    """Converts a config to its dataclass and refuses values that would only fail after minutes.

    Raises:
        UserError: naming the field, the value and what it takes.
    """
    config = run_config(config)
    registry.selectable(config.select)
    if (config.select_phase, config.hand_over) == ("any", "best"):
        raise UserError(
            "config hand_over='best' starts a phase from the best of the one before, which "
            "select_phase='any' may not keep: it needs select_phase='last'"
        )
    if config.total_steps <= 0 and not config.total_epochs > 0:
        raise UserError(f"config total_epochs={config.total_epochs} must be above 0")
    if config.parallel.accumulate > config.data.batch_size:
        raise UserError(
            f"config parallel.accumulate={config.parallel.accumulate} takes a batch in more parts than its "
            f"data.batch_size={config.data.batch_size} images: lower it"
        )
    estimate_of(config.model)
    check_loss(config.loss)
    data.augmentation(config.data)
    data.parse_mix(config.data.mix)
    loggers.check(config.loggers)
    preemption.check_source(config.preemption_notice)
    data.test_time.views(config.data.tta)
    _check_memory(config)
    return config


def _check_memory(config: RunConfig) -> None:
    """Refuse a batch that this machine's memory cannot hold: it would be killed without a word."""
    for name in ("batch_size", "eval_batch_size"):
        size, side = getattr(config.data, name), config.data.image_size
        images = size * config.data.depth if config.data.slices == "volume" else size
        needed, there = images * side * side * 3 * FLOATS, machine_memory()
        if needed > there:
            raise UserError(
                f"config data.{name}={size} with data.image_size={side}: the images of a batch alone take "
                f"{needed / 2**30:.0f} GiB, and this machine has {there / 2**30:.0f}: lower one of them"
            )
