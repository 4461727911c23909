"""How commands read what was typed: config files with overrides, or plain arguments."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

from ttl_jax.errors import UserError, nearest


class Parser(argparse.ArgumentParser):
    """Faults become one sentence and exit status 2, as everywhere in the program.

    Args:
        command: whose arguments they are, as in "strategies".
    """

    def __init__(self, command: str) -> None:
        super().__init__(prog=command, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """See the class."""
        raise UserError(f"{message}; see `python -m ttl_jax {self.prog.split()[0]} --help`")


def config_and_workdir(arguments: list[str], needs_workdir: bool = True) -> tuple[Any, Any]:
    """Reads --config=FILE:ARG, --config.x.y=z and --workdir."""
    from absl import flags
    from ml_collections import config_flags

    from ttl_jax.config import paths

    def parse(words: list[str]) -> flags.FlagValues:
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values)
        flags.DEFINE_string("workdir", None, "work folder", flag_values=values)
        before, sys.argv = sys.argv, ["ttl_jax", *words]  # where config_flags looks for overrides
        try:
            rest = values(sys.argv)
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

    for word in arguments:
        file = word.partition("=")[2].split(":")[0]
        if word.startswith("--config=") and not Path(file).is_file():
            raise UserError(f"--config={file}: there is no such file; presets are in configs/")
    overrides = [word for word in arguments if word.startswith("--config.")]
    values = parse([word for word in arguments if word not in overrides])
    if values["config"].value is None:
        raise UserError("--config=FILE is missing, as in --config=configs/train.py")
    known = paths(values["config"].value)
    for word in overrides:
        name = word.partition("=")[0].removeprefix("--config.")
        if name not in known:
            raise UserError(f"config field {name!r} does not exist{nearest(name, known)}")
        if "=" not in word:
            raise UserError(f"{word} has no value: write {word}=VALUE")
    values = parse(arguments)
    if needs_workdir and not values["workdir"].value:
        raise UserError("--workdir=DIR is missing: the folder that the run writes to")
    return values["config"].value, values["workdir"].value
