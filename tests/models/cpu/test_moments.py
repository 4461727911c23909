"""A batch's moments: NumPy's, and each map's made once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import models, weights
from ttl_jax.models import densenet
from ttl_jax.models.cpu.moments import joined, moments
from ttl_jax.models.layers.batch_scope import batch_scope


def maps():
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(3, 2, (4, 5, 5, channels)), jnp.float32) for channels in (6, 3, 2)]


def reduced(function, *given):
    """The channels of every map that is summed over, in order."""
    shapes = (
        equation.invars[0].aval.shape
        for equation in jax.make_jaxpr(function)(*given).jaxpr.eqns
        if equation.primitive.name == "reduce_sum"
    )
    return [shape[-1] for shape in shapes if len(shape) == 4]


def test_of_a_joined_map_they_are_numpys():
    first, second, third = maps()
    with batch_scope(None, None):
        pair = joined(first, second)
        moments(pair, jnp.full(9, 2.5))
        found = moments(joined(pair, third), jnp.full(11, 3.5))
    whole = np.concatenate([first, second, third], axis=-1).astype(np.float64)
    np.testing.assert_allclose(found.mean, whole.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found.var, whole.var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found.var * found.bessel, whole.var((0, 1, 2), ddof=1), rtol=1e-5)


def test_padding_does_not_count():
    first, second, _ = maps()
    with batch_scope(None, jnp.array([1.0, 1, 1, 0])):
        found = moments(joined(first, second), jnp.full(9, 2.5))
    whole = np.concatenate([first, second], axis=-1)[:3].astype(np.float64)
    np.testing.assert_allclose(found.mean, whole.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found.var * found.bessel, whole.var((0, 1, 2), ddof=1), rtol=1e-5)


def test_each_part_is_gone_over_once():
    def asked(once):
        def block(first, second, third):
            def of(x):
                return moments(x, jnp.zeros(x.shape[-1]))[:2]

            pair = joined(first, second)
            return of(first), of(pair), of(joined(pair, third))

        def run(*given):
            if not once:
                return block(*given)
            with batch_scope(None, None):
                return block(*given)

        return reduced(run, *maps())

    assert asked(once=True) == [6, 6, 3, 3, 2, 2]  # two sums each
    assert asked(once=False) == [6, 6, 9, 9, 11, 11]


@pytest.mark.parametrize("still", [(), ("dense1/layer1", "dense1/layer2")])
def test_a_dense_block_goes_over_what_each_layer_adds(still):
    network = models.create("densenet121", 3, cut="dense1/layer6")
    variables = weights.initialise("densenet121", 3, cut="dense1/layer6")

    def run(images):
        with batch_scope(None, None):
            return network.apply(
                variables, images, train=True, still=("stem", *still), mutable=["batch_stats"]
            )

    outer = [64] + 5 * [32]  # the stem's map and what the layers added, for the last layer at the latest
    inner = (6 - len(still)) * [128]  # of the bottlenecks
    pooled = [256]  # by the head
    assert sorted(reduced(run, jnp.zeros((2, 32, 32, 3)))) == sorted(2 * (outer + inner) + pooled)


def test_gradients_and_statistics_are_those_of_every_layer_by_itself(gradients_of, monkeypatch):
    gradients = gradients_of("densenet121", "dense1/layer6", 32)
    ours = gradients()
    monkeypatch.setattr(densenet, "concatenate", lambda *parts: jnp.concatenate(parts, axis=-1))
    for mine, theirs in zip(jax.tree.leaves(ours), jax.tree.leaves(gradients()), strict=True):
        assert np.abs(mine - theirs).max() <= 1e-5 * np.abs(theirs).max()
