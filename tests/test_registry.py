"""The registry: what a name means, and the user's own files."""

import pytest

from ttl_jax import registry
from ttl_jax.errors import UserError

OWN = """
from ttl_jax.registry import register

@register("metric", "one", "two")
def mine(x):
    return x + 1

number = 3
"""


@pytest.fixture
def entries(monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", {})
    registry.register("loss", "plain", "other")(str)
    monkeypatch.setitem(registry._ENTRIES["loss"], "built", registry.Entry(int, "ttl_jax.training.loss"))
    return registry._ENTRIES


def test_names_are_looked_up_in_the_order_of_registration(entries):
    assert registry.names("loss") == ("plain", "other", "built")
    assert registry.get("loss", "other") is str


def test_an_unknown_name_is_told_the_nearest(entries):
    with pytest.raises(UserError, match=r"^there is no loss 'plian' \(did you mean 'plain'\?\)$"):
        registry.get("loss", "plian")
    with pytest.raises(
        UserError, match=r"^config x='q' does not exist \(choose from: plain, other, built\)$"
    ):
        registry.get("loss", "q", "config x='q' does not exist")


def test_what_the_package_registered_stays(entries):
    with pytest.raises(UserError, match="there already is a loss 'built'"):
        registry.register("loss", "built")(float)
    registry.register("loss", "plain")(float)  # a notebook's cell, run again
    assert registry.get("loss", "plain") is float


def test_a_file_of_the_users_own(entries, tmp_path, monkeypatch):
    (tmp_path / "my own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    assert registry.get("metric", "my own.py:one")(1) == 2
    assert registry.get("metric", "my own.py:number") == 3
    assert registry.get("metric", "my own.py:mine") is registry.get("metric", "two")
    assert registry.get("metric", str(tmp_path / "my own.py:mine")) is registry.get("metric", "two")


def test_an_edited_file_is_read_again(entries, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    first, digest = registry.get("metric", f"{file}:mine"), registry.digest("metric", f"{file}:mine")
    file.write_text(OWN.replace("x + 1", "x + 2"))
    assert registry.get("metric", f"{file}:mine")(1) == 3 and first(1) == 2
    assert registry.get("metric", "one")(1) == 3
    assert registry.digest("metric", f"{file}:mine") != digest
    file.write_text(OWN)
    assert registry.get("metric", f"{file}:two")(1) == 2
    assert registry.digest("metric", f"{file}:mine") == digest


@pytest.mark.parametrize(
    "text, want",
    [
        (None, r"^there is no file .*mine.py \(looked for in .*\)$"),
        ("def mine(:", r"^.*mine.py: SyntaxError: invalid syntax \(mine.py, line 1\)$"),
        ("\nmine = 1 / 0", r"^.*mine.py, line 2: ZeroDivisionError: division by zero$"),
        ("mien = 1", r"^.*mine.py defines no 'mine' \(did you mean 'mien'\?\)$"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_a_sentence(text, want, tmp_path):
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=want):
        registry.get("loss", f"{tmp_path / 'mine.py'}:mine")


def test_entries_of_the_users_own_have_digests(entries):
    def mine():
        return 1

    registry.register("loss")(mine)
    registry.register("loss", "value")((1, 2))
    assert registry.digest("loss", "built") == ""
    assert len(registry.digest("loss", "mine")) == 16
    assert registry.digest("loss", "value") != registry.digest("loss", "mine")
