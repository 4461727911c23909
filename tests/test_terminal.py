"""Tables of the terminal: no word is broken, no line too long, at any width that holds the longest word."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttl_jax.system import terminal

WORD = st.text("abcdefgh_()='.", min_size=1, max_size=14)
CELL = st.lists(WORD, min_size=1, max_size=6).map(" ".join)


def lines_of(rows, columns, **options):
    file = io.StringIO()
    terminal.console(file, columns).print(terminal.table(rows, columns, **options))
    return file.getvalue().splitlines()


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=5), st.integers(40, 120))
def test_every_word_is_printed_whole_and_no_line_is_too_long(cells, columns):
    lines = lines_of(
        [dict(zip(("name", "what it does", "size"), row, strict=True)) for row in cells], columns
    )
    printed = [word for line in lines for word in line.split()]
    for word in (word for row in cells for cell in row for word in cell.split()):
        assert printed.count(word) >= 1
    assert max(len(line.rstrip()) for line in lines) <= columns


def test_numbers_stand_right_and_have_commas():
    head, _, first, second = lines_of([{"a": "x", "n": 1234567}, {"a": "y", "n": 5}], 40)
    assert first.split() == ["x", "1,234,567"] and second == "y          5"
    assert head == "a          n"


def test_what_is_too_wide_is_turned_and_what_is_too_wide_then_too_becomes_blocks():
    rows = [{"strategy": f"s{n}", **{f"metric_number_{m}": f"0.{m}" for m in range(8)}} for n in range(2)]
    turned = lines_of(rows, 40)
    assert turned[0].split() == ["strategy", "s0", "s1"] and turned[2].split() == [
        "metric_number_0",
        "0.0",
        "0.0",
    ]
    blocks = lines_of([{**row, "strategy": f"a_strategy_{n}"} for n, row in enumerate(2 * rows)], 40)
    assert blocks[0] == "strategy a_strategy_0" and blocks[1].split() == ["metric_number_0", "0.0"]


def test_a_column_of_one_value_is_said_once():
    said, rows = terminal.without_constants([{"model": "m", "n": 1}, {"model": "m", "n": 2}], ("model", "n"))
    assert said == "model m; " and rows == [{"n": 1}, {"n": 2}]


def test_the_width_is_that_of_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "57")
    assert terminal.console().width == 57
    monkeypatch.delenv("COLUMNS")
    assert terminal.console(elsewhere=90).width >= 1


def test_names_are_no_markup():
    (_, _, line) = lines_of([{"a": "[red]x[/red]"}], 40)
    assert line == "[red]x[/red]"


@pytest.mark.parametrize("columns", [80, 60])
def test_the_progress_of_a_comparison_fits(columns):
    from ttl_jax.compare.cells import Setting
    from ttl_jax.compare.progress_table import ProgressLine, draw

    strategies = ("truncated(stage='stage5')", "gradual_last_first", "lp_ft")
    lines = [
        ProgressLine(Setting("phantom/dermoscopy", "efficientnet_lite0", text), 1, 12, 1, 0, None, 0.9)
        for text in strategies
    ]
    file = io.StringIO()
    terminal.console(file, columns).print(draw(lines, 600.0, columns))
    printed = file.getvalue()
    assert {*strategies, "phantom/dermoscopy;", "efficientnet_lite0;"} <= set(printed.split())
    assert max(map(len, printed.splitlines())) <= columns and "3 of 36 cells done, about 10 min left" in (
        " ".join(printed.split())
    )
