"""Networks with random weights and a head that tells images apart, so that a fault of an export shows."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import models, weights
from ttl_jax.deploy.export.forward import Forward
from ttl_jax.models import cpu

CLASSES = ("a", "b", "c", "d")


@pytest.fixture(scope="session")
def images_of():
    """(shape of an image, count) -> uint8 noise of many colours and contrasts."""

    def make(shape, count=6):
        draw = np.random.default_rng(0)
        ends = draw.uniform(0, 255, (2, count, *(1,) * (len(shape) - 1), shape[-1]))
        return np.uint8(ends[0] + (ends[1] - ends[0]) * draw.random((count, *shape)))

    return make


@pytest.fixture(scope="session")
def forward_of(images_of):
    """(name, size, cut=..., head=..., slim=..., only=units, **fields of Forward) -> Forward."""

    def make(name, size, *, cut=None, head=None, slim=None, only=None, preprocessing=None, **fields):
        preprocessing = preprocessing or weights.preprocessing("imagenet", name)
        network = models.create(name, len(CLASSES), cut=cut, head=head, **(slim or {}))
        if only:
            network = network.clone(units=tuple(unit for unit in network.units if unit.name in only))
        shape = models.input_shape(name, size, depth=4)
        variables = _random_variables(network, (*shape[:-1], preprocessing.channels))
        forward = Forward(name, network, variables, preprocessing, shape, CLASSES, **fields)
        with cpu.disabled():
            logits = np.asarray(jax.jit(forward.logits)(variables, images_of(shape)))
        last = variables["params"]["head"]
        bias = last.get("out", last)["bias"]
        bias -= logits.mean(0) * forward.temperature
        return replace(forward, temperature=forward.temperature * float(logits.std(0).mean()))

    return make


def _random_variables(network, shape):
    """Random leaves, on the scale that keeps a signal through the layers."""
    empty = jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, *shape))))
    draw = np.random.default_rng(0)

    def leaf(path, of):
        noise = draw.standard_normal(of.shape)
        match path[-1].key:
            case "kernel":
                made = noise * np.sqrt(2 / np.prod(of.shape[:-1]))
            case "scale" | "var":
                made = np.exp(0.2 * noise)
            case _:
                made = 0.1 * noise
        return np.asarray(made, np.float32)

    return jax.tree_util.tree_map_with_path(leaf, empty)
