"""One image of one patient, and the names by which images and patients are known."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ttl_jax.data.phantom import dermoscopy, endoscopy, histology, mri, radiograph
from ttl_jax.data.phantom.other_hospital import other_hospital
from ttl_jax.data.phantom.sampling import GRAIN, Phantom, levels, stream
from ttl_jax.data.phantom.scene import Painted, Scene
from ttl_jax.errors import UserError
from ttl_jax.typing import Bool, UInt8

_PAINTERS: dict[str, Callable[[Scene], Painted]] = {
    "radiograph": radiograph.paint,
    "mri": mri.paint,
    "histology": histology.paint,
    "dermoscopy": dermoscopy.paint,
    "endoscopy": endoscopy.paint,
}
_ID = re.compile(r"(home|away)(\d+)-(\d+)")


class Rendered(NamedTuple):
    """image uint8 (s, s, 3) and mask bool (s, s): where the lesion is, or would be."""

    image: UInt8[np.ndarray, "s s 3"]
    mask: Bool[np.ndarray, "s s"]


def image_id(patient: int, image: int, shifted: bool) -> str:
    """Return an image id such as "home00012-1": hospital, patient, image."""
    return f"{group_id(patient, shifted)}-{image}"


def group_id(patient: int, shifted: bool) -> str:
    """Return a group id such as "home00012"; "away" patients are those of the other hospital."""
    return f"{'away' if shifted else 'home'}{patient:05d}"


def parse_id(text: str) -> tuple[int, int, bool]:
    """Return the (patient, image, shifted) of an image id. Raises UserError on anything else."""
    match = _ID.fullmatch(text)
    if match is None:
        raise UserError(f"{text!r} is no phantom image id (they look like 'home00012-1').")
    return int(match[2]), int(match[3]), match[1] == "away"


def render(
    phantom: Phantom,
    patient: int,
    image: int,
    label: int,
    size: int,
    *,
    shifted: bool = False,
    healthy: bool = False,
) -> Rendered:
    """Paint one image: a function of its arguments alone.

    Args:
        label: Label of the patient, from `sampling.labels`. Another label gives the same patient and view
            with the other class's lesion.
        size: Pixels per side.
        shifted: Paint a patient of the other hospital, imaged there.
        healthy: Paint the same picture without its lesion (equal outside the mask).
    """
    who = (int(shifted), patient)
    level = levels(phantom, label, stream(phantom, "lesion", *who), stream(phantom, "lesion", *who, image))
    contrast = 1.2 - 0.4 * phantom.difficulty
    scene = Scene(
        size,
        stream(phantom, "patient", *who),
        stream(phantom, "image", *who, image),
        *level,
        contrast,
        1.25 - 0.5 * phantom.difficulty,
        GRAIN[phantom.task],
        healthy,
    )
    colours, mask = _PAINTERS[phantom.modality](scene)
    sensor = stream(phantom, "sensor", *who, image)
    noise = sensor.uniform(0.010, 0.022)
    if shifted:
        colours = other_hospital(colours, stream(phantom, "hospital"), sensor)
        noise = 1.6 * noise
    grain = sensor.standard_normal((size, size, 1 if _is_grey(colours) else 3), np.float32)
    values = (colours + np.float32(noise) * grain) * 255 + np.float32(0.5)
    return Rendered(np.clip(values, 0, 255).astype(np.uint8), mask)


def _is_grey(colours: np.ndarray) -> bool:
    return np.array_equal(colours[..., 0], colours[..., 1])
