"""Programs made before a run begins are those that it would have made."""

import threading

import jax
import numpy as np
import pytest

from ttl_jax import weights
from ttl_jax.config import set_fields
from ttl_jax.system import host
from ttl_jax.training.compile_ahead import foresee
from ttl_jax.training.programs import Programs, Session
from ttl_jax.training.run import train


# Steps on images, on cached features, of several phases, with an average, with mixed images.
@pytest.mark.parametrize(
    ("strategy", "fields"),
    [
        ("full", {}),
        ("linear_probe", {"data.augment": "none"}),
        ("lp_ft", {"data.augment": "none"}),
        ("ema", {}),
        ("full", {"data.mix": "mixup(0.2)", "model.head": "mlp"}),
    ],
)
def test_a_run_uses_what_was_foreseen(
    tmp_path, config, datasets, compiled_in, validated_in, strategy, fields
):
    set_fields(config, {"strategy": f"truncated(2) + {strategy}", "parallel.devices": 1, **fields})
    programs = Programs(keeps=True)
    foresee(config, tmp_path / "foreseen", datasets, Session(programs=programs))
    foreseen = train(config, tmp_path / "foreseen", datasets, session=Session(programs=programs))
    assert not (tmp_path / "foreseen" / "features").exists()
    # The first phase's step and validation; of what comes later a test of its own tells.
    assert compiled_in[0] == validated_in[0] == host.COMPILING
    counts = len(compiled_in), len(validated_in)
    alone = train(config, tmp_path / "alone", datasets)
    assert (len(compiled_in), len(validated_in)) == (2 * counts[0], 2 * counts[1])  # nothing was made twice
    assert compiled_in[counts[0]] == threading.current_thread().name
    jax.tree.map(np.testing.assert_array_equal, foreseen.variables, alone.variables)
    assert foreseen.metrics["val"] == alone.metrics["val"]
    assert foreseen.metrics["flops_per_step"] == alone.metrics["flops_per_step"]


@pytest.mark.parametrize("strategy", ["full", "linear_probe"])
def test_weights_of_one_channel_are_foreseen_too(
    tmp_path, config, datasets, compiled_in, validated_in, strategy
):
    state = weights.export_torch(weights.initialise("resnet18", 7, seed=3), "resnet18")
    np.savez(tmp_path / "grey.npz", **(state | {"conv1.weight": state["conv1.weight"][:, :1]}))
    set_fields(config, {"strategy": f"truncated(2) + {strategy}", "data.augment": "none",
                        "model.weights": str(tmp_path / "grey.npz"), "parallel.devices": 1})  # fmt: skip
    programs = Programs(keeps=True)
    foresee(config, tmp_path / "run", datasets, Session(programs=programs))
    found = train(config, tmp_path / "run", datasets, session=Session(programs=programs))
    assert found.variables["params"]["stem"]["conv"]["kernel"].shape[2] == 1
    assert compiled_in[0] == validated_in[0] == host.COMPILING


@pytest.mark.parametrize("strategy", ["l2_sp", "auto_rgn", "linear_probe(solver='lbfgs')", "delta"])
def test_what_needs_values_first_is_left_to_the_run(tmp_path, config, datasets, strategy):
    set_fields(config, {"strategy": f"truncated(2) + {strategy}", "parallel.devices": 1})
    programs = Programs(keeps=True)
    foresee(config, tmp_path, datasets, Session(programs=programs))
    programs.claim(config)
    assert not [key for key in (*programs.made, *programs.begun) if key[0] == "step"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("strategy", ["soup", "wise_ft", "stochnorm"])
def test_what_needs_no_values_is_foreseen(tmp_path, config, datasets, strategy):
    set_fields(config, {"strategy": f"truncated(2) + {strategy}", "parallel.devices": 1})
    programs = Programs(keeps=True)
    foresee(config, tmp_path, datasets, Session(programs=programs))
    programs.claim(config)
    assert [key for key in (*programs.made, *programs.begun) if key[0] == "step"]
