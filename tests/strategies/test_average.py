"""EMA, soups and WiSE-FT on small dictionaries, against the sums written out."""

import numpy as np
import pytest

from ttl_jax import strategies
from ttl_jax.errors import UserError
from ttl_jax.strategies.parts.ema import ema_decay, ema_update
from ttl_jax.strategies.parts.soup import greedy_soup, uniform_soup
from ttl_jax.strategies.parts.wise_ft import best_alpha, interpolate


@pytest.fixture
def ingredients():
    rng = np.random.default_rng(0)
    frozen = np.float32([0.1, 0.7])
    return [{"a": rng.normal(size=3).astype(np.float32), "frozen": frozen} for _ in range(4)]


def test_ema_follows_its_recursion(ingredients):
    average, expected = dict(ingredients[0]), ingredients[0]["a"].astype(np.float64)
    for step, leaves in enumerate(ingredients):
        decay = min(0.25, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * leaves["a"]
        average = ema_update(average, leaves, ema_decay(0.25, np.int32(step)))
    np.testing.assert_allclose(average["a"], expected, rtol=1e-5)
    np.testing.assert_array_equal(average["frozen"], ingredients[0]["frozen"])


def test_a_uniform_soup_is_the_mean_and_keeps_frozen_leaves_bitwise(ingredients):
    soup = uniform_soup(ingredients)
    np.testing.assert_allclose(soup["a"], np.mean([item["a"] for item in ingredients], axis=0), rtol=1e-5)
    np.testing.assert_array_equal(soup["frozen"], ingredients[0]["frozen"])


def test_a_greedy_soup_is_algorithm_1(ingredients):
    target = np.mean([ingredients[1]["a"], ingredients[2]["a"]], axis=0)

    def score(leaves):
        return -float(np.linalg.norm(leaves["a"] - target))

    scores = [score(item) for item in ingredients]
    kept, best = [], -np.inf  # the algorithm of the paper, on lists
    for number in sorted(range(4), key=lambda n: (scores[n], n), reverse=True):
        figure = score({"a": np.mean([ingredients[n]["a"] for n in (*kept, number)], axis=0)})
        if figure >= best:
            kept, best = [*kept, number], figure
    soup, found, figure = greedy_soup(ingredients, scores, score)
    assert found == kept and figure == pytest.approx(best, rel=1e-5)
    assert figure >= max(scores)
    np.testing.assert_allclose(soup["a"], np.mean([ingredients[n]["a"] for n in kept], axis=0), rtol=1e-5)


def test_a_greedy_soup_decides_ties_as_a_run_does(ingredients):
    """Equal figures: the ingredient of the lower loss comes first, then the newest; a mean of a higher loss
    stays out."""
    _, kept, found = greedy_soup(
        ingredients[:3], [(1.0, -0.5), (1.0, -0.2), (1.0, -0.2)], lambda mean: (1.0, -0.3)
    )
    assert (kept, found) == ([2], (1.0, -0.2))
    _, kept, found = greedy_soup(
        ingredients[:3], [(1.0, -0.1), (1.0, -0.2), (0.9, -0.0)], lambda mean: (1.0, -0.1)
    )
    assert (kept, found) == ([0, 1, 2], (1.0, -0.1))


def test_interpolation_has_exact_ends(ingredients):
    start, end = ingredients[:2]
    for alpha, expected in ((0.0, start), (1.0, end)):
        np.testing.assert_array_equal(interpolate(start, end, alpha)["a"], expected["a"])
    middle = interpolate(start, end, 0.3)
    np.testing.assert_allclose(middle["a"], 0.7 * start["a"] + 0.3 * end["a"], rtol=1e-5)
    np.testing.assert_array_equal(middle["frozen"], start["frozen"])


def test_the_best_alpha_is_on_the_grid_and_prefers_the_fine_tuned_end():
    assert best_alpha(lambda alpha: -abs(alpha - 0.42)) == (0.4, pytest.approx(-0.02))
    assert best_alpha(lambda alpha: 1.0) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [("ema(1.0)", "decay=1.0"), ("soup('x')", "kind='x'"), ("soup(last=1)", "last=1"),
     ("wise_ft(2)", "alpha=2"), ("ema+soup", "disagree on what happens after training")],
)  # fmt: skip
def test_options_that_make_no_sense(text, message):
    with pytest.raises(UserError, match=message):
        strategies.parse(text)
