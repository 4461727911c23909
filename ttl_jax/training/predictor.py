"""Logits of a whole data set: padded batches, each example exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.data.augment import test_time
from ttl_jax.models import Network, cpu
from ttl_jax.models.cpu import folding
from ttl_jax.system.host import release_memory
from ttl_jax.system.placing import placed
from ttl_jax.typing import Array, Float

Predict = Callable[[Mapping[str, Any], Array | np.ndarray], Array]


class Predictor:
    """The jitted function (variables, images uint8 (N, S, S, C)) -> logits (N, classes), and `fixed`."""

    def __init__(self, run: Predict, folds: bool) -> None:
        self._run, self._plain, self._folds = run, jax.jit(run), folds
        # By names of the variables, shape and type of the images, and whether CPU forms are used: the
        # program, and what it is to be given.
        self._compiled: dict[Any, tuple[Predict, Callable[[Any], Any]]] = {}

    def __call__(self, variables: Mapping[str, Any], images: Array | np.ndarray) -> Array:
        logits: Array = self._plain(variables, images)
        return logits

    def fixed(
        self, variables: Mapping[str, Any], images: Array | np.ndarray
    ) -> Callable[[Array | np.ndarray], Array]:
        """The function of images alone, for many batches: each BatchNorm is folded, once, where it can be.

        Args:
            variables: the network's variables.
            images: any batch; others are to be of its shape and type.
        """
        run, fold = self.compile(variables, images)
        folded = fold(variables)
        return lambda images: run(folded, placed(images))

    def compile(self, variables: Mapping[str, Any], images: Any) -> tuple[Predict, Callable[[Any], Any]]:
        """Compile what `fixed` needs, once; only shapes and types of the arguments are read.

        Returns:
            The program, and the function from variables to those that it takes.
        """
        folds = self._folds and cpu.enabled()
        kind = jax.tree.structure(variables), images.shape, images.dtype, cpu.enabled()
        if kind not in self._compiled:
            pairs: dict[folding.Path, folding.Pair] = {}

            def run(variables: Mapping[str, Any], images: Array) -> Array:
                with folding.folding(pairs):
                    return self._run(variables, images)

            lowered = (jax.jit(run) if folds else self._plain).lower(variables, images)
            if pairs:
                fold = jax.jit(partial(folding.fold, folded=tuple(pairs.values()))).lower(variables).compile()
            self._compiled[kind] = lowered.compile(), fold if pairs else lambda variables: variables
            release_memory()  # no more: a process that only infers keeps nothing
        return self._compiled[kind]


def make_predict(
    network: Network, normalise: Callable[[Array], Array], after: str | None = None, tta: str = "none"
) -> Predictor:
    """Builds the function (variables, images uint8 (N, S, S, C)) -> logits (N, classes).

    With `after` it takes the outputs of that unit instead of images. `tta` names the views over which
    logits are averaged (`data.views`). BatchNorm is folded on CPUs in float32, where that was measured.

    Raises:
        UserError: no such views.
    """
    test_time.views(tta)  # refused here, before anything is claimed or compiled

    def predict(variables: Mapping[str, Any], images: Array | np.ndarray) -> Array:
        def one(view: Array) -> Array:
            return network.apply(variables, view, train=False, after=after)  # type: ignore[return-value]

        return test_time.average(one, normalise(jnp.asarray(images)), tta)

    return Predictor(predict, network.dtype == jnp.float32)


def logits_of(
    predict: Predict, variables: Mapping[str, Any], batches: Iterable[dict[str, np.ndarray]]
) -> Float[np.ndarray, "n classes"]:
    """Runs a data set's padded batches through the network and drops the padding.

    One batch is under way on the device while the previous one is copied to the host; on a CPU whose programs
    run in place (`placing.runs_in_place`) none is.
    """
    run: Callable[[Any], Array] | None = None
    parts: list[np.ndarray] = []
    pending: tuple[Any, np.ndarray] | None = None
    for batch in batches:
        if run is None:
            given = dict(variables)
            fixed = isinstance(predict, Predictor)
            run = predict.fixed(given, batch["image"]) if fixed else partial(predict, given)  # type: ignore[attr-defined]
        ahead = (run(batch["image"]), batch["mask"])
        if pending is not None:
            parts.append(np.asarray(pending[0], np.float32)[pending[1] > 0])
        pending = ahead
    if pending is not None:
        parts.append(np.asarray(pending[0], np.float32)[pending[1] > 0])
    return np.concatenate(parts)
