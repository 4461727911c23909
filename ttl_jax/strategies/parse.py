"""Strategies from a string: `linear_probe`, `a(12)+b(alpha=0.01)`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

from ttl_jax.errors import UserError
from ttl_jax.strategies.catalogue import CATALOGUE, get
from ttl_jax.strategies.strategy import Strategy


@dataclass(frozen=True)
class Term:
    """One entry of a sum, as it was written: `key(*arguments, **options)`."""

    key: str
    arguments: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def written(self) -> frozenset[str]:
        """The names of the options that have a value here, by position or by name."""
        signature = inspect.signature(CATALOGUE[self.key])
        return frozenset(signature.bind_partial(*self.arguments, **dict(self.options)).arguments)

    def __str__(self) -> str:
        values = [*map(repr, self.arguments), *(f"{name}={value!r}" for name, value in self.options)]
        return self.key + (f"({', '.join(values)})" if values else "")


def terms(text: str) -> tuple[Term, ...]:
    """Reads a sum of catalogue entries with literal arguments; whether they exist is not asked.

    Raises:
        UserError: not of that form.
    """

    def read(node: ast.expr) -> tuple[Term, ...]:
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return read(left) + read(right)
            case ast.Name(id=key):
                return (Term(key),)
            case ast.Call(func=ast.Name(id=key), args=arguments, keywords=keywords):
                try:
                    values = tuple(ast.literal_eval(argument) for argument in arguments)
                    options = tuple((str(word.arg), ast.literal_eval(word.value)) for word in keywords)
                except ValueError:
                    break_at = ast.get_source_segment(text, node)
                    raise UserError(
                        f"strategy {break_at!r}: arguments must be numbers, strings or booleans"
                    ) from None
                return (Term(key, values, options),)
        raise UserError(
            f"strategy {text!r} is not of the form key(option=value)+key, "
            "as in linear_probe or lp_ft+l2_sp(alpha=0.01)"
        )

    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise UserError(f"strategy {text!r} cannot be read; write it as key(option=value)+key") from None
    return read(tree)


def parse(text: str) -> Strategy:
    """Reads a sum of catalogue entries with literal arguments.

    Raises:
        UserError: not of that form, or an entry or option that does not exist.
    """
    return reduce(add, (get(term.key, *term.arguments, **dict(term.options)) for term in terms(text)))


def open_strengths(
    text: str, grids: Mapping[str, Mapping[str, tuple[Any, ...]]]
) -> dict[str, tuple[Any, ...]]:
    """The strengths that a strategy's text leaves open: {"key.option": values}.

    Args:
        text: of the strategy. An option is not open if the text gives it a value, or options that it does
            not go with.
        grids: {key: {option: values}}, as `catalogue.STRENGTHS`; no value: not open either.
    """
    return {
        f"{term.key}.{option}": tuple(values)
        for term in terms(text)
        for option, values in grids.get(term.key, {}).items()
        if option not in term.written and any(_accepts(term, {option: value}) for value in values)
    }


def _accepts(term: Term, more: Mapping[str, Any]) -> bool:
    try:
        get(term.key, *term.arguments, **{**dict(term.options), **more})
    except UserError:
        return False
    return True


def with_options(text: str, values: Mapping[str, Any]) -> str:
    """A strategy's text with open options filled in; none: the text as it is.

    Args:
        text: as for `parse`.
        values: {"key.option": value}, as in {"l1_sp.alpha": 0.1}.
    """
    if not values:
        return text

    def filled(term: Term) -> Term:
        names = ((name.partition("."), value) for name, value in values.items())
        mine = tuple((option, value) for (key, _, option), value in names if key == term.key)
        return replace(
            term, options=term.options + tuple(each for each in mine if each[0] not in term.written)
        )

    return "+".join(str(filled(term)) for term in terms(text))
