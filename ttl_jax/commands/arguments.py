"""Reading of the command line: config files with overrides, or plain arguments."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from ttl_jax.config.data import IDENTITY, DataConfig, generated
from ttl_jax.config.fields import Option, Section, defaults, leaves, paths, typed, unknown_field
from ttl_jax.errors import UserError, nearest
from ttl_jax.system import folders

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

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reads words that are all understood; a hyphen within a flag's name is read as an underscore."""
        return self._understood(*self.parse_known_args([self._spelled(word) for word in args], namespace))

    def parse_intermixed_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The same, where flags may stand between the words of a list."""
        words = [self._spelled(word) for word in args]
        return self._understood(*self.parse_known_intermixed_args(words, namespace))

    def _understood(self, given: Any, rest: list[str]) -> Any:
        if rest:
            raise unknown_argument(rest[0], tuple(self._option_string_actions))
        return given

    def _spelled(self, word: str) -> str:
        name, equals, value = word.partition("=")
        underscored = "--" + name[2:].replace("-", "_")
        if name in self._option_string_actions or underscored not in self._option_string_actions:
            return word
        print(f"note: {name} is now written {underscored}", file=sys.stderr)
        return underscored + equals + value

    def error(self, message: str) -> NoReturn:
        """See the class."""
        raise UserError(f"{message}; see `ttl-jax {self.prog.split()[0]} --help`")


def unknown_argument(word: str, flags: tuple[str, ...], fields: tuple[str, ...] = ()) -> UserError:
    """Returns the error for a word that a command does not take.

    Args:
        word: the word.
        flags: the flags that the command takes.
        fields: dotted names of its config, which are typed as --config.NAME.
    """
    name = word.partition("=")[0]
    hint = nearest(name, flags) if word.startswith("-") else ""
    if fields and "did you mean" not in hint:
        last = name.removeprefix("--config.").lstrip("-").replace("-", "_")
        near = [f"--config.{path}" for path in fields if path == last or path.endswith(f".{last}")]
        hint = f" (did you mean {' or '.join(near)}?)" if near else "; fields are --config.NAME=VALUE"
    return UserError(f"argument {word!r} is not understood{hint}")


def config_and_workdir(
    arguments: list[str], kind: type[S], needs_workdir: bool = True, switches: tuple[str, ...] = ()
) -> tuple[S, str]:
    """Reads --config=NAME:ARG or FILE:ARG, --config.x.y=z and --workdir.

    Args:
        arguments: behind the command's name.
        kind: dataclass of the command's config: RunConfig, or that of a search or a comparison.
        needs_workdir: refuse arguments without --workdir.
        switches: flags of the command's own, without a value, as --fresh; left to the command.

    Returns:
        The checked config, and the work folder ("" without one).

    Raises:
        UserError: naming what was typed.
    """
    arguments = [_found(word) for word in joined(arguments) if word not in switches]
    arguments.sort(key=lambda word: not word.startswith("--config="))  # the file comes first
    overrides = [word for word in arguments if word.startswith("--config.")]
    others = [word for word in arguments if word not in overrides]
    known = [word for word in others if word.startswith(("--config=", "--workdir="))]
    values = _flags(known)
    if values["config"].value is None:
        raise UserError(
            f"--config=NAME is missing, as in {_preset(kind)}; NAME is one of "
            f"{', '.join(folders.shipped_names('configs'))}, or the path of a file of your own"
        )
    names = paths(values["config"].value)
    for word in others:
        if word not in known:
            raise unknown_argument(word, ("--config", "--workdir", *switches), names)
    for word in overrides:
        _refuse_override(word, names)
    values = _flags(arguments)
    if needs_workdir and not values["workdir"].value:
        raise UserError("--workdir=DIR is missing: the folder that the run writes to")
    config: Any = values["config"].value
    for item in fields(kind):
        if isinstance(item.default, Section) and item.name not in config:
            raise UserError(f"--config has no `{item.name}` part; start from {_preset(kind)}")
    _use_own_data(config, {word.partition("=")[0].removeprefix("--config.") for word in overrides}, kind)
    return typed(kind, config), values["workdir"].value or ""


def _use_own_data(config: ConfigDict, typed: set[str], kind: type[Section]) -> None:
    """Puts data that were typed in the place of a preset's: data.name follows from what lies at data.path.

    Args:
        config: the config, everything that was typed in it; data.name and compare.datasets are set here.
        typed: names of the fields that were typed.
        kind: dataclass of the config.
    """
    from ttl_jax.data.sources.registry import GUESSED, guess_source
    from ttl_jax.system import remote

    if "compare" in config and "compare.datasets" not in typed:
        standard = next(about.default for path, about, _ in leaves(kind()) if path == "compare.datasets")
        if typed & {f"data.{field}" for field in IDENTITY} and config.compare.datasets == standard:
            config.compare.datasets = ()
    path, name = config.data.path, config.data.name
    if "data.path" in typed and "data.name" not in typed and (name in GUESSED or generated(name)):
        if remote.is_remote(path) or Path(path).exists():
            config.data.name = guess_source(remote.local(path))
        if config.data.name != name:  # the preset's columns are of other data
            for field in ("root", "image", "label", "group", "split", "positive"):
                if f"data.{field}" not in typed:
                    config.data[field] = getattr(DataConfig, field)


def joined(words: Sequence[str]) -> list[str]:
    """The words with `--workdir DIR` as `--workdir=DIR`, and --config likewise."""
    joined, rest = [], iter(words)
    for word in rest:
        value = next(rest, None) if word in ("--config", "--workdir") else None
        joined.append(word if value is None else f"{word}={value}")
    return joined


def _found(word: str) -> str:
    """--config=NAME:ARG with the path of that preset in the place of its name; other words as they are."""
    if not word.startswith("--config="):
        return word
    name, colon, arg = word.removeprefix("--config=").partition(":")
    presets = folders.shipped_names("configs")
    if name in presets:
        return f"--config={folders.shipped('configs') / name}.py{colon}{arg}"
    if not Path(name).is_file():
        near = nearest(Path(name).stem, presets)
        raise UserError(f"--config={name}: there is no such file, nor a preset of that name{near}")
    return word


def _preset(kind: type[Section]) -> str:
    """The preset to start from for a kind of config: train, or the one named as a section of its own."""
    sections = {item.name for item in fields(kind)} & set(folders.shipped_names("configs"))
    return f"--config={next(iter(sections), 'train')}"


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
    before, sys.argv = sys.argv, ["ttl_jax", *words]  # where config_flags looks for overrides
    try:
        if given is None:
            config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values)
        else:
            config_flags.DEFINE_config_dict("config", given, lock_config=True, flag_values=values)
        flags.DEFINE_string("workdir", None, "work folder", flag_values=values)
        values(sys.argv)
    except flags.IllegalFlagValueError as error:
        word = str(error).removeprefix("flag ").partition(": ")[0]
        raise UserError(f"{word} is not of the type of this field's default, which --help shows") from None
    except flags.Error as error:
        raise UserError(str(error).split("\n")[0]) from None
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the user's own file may raise anything
        file = next((word for word in words if word.startswith("--config=")), "--config")
        said = (str(error) or "no more is said").splitlines()[0]
        raise UserError(f"{file} cannot be used ({type(error).__name__}: {said}): mend that file") from None
    finally:
        sys.argv = before
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
