"""What a run hands to the loop, put together from its config, its phases and what feeds them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ttl_jax import data
from ttl_jax.errors import UserError
from ttl_jax.strategies import LabelledPhase, Strategy
from ttl_jax.strategies.average import After
from ttl_jax.training import devices
from ttl_jax.training.build import lengths_of, loss_of
from ttl_jax.training.constants import Constants
from ttl_jax.training.feeding import Feeding
from ttl_jax.training.loop import Job
from ttl_jax.training.step import Mix


def job_of(
    feeding: Feeding,
    bound: Sequence[LabelledPhase],
    mix: Mix | None,
    constants: Constants,
    after: After | None,
) -> Job:
    """The job of a run that nobody else has a say in: `replace` adds a pause, loggers.

    Args:
        feeding: what its phases train on.
        bound: the phases.
        mix: from `mix_of`.
        constants: of the feature penalties.
        after: what decides about weights to keep.
    """
    inputs, layout = feeding.inputs, feeding.layout
    config, training = inputs.config, inputs.sets["train"]
    steps_per_epoch = len(training) / config.data.batch_size
    return Job(
        config=config,
        network=inputs.network,
        phases=tuple(bound),
        lengths=lengths_of(config, tuple(bound), steps_per_epoch),
        loss=loss_of(config, training),
        keys_of=inputs.keys_of,
        outline=feeding.outline,
        feed=feeding.feed,
        ahead=feeding.ahead,
        steps_per_epoch=steps_per_epoch,
        eval_every=config.eval_every_epochs * steps_per_epoch,
        constants=constants,
        after=after,
        programs=inputs.programs,
        mix=mix,
        notice=feeding.notice,
        layout=layout,
        names=training.names,
    )


def mix_of(config: Any, strategy: Strategy, layout: devices.Layout, classes: int) -> Mix | None:
    """How the images of a batch are mixed; None where they are not.

    Raises:
        UserError: they cannot be, with this strategy or on these devices.
    """
    spec, rows = data.parse_mix(config.data.mix), layout.rows(config.data.batch_size)
    if not spec:
        return None
    if strategy.keeps_source_head:
        raise UserError("cotuning needs one class an image, so data.mix must be 'none'")
    if layout.axis or layout.accumulate > 1 or rows.padded != config.data.batch_size:
        raise UserError(
            "data.mix pairs the images of a whole batch: it needs parallel.mode='jit', no accumulation and a "
            "batch that the devices divide"
        )
    return partial(data.mix, spec=spec, classes=classes)
