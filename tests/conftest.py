"""What all tests share: programs, compiled once for each run of the suite, whichever worker needs them."""

import os

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compiled_programs(tmp_path_factory):
    """A cache of compiled programs, new for each run and shared by its workers.

    Many tests train the same small network, which takes XLA longer to compile than to run.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder in that of the run
        folder = folder.parent
    jax.config.update("jax_compilation_cache_dir", str(folder / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


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
