"""The catalogue: which leaf trains in which phase, rates by depth, and every key on every network."""

import math
from functools import cache

import jax
import jax.numpy as jnp
import pytest

from ttl_jax import models, strategies
from ttl_jax.errors import UserError
from ttl_jax.models.registry import slimmable
from ttl_jax.strategies.parts import SolvedHead
from ttl_jax.training.schedule import peak_rate

OPTIONS = {
    "layerwise": "layerwise(2)",
    "truncated": "truncated(3)",
    "transfusion": "transfusion(2)",
    "surgical": "surgical(2, 3)",
    "weight_transfusion": "weight_transfusion(2)",
}


@cache
def shapes(name, **options):
    network = models.create(name, 2, **options)
    example = jax.ShapeDtypeStruct((1, *models.input_shape(name)), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), example)["params"]


def bound(text, name="resnet18", **options):
    return strategies.bind(strategies.parse(text), shapes(name, **options), name)


def tops(item):
    """The first names of the trainable paths."""
    return sorted({path.split("/")[0] for path in item.trainable})


# 3D networks have the units of their 2D namesakes: one stands for them.
SEVERAL = [name for name in models.names() if not name.endswith("_3d") or name == "resnet18_3d"]


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("key", strategies.names())
def test_every_key_binds_on_every_network(key, name):
    strategy = strategies.parse(OPTIONS[key] if key in OPTIONS else key)
    surgery = strategy.surgery
    if surgery.slim_from is not None and not slimmable(name):
        with pytest.raises(UserError, match="slim_from is for"):
            models.create(name, 2, slim_from=surgery.slim_from)
        return
    params = shapes(name, **surgery.shape(name))
    for item in strategies.bind(strategy, params, name):
        assert {path for path in item.trainable if path.startswith("head/")}
        assert set(item.rates) == set(item.trainable)


def test_gradual_last_first_opens_one_stage_more_downwards():
    phases = bound("gradual_last_first")
    assert [tops(item) for item in phases] == [
        ["head"],
        ["head", "stage4"],
        ["head", "stage3", "stage4"],
        ["head", "stage2", "stage3", "stage4"],
        ["head", "stage1", "stage2", "stage3", "stage4"],
        ["head", "stage1", "stage2", "stage3", "stage4", "stem"],
    ]


def test_gradual_first_last_opens_one_stage_more_upwards():
    phases = bound("gradual_first_last")
    assert [tops(item) for item in phases] == [
        ["head", "stem"],
        ["head", "stage1", "stem"],
        ["head", "stage1", "stage2", "stem"],
        ["head", "stage1", "stage2", "stage3", "stem"],
        ["head", "stage1", "stage2", "stage3", "stage4", "stem"],
    ]


def test_lp_ft_probes_and_then_trains_everything_more_slowly():
    probe, finetune = bound("lp_ft(share=0.25, lr=0.05)")  # the rates tied, as before probe_lr
    assert tops(probe) == ["head"] and len(finetune.trainable) == len(finetune.labels)
    assert (probe.phase.until, finetune.phase.until) == ("share:0.25", "share:0.75")
    assert set(finetune.rates.values()) == {0.05} and finetune.phase.reset and not probe.phase.reset
    assert len(probe.still) == 9 and finetune.still == ()
    assert [peak_rate(item.phase, 1e-3) for item in (probe, finetune)] == [1e-3, pytest.approx(5e-5)]


@pytest.mark.parametrize(
    ("options", "rate", "solver"),
    [("", 0.01, None), ("(probe_lr=0.3)", 0.3, None),
     ("(solver='lbfgs', l2=0.1)", None, SolvedHead("lbfgs", 0.1))],
)  # fmt: skip
def test_the_rate_of_a_run_is_lp_ft_s_fine_tuning_rate_and_the_probe_s_stands_apart(options, rate, solver):
    probe, finetune = bound(f"lp_ft{options}")
    assert probe.solver == solver and finetune.solver is None
    for lr in (1e-4, 1e-2):
        assert peak_rate(finetune.phase, lr) == lr
        assert solver or peak_rate(probe.phase, lr) == rate


def test_lp_ft_may_go_on_with_the_statistics_that_its_head_was_fitted_to():
    probe, finetune = bound("lp_ft(bn='still')")
    assert finetune.still == probe.still and len(finetune.trainable) == len(finetune.labels)


def test_lp_ft_may_fit_its_head_to_the_statistics_that_it_goes_on_with():
    probe, finetune = bound("lp_ft(bn='adapted')")
    assert probe.phase.bn == "adapted" and len(probe.still) > 0 and finetune.still == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [("lr=0.1, probe_lr=0.01", "takes one of lr"), ("probe_lr=0.01, solver='lbfgs'", "takes one of lr"),
     ("probe_lr=0", "must be above 0"), ("solver='newton'", "is not 'lbfgs'"),
     ("l2=0.1", "is for solver='lbfgs'"), ("bn='frozen'", "is not 'adapted', 'still' or 'moving'")],
)  # fmt: skip
def test_what_lp_ft_cannot_do_is_said(options, message):
    with pytest.raises(UserError, match=message):
        strategies.parse(f"lp_ft({options})")


def test_layerwise_freezes_from_the_stem_up_and_speeds_the_head():
    (item,) = bound("layerwise('stage2/block1', head_lr=10)")
    assert "stage2/block1/conv1/kernel" not in item.trainable
    assert "stage2/block2/conv1/kernel" in item.trainable
    assert item.rates["head/kernel"] == 10 and item.rates["stage4/block1/conv1/kernel"] == 1
    assert item.still == ("stem", "stage1/block1", "stage1/block2", "stage2/block1")


def test_discriminative_rates_fall_by_the_factor_a_stage():
    (item,) = bound("discriminative(2.0)")
    expected = {"head": 0, "stage4": 1, "stage3": 2, "stage2": 3, "stage1": 4, "stem": 5}
    for path, rate in item.rates.items():
        assert rate == pytest.approx(2.0 ** -expected[path.split("/")[0]])
    (item,) = bound("discriminative(1.5, by='unit')")
    assert item.rates["stem/conv/kernel"] == pytest.approx(1.5**-9)
    assert item.rates["stage4/block2/conv1/kernel"] == pytest.approx(1.5**-1)


def test_surgical_and_bitfit():
    (item,) = bound("surgical(2, 3)")
    assert tops(item) == ["head", "stage1"]
    (item,) = bound("bitfit")
    kinds = {path.split("/")[-1] for path in item.trainable if not path.startswith("head")}
    assert kinds == {"scale", "bias"} and item.still == ()


def test_a_sum_of_surgery_phases_and_rates():
    strategy = strategies.parse("truncated(5)+lp_ft(lr=0.1)+discriminative")
    assert strategy.surgery.cut == 5
    probe, finetune = strategies.bind(strategy, shapes("resnet18", cut=5), "resnet18")
    assert tops(probe) == ["head"]
    assert finetune.rates["stem/conv/kernel"] == pytest.approx(0.1 * 2.6**-3)  # stem, stage1, stage2
    with pytest.raises(UserError, match="disagree on phase.rules"):
        strategies.parse("bitfit+linear_probe")
    with pytest.raises(UserError, match="both have several phases"):
        strategies.parse("lp_ft+gradual_last_first")


def test_layerwise_up_to_the_last_unit_is_a_linear_probe():
    last, probe = bound("layerwise('stage4/block2')"), bound("linear_probe")
    assert [item.trainable for item in last] == [item.trainable for item in probe]
    assert last[0].still == probe[0].still


GRIDS = [
    (key, option, values) for key, grids in strategies.STRENGTHS.items() for option, values in grids.items()
]
SHARES = ("ema.decay", "lp_ft.share", "mixout.p", "stochnorm.p")  # the other strengths have no upper end


@pytest.mark.parametrize(("key", "option", "values"), GRIDS)
def test_strengths_ascend_and_are_taken(key, option, values):
    assert len(values) > 1 and 0 < values[0] and list(values) == sorted(set(values))
    assert values[-1] < (1 if f"{key}.{option}" in SHARES else math.inf)
    made = [strategies.parse(f"{key}({option}={value})") for value in values]
    assert len(set(map(repr, made))) == len(values)
