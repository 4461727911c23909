"""What the network gets for an example: its image, drawn and normalised, or the outputs of frozen units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax import data, weights
from ttl_jax.data.dataset import Dataset
from ttl_jax.models import Network
from ttl_jax.strategies import LabelledPhase
from ttl_jax.training.frozen import prefix
from ttl_jax.training.frozen.store import FeatureStore, Hold, in_file, in_memory
from ttl_jax.training.programs import Programs
from ttl_jax.typing import Array, Variables


@dataclass(frozen=True)
class Frozen:
    """What of a phase is the same in every epoch, so that it is computed once.

    Attributes:
        stand_in: for the units that are frozen.
        views: of each image in "train" and "val".
        one: shape and type of its output for one image.
        bytes: of all of it.
    """

    stand_in: prefix.Prefix
    views: Mapping[str, int]
    one: jax.ShapeDtypeStruct
    bytes: int


@dataclass(frozen=True)
class Inputs:
    """The inputs of one run.

    Attributes:
        config: of the run.
        network: after the strategy's surgery.
        preprocessing: of its weights.
        sets: "train", "val" and what else there is.
        programs: keeps what is compiled here.
        store: of features that runs share, if they do.
        workdir: of the run.
    """

    config: Any
    network: Network
    preprocessing: weights.Preprocessing
    sets: Mapping[str, Dataset]
    programs: Programs
    store: FeatureStore | None
    workdir: Path
    _pixels: dict[str, str] = field(default_factory=dict)

    def keys_of(self, batch: Mapping[str, Array]) -> Array:
        """(N,) PRNG keys, a function of (seed, epoch or view, example) alone."""
        views = self.config.data.views
        epoch = batch["epoch"] % views if views else batch["epoch"]
        return data.example_keys(batch["seed"], epoch, batch["example"])

    def prepare(self, images: Array, keys: Array) -> Array:
        """uint8 images and their keys -> augmented, normalised."""
        spec = data.augmentation(self.config.data)
        return self.preprocessing.normalise(data.augment(images.astype(jnp.float32), keys, spec))

    def plain(self, images: Array, keys: Array) -> Array:
        """uint8 images -> normalised."""
        return self.preprocessing.normalise(images)

    def one_image(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one image; it reads one."""
        images = self.sets["train"].images.read(np.zeros(1, np.int64))
        return jax.ShapeDtypeStruct(images.shape[1:], images.dtype)

    def plan(self, bound: LabelledPhase, variables: Variables) -> Frozen | None:
        """What of a phase can be computed once.

        Args:
            bound: the phase.
            variables: of the network; their shapes alone matter.

        Returns:
            None where no bottom unit is frozen and still, where images are augmented anew in every
            epoch, or where there is no room.
        """
        config = self.config
        spec, views = data.augmentation(config.data), config.data.views
        unit = prefix.frozen_prefix(bound, variables["params"], config.model.name)
        if unit is None or (spec and not views):
            return None
        stand_in = prefix.make_prefix(self.network, unit)
        numbers = {"train": views if spec else 1, "val": 1}
        one = self.programs.get(  # traced once, though a phase is planned before it comes and when it does
            ("one feature", unit),
            partial(
                prefix.one_feature, stand_in, variables, self.sets["train"], self.preprocessing.normalise
            ),
        )
        count = sum(number * len(self.sets[name]) for name, number in numbers.items())
        size = count * one.size * one.dtype.itemsize
        if size > max(config.data.cache_gb, config.cache_disk_gb) * 1e9:
            return None
        return Frozen(stand_in, numbers, one, size)

    def computed(self, frozen: Frozen, variables: Variables) -> dict[str, Dataset]:
        """{"train", "val"} with the outputs of the frozen units in the place of the images."""
        config, stand_in, size = self.config, frozen.stand_in, frozen.bytes
        drawn = bool(data.augmentation(config.data))
        kinds = {"train": "drawn" if drawn else "plain", "val": "plain"}
        functions = {"drawn": self.prepare, "plain": self.plain}

        def hold(name: str, number: int) -> Hold:
            if self.store is not None and size <= config.cache_disk_gb * 1e9:
                return self.store.hold(self._key(stand_in, variables, name, number))
            if size > config.data.cache_gb * 1e9:
                return in_file(self.workdir / "features" / f"{name}.npy")
            return in_memory

        return {
            name: prefix.with_features(
                stand_in,
                variables,
                self.sets[name],
                config.data.eval_batch_size,
                self.programs.get(
                    ("prefix", stand_in.after, kinds[name]),
                    partial(prefix.make_compute, stand_in, functions[kinds[name]], self.keys_of),
                ),
                frozen.one,
                config.seed,
                number,
                hold(name, number),
            )
            for name, number in frozen.views.items()
        }

    def _key(self, stand_in: prefix.Prefix, variables: Variables, name: str, number: int) -> str:
        config = self.config
        if name not in self._pixels:
            self._pixels[name] = prefix.pixels(self.sets[name])
        spec = data.augmentation(config.data) if name == "train" else ()
        return prefix.digest(
            stand_in,
            variables,
            config.model.name,
            pixels=self._pixels[name],
            preprocessing=repr(self.preprocessing),
            dtype=config.model.dtype,
            batch=config.data.eval_batch_size,  # another one would round otherwise
            views=[repr(spec), config.seed, number] if spec else [],
        )


def as_they_are(images: Array, keys: Array) -> Array:
    """Cached features need no preparation."""
    return images
