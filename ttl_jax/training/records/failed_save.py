"""What is left of a save that failed."""

from __future__ import annotations

import logging
import sys
from types import TracebackType


def silence_the_rest() -> None:
    """After a failed save, mostly on a full disk: what Orbax had begun besides says nothing of its own.

    Its threads find their event loop closed, and would print a traceback each beside the one sentence.
    """
    for name in ("asyncio", "concurrent.futures"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if str(error) != "Event loop is closed":
            before(kind, error, trace)

    sys.excepthook = hook
