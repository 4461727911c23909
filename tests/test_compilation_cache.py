"""Compiled programs are kept, where the user has not said otherwise."""

import os
import subprocess
import sys

import pytest

from ttl_jax.system.host import keeps_memory

SEEN = """
import jax
from ttl_jax.system.compilation_cache import set_up_jax
set_up_jax()
print(jax.config.jax_compilation_cache_dir, jax.config.read("jax_cpu_enable_async_dispatch"))
"""
NAMES = ("JAX_COMPILATION_CACHE_DIR", "TTL_JAX_PLAIN_HOST", "GLIBC_TUNABLES")


@pytest.mark.parametrize(
    ("own", "folder"),
    [
        ({"TTL_JAX_CACHE": "/ours"}, "/ours/xla"),
        ({"TTL_JAX_CACHE": "", "HOME": "/me"}, "/me/.cache/ttl_jax/xla"),
        ({"JAX_COMPILATION_CACHE_DIR": "/mine"}, "/mine"),
    ],
)
def test_the_users_own_folder_stays(own, folder):
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    ran = subprocess.run(
        [sys.executable, "-c", SEEN], env=clean | own, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split()[0] == folder


@pytest.mark.skipif(not keeps_memory(), reason="needs glibc's mallopt")
@pytest.mark.parametrize(("own", "aside"), [("", "False"), ("1", "True")])
def test_programs_run_aside_where_the_user_wants_a_plain_host(own, aside):
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    own_environment = clean | {"TTL_JAX_PLAIN_HOST": own}
    ran = subprocess.run(
        [sys.executable, "-c", SEEN], env=own_environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split()[1] == aside
