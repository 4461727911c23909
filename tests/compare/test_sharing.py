"""Cells of a probe share features and a program, and come to what each comes to alone."""

import json

import pytest
from safetensors.numpy import save_file

from ttl_jax import weights
from ttl_jax.compare import compare
from ttl_jax.config import set_fields


class Here:
    """An engine that runs each cell in this process, at once."""

    def __init__(self):
        self.tasks, self.reports = [], []

    def submit(self, task):
        self.tasks.append(task)
        self.reports.append(task.run())

    def wait(self, seconds):
        return [self.reports.pop()]

    def close(self, seconds=0.0):
        pass


def test_features_are_computed_once_and_probes_trained_together(tmp_path, config, monkeypatch, capfd):
    path = tmp_path / "resnet18.safetensors"
    save_file(dict(weights.export_torch(weights.initialise("resnet18", 2), "resnet18")), path)
    set_fields(
        config,
        {
            "compare.strategies": ("truncated(1)+linear_probe",), "compare.seeds": (0, 1, 2), "report": False,
            "model.weights": str(path), "data.augment": "none", "total_steps": 6,
        },
    )  # fmt: skip
    found, engines = {}, {}
    for together in (True, False):
        engine = engines[together] = Here()
        monkeypatch.setattr("ttl_jax.engines.start", lambda name, workers, workdir, engine=engine: engine)
        config.compare.together = together
        (setting,) = compare(config, tmp_path / str(together))["settings"]
        found[together] = setting
        place = tmp_path / str(together)  # pytest's own standard output is not the one a worker redirects
        said = capfd.readouterr().out + "".join(log.read_text() for log in place.glob("cells/**/log.txt"))
        assert said.count("train: units up to stem computed once") == 1  # for all four or five cells
        assert said.count("val: units up to stem computed once") == 1
        assert not (place / "features").exists()
    assert [len(task.others) for task in engines[True].tasks] == [1, 0, 2, 1, 0]
    assert not any(task.others for task in engines[False].tasks)
    assert [cell["trained_together"] for cell in found[True]["cells"]] == [2, 2, 2]
    assert [cell["trained_together"] for cell in found[False]["cells"]] == [1, 1, 1]
    assert found[True]["lr"] == found[False]["lr"]
    for one, alone in zip(found[True]["cells"], found[False]["cells"], strict=True):
        for split in ("val", "test", "shifted"):
            assert one[split]["loss"] == pytest.approx(alone[split]["loss"], rel=1e-5)
            assert one[split]["auroc"] == alone[split]["auroc"]
    assert json.loads((tmp_path / "True" / "folds.json").read_text()) == {"phantom/dermoscopy": 0}
