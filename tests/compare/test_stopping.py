"""Asked to stop, or robbed of a worker: nothing that was done is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ttl_jax.compare import cells, compare
from ttl_jax.config import set_fields
from ttl_jax.system.preemption import Notice, Preempted

ROOT = Path(__file__).parents[2]


def long_cells(config, steps):
    """One training of so many steps, with a checkpoint every tenth."""
    set_fields(
        config,
        {
            "compare.strategies": ("truncated(1)",), "compare.seeds": (0,), "compare.lrs": (1e-3,),
            "report": False, "total_steps": steps, "eval_every_epochs": 20.0, "log_every_steps": 1,
        },
    )  # fmt: skip


def test_sigterm_saves_what_is_under_way_and_says_start_me_again(tmp_path):
    words = [
        f"--config={ROOT}/configs/compare.py", f"--workdir={tmp_path}", "--config.model.weights=none",
        "--config.compare.models=('resnet18',)", "--config.compare.strategies=('truncated(1)',)",
        "--config.compare.seeds=(0,)",
        "--config.data.image_size=16", "--config.total_steps=100000", "--config.data.phantom_patients=24",
        "--config.data.phantom_images_per_patient=1", "--config.log_every_steps=1",
        "--config.eval_every_epochs=100000.",
    ]  # fmt: skip
    command = [sys.executable, "-m", "ttl_jax", "compare", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               env=environment)  # fmt: skip
    try:
        _until(lambda: list(tmp_path.glob("cells/**/metrics.jsonl")))
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 75
    assert "SIGTERM: 1 cell under way keeps what it saved: start me again" in said
    (progress,) = tmp_path.glob("cells/**/checkpoints/last/*/progress/metadata")
    assert json.loads(progress.read_text())["step"] > 0  # saved there and then: no validation was due


def test_a_notice_stops_a_comparison_before_the_next_cell(tmp_path, config, monkeypatch):
    class Slow:
        given, closed = [], None

        def submit(self, task):
            self.given.append(task)

        def wait(self, seconds):
            notice.reason = "SIGTERM"
            return []

        def close(self, seconds=0.0):
            Slow.closed = seconds

    notice = Notice()
    monkeypatch.setattr("ttl_jax.engines.start", lambda name, workers, workdir: Slow())
    with pytest.raises(Preempted, match="SIGTERM: 1 cell under way"):
        compare(config, tmp_path, notice)
    assert len(Slow.given) == 1 and Slow.closed > 0


@pytest.mark.extras
def test_a_killed_ray_worker_loses_nothing(tmp_path, config):
    """SIGKILL to the process of a Ray task between two checkpoints; the task is started again."""
    pytest.importorskip("ray")
    long_cells(config, 40)
    (expected,) = compare(config, tmp_path / "local")["settings"][0]["cells"]
    config.compare.engine = "ray"
    (setting,) = cells.settings(config)
    place = cells.folder(tmp_path / "ray", cells.final_cells(config, setting, 1e-3)[0])
    killed = []

    def kill():
        # without a limit: Ray's workers run at the lowest priority, and on a busy machine take their time
        while not list(place.glob("checkpoints/last/*/manifest.json")):
            time.sleep(0.02)
        killed.append(json.loads((place / "owner.json").read_text())["pid"])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    (found,) = compare(config, tmp_path / "ray")["settings"][0]["cells"]
    killer.join(10)  # still waiting, it was too late, and nothing was killed
    assert killed and json.loads((place / "owner.json").read_text())["pid"] not in killed
    assert "resumed at step" in (place / "log.txt").read_text()
    for split in ("val", "test", "shifted"):
        assert found[split] == expected[split]
    assert found["steps"] == expected["steps"]


def _until(condition):
    until = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)
