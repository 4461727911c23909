"""The printed plan: operations against a count by hand, labels, optimizer bytes, the picture."""

import json

import numpy as np
import pytest

from ttl_jax.analysis.strategy_plan import plan
from ttl_jax.commands.strategies import show
from ttl_jax.errors import UserError

# ResNet-18 at 448 px from the paper's table: unit, in, out, window, stride, padding, input size. (On the
# smallest maps the CPU's form of an input gradient multiplies padding too, so they are not small here.)
SIZE, BATCH = 448, 8
CONVOLUTIONS = [("stem", 3, 64, 7, 2, 3, 448)]
UNITS = ["stem"]
for stage, (width, size) in enumerate(((64, 112), (128, 56), (256, 28), (512, 14)), start=1):
    for block in (1, 2):
        unit = f"stage{stage}/block{block}"
        UNITS.append(unit)
        first = stage > 1 and block == 1
        below, large = (width // 2, size * 2) if first else (width, size)
        CONVOLUTIONS += [
            (unit, below, width, 3, 2 if first else 1, 1, large),
            (unit, width, width, 3, 1, 1, size),
        ]
        if first:
            CONVOLUTIONS.append((unit, below, width, 1, 2, 0, large))


def taps(window, stride, padding, size):
    """How many (output, tap) pairs of one axis lie inside the image: what XLA counts."""
    outputs = (size + 2 * padding - window) // stride + 1
    places = np.arange(outputs)[:, None] * stride - padding + np.arange(window)
    return int(((places >= 0) & (places < size)).sum())


def by_hand(frozen, batch):
    """Forward everywhere; above the frozen units the gradients of weights, and of inputs that need one."""
    total = 0
    for number, (unit, below, above, window, stride, padding, size) in enumerate(CONVOLUTIONS):
        once = 2 * batch * below * above * taps(window, stride, padding, size) ** 2
        place = UNITS.index(unit)
        total += once
        if place < frozen:
            continue
        total += once  # of the weights
        lowest = place == frozen
        first_of_unit = number == 0 or CONVOLUTIONS[number - 1][0] != unit
        if not (lowest and (first_of_unit or window == 1)):  # reads the frozen features, or the images
            total += once
    head = 2 * batch * 512 * 2  # forward, weights and, where anything below trains, input
    return total + head * (2 if frozen == len(UNITS) else 3)


@pytest.mark.parametrize("frozen", [0, 1, 3, 5, 7, 9])
def test_operations_of_a_step_are_those_counted_by_hand(frozen):
    text = "full" if frozen == 0 else f"layerwise({frozen})" if frozen < 9 else "linear_probe"
    (phase,) = plan(text, "resnet18", image_size=SIZE, batch=BATCH).phases
    assert phase.flops == pytest.approx(by_hand(frozen, BATCH), rel=0.03)


def test_operations_fall_with_every_frozen_stage():
    texts = ["full", *(f"layerwise(stage={stage})" for stage in range(1, 5)), "linear_probe"]
    flops = [plan(text, "resnet18", batch=2).phases[0].flops for text in texts]
    assert all(more > less for more, less in zip(flops, flops[1:], strict=False))


def test_optimizer_bytes_are_two_moments_and_an_age_for_trainable_leaves_only():
    for text in ("full", "linear_probe", "layerwise(5)", "bitfit"):
        (phase,) = plan(text, "resnet18", image_size=64, batch=2).phases
        leaves = sum(row.leaves for row in phase.rows if row.label != "freeze")
        assert phase.optimizer_bytes == 4 * (2 * phase.trainable + leaves)


def test_a_sum_shows_its_cut_its_phases_and_its_rates():
    found = plan("truncated(3)+lp_ft(share=0.3, lr=0.1)+discriminative(2.0)", "resnet18", image_size=64)
    assert found.dropped[0] == "stage2/block1" and found.parameters == 157_634
    probe, tuned = found.phases
    assert (probe.share, tuned.share) == (pytest.approx(0.3), pytest.approx(0.7))
    rates = {unit.unit: unit.rate for unit in tuned.units}
    assert rates == pytest.approx({"stem": 0.025, "stage1/block1": 0.05, "stage1/block2": 0.05, "head": 0.1})
    assert [unit.rate for unit in probe.units] == [0, 0, 0, 1]
    assert [unit.still for unit in probe.units] == [True, True, True, False]


@pytest.mark.parametrize(
    ("text", "how", "units"),
    [("weight_transfusion(7)", "scratch", ["stage4/block1", "stage4/block2"]),
     ("mean_var", "mean_var", UNITS),
     ("transfusion(7)", "slim", ["stage4/block1", "stage4/block2"])],
)  # fmt: skip
def test_units_that_do_not_start_pretrained_are_named(text, how, units):
    found = plan(text, "resnet18", image_size=64, batch=2)
    assert found.fresh == dict.fromkeys(units, how)


@pytest.mark.parametrize("text", ["delta", "cotuning", "auto_rgn", "l2_sp(coupled=False)", "stochnorm"])
def test_strategies_with_constants_have_a_plan_too(text):
    (phase,) = plan(text, "resnet18", image_size=32, batch=2).phases
    plain = plan("full", "resnet18", image_size=32, batch=2).phases[0].flops
    assert phase.flops >= plain
    if text == "delta":  # the starting network runs forward beside
        assert phase.flops > 1.15 * plain


def test_the_command_prints_draws_and_refuses(tmp_path, capsys):
    picture, vector = tmp_path / "plan.png", tmp_path / "plan.svg"
    show(["lp_ft", "--model=resnet18", "--image_size=64", f"--out={picture}", f"--out={vector}"])
    said = capsys.readouterr().out
    assert "lp_ft on resnet18: 11,177,538 parameters" in said and "0.01 x 1" in said
    assert "a phase starts from the last state of the one before" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = vector.read_text()
    for word in ("stage4/block2", "0.01 x 1", "lr x 1", "probe", "70% of steps", "head"):
        assert word in text
    show(["lp_ft", "--model=resnet18", "--image_size=64", "--json"])
    assert json.loads(capsys.readouterr().out)["phases"][0]["trainable"] == 1026
    for words in (["full", "--out=x.gif"], ["full", "--batch=0"], ["full", "--modle=x"]):
        with pytest.raises(UserError):
            show(words)
