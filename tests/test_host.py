"""What the command line sets before JAX starts."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ttl_jax.system.host import (
    XLA_FLAGS,
    additions,
    keeps_memory,
    machine_memory,
    memory_share,
)

SEEN = """
import os, sys
from ttl_jax.system import host
host.prepare()
import jax, jax.numpy as jnp
jnp.ones(3).sum().block_until_ready()  # an unknown flag would end the process here
print(os.environ["XLA_FLAGS"], sys.argv[1:])
"""


def test_the_users_own_settings_stay():
    own = {"XLA_FLAGS": "--xla_cpu_prefer_vector_width=128"}
    first, *others = additions(own, "0.10.2")["XLA_FLAGS"].split()
    assert first == own["XLA_FLAGS"]
    assert [flag.split("=")[0] for flag in others] == ["--xla_cpu_experimental_ynn_fusion_type"]


def test_nothing_twice_and_nothing_where_it_is_not_known():
    done = additions({}, "0.10.2")
    assert set(done) == {"XLA_FLAGS"}
    assert additions(done, "0.10.2") == {}
    assert additions({}, "9.9.9") == {}
    assert additions({"TTL_JAX_PLAIN_HOST": "1"}, "0.10.2") == {}


def test_a_process_starts_with_them_and_keeps_its_arguments():
    clean = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    clean["JAX_PLATFORMS"] = "cpu"
    ran = subprocess.run(
        [sys.executable, "-c", SEEN, "--a=b c"], env=clean, capture_output=True, text=True, check=True
    )
    assert all(name in ran.stdout for name in XLA_FLAGS)
    assert "['--a=b c']" in ran.stdout


def test_memory_is_given_back(release_memory):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("needs glibc's malloc_trim")
    # Small pieces live in the heap; the last one keeps its end in place, so that it cannot shrink by itself.
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    pieces = [library.malloc(60_000) for _ in range(2000)]
    for piece in pieces:
        ctypes.memset(ctypes.c_void_p(piece), 1, 60_000)
    for piece in pieces[:-1]:
        library.free(piece)
    before = resident()
    release_memory()
    assert before - resident() > 80e6


KEPT = """
import ctypes, os
from pathlib import Path
from ttl_jax.system import host
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def mebibytes_after_free():
    piece = library.malloc(200 << 20)
    ctypes.memset(ctypes.c_void_p(piece), 1, 200 << 20)
    library.free(piece)
    return resident()
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20
start = resident()
plain = mebibytes_after_free() - start
host.keep_memory()
kept = mebibytes_after_free() - start
host.release_memory()
print(plain, kept, resident() - start)
"""


@pytest.mark.skipif(not keeps_memory(), reason="needs glibc's mallopt")
@pytest.mark.parametrize("plain_host", ["", "1"])
def test_what_is_freed_is_kept_until_it_is_released(plain_host):
    clean = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    ran = subprocess.run(
        [sys.executable, "-c", KEPT], env={**clean, "TTL_JAX_PLAIN_HOST": plain_host},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    plain, kept, released = map(int, ran.stdout.split())
    assert plain < 20
    assert kept < 20 if plain_host else kept > 180
    assert released < 20


GAPS = """
import ctypes
from ttl_jax.system import host
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
host.keep_memory()
host.keep_memory()  # no others are made
def call(batch):
    step = library.malloc(300 << 20)
    pin = library.malloc(200_000)  # allocated while a step runs: its temporaries no longer end the heap
    library.free(step)
    return step, pin
places = []
for mebibytes in (1, 3, 1, 2):
    batch = library.malloc(mebibytes << 20)
    places.append(call(batch)[0])
print(len(set(places)))
"""


@pytest.mark.skipif(not keeps_memory(), reason="needs glibc's mallopt")
def test_a_batch_does_not_take_the_place_of_the_temporaries():
    clean = {k: v for k, v in os.environ.items() if k not in ("GLIBC_TUNABLES", "TTL_JAX_PLAIN_HOST")}
    ran = subprocess.run([sys.executable, "-c", GAPS], env=clean, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["1"]


def test_what_the_user_told_malloc_stays(monkeypatch):
    monkeypatch.delenv("TTL_JAX_PLAIN_HOST", raising=False)
    for name, told in (
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=100000"),
        ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1:glibc.malloc.trim_threshold=1"),
        ("MALLOC_TRIM_THRESHOLD_", "1"),
    ):
        with monkeypatch.context() as own:
            own.setenv(name, told)
            assert not keeps_memory()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is the share at the peak")
def test_the_share_of_memory_is_the_one_of_now(release_memory):
    size = 300_000_000
    release_memory()  # what other tests have freed would be taken again
    before = memory_share()
    held = np.ones(size, np.uint8)
    assert memory_share() - before > 0.9 * size / machine_memory()
    del held
    release_memory()  # tests before this one may have had malloc keep it
    assert memory_share() - before < 0.1 * size / machine_memory()
