"""Pretrained variables for a network: strict about every name and shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax import models
from ttl_jax.errors import UserError
from ttl_jax.models import volume
from ttl_jax.system import remote
from ttl_jax.typing import Variables
from ttl_jax.weights.inflate import inflate_leaves
from ttl_jax.weights.initialise import flatten, template
from ttl_jax.weights.keymaps import canonical, names_of, to_ours, to_torch
from ttl_jax.weights.keymaps.styles import is_keras
from ttl_jax.weights.merge import Report, merge
from ttl_jax.weights.preprocessing import IMAGENET, KERAS_VGG, USUAL, XRAY, Preprocessing
from ttl_jax.weights.pretrained import CATALOGUE, keys, locate
from ttl_jax.weights.readers import read

HEAD = "params/head/kernel"


def load(
    source: str | Path | Mapping[str, np.ndarray],
    name: str,
    *,
    num_classes: int | None = None,
    cut: int | str | None = None,
    slim_from: int | None = None,
    slim: int = 2,
    head: str | None = None,
    partial: bool = False,
    seed: int = 0,
    image_size: int = 224,
    depth: int = 16,
    inflation: str = "mean",
) -> Variables:
    """Load pretrained weights into a network's structure.

    Args:
        source: A catalogue key such as "imagenet", a path, or a state dict (names to arrays) of torchvision,
            timm, torchxrayvision, Keras, or our own ("params/stem/conv/kernel").
        name: Name of the network.
        num_classes: Number of outputs of the head; None takes the file's. The file's head is used if it fits;
            if not, a fresh one starts from the seed.
        cut, slim_from, slim, head: Shape of the network, as for `models.create`. Units above the cut are left
            out; units from `slim_from` on start fresh.
        partial: Units that the file lacks altogether start fresh. By default they are an error.
        seed: Seed of everything that starts fresh.
        image_size: Pixels per side; used only by a "flatten" head.
        depth: Slices per volume; used only by a "flatten" head.
        inflation: How a file's 2D weights become those of a 3D network: "mean" or "centre" (see `inflate`).

    Returns:
        {"params", "batch_stats"} of float32 arrays, complete.

    Raises:
        UserError: listing every missing, extra and mis-shaped name, of parameters and statistics.
    """
    return load_with_report(
        source, name, num_classes=num_classes, cut=cut, slim_from=slim_from, slim=slim, head=head,
        partial=partial, seed=seed, image_size=image_size, depth=depth, inflation=inflation,
    )[0]  # fmt: skip


def load_with_report(
    source: str | Path | Mapping[str, np.ndarray],
    name: str,
    *,
    num_classes: int | None = None,
    cut: int | str | None = None,
    slim_from: int | None = None,
    slim: int = 2,
    head: str | None = None,
    partial: bool = False,
    seed: int = 0,
    image_size: int = 224,
    depth: int = 16,
    inflation: str = "mean",
) -> tuple[Variables, Report]:
    """Do as `load`, and report which units were loaded and which start fresh."""
    models.units(name)  # an unknown network is the first thing to say
    arrays, said = _arrays(source, name)
    if _needs_depth(arrays, name):
        arrays = _with_depth(arrays, name, inflation)
    given = _torch_named(arrays, name)
    whole = template(name, 1, channels=_channels(given, name))
    theirs = names_of(whole, name)
    file_classes = _classes(given, theirs)
    if num_classes is None and file_classes is None:
        raise UserError(f"weights {said} hold no head ({theirs[HEAD]}) for {name}: say num_classes")
    classes = num_classes if num_classes is not None else file_classes
    assert classes is not None
    wanted = template(
        name, classes, channels=_channels(given, name), image_size=image_size, depth=depth,
        cut=cut, slim_from=slim_from, slim=slim, head=head,
    )  # fmt: skip
    start_fresh = slim_units(wanted, whole, name) if slim_from is not None else set()
    if file_classes != classes or start_fresh or not _takes_head(given, wanted, whole, theirs, partial):
        start_fresh.add("head")
    if "head" in start_fresh:
        given = _without_other_head(given, theirs)
    return merge(given, wanted, theirs, name, start_fresh=start_fresh, partial=partial, seed=seed, said=said)


def _arrays(source: str | Path | Mapping[str, np.ndarray], name: str) -> tuple[dict[str, np.ndarray], str]:
    if isinstance(source, Mapping):
        if set(source) <= {"params", "batch_stats"}:  # variables
            return {key: np.asarray(value) for key, value in flatten(source).items()}, "given"
        return {key: np.asarray(value) for key, value in source.items()}, "given"
    return read(find(source, name)), str(source)


def find(source: str | Path, name: str) -> Path:
    """Return the local file of a source; download it on first use. A path is not checked.

    Raises:
        UserError: a key of the catalogue that has no such network, or whose file cannot be had.
    """
    path = Path(remote.local(str(source))).expanduser()
    # A key of the catalogue comes first: the current folder may well hold data called "imagenet".
    unknown = not path.exists() and len(path.parts) == 1 and not path.suffix
    return locate(str(source), name) if str(source) in keys() or unknown else path


def _needs_depth(arrays: Mapping[str, np.ndarray], name: str) -> bool:
    """Return True if the file has 2D convolutions and the network is 3D."""
    ranks = {value.ndim for value in arrays.values()}
    return name in volume.NAMES and 4 in ranks and 5 not in ranks


def _with_depth(arrays: Mapping[str, np.ndarray], name: str, how: str) -> dict[str, np.ndarray]:
    """Return the 2D namesake's tensors under our paths, inflated; unknown tensors stay as they are."""
    flat = name.removesuffix(volume.SUFFIX)
    paths = {theirs: ours for ours, theirs in names_of(template(flat, 1), flat).items()}
    named = _torch_named(arrays, flat)
    known = {paths[key]: to_ours(paths[key], value) for key, value in named.items() if key in paths}
    unknown = {key: value for key, value in named.items() if key not in paths}
    return inflate_leaves(known, volume.WINDOW_DEPTH[name], how) | unknown


def _torch_named(arrays: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Return tensors under torchvision's names and in torch's layout, whoever wrote them."""
    if not any(key.startswith("params/") for key in arrays):
        return canonical(arrays, name)
    theirs = names_of(template(name, 1), name)
    return {
        (theirs[key] if key in theirs else key): _as_torch(key, value)
        for key, value in arrays.items()
        if key in theirs or not key.startswith("params/head/")  # a head of another kind
    }


def _channels(given: Mapping[str, np.ndarray], name: str) -> int:
    """Return the number of image channels that the file's first convolution expects: 3, or 1 for gray.

    Raises:
        UserError: another number.
    """
    path = _first_kernel(name)
    first = names_of([path], name)[path]
    if first in given and given[first].ndim in (4, 5):
        channels = int(given[first].shape[1])
        if channels not in (1, 3):
            raise UserError(
                f"weights for {name} take images of {channels} channels ({first} is {given[first].shape}): "
                "they have 3 here, or 1; use weights for those, or model.weights=none"
            )
        return channels
    return 3


def _first_kernel(name: str) -> str:
    """Return the convolution of the first unit that sees the image: the only one with its odd channels."""
    first, channels = f"params/{models.units(name)[0].name}/", 5
    leaves = template(name, 1, channels=channels, cut=1)
    return next(
        path
        for path, leaf in leaves.items()
        if path.startswith(first) and path.endswith("/kernel") and leaf.shape[-2] == channels
    )


def _classes(given: Mapping[str, np.ndarray], theirs: Mapping[str, str]) -> int | None:
    """Return the number of outputs of the file's head; None if it has none."""
    for key in (theirs[HEAD], theirs["params/head/bias"]):
        if key in given and given[key].ndim:
            return int(given[key].shape[0])
    return None


def _without_other_head(given: dict[str, np.ndarray], theirs: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Leave out, aloud, a head of another kind, as fc.1.weight of Sequential(Dropout, Linear)."""
    names, kernel = set(theirs.values()), theirs[HEAD]
    top, module = f"{kernel.partition('.')[0]}.", f"{kernel.rpartition('.')[0]}."
    own = {theirs[path] for path in theirs if path.startswith("params/head/")}
    below = module if any(name.startswith(top) for name in names - own) else top
    other = [key for key in given if key.startswith(below) and key not in names]
    if other:
        some = ", ".join(repr(key[:60]) for key in other[:3])
        print(f"weights: left out a head of another kind ({some}); it starts fresh", flush=True)
    return {key: value for key, value in given.items() if key not in other}


def _takes_head(
    given: Mapping[str, np.ndarray],
    wanted: Mapping[str, Any],
    whole: Mapping[str, Any],
    theirs: Mapping[str, str],
    partial: bool,
) -> bool:
    """Return True if the file's head has the right classes and sits on the features it was trained on."""
    if any(theirs[path] in given for path in whole if path not in wanted):
        return False  # units between them are left out
    own = set(wanted) == set(whole) and wanted[HEAD].shape[0] == whole[HEAD].shape[0]
    if own and not partial:
        return True  # and if its shape is wrong, that is an error
    kernel = theirs[HEAD]
    return HEAD in wanted and kernel in given and given[kernel].shape == wanted[HEAD].shape[::-1]


def slim_units(wanted: Mapping[str, Any], whole: Mapping[str, Any], name: str) -> set[str]:
    """Return the units from the first one whose widths differ from the whole network's."""
    changed = {
        models.unit_of(name, path.split("/")[1:])
        for path, leaf in wanted.items()
        if path.split("/")[1] != "head" and leaf.shape != whole[path].shape
    }
    order = [unit.name for unit in models.units(name)]
    first = min((order.index(unit) for unit in changed), default=len(order))
    return set(order[first:])


def _as_torch(path: str, value: np.ndarray) -> np.ndarray:
    """Convert our layout to torch's; a tensor of an impossible rank stays, for the error to name."""
    try:
        return to_torch(path, value)
    except ValueError:
        return value


def preprocessing(source: str | Path, name: str) -> Preprocessing:
    """Return the preprocessing that the weights of a source expect.

    A file's are those of the network's ImageNet weights, unless its content says otherwise: Keras'
    VGG, and first convolutions of one channel (a DenseNet's are taken for torchxrayvision's). A file
    that is no longer there is judged by its name.
    """
    if (str(source), name) in CATALOGUE:
        return CATALOGUE[str(source), name].preprocessing
    usual = USUAL.get(name, IMAGENET)
    path = Path(remote.local(str(source))).expanduser()
    stem = path.name.lower()
    if path.is_file():
        arrays = read(path)
        keras, channels = is_keras(arrays), _channels(_torch_named(arrays, name), name)
    else:
        keras = path.suffix in (".h5", ".hdf5")
        channels = 1 if "xrv" in stem or "xray" in stem or stem.startswith("nih-") else 3
    if channels == 1:
        is_xray = name.startswith("densenet") and name not in volume.NAMES
        return XRAY if is_xray else usual.grey()
    return KERAS_VGG if keras and name.startswith("vgg") else usual
