"""What a run's phases train on and are validated by: images, or what frozen units make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from ttl_jax import data, evaluation
from ttl_jax.data.dataset import Dataset
from ttl_jax.strategies import LabelledPhase
from ttl_jax.system.preemption import Notice
from ttl_jax.training.batch_statistics import anything_moves, estimate_of, make_reestimate
from ttl_jax.training.devices import Layout, Rows
from ttl_jax.training.frozen.inputs import Inputs, as_they_are
from ttl_jax.training.loop import Feed, Outline
from ttl_jax.training.predict import Predict, Predictor, logits_of, make_predict
from ttl_jax.typing import Float, Variables


@dataclass(frozen=True)
class Feeding:
    """The feeds of one run.

    Attributes:
        inputs: of the run.
        layout: of its devices.
        notice: polled between the batches of a validation.
        caching: whether the outputs of frozen units may take the place of the images.
    """

    inputs: Inputs
    layout: Layout
    notice: Notice
    caching: bool

    def outline(self, bound: LabelledPhase, variables: Variables) -> Outline:
        """Of a phase, before anything is read for it; of the variables the shapes alone matter."""
        inputs = self.inputs
        frozen = inputs.plan(bound, variables) if self.caching else None
        if frozen is not None:
            return Outline(as_they_are, lambda: frozen.one, frozen, bound.still)
        return self.images(bound)

    def images(self, bound: LabelledPhase) -> Outline:
        """Of a phase that is fed images, whatever of it is frozen."""
        return Outline(self.inputs.prepare, self.inputs.one_image, still=bound.still)

    def feed(self, outline: Outline, variables: Variables) -> Feed:
        """Of a phase that begins with these variables: what its frozen units give is computed here."""
        fed, predict = self.inputs.sets, self._validator(outline)
        if outline.frozen is not None:
            fed = self.inputs.computed(outline.frozen, variables)

        def validate(variables: Variables) -> dict[str, Any]:
            self.inputs.programs.get(("validation", outline.after), lambda: None)  # waits, where it was begun
            return self.scores(fed["val"], variables, predict)

        estimated = partial(self.estimated, outline, fed["train"])
        return Feed(partial(self._batches, fed["train"]), validate, fed["train"], estimated)

    def estimated(self, outline: Outline, training: Dataset, variables: Variables) -> Variables:
        """Variables with the BatchNorm statistics that are to be validated and kept: their own, or with
        `model.bn_estimate="precise(n)"` those of the first n training batches of the run, always the same,
        so that validations differ by their weights alone.

        Args:
            outline: of the phase.
            training: of images or the outputs of frozen units, as the outline says.
            variables: whole on every device.
        """
        inputs, count = self.inputs, estimate_of(self.inputs.config.model).batches
        network, still = inputs.network, outline.still
        if not count or not anything_moves(network, still, variables["batch_stats"]):
            return variables
        make = partial(
            make_reestimate, network, still, outline.prepare, inputs.keys_of, outline.after, self.layout
        )
        reestimate = inputs.programs.get(("statistics", still, outline.after), make)
        batches = self.notice.polled(self._batches(training, 0, count))
        return reestimate(variables, map(self.layout.split, batches))

    def one_batch(self) -> dict[str, Any]:
        """A training batch of images, placed."""
        return self.layout.place_batch(next(self._batches(self.inputs.sets["train"], 0, 1)))

    def _batches(self, training: Dataset, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """The batches of these steps, of images or the outputs of frozen units."""
        config = self.inputs.config
        rows = self.layout.rows(config.data.batch_size)
        return data.train_batches(
            training,
            batch_size=config.data.batch_size,
            seed=config.seed,
            start=start,
            stop=stop,
            sampling=config.data.sampling,
            threads=config.data.loader_threads,
            padded=rows.padded,
            rows=rows.own,
        )

    def ahead(
        self, outline: Outline, variables: Variables, image: jax.ShapeDtypeStruct
    ) -> Callable[[], None]:
        """What begins to compile, in a thread, the program that validates a phase.

        Args:
            outline: of the phase.
            variables: of the network; their shapes alone matter.
            image: shape and type of one, or of its features.
        """
        if not self.layout.plain:
            return lambda: None
        rows = self._rows(self.inputs.sets["val"])
        images = jax.ShapeDtypeStruct((rows.padded, *image.shape), image.dtype)
        make = partial(self._validator(outline).compile, variables, images)
        return partial(self.inputs.programs.begin, ("validation", outline.after), make)

    def _validator(self, outline: Outline) -> Predictor:
        """The program from what a phase's batches hold to logits."""
        if outline.after is None:
            return self.predictor()
        make = partial(make_predict, self.inputs.network, lambda features: features, after=outline.after)
        return self.inputs.programs.get(("predict", outline.after), make)

    def predictor(self, tta: str = "none") -> Predictor:
        """The program from images to logits, averaged over the views that `tta` names."""
        make = partial(make_predict, self.inputs.network, self.inputs.preprocessing.normalise, tta=tta)
        return self.inputs.programs.get("predict" if tta == "none" else "views", make)

    def logits(
        self, split: Dataset, variables: Variables, predict: Predict
    ) -> Float[np.ndarray, "n classes"]:
        """Of all examples of a split, in its order."""
        rows = self._rows(split)
        batches = data.eval_batches(split, rows.padded, rows=rows.own)
        return logits_of(self.layout.spread(predict), variables, self.notice.polled(batches))

    def _rows(self, split: Dataset) -> Rows:
        """How its batches are cut up."""
        return self.layout.rows(min(self.inputs.config.data.eval_batch_size, len(split)), parts=1)

    def scores(self, split: Dataset, variables: Variables, predict: Predict) -> dict[str, Any]:
        """The figures of a split."""
        logits = self.logits(split, variables, predict)
        return evaluation.score(split.labels, logits, split.class_names, split.task)
