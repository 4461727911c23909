"""Export of the weights as a state dict of torchvision (or of the network's original library)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ttl_jax import evaluation
from ttl_jax.deploy.export.format import Runnable
from ttl_jax.deploy.export.forward import Forward
from ttl_jax.weights import export_torch, read
from ttl_jax.weights.initialise import flatten, unflatten
from ttl_jax.weights.keymaps import canonical, names_of, to_ours

FILE = "model.pth"
NEEDS = ("torch",), "torch"
OTHER_NAMES = {"resnet18_3d": "r3d_18"}


def write(forward: Forward, path: Path, metadata: Mapping[str, str]) -> None:
    """Writes what `torch.load(FILE, weights_only=True)` reads; signature.json has the normalisation."""
    import torch

    state = export_torch(forward.variables, forward.name)
    torch.save({name: torch.from_numpy(np.array(value)) for name, value in state.items()}, path)


def open(forward: Forward, path: Path) -> Runnable:
    """torchvision's network with the weights that were written; ours, from that file, where it has none."""
    import torch

    state = torch.load(path, weights_only=True)
    theirs = _torchvision(forward, state)
    if theirs is None:
        return Runnable(
            replace(forward, variables=_read_back(forward, path)), "JAX with the weights of the file"
        )

    def predict(images: np.ndarray) -> np.ndarray:
        given = np.moveaxis(np.asarray(forward.preprocessing.normalise(jnp.asarray(images))), -1, 1)
        with torch.no_grad():
            logits = theirs(torch.from_numpy(given.copy())).numpy()
        return evaluation.probabilities(logits / forward.temperature, forward.task)

    return Runnable(predict, "torchvision")


def _torchvision(forward: Forward, state: Mapping[str, Any]) -> Any:
    """torchvision's network that has just these weights; None where there is none, or no torchvision."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError):  # not there, or of another torch
        return None
    name = OTHER_NAMES.get(forward.name, forward.name)
    if forward.tta != "none" or name not in models.list_models():
        return None
    theirs = models.get_model(name, num_classes=len(forward.class_names))
    wanted = {key: value.shape for key, value in theirs.state_dict().items() if "num_batches" not in key}
    if wanted != {key: value.shape for key, value in state.items()}:
        return None
    theirs.load_state_dict(state, strict=False)  # the counters of batches are not there
    return theirs.eval()


def _read_back(forward: Forward, path: Path) -> Any:
    theirs = names_of(flatten(forward.variables), forward.name)
    held = canonical(read(path), forward.name)
    return unflatten({ours: to_ours(ours, held[key]) for ours, key in theirs.items()})
