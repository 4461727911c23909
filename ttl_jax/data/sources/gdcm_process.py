"""GDCM in a process of its own: at some damaged frames it ends its process instead of raising.

So it did at 13 of 3,000 damaged JPEG and JPEG 2000 frames. It alone decodes lossless and 12-bit JPEG. Where a
frame ends before its last pixel it makes the rest up, and says so on standard error alone. The process is
this file, run by path: it needs NumPy and pydicom.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset

SECONDS = 60.0  # for a frame, which takes a second
START = 120.0  # and for the first, on a slow disk
WARNINGS = {  # of libjpeg, on standard error
    "premature end of data segment": "ends early: its pixels stop before its last row",
    "bad Huffman code": "its compressed pixels are damaged",
}


def decode_by_gdcm(frame: Dataset) -> np.ndarray:
    """Return a frame as `pydicom.pixels.pixel_array` does with GDCM; every thread has its own process.

    Args:
        frame: A data set of one compressed frame.

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
        pickle.dump(frame, process.stdin)
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        late = not ready
        if not late and (line := process.stdout.readline()):
            said, kind, shape = json.loads(line)
            if said:
                raise ValueError(said)
            size = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
            content = process.stdout.read(size)
            if len(content) == size:
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
    """Answer pickled data sets with a line of [error, type, shape] and the pixels."""
    from pydicom.pixels import pixel_array
    from pydicom.uid import JPEGExtended12Bit, JPEGLossless

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    with tempfile.TemporaryFile() as warned:
        os.dup2(warned.fileno(), 2)
    while True:
        try:
            frame = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if frame.file_meta.TransferSyntaxUID == JPEGExtended12Bit:
                # pydicom would refuse 12 bits; GDCM's decoder goes by the stream.
                frame.file_meta.TransferSyntaxUID = JPEGLossless
            os.lseek(2, 0, os.SEEK_SET)
            os.ftruncate(2, 0)
            pixels = np.ascontiguousarray(pixel_array(frame, decoding_plugin="gdcm"))
            said = os.pread(2, 1 << 12, 0).decode(errors="replace")
            if fault := next((WARNINGS[each] for each in WARNINGS if each in said), ""):
                raise ValueError(fault)
            answer, content = ("", pixels.dtype.str, pixels.shape), pixels.tobytes()
        except Exception as error:
            answer, content = (f"GDCM cannot: {error}"[:1000], "", ()), b""
        answers.write(json.dumps(answer).encode() + b"\n" + content)
        answers.flush()


if __name__ == "__main__":
    _serve()
