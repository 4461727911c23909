"""The data of one phase: images, or the outputs of its frozen units, computed once, in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax

from ttl_jax import data
from ttl_jax.data.dataset import Dataset
from ttl_jax.strategies import LabelledPhase
from ttl_jax.training.batch_statistics import anything_moves, estimate_of, make_reestimate
from ttl_jax.training.frozen import prefix
from ttl_jax.training.frozen.inputs import Inputs, as_they_are
from ttl_jax.training.frozen.store import Hold, in_file, in_memory
from ttl_jax.training.predictor import Predictor, make_predict
from ttl_jax.training.step import Prepare
from ttl_jax.typing import Variables

ADAPTED = 20  # batches; the means of more differ by less than the batches of a step do


@dataclass(frozen=True)
class PhaseData:
    """The data that a phase trains on and is validated on.

    Before `computed` it holds only what the phase's programs depend on, enough to compile them ahead.

    Attributes:
        inputs: the run's inputs.
        bound: the phase, bound to the network.
        sets: "train" and "val" as the phase reads them: images, or frozen features once computed.
        frozen: the function whose outputs take the place of the images (frozen features); None for images.
        feature: shape and type of the frozen features of one image.
        views: augmented views of each image, by split, where frozen features are used.
    """

    inputs: Inputs
    bound: LabelledPhase
    sets: Mapping[str, Dataset]
    frozen: prefix.Prefix | None = None
    feature: jax.ShapeDtypeStruct | None = None
    views: Mapping[str, int] | None = None

    @property
    def after(self) -> str | None:
        """The unit whose outputs the batches hold instead of images, if any."""
        return self.frozen.after if self.frozen is not None else None

    @property
    def prepare(self) -> Prepare:
        """(what a batch holds as "image", keys) -> what the network takes."""
        return as_they_are if self.frozen is not None else self.inputs.prepare

    def one(self) -> jax.ShapeDtypeStruct:
        """Shape and type of one image, which is read, or of its features."""
        return self.feature if self.feature is not None else self.inputs.one_image()

    # Reading.

    def computed(self, variables: Variables) -> PhaseData:
        """The same with the outputs of the frozen units, of these variables, in the place of the images."""
        if self.frozen is None or self.views is None:
            return self
        return replace(self, sets={name: self._features(name, variables) for name in self.views})

    def batches(self, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yields the training batches of these steps."""
        return self.inputs.batches(self.sets["train"], start, stop)

    def validate(self, variables: Variables) -> dict[str, Any]:
        """Computes the scores on the validation split.

        Raises:
            Preempted: asked to stop meanwhile.
        """
        # It waits where the program was begun.
        self.inputs.session.programs.get(("validation", self.after), lambda: None)
        return self.inputs.scores(self.sets["val"], variables, self._validator())

    def estimated(self, variables: Variables) -> Variables:
        """Variables with the BatchNorm statistics that are to be validated and kept: their own, or with
        `model.bn_estimate="precise(n)"` those of the first n training batches of the run, always the same,
        so that validations differ by their weights alone.

        Args:
            variables: whole on every device.
        """
        count = estimate_of(self.inputs.config.model).batches
        return self._with_moments(variables, count, self.bound.still) if count else variables

    def adapted(self, variables: Variables) -> Variables:
        """Variables whose BatchNorms, all of them, have the moments of the training images (bn="adapted").

        Of the run's first `ADAPTED` batches. Called before frozen features take the images' place.

        Args:
            variables: whole on every device.
        """
        return PhaseData(self.inputs, self.bound, self.inputs.sets)._with_moments(variables, ADAPTED, ())

    def _with_moments(self, variables: Variables, count: int, still: tuple[str, ...]) -> Variables:
        """Variables with the moments of the first `count` training batches in units that are not still."""
        inputs = self.inputs
        if not anything_moves(inputs.network, still, variables["batch_stats"]):
            return variables
        make = partial(
            make_reestimate, inputs.network, still, self.prepare, inputs.keys_of, self.after, inputs.layout
        )
        reestimate = inputs.session.programs.get(("statistics", still, self.after), make)
        batches = inputs.session.notice.polled(self.batches(0, count))
        return reestimate(variables, map(inputs.layout.split, batches))

    # Compiling.

    def validation_begins(self, variables: Variables, one: jax.ShapeDtypeStruct) -> Callable[[], None]:
        """The function that begins to compile, in a thread, the program that validates the phase.

        Args:
            variables: the network's variables; only shapes are read.
            one: shape and type of one image, or of its features.
        """
        inputs = self.inputs
        if not inputs.layout.plain:
            return lambda: None
        rows = inputs.eval_rows(inputs.sets["val"])
        images = jax.ShapeDtypeStruct((rows.padded, *one.shape), one.dtype)
        make = partial(self._validator().compile, variables, images)
        return partial(inputs.session.programs.begin, ("validation", self.after), make)

    def _validator(self) -> Predictor:
        """The program from what the batches hold to logits."""
        if self.after is None:
            return self.inputs.predictor()
        make = partial(make_predict, self.inputs.network, lambda features: features, after=self.after)
        return self.inputs.session.programs.get(("predict", self.after), make)

    # Features.

    def _features(self, name: str, variables: Variables) -> Dataset:
        """A split with features in the place of its images."""
        assert self.frozen is not None and self.feature is not None and self.views is not None
        inputs, views, split = self.inputs, self.views[name], self.inputs.sets[name]
        drawn = name == "train" and bool(data.augmentation(inputs.config.data))
        prepare = inputs.prepare if drawn else inputs.plain
        compute = inputs.session.programs.get(
            ("prefix", self.after, "drawn" if drawn else "plain"),
            partial(prefix.make_compute, self.frozen, prepare, inputs.keys_of),
        )
        size, seed = inputs.config.data.eval_batch_size, inputs.config.seed
        fill = partial(prefix.fill, split, variables, compute, self.frozen.after, size, seed)
        shape = (views, len(split), *self.feature.shape)
        return prefix.with_features(split, self._hold(name, variables)(shape, self.feature.dtype, fill))

    def _hold(self, name: str, variables: Variables) -> Hold:
        """Return the holder of a split's features: shared with other runs, in a file, or in memory."""
        inputs, size = self.inputs, self._bytes
        if inputs.session.features is not None and size <= inputs.config.cache_disk_gb * 1e9:
            return inputs.session.features.hold(self._key(name, variables))
        if size > inputs.config.data.cache_gb * 1e9:
            return in_file(inputs.workdir / "features" / f"{name}.npy")
        return in_memory

    @property
    def _bytes(self) -> int:
        """Of the features of all splits."""
        assert self.feature is not None and self.views is not None
        count = sum(number * len(self.inputs.sets[name]) for name, number in self.views.items())
        return int(count * self.feature.size * self.feature.dtype.itemsize)

    def _key(self, name: str, variables: Variables) -> str:
        assert self.frozen is not None and self.views is not None
        inputs = self.inputs
        config, spec = inputs.config, data.augmentation(inputs.config.data) if name == "train" else ()
        if name not in inputs.pixels:
            inputs.pixels[name] = prefix.pixels(inputs.sets[name])
        return prefix.digest(
            self.frozen,
            variables,
            config.model.name,
            pixels=inputs.pixels[name],
            preprocessing=repr(inputs.preprocessing),
            dtype=config.model.dtype,
            batch=config.data.eval_batch_size,  # another one would round otherwise
            views=[repr(spec), config.seed, self.views[name]] if spec else [],
        )


def phase_data(inputs: Inputs, bound: LabelledPhase, variables: Variables) -> PhaseData:
    """The data of a phase, before anything is read for it.

    Features take the place of images where the lowest units are frozen and still, images are not augmented
    anew in every epoch, and there is room.

    Args:
        inputs: the run's inputs.
        bound: the phase, bound to the network.
        variables: the network's variables; only shapes are read.
    """
    images = PhaseData(inputs, bound, inputs.sets)
    return (_with_features(images, variables) if inputs.caching else None) or images


def _with_features(images: PhaseData, variables: Variables) -> PhaseData | None:
    inputs, config = images.inputs, images.inputs.config
    spec, views = data.augmentation(config.data), config.data.views
    unit = prefix.frozen_prefix(images.bound, variables["params"], config.model.name)
    if unit is None or (spec and not views):
        return None
    frozen = prefix.make_prefix(inputs.network, unit)
    normalise = inputs.preprocessing.normalise
    # Traced once, though a phase is planned before it comes and when it does.
    one = inputs.session.programs.get(
        ("one feature", unit), partial(prefix.one_feature, frozen, variables, inputs.sets["train"], normalise)
    )
    numbers = {"train": views if spec else 1, "val": 1}
    features = replace(images, frozen=frozen, feature=one, views=numbers)
    return features if features._bytes <= max(config.data.cache_gb, config.cache_disk_gb) * 1e9 else None
