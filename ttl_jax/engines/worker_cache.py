"""Cache of a worker process from one task to the next: the data read last, and compiled programs."""

from __future__ import annotations

from ttl_jax import data
from ttl_jax.config import DataConfig, RunConfig, data_config
from ttl_jax.data.dataset import Dataset
from ttl_jax.training.programs import Programs

_DATASETS: dict[DataConfig, dict[str, Dataset]] = {}
_PROGRAMS = Programs()


def datasets(config: RunConfig) -> dict[str, Dataset]:
    """The splits that a run's config names: those read last, where it is the same data again."""
    key = data_config(config.data)
    if key not in _DATASETS:
        _DATASETS.clear()
        _DATASETS[key] = dict(data.load(key))
    return _DATASETS[key]


def programs() -> Programs:
    """Return the programs compiled for the last task; a run that differs in seed and rate alone uses them."""
    return _PROGRAMS
