"""The hooks: their order as it is documented, and a caller's own."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ttl_jax.config import set_fields
from ttl_jax.evaluation.registry import Merit
from ttl_jax.system.preemption import Notice, Preempted
from ttl_jax.training.hooks import HOOKS
from ttl_jax.training.hooks.early_stop import has_ended
from ttl_jax.training.hooks.finite import check_finite
from ttl_jax.training.hooks.pause import Pause, Paused
from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.programs import Session
from ttl_jax.training.progress import Progress
from ttl_jax.training.run import train
from ttl_jax.training.schedule import Plateau
from ttl_jax.training.trainer import Hook

DOCS = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()


def test_the_documented_order_is_the_one_they_are_called_in():
    rows = re.findall(r"^\| \d \| `?([\w' ]+?)`? \|", DOCS, re.M)
    files = [hook.__module__.rpartition(".")[2] for hook in HOOKS]
    assert ["hooks" if row == "the caller's" else row for row in rows] == files


@pytest.mark.parametrize(
    ("bad", "scale", "fields", "ended"),
    [
        (2, 1.0, {}, False),  # patience is 0: nobody waits
        (1, 1.0, {"early_stop.patience": 2}, False),
        (2, 1.0, {"early_stop.patience": 2}, True),
        (0, 0.1, {"schedule.name": "plateau", "schedule.min_lr": 1e-4}, False),
        (0, 0.09, {"schedule.name": "plateau", "schedule.min_lr": 1e-4}, True),
        (0, 0.09, {"schedule.min_lr": 1e-4}, False),
    ],
)
def test_whether_a_phase_has_ended_is_read_from_its_progress(config, bad, scale, fields, ended):
    set_fields(config, fields)
    trainer = SimpleNamespace(config=config)
    progress = Progress(step=9, peak=Merit(0.5, 0.0), bad=bad, plateau=Plateau(scale))
    assert has_ended(trainer, progress, 1e-3) == ended
    assert not has_ended(trainer, replace(progress, peak=None), 1e-3)  # before the phase's first validation


@pytest.mark.parametrize("due", ["evaluate", "log", "save", "unseen"])
def test_a_loss_is_looked_at_before_anything_is_made_of_it(config, due):
    calls = ((6, {"loss": np.float32([0.5, 0.25])}, [[0, 1], [2, 3]]),)
    set_fields(config, {"nan_check_steps": 6 if due == "unseen" else 100})
    now = LoopState(None, Progress(step=6), None, 9, dispatched=calls)
    seen = check_finite(
        SimpleNamespace(config=config), replace(now, **({due: True} if due != "unseen" else {}))
    )
    assert seen.figures == {"loss": 0.25} and seen.looked_at == 6 and seen.dispatched == ()
    config.nan_check_steps = 100
    assert check_finite(SimpleNamespace(config=config), now) is now  # nothing is due


def test_a_callers_hooks_see_the_moments_of_a_run(tmp_path, config, datasets, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    names = {}
    exec(example, names)  # noqa: S102
    seen = []

    class Moments(Hook):
        def on_phase(self, trainer, now):
            seen.append(("phase", now.progress.phase, now.progress.step))

        def on_step(self, trainer, now):
            seen.append(("step", now.progress.step))
            return now

        def on_result(self, trainer, result):
            assert (result.workdir / "result.json").exists()
            seen.append("result")

    set_fields(
        config, {"strategy": "truncated(2)+lp_ft(share=0.5)", "total_steps": 2, "cache_features": False}
    )
    train(config, tmp_path, datasets, hooks=[names["Validations"](), Moments()])
    steps = [("phase", 0, 0), ("step", 1), ("phase", 1, 1), ("step", 2)]
    assert seen == [*steps, "result"]
    assert len(re.findall(r"^[12] 0\.\d+$", capsys.readouterr().out, re.M)) == 2


class Asked(Notice):
    """Asks to stop at the n-th question."""

    left = 0

    def asked(self):
        self.left -= 1
        self.reason = self.reason or ("a test" if self.left == 0 else "")
        return bool(self.reason)


def test_a_run_that_was_stopped_in_the_validation_of_its_pause_still_pauses_there(tmp_path, config, datasets):
    set_fields(config, {"eval_every_epochs": 0.8, "strategy": "truncated(1)"})  # 2 of 6 steps
    notice = Asked()
    notice.left = 4  # after a step, after the next, a batch of the validation, the next
    with pytest.raises(Preempted, match="saved at step 2"):
        train(config, tmp_path, datasets, hooks=[Pause(0.3)], session=Session(notice=notice))
    with pytest.raises(Paused, match="paused at step 2"):
        train(config, tmp_path, datasets, hooks=[Pause(0.3)])
