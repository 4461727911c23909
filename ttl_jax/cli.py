"""The command line: `ttl-jax COMMAND`, the same as `python -m ttl_jax COMMAND`.

Exit status: 0 done, 1 the run failed, 2 the user must change something (one sentence says what),
75 stopped from outside and saved: the same command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

import ttl_jax
from ttl_jax import commands
from ttl_jax.errors import UserError, nearest


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
    words = list(sys.argv if argv is None else argv)[1:]
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(usage(), end="")
        return 0
    if words[0] in ("-V", "--version"):
        print(version())
        return 0
    name, arguments = words[0], words[1:]
    try:
        if name not in COMMANDS:
            raise UserError(f"there is no command {name!r}{nearest(name, tuple(COMMANDS))}")
        if {"-h", "--help"} & set(arguments[: 1 if name == "bench" else None]):
            fields = getattr(COMMANDS[name], "fields", lambda arguments: "")  # of its config
            print(COMMANDS[name].HELP + fields(arguments), end="")
            return 0
        COMMANDS[name].run(arguments)
    except UserError as error:
        print(f"ttl-jax {name}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except Exception as error:
        from ttl_jax.compare import FailedCellsError
        from ttl_jax.system.preemption import STATUS, Preempted
        from ttl_jax.training.hooks.finite import DivergedError

        if isinstance(error, Preempted):
            print(f"ttl-jax {name}: {error}: start me again", file=sys.stderr)
            return STATUS
        if not isinstance(error, DivergedError | FailedCellsError):
            raise
        print(f"ttl-jax {name}: {error}", file=sys.stderr)
        return 1
    return 0
