"""Cells of CSV: what a spreadsheet would run is text, numbers stay numbers, and every text comes back."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttl_jax.system.csv_cell import csv_cell, csv_line, csv_text

RUN = "=1+1 +cmd|x -2+3 @SUM(A1) \t=1 \r=1 \n=1".split(" ") + [
    " =HYPERLINK(1)",
    "＝1",
    "'=1",
    "''@x",
    "-",
    "--5",
]  # noqa: RUF001


@pytest.mark.parametrize("text", RUN)
def test_what_a_spreadsheet_would_run_gets_an_apostrophe(text):
    assert csv_cell(text) == f"'{text}" and csv_text(f"'{text}") == text


@pytest.mark.parametrize(
    "value", ["-0.5", "+4912", "-1e-3", ".5", "plain", "a=b", "", "O'Neill", "'quoted'", -3, 0.5, None]
)
def test_numbers_and_plain_text_stay(value):
    assert csv_cell(value) is value


@given(st.text("=+-@'\t\r\n 19.ea,\"", max_size=8))
def test_every_text_comes_back_out_of_a_file(text):
    ((cell, _),) = csv.reader(io.StringIO(csv_line([text, "x"]), newline=""))
    assert csv_text(cell) == text
