"""Features on disk: computed once by one of several processes, whole or not there, within their limit."""

import multiprocessing
import os
import signal
import time

import jax
import numpy as np
import pytest

from ttl_jax.config import set_fields
from ttl_jax.training.frozen.store import FeatureStore
from ttl_jax.training.programs import Session
from ttl_jax.training.run import train

SHAPE = (2, 5)


def filled(folder, key, log, ready=None, seconds=0.0):
    """Holds an array of ones; every filling leaves a line in a log."""

    def fill(held):
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        held[0] = 1
        if ready is not None:
            ready.set()
        time.sleep(seconds)
        held[1] = 1

    return FeatureStore(folder, 1e6).hold(key)(SHAPE, np.dtype("float32"), fill)


def test_two_processes_at_once_fill_an_array_once(tmp_path):
    context = multiprocessing.get_context("fork")
    log, ready = tmp_path / "log", context.Event()
    first = context.Process(target=filled, args=(tmp_path / "store", "a", log, ready, 0.3))
    first.start()
    assert ready.wait(10)
    held = filled(tmp_path / "store", "a", log)  # waits for the first one's
    np.testing.assert_array_equal(held, np.ones(SHAPE))
    assert log.read_text() == f"{first.pid}\n"
    first.join()
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 2


def test_a_kill_leaves_no_half_array(tmp_path):
    context = multiprocessing.get_context("fork")
    log, ready = tmp_path / "log", context.Event()
    first = context.Process(target=filled, args=(tmp_path / "store", "a", log, ready, 60))
    first.start()
    assert ready.wait(10)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert not list((tmp_path / "store").glob("*.npy"))
    np.testing.assert_array_equal(filled(tmp_path / "store", "a", log), np.ones(SHAPE))
    assert {path.suffix for path in (tmp_path / "store").iterdir()} == {".npy", ".lock"}


@pytest.mark.parametrize("left", [0, 20, 130])
def test_an_array_that_is_cut_is_computed_again(tmp_path, capsys, left):
    filled(tmp_path / "store", "a", tmp_path / "log")
    (path,) = (tmp_path / "store").glob("*.npy")
    path.write_bytes(path.read_bytes()[:left])
    np.testing.assert_array_equal(filled(tmp_path / "store", "a", tmp_path / "log"), np.ones(SHAPE))
    assert "cannot be read: it is computed again" in capsys.readouterr().out


def test_what_was_used_longest_ago_gives_way(tmp_path):
    store, asked = FeatureStore(tmp_path, 1000), []

    def ask(key):
        def fill(held):
            asked.append(key)
            held[:] = 0

        held = store.hold(key)((70,), np.dtype("float32"), fill)  # 280 bytes and a header of 128
        time.sleep(0.02)  # so that times of use differ
        return held

    for key in ("a", "b", "a", "c", "a", "b"):
        ask(key)
    assert asked == ["a", "b", "c", "b"]  # c drove out b and not a, which was used since
    assert sum(path.stat().st_size for path in tmp_path.glob("*.npy")) <= 1000


def test_a_full_disk_is_no_failure(tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    held = filled(tmp_path / "store", "a", tmp_path / "log")
    np.testing.assert_array_equal(held, np.ones(SHAPE))
    assert not list((tmp_path / "store").glob("a.[np]*"))
    assert "No space left on device; features are held in memory" in capsys.readouterr().out


def test_a_sweep_computes_them_once_and_gets_the_uncached_result(tmp_path, config, datasets, capsys):
    """Other seeds and rates, another head, a frozen part of a strategy that trains the rest."""
    fields = {"data.augment": "none", "cache_disk_gb": 0.1, "optimizer.name": "sgd", "total_steps": 8}
    set_fields(config, fields)
    config.model.weights = str(_weights(tmp_path, config, datasets))
    store = FeatureStore(tmp_path / "store", 1e8)
    runs = [("linear_probe", 0, 1e-3), ("linear_probe", 1, 3e-3), ("linear_probe+l2_sp", 2, 1e-3),
            ("gradual_last_first", 1, 1e-3), ("gradual_last_first", 0, 1e-3)]  # fmt: skip
    capsys.readouterr()
    for number, (strategy, seed, rate) in enumerate(runs):
        set_fields(config, {"strategy": f"truncated(2)+{strategy}", "seed": seed, "optimizer.lr": rate})
        config.cache_features = True
        shared = train(config, tmp_path / f"shared{number}", datasets, session=Session(features=store))
        computed = capsys.readouterr().out.count("computed once")
        assert computed == {0: 2, 3: 2}.get(number, 0)  # train and val; gradual: of the stem alone too
        if number in (1, 2, 4):
            config.cache_features = False
            plain = train(config, tmp_path / f"plain{number}", datasets)
            capsys.readouterr()
            for mine, theirs in zip(
                jax.tree.leaves(shared.variables), jax.tree.leaves(plain.variables), strict=True
            ):
                assert np.abs(mine - theirs).max() < 1e-5 * max(np.abs(theirs).max(), 1e-6)


def _weights(tmp_path, config, datasets):
    """A file of weights: without one, every seed has a backbone of its own."""
    from safetensors.numpy import save_file

    from ttl_jax import weights

    path = tmp_path / "resnet18.safetensors"
    variables = weights.initialise("resnet18", 2, image_size=32)
    save_file(dict(weights.export_torch(variables, "resnet18")), path)
    return path
