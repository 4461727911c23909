"""The same seed gives the same bits, whatever reads ahead."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from ttl_jax.config import set_fields
from ttl_jax.errors import UserError
from ttl_jax.system import host
from ttl_jax.training.run import train


def test_the_number_of_loader_threads_changes_no_bit_and_the_seed_does(tmp_path, config, datasets):
    set_fields(config, {"strategy": "truncated(2)+full", "data.augment": "flip,rotate(10)"})

    def run(name, threads, seed=0):
        set_fields(config, {"data.loader_threads": threads, "seed": seed})
        return train(config, tmp_path / name, datasets)

    one, other, another = run("none", 0), run("four", 4), run("seed", 2, seed=1)
    jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)
    assert one.metrics["test"] == other.metrics["test"]
    images = datasets["test"].images.images
    np.testing.assert_array_equal(one.predict(images), other.predict(images))
    head = [result.variables["params"]["head"]["kernel"] for result in (one, another)]
    assert not np.array_equal(*head)


def test_the_flags_for_gpus_leave_what_the_user_set():
    flags = host.deterministic("--a=1 --xla_gpu_autotune_level=2")
    assert flags == "--a=1 --xla_gpu_autotune_level=2 --xla_gpu_deterministic_ops=true"
    assert host.deterministic(flags) == flags


def test_a_gpu_without_the_flags_is_refused_and_a_cpu_is_not(monkeypatch, tmp_path, config):
    config.deterministic = True
    for flags, said in (
        ("", "set XLA_FLAGS to '--xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0'"),
        ("--xla_gpu_deterministic_ops=false", "--xla_gpu_deterministic_ops=false: take it out"),
        (host.deterministic(""), None),
    ):
        for backend in ("gpu", "cpu"):
            monkeypatch.setenv("XLA_FLAGS", flags)
            monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
            config.strategy = "full"
            expected = said if said and backend == "gpu" else "data.path is empty"  # where it got to
            with pytest.raises(UserError) as told:
                config.data.name = "folder"
                train(config, tmp_path / "run")
            assert expected in str(told.value)


def test_the_flags_are_set_before_jax_starts_and_xla_knows_them():
    """An unknown flag would end the process; the command's own start is what sets them."""
    code = (
        "import os\nfrom ttl_jax.system import host\nhost.set_deterministic(False)\n"
        "print('XLA_FLAGS' in os.environ)\n"
        "host.set_deterministic(True); import jax.numpy; jax.numpy.ones(3).sum().block_until_ready()\n"
        "print(os.environ['XLA_FLAGS'])"
    )
    clean = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    known = {**clean, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
    ran = subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[:2] == ["False", host.deterministic("")]
