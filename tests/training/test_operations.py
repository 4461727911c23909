"""The count of a program's operations, and that it is made once."""

import jax
import jax.numpy as jnp
import pytest

from ttl_jax.training import count_flops as module
from ttl_jax.training.count_flops import operations, operations_once


def product(size):
    return jax.jit(lambda a, b: a @ b).trace(jnp.ones((size, 5)), jnp.ones((5, 7)))


@pytest.fixture
def cache(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "xla"))
    yield tmp_path / "xla"
    jax.config.update("jax_compilation_cache_dir", before)


def test_a_product_takes_two_operations_for_each_term():
    assert operations(product(3)) == 2 * 3 * 5 * 7


def test_a_second_start_finds_the_count_of_the_same_program_alone(cache, monkeypatch):
    first, other = product(3), product(4)
    assert operations_once(first, first.lower()) == 2 * 3 * 5 * 7
    counted = []
    monkeypatch.setattr(module, "operations", lambda traced: counted.append(traced) or 1.0)
    assert operations_once(product(3), product(3).lower()) == 2 * 3 * 5 * 7
    assert not counted
    assert operations_once(other, other.lower()) == 1.0 and counted == [other]


def test_layers_written_in_another_way_are_counted_anew(cache, monkeypatch):
    traced = product(3)
    operations_once(traced, traced.lower())
    monkeypatch.setattr(module, "operations", lambda traced: 1.0)
    monkeypatch.setattr(module, "_layers", lambda: "other lines")
    assert operations_once(traced, traced.lower()) == 1.0


def test_what_cannot_be_read_or_kept_is_counted(cache, monkeypatch):
    traced = product(3)
    operations_once(traced, traced.lower())
    (kept,) = cache.iterdir()
    kept.write_text("")
    assert operations_once(traced, traced.lower()) == 2 * 3 * 5 * 7
    assert kept.read_text() == "210.0"
    jax.config.update("jax_compilation_cache_dir", str(kept))  # a file, no folder
    assert operations_once(traced, traced.lower()) == 2 * 3 * 5 * 7
