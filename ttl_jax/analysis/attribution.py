"""Attribution: how much each place of an image speaks for a class.

A method is a pure function (network, variables, normalised images, classes[, unit]) -> maps, registered by
its name. Maps of a unit have the unit's size, those of the image the image's or a grid's; none has a scale
of its own. Images and volumes differ by one axis alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ttl_jax import registry
from ttl_jax.errors import UserError, nearest
from ttl_jax.models import Network
from ttl_jax.registry import register
from ttl_jax.typing import Array, Float, Int, Variables

MIN_SIDE = 4  # a coarser map than 4 x 4 places points at nothing
NODES = 50  # of the integral in integrated_gradients, as captum's default
GRID = (4, 8, 8)  # patches of occlusion along depth, height and width
Maps = Callable[[Variables, Array, Array], Array]


def make_attribution(
    name: str, network: Network, normalise: Callable[[Array], Array], unit: str | None = None
) -> Maps:
    """Build the jitted function (variables, images uint8 (N, [D,] H, W, 3), classes) -> maps (N, [d,] h, w).

    Args:
        name: A registered method, or FILE.py:NAME.
        network: The network, whole or cut.
        normalise: Maps uint8 images to the network's input.
        unit: The unit whose output is looked at, for methods that look at one.

    Raises:
        UserError: no such method, or no such unit.
    """
    method = registry.get("attribution", name)
    place = {"unit": unit} if takes_unit(name) else {}
    if place and unit not in units_of(network):
        raise UserError(f"{name} looks at a unit, and the network has none called {unit!r}")

    @jax.jit
    def maps(variables: Variables, images: Array, classes: Int[Array, "n"]) -> Float[Array, "n *places"]:
        return method(network, variables, normalise(images), classes, **place).astype(jnp.float32)

    return maps


def takes_unit(name: str) -> bool:
    """Return whether a method looks at the output of a unit, and not at the image alone."""
    return "unit" in inspect.signature(registry.get("attribution", name)).parameters


def units_of(network: Network) -> tuple[str, ...]:
    """Names of the network's units, bottom to top."""
    return tuple(spec.name for spec in network.units)


def maps_of(
    network: Network, variables: Variables, normalise: Callable[[Array], Array], image_shape: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
    """The places (h, w), or (d, h, w), of each unit whose output is a map, bottom to top.

    Args:
        network, variables: The network, whole or cut, and its parameters and statistics.
        normalise: Maps uint8 images to the network's input.
        image_shape: Shape of one image, ([D,] H, W, 3).
    """
    names = units_of(network)

    def outputs(given: Variables, images: Array) -> Any:
        return network.apply(given, normalise(images), capture=names)

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)
    _, features = jax.eval_shape(outputs, dict(variables), image)
    return {
        name: features[name].shape[1:-1] for name in names if features[name].ndim == network.dimensions + 2
    }


def last_map(
    network: Network, variables: Variables, normalise: Callable[[Array], Array], image_shape: tuple[int, ...]
) -> str | None:
    """The topmost unit whose output has 4 x 4 places or more in each slice; None where there is none.

    On small images that is not the last one (ResNet's is 2 x 2 at 64 pixels). Arguments as of `maps_of`.
    """
    places = maps_of(network, variables, normalise, image_shape)
    large = [name for name, shape in places.items() if min(shape[-2:]) >= MIN_SIDE]
    return large[-1] if large else None


def map_unit(
    network: Network,
    variables: Variables,
    normalise: Callable[[Array], Array],
    image_shape: tuple[int, ...],
    wanted: str | None = None,
) -> str:
    """The unit to look at: `wanted`, a name or a number from 1, or else `last_map`; other arguments as there.

    Raises:
        UserError: no such unit, or one whose output is no map.
    """
    names, places = units_of(network), maps_of(network, variables, normalise, image_shape)
    if wanted is None:
        if (last := last_map(network, variables, normalise, image_shape)) is None:
            raise UserError("no unit's output has 4 x 4 places at this image size: name the unit to look at")
        return last
    if wanted.isdigit() and not 1 <= int(wanted) <= len(names):
        raise UserError(f"there is no unit {wanted}: the network has units 1 to {len(names)}")
    name = names[int(wanted) - 1] if wanted.isdigit() else wanted
    if name not in names:
        raise UserError(f"the network has no unit {name!r}{nearest(name, names)}")
    if name not in places:
        raise UserError(f"the output of {name} is no map{nearest(name, tuple(places))}")
    return name


def enlarged(
    maps: Float[Array | np.ndarray, "n *places"], space: tuple[int, ...]
) -> Float[Array, "n *space"]:
    """Maps at the size of their images, by linear interpolation between the centres of places."""
    return jax.image.resize(jnp.asarray(maps), (maps.shape[0], *space), "linear")


@register("attribution")
def grad_cam(
    network: Network, variables: Variables, images: Array, classes: Array, unit: str
) -> Float[Array, "n *places"]:
    """ReLU(sum_k w_k A_k): A the unit's output, w_k the mean over places of the derivative of the class's
    logit by A_k (Selvaraju et al. 2017, eq. 1 and 2)."""
    features, slope = _features_and_slope(network, variables, images, classes, unit)
    return _weighted(features, slope.mean(_space(slope), keepdims=True))


@register("attribution")
def grad_cam_pp(
    network: Network, variables: Variables, images: Array, classes: Array, unit: str
) -> Float[Array, "n *places"]:
    """Grad-CAM++: only derivatives g > 0 count, each by g^2 / (2 g^2 + g^3 sum A) (Chattopadhay et al. 2018,
    eq. 19). The 1e-6 in the denominator is pytorch-grad-cam's."""
    features, slope = _features_and_slope(network, variables, images, classes, unit)
    total = features.sum(_space(features), keepdims=True)
    share = slope**2 / (2 * slope**2 + total * slope**3 + 1e-6)
    return _weighted(features, (share * jax.nn.relu(slope)).sum(_space(slope), keepdims=True))


@register("attribution")
def hires_cam(
    network: Network, variables: Variables, images: Array, classes: Array, unit: str
) -> Float[Array, "n *places"]:
    """ReLU(sum_k A_k dA_k), place by place (Draelos and Carin 2020): under a linear head on the whole map
    it is what each place adds to the logit."""
    return _weighted(*_features_and_slope(network, variables, images, classes, unit))


@register("attribution")
def eigen_cam(
    network: Network, variables: Variables, images: Array, classes: Array, unit: str
) -> Float[Array, "n *places"]:
    """ReLU of the first principal component of the unit's output over places (Muhammad and Yeasin 2020).

    It knows no class. A component has no sign: the side with the highest peak is taken as positive.
    """
    _, captured = network.apply(variables, images, capture=(unit,))
    features = captured[unit].astype(jnp.float32)
    rows = features.reshape(features.shape[0], -1, features.shape[-1])
    left, scale, _ = jnp.linalg.svd(rows - rows.mean(axis=1, keepdims=True), full_matrices=False)
    first = left[..., 0] * scale[:, :1]
    peak = jnp.take_along_axis(first, jnp.abs(first).argmax(axis=1, keepdims=True), axis=1)
    return jax.nn.relu(first * jnp.sign(peak)).reshape(features.shape[:-1])


@register("attribution")
def integrated_gradients(
    network: Network, variables: Variables, images: Array, classes: Array, nodes: int = NODES
) -> Float[Array, "n *space"]:
    """Each pixel's share of logit(image) - logit(mean image): its value times its mean derivative on the way
    (Sundararajan et al. 2017), by Gauss and Legendre's rule, summed over channels. It has a sign."""
    at, weight = np.polynomial.legendre.leggauss(nodes)
    rule = jnp.asarray((at + 1) / 2, jnp.float32), jnp.asarray(weight / 2, jnp.float32)

    def add(total: Array, node: tuple[Array, Array]) -> tuple[Array, None]:
        slope = jax.grad(lambda images: _evidence(network, variables, images, classes).sum())
        return total + node[1] * slope(node[0] * images), None

    mean, _ = lax.scan(add, jnp.zeros_like(images), rule)
    return (images * mean).sum(axis=-1)


@register("attribution")
def occlusion(
    network: Network, variables: Variables, images: Array, classes: Array
) -> Float[Array, "n *places"]:
    """The fall of the class's logit where a patch is covered by the mean colour (Zeiler and Fergus 2014).

    The patches are a grid of 8 x 8, of volumes 4 x 8 x 8. It has a sign.
    """
    space = images.shape[1:-1]
    grid = tuple(min(count, side) for count, side in zip(GRID[-len(space) :], space, strict=True))
    whole = _evidence(network, variables, images, classes)

    def fall(patch: Array) -> Float[Array, "n"]:
        covered = jnp.ones((), bool)
        for axis, place in enumerate(jnp.unravel_index(patch, grid)):
            cells = jnp.arange(space[axis]) * grid[axis] // space[axis]
            covered = covered[..., None] & (cells == place)
        return whole - _evidence(network, variables, jnp.where(covered[..., None], 0, images), classes)

    return lax.map(fall, jnp.arange(np.prod(grid))).T.reshape(-1, *grid)


def _evidence(
    network: Network, variables: Variables, inputs: Array, classes: Array, after: str | None = None
) -> Float[Array, "n"]:
    """The logit of each image's class, from images, or from the outputs of the unit `after`."""
    logits: Any = network.apply(variables, inputs, after=after)
    return jnp.take_along_axis(logits, classes[:, None], axis=1)[:, 0].astype(jnp.float32)


def _features_and_slope(
    network: Network, variables: Variables, images: Array, classes: Array, unit: str
) -> tuple[Float[Array, "n *places c"], Float[Array, "n *places c"]]:
    """A unit's output, and the derivative of the class's logit by it."""
    _, captured = network.apply(variables, images, capture=(unit,))
    features = captured[unit].astype(jnp.float32)
    return features, jax.grad(lambda x: _evidence(network, variables, x, classes, unit).sum())(features)


def _weighted(features: Array, weights: Array) -> Float[Array, "n *places"]:
    return jax.nn.relu((features * weights).sum(axis=-1))


def _space(features: Array) -> tuple[int, ...]:
    return tuple(range(1, features.ndim - 1))
