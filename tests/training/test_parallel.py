"""One device or many: the same losses, figures and predictions, each example counted once."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax.config import default_config, run_config, set_fields
from ttl_jax.data import eval_batches, train_batches
from ttl_jax.data.batches import Rows
from ttl_jax.errors import UserError
from ttl_jax.models.layers.batch_scope import BatchScope
from ttl_jax.training import devices as parallel
from ttl_jax.training.loss import make_loss

HERE = Path(__file__).parent
QUICK = os.environ.get("XLA_FLAGS", "")  # tests/conftest.py


def start(script, devices, *arguments, **environment):
    """A Python of its own: the number of devices is fixed when JAX starts."""
    known = {**os.environ, "TTL_JAX_PLAIN_HOST": "1", "OMP_NUM_THREADS": "1", **environment}
    known |= {
        "XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
    }
    known |= {"PYTHONPATH": str(HERE.parent.parent), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    known["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
    return subprocess.Popen(
        [sys.executable, str(HERE / script), *map(str, arguments)],
        env=known, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    process = start("split_runs.py", 8, place)
    output, _ = process.communicate()
    assert process.returncode == 0, output[-3000:]
    return json.loads((place / "found.json").read_text())


def close(one, other, first=1e-5, later=1e-3):
    """Losses: relative difference at the first step and over all 20; then figures and logits."""
    a, b = np.array(one["loss"]), np.array(other["loss"])
    assert len(a) == len(b) == 20
    assert abs(a[0] - b[0]) <= first * abs(a[0])
    np.testing.assert_allclose(a, b, rtol=later, atol=1e-6)
    assert one["ids"] == other["ids"]
    np.testing.assert_allclose(one["logits"], other["logits"], rtol=1e-3, atol=2e-4)
    for name in ("auroc", "accuracy"):
        assert one["test"][name] == other["test"][name] and one["val"][name] == other["val"][name]


@pytest.mark.parametrize("mode", ["jit", "pmap"])
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_any_number_of_devices_trains_alike(found, mode, count):
    close(found["jit 1 full"], found[f"{mode} {count} full"])


@pytest.mark.parametrize(
    ("strategy", "splits"),
    [("lp_ft", ("jit 4", "pmap 2")), ("auto_rgn", ("jit 8",)), ("l2_sp", ("pmap 8",)),
     ("bss", ("pmap 2",))],
)  # fmt: skip
def test_phases_measured_rates_and_penalties_train_alike(found, strategy, splits):
    for split in splits:
        close(found[f"jit 1 {strategy}"], found[f"{split} {strategy}"])


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_padding_counts_nowhere(found, mode):
    close(found["jit 1 full"], found[f"{mode} 3 padded"])  # 8 examples on 3 devices: 9 rows


def test_a_batch_in_parts_has_the_same_parts_on_any_split(found):
    close(found["jit 4 in 2 parts"], found["pmap 2 in 2 parts"])


def test_statistics_are_estimated_alike(found):
    close(found["jit 1 precise"], found["jit 3 precise"])  # padded
    close(found["jit 1 precise"], found["pmap 2 precise"])
    close(found["jit 4 corrected"], found["pmap 2 corrected"])
    for name in ("jit 1 precise", "jit 4 corrected"):  # and they are others than moving ones
        assert np.abs(np.subtract(found[name]["logits"], found["jit 1 full"]["logits"])).max() > 1e-2


def test_sharded_leaves_train_alike(found):
    close(found["jit 1 full"], found["jit 4 sharded"])


def test_adam_starts_alike_and_amplifies_rounding_little(found):
    close(found["jit 1 adam"], found["jit 4 adam"], later=2e-2)


def test_moments_of_each_device_are_another_training(found):
    one, own = found["jit 1 full"]["loss"], found["pmap 2 own moments"]["loss"]
    assert np.isfinite(own).all() and abs(one[0] - own[0]) > 1e-3 * abs(one[0])


def test_a_run_of_four_devices_goes_on_on_one_and_on_eight(found):
    close(found["4 then 1"], found["4 then 8"])
    np.testing.assert_allclose(found["4 then 1"]["loss"], found["jit 1 full"]["loss"], rtol=1e-3, atol=1e-6)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes of two devices each found."""
    place = tmp_path_factory.mktemp("pair")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    who = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2"}
    both = [start("two_processes.py", 2, place, JAX_PROCESS_ID=str(index), **who) for index in (0, 1)]
    for process in both:
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output[-3000:]
    return [json.loads((place / f"found{index}.json").read_text()) for index in (0, 1)]


def test_two_processes_train_as_one_device_does(found, pair):
    close(found["jit 1 full"], pair[0]["jit"])
    close(found["jit 1 auto_rgn"], pair[0]["pmap"])
    close(found["jit 1 precise"], pair[0]["precise"])


def test_each_process_reads_its_own_shard_and_the_first_alone_writes(pair):
    for mode in ("jit", "pmap"):
        first, second = pair[0][mode], pair[1][mode]
        assert first["wrote"] and not second["wrote"]
        assert first["test"] == second["test"]
        for name in ("train", "val", "test"):  # batches of 8, the last one of an evaluation padded
            mine, theirs = first["reads"][name], second["reads"][name]
            if name != "test":  # the first process alone describes them for training_features.npz
                mine = mine[: len(theirs)]
            assert {len(indices) for indices in (*mine, *theirs)} == {4} and len(mine) == len(theirs)
        # Threads of a process read its batches, in any order.
        ours, others = sorted(first["reads"]["test"]), sorted(second["reads"]["test"])
        tested = [sorted(a + b) for a, b in zip(ours, others, strict=True)]
        assert tested == [list(range(8)), [8] * 8]


def test_each_process_reads_its_rows_and_every_example_is_evaluated_once(make_split):
    whole = make_split("x", 11, 0, size=4)
    shares = [slice(0, 4), slice(4, 8)]
    for batches in (
        lambda rows: eval_batches(whole, 8, 0, rows),
        lambda rows: train_batches(
            whole, batch_size=6, seed=1, start=0, stop=4, rows=Rows(8, rows or slice(None))
        ),
    ):
        for full, *parts in zip(batches(None), *(batches(rows) for rows in shares), strict=True):
            for name in ("image", "label", "example", "epoch"):
                np.testing.assert_array_equal(full[name], np.concatenate([part[name] for part in parts]))
    seen = [batch["example"][batch["mask"] > 0] for batch in eval_batches(whole, 8, 0)]
    assert np.concatenate(seen).tolist() == list(range(11))
    batch = next(train_batches(whole, batch_size=6, seed=1, start=0, stop=1, rows=Rows(8, slice(None))))
    assert batch["mask"].tolist() == [1] * 6 + [0] * 2 and batch["label"][6:].tolist() == [-1, -1]


def test_padding_rows_leave_losses_and_moments_as_they_are():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(5, 3)).astype(np.float32), np.array([0, 2, 1, -1, -1])
    for smoothing in (0.0, 0.1):
        loss = make_loss("multiclass", jnp.array([1.0, 2.0, 3.0]), smoothing=smoothing)
        assert float(loss(logits, labels)) == pytest.approx(float(loss(logits[:3], labels[:3])), rel=1e-6)
    x = rng.normal(size=(5, 2, 2, 3)).astype(np.float32)
    first, second, bessel = BatchScope(None, jnp.array([1.0, 1, 1, 0, 0])).moments(jnp.asarray(x))
    real = x[:3].astype(np.float64)
    np.testing.assert_allclose(first, real.mean((0, 1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(second, np.square(real).mean((0, 1, 2)), rtol=1e-5)
    assert float(bessel) == pytest.approx(12 / 11)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parallel.mode": "pjit"}, "parallel.mode='pjit' .did you mean 'jit'"),
        ({"parallel.batch_norm": "device"}, "needs parallel.mode='pmap'"),
        ({"parallel.shard_above": 10, "parallel.mode": "pmap"}, "needs parallel.mode='jit'"),
        ({"parallel.accumulate": 0}, "must be above 0"),
        ({"parallel.devices": 99}, "devices=99: there are"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, message):
    config = default_config()
    set_fields(config, fields)
    with pytest.raises(UserError, match=message):
        parallel.make_layout(run_config(config).parallel, 8)


def test_what_cannot_be_padded_says_which_sizes_fit():
    config = default_config()
    config.parallel.accumulate = 3
    with pytest.raises(UserError, match="batch_size=8 would be padded to 9 .* a multiple of 3"):
        parallel.make_layout(run_config(config).parallel, 8, whole_batch=True)
