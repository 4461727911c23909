"""A finished run taken from its folder; the training data are not read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ttl_jax import models
from ttl_jax.training.devices import Layout
from ttl_jax.training.kept import read_kept
from ttl_jax.training.predictor import make_predict
from ttl_jax.training.result import Result

if TYPE_CHECKING:
    from ttl_jax.deploy.explain import Explained
    from ttl_jax.deploy.export.export import Exported


class Run(Result):
    """A finished run, loaded."""

    @property
    def folder(self) -> Path:
        """The run's folder on this machine."""
        return self.workdir

    def evaluate(self, given: Any, out: str | Path | None = None, **options: Any) -> dict[str, Any]:
        """Evaluate the run on another data set; see `deploy.evaluate.evaluate`."""
        from ttl_jax.deploy.evaluate import evaluate

        return evaluate(self, given, out, **options)

    def explain(
        self,
        images: Any,
        methods: Sequence[str] = ("grad_cam",),
        unit: str | None = None,
        of: str | int | None = None,
    ) -> Explained:
        """Maps of what spoke for a class; see `deploy.explain.explain`."""
        from ttl_jax.deploy.explain import explain

        return explain(self, images, methods, unit, of)

    def export(self, format_name: str = "onnx", **options: Any) -> Exported:
        """Write the network for another runtime: see `deploy.export.export.export`."""
        from ttl_jax.deploy.export.export import export

        return export(self, format_name, **options)


def load(workdir: str | os.PathLike[str], tta: str | None = None) -> Run:
    """Load a finished run; its batches are split over all devices of this machine.

    Args:
        workdir: its folder, here or in a bucket (gs://...).
        tta: views that logits are averaged over (none, flip, flips, dihedral) in the place of the run's.

    Raises:
        UserError: no finished run, or one whose weights are gone or of another network.
    """
    kept = read_kept(workdir)
    known, built = kept.signature, kept.signature.network
    if tta is not None:
        known = replace(known, tta=tta)  # what the predictions are made by
    network = models.create(built.name, len(known.class_names), dtype=jnp.dtype(built.dtype), **built.shape)
    predict = make_predict(network, known.normalisation.normalise, tta=known.tta)
    layout = Layout("jit", tuple(jax.local_devices()))
    variables = jax.device_put(kept.variables)
    return Run(kept.metrics, kept.folder, kept.config, network, variables, known, predict, layout)
