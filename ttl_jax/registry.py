"""Registry of names: strategies, backbones, data sources, metrics, losses and attribution methods.

    @register("loss")
    def brier(logits, target): ...

registers an entry under its own name. Nothing else lists the entries of a kind. In the place of a name a
config may also say `FILE.py:NAME`, an entry of the user's own file.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, TypeVar

from ttl_jax.errors import UserError, nearest

Kind = Literal["strategy", "backbone", "source", "metric", "loss", "attribution"]
T = TypeVar("T")


class Entry(NamedTuple):
    """A registered value, and the module whose code registered it."""

    value: Any
    module: str

    @property
    def built_in(self) -> bool:
        """Return whether the entry belongs to this package."""
        return self.module.partition(".")[0] == "ttl_jax"


_ENTRIES: dict[str, dict[str, Entry]] = {}
_MODULES: dict[Path, ModuleType] = {}  # of the user's own files, as their content was last
_OWN = re.compile(r"(.+\.py):([A-Za-z_]\w*)")


def register(kind: Kind, *names: str) -> Callable[[T], T]:
    """Registers a value under some names, or under its own (`__name__`); a decorator.

    Raises:
        UserError: a name that this package has already given to something else.
    """
    module = sys._getframe(1).f_globals["__name__"]

    def add(value: T) -> T:
        entries = _ENTRIES.setdefault(kind, {})
        for name in names or (value.__name__,):  # type: ignore[attr-defined]
            if name in entries and entries[name].built_in and entries[name].module != module:
                raise UserError(f"there already is a {kind} {name!r}; register yours under another name")
            entries[name] = Entry(value, module)
        return value

    return add


def names(kind: Kind) -> tuple[str, ...]:
    """The registered names of a kind, in the order of their registration."""
    return tuple(_ENTRIES.get(kind, ()))


def get(kind: Kind, name: str, fault: str = "") -> Any:
    """Looks a name up.

    Args:
        kind: kind of the entry, as "strategy" or "loss".
        name: a registered name, or FILE.py:NAME.
        fault: the start of the error's sentence where there is no such name.

    Raises:
        UserError: no such name (the nearest is told), or a file that cannot be used.
    """
    if own := _OWN.fullmatch(name):
        module, entries = load(own[1]), _ENTRIES.get(kind, {})
        if own[2] in entries and entries[own[2]].module == module.__name__:
            return entries[own[2]].value
        if own[2] not in vars(module):
            public = tuple(each for each in vars(module) if not each.startswith("_"))
            raise UserError(f"{own[1]} defines no {own[2]!r}{nearest(own[2], public)}")
        return getattr(module, own[2])
    if name not in names(kind):
        raise UserError(f"{fault or f'there is no {kind} {name!r}'}{nearest(name, names(kind))}")
    return _ENTRIES[kind][name].value


def is_own(kind: Kind, name: str) -> bool:
    """Return whether a name means an entry of the user's, and not of this package."""
    return bool(_OWN.fullmatch(name)) or name in names(kind) and not _ENTRIES[kind][name].built_in


def digest(kind: Kind, name: str) -> str:
    """The digest of the user's file that an entry is from, or of the source of one registered elsewhere.

    Returns:
        sixteen hexadecimal digits; "" for an entry of this package.
    """
    value = get(kind, name)
    if own := _OWN.fullmatch(name):
        return _hash(Path(own[1]).expanduser().read_bytes())
    if not is_own(kind, name):
        return ""
    try:
        source = inspect.getsource(value)
    except (OSError, TypeError):  # a value, or typed at a prompt
        source = re.sub(r" at 0x\w+", "", repr(value))
    return _hash(source.encode())


def load(file: str) -> ModuleType:
    """Runs a user's own Python file, again only where its content has changed.

    Raises:
        UserError: it is not there, or does not run.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"there is no file {file} (looked for in {Path.cwd()})")
    content, place = path.read_bytes(), path.resolve()
    name = f"{path.stem}_{_hash(str(place).encode() + content)}"
    if place not in _MODULES or _MODULES[place].__name__ != name:
        module = sys.modules[name] = ModuleType(name)  # there, as dataclasses and pickles look for it
        module.__file__ = str(path)
        try:
            exec(compile(content, str(path), "exec"), vars(module))
        except Exception as error:
            del sys.modules[name]
            raise UserError(f"{file}{_line(error, str(path))}: {type(error).__name__}: {error}") from error
        _MODULES[place] = module
    return _MODULES[place]


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _line(error: Exception, file: str) -> str:
    """Return the line of a file in which an error arose, as ", line 3"; a SyntaxError says so itself."""
    lines = [each.lineno for each in traceback.extract_tb(error.__traceback__) if each.filename == file]
    return f", line {lines[-1]}" if lines else ""
