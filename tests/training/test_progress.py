"""Which validation is kept, which is bad, and what a run of the version before left."""

import dataclasses
import json

import pytest

from ttl_jax.errors import UserError
from ttl_jax.evaluation.registry import Merit
from ttl_jax.training.progress import Progress
from ttl_jax.training.run import train


def after(validations, progress=None):
    """[(figure, loss), ...] at steps 1, 2, ... -> the progress after each."""
    progress, seen = progress or Progress(), []
    for figure, loss in validations:
        progress = dataclasses.replace(progress, step=progress.step + 1).scored(Merit(figure, -loss))
        seen.append(progress)
    return seen


def kept(validations):
    return [(progress.best_step, progress.bad) for progress in after(validations)]


def test_the_higher_figure_then_the_lower_loss_then_the_later_step_is_kept():
    assert kept([(0.8, 0.5), (0.9, 0.9), (0.9, 0.8), (0.85, 0.1)]) == [(1, 0), (2, 0), (3, 0), (3, 1)]
    assert kept([(1.0, 0.5), (1.0, 0.4), (1.0, 0.3)]) == [(1, 0), (2, 0), (3, 0)]  # easy images
    assert kept([(1.0, 0.3), (1.0, 0.4)]) == [(1, 0), (1, 1)]


def test_nothing_gained_is_bad_though_the_later_weights_are_kept():
    assert kept([(0.9, 0.5), (0.9, 0.5), (0.9, 0.5)]) == [(1, 0), (2, 1), (3, 2)]


@pytest.mark.parametrize(("select_phase", "step", "phase"), [("last", 3, 1), ("any", 2, 0)])
def test_a_phase_has_a_best_of_its_own(select_phase, step, phase):
    before = after([(0.8, 0.5), (0.9, 0.5)])[-1]
    begun = before.next_phase("digest", select_phase)
    assert (begun.phase, begun.phase_start, begun.digest, begun.bad) == (1, 2, "digest", 0)
    now, then = after([(0.7, 0.5), (0.6, 0.1)], begun)
    assert (now.bad, then.bad) == (0, 1)  # patience is with this phase, whatever the others reached
    assert (then.best_step, then.best_phase) == (step, phase)


def test_it_is_read_as_it_was_written():
    for progress in (Progress(), after([(0.8, 0.5), (0.7, float("inf"))])[-1]):
        found = Progress.from_json(json.loads(json.dumps(dataclasses.asdict(progress))))
        assert found == progress
        assert found.best is None or isinstance(found.best, Merit)


BEFORE = {
    "step": 5, "phase": 0, "phase_start": 0, "digest": "d", "best": 0.9, "best_step": 4, "bad": 1,
    "plateau": {"scale": 1.0, "best": 0.5, "bad": 0}, "seconds": 1.0, "flops_per_step": [2.0],
    "finished": False, "due": False, "skipped": 0, "together": 1,
}  # fmt: skip


def test_a_figure_of_the_version_before_is_beaten_by_a_higher_or_an_equal_one():
    progress = Progress.from_json(BEFORE)
    assert (progress.best_step, progress.best_phase, progress.bad) == (4, 0, 1)
    (lower,), (equal,) = after([(0.89, 0.1)], progress), after([(0.9, 0.7)], progress)
    assert (lower.best_step, lower.bad, equal.best_step, equal.bad) == (4, 2, 6, 0)
    assert Progress.from_json({**BEFORE, "phase": 2, "phase_start": 4}).best_phase is None


def test_several_phases_of_the_version_before_are_refused(tmp_path, config, datasets, monkeypatch):
    from ttl_jax.training.records.checkpoints import Checkpoints

    monkeypatch.setattr(Checkpoints, "progress", lambda self: BEFORE)
    config.strategy = "truncated(2)+lp_ft"
    with pytest.raises(UserError, match="an earlier version of ttl_jax began, .* --fresh"):
        train(config, tmp_path, datasets)
