"""Copy the files that a DataConfig names from a bucket to this machine."""

from __future__ import annotations

from dataclasses import replace

from ttl_jax.config.data import DataConfig
from ttl_jax.errors import UserError
from ttl_jax.system import remote

_TABLES = (".csv", ".tsv", ".txt")  # what they name lies beside them where data.root is empty


def here(config: DataConfig) -> DataConfig:
    """Return the same config with local paths.

    Raises:
        UserError: nothing at a path, or it may not be read; a split file in a bucket.
    """
    if remote.is_remote(config.splits):
        raise UserError(f"data.splits={config.splits} is read and written: name a local file")
    root, path = config.root, config.path
    if remote.is_remote(path) and not root and path.lower().endswith(_TABLES):
        root = path.rpartition("/")[0]
    return replace(config, path=remote.local(path), root=remote.local(root))
