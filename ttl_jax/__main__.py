"""`python -m ttl_jax COMMAND ...`"""

import sys

from ttl_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
