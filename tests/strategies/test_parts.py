"""What holds for every part: it is in the key of its program, and two of a kind do not pass for one."""

from dataclasses import dataclass
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import strategies
from ttl_jax.errors import UserError
from ttl_jax.strategies import Part, Phase, Pull, Strategy
from ttl_jax.strategies.parts import Ema, SolvedHead
from ttl_jax.strategies.select import backbone
from ttl_jax.training.optimizer import make_optimizer
from ttl_jax.training.programs import Programs
from ttl_jax.training.state import initial_state
from ttl_jax.training.step import TrainStep

PARAMS = {"stem": {"conv": {"kernel": np.ones((3, 3, 3, 4), np.float32)}},
          "head": {"kernel": np.ones((4, 2), np.float32), "bias": np.ones(2, np.float32)}}  # fmt: skip


@dataclass(frozen=True)
class Slower(Part):
    """A behaviour that no other file knows: updates so many times as long."""

    factor: float

    def update(self, updates, multipliers, gradients, params):
        return {path: self.factor * leaf for path, leaf in updates.items()}, multipliers


@dataclass(frozen=True)
class Listing(Part):
    factors: list


class Leaves:
    """A "network" whose outputs are its parameters."""

    def apply(self, variables, images, **_):
        return strategies.flatten(variables["params"]), {}


def bind(*parts, **fields):
    (bound,) = strategies.bind(Strategy("mine", parts=parts, phases=(Phase(**fields),)), PARAMS, "resnet18")
    return bound


def program(bound):
    """The compiled step of a phase, and what it starts from."""
    optimizer = make_optimizer(bound, SimpleNamespace(name="sgd", weight_decay=0.0, momentum=0.0, clip=0.0))

    def loss(given, labels):
        return sum(jnp.sum(leaf) for leaf in given.values())

    keys = jax.random.split(jax.random.key(0), 2)
    step = TrainStep(Leaves(), bound, optimizer, loss, lambda images, _: images, lambda _: keys)
    state = initial_state({"params": PARAMS, "batch_stats": {}}, optimizer, bound.trainable)
    return jax.jit(step), state


def test_a_field_of_a_part_makes_another_program():
    programs, batch = Programs(), {"image": np.zeros((2, 1)), "label": np.zeros(2)}
    ends = {}
    for factor in (1.0, 0.5, 1.0):
        bound = bind(Slower(factor))
        step, state = programs.get(("step", bound, None), lambda bound=bound: program(bound))
        ends[factor] = step(state, batch, jnp.float32(0.1))[0].params["head"]["bias"]
    assert len(programs.made) == 2
    np.testing.assert_allclose(ends[1.0], 0.9)
    np.testing.assert_allclose(ends[0.5], 0.95)


def test_phases_share_a_program_where_nothing_of_the_step_differs():
    rules = ((strategies.select.head, "train"), (backbone, "freeze"))
    same = [bind(Slower(0.5), name="a", lr=0.5), bind(Slower(0.5), name="b", until="steps:9", reset=True)]
    fields = [{"bn": "still"}, {"rules": rules}, {"decay": (2.0, "stage")}, {"bn": "stochastic(0.5)"}]
    others = [*(bind(Slower(0.5), **each) for each in fields), bind(Slower(0.5), Ema(0.9)), bind()]
    assert len({*same}) == 1 and len({*same, *others}) == 7


def test_a_part_that_could_not_be_a_key_is_refused():
    with pytest.raises(UserError, match="its fields are the key of the compiled step"):
        bind(Listing([1.0]))

    class Hidden(Slower):
        def __init__(self, factor):
            super().__init__(0.0)
            object.__setattr__(self, "hidden", factor)  # equal parts would differ

    with pytest.raises(UserError, match="its fields are the key of the compiled step"):
        bind(Hidden(0.5))


def test_an_average_of_one_phase_alone_is_refused():
    with pytest.raises(UserError, match=r"belongs to the whole strategy: Strategy\(parts="):
        bind(rules=None, parts=(Ema(0.9),))


def test_the_names_of_before_still_build_a_strategy():
    pull, ema = Pull(backbone, 0.1), Ema(0.9)
    assert Strategy("s", penalties=(pull,), after=ema) == Strategy("s", parts=(pull, ema))
    solved = Phase(parts=(SolvedHead("ridge"),))
    with pytest.raises(UserError, match="disagree on how the head is solved for"):
        Strategy("a", phases=(solved,)) + Strategy("b", phases=(Phase(parts=(SolvedHead("lbfgs"),)),))
