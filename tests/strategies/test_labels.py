"""Label trees: exactly one label a leaf, the table, the BatchNorm policy, and the errors."""

from functools import cache

import jax
import numpy as np
import pytest

from ttl_jax import models, strategies
from ttl_jax.errors import UserError
from ttl_jax.strategies import Phase, Strategy, select


@cache
def shapes(name, classes=2, **options):
    network = models.create(name, classes, **options)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), "float32")
    return jax.eval_shape(network.init, jax.random.key(0), image)["params"]


def of(*rules, **fields):
    return Strategy("s", phases=(Phase(rules=tuple(rules), **fields),))


def test_full_trains_every_leaf():
    params = shapes("resnet18")
    tree = strategies.labels(strategies.get("full"), 0, params)
    assert jax.tree.structure(tree) == jax.tree.structure(params)
    assert set(jax.tree.leaves(tree)) == {"train"}


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vgg16_bn", "efficientnet_lite0"])
def test_linear_probe_trains_the_head_only_on_every_family(name):
    params = shapes(name)
    flat = strategies.flatten(strategies.labels(strategies.get("linear_probe"), 0, params))
    assert {path for path, label in flat.items() if label == "train"} == {
        "head/kernel",
        "head/bias",
    }
    (bound,) = strategies.bind(strategies.get("linear_probe"), params)
    assert set(bound.still) == {unit.name for unit in models.units(name)}


def test_units_and_stages_are_counted_from_the_stem():
    params = shapes("resnet50")
    below = select.units(1, 8)
    flat = strategies.flatten(strategies.labels(of((below, "freeze"), (~below, "train")), 0, params))
    frozen = {path for path, label in flat.items() if label == "freeze"}
    # Unit 8 of ResNet-50 is the last block of stage 2 (methods.md B.3).
    assert all(path.startswith(("stem/", "stage1/", "stage2/")) for path in frozen)
    assert {path for path in flat if path.startswith(("stem/", "stage1/", "stage2/"))} == frozen
    by_stage = select.bottom_stages(3)  # stem, stage1, stage2
    again = strategies.labels(of((by_stage, "freeze"), (~by_stage, "train")), 0, params)
    assert strategies.flatten(again) == flat


def test_a_cut_network_is_labelled_by_its_own_units():
    params = shapes("resnet50", cut=12)
    (bound,) = strategies.bind(of((select.top_stages(1), "train"), (~select.top_stages(1), "freeze")), params)
    trained = {path.split("/")[0] for path in bound.trainable}
    assert trained == {"stage3"}


def test_statistics_follow_the_norms_of_a_unit_under_auto():
    params = shapes("resnet18")
    only_norms = of((select.norms, "train"), (~select.norms, "freeze"))
    (bound,) = strategies.bind(only_norms, params)
    assert bound.still == ()
    without_norms = of((select.norms, "freeze"), (~select.norms, "train"))
    (bound,) = strategies.bind(without_norms, params)
    assert len(bound.still) == len(models.units("resnet18"))
    (bound,) = strategies.bind(of((select.everything, "train"), bn="still"), params)
    assert len(bound.still) == len(models.units("resnet18"))
    probe = of((select.head, "train"), (select.backbone, "freeze"), bn="moving")
    assert strategies.bind(probe, params)[0].still == ()


def test_the_table_adds_up():
    params = shapes("resnet18")
    (bound,) = strategies.bind(strategies.get("linear_probe"), params)
    rows = {row.label: row for row in strategies.table(bound, params)}
    assert rows["train"].parameters == 512 * 2 + 2 and rows["train"].leaves == 2
    assert rows["train"].statistics == "no norms"
    assert sum(row.parameters for row in rows.values()) == 11_689_512 - 513_000 + 1026
    assert np.isclose(sum(row.share for row in rows.values()), 1)
    assert rows["freeze"].statistics == "still in 9, moving in 0 units"


def test_two_trees_have_two_digests():
    params = shapes("resnet18")
    (probe,) = strategies.bind(strategies.get("linear_probe"), params)
    (full,) = strategies.bind(strategies.get("full"), params)
    assert probe.digest != full.digest
    assert probe.digest == strategies.bind(strategies.get("linear_probe"), params)[0].digest


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (((select.head, "train"),), "no rule"),
        (((select.everything, "train"), (select.head, "freeze")), "exactly once"),
        (((select.everything, "freeze"),), "nothing is trainable"),
        (((select.everything, "train"), (select.norms & select.head, "x")), "matches no parameter"),
        (((select.units(1, 99), "train"), (~select.units(1, 99), "freeze")), "has 9 units"),
        (((select.units("stage9/block1", 9), "train"),), "'stage9/block1' is not in this network"),
    ],
)
def test_bad_rules_are_refused(rules, message):
    with pytest.raises(UserError, match=message):
        strategies.labels(of(*rules), 0, shapes("resnet18"))


@pytest.mark.parametrize(
    ("name", "last"), [("lp_ft", 1), ("gradual_last_first", 5)]
)  # a head and five stages
def test_phases_are_numbered_from_0_to_the_last(name, last):
    strategy, params = strategies.get(name), shapes("resnet18")
    assert "train" in set(strategies.flatten(strategies.labels(strategy, last, params)).values())
    for number in (-1, last + 1):
        with pytest.raises(UserError, match=f"'{name}' has phases 0 to {last} here"):
            strategies.labels(strategy, number, params)


def test_an_unknown_bn_policy_is_refused():
    with pytest.raises(UserError, match="'auto', 'still', 'moving', 'adapted' or 'stochastic.p.'"):
        strategies.bind(of((select.everything, "train"), bn="frozen"), shapes("resnet18"))
