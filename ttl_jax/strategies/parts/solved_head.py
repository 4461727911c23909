"""A head on fixed features, solved for: L-BFGS on the run's loss, or ridge regression in closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ttl_jax.data.dataset import Dataset, ViewsReader
from ttl_jax.errors import UserError
from ttl_jax.evaluation.calibration import fit_temperature
from ttl_jax.strategies.anatomy import flatten, kind_of, unflatten
from ttl_jax.strategies.parts.part import Part
from ttl_jax.strategies.parts.ridge import ridge_probe
from ttl_jax.typing import Array, Float, Variables

L2 = tuple(10.0**power for power in range(-6, 2))  # tried where none is given
ITERATIONS = 500
ENOUGH = 1e-5  # norm of the gradient at which L-BFGS ends: what float32 resolves of a loss near 1
Head = dict[str, Array]  # path -> leaf


@dataclass(frozen=True)
class Solved:
    """A head that a solver returns.

    Attributes:
        head: {path: leaf} of the head's parameters.
        loss: the run's loss on all training examples, without the penalty.
        l2: the penalty taken (ridge: relative to the number of examples, of standardised features).
        iterations: L-BFGS iterations for that penalty; 0 for ridge.
        flops: about 6 N times the head's parameters for every iteration of every penalty.
    """

    head: Head
    loss: float
    l2: float
    iterations: int
    flops: float


@dataclass(frozen=True)
class SolvedHead(Part):
    """A phase that trains the head alone is solved outright instead of stepped through.

    Attributes:
        name: "lbfgs" (the run's loss, minimised) or "ridge" (squared error, in closed form).
        l2: lbfgs: the penalty l2 / 2 ||kernel||^2; None is the best of a few powers of ten on validation.
    """

    name: str
    l2: float | None = None

    slot = "how the head is solved for"

    @property
    def solves(self) -> str:  # type: ignore[override]
        return self.name

    def solve(
        self,
        network: Any,
        phase: Any,
        state: Any,
        training: Dataset,
        after: str | None,
        loss: Callable[[Array, Array], Array],
        validate: Callable[[Variables], Any],
    ) -> Solved:
        """Solves a phase that trains the head alone.

        Args:
            network: the whole of it.
            phase: the `LabelledPhase`.
            state: the `TrainState` at its start; an L-BFGS begins at its head.
            training: the training split, of features.
            after: the unit whose outputs these are.
            loss: the run's.
            validate: variables -> `Merit`, by which the penalty is chosen; of equals the larger.

        Raises:
            UserError: more than the head trains, the features are not fixed, or the head or task is one
                that the solver does not know.
        """
        wanted = f"a probe's solver={self.name!r} needs"
        if after != network.units[-1].name or isinstance(training.images, ViewsReader):
            raise UserError(
                f"{wanted} a frozen backbone and the same features in every epoch: set "
                "data.augment='none', data.mix='none', cache_features=True and enough data.cache_gb"
            )
        if any(not path.startswith("head/") for path in phase.trainable) or any(
            item.defines("parameters", "loss", "moved") for item in phase.parts
        ):
            raise UserError(f"{wanted} a strategy that trains the head alone, without penalties on it")
        features = np.asarray(training.images.read(np.arange(len(training))))
        flat = flatten(state.params)
        start = {path: flat[path] for path in phase.trainable}

        def variables(head: Head) -> Variables:
            return {"params": unflatten({**flat, **head}), "batch_stats": state.batch_stats}

        def loss_of(head: Head, features: Array | np.ndarray) -> Array:
            logits: Any = network.apply(variables(head), features, train=False, after=after)
            return loss(logits, jnp.asarray(training.labels))

        per_pass = 6.0 * len(training) * sum(leaf.size for leaf in start.values())
        if self.name == "ridge":
            linear = set(start) == {"head/kernel", "head/bias"} and features.ndim == 2
            if training.task != "multiclass" or not linear:
                raise UserError(
                    f"{wanted} one class an image and a head that is one linear map of pooled features"
                )
            head, l2 = ridge_head(features, training.labels)
            return Solved(head, float(loss_of(head, features)), l2, 0, per_pass)
        penalties = L2 if self.l2 is None else (self.l2,)
        heads, iterations = lbfgs_heads(loss_of, start, jnp.asarray(penalties, jnp.float32), features)
        each = [{path: leaf[number] for path, leaf in heads.items()} for number in range(len(penalties))]
        merits = [validate(variables(head)) for head in each] if len(each) > 1 else [None]
        best = max(range(len(each)), key=lambda number: (merits[number], penalties[number]))
        return Solved(
            each[best],
            float(loss_of(each[best], features)),
            penalties[best],
            int(iterations[best]),
            per_pass * float(np.sum(iterations)),
        )


def ridge_head(features: Float[np.ndarray, "n d"], labels: np.ndarray) -> tuple[Head, float]:
    """The probe as a head on raw features, its outputs scaled on the left-out examples' predictions."""
    probe = ridge_probe(features, labels)
    kernel = probe.weights / probe.scale[:, None]
    bias = probe.intercept - probe.centre @ kernel
    temperature = fit_temperature(labels, probe.left_out)
    head = {"head/kernel": kernel / temperature, "head/bias": bias / temperature}
    return {path: jnp.asarray(leaf, jnp.float32) for path, leaf in head.items()}, probe.alpha


def lbfgs_heads(
    loss_of: Callable[[Head, Any], Array],
    start: Mapping[str, Array],
    penalties: Float[Array, " k"],
    features: np.ndarray,
) -> tuple[Head, np.ndarray]:
    """The heads (k, ...) that minimise loss + l2 / 2 ||kernels||^2, and the iterations of each."""
    optimizer = optax.lbfgs()
    kernels = [path for path in start if kind_of(path) == "kernel"]

    def minimise(l2: Array, features: Array) -> tuple[Head, Array]:
        def objective(head: Head) -> Array:
            squares = sum(jnp.sum(jnp.square(head[path])) for path in kernels)
            return loss_of(head, features) + l2 / 2 * squares

        value_and_gradient = optax.value_and_grad_from_state(objective)

        def body(carried: Any) -> Any:
            head, memory, number, _ = carried
            value, gradient = value_and_gradient(head, state=memory)
            updates, memory = optimizer.update(
                gradient, memory, head, value=value, grad=gradient, value_fn=objective
            )
            head = optax.apply_updates(head, updates)
            return head, memory, number + 1, optax.tree.norm(optax.tree.get(memory, "grad"))

        def going(carried: Any) -> Array:
            _, _, number, norm = carried
            return jnp.logical_and(number < ITERATIONS, norm > ENOUGH)

        begin = dict(start), optimizer.init(dict(start)), jnp.int32(0), jnp.float32(jnp.inf)
        head, _, number, _ = jax.lax.while_loop(going, body, begin)
        return head, number

    every = jax.jit(lambda penalties, features: jax.lax.map(lambda l2: minimise(l2, features), penalties))
    heads, iterations = every(penalties, jnp.asarray(features))
    return heads, np.asarray(iterations)
