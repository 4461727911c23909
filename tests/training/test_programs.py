"""Programs kept from run to run give the same bits, and only where the config allows it."""

import jax
import numpy as np
import pytest

from ttl_jax.config import set_fields
from ttl_jax.training.programs import Programs, Session
from ttl_jax.training.run import train


def _steps(programs):
    return {key: value for key, value in programs.made.items() if key[0] == "step"}


@pytest.mark.parametrize("strategy", ["lp_ft", "stochnorm"])
def test_other_seeds_and_rates_use_the_step_that_was_compiled(tmp_path, config, datasets, strategy):
    programs = Programs()
    set_fields(config, {"strategy": f"truncated(2)+{strategy}"})
    train(config, tmp_path / "first", datasets, session=Session(programs=programs))
    compiled = _steps(programs)
    assert len(compiled) == (2 if strategy == "lp_ft" else 1)
    set_fields(config, {"seed": 1, "optimizer.lr": 3e-3, "evaluate_test": False})
    kept = train(config, tmp_path / "kept", datasets, session=Session(programs=programs))
    assert _steps(programs) == compiled
    alone = train(config, tmp_path / "alone", datasets)
    jax.tree.map(np.testing.assert_array_equal, kept.variables, alone.variables)
    assert kept.metrics["val"] == alone.metrics["val"]


def test_another_config_starts_anew(config):
    programs = Programs()
    programs.claim(config)
    assert programs.get("a", lambda: 1) == programs.get("a", lambda: 2) == 1
    set_fields(config, {"seed": 5, "optimizer.lr": 1.0})
    programs.claim(config)
    assert programs.get("a", lambda: 3) == 1
    set_fields(config, {"optimizer.momentum": 0.5})
    programs.claim(config)
    assert programs.get("a", lambda: 4) == 4


def test_configs_that_take_turns_keep_theirs_until_memory_is_short(config, monkeypatch):
    programs = Programs(keeps=True)

    def turn(momentum, value):
        set_fields(config, {"optimizer.momentum": momentum})
        programs.claim(config)
        return programs.get("a", lambda: value)

    assert [turn(0.1, 1), turn(0.2, 2), turn(0.1, 3), turn(0.2, 4)] == [1, 2, 1, 2]
    monkeypatch.setattr("ttl_jax.system.host.memory_share", lambda: 0.9)
    assert [turn(0.1, 5), turn(0.2, 6), turn(0.2, 7)] == [1, 6, 6]


def test_programs_begun_for_another_config_are_there_when_it_is_claimed(config):
    programs, begun = Programs(keeps=True), []

    def begin(foreseen):
        begun.append(foreseen)
        foreseen.begin("a", lambda: "foreseen")

    programs.claim(config)
    programs.foresee(config, begin)  # its own: it has begun
    programs.get("a", lambda: "mine")
    set_fields(config, {"optimizer.momentum": 0.5})
    programs.foresee(config, begin)
    programs.foresee(config, begin)
    assert programs.get("a", lambda: "anew") == "mine"
    programs.claim(config)
    assert programs.get("a", lambda: "anew") == "foreseen" and len(begun) == 1
    set_fields(config, {"optimizer.momentum": 0.9})
    programs.claim(config)
    set_fields(config, {"optimizer.momentum": 0.5})
    programs.foresee(config, begin)
    assert len(begun) == 1


def test_a_run_whose_programs_could_not_be_foreseen_makes_them(config):
    programs = Programs(keeps=True)
    programs.foresee(config, lambda foreseen: 1 / 0)
    programs.claim(config)
    assert programs.get("a", lambda: "anew") == "anew"


def test_nothing_is_foreseen_where_it_would_not_be_kept(config, monkeypatch):
    begun = []
    Programs().foresee(config, begun.append)
    monkeypatch.setattr("ttl_jax.system.host.memory_share", lambda: 0.9)
    crowded = Programs(keeps=True)
    crowded.foresee(config, begun.append)
    crowded.claim(config)
    assert not begun
