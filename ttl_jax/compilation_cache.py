"""JAX's persistent compilation cache, for every command and every worker process."""

from __future__ import annotations

import os


def set_up_jax() -> None:
    """Keeps compiled programs between runs (JAX's persistent compilation cache)."""
    import jax

    cache = os.environ.get("TTL_JAX_CACHE", os.path.expanduser("~/.cache/ttl_jax"))
    jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
