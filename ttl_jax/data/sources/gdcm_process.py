"""GDCM in a process of its own: at some damaged frames it ends its process instead of raising.

It alone decodes lossless and 12-bit JPEG. The process is this file, run by path: it needs NumPy and pydicom.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

SECONDS = 60.0  # for a frame, which takes a second
START = 120.0  # and for the first, on a slow disk


def decode(path: Path, frame: int) -> np.ndarray:
    """Return a frame as `pydicom.pixels.pixel_array` does with GDCM; every thread has its own process.

    Raises:
        ValueError: GDCM's reason, or that its process ended or took too long.
    """
    process: subprocess.Popen[bytes] | None = getattr(_own, "process", None)
    seconds, late = SECONDS, False
    if process is None or process.poll() is not None:
        _own.process = process = _start()
        seconds = START
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps([os.fspath(path.absolute()), frame]).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        late = not ready
        if not late and (line := process.stdout.readline()):
            said, kind, shape = json.loads(line)
            if said:
                raise ValueError(said)
            content = bytearray(int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize)
            if process.stdout.readinto(content) == len(content):
                return np.frombuffer(content, kind).reshape(shape)
    except OSError:
        pass  # it has ended
    process.kill()
    process.wait()
    raise ValueError("GDCM takes too long" if late else "GDCM ends its process at this frame")


_own = threading.local()


def _start() -> subprocess.Popen[bytes]:
    # -P: this folder's modules are no top-level ones.
    return subprocess.Popen(
        [sys.executable, "-P", __file__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _serve() -> None:
    """Answer lines of [path, frame] with a line of [error, type, shape] and the pixels."""
    from pydicom.pixels import pixel_array

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin.buffer:
        path, frame = json.loads(line)
        try:
            pixels = np.ascontiguousarray(pixel_array(path, index=frame, decoding_plugin="gdcm"))
        except Exception as error:
            answers.write(json.dumps([str(error)[:1000] or type(error).__name__, "", []]).encode() + b"\n")
        else:
            answers.write(
                json.dumps(["", pixels.dtype.str, pixels.shape]).encode() + b"\n" + pixels.tobytes()
            )
        answers.flush()


if __name__ == "__main__":
    _serve()
