"""Gallery of a run: its most confident errors and some correct predictions, with their Grad-CAM maps.

It holds images of the data set: config.report_images=False leaves it out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ttl_jax.analysis.attribution import last_map, make_attribution
from ttl_jax.analysis.overlay import overlay
from ttl_jax.data.dataset import Dataset
from ttl_jax.evaluation import predictions
from ttl_jax.report.surest_errors import confident_errors, confident_right
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.result import Result
from ttl_jax.training.trainer import Hook, Trainer
from ttl_jax.typing import Array

ERRORS, RIGHT = 8, 4
PIXELS = 160  # the longer side of an image in the gallery: small, for the page holds many


class Gallery(Hook):
    """Writes the gallery of a run before its report, where its config allows images."""

    def on_result(self, trainer: Trainer, result: Result) -> None:
        """Draw it from the test split, or the validation split without one."""
        if trainer.config.report_images and trainer.config.evaluate_test:
            write_gallery(result, trainer.inputs.sets, trainer.inputs.preprocessing.normalise)


def write_gallery(
    result: Result, datasets: Mapping[str, Dataset], normalise: Callable[[Array], Array]
) -> Path | None:
    """Write WORKDIR/gallery (index.json, NN.jpg and NN-map.jpg) once; None where no map can be drawn.

    Args:
        result: The finished run's result; its prediction files must be on disk.
        datasets: The run's splits by name. The gallery shows "test", or "val" if there is none.
        normalise: Maps uint8 images (B, H, W, C) to the network's input.
    """
    place = result.workdir / "gallery"
    if place.exists():
        return place
    split = "test" if "test" in datasets else "val"
    held = predictions.load(result.workdir / "predictions" / f"{split}.npz")
    shown = (*confident_errors(held, ERRORS), *confident_right(held, RIGHT))
    if not shown:
        return None
    images = datasets[split].images.read(np.array([each.row for each in shown]))
    if images.ndim != 4:
        return None  # volumes
    network, variables = result.model, dict(result.variables)
    unit = last_map(network, variables, normalise, images.shape[1:])
    if unit is None:
        return None
    find = make_attribution("grad_cam", network, normalise, unit)
    classes = jnp.asarray([each.place for each in shown])
    maps = np.asarray(find(variables, jnp.asarray(images), classes))
    beside = place.with_name("gallery.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    entries = []
    for number, (each, image, heat) in enumerate(zip(shown, images, maps, strict=True)):
        plain, covered = f"{number:02d}.jpg", f"{number:02d}-map.jpg"
        _save(image, beside / plain)
        _save(overlay(image, heat), beside / covered)
        entries.append({**asdict(each), "image": plain, "map": covered, "of": held.class_names[each.place]})
    write_json(beside / "index.json", {"split": split, "unit": unit, "entries": entries})
    beside.rename(place)
    return place


def _save(image: np.ndarray, path: Path) -> None:
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((PIXELS, PIXELS))
    picture.save(path, quality=82)
