"""A lock keeps others out, by waiting or by a refusal that names the holder, and ends with its context.

That it ends with a killed process too: tests/training/test_preemption.py.
"""

import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from ttl_jax.cli import main
from ttl_jax.system.lock import HeldError, held


def test_the_refused_are_told_who_holds_it(tmp_path):
    with held(tmp_path / "lock", wait=False):
        with pytest.raises(
            HeldError, match=rf"^{tmp_path} is in use by process {os.getpid()} on .+ since 20"
        ):
            held(tmp_path / "lock", wait=False).__enter__()
        with pytest.raises(HeldError, match="^gs://b/run is in use by process"):
            held(tmp_path / "lock", wait=False, name="gs://b/run").__enter__()
    with held(tmp_path / "lock", wait=False):
        pass


def test_one_that_waits_comes_after_and_leaves_no_older_name(tmp_path):
    order = []

    def wait_for_it():
        with held(tmp_path / "lock", wait=True):
            order.append("waited")
            with pytest.raises(HeldError, match="is in use by another process"):
                held(tmp_path / "lock", wait=False).__enter__()
            order.append("refused")

    waiting = threading.Thread(target=wait_for_it)
    with held(tmp_path / "lock", wait=False):
        waiting.start()
        time.sleep(0.2)
        order.append("first")
    waiting.join()
    assert order == ["first", "waited", "refused"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(24):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder


SMALL = ("--config.model.name=resnet18", "--config.model.weights=none", "--config.data.image_size=16")


@pytest.mark.parametrize("command, lock", [
    (("train", "--config=train", "--workdir={out}", "--config.data.path={images}", *SMALL), "owner.json"),
    (("search", "--config=search", "--workdir={out}", "--config.data.path={images}", *SMALL,
      "--config.search.units=1-2"), "lock"),
    (("compare", "--config=compare", "--workdir={out}", "--config.data.path={images}", *SMALL[1:],
      "--config.compare.datasets=()", "--config.compare.models=('resnet18',)"), "lock"),
    (("prepare", "{images}", "--out={out}"), ".resume/lock"),
])  # fmt: skip
def test_a_second_process_of_a_command_is_refused_in_one_line(images, tmp_path, capsys, command, lock):
    """predict: tests/deploy/test_predict_command.py."""
    out = tmp_path / "out"
    (out / lock).parent.mkdir(parents=True)
    words = [word.format(images=images, out=out) for word in command]
    with held(out / lock, wait=False):
        before = content(out)
        assert main(["ttl-jax", *words]) == 2
        assert content(out) == before
    said = capsys.readouterr().err
    assert f"is in use by process {os.getpid()} on " in said and said.count("\n") == 1
    assert said.endswith("wait for it, or stop it\n")


def content(folder):
    """What is in a folder, but what prepare says at once that it holds."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "source.json"]
    return {path.relative_to(folder): path.read_bytes() for path in files}
