"""A lock keeps others out, by waiting or by a refusal that names the holder, and ends with its context.

That it ends with a killed process too: tests/training/test_preemption.py.
"""

import os
import threading
import time

import pytest

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
