"""Cholec80: frames of 80 laparoscopic cholecystectomies (Twinanda et al. 2017).

Layout: videos/videoNN.mp4 at 25 frames a second, phase_annotations/videoNN-phase.txt (Frame, Phase, at
every frame), tool_annotations/videoNN-tool.txt (Frame and seven tools, at every 25th). One frame a second
is taken: those of the tool tables. Videos 1 to 40 are train and 41 to 80 test, as in the paper; val is
taken from train by video.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from ttl_jax.data.published.layout import need, published
from ttl_jax.data.sources.csv_file import CsvFile, read_csv
from ttl_jax.data.sources.listing import Listing, make_listing
from ttl_jax.data.sources.video import INSTALL, VideoFrame
from ttl_jax.errors import UserError, nearest

PHASES = (
    "Preparation", "CalotTriangleDissection", "ClippingCutting", "GallbladderDissection",
    "GallbladderPackaging", "CleaningCoagulation", "GallbladderRetraction",
)  # fmt: skip
TOOLS = ("Grasper", "Bipolar", "Hook", "Scissors", "Clipper", "Irrigator", "SpecimenBag")
STEP = 25  # frames from one labelled for tools to the next: a second
_LAST_OF_TRAIN = 40
_VIDEO = re.compile(r"video(\d\d)")


def read_cholec80(folder: Path, labels: str = "phase") -> Listing:
    """List one frame a second, grouped by video.

    Args:
        folder: Folder of Cholec80.
        labels: "phase" (one of PHASES per frame) or "tools" (any of TOOLS).

    Raises:
        UserError: PyAV is not installed, or a table is missing or not as published.
    """
    videos = sorted(need(folder / "videos", "Cholec80").glob("*.mp4"))
    if not videos:
        raise UserError(f"{folder / 'videos'} holds no videoNN.mp4; unpack Cholec80 there")
    try:
        import av  # noqa: F401
    except ImportError:
        raise UserError(f"data.name=cholec80 needs PyAV: {INSTALL}") from None
    frames: list[VideoFrame] = []
    ids: list[str] = []
    groups: list[str] = []
    splits: list[str] = []
    targets: list[np.ndarray] = []
    for video in videos:
        number = _VIDEO.fullmatch(video.stem)
        if number is None:
            raise UserError(f"{video} is not named videoNN.mp4; move it away")
        tools = read_csv(need(folder / "tool_annotations" / f"{video.stem}-tool.txt", "Cholec80"))
        places = _numbers(tools)
        targets.append(_tools(tools) if labels == "tools" else _phases(folder, video.stem, places))
        frames += [VideoFrame(video, place, STEP) for place in places]
        ids += [f"{video.stem}/{place:06d}" for place in places]
        groups += [video.stem] * len(places)
        splits += ["train" if int(number[1]) <= _LAST_OF_TRAIN else "test"] * len(places)
    listing = make_listing(
        str(folder),
        frames,
        [f"{frame.path}, frame {frame.number}" for frame in frames],
        ids,
        np.concatenate(targets),
        TOOLS if labels == "tools" else PHASES,
        groups=groups,
        splits=splits if len(set(splits)) > 1 else None,
    )
    return replace(listing, splits_from="the numbers of the videos")


def _numbers(table: CsvFile) -> list[int]:
    numbers = table.column("Frame", "image")
    for row, text in enumerate(numbers):
        if not text.isdecimal() or int(text) % STEP:
            raise UserError(f"{table.at(row)} has frame {text!r}, no multiple of {STEP}; fetch it anew")
    return [int(text) for text in numbers]


def _tools(table: CsvFile) -> np.ndarray:
    cells = np.array([table.column(tool, "label") for tool in TOOLS]).T
    for row, column in np.argwhere((cells != "0") & (cells != "1")).tolist():
        raise UserError(f"{table.at(row)} has {str(cells[row, column])!r} for {TOOLS[column]}, not 0 or 1")
    return cells.astype(np.float32)


def _phases(folder: Path, video: str, places: list[int]) -> np.ndarray:
    table = read_csv(need(folder / "phase_annotations" / f"{video}-phase.txt", "Cholec80"))
    phases = dict(zip(table.column("Frame", "image"), table.column("Phase", "label"), strict=True))
    numbers = []
    for place in places:
        if str(place) not in phases:
            raise UserError(f"{table.path} has no frame {place}, which the tool table has; fetch it anew")
        phase = phases[str(place)]
        if phase not in PHASES:
            raise UserError(f"{table.path} has at frame {place} the phase {phase!r}{nearest(phase, PHASES)}")
        numbers.append(PHASES.index(phase))
    return np.array(numbers)


for _labels in ("phase", "tools"):
    published(f"cholec80/{_labels}")(partial(read_cholec80, labels=_labels))
