"""BatchNorm folded into the convolution before it, for inference with weights that stay.

Which convolutions those are is seen by watching a network run: a BatchNorm whose input is, itself, the
output of a convolution. So no family has to say anything, and one whose order is BatchNorm first
(DenseNet, but for its stem and the convolutions within its layers) is folded as far as it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from ttl_jax.models.layers.basic import BatchNorm, Conv
from ttl_jax.typing import Array, Variables

Path = tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """A convolution and the BatchNorm that takes its output; `epsilon` is the latter's."""

    conv: Path
    norm: Path
    epsilon: float


@contextmanager
def folding(pairs: dict[Path, Pair]) -> Iterator[None]:
    """A context in which a network that is called in inference mode with variables from `fold` computes what
    it was.

    Args:
        pairs: takes the pairs, by the path of their BatchNorm, while the network is traced; for `fold`.
    """
    made: list[tuple[Any, Path]] = []

    def shift(call: Callable[[], Any], module: BatchNorm, x: Array) -> Any:
        for output, path in made:
            if output is x:
                pairs[module.path] = Pair(path, module.path, module.epsilon)
                return x + jnp.asarray(module.variables["params"]["bias"], x.dtype)
        return call()

    def watch(call: Callable[[], Any], module: Conv, x: Array) -> Any:
        result = call()
        made.append((result, module.path))
        return result

    with _intercept(BatchNorm, shift), _intercept(Conv, watch):
        yield


def _intercept(base: type[nn.Module], instead: Callable[[Callable[[], Any], Any, Any], Any]) -> Any:
    """A context in which `instead(call, module, input)` stands for every call of the class's own __call__,
    of what a subclass makes of it only that part."""
    entered: set[Path] = set()

    def intercept(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        module = context.module
        if not isinstance(module, base) or context.method_name != "__call__":
            return call(*args, **kwargs)
        if type(module).__call__ is base.__call__ or module.path in entered:
            return instead(lambda: call(*args, **kwargs), module, args[0])
        entered.add(module.path)
        try:
            return call(*args, **kwargs)
        finally:
            entered.discard(module.path)

    return nn.intercept_methods(intercept)


def fold(variables: Mapping[str, Any], folded: Iterable[Pair]) -> Variables:
    """The same variables with each pair's scale in its kernel and its shift as the BatchNorm's bias.

    For `folding` alone: BatchNorm itself would scale a second time.
    """
    params, statistics = (flatten_dict(variables[name]) for name in ("params", "batch_stats"))
    for pair in folded:
        mean, var = (statistics[*pair.norm, name] for name in ("mean", "var"))
        factor = params[*pair.norm, "scale"] * jax.lax.rsqrt(var + pair.epsilon)
        params[*pair.norm, "bias"] = params[*pair.norm, "bias"] - mean * factor
        for name in ("kernel", "bias"):
            if (*pair.conv, name) in params:
                params[*pair.conv, name] = params[*pair.conv, name] * factor
    return {**variables, "params": unflatten_dict(params)}
