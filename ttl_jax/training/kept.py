"""The files that a finished run keeps: its config, its signature and its weights."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttl_jax import evaluation, models, weights
from ttl_jax.config import RunConfig
from ttl_jax.errors import UserError
from ttl_jax.system import remote
from ttl_jax.system.json_object import read_object, readable_folder
from ttl_jax.training.records import provenance, signature
from ttl_jax.training.records.checkpoints import Checkpoints
from ttl_jax.training.records.signature import Signature
from ttl_jax.training.start import without_source_head
from ttl_jax.typing import Variables
from ttl_jax.weights.initialise import flatten, template

NAMED = 10  # runs, where a folder of runs is given for one
UNREAD = ("last", "soup", "start", "features")  # folders of a run that are of no use here


@dataclass(frozen=True)
class Kept:
    """A finished run, from its folder; the training data are not read.

    Attributes:
        folder: its folder on this machine.
        config: its config.
        metrics: the content of result.json.
        signature: all that turns an image into a decision.
        variables: the weights that it was evaluated with, on the host.
    """

    folder: Path
    config: RunConfig
    metrics: dict[str, Any]
    signature: Signature
    variables: Variables


def is_run(path: str | os.PathLike[str]) -> bool:
    """Return whether a path, here or in a bucket, is the folder of a run."""
    text = os.fspath(path)
    if remote.is_remote(text):
        return remote.bucket(f"{text.rstrip('/')}/config.json").exists()
    return (Path(text).expanduser() / "config.json").is_file()


def read_kept(path: str | os.PathLike[str]) -> Kept:
    """Read what a finished run keeps.

    Raises:
        UserError: no finished run, or one whose weights are gone or of another network.
    """
    folder = Path(remote.local(os.fspath(path), without=UNREAD)).expanduser()
    check_finished(folder, os.fspath(path))
    with readable_folder(path):
        return _read_kept(folder)


def check_finished(folder: Path, named: str) -> None:
    """Check that a folder is a finished run's.

    Args:
        folder: on this machine.
        named: as the user called it.

    Raises:
        UserError: it is not; finished runs that lie in it (a comparison's, the quickstart's) are named.
    """
    for name in ("config.json", "result.json"):
        if not (folder / name).is_file():
            inside = sorted(each.parent.name for each in folder.glob("*/result.json"))
            more = f" and {len(inside) - NAMED:,} more" if len(inside) > NAMED else ""
            hint = f"; finished runs in it: {', '.join(inside[:NAMED])}{more}" if inside else ""
            raise UserError(f"{named} is not the folder of a finished run: it has no {name}{hint}")


def _read_kept(folder: Path) -> Kept:
    config, metrics = provenance.begun_with(folder), read_object(folder / "result.json", steps=int)
    known = signature_in(folder, config)
    checkpoints = Checkpoints(folder)
    try:
        variables = without_source_head(checkpoints.kept(averaged="after" in metrics))
    finally:
        checkpoints.close()
    _check(folder, known, variables)
    return Kept(folder, config, metrics, known, variables)


def signature_in(folder: Path, config: RunConfig) -> Signature:
    """The signature of a finished run; that of one of an earlier version is derived from what it left."""
    known = signature.read(folder)
    if known is not None:
        return known
    validation = evaluation.predictions.load(folder / "predictions" / "val.npz")
    volumes = len(models.input_shape(config.model.name)) == 4
    return signature.signature_of(config, validation, preprocessing_of(config), volumes=volumes)


def preprocessing_of(config: RunConfig) -> weights.Preprocessing:
    """The normalisation that a run's starting weights expect."""
    source = config.model.weights
    if is_run(source):
        folder = Path(remote.local(source, without=UNREAD)).expanduser()
        return signature_in(folder, provenance.begun_with(folder)).normalisation
    # From scratch the images are scaled as the architecture's own weights would have them.
    return weights.preprocessing(source if source != "none" else "imagenet", config.model.name)


def _check(folder: Path, known: Signature, variables: Variables) -> None:
    """Refuse weights that are not those of the network that the signature names."""
    wanted = template(
        known.network.name,
        len(known.class_names),
        channels=known.normalisation.channels,
        image_size=known.geometry.size,
        depth=known.geometry.depth or 16,
        **known.network.shape,
    )
    given = flatten(variables)
    wrong = sorted(wanted.keys() ^ given.keys())
    wrong += [path for path in wanted.keys() & given.keys() if wanted[path].shape != given[path].shape]
    if wrong:
        raise UserError(
            f"the weights of {folder} are not those of {known.network.name} as its signature describes it "
            f"({len(wrong)} names or shapes differ, the first is {wrong[0]})"
        )
