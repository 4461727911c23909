"""The trainer: all that stays the same through the phases of a run, and how one hands over to the next."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ttl_jax.config import RunConfig
from ttl_jax.errors import UserError
from ttl_jax.strategies import LabelledPhase, Strategy
from ttl_jax.training.batch_statistics import Estimate, estimate_of
from ttl_jax.training.build import phase_constants
from ttl_jax.training.devices import Layout
from ttl_jax.training.extend import as_extended, continued
from ttl_jax.training.frozen.inputs import Inputs
from ttl_jax.training.frozen.phase_data import PhaseData, phase_data
from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.loss import Loss
from ttl_jax.training.optimizer import carry_over, make_optimizer
from ttl_jax.training.programs import Session
from ttl_jax.training.progress import Progress
from ttl_jax.training.records.checkpoints import Checkpoints
from ttl_jax.training.records.event_log import EventLog
from ttl_jax.training.records.run_manifest import RunManifest
from ttl_jax.training.result import Result
from ttl_jax.training.state import TrainState, initial_state, ones, split, start_average
from ttl_jax.training.step import Mix
from ttl_jax.typing import Variables


class Hook:
    """A caller's part in a run, handed to `train`: a subclass overrides the moments that it wants."""

    def on_phase(self, trainer: Trainer, now: LoopState) -> None:
        """Called when a phase's step is compiled, before its first step."""

    def on_step(self, trainer: Trainer, now: LoopState) -> LoopState:
        """Called after every call of the step, once the state that was due is saved; may raise `Paused`."""
        return now

    def on_result(self, trainer: Trainer, result: Result) -> None:
        """Called by the process that writes, once result.json is there and before the report is."""


@dataclass(frozen=True)
class Trainer:
    """All that stays the same through the phases of a run.

    Attributes:
        inputs: config, network, splits, devices.
        strategy: the run's strategy.
        phases: the strategy's phases, bound to the network.
        lengths: steps of each phase.
        variables: the starting weights, to which penalties pull back: a function of weights and seed alone.
        loss: the run's loss.
        constants: the result of `build_constants`.
        mix: mixing of a batch's images (MixUp, CutMix); None for none.
        checkpoints: the checkpoints of state and best weights.
        log: the run's log of events.
        manifest: what the run is made from: its images, labels, split and weights; None to compile ahead.
        hooks: the caller's hooks.
    """

    inputs: Inputs
    strategy: Strategy
    phases: tuple[LabelledPhase, ...]
    lengths: tuple[int, ...]
    variables: Variables
    loss: Loss
    constants: dict[str, Any]
    mix: Mix | None
    checkpoints: Checkpoints
    log: EventLog
    manifest: RunManifest | None = None
    hooks: Sequence[Hook] = ()

    # What the inputs hold, by shorter names.

    @property
    def config(self) -> RunConfig:
        """The run's config."""
        return self.inputs.config

    @property
    def layout(self) -> Layout:
        """Of the devices."""
        return self.inputs.layout

    @property
    def session(self) -> Session:
        """The resources that the process lends: the notice to stop, compiled programs."""
        return self.inputs.session

    @property
    def made_from(self) -> str:
        """The digest of the manifest."""
        return self.manifest.digest if self.manifest is not None else ""

    # What follows from the config.

    @property
    def steps_per_epoch(self) -> float:
        """Need not be whole."""
        return len(self.inputs.sets["train"]) / self.config.data.batch_size

    @property
    def eval_every(self) -> float:
        """Steps between validations; need not be whole."""
        return self.config.eval_every_epochs * self.steps_per_epoch

    @property
    def estimate(self) -> Estimate:
        """The way in which BatchNorm's running statistics are estimated."""
        return estimate_of(self.config.model)

    # A phase.

    def data(self, bound: LabelledPhase, variables: Variables) -> PhaseData:
        """The data of a phase, before anything is read for it; of the variables the shapes alone matter."""
        return phase_data(self.inputs, bound, variables)

    def constants_of(self, bound: LabelledPhase) -> dict[str, Any]:
        """Return what the step of a phase reads besides its batch, placed on its devices."""
        constants: dict[str, Any] = phase_constants(bound, self.variables, self.constants)
        return self.layout.replicate(constants)

    # The state.

    def initial(self, bound: LabelledPhase, variables: Variables) -> TrainState:
        """The state at the start of a phase that begins with these variables."""
        return initial_state(
            variables,
            make_optimizer(bound, self.config.optimizer),
            bound.trainable,
            measured=bound.measures,
            averaged=bound.averages,
            counted=self.estimate.corrected,
        )

    def saved(self) -> Progress | None:
        """The progress of the last checkpoint, if there is one.

        Raises:
            UserError: of several phases that an earlier version began.
        """
        saved = self.layout.json_from_first(self.checkpoints.progress)
        if saved and not saved["finished"] and "peak" not in saved and len(self.phases) > 1:
            raise UserError(
                f"{self.log.folder} holds a run of several phases that an earlier version of ttl_jax began, "
                "which chose among all of them: finish it with that version, or start it again with --fresh"
            )
        return as_extended(Progress.from_json(saved), continued(self.inputs.workdir)) if saved else None

    def restored(self, saved: Progress | None) -> TrainState:
        """The whole state of a checkpoint's progress, or that in which a run begins.

        Raises:
            UserError: the checkpoint is of another strategy or version.
        """
        bound = self.phases[saved.phase if saved is not None else 0]
        state = self.initial(bound, self.variables)
        if saved is None:
            return state
        restore = partial(self.checkpoints.restore_last, state, bound.digest)
        state = self.layout.from_first(restore, state)
        print(f"resumed at step {saved.step} in phase {bound.phase.name!r}", flush=True)
        return state

    def next_phase(self, state: TrainState, progress: Progress) -> tuple[TrainState, Progress]:
        """Hands the parameters over and builds the optimizer's state of the next phase."""
        bound = self.phases[progress.phase + 1]
        train, _ = split(state.params, bound.trainable)
        optimizer = make_optimizer(bound, self.config.optimizer)
        opt_state = carry_over(state.opt_state, bound, optimizer.init(train))
        multipliers = ones(train, bound.measures)
        state = replace(state, opt_state=opt_state, multipliers=multipliers)
        state = start_average(state, bound.trainable) if bound.averages else state
        return state, progress.next_phase(bound.digest, self.config.select_phase)

    def save_last(self, state: TrainState, progress: Progress) -> None:
        """Starts to save a placed state, to be resumed from."""
        self.checkpoints.save_last(self.layout.whole(state), dataclasses.asdict(progress))

    def best(self, step: int) -> Variables:
        """The weights and statistics that a validation found best, in every process.

        Args:
            step: the step of the validation.
        """
        shapes = {"params": self.variables["params"], "batch_stats": self.variables["batch_stats"]}
        return self.layout.from_first(lambda: self.checkpoints.restore_best(shapes, step)[0], shapes)
