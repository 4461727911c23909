"""Features and fingerprints of a run's training images, by which others are compared with them.

No pixels are kept, and no names but the ids that prediction files hold too. A fingerprint is the sign and
size of 143 waves across the image, the longest ones: as much as a picture of 12 x 12 pixels.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax import data
from ttl_jax.data.dataset import Dataset
from ttl_jax.data.pseudonyms import pseudonymous
from ttl_jax.data.splits.fingerprint import WAVES, low_frequencies, pixel_hash, thumbnail
from ttl_jax.errors import UserError
from ttl_jax.evaluation.out_of_distribution import distance
from ttl_jax.system.whole_file import whole_file
from ttl_jax.training.predictor import Predict, logits_of
from ttl_jax.training.trainer import Trainer
from ttl_jax.typing import Float, Shaped, UInt8, Variables

FILE = "training_features.npz"
MOST = 20_000  # images; of more a random part is kept


@dataclass(frozen=True)
class Described:
    """Images as the network and the leak check see them.

    Attributes:
        features: pooled outputs of the last unit, float16 (N, D).
        hashes: digests of the pixels at the size trained on, (N, 16); 0 for an image of one colour.
        fingerprints: `fingerprint.low_frequencies` of thumbnails, float16 (N, 143).
    """

    features: Float[np.ndarray, "n d"]
    hashes: UInt8[np.ndarray, "n 16"]
    fingerprints: Float[np.ndarray, "n 143"]


@dataclass(frozen=True)
class TrainingFeatures(Described):
    """The content of training_features.npz.

    Attributes:
        ids: (N,), as prediction files have them.
        labels: int32 (N,) or float32 (N, L) with NaN for unknown.
        images: number of training images, of which N are described.
        validation: distance of every validation image to these, in the order of predictions/val.npz.
    """

    ids: Shaped[np.ndarray, "n"]
    labels: Shaped[np.ndarray, "..."]
    images: int
    validation: Float[np.ndarray, "m"]


def describe(predict: Predict, variables: Variables, batches: Iterable[dict[str, np.ndarray]]) -> Described:
    """Describe images in one pass.

    Args:
        predict: (variables, images) -> pooled features, of `Network.pooled`.
        variables: the network's variables.
        batches: of `data.eval_batches`.
    """
    hashes: list[bytes] = []
    thumbnails: list[np.ndarray] = []

    def noted() -> Iterator[dict[str, np.ndarray]]:
        for batch in batches:
            for image in batch["image"][batch["mask"] > 0]:
                hashes.append(pixel_hash(image) or bytes(16))
                thumbnails.append(_thumbnail(image))
            yield batch

    features = logits_of(predict, variables, noted())
    return Described(
        features.astype(np.float16),
        np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 16),
        low_frequencies(np.stack(thumbnails)).astype(np.float16),
    )


def write_training_features(trainer: Trainer, variables: Variables) -> None:
    """Write training_features.npz, unless it is there or the config leaves it out; first process alone.

    Args:
        trainer: the run's trainer.
        variables: the weights that the run keeps, on one device.
    """
    inputs, path = trainer.inputs, trainer.inputs.workdir / FILE
    if path.exists() or not trainer.config.training_features:
        return
    training, validation = _some(inputs.sets["train"]), inputs.sets["val"]

    def described(split: Dataset) -> Described:
        size = min(trainer.config.data.eval_batch_size, len(split))
        batches = inputs.session.notice.polled(data.eval_batches(split, size), alone=True)
        return describe(inputs.featurizer(), variables, batches)

    of_training = described(training)
    content = TrainingFeatures(
        **vars(of_training),
        ids=pseudonymous(training).ids,
        labels=training.labels,
        images=len(inputs.sets["train"]),
        validation=distance(of_training.features, described(validation).features),
    )
    with whole_file(path) as beside, beside.open("wb") as file:
        np.savez(file, **vars(content))


def load_training_features(workdir: Path) -> TrainingFeatures:
    """Read what a run kept of its training images.

    Raises:
        UserError: it kept nothing, or the file is damaged.
    """
    path = workdir / FILE
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays: dict[str, Any] = {name: file[name] for name in TrainingFeatures.__dataclass_fields__}
        if arrays["fingerprints"].shape[1:] != (WAVES**2 - 1,):
            raise ValueError("its fingerprints are of another version")
    except FileNotFoundError:
        raise UserError(
            f"{workdir} keeps no features of its training images (training_features=False, or an earlier "
            "version of ttl_jax); the command that trained it, given again, writes them"
        ) from None
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be used ({error}); remove it and give the command that trained the run again"
        ) from None
    return TrainingFeatures(**arrays | {"images": int(arrays["images"])})


def _some(training: Dataset) -> Dataset:
    """At most MOST images, drawn at random and in their order, the same ones every time."""
    if len(training) <= MOST:
        return training
    return training.take(np.sort(np.random.default_rng(0).choice(len(training), MOST, replace=False)))


def _thumbnail(image: UInt8[np.ndarray, "... S S 3"]) -> UInt8[np.ndarray, "32 32"]:
    """Of a volume that of its middle slice."""
    from PIL import Image

    return thumbnail(Image.fromarray(image if image.ndim == 3 else image[len(image) // 2]))
