"""The command line: `ttl-jax COMMAND`, the same as `python -m ttl_jax COMMAND`.

Exit status: 0 done, 1 the run failed or a check found something, 2 the user must change something
(one sentence says what), 75 stopped from outside and saved: the same command goes on.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

import ttl_jax
from ttl_jax import commands
from ttl_jax.errors import FaultsFoundError, UserError, nearest, of_system, readable, system_error


def _commands() -> dict[str, ModuleType]:
    """The modules of ttl_jax.commands that have a `run`, by name."""
    names = (module.name for module in iter_modules(commands.__path__))
    modules = {name: import_module(f"{commands.__name__}.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "run")}


COMMANDS = _commands()


def usage() -> str:
    """The overview: what `--help`, or no command, prints."""
    lines = "\n".join(f"  {name:12}{command.SUMMARY}" for name, command in COMMANDS.items())
    return (
        "ttl-jax: transfer learning for medical image classification in JAX.\n\n"
        "usage: ttl-jax COMMAND [...]        (`python -m ttl_jax` is the same)\n"
        "       ttl-jax COMMAND --help       what it does, takes, and examples\n"
        "       ttl-jax --version\n\n"
        f"{lines}\n\nexamples:\n"
        "  ttl-jax quickstart\n"
        "  ttl-jax train --config=train --config.data.path=IMAGES --workdir=runs/mine\n"
    )


def version() -> str:
    """The versions that a report of a fault needs."""
    from importlib import metadata
    from platform import python_version

    needed = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "jaxlib", "flax"))
    return f"ttl-jax {ttl_jax.__version__} ({needed}, Python {python_version()})"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    for stream in (sys.stdout, sys.stderr):  # names that the terminal's encoding lacks are escaped
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv if argv is None else argv)[1:]
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    name = words[0] if words else "--help"
    try:
        _run(name, words[1:])
        sys.stdout.flush()  # what a pipe refuses, it refuses here
    except BrokenPipeError:  # `| head` has read enough
        with contextlib.suppress(OSError, ValueError):  # the interpreter's own flush is not to fail
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not _place(words):
            return 0
        from ttl_jax.system.preemption import STATUS

        print(f"ttl-jax {name}: nobody reads what is printed: start me again", file=sys.stderr)
        return STATUS
    except Exception as error:
        status, said = _end_of(error, words)
        print(readable(f"ttl-jax {name}: {said}"), file=sys.stderr)
        return status
    return 0


def _run(name: str, arguments: list[str]) -> None:
    if name in ("-h", "--help"):
        print(usage(), end="")
    elif name in ("-V", "--version"):
        print(version())
    elif name not in COMMANDS:
        raise UserError(f"there is no command {name!r}{nearest(name, tuple(COMMANDS))}")
    elif {"-h", "--help"} & set(arguments[: 1 if name == "bench" else None]):
        fields = getattr(COMMANDS[name], "fields", lambda arguments: "")  # of its config
        print(COMMANDS[name].HELP + fields(arguments), end="")
    else:
        COMMANDS[name].run(arguments)


def _end_of(error: Exception, words: Sequence[str]) -> tuple[int, str]:
    """The exit status and the sentence of an error that says what happened; any other is raised again."""
    if isinstance(error, UserError):
        return 2, str(error)
    if (refused := system_error(error)) is not None:
        return 2, str(of_system(refused, _place(words)))
    from ttl_jax.compare import FailedCellsError
    from ttl_jax.system.preemption import STATUS, Preempted
    from ttl_jax.training.hooks.finite import DivergedError

    if isinstance(error, Preempted):
        return STATUS, f"{error}: start me again"
    if isinstance(error, DivergedError | FailedCellsError | FaultsFoundError):
        return 1, str(error)
    raise error


def _place(words: Sequence[str]) -> str:
    """The folder or file that a command writes to, as it was typed; "" where it has none."""
    flags = ("--workdir", "--out")
    for word, after in zip(words, [*words[1:], ""], strict=True):
        flag, sign, value = word.partition("=")
        if flag in flags:
            return value if sign else after
    return ""
