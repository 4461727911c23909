"""Calibration of the probabilities, before and after temperature scaling."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace

from ttl_jax.evaluation.brier import Brier, brier_parts
from ttl_jax.evaluation.calibration import calibration, fit_temperature
from ttl_jax.evaluation.metrics import score
from ttl_jax.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Calibrated:
    """Figures of one set of probabilities: ECE in 15 bins of equal width and of equal count, cross-entropy
    in nats, and the Brier score with its parts."""

    name: str
    ece: float | None
    adaptive_ece: float | None
    loss: float | None
    brier: Brier | None

    @property
    def figures(self) -> tuple[float | None, ...]:
        """ECE, adaptive ECE, loss, Brier score, then its reliability, resolution, uncertainty, within."""
        parts = (None,) * 5 if self.brier is None else astuple(self.brier)
        return self.ece, self.adaptive_ece, self.loss, *parts


@dataclass(frozen=True)
class Rescaled:
    """The effect of temperature scaling: the temperature fitted on validation (None without validation
    predictions of its own), and the figures before and after."""

    temperature: float | None
    scaled: Predictions | None
    rows: tuple[Calibrated, ...]


def rescaled(validation: Predictions | None, reported: Predictions) -> Rescaled:
    """Fits the temperature on validation and judges it on the reported split.

    validation: None where the reported split is validation itself, on which a fit would flatter.
    """
    if validation is None or not len(validation):
        return Rescaled(None, None, (_figures("as trained", reported),))
    temperature = fit_temperature(validation.labels, validation.logits, validation.task)
    scaled = replace(reported, logits=reported.logits / temperature)
    after = _figures(f"at temperature {temperature:.2f}", scaled)
    return Rescaled(temperature, scaled, (_figures("as trained", reported), after))


def _figures(name: str, held: Predictions) -> Calibrated:
    given = held.labels, held.logits, held.task
    return Calibrated(
        name,
        calibration(*given).ece,
        calibration(*given, adaptive=True).ece,
        score(held.labels, held.logits, held.class_names, held.task)["loss"],
        brier_parts(*given),
    )
