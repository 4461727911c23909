"""JAX's settings for every command and every worker process: compiled programs are kept between runs."""

from __future__ import annotations

import gc
import warnings

from ttl_jax.system import host
from ttl_jax.system.folders import user_cache

BETWEEN_COLLECTIONS = 10_000  # new objects; Python's own is 700


def set_up_cache() -> None:
    """Sets up JAX's persistent compilation cache: ~/.cache/ttl_jax, or the folder that TTL_JAX_CACHE names.

    A cache that the user has chosen stays.
    """
    import jax

    # A cache that is full or damaged keeps nothing, which JAX would say of every program.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache")
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(user_cache() / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def set_up_jax() -> None:
    """Sets up a process that is ours: the cache; on a CPU, that programs run in the thread that calls them.

    Their memory is kept there for the next call (`host.keep_memory`). For the start of a process: once JAX
    has made an array, it goes on as it began.
    """
    import jax

    set_up_cache()
    # Tracing makes a million small objects and little garbage: a tenth of a start went on looking for it.
    gc.set_threshold(BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])
    if host.keeps_memory():
        jax.config.update("jax_cpu_enable_async_dispatch", False)
