"""What is left of a save that failed."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def quiet_after_failure(save: Callable[P, T]) -> Callable[P, T]:
    """After a save that failed, mostly on a full disk, what Orbax had begun besides says nothing of its own.

    Its threads find their event loop closed, and would print a traceback each beside the one sentence.
    """

    @functools.wraps(save)
    def tried(*args: P.args, **options: P.kwargs) -> T:
        try:
            return save(*args, **options)
        except Exception:
            _quiet()
            raise

    return tried


def _quiet() -> None:
    for name in ("asyncio", "concurrent.futures"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if str(error) != "Event loop is closed":
            before(kind, error, trace)

    sys.excepthook = hook
