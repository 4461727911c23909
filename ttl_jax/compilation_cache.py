"""JAX's settings for every command and every worker process: compiled programs are kept between runs."""

from __future__ import annotations

import os

from ttl_jax import host


def set_up_jax() -> None:
    """Sets up JAX's persistent compilation cache; on a CPU, that programs run in the thread that calls them.

    Their memory is kept there for the next call (`host.keep_memory`). JAX_CPU_ENABLE_ASYNC_DISPATCH, where
    it is set, stays as it is.
    """
    import jax

    cache = os.environ.get("TTL_JAX_CACHE", os.path.expanduser("~/.cache/ttl_jax"))
    jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if host.keeps_memory() and "JAX_CPU_ENABLE_ASYNC_DISPATCH" not in os.environ:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
