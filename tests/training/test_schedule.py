"""Phase lengths, learning rates and the plateau against hand-worked values."""

import numpy as np
import pytest

from ttl_jax.config import typed
from ttl_jax.config.run import ScheduleConfig
from ttl_jax.errors import UserError
from ttl_jax.strategies import Phase
from ttl_jax.training.schedule import Plateau, learning_rates, phase_lengths


def config(name, **values):
    return typed(ScheduleConfig, {"name": name, "warmup": 0.0, **values}, "schedule.")


def phases(*untils):
    return [Phase(until=until, name=f"p{number}") for number, until in enumerate(untils)]


def test_shares_use_every_step():
    assert phase_lengths(phases("share:1", "share:1", "share:1"), 10, 2.5) == [3, 4, 3]
    assert phase_lengths(phases("share:0.3", "share:0.7"), 100, 10) == [30, 70]
    assert sum(phase_lengths(phases(*["share:1"] * 7), 23, 1)) == 23


def test_fixed_phases_come_first():
    assert phase_lengths(phases("epochs:2", "share:1", "steps:5"), 50, 7.5) == [15, 30, 5]


@pytest.mark.parametrize("until", ["share:0", "epochs", "for ever", "share:x"])
def test_an_unreadable_length_is_refused(until):
    with pytest.raises(UserError, match="share:W, epochs:N or steps:N"):
        phase_lengths(phases(until), 10, 1)


def test_a_budget_too_small_for_the_phases_is_refused():
    with pytest.raises(UserError, match="leaves none for phase"):
        phase_lengths(phases(*["share:1"] * 5), 3, 1)


def test_cosine_with_warm_up_follows_the_formula():
    rates = learning_rates(config("cosine", warmup=0.2, final=0.1), 2.0, 10)
    rise = [2 / 3, 2 / 3 + (2 - 2 / 3) / 2]
    fall = [2 * (0.9 * 0.5 * (1 + np.cos(np.pi * step / 8)) + 0.1) for step in range(8)]
    np.testing.assert_allclose(rates, rise + fall, rtol=1e-6)


def test_constant_is_constant_also_for_one_step():
    np.testing.assert_array_equal(learning_rates(config("constant"), 0.5, 3), np.float32([0.5] * 3))
    assert learning_rates(config("cosine", warmup=0.05), 0.5, 1).shape == (1,)


def test_an_unknown_schedule_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'cosine'"):
        learning_rates(config("cosin"), 1.0, 3)


def test_plateau_halves_after_more_than_patience_bad_losses():
    # torch: ReduceLROnPlateau(patience=2, factor=0.5) reduces at the third loss without gain.
    plateau, scales = Plateau(), []
    for loss in (1.0, 1.0, 1.0, 1.0, 0.5, 0.49999, 0.6, 0.6, 0.4):
        plateau = plateau.update(loss, 0.5, 2)
        scales.append(plateau.scale)
    assert scales == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
