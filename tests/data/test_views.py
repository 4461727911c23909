import numpy as np
import pytest

from ttl_jax.data.augment import test_time
from ttl_jax.errors import UserError

IMAGES = np.random.default_rng(0).normal(size=(3, 5, 5, 2)).astype(np.float32)


def test_dihedral_views_are_the_symmetries_of_the_square():
    found = {np.asarray(view(IMAGES)).tobytes() for view in test_time.views("dihedral")}
    turned = [np.rot90(base, k, (1, 2)) for base in (IMAGES, IMAGES[:, :, ::-1]) for k in range(4)]
    assert found == {np.ascontiguousarray(image).tobytes() for image in turned} and len(found) == 8


@pytest.mark.parametrize(("name", "count"), [("none", 1), ("flip", 2), ("flips", 4), ("dihedral", 8)])
def test_logits_are_averaged_over_the_views(name, count):
    weights = np.random.default_rng(1).normal(size=(5, 5, 2))
    seen = []

    def predict(images):
        seen.append(np.asarray(images))
        return (np.asarray(images) * weights).sum((1, 2, 3))[:, None]

    found = test_time.average(predict, IMAGES, name)
    assert len(seen) == count and np.array_equal(seen[0], IMAGES)
    want = np.mean([(image * weights).sum((1, 2, 3)) for image in seen], axis=0)
    np.testing.assert_allclose(np.asarray(found)[:, 0], want, rtol=1e-5)


def test_a_misspelt_name():
    with pytest.raises(UserError, match="data.tta='flop' does not exist.*'flip'"):
        test_time.views("flop")
