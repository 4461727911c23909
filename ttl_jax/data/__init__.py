"""Images and labels: sources, checks, splits, batches, augmentation on the device."""

from ttl_jax.data import views
from ttl_jax.data.augment import augment, example_keys, parse_augment
from ttl_jax.data.config import DataConfig
from ttl_jax.data.dataset import ArrayReader, Dataset, ImageReader, ViewsReader
from ttl_jax.data.imbalance import class_weights, frequencies, pos_weight
from ttl_jax.data.load import from_arrays, load
from ttl_jax.data.mix import mix, parse_mix
from ttl_jax.data.pipeline import eval_batches, train_batches
from ttl_jax.data.presets import augmentation, auto_augment

__all__ = [
    "ArrayReader", "DataConfig", "Dataset", "ImageReader", "ViewsReader", "augment", "augmentation",
    "auto_augment", "class_weights",
    "eval_batches", "example_keys", "frequencies", "from_arrays", "load", "mix", "parse_augment",
    "parse_mix", "pos_weight", "train_batches", "views",
]  # fmt: skip
