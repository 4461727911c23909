"""Generated medical-looking images with known truth: five modalities, two tasks, two hospitals.

For tests, tutorials and controlled comparisons. In the "texture" task the label is the grain of a
lesion and its outline tells nothing; in the "shape" task it is the outline and the grain tells
nothing. Every image is a function of (seed, modality, task, difficulty, patient, view, size).
Nothing here is fit for any clinical conclusion.
"""

from ttl_jax.data.phantom.patients import load, masks, phantom_of, without_lesion
from ttl_jax.data.phantom.render import Rendered, render
from ttl_jax.data.phantom.sampling import CLASS_NAMES, MODALITIES, TASKS, Phantom, labels, splits

__all__ = [
    "CLASS_NAMES",
    "MODALITIES",
    "TASKS",
    "Phantom",
    "Rendered",
    "labels",
    "load",
    "masks",
    "phantom_of",
    "render",
    "splits",
    "without_lesion",
]
