"""What is compiled in a thread (the next phase's step, a phase's validation) is what would have been."""

import threading

import jax
import numpy as np
import pytest

from ttl_jax.config import set_fields
from ttl_jax.system import host
from ttl_jax.training import devices
from ttl_jax.training.frozen.phase_data import PhaseData
from ttl_jax.training.programs import Programs
from ttl_jax.training.run import train


# Other steps on images, steps on cached features, a state with multipliers, and penalties with constants.
@pytest.mark.parametrize(
    ("strategy", "fields"),
    [
        ("lp_ft", {}),
        ("gradual_last_first", {"data.augment": "none", "total_steps": 10}),
        ("lp_ft + l2_sp", {"data.views": 2}),
        ("auto_rgn", {}),
        ("lp_ft + ema", {"parallel.devices": 1}),
    ],
)
def test_later_phases_are_compiled_beside_the_one_before(
    tmp_path, config, datasets, monkeypatch, compiled_in, strategy, fields
):
    set_fields(config, {"strategy": f"truncated(2) + {strategy}", **fields})
    ahead = train(config, tmp_path / "ahead", datasets)
    main = threading.current_thread().name
    assert compiled_in == [main] + [host.COMPILING] * (len(compiled_in) - 1)
    assert (len(compiled_in) > 1) == (strategy != "auto_rgn")
    count, compiled_in[:] = len(compiled_in), []
    monkeypatch.setattr(devices.Layout, "foresees", False)
    behind = train(config, tmp_path / "behind", datasets)
    assert compiled_in == [main] * count
    jax.tree.map(np.testing.assert_array_equal, ahead.variables, behind.variables)
    assert ahead.metrics["val"] == behind.metrics["val"]
    assert ahead.metrics["flops_per_step"] == behind.metrics["flops_per_step"]


@pytest.mark.parametrize("strategy", ["full", "lp_ft"])
def test_what_validates_is_compiled_beside_the_step(
    tmp_path, config, datasets, monkeypatch, validated_in, strategy
):
    fields = {"strategy": f"truncated(2) + {strategy}", "parallel.devices": 1, "data.augment": "none"}
    set_fields(config, fields)
    ahead = train(config, tmp_path / "ahead", datasets)
    assert validated_in[:1] == [host.COMPILING]
    count, validated_in[:] = len(validated_in), []
    monkeypatch.setattr(PhaseData, "validation_begins", lambda *given: lambda: None)
    behind = train(config, tmp_path / "behind", datasets)
    assert validated_in == [threading.current_thread().name] * count
    jax.tree.map(np.testing.assert_array_equal, ahead.variables, behind.variables)
    assert ahead.metrics["val"] == behind.metrics["val"]


def test_what_could_not_be_made_in_a_thread_is_made_where_it_is_wanted():
    programs = Programs()
    programs.begin("bad", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        programs.get("bad", lambda: 1 / 0)
    programs.begin("unlucky", lambda: 1 / 0)
    assert programs.get("unlucky", lambda: 1) == 1


def test_a_program_is_made_once():
    programs, made, go = Programs(), [], threading.Event()

    def make():
        go.wait(10)
        made.append(threading.current_thread().name)
        return "program"

    programs.begin("a", make)
    programs.begin("a", make)
    go.set()
    assert programs.get("a", make) == programs.get("a", make) == "program"
    programs.begin("a", make)
    assert made == [host.COMPILING]


def test_another_config_waits_for_what_is_being_made(config):
    programs, go = Programs(), threading.Event()
    programs.claim(config)
    programs.begin("a", lambda: go.wait(10))
    threading.Timer(0.2, go.set).start()
    set_fields(config, {"optimizer.momentum": 0.5})
    programs.claim(config)
    assert go.is_set() and not programs.begun
    assert programs.get("a", lambda: "anew") == "anew"


def test_another_config_waits_for_what_a_begun_one_begins(config):
    programs, go, ended = Programs(), threading.Event(), []

    def later():
        go.wait(10)
        ended.append(True)

    def first():
        programs.begin("later", later)
        threading.Timer(0.2, go.set).start()

    programs.claim(config)
    programs.begin("first", first)
    set_fields(config, {"optimizer.momentum": 0.5})
    programs.claim(config)
    assert ended and not programs.begun


def test_the_outline_of_a_placed_batch_is_that_of_the_batch_it_foretells(config):
    layout = devices.make_layout(config.parallel, 8)
    images, features = np.zeros((8, 32, 32, 3), np.uint8), np.zeros((8, 4, 4, 5), np.float32)
    rest = {"label": np.zeros(8, np.int32), "example": np.zeros(8, np.int32)}
    foretold = layout.outline_of_batch(
        layout.place_batch({"image": images, **rest}), jax.ShapeDtypeStruct((4, 4, 5), np.float32)
    )
    found = layout.place_batch({"image": features, **rest})
    assert {name: (value.shape, value.dtype) for name, value in foretold.items()} == {
        name: (value.shape, value.dtype) for name, value in found.items()
    }
