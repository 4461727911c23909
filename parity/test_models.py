"""Every unit and the logits of every network within 1e-5 of torch, random weights and statistics."""

import numpy as np
import pytest
import reference

from ttl_jax import models, weights


@pytest.mark.parametrize("name", models.names())
def test_every_unit_and_the_logits(name):
    network = reference.build(name)
    images = reference.examples(reference.example(name))
    expected = reference.activations(network, reference.taps(name, network), images)
    variables = weights.load(reference.fill(network.state_dict()), name)
    ours = models.create(name, 1000)
    units = tuple(unit.name for unit in models.units(name))
    logits, found = ours.apply(variables, images, capture=units)
    found["logits"] = logits
    assert set(units) <= set(expected)
    worst = 0.0
    for unit, value in expected.items():
        mine = np.asarray(found[unit])
        if unit.startswith("dense") and mine.shape != value.shape:
            mine = mine[..., -value.shape[-1] :]  # torch's layer gives the new channels only
        assert mine.shape == value.shape, unit
        error = np.abs(mine - value).max() / np.abs(value).max()
        worst = max(worst, error)
        assert error < 1e-5, f"{unit}: {error:.1e}"
    print(f"{name}: {len(expected)} places, worst error {worst:.1e}")


@pytest.mark.parametrize("name", models.names())
def test_export_gives_the_very_same_state_dict(name):
    values = reference.fill(reference.build(name).state_dict())
    back = weights.export_torch(weights.load(values, name), name)
    assert set(back) == set(values)
    for key, value in values.items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)
