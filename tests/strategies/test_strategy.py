"""Composition with `+`, phases written out for a network, and strategies from a string."""

import pytest

from ttl_jax import strategies
from ttl_jax.errors import UserError
from ttl_jax.strategies import Phase, Strategy, Surgery, select
from ttl_jax.strategies.strategy import expand


def gradual(where):
    rules = ((where | select.head, "train"), (~(where | select.head), "freeze"))
    return Strategy("gradual", phases=(Phase(), Phase(rules=rules, each="stages")))


def test_full_changes_nothing_in_a_sum():
    probe = strategies.get("linear_probe")
    assert (probe + strategies.get("full")).phases == probe.phases
    assert (strategies.get("full") + probe).phases == probe.phases


def test_surgery_merges_and_conflicts():
    cut = Strategy("cut", surgery=Surgery(cut=12))
    slim = Strategy("slim", surgery=Surgery(slim_from=14))
    assert (cut + slim).surgery == Surgery(cut=12, slim_from=14)
    with pytest.raises(UserError, match="'cut' and 'other' disagree on surgery.cut: 12 against 8"):
        cut + Strategy("other", surgery=Surgery(cut=8))


def test_a_single_phase_refines_every_phase_of_the_other():
    still = Strategy("still", phases=(Phase(bn="still"),))
    both = gradual(select.top_stages(select.K)) + still
    assert [phase.bn for phase in both.phases] == ["still", "still"]
    with pytest.raises(UserError, match="both have several phases"):
        both + gradual(select.top_stages(select.K))
    with pytest.raises(UserError, match="disagree on phase.bn"):
        both + Strategy("moving", phases=(Phase(bn="moving"),))


def test_a_phase_for_each_stage_is_written_out():
    phases = expand(gradual(select.top_stages(select.K)), 5)
    assert len(phases) == 6
    assert [str(phase.rules[0][0]) for phase in phases[1:]] == [
        f"(top_stages({number}) or head)" for number in range(1, 6)
    ]
    assert phases[0].until == "share:1" and phases[0].bn == "auto" and phases[0].reset is False


def test_a_string_is_a_sum_of_calls():
    assert strategies.parse(" linear_probe ").phases == strategies.get("linear_probe").phases
    assert strategies.parse("full+linear_probe()").name == "full+linear_probe"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linear_prob", "did you mean 'linear_probe'"),
        ("full(3)", "too many positional arguments"),
        ("linear_probe(depth=3)", "unexpected keyword argument 'depth'"),
        ("full(open('x'))", "must be numbers, strings or booleans"),
        ("full-linear_probe", "not of the form"),
        ("full+", "cannot be read"),
        ("", "cannot be read"),
        ("__import__('os')", "there is no strategy '__import__'"),
    ],
)
def test_bad_strings_are_refused(text, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(").replace(")", r"\)")):
        strategies.parse(text)
