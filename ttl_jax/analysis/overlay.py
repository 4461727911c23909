"""An image under the map of what spoke for its class."""

from __future__ import annotations

import numpy as np

from ttl_jax.typing import Float, UInt8

STRENGTH = 0.65  # of the colour where the evidence is strongest
SATURATED = 0.005  # share of pixels in the strongest colour: one odd pixel shall not dim all others


def overlay(image: UInt8[np.ndarray, "h w 3"], heat: Float[np.ndarray, "a b"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image under its map: enlarged to it bilinearly, scaled to its own strongest places, in colours that
    keep their order in grey (inferno); where nothing speaks for the class the image stays as it is."""
    from matplotlib import colormaps
    from PIL import Image

    height, width = image.shape[:2]
    large = Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    scaled = np.maximum(np.asarray(large), 0)
    top = float(np.quantile(scaled, 1 - SATURATED)) or float(scaled.max())
    share = np.clip(scaled / max(top, 1e-30), 0, 1)[..., None]
    colours = 255 * colormaps["inferno"](share[..., 0])[..., :3]
    return np.round(image * (1 - STRENGTH * share) + colours * STRENGTH * share).astype(np.uint8)
