"""Sizes against published figures, units and cuts of every network, and where parameters lie."""

from functools import cache

import jax
import jax.numpy as jnp
import pytest

from ttl_jax import models
from ttl_jax.errors import UserError
from ttl_jax.strategies import flatten

IMAGE = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)


@cache
def shapes(name, classes, **options):
    network = models.create(name, classes, **options)
    return jax.eval_shape(network.init, jax.random.key(0), IMAGE)["params"]


def count(name, classes, **options):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(name, classes, **options)))


# torchvision's documentation gives these totals; Lite0's is the sum over the PyPI file.
TOTALS = {
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032,
    "resnet101": 44_549_160, "resnet152": 60_192_808, "densenet121": 7_978_856,
    "densenet169": 14_149_480, "densenet201": 20_013_928, "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992, "vgg19": 143_667_240, "vgg19_bn": 143_678_248,
    "efficientnet_b0": 5_288_548, "efficientnet_lite0": 4_652_008,
}  # fmt: skip


def test_every_network_is_counted_here():
    assert set(TOTALS) == set(models.names())


@pytest.mark.parametrize("name", TOTALS)
def test_total_parameters(name):
    assert count(name, 1000) == TOTALS[name]


# methods.md B.3: ResNet-50, 2 classes, pooled head, in millions by unit.
RESNET50 = [0.01, 0.09, 0.16, 0.23, 0.61, 0.89, 1.17, 1.45, 2.96, 4.08, 5.19, 6.31, 7.43, 8.55,
            14.59, 19.05, 23.51]  # fmt: skip


def test_resnet50_cuts_have_the_published_sizes():
    exact = {12: 6_310_978, 14: 8_545_346, 17: 23_512_130}
    for unit, millions in enumerate(RESNET50, start=1):
        found = count("resnet50", 2, cut=unit)
        assert round(found / 1e6, 2) == millions
        assert unit not in exact or found == exact[unit]


# methods.md B.4: by the number of bottlenecks left as they were.
SLIM = [6.01, 6.06, 6.10, 6.61, 6.78, 6.96, 7.14, 9.42, 10.13, 10.83, 11.54, 12.24, 12.95, 17.87,
        20.69]  # fmt: skip


def test_transfusion_sizes():
    assert count("resnet50", 2, slim_from=14) == 12_947_522
    for kept, millions in enumerate(SLIM, start=1):
        assert round(count("resnet50", 2, slim_from=kept + 1) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("name", "cut", "backbone"),
    [
        ("densenet121", "transition1", 377_856), ("densenet121", "transition2", 1_429_632),
        ("densenet121", "transition3", 4_793_728), ("densenet121", None, 6_953_856),
        ("densenet201", "transition3", 11_110_528), ("densenet201", None, 18_092_928),
    ],
)  # fmt: skip
def test_densenet_backbone_sizes(name, cut, backbone):
    assert count(name, 0, cut=cut) == backbone


def test_coarse_boundaries():
    assert [unit.index for unit in models.stages("resnet50")] == [4, 8, 14, 17]
    assert [unit.name for unit in models.stages("densenet121")] == [
        "transition1", "transition2", "transition3", "dense4/layer16",
    ]  # fmt: skip
    assert len(models.units("densenet121")) == 1 + 58 + 3
    assert models.units("resnet50")[11] == ("stage3/block4", "stage3", 12)


@pytest.mark.parametrize("name", TOTALS)
def test_every_cut_keeps_the_parameters_of_its_units_and_no_others(name):
    whole = flatten(shapes(name, 2))
    steps = models.units(name) if len(models.units(name)) < 25 else models.units(name)[::9]
    for unit in steps:
        part = flatten(shapes(name, 2, cut=unit.index))
        below = {item.name for item in models.units(name)[: unit.index]}
        backbone = {path for path in whole if models.unit_of(name, path) in below}
        assert {path for path in part if not path.startswith("head/")} == backbone
        assert all(part[path].shape == whole[path].shape for path in backbone)
        assert part["head/kernel"].shape[1] == 2


@pytest.mark.parametrize("name", TOTALS)
def test_the_network_is_found_from_its_parameters(name):
    assert models.units(models.network_of(shapes(name, 2))) == models.units(name)
    cut = len(models.units(name)) // 2
    found = models.network_of(shapes(name, 2, cut=cut))
    assert models.units(found)[:cut] == models.units(name)[:cut]


def test_heads():
    assert shapes("resnet18", 3, head="mlp")["head"]["hidden"]["kernel"].shape == (512, 512)
    assert shapes("resnet18", 3, head="flatten")["head"]["kernel"].shape == (7 * 7 * 512, 3)
    assert "classifier" not in shapes("vgg16", 3, head="gap")
    assert shapes("vgg16", 3)["head"]["kernel"].shape == (4096, 3)
    assert "head" not in shapes("vgg16", 0) and "classifier" not in shapes("vgg16", 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models.create("resnet5", 2), "did you mean 'resnet50'"),
        (lambda: models.create("resnet18", 2, cut=10), "has units 1 to 9"),
        (lambda: models.create("resnet18", 2, cut="stage3/blok2"), "did you mean 'stage3/block2'"),
        (lambda: models.create("resnet18", 2, head="linear"), "gap, flatten, mlp"),
        (lambda: models.create("vgg16", 2, slim_from=3), "not for 'vgg16'"),
        (lambda: models.create("resnet18", -1), "0 .features. or more"),
        (lambda: models.unit_of("resnet18", "stage9/block1/conv1/kernel"), "belongs to no unit"),
        (lambda: models.network_of({"x": {"kernel": jnp.ones(1)}}), "fit no registered network"),
    ],
)
def test_errors_name_the_remedy(call, message):
    with pytest.raises(UserError, match=message):
        call()
