"""Strategies as text: sums of entries, of the user's own files, and Strategies written out."""

from dataclasses import dataclass

import pytest

from ttl_jax import strategies
from ttl_jax.errors import UserError
from ttl_jax.strategies import FREEZE, TRAIN, Part, Phase, Strategy, Surgery, Train, select

OPTIONS = {
    "layerwise": "layerwise(2)",
    "truncated": "truncated('stage1/block2')",
    "transfusion": "transfusion(2)",
    "surgical": "surgical(2, 3)",
    "weight_transfusion": "weight_transfusion(2)",
}
LOW = select.units(1, "stage2/block1")
MINE = Strategy(
    "mine",
    Surgery(init={select.stages(-1, -1): "mean_var"}),
    phases=(
        Phase(((select.head, TRAIN), (select.backbone, FREEZE)), until="epochs:2", name="probe"),
        Phase(((LOW, "slow"), (~LOW, TRAIN)), {"slow": Train(lr=0.1)}, reset=True, lr=-1.0),
    ),
)


@pytest.mark.parametrize("key", strategies.names())
def test_every_strategy_is_read_as_it_is_written(key):
    strategy = strategies.parse(OPTIONS[key] if key in OPTIONS else key)
    assert strategies.parse(repr(strategy)) == strategy


def test_a_strategy_of_ones_own_is_read_as_it_is_written():
    assert strategies.parse(repr(MINE)) == MINE
    assert repr(MINE).startswith("Strategy(name='mine', surgery=Surgery(init={stages(-1, -1): 'mean_var'}), ")
    assert "((units(1, 'stage2/block1'), 'slow'), (~units(1, 'stage2/block1'), 'train'))" in repr(MINE)


def test_written_out_a_strategy_is_a_term_like_others():
    text = f"{MINE!r} + l2_sp(0.5)"
    assert strategies.parse(text) == MINE + strategies.get("l2_sp", 0.5)
    assert strategies.title(text) == "mine+l2_sp(0.5)"
    assert strategies.parse(MINE) is MINE and strategies.text_of("full") == strategies.title("full") == "full"
    assert strategies.open_strengths(text, strategies.STRENGTHS) == {"l2_sp.beta": (0.001, 0.01, 0.1)}
    filled = strategies.with_options(text, {"l2_sp.beta": 0.1})
    assert strategies.parse(filled) == MINE + strategies.get("l2_sp", 0.5, beta=0.1)


@dataclass(frozen=True)
class Shrink(Part):
    by: float = 0.5


def test_a_part_of_ones_own_is_read_where_its_class_is_known():
    mine = Strategy("mine", parts=(Shrink(0.1),))
    assert repr(mine) == "Strategy(name='mine', parts=(Shrink(by=0.1),))"
    assert strategies.parse(repr(mine)) == mine


@pytest.mark.parametrize(
    "text, message",
    [
        ("Strategy(open('x'))", r"\"open\('x'\)\" is nothing that ttl_jax.strategies knows; .* FILE.py:NAME"),
        ("Strategy('x', phases=(Phase(rules=(('head', 'train'), Where)),))", "'Where' is nothing"),
        ("Strategy('x', phasen=())", "unexpected keyword argument 'phasen'"),
        ("Strategy('x', phases=(Phase(rules=((~3, 'train'),)),))", "'3' is no selection of parameters"),
        ("Strategy('x', penalties=(Mine(1),))", r"'Mine\(1\)' is nothing .* FILE.py:NAME"),
    ],
)
def test_a_written_strategy_that_is_none_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        strategies.parse(text)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my files").mkdir()
    (tmp_path / "my files" / "own.py").write_text(
        "from ttl_jax.strategies import Phase, Strategy, parse\n"
        "mine = Strategy('mine', phases=(Phase(lr=0.5),))\n"
        "def slower(by=2.0):\n    return Strategy('slower', phases=(Phase(lr=1 / by),))\n"
        "def broken():\n    return 3\n"
        "number = 3\n"
    )
    return "my files/own.py"


def test_a_strategy_of_a_file_adds_up_with_others(file):
    mine = Strategy("mine", phases=(Phase(lr=0.5),))
    assert strategies.parse(f"{file}:mine") == mine
    assert strategies.parse(f"l2_sp + {file}:mine").phases == mine.phases
    assert strategies.parse(f"{file}:slower(by=4.0)+l2_sp(alpha=0.1)").phases == (Phase(lr=0.25),)
    assert strategies.title(f"{file}:mine + ema") == f"{file}:mine + ema"


@pytest.mark.parametrize(
    "text, message",
    [
        ("none.py:mine", r"there is no file none.py \(looked for in .*\)"),
        ("FILE:mien", "defines no 'mien' \\(did you mean 'mine'\\?\\)"),
        ("FILE:mine(3)", "takes no options: it is a Strategy"),
        ("FILE:slower(much=3)", r"unexpected keyword argument 'much'; it takes .*:slower\(by=2.0\)"),
        ("FILE:broken", "is a function that returns int, no Strategy"),
        ("FILE:number+full", "is of type int, no Strategy"),
        ("l2sp + FILE:mine", "did you mean 'l2_sp'"),
    ],
)
def test_a_file_that_holds_no_such_strategy_is_refused(file, text, message):
    with pytest.raises(UserError, match=message):
        strategies.parse(text.replace("FILE", file))
