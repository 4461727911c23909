"""The whole job in one call, for a notebook."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ttl_jax import data as data_package
from ttl_jax import registry
from ttl_jax.config import RunConfig, data_config, paths, replace_fields, run_config, unknown_field
from ttl_jax.config.data import generated
from ttl_jax.config.run import ModelConfig
from ttl_jax.data.dataset import Dataset
from ttl_jax.data.sources.registry import guess_source
from ttl_jax.errors import UserError
from ttl_jax.strategies import Strategy
from ttl_jax.system import remote
from ttl_jax.system.compilation_cache import set_up_cache
from ttl_jax.training.programs import Session
from ttl_jax.training.records.provenance import as_begun
from ttl_jax.training.result import Result
from ttl_jax.training.run import train


def finetune(
    data: str | Path | tuple[Any, Any] | ConfigDict | RunConfig,
    model: str = ModelConfig.name,
    weights: str = ModelConfig.weights,
    strategy: str | Strategy = "lp_ft",
    workdir: str | Path | None = None,
    **config: Any,
) -> Result:
    """Fine-tunes a pretrained network on a data set and evaluates it.

    Compiled programs are kept for the next time, as the commands keep them (`set_up_cache`).

    Args:
        data: a path (folder of class folders, table, .npz, prepared folder, ...: its kind is guessed unless
            `data__name` says it), "phantom/MODALITY", FILE.py:NAME (a source; `data__path` is what it
            reads), a whole config, or (images uint8 (N, H, W[, C]), labels
            (N,) or (N, L) with NaN = unknown).
        model: a name out of `ttl_jax.models.names()`, or FILE.py:NAME.
        weights: a catalogue key, a path, or "none".
        strategy: text such as "lp_ft", "truncated(12)+l2_sp(alpha=0.01)" or "my_strategies.py:mine"; or a
            Strategy.
        workdir: folder for the run's files; a temporary one when not given. The same call with the
            same folder resumes. One in a bucket (gs://...) is worked in through a local copy.
        **config: any config field by its full dotted name with "__" for ".", or by its last name
            where that is unique: `total_epochs=5, lr=1e-4, data__image_size=64`.

    Raises:
        UserError: an unknown field or strategy, or data that cannot be read.
    """
    set_up_cache()  # and no more: the process is the user's
    settings, fields = RunConfig(), dict[str, Any]()
    if isinstance(data, ConfigDict | RunConfig):
        settings = run_config(data)
    else:
        fields = {"model.name": model, "model.weights": weights, "strategy": strategy}
    known = paths(settings.to_dict())
    fields |= {_full_name(name, known): value for name, value in config.items()}
    datasets: Mapping[str, Dataset] | None = None
    if isinstance(data, (str, Path)):
        text = str(data)
        if registry.is_own("source", text) or generated(text):
            fields["data.name"] = text
        else:
            fields["data.path"] = text
            fields.setdefault("data.name", guess_source(remote.local(text)))
    elif not isinstance(data, tuple | ConfigDict | RunConfig):
        raise UserError("data must be a path, 'phantom/MODALITY', a config, or a pair (images, labels)")
    settings = replace_fields(settings, fields)
    if workdir is not None:
        settings = as_begun(Path(workdir), settings)
    if isinstance(data, tuple):
        if settings.data.path:
            raise UserError(f"data__path={settings.data.path!r} is not read where (images, labels) are given")
        images, labels = data
        own = data_config(settings.data)
        datasets = data_package.from_arrays(images, labels, own)
    with remote.workfolder(workdir or tempfile.mkdtemp(prefix="ttl_jax_")) as (folder, push):
        return train(settings, folder, datasets, session=Session(committed=push))


def _full_name(name: str, known: tuple[str, ...]) -> str:
    dotted = name.replace("__", ".")
    if dotted in known:
        return dotted
    ending = [path for path in known if path.split(".")[-1] == dotted]
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise UserError(
            f"config field {name!r} could be {' or '.join(ending)}; write {ending[0].replace('.', '__')}"
        )
    raise unknown_field(dotted, known)
