"""Cholec80's frames, from a video whose frames tell their number by their gray."""

import shutil

import numpy as np
import pytest

from ttl_jax import data
from ttl_jax.data import DataConfig
from ttl_jax.data.images.decode import UnreadableImageError
from ttl_jax.data.published.cholec80 import PHASES, TOOLS
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.errors import UserError

SECONDS = 40


def gray(second):
    return 20 + 4 * second


def film(path, seconds=SECONDS):
    """25 frames a second; each second has a gray of its own, and its first frame is 60 brighter.

    Its halves differ by 20 grays, for images of one colour are refused.
    """
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as made:
        stream = made.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.bit_rate = 64, 48, 4_000_000
        stream.pix_fmt = "yuv420p"
        for number in range(seconds * 25):
            value = gray(number // 25) + 60 * (number % 25 == 0)
            pixels = np.full((48, 64, 3), value, np.uint8)
            pixels[:, 32:] += 10
            pixels[:, :32] -= 10
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            made.mux(stream.encode(frame))
        made.mux(stream.encode())


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    path = tmp_path_factory.mktemp("footage") / "whole.mp4"
    film(path)
    return path


@pytest.fixture
def cholec80(tmp_path, footage):
    for folder in ("videos", "phase_annotations", "tool_annotations"):
        (tmp_path / folder).mkdir()
    for video in (1, 40, 41):
        stem = f"video{video:02}"
        shutil.copy(footage, tmp_path / "videos" / f"{stem}.mp4")
        phases = [f"{number}\t{PHASES[number // 125 % 7]}" for number in range(SECONDS * 25)]
        (tmp_path / "phase_annotations" / f"{stem}-phase.txt").write_text(
            "\n".join(["Frame\tPhase", *phases])
        )
        head = "\t".join(["Frame", *TOOLS])
        tools = ["\t".join(map(str, [second * 25, *(second % (tool + 2) == 0 for tool in range(7))]))
                 .replace("True", "1").replace("False", "0") for second in range(SECONDS)]  # fmt: skip
        (tmp_path / "tool_annotations" / f"{stem}-tool.txt").write_text("\n".join([head, *tools]))
    return tmp_path


def test_one_frame_a_second_by_video(cholec80):
    found = read_listing(DataConfig(name="cholec80/phase", path=str(cholec80)))
    assert len(found.ids) == 120 and found.ids[41] == "video40/000025"
    assert found.class_names == PHASES and found.labels[:40].tolist() == [
        second // 5 % 7 for second in range(40)
    ]
    assert found.splits.tolist() == ["train"] * 80 + ["test"] * 40
    assert found.groups[0] == "video01" and len(set(found.groups)) == 3
    # in any order, over the borders of the blocks that are decoded together
    for second in (39, 0, 23, 24, 25, 7, 38):
        pixels = np.asarray(found.images[40 + second].read())
        assert pixels.shape == (48, 64, 3)
        assert abs(float(pixels.mean()) - (gray(second) + 60)) < 2


def test_tools_are_several_labels(cholec80):
    found = read_listing(DataConfig(name="cholec80/tools", path=str(cholec80)))
    assert found.class_names == TOOLS and found.task == "multilabel"
    assert found.labels[6].tolist() == [1, 1, 0, 0, 1, 0, 0]


def test_a_short_video_is_skipped_frame_by_frame(cholec80):
    film(cholec80 / "videos" / "video41.mp4", seconds=30)
    config = DataConfig(name="cholec80/phase", path=str(cholec80), on_error="skip", image_size=8,
                        duplicates="ignore")  # fmt: skip
    sets = data.load(config)
    assert len(sets["test"]) == 30 and len(sets["test"].skipped) == 10
    assert "video41.mp4, frame 975 is past the end of the video" in sets["test"].skipped[-1]


def test_faults(cholec80):
    config = DataConfig(name="cholec80/phase", path=str(cholec80))
    found = read_listing(config)
    (cholec80 / "videos" / "video01.mp4").write_bytes(b"no film")
    with pytest.raises(UnreadableImageError, match="cannot be decoded as a video"):
        found.images[0].read()
    phases = cholec80 / "phase_annotations" / "video01-phase.txt"
    text = phases.read_text()
    phases.write_text(text.replace("0\tPreparation\n", "0\tPreparaton\n", 1))
    with pytest.raises(UserError, match="did you mean 'Preparation'"):
        read_listing(config)
    phases.write_text("\n".join(text.splitlines()[:500]))
    with pytest.raises(UserError, match="has no frame 500"):
        read_listing(config)
    tools = cholec80 / "tool_annotations" / "video01-tool.txt"
    tools.write_text(tools.read_text().replace("\n25\t", "\n26\t"))
    with pytest.raises(UserError, match="has frame '26', no multiple of 25"):
        read_listing(config)


def test_the_extra_is_named(cholec80, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"needs PyAV: pip install 'ttl-jax\[video\]'"):
        read_listing(DataConfig(name="cholec80/phase", path=str(cholec80)))
