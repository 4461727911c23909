"""A finished run taken from its folder; the training data are not read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ttl_jax import evaluation, models, strategies
from ttl_jax.config import RunConfig
from ttl_jax.errors import UserError
from ttl_jax.system import remote
from ttl_jax.training.build import build_shapes
from ttl_jax.training.predict import make_predict
from ttl_jax.training.records import provenance, signature
from ttl_jax.training.records.checkpoint import Checkpoints
from ttl_jax.training.records.signature import Signature
from ttl_jax.training.result import Result
from ttl_jax.training.start import without_source_head
from ttl_jax.typing import Variables
from ttl_jax.weights.initialise import flatten, template

if TYPE_CHECKING:
    from ttl_jax.deploy.explain import Explained

UNREAD = ("last", "soup", "start", "features")  # folders of a run that are of no use here


class Run(Result):
    """A finished run, loaded."""

    @property
    def folder(self) -> Path:
        """The run's folder on this machine."""
        return self.workdir

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


def load(workdir: str | os.PathLike[str], tta: str | None = None) -> Run:
    """Load a finished run.

    Args:
        workdir: its folder, here or in a bucket (gs://...).
        tta: views that logits are averaged over (none, flip, flips, dihedral) in the place of the run's.

    Raises:
        UserError: no finished run, or one whose weights are gone or of another network.
    """
    folder = Path(remote.local(os.fspath(workdir), without=UNREAD))
    for name in ("config.json", "result.json"):
        if not (folder / name).is_file():
            raise UserError(f"{workdir} is not the folder of a finished run: it has no {name}")
    config = provenance.begun_with(folder)
    metrics = json.loads((folder / "result.json").read_text())
    known = signature.read(folder) or _derived(folder, config)
    network = models.create(
        known.network.name,
        len(known.class_names),
        dtype=jnp.dtype(known.network.dtype),
        **known.network.shape,
    )
    checkpoints = Checkpoints(folder)
    try:
        variables = without_source_head(checkpoints.kept(averaged="after" in metrics))
    finally:
        checkpoints.close()
    _check(folder, known, variables)
    predict = make_predict(network, known.normalisation.normalise, tta=known.tta if tta is None else tta)
    return Run(metrics, folder, config, network, jax.device_put(variables), known, predict)


def _derived(folder: Path, config: RunConfig) -> Signature:
    """The signature of a run that an earlier version finished."""
    validation = evaluation.predictions.load(folder / "predictions" / "val.npz")
    strategy, classes = strategies.parse(config.strategy), len(validation.class_names)
    network, _, normalisation = build_shapes(config, strategy, classes)
    return signature.signature_of(config, validation, normalisation, volumes=network.dimensions == 3)


def _check(folder: Path, known: Signature, variables: Variables) -> None:
    """Refuse weights that are not those of the network that the signature names."""
    geometry, normalisation = known.geometry, known.normalisation
    wanted = template(
        known.network.name,
        len(known.class_names),
        channels=normalisation.channels,
        image_size=geometry.size,
        depth=geometry.depth or 16,
        **known.network.shape,
    )
    found = flatten(variables)
    wrong = sorted(wanted.keys() ^ found.keys())
    wrong += [path for path in wanted.keys() & found.keys() if wanted[path].shape != found[path].shape]
    if wrong:
        raise UserError(
            f"the weights of {folder} are not those of {known.network.name} as its signature describes it "
            f"({len(wrong)} names or shapes differ, the first is {wrong[0]})"
        )
