"""Frames of a video file, decoded in blocks: neighbours share the decoding from their key frame."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ttl_jax.data.images.decode import UnreadableImageError, reason

if TYPE_CHECKING:
    from PIL.Image import Image

BLOCK = 24  # frames held at a time: 30 MB of 854 x 480 pixels
MAX_FRAME = 9_000_000  # pixels: 4096 x 2160, of which two blocks take 1.7 GB
OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,avi,matroska,webm,mpeg,mpegvideo,mpegts,asf,flv,ogg,dv,h264,hevc,m4v,mjpeg",
    "max_pixels": str(MAX_FRAME),
}
INSTALL = "pip install 'ttl-jax[video]'"


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video as a Picture.

    Attributes:
        path: The file.
        number: Number of the frame, from 0, at the video's own rate.
        step: Distance between the frames that are wanted; `number` is a multiple of it.
    """

    path: Path
    number: int
    step: int

    def read(self) -> Image:
        """Return the frame as "RGB".

        Raises:
            UnreadableImageError: missing, damaged, or shorter than that.
        """
        try:
            state = self.path.stat()
        except OSError:
            raise UnreadableImageError("does not exist") from None
        place, block = (self.number // self.step) % BLOCK, self.number // (self.step * BLOCK)
        with _reading:  # or every thread would decode the same block
            frames = _block(self.path, block, self.step, state.st_mtime_ns, state.st_size)
        if isinstance(frames, str):
            raise UnreadableImageError(frames)
        if place not in frames:
            raise UnreadableImageError("is past the end of the video")
        return frames[place]


_reading = threading.Lock()


@lru_cache(maxsize=2)
def _block(path: Path, block: int, step: int, changed: int, size: int) -> dict[int, Image] | str:
    """Return {place in the block: frame}, or the reason why it cannot be read."""
    try:
        return _decode(path, block * BLOCK * step, step)
    except UnreadableImageError as error:
        return str(error)
    except Exception as error:  # damaged files make FFmpeg's many decoders raise nearly anything
        return f"cannot be decoded as a video ({reason(error)})"


def _decode(path: Path, start: int, step: int) -> dict[int, Image]:
    import av

    frames: dict[int, Image] = {}
    # FFmpeg would follow a playlist to other files and addresses, and believe any size.
    with av.open(str(path), options=OPTIONS) as opened:
        stream = opened.streams.video[0]
        if not stream.width:  # not looked into for its size
            raise UnreadableImageError(f"has no frames of up to {MAX_FRAME} pixels; scale them down first")
        rate, base = stream.average_rate, stream.time_base
        if not rate or not base:
            raise ValueError("no frame rate")
        begin = stream.start_time or 0
        # Seek to the key frame before the block: decoding can start only there, and earlier frames are passed
        # over.
        opened.seek(begin + int(start / rate / base), stream=stream, backward=True)
        for frame in opened.decode(stream):
            if frame.pts is None:
                continue
            number = round((frame.pts - begin) * base * rate)
            if number >= start + BLOCK * step:
                break
            if number >= start and number % step == 0:
                if frame.width * frame.height > MAX_FRAME:
                    raise ValueError(f"a frame of {frame.width} x {frame.height} pixels")
                frames[(number - start) // step] = frame.to_image()
    return frames
