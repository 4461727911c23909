"""Names that nothing binds: ruff and mypy do not tell, as shapes of arrays look like names."""

import builtins
import symtable
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path for folder in ("ttl_jax", "benchmarks", "configs") for path in (ROOT / folder).rglob("*.py")
)


def unbound(source: str) -> list[str]:
    """Global names that a file's code reads and nothing in it binds; annotations are not code."""
    top = symtable.symtable(source, "file", "exec")
    bound = {
        symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()
    }
    bound |= {child.get_name() for child in top.get_children()} | set(dir(builtins))
    bound |= {"__file__", "__name__", "__path__", "__doc__"}

    def read(table: symtable.SymbolTable) -> Iterator[str]:
        if "annotation" in str(table.get_type()).lower() or table.get_name() == "_annotation":
            return
        for symbol in table.get_symbols():
            if symbol.is_declared_global() and symbol.is_assigned():
                bound.add(symbol.get_name())
            if symbol.is_referenced() and (symbol.is_global() or table is top):
                yield symbol.get_name()
        for child in table.get_children():
            yield from read(child)

    return sorted(set(read(top)) - bound)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_is_bound(path):
    assert unbound(path.read_text()) == []


def test_the_check_can_fail():
    source = (
        "from __future__ import annotations\ndef f(x: Float[Array, 'n m'] = 1):\n    return x + missing\n"
    )
    assert unbound(source) == ["missing"]
