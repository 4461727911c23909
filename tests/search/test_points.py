"""What choosing a unit means for each kind, and how units are named in a config."""

import jax
import jax.numpy as jnp
import pytest

from ttl_jax import models, strategies
from ttl_jax.errors import UserError
from ttl_jax.models.registry import slimmable
from ttl_jax.search.candidates import boundaries, chosen, points


def by_unit(kind, model, base="full"):
    return {point.unit: point for point in points(kind, model, base)}


def test_ttl_and_lwft_have_a_candidate_at_every_unit():
    assert by_unit("ttl", "resnet50")[12].strategy == "truncated(12)"
    assert by_unit("lwft", "resnet50")[4].strategy == "layerwise(4)"
    assert len(points("ttl", "resnet50")) == len(points("lwft", "resnet50")) == 17


def test_tf_counts_units_that_stay_wide():
    found = by_unit("tf", "resnet50")
    # keeping units up to 14 wide makes the last stage slim: the published 12,947,522 parameters
    assert found[14].strategy == "transfusion(14)" and found[14].name == "stage3/block6"
    assert found[17].strategy == "full" and sorted(found) == list(range(1, 18))
    dense = by_unit("tf", "densenet121")
    assert {unit: point.strategy for unit, point in dense.items()} == {
        1: "transfusion(1)", 8: "transfusion(2)", 21: "transfusion(3)", 46: "transfusion(4)", 62: "full",
    }  # fmt: skip


def test_tf_works_on_every_family_that_can_be_slim():
    for model in filter(slimmable, models.names()):
        found = points("tf", model)
        assert found[-1].strategy == "full" and len(found) > 2 and found[0].unit >= 1
        assert [point.unit for point in found] == sorted({point.unit for point in found})


def test_every_strategy_can_be_read_and_a_base_is_added():
    for kind in ("ttl", "tf", "lwft"):
        for point in points(kind, "resnet18", "discriminative(2.0)"):
            assert strategies.parse(point.strategy).phases
    assert by_unit("ttl", "resnet18", "bitfit")[3].strategy == "truncated(3)+bitfit"


def test_units_are_chosen_by_ranges():
    assert chosen("2-4, 9", range(1, 10), "search.units") == (2, 3, 4, 9)
    assert boundaries("resnet18", (2, 3, 4, 6)) == (3, 4, 6)
    assert boundaries("resnet50", tuple(unit.index for unit in models.units("resnet50"))) == (4, 8, 14, 17)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: points("tll", "resnet50"), "search.kind='tll' \\(did you mean 'ttl'"),
        (lambda: points("tf", "bit_r50x1"), "slim_from is for"),
        (lambda: chosen("2..4", range(9), "search.units"), "not of the form 2-9,12"),
        (lambda: chosen("7-12", range(9), "search.units"), "9 is no candidate"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_freezing_up_to_a_pool_is_no_candidate_of_its_own():
    names = [point.name for point in points("lwft", "vgg19")]
    assert len(names) == 16 + 2 and not any("pool" in name for name in names)
    assert names == [point.name for point in points("ttl", "vgg19") if "pool" not in point.name]


def test_every_candidate_binds_to_its_network():
    for kind in ("ttl", "tf", "lwft"):
        for point in points(kind, "cbr_tiny"):
            network = models.create("cbr_tiny", 2, **point.shape)
            image = jax.ShapeDtypeStruct((1, 96, 96, 3), jnp.float32)
            shapes = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
            assert strategies.bind(strategies.parse(point.strategy), shapes, "cbr_tiny")
