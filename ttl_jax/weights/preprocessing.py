"""Preprocessing of images that a network's weights expect."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from ttl_jax.typing import Array, Float


@dataclass(frozen=True)
class Preprocessing:
    """Normalisation that belongs to a set of weights.

    Attributes:
        mean: Mean per channel, on the scale 0..255.
        std: Standard deviation per channel, on the scale 0..255.
        channels: 3, or 1 for weights of grey images (the three are averaged).
        reverse: The weights expect blue, green, red; `mean` and `std` are in that order too.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int = 3
    reverse: bool = False

    def normalise(self, images: Float[Array, "n *space 3"]) -> Float[Array, "n *space c"]:
        """Return (image - mean) / std in float32; images are uint8 or float on 0..255."""
        images = images.astype(jnp.float32)
        if self.channels == 1:
            images = images.mean(-1, keepdims=True)
        elif self.reverse:
            images = jnp.flip(images, -1)
        return (images - jnp.asarray(self.mean)) / jnp.asarray(self.std)

    def grey(self) -> Preprocessing:
        """Return the same preprocessing for a network of one channel."""
        count = len(self.mean)
        return Preprocessing((sum(self.mean) / count,), (sum(self.std) / count,), channels=1)


# ImageNet's mean and standard deviation as every torchvision model uses them, times 255.
IMAGENET = Preprocessing((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))
LITE = Preprocessing((127.0,) * 3, (128.0,) * 3)  # the PyPI packages' (x - 127) / 128
# Keras' VGG was trained in Caffe: means only, and blue first.
KERAS_VGG = Preprocessing((103.939, 116.779, 123.68), (1.0,) * 3, reverse=True)
# torchxrayvision scales 0..255 to -1024..1024: (2 x / 255 - 1) * 1024
XRAY = Preprocessing((127.5,), (127.5 / 1024,), channels=1)
# torchvision's video models, trained on Kinetics-400
KINETICS = Preprocessing(
    (0.43216 * 255, 0.394666 * 255, 0.37645 * 255), (0.22803 * 255, 0.22145 * 255, 0.216989 * 255)
)
# Inception's -1..1, which BiT was trained with
SYMMETRIC = Preprocessing((127.5,) * 3, (127.5,) * 3)
CLIP = Preprocessing(
    (0.48145466 * 255, 0.4578275 * 255, 0.40821073 * 255),
    (0.26862954 * 255, 0.26130258 * 255, 0.27577711 * 255),
)
# Where a network's weights expect something else than torchvision's ImageNet models do.
USUAL = {
    **dict.fromkeys(("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"), LITE),
    "resnet18_3d": KINETICS,
    "clip_resnet50": CLIP,
    "bit_r50x1": SYMMETRIC,
    "bit_r50x3": SYMMETRIC,
}
