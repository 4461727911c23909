"""Forward mode, forward over reverse, vmap and export of every network, with forms for a CPU and without."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import models, weights
from ttl_jax.models import cpu
from ttl_jax.models.layers.batch_scope import batch_scope
from ttl_jax.models.network import Network

LEAST = {"cbr_larget": 224, "cbr_largew": 128, "cbr_small": 128, "cbr_tiny": 96, "alexnet": 64}
switch = pytest.mark.parametrize("off", [False, True], ids=["cpu forms", "plain"])


def thin(name):
    """A network whose runs of equal units are one unit: ResNet-101 and -152 become ResNet-50."""
    whole = models.create(name, 3)
    units = tuple(next(run) for _, run in itertools.groupby(whole.units, key=lambda unit: unit.parts[0][1]))
    return Network(units, whole.head, whole.dtype, whole.dimensions)


def loss(params, statistics, images, network):
    with batch_scope(None, None):
        given = {"params": params, **statistics}
        logits, _ = network.apply(given, images, train=True, mutable=["moments"])
    return jnp.square(logits).sum()


@functools.cache
def traced(network, size, off):
    """Shapes of a Hessian's product with a vector, of logits image by image, and of exported logits."""
    shape = (*((16,) if network.dimensions == 3 else ()), size, size, 3)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((2, *shape))))
    params, statistics = variables["params"], {key: variables[key] for key in variables if key != "params"}
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    some = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("n"), *shape), jnp.float32)

    def product(params, tangent, *given):
        return jax.jvp(lambda params: jax.grad(loss)(params, *given, network), (params,), (tangent,))[1]

    def predict(params, statistics, images):
        return network.apply({"params": params, **statistics}, images)

    def one_by_one(params, statistics, images):
        return jax.vmap(lambda image: predict(params, statistics, image[None])[0])(images)

    with cpu.disabled(off):
        moved = jax.eval_shape(product, params, params, statistics, images)
        logits = jax.eval_shape(one_by_one, params, statistics, images)
        exported = jax.export.export(jax.jit(predict), platforms=["cpu", "cuda"])(params, statistics, some)
    return moved == params, logits.shape, str(exported.out_avals[0].shape)


@switch
@pytest.mark.parametrize("name", models.names())
def test_every_network_is_differentiated_mapped_and_exported(name, off):
    assert traced(thin(name), LEAST.get(name, 32), off) == (True, (2, 3), "(n, 3)")


@switch
@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("resnet18", "stage1/block1"),
        ("densenet121", "dense1/layer2"),
        ("efficientnet_lite0", "stage2/block1"),
    ],
)
def test_forward_mode_has_the_values_of_reverse_mode(name, cut, off):
    network, variables = models.create(name, 3, cut=cut), weights.initialise(name, 3, cut=cut)
    params, statistics = jax.device_put((variables["params"], {"batch_stats": variables["batch_stats"]}))
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(4, 32, 32, 3)), jnp.float32)
    vector = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), params)

    def value(params):
        return loss(params, statistics, images, network)

    def along(params):
        return sum(map(jnp.vdot, *map(jax.tree.leaves, (jax.grad(value)(params), vector))))

    @jax.jit
    def every(params):
        forward = jax.jvp(value, (params,), (vector,))[1]
        return (
            forward,
            along(params),
            jax.jvp(jax.grad(value), (params,), (vector,))[1],
            jax.grad(along)(params),
        )

    with cpu.disabled(off):
        forward, reverse, product, twice = every(params)
    assert abs(forward - reverse) < 1e-4 * abs(reverse)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(twice))
    for mine, theirs in zip(*map(jax.tree.leaves, (product, twice)), strict=True):
        assert np.abs(mine - theirs).max() <= 1e-3 * np.abs(theirs).max() + 1e-5 * largest


@switch
def test_one_image_at_a_time_is_what_a_batch_gives(off):
    name, cut = "resnet18", "stage2/block1"
    network, variables = models.create(name, 3, cut=cut), weights.initialise(name, 3, cut=cut)
    images = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    with cpu.disabled(off):
        whole = network.apply(variables, images)
        alone = jax.vmap(lambda image: network.apply(variables, image[None])[0])(images)
    np.testing.assert_allclose(alone, whole, rtol=1e-5, atol=1e-6)
