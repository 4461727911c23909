"""`python -m ttl_jax COMMAND ...`, also installed as `ttl-jax`."""

import sys

from ttl_jax import host
from ttl_jax.cli import main


def start() -> int:
    """Prepares the process, then runs the command."""
    host.prepare()
    return main(sys.argv)


if __name__ == "__main__":
    sys.exit(start())
