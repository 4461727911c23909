"""`python -m ttl_jax COMMAND ...`, also installed as `ttl-jax`."""

import sys

from ttl_jax.cli import main
from ttl_jax.system import host


def start() -> None:
    """Prepares the process, runs the command, and ends with its status."""
    host.prepare()
    host.leave(main(sys.argv))


if __name__ == "__main__":
    start()
