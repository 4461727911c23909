"""Strategies from a string: `linear_probe`, `a(12)+b(alpha=0.01)`."""

from __future__ import annotations

import ast
from functools import reduce
from operator import add

from ttl_jax.errors import UserError
from ttl_jax.strategies.catalogue import get
from ttl_jax.strategies.strategy import Strategy


def parse(text: str) -> Strategy:
    """Reads a sum of catalogue entries with literal arguments.

    Raises:
        UserError: not of that form, or an entry or option that does not exist.
    """

    def terms(node: ast.expr) -> list[Strategy]:
        match node:
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return terms(left) + terms(right)
            case ast.Name(id=key):
                return [get(key)]
            case ast.Call(func=ast.Name(id=key), args=arguments, keywords=keywords):
                try:
                    values = [ast.literal_eval(argument) for argument in arguments]
                    options = {word.arg: ast.literal_eval(word.value) for word in keywords}
                except ValueError:
                    break_at = ast.get_source_segment(text, node)
                    raise UserError(
                        f"strategy {break_at!r}: arguments must be numbers, strings or booleans"
                    ) from None
                return [get(key, *values, **{str(name): value for name, value in options.items()})]
        raise UserError(
            f"strategy {text!r} is not of the form key(option=value)+key, "
            "as in linear_probe or lp_ft+l2_sp(alpha=0.01)"
        )

    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise UserError(f"strategy {text!r} cannot be read; write it as key(option=value)+key") from None
    return reduce(add, terms(tree))
