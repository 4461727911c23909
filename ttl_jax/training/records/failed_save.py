"""Orbax's log lines about a save that failed, besides the error that it raises."""

from __future__ import annotations

import logging
import sys
from functools import cache

# Of what it had begun as well, on a full disk mostly: its threads find their event loop closed.
_ITS = ("Event loop is closed", "OCDBT", "tensorstore")


@cache
def silence_orbax() -> None:
    """From now on the threads of a save that failed print no tracebacks of their own beside its error."""
    for name in ("absl", "asyncio", "concurrent.futures"):
        logging.getLogger(name).addFilter(lambda record: not _its(record.exc_info and record.exc_info[1]))
    before = sys.unraisablehook

    def hook(said: "sys.UnraisableHookArgs") -> None:
        if not _its(said.exc_value):
            before(said)

    sys.unraisablehook = hook


def _its(error: object) -> bool:
    return any(words in str(error) for words in _ITS)
