"""A Strategy as text and back: what a config, a worker process and a resumed run know of one in Python.

    Strategy('mine', phases=(Phase(rules=((head, 'train'), (~head, 'freeze'))),))

The text is Python, read without running it: the data classes of this package, its selections and literals.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from ttl_jax.errors import UserError
from ttl_jax.strategies import select
from ttl_jax.strategies.select import Where

_OPERATIONS = {ast.BitOr: Where.__or__, ast.BitAnd: Where.__and__}


def written(value: Any) -> str:
    """A strategy, or a part of one, as Python text; fields at their defaults are left out."""
    match value:
        case Where(operation="or" | "and" as operation, arguments=(left, right)):
            return f"({written(left)} {'|' if operation == 'or' else '&'} {written(right)})"
        case Where(operation="not", arguments=(inner,)):
            return f"~{written(inner)}"
        case Where(operation=name, arguments=arguments):
            return f"{name}({', '.join(map(written, arguments))})" if arguments else name
        case tuple():
            return f"({', '.join(map(written, value))}{',' if len(value) == 1 else ''})"
        case Mapping():
            return "{" + ", ".join(f"{written(key)}: {written(each)}" for key, each in value.items()) + "}"
        case _ if is_dataclass(value):
            given = [item for item in fields(value) if getattr(value, item.name) != _default(item)]
            texts = [f"{item.name}={written(getattr(value, item.name))}" for item in given]
            return f"{type(value).__name__}({', '.join(texts)})"
        case _ if hasattr(value, "item"):  # a NumPy number
            return repr(value.item())
    return repr(value)


def _default(item: Field[Any]) -> Any:
    return item.default_factory() if item.default_factory is not MISSING else item.default


def read(node: ast.expr) -> Any:
    """The value that a node of `written` stands for.

    Raises:
        UserError: something that is not of this package, or fields that do not fit.
    """
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Tuple(elts=items) | ast.List(elts=items):
            return tuple(map(read, items))
        case ast.Dict(keys=keys, values=values):
            return {read(key): read(value) for key, value in zip(keys, values, strict=True) if key}
        case ast.UnaryOp(op=ast.Invert(), operand=inner):
            return ~_where(inner)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() as operation, right=right):
            return _OPERATIONS[type(operation)](_where(left), _where(right))
        case ast.Name(id=name) if isinstance(_names().get(name), Where):
            return _names()[name]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=words) if callable(_names().get(name)):
            options = {str(word.arg): read(word.value) for word in words}
            try:
                return _names()[name](*map(read, arguments), **options)
            except TypeError as error:
                raise UserError(f"strategy text {ast.unparse(node)!r}: {error}") from None
    raise UserError(
        f"strategy text: {ast.unparse(node)!r} is nothing that ttl_jax.strategies knows; one with parts "
        "of your own goes into a file, and is named FILE.py:NAME"
    )


def _where(node: ast.expr) -> Where:
    value = read(node)
    if not isinstance(value, Where):
        raise UserError(f"strategy text: {ast.unparse(node)!r} is no selection of parameters")
    return value


def _names() -> dict[str, Any]:
    """The names that a text may use: data classes, those of parts of the user's own too, and selections."""
    from ttl_jax.strategies import Part, Phase, Strategy, Surgery, Train

    classes: list[Any] = [Strategy, Surgery, Phase, Train, *_below(Part)]
    functions: list[Any] = [select.units, select.stages, select.bottom_stages, select.top_stages]
    selections = {name: each for name, each in vars(select).items() if isinstance(each, Where)}
    return selections | {each.__name__: each for each in classes + functions}


def _below(kind: type) -> Iterator[type]:
    subclasses: list[type] = kind.__subclasses__()
    for each in subclasses:
        yield each
        yield from _below(each)
