"""The same seed gives the same bits, whatever reads ahead."""

import jax
import numpy as np

from ttl_jax import host
from ttl_jax.config import set_fields
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
