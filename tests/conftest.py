"""What all tests share: programs, compiled once, whichever worker needs them."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest

from ttl_jax.system import host

os.environ.pop("COLUMNS", None)  # xdist sets it to 80 for its workers: tables would be as wide as that
# A program of a test runs a few times: XLA is to compile it quickly, not well, and in one piece, of which the
# other worker's core is not disturbed (CPU time of a file that trains 90 -> 71 s). Its children inherit this.
# XLA ends the process at a flag that it does not know: the last one is gone in 0.12.
QUICK = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
if jax.__version_info__ < (0, 11):
    QUICK.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(QUICK))
# Of 51 s of tests that train, 2.6 went to looking for garbage in what was imported, and 5 to the system's
# giving back what each training had given away a moment before.
gc.set_threshold(50_000, 50, 50)
RELEASE = host.release_memory
host.release_memory = lambda: None  # before anyone imports it
# Checkpoints are synced to the disk, which takes longer than training: in memory where there is enough of it.
MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 8 << 30:
    os.environ["TMPDIR"], tempfile.tempdir = str(MEMORY), None


@pytest.fixture
def release_memory():
    """The function that gives memory back, for tests of memory."""
    return RELEASE


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(pytestconfig):
    """A cache of compiled programs, shared by the workers and kept for the next run (`pytest --cache-clear`).

    Many tests train the same small network, which takes XLA longer to compile than to run. JAX names a
    program by its code, the flags and the versions, so that an old one is never taken for another.
    """
    jax.config.update("jax_compilation_cache_dir", str(pytestconfig.cache.mkdir("programs")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def pytest_configure(config):
    """Throws the kept programs away where they are many, before any worker starts.

    JAX's own bound fails where two processes evict at once, and then keeps nothing more.
    """
    programs = config.cache.mkdir("programs")
    if (
        not hasattr(config, "workerinput")
        and sum(file.stat().st_size for file in programs.iterdir()) > 4 << 30
    ):
        shutil.rmtree(programs)


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory):
    """Settings of a user of the suite's own: the random key of ids is not the tester's."""
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("settings"))
    yield
    if before is None:
        del os.environ["XDG_CONFIG_HOME"]
    else:
        os.environ["XDG_CONFIG_HOME"] = before


@pytest.fixture(scope="module", autouse=True)
def own_entries_go():
    """Entries that a file's tests register are gone after it: the next file sees what the package lists."""
    from ttl_jax import registry

    before = {kind: set(entries) for kind, entries in registry._ENTRIES.items()}
    yield
    for kind, entries in registry._ENTRIES.items():
        for name in [name for name, entry in entries.items() if not entry.built_in]:
            if name not in before.get(kind, ()):
                del entries[name]
