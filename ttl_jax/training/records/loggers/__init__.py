"""Loggers of a run's figures besides metrics.jsonl: one small file a service, behind one interface.

Chosen by config.loggers. A logger opens when the first thing is logged, so that a run that is refused,
or finished already, leaves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from numbers import Real
from pathlib import Path
from typing import Any, Protocol

from ttl_jax.errors import UserError, nearest

# name -> the package that it needs, which is also what the extra installs ("" needs none)
NEEDS = {"csv": "", "tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}


class Logger(Protocol):
    """A place that events are sent to. An event has a "step" and, unless it is of training, a "split"."""

    def begin(self, step: int) -> None:
        """The run goes on from this step: what was logged after it is about to come again."""

    def event(self, values: Mapping[str, Any]) -> None:
        """Takes one event."""

    def close(self) -> None:
        """Ends it; without an event before, nothing happens."""


def check(names: Sequence[str]) -> None:
    """Refuses loggers that do not exist or whose package is missing.

    Raises:
        UserError: naming the extra.
    """
    for name in names:
        if name not in NEEDS:
            raise UserError(f"config loggers: {name!r}{nearest(name, tuple(NEEDS))}")
        if NEEDS[name] and find_spec(NEEDS[name]) is None:
            raise UserError(
                f"config loggers: {name!r} needs the package {NEEDS[name]}: pip install 'ttl-jax[{name}]'"
            )


@contextmanager
def opened(names: Sequence[str], folder: Path, config: Mapping[str, Any]) -> Iterator[tuple[Logger, ...]]:
    """The loggers of a run in this work folder, closed at the end however it ends.

    Args:
        config: the whole config, for the services that show it beside the figures.
    """
    made: list[Logger] = []
    try:
        for name in names:
            made.append(import_module(f"{__name__}.{name}").make(folder, config))
        yield tuple(made)
    finally:
        for logger in made:
            logger.close()


def figures(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an event under the names that the services show, as "val/auroc" or "train/loss"."""
    place = values["split"] if "split" in values else "train"
    return {
        f"{place}/{name}": float(value)
        for name, value in values.items()
        if name != "step" and isinstance(value, Real) and not isinstance(value, bool)
    }


def result_events(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The end of a run as events: the kept weights on every split ("best_test"), and the "cost"."""
    step = result["steps"]
    events = [
        {"split": f"best_{name}", "step": step, **{key: value for key, value in scores.items()}}
        for name, scores in result.items()
        if isinstance(scores, Mapping) and "per_class" in scores
    ]
    costs = ("seconds", "params", "trainable_params", "flops_per_step", "best_step")
    return [*events, {"split": "cost", "step": step, **{name: result[name] for name in costs}}]
