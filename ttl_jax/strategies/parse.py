"""Strategies from text: `linear_probe`, `a(12)+b(alpha=0.01)`, `my_strategies.py:mine + l2_sp`."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

from ttl_jax import registry
from ttl_jax.errors import UserError
from ttl_jax.strategies import catalogue, regularisers  # noqa: F401  they register their entries
from ttl_jax.strategies.strategy import Strategy
from ttl_jax.strategies.written import read

_FILE = re.compile(r"(?<![^+()'\",=])[^+()'\",=]+\.py:[A-Za-z_]\w*")


def names() -> tuple[str, ...]:
    """The keys of the catalogue."""
    return registry.names("strategy")


def get(key: str, *arguments: Any, **options: Any) -> Strategy:
    """Returns a strategy by its key.

    Args:
        key: a key of the catalogue, or FILE.py:NAME, a Strategy or a function that returns one.
        arguments, options: the entry's arguments, by position and by name.

    Raises:
        UserError: an unknown key (the nearest one is named) or option, or an entry that is no strategy.
    """
    entry = registry.get("strategy", key)
    if isinstance(entry, Strategy):
        if arguments or options:
            raise UserError(f"strategy {key!r} takes no options: it is a Strategy, not a function of them")
        return entry
    if not callable(entry):
        raise UserError(f"strategy {key!r} is of type {type(entry).__name__}, no Strategy and no function")
    try:
        inspect.signature(entry).bind(*arguments, **options)
    except TypeError as error:
        raise UserError(
            f"strategy {key!r}: {error}; it takes {key}{inspect.signature(entry)}".split(" -> ")[0]
        ) from None
    made = entry(*arguments, **options)
    if not isinstance(made, Strategy):
        raise UserError(f"strategy {key!r} is a function that returns {type(made).__name__}, no Strategy")
    return made


@dataclass(frozen=True)
class Term:
    """One entry of a sum, as it was written: `key(*arguments, **options)`, or a Strategy written out.

    Attributes:
        key: a key of the catalogue, or FILE.py:NAME; the name of a Strategy that is written out.
        arguments, options: the entry's arguments, by position and by name.
        value: the Strategy that is written out.
    """

    key: str
    arguments: tuple[Any, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()
    value: Strategy | None = None

    @property
    def strategy(self) -> Strategy:
        """The strategy that it stands for."""
        return self.value or get(self.key, *self.arguments, **dict(self.options))

    @property
    def written(self) -> frozenset[str]:
        """The names of the options that have a value here, by position or by name."""
        signature = inspect.signature(registry.get("strategy", self.key))
        return frozenset(signature.bind_partial(*self.arguments, **dict(self.options)).arguments)

    @property
    def title(self) -> str:
        """As a table shows it: a Strategy that is written out by its name alone."""
        values = [*map(repr, self.arguments), *(f"{name}={value!r}" for name, value in self.options)]
        return self.key + (f"({', '.join(values)})" if values else "")

    def __str__(self) -> str:
        return self.title if self.value is None else repr(self.value)


def terms(given: str | Strategy) -> tuple[Term, ...]:
    """Reads a sum of entries; whether they exist is not asked.

    Args:
        given: text: entries of the catalogue or of the user's own files, with literal arguments, or a
            Strategy as `written` writes it, with "+" between them. Or a Strategy.

    Raises:
        UserError: not of that form.
    """
    if isinstance(given, Strategy):
        return (Term(given.name, value=given),)
    files: list[str] = []

    def stand_in(match: re.Match[str]) -> str:
        files.append(match[0].strip())
        return f" file{len(files) - 1}_ "

    text = _FILE.sub(stand_in, given.strip())
    keys = {f"file{number}_": file for number, file in enumerate(files)}

    def read_term(node: ast.expr) -> tuple[Term, ...]:
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return read_term(left) + read_term(right)
            case ast.Call(func=ast.Name(id="Strategy")):
                value = read(node)
                return (Term(value.name, value=value),)
            case ast.Name(id=key):
                return (Term(keys.get(key, key)),)
            case ast.Call(func=ast.Name(id=key), args=arguments, keywords=keywords):
                try:
                    values = tuple(ast.literal_eval(argument) for argument in arguments)
                    options = tuple((str(word.arg), ast.literal_eval(word.value)) for word in keywords)
                except ValueError:
                    break_at = ast.get_source_segment(text, node)
                    raise UserError(
                        f"strategy {break_at!r}: arguments must be numbers, strings or booleans"
                    ) from None
                return (Term(keys.get(key, key), values, options),)
        raise UserError(
            f"strategy {given!r} is not of the form key(option=value)+key, "
            "as in linear_probe or lp_ft+l2_sp(alpha=0.01)"
        )

    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deep
        raise UserError(f"strategy {given!r} cannot be read; write it as key(option=value)+key") from None
    return read_term(tree)


def parse(given: str | Strategy) -> Strategy:
    """The strategy that a config, a command or a caller means.

    Args:
        given: text or a Strategy, as `terms` takes it.

    Raises:
        UserError: not of that form, or an entry or option that does not exist.
    """
    return given if isinstance(given, Strategy) else reduce(add, (term.strategy for term in terms(given)))


def text_of(given: str | Strategy) -> str:
    """A strategy as a config holds it: text as it is, a Strategy written out."""
    return repr(given) if isinstance(given, Strategy) else given


def title(given: str | Strategy) -> str:
    """A strategy as a table shows it: its text, in which what is written out stands by its name alone."""
    parts, text = terms(given), str(given)
    return text if all(term.value is None for term in parts) else "+".join(term.title for term in parts)


def open_strengths(
    text: str, grids: Mapping[str, Mapping[str, tuple[Any, ...]]]
) -> dict[str, tuple[Any, ...]]:
    """The strengths that a strategy's text leaves open: {"key.option": values}.

    Args:
        text: the strategy's text. An option is not open if the text gives it a value, or options that it does
            not go with.
        grids: {key: {option: values}}, as `catalogue.STRENGTHS`; no value: not open either.
    """
    return {
        f"{term.key}.{option}": tuple(values)
        for term in terms(text)
        for option, values in grids.get(term.key, {}).items()
        if term.value is None
        and option not in term.written
        and any(_accepts(term, {option: value}) for value in values)
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
        text: the strategy's text, as `parse` takes it.
        values: {"key.option": value}, as in {"l1_sp.alpha": 0.1}.
    """
    if not values:
        return text

    def filled(term: Term) -> Term:
        names = ((name.partition("."), value) for name, value in values.items())
        mine = tuple((option, value) for (key, _, option), value in names if key == term.key)
        return (
            term
            if term.value is not None
            else replace(
                term, options=term.options + tuple(each for each in mine if each[0] not in term.written)
            )
        )

    return "+".join(str(filled(term)) for term in terms(text))
