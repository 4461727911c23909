"""Reading of the command line: config files with overrides, or plain arguments."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ttl_jax.config.fields import Option, Section, defaults, leaves, paths, typed, unknown_field
from ttl_jax.errors import UserError

if TYPE_CHECKING:
    from absl import flags
    from ml_collections import ConfigDict

S = TypeVar("S", bound=Section)


class Parser(argparse.ArgumentParser):
    """Faults become one sentence and exit status 2, as everywhere in the program.

    Args:
        command: name of the command, as in "strategies".
    """

    def __init__(self, command: str) -> None:
        super().__init__(prog=command, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """See the class."""
        raise UserError(f"{message}; see `python -m ttl_jax {self.prog.split()[0]} --help`")


def config_and_workdir(arguments: list[str], kind: type[S], needs_workdir: bool = True) -> tuple[S, str]:
    """Reads --config=FILE:ARG, --config.x.y=z and --workdir.

    Args:
        arguments: behind the command's name.
        kind: dataclass of the command's config: RunConfig, or that of a search or a comparison.
        needs_workdir: refuse arguments without --workdir.

    Returns:
        The checked config, and the work folder ("" without one).

    Raises:
        UserError: naming what was typed.
    """
    for word in arguments:
        file = word.partition("=")[2].split(":")[0]
        if word.startswith("--config=") and not Path(file).is_file():
            raise UserError(f"--config={file}: there is no such file; presets are in configs/")
    overrides = [word for word in arguments if word.startswith("--config.")]
    values = _flags([word for word in arguments if word not in overrides])
    if values["config"].value is None:
        raise UserError("--config=FILE is missing, as in --config=configs/train.py")
    known = paths(values["config"].value)
    for word in overrides:
        _refuse_override(word, known)
    values = _flags(arguments)
    if needs_workdir and not values["workdir"].value:
        raise UserError("--workdir=DIR is missing: the folder that the run writes to")
    config: Any = values["config"].value
    for item in fields(kind):
        if isinstance(item.default, Section) and item.name not in config:
            raise UserError(f"--config has no `{item.name}` part; start from configs/{item.name}.py")
    return typed(kind, config), values["workdir"].value or ""


def overridden(arguments: list[str], kind: type[S]) -> S:
    """Reads --config.x.y=z over the program's defaults, without a config file.

    Args:
        arguments: of this form alone.
        kind: dataclass of the config.

    Raises:
        UserError: naming what was typed.
    """
    known = paths(kind().to_dict())
    for word in arguments:
        _refuse_override(word, known)
    return typed(kind, _flags(arguments, defaults(kind))["config"].value)


def _refuse_override(word: str, known: tuple[str, ...]) -> None:
    name, sign, _ = word.removeprefix("--config.").partition("=")
    if name not in known:
        raise unknown_field(name, known)
    if not sign:
        raise UserError(f"{word} has no value: write {word}=VALUE")


def _flags(words: list[str], given: ConfigDict | None = None) -> flags.FlagValues:
    """Parses --config (or overrides of a config that is given) and --workdir; errors as above."""
    from absl import flags
    from ml_collections import config_flags

    values = flags.FlagValues()
    if given is None:
        config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values)
    else:
        config_flags.DEFINE_config_dict("config", given, lock_config=True, flag_values=values)
    flags.DEFINE_string("workdir", None, "work folder", flag_values=values)
    before, sys.argv = sys.argv, ["ttl_jax", *words]  # where config_flags looks for overrides
    try:
        rest = values(sys.argv)
    except flags.IllegalFlagValueError as error:
        word = str(error).removeprefix("flag ").partition(": ")[0]
        raise UserError(f"{word} is not of the type of this field's default, which --help shows") from None
    except flags.Error as error:
        raise UserError(str(error).split("\n")[0]) from None
    except FileNotFoundError as error:
        raise UserError(f"config file {error.filename!r} does not exist") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"--config: {str(error).splitlines()[0]}") from None
    finally:
        sys.argv = before
    if len(rest) > 1:
        raise UserError(f"argument {rest[1]!r} is not understood; fields are --config.NAME=VALUE")
    return values


def fields_help(arguments: list[str], kind: type[Section]) -> str:
    """Explains every field of a config, with the default of the preset that is named or of the program.

    Args:
        arguments: behind the command's name; --config=FILE:ARG and --config.x.y=z among them count.
        kind: the config's dataclass, as `config_and_workdir` takes it.
    """
    words = [word for word in arguments if word.startswith("--config")]
    if any(word.startswith("--config=") for word in words):
        config, _ = config_and_workdir(words, kind, needs_workdir=False)
        origin = f"the values of {' '.join(words)}"
    else:
        config, origin = kind(), "the program's defaults; add --config=FILE to see what FILE makes of them"
    lines, section = [f"\nfields, with {origin}:"], None
    for path, about, value in leaves(config):
        if (above := path.rpartition(".")[0]) != section:
            section = above
            lines.append(f"\n{section or 'the whole run'}:")
        lines += field_help(f"--config.{path}", about, value)
    return "\n".join(lines) + "\n"


def field_help(flag: str, about: Option, value: object) -> list[str]:
    """The lines of one field: its flag with the default, and the explanation below it."""
    text = about.explanation + (f" [{about.bounds}]" if about.bounds else "")
    width = min(shutil.get_terminal_size((110, 0)).columns, 110)
    indent = " " * 6
    flags = [f"  {line}" for line in _flag_lines(flag, value)]
    return flags + textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)


def _flag_lines(flag: str, value: object) -> list[str]:
    if not isinstance(value, Mapping):
        return [f"{flag}={value}"]
    return [line for name, part in value.items() for line in _flag_lines(f"{flag}.{name}", part)]
