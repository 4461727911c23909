"""Progress of reading many images, at most one line every few seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

Progress = Callable[[int, int], None]  # (done, total), after every image


def progress_lines(
    verb: str = "read", seconds: float = 5.0, clock: Callable[[], float] = time.monotonic
) -> Progress:
    """A Progress that prints "read 50 of 100 images, about 5 s left".

    Args:
        verb: Past participle that starts the line, such as "read".
        seconds: Time between two lines. Work that takes less prints nothing.
        clock: Returns the time in seconds, from any start.
    """
    started = said = clock()

    def say(done: int, total: int) -> None:
        nonlocal said
        now = clock()
        if now - said < seconds - 1e-9:
            return
        said = now
        left = (now - started) / done * (total - done)
        print(f"{verb} {done} of {total} images, about {left:.0f} s left", flush=True)

    return say
