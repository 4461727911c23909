"""MLflow: into the file store WORKDIR/mlruns, or to the server that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttl_jax.training.records.loggers import figures

EXPERIMENT = "ttl_jax"


class MLflow:
    """One MLflow run a work folder, taken up again under its id (kept in WORKDIR/mlflow_run)."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self._folder, self._config = folder, config
        self._client: Any = None
        self._run = ""

    def begin(self, step: int) -> None:
        """Starts or takes up the run; steps that come again stand twice, the later time counts."""
        # File stores are in maintenance: MLflow refuses them unless told that this is meant.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        where = "MLFLOW_TRACKING_URI"
        store = os.environ[where] if where in os.environ else (self._folder / "mlruns").resolve().as_uri()
        self._client = MlflowClient(tracking_uri=store)
        place = self._folder / "mlflow_run"
        if place.exists():
            self._run = place.read_text()
            self._client.update_run(self._run, status="RUNNING")
            return
        known = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known else self._client.create_experiment(EXPERIMENT)
        self._run = self._client.create_run(experiment, run_name=self._folder.name).info.run_id
        for name, value in _flat(self._config).items():
            self._client.log_param(self._run, name, value)
        place.write_text(self._run)

    def event(self, values: Mapping[str, Any]) -> None:
        """Logs every number of the event at its step."""
        if self._client is None:
            self.begin(0)
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        numbers = [Metric(name, value, now, values["step"]) for name, value in figures(values).items()]
        self._client.log_batch(self._run, metrics=numbers)

    def close(self) -> None:
        """Marks the run as ended."""
        if self._client is not None:
            self._client.set_terminated(self._run)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def make(folder: Path, config: Mapping[str, Any]) -> MLflow:
    """The logger of a run."""
    return MLflow(folder, config)
