"""Typed config fields: each is declared once, with its default, its explanation, its range and its choices.

A config is a frozen dataclass of sections, which are frozen dataclasses too:

    @dataclass(frozen=True)
    class OptimizerConfig(Section):
        lr: float = option(1e-3, "learning rate at the top of the schedule", above=0)

The ConfigDict that config files fill in (`defaults`), the text of `--help` (`leaves`) and the checks
(`typed`) all follow from it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ttl_jax.errors import LONGEST, UserError, nearest

if TYPE_CHECKING:
    from ml_collections import ConfigDict

LARGEST = 2**31 - 1  # what 32-bit numbers on a device hold
T = TypeVar("T")
S = TypeVar("S", bound="Section")


@dataclass(frozen=True)
class Option:
    """A field: its default, its explanation, and the values that it takes.

    Attributes:
        default: default value, which sets the field's type; a tuple's items have the type of its first one
            (text where it is empty).
        explanation: one phrase in the words of the field.
        above, below: exclusive bounds of a number, or of each number of a tuple.
        at_least, at_most: inclusive bounds.
        choices: the words that a text is one of; empty where it is free.
        objects: whether Python objects may stand in the place of text, so that the type is not checked.
    """

    default: Any
    explanation: str
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] = ()
    objects: bool = False

    @property
    def bounds(self) -> str:
        """The bounds spelled out, as "from 0 to below 1"; "" where there are none."""
        if self.above is not None and self.below is not None:
            return f"between {self.above:g} and {self.below:g}"
        if self.above is not None:
            return f"above {self.above:g}" + ("" if self.at_most is None else f", up to {self.at_most:g}")
        if self.at_least is None:
            return ""
        if self.below is not None:
            return f"from {self.at_least:g} to below {self.below:g}"
        if self.at_most is not None:
            return f"from {self.at_least:g} to {self.at_most:g}"
        counts = isinstance(self.default, int) and self.at_least > 0
        return f"{self.at_least:g} or {'more' if counts else 'above'}"

    def allows(self, number: float) -> bool:
        """Compares a number to the bounds; NaN is within none."""
        return not (
            (self.above is not None and not number > self.above)
            or (self.at_least is not None and not number >= self.at_least)
            or (self.below is not None and not number < self.below)
            or (self.at_most is not None and not number <= self.at_most)
        )

    def checked(self, value: Any, path: str) -> Any:
        """Returns a value as the field holds it: a float for a whole number, a tuple for a list.

        Args:
            value: the value in a config.
            path: dotted name of the field.

        Raises:
            UserError: a value of another type, out of bounds, or not among the choices.
        """
        if self.objects:
            value = tuple(value) if isinstance(value, list) else value
        else:
            value = _of_type(value, self.default, path)
        if self.choices and value not in self.choices:
            raise UserError(f"config {path}={value!r}{nearest(value, self.choices)}")
        if self.bounds and not all(map(self.allows, value if isinstance(value, tuple) else (value,))):
            raise UserError(f"config {path}={value} must be {self.bounds}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"config {path}={value} must be finite")
        return value


def option(
    default: T,
    explanation: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    choices: tuple[str, ...] = (),
    objects: bool = False,
) -> T:
    """Declares a field; see `Option`."""
    declared: T = _field(Option(default, explanation, above, at_least, below, at_most, choices, objects))
    return declared


def another_default(section: type[Section], name: str, default: T) -> T:
    """Declares a field of a section again, in a subclass where its default is another one."""
    about = next(item.metadata["option"] for item in fields(section) if item.name == name)
    declared: T = _field(replace(about, default=default))
    return declared


def _field(about: Option) -> Any:
    metadata = {"option": about}
    if isinstance(about.default, Mapping):  # each config gets its own
        return field(default_factory=lambda: deepcopy(about.default), metadata=metadata)
    return field(default=about.default, metadata=metadata)


@dataclass(frozen=True)
class Section:
    """A part of a config, or a whole one; its fields are options or sections."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as nested dictionaries, sorted by name as those of a ConfigDict."""
        return {
            name: value.to_dict() if isinstance(value, Section) else _copied(value)
            for name, value in sorted(_items(self).items())
        }


def defaults(kind: type[Section]) -> ConfigDict:
    """Returns the locked ConfigDict of a config's defaults, for config files to fill in."""
    from ml_collections import ConfigDict

    return ConfigDict(kind().to_dict()).lock()


def typed(kind: type[S], config: ConfigDict | Mapping[str, Any] | Section, prefix: str = "") -> S:
    """Converts a config to its dataclass and checks types, ranges and choices.

    Fields that are absent take their defaults; sections that `kind` does not have (those of a comparison, in
    the config of a run) are left aside.

    Args:
        kind: RunConfig, or that of a search or a comparison, or a section of one.
        config: a ConfigDict, nested dictionaries, or the dataclass itself or one of a subclass.
        prefix: prefix of the names in errors, as "data." for a section.

    Raises:
        UserError: naming the field, its value and the values that it takes.
    """
    standard, given = _items(kind()), {}
    about = {item.name: item.metadata["option"] for item in fields(kind) if item.metadata}
    for name, value in _items(config).items():
        path = prefix + name
        if name in about:
            given[name] = about[name].checked(value, path)
        elif name in standard and _is_node(value):
            given[name] = typed(type(standard[name]), value, f"{path}.")
        elif name in standard:
            raise UserError(f"config {path} is a section of fields, not {value!r}")
        elif prefix or not _is_node(value):
            raise unknown_field(path, tuple(known for known, *_ in leaves(kind(), prefix)))
    return kind(**given)


def _of_type(value: Any, standard: Any, path: str) -> Any:
    if isinstance(standard, Mapping) and _is_node(value):
        return value.to_dict() if hasattr(value, "to_dict") else dict(value)
    if isinstance(standard, tuple) and isinstance(value, list | tuple):
        return tuple(_of_type(each, standard[0] if standard else "", path) for each in value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and abs(value) > LARGEST:
        raise UserError(f"config {path}={value} is too large: {LARGEST} is the largest whole number")
    if isinstance(standard, float) and (isinstance(value, float) or whole):
        return float(value)
    if isinstance(value, type(standard)) and isinstance(value, bool) == isinstance(standard, bool):
        return value
    raise UserError(f"config field {path!r} takes a value of type {type(standard).__name__}, not {value!r}")


def _items(config: ConfigDict | Mapping[str, Any] | Section) -> dict[str, Any]:
    """The fields of a section, by name; its own sections stay as they are."""
    if isinstance(config, Section):
        return {item.name: getattr(config, item.name) for item in fields(config)}
    return dict(config.items())


def _copied(value: Any) -> Any:
    return deepcopy(value) if isinstance(value, Mapping) else value


def _is_node(value: Any) -> bool:
    return isinstance(value, Section) or hasattr(value, "items")


def leaves(config: Section, prefix: str = "") -> Iterator[tuple[str, Option, Any]]:
    """Yields (dotted name, option, value) of every field, in the order of their declaration."""
    for item in fields(config):
        value = getattr(config, item.name)
        if isinstance(value, Section):
            yield from leaves(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item.metadata["option"], value


def paths(config: ConfigDict | Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Returns the dotted names of a ConfigDict's fields."""
    names: list[str] = []
    for name, value in config.items():
        names += paths(value, f"{prefix}{name}.") if hasattr(value, "items") else [prefix + name]
    return tuple(names)


def set_fields(config: ConfigDict | dict[str, Any], values: Mapping[str, Any]) -> None:
    """Sets dotted fields of a ConfigDict, as {"data.image_size": 64}.

    Raises:
        UserError: a field that does not exist (the nearest is named) or a value of another type.
    """
    for key, value in values.items():
        *parents, last = key.split(".")
        node: Any = config
        for name in parents:
            node = node[name] if hasattr(node, "keys") and name in node else {}
        if last not in node:
            raise unknown_field(key, paths(config))
        try:
            node[last] = value
        except (TypeError, ValueError):
            want = type(node[last]).__name__
            raise UserError(f"config field {key!r} takes a value of type {want}, not {value!r}") from None


def replace_fields(config: S, values: Mapping[str, Any]) -> S:
    """Returns a config with other values of dotted fields, as {"data.image_size": 64}; errors as `typed`."""
    changed = config.to_dict()
    set_fields(changed, values)
    return typed(type(config), changed)


def unknown_field(name: str, known: tuple[str, ...]) -> UserError:
    """Returns the error for a field that does not exist; it names the nearest by the last part of the name.

    Args:
        name: the name as it was given, with or without its section.
        known: the dotted names of all fields.
    """
    name = name[:LONGEST]  # likeness takes the square of the length
    last = [path.rpartition(".")[2] for path in known]
    near = difflib.get_close_matches(name.rpartition(".")[2], last, n=1)
    close = [path for path, each in zip(known, last, strict=True) if each in near]
    if "." in name:
        close = difflib.get_close_matches(name, close, n=1) or close
    hint = f" (did you mean {' or '.join(map(repr, close))}?)" if close else "; --help lists all of them"
    return UserError(f"config field {name!r} does not exist{hint}")
