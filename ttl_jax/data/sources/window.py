"""Gray windows: which of a scanner's numbers become black and which white.

The three functions are those of DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3, with 0 and 1 for the ends of
the output range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttl_jax.errors import UserError, nearest
from ttl_jax.typing import Float, UInt8

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Window:
    """Map from stored numbers to brightness.

    Attributes:
        center: The number that becomes middle gray.
        width: Distance from black to white, in the same unit.
        function: One of FUNCTIONS.

    Raises:
        ValueError: an unknown function, or a width that the standard does not allow.
    """

    center: float
    width: float
    function: str = "LINEAR_EXACT"

    def __post_init__(self) -> None:
        if self.function not in FUNCTIONS:
            raise ValueError(f"window function {self.function!r} is none of {', '.join(FUNCTIONS)}")
        if not np.isfinite([self.center, self.width]).all():
            raise ValueError("window center and width must be finite")
        if self.width <= 0 or (self.function == "LINEAR" and self.width < 1):
            raise ValueError(f"window width {self.width:g} is too small")

    def apply(self, values: np.ndarray) -> Float[np.ndarray, "..."]:
        """Return the brightness 0..1 of each value (Hounsfield units for CT)."""
        values = values.astype(np.float64)
        if self.function == "SIGMOID":
            with np.errstate(over="ignore"):
                return 1 / (1 + np.exp(-4 * (values - self.center) / self.width))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - self.center) / self.width + 0.5, 0, 1)
        if self.width == 1:
            return (values > self.center - 0.5).astype(np.float64)
        return np.clip((values - (self.center - 0.5)) / (self.width - 1) + 0.5, 0, 1)


# Radiopaedia, "Windowing (CT)" (Murphy, Baba et al., doi:10.53347/rID-52108), in Hounsfield units.
PRESETS = {
    "lung": Window(-600, 1500),
    "mediastinum": Window(50, 350),
    "bone": Window(400, 1800),
    "brain": Window(40, 80),
}


def parse_window(text: str) -> Window | str:
    """`data.window` as a Window, or as "" (the file's own, else minimum to maximum), "range" (minimum
    to maximum) or "percentile".

    Raises:
        UserError: neither a preset nor CENTER/WIDTH.
    """
    if text in ("", "range", "percentile"):
        return text
    if text in PRESETS:
        return PRESETS[text]
    center, slash, width = text.partition("/")
    try:
        if slash:
            return Window(float(center), float(width))
    except ValueError as error:
        raise UserError(f"data.window={text!r} is not CENTER/WIDTH as in '40/400' ({error})") from None
    hint = nearest(text, (*PRESETS, "range", "percentile"))
    raise UserError(f"data.window={text!r} is neither a preset{hint} nor CENTER/WIDTH as in '40/400'")


def spread(values: np.ndarray, percentiles: tuple[float, float] = (0.0, 100.0)) -> Window | None:
    """Return the window from the low to the high percentile of `values`; None where they are all equal."""
    low, high = np.percentile(values, percentiles) if values.size else (0.0, 0.0)
    return Window(float(low + high) / 2, float(high - low)) if high > low else None


def to_bytes(brightness: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Map 0..1 to 0..255, rounded."""
    return np.rint(brightness * 255).astype(np.uint8)
