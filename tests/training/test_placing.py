"""A CPU's programs run where their memory is kept."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from ttl_jax.system import host, placing
from ttl_jax.system.placing import placed

# 64 MiB of temporaries: 16,384 pages.
FAULTS = """
import ctypes, resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: pages are small, whatever the machine's setting
import jax, jax.numpy as jnp, numpy as np
from ttl_jax.system.compilation_cache import set_up_jax
from ttl_jax.system.placing import placed, settle_memory
set_up_jax()
def step(rows):
    table = jnp.outer(rows, rows)
    return (table @ table[:, :8]).sum()
run = jax.jit(step).lower(np.ones(4096, np.float32)).compile()
settle_memory()
faults = []
for _ in range(9):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    jax.block_until_ready(run(placed(np.ones(4096, np.float32))))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sorted(faults)[4])
"""


@pytest.mark.skipif(not host.keeps_memory(), reason="needs glibc's mallopt")
@pytest.mark.parametrize(("changed", "kept"), [({}, True), ({"TTL_JAX_PLAIN_HOST": "1"}, False)])
def test_a_step_finds_the_memory_of_the_one_before(changed, kept, tmp_path):
    names = ("GLIBC_TUNABLES", "TTL_JAX_PLAIN_HOST")
    clean = {k: v for k, v in os.environ.items() if k not in names}
    own = {"JAX_PLATFORMS": "cpu", "TTL_JAX_CACHE": str(tmp_path), "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
    ran = subprocess.run(
        [sys.executable, "-c", FAULTS],
        env={**clean, **own, **changed},
        capture_output=True,
        text=True,
        check=True,
    )
    faults = int(ran.stdout)
    assert faults < 1000 if kept else faults > 10_000


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere nothing runs in place")
def test_a_placed_tree_is_a_copy_of_the_hosts_where_programs_run_in_place(monkeypatch):
    images = np.zeros(3)
    monkeypatch.setattr(placing, "runs_in_place", lambda: False)
    assert placed({"image": images})["image"] is images
    monkeypatch.setattr(placing, "runs_in_place", lambda: True)
    bytes_ = np.zeros(64 * 4 + 64, np.uint8)
    start = -bytes_.ctypes.data % 64  # where JAX would go on in NumPy's memory
    mine = bytes_[start : start + 64 * 4].view(np.float32)
    mine[:] = np.arange(64)
    there = jax.device_put(np.ones(3, np.float32))
    tree = placed({"mine": mine, "there": there})
    mine[:] = 0
    np.testing.assert_array_equal(tree["mine"], np.arange(64, dtype=np.float32))
    assert tree["there"] is there
