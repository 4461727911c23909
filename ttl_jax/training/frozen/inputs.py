"""The inputs of a run: its splits, how an image is prepared, and the logits of a split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax import data, evaluation, weights
from ttl_jax.config import RunConfig
from ttl_jax.data.batches import Rows
from ttl_jax.data.dataset import Dataset
from ttl_jax.models import Network
from ttl_jax.training.devices import ONE, Layout
from ttl_jax.training.predictor import Predict, Predictor, logits_of, make_predict
from ttl_jax.training.programs import Session
from ttl_jax.typing import Array, Float, Variables


@dataclass(frozen=True)
class Inputs:
    """The inputs of one run.

    Attributes:
        config: the run's config.
        network: the network after the strategy's surgery.
        preprocessing: the normalisation that the weights were trained with.
        sets: the splits: "train", "val" and what else there is.
        workdir: the run's folder.
        session: what the process lends; its notice is polled between batches, its programs are reused.
        layout: the devices and how they share a batch.
        caching: whether cached outputs of frozen units may take the place of images.
    """

    config: RunConfig
    network: Network
    preprocessing: weights.Preprocessing
    sets: Mapping[str, Dataset]
    workdir: Path
    session: Session
    layout: Layout = ONE
    caching: bool = False
    pixels: dict[str, str] = field(default_factory=dict)  # digest of a split's images, where it was asked for

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

    def one_batch(self) -> dict[str, Any]:
        """A training batch of images, placed."""
        return self.layout.place_batch(next(self.batches(self.sets["train"], 0, 1)))

    def batches(self, training: Dataset, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Yields the training batches of these steps.

        Args:
            training: the training split, of images or the outputs of frozen units.
            start, stop: steps done before the first batch and after the last one.
        """
        config = self.config
        return data.train_batches(
            training,
            batch_size=config.data.batch_size,
            seed=config.seed,
            start=start,
            stop=stop,
            sampling=config.data.sampling,
            threads=config.data.loader_threads,
            rows=self.layout.rows(config.data.batch_size),
        )

    def predictor(self, tta: str = "none") -> Predictor:
        """The program from images to logits, averaged over the views that `tta` names."""
        make = partial(make_predict, self.network, self.preprocessing.normalise, tta=tta)
        return self.session.programs.get("predict" if tta == "none" else "views", make)

    def featurizer(self) -> Predictor:
        """The program from images to the pooled features of the last unit."""
        make = partial(make_predict, self.network.pooled(), self.preprocessing.normalise)
        return self.session.programs.get("pooled", make)

    def logits(
        self, split: Dataset, variables: Variables, predict: Predict
    ) -> Float[np.ndarray, "n classes"]:
        """Computes the logits of all examples of a split, in its order.

        Raises:
            Preempted: asked to stop before the last batch.
        """
        rows = self.eval_rows(split)
        batches = data.eval_batches(split, rows.padded, rows=rows.own)
        return logits_of(self.layout.spread(predict), variables, self.session.notice.polled(batches))

    def eval_rows(self, split: Dataset) -> Rows:
        """Split an evaluation batch into rows."""
        return self.layout.rows(min(self.config.data.eval_batch_size, len(split)), parts=1)

    def scores(self, split: Dataset, variables: Variables, predict: Predict) -> dict[str, Any]:
        """Computes the figures of a split; see `evaluation.score`."""
        logits = self.logits(split, variables, predict)
        return evaluation.score(split.labels, logits, split.class_names, split.task)


def as_they_are(images: Array, keys: Array) -> Array:
    """Cached features need no preparation."""
    return images
