"""The one switch of the forms for a CPU."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax.config import default_config
from ttl_jax.models import cpu
from ttl_jax.models.cpu.convolution import convolution
from ttl_jax.models.cpu.max_pool import max_pool
from ttl_jax.training.count_flops import operations
from ttl_jax.training.programs import Programs

KERNEL = jnp.ones((3, 3, 4, 4))


def layers(x):
    return max_pool(convolution(x, KERNEL, (1, 1), "SAME"), 2, 2).sum()


def primitives(function=layers):
    jaxpr = jax.make_jaxpr(function)(jnp.ones((2, 8, 8, 4)))
    return [equation.primitive.name for equation in jaxpr.eqns]


def test_off_there_are_jaxs_own_operations_alone():
    assert {"convolution", "max_pool"} <= set(primitives())
    with cpu.disabled():
        assert not cpu.enabled()
        assert {"conv_general_dilated", "reduce_window_max"} <= set(primitives())
        with cpu.disabled(False):
            assert "convolution" in primitives()
    assert cpu.enabled()


def test_a_program_of_one_setting_does_not_serve_the_other():
    traces = []
    jitted = jax.jit(lambda x: traces.append(cpu.enabled()) or layers(x))
    for off in (False, True, False, True):
        with cpu.disabled(off):
            jitted(jnp.ones((2, 8, 8, 4)))
    assert traces == [True, False]


def test_it_can_be_gone_through_without_jit():
    x = jnp.arange(512.0).reshape(2, 8, 8, 4)
    with jax.disable_jit():
        value, gradient = jax.value_and_grad(layers)(x)
    expected = jax.jit(jax.value_and_grad(layers))(x)
    jax.tree.map(np.testing.assert_allclose, (value, gradient), expected)


def test_programs_kept_between_runs_belong_to_one_setting():
    programs, config, made = Programs(keeps=True), default_config(), []
    for off in (False, True, False, True):
        with cpu.disabled(off):
            programs.claim(config)
            assert programs.get("step", lambda off=off: made.append(off) or off) == off
    assert made == [False, True]


@pytest.mark.parametrize("off", [False, True])
def test_a_thread_that_compiles_ahead_has_the_setting_of_who_asked(off):
    programs = Programs()
    with cpu.disabled(off):
        programs.begin("step", cpu.enabled)
        assert programs.get("step", lambda: pytest.fail("it was begun")) is not off


def test_operations_are_counted_alike():
    with cpu.disabled():
        plain = operations(jax.jit(jax.grad(layers)).trace(jnp.ones((2, 8, 8, 4))))
    assert operations(jax.jit(jax.grad(layers)).trace(jnp.ones((2, 8, 8, 4)))) == plain > 0


def test_the_environment_turns_it_off_for_a_process():
    code = "from ttl_jax.models import cpu; assert not cpu.enabled() and not cpu.wanted()"
    environment = {**os.environ, "TTL_JAX_PLAIN_HOST": "1", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
