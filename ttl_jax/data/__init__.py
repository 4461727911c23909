"""Images and labels: sources, checks, splits, batches, augmentation on the device."""

from ttl_jax.config.data import DataConfig
from ttl_jax.data.augment import test_time
from ttl_jax.data.augment.mix import mix, parse_mix
from ttl_jax.data.augment.pipeline import augment, example_keys, parse_augment
from ttl_jax.data.batches import eval_batches, train_batches
from ttl_jax.data.class_weights import class_weights, frequencies, pos_weight
from ttl_jax.data.dataset import ArrayReader, Dataset, ImageReader, ViewsReader
from ttl_jax.data.load import from_arrays, load
from ttl_jax.data.published.presets import augmentation, auto_augment

__all__ = [
    "ArrayReader", "DataConfig", "Dataset", "ImageReader", "ViewsReader", "augment", "augmentation",
    "auto_augment", "class_weights",
    "eval_batches", "example_keys", "frequencies", "from_arrays", "load", "mix", "parse_augment",
    "parse_mix", "pos_weight", "train_batches", "test_time",
]  # fmt: skip
