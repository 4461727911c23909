"""A work folder belongs to one config; fields that came later do not set it apart."""

import json

import pytest

from ttl_jax.config import default_config
from ttl_jax.errors import UserError
from ttl_jax.training import provenance


def test_a_field_younger_than_the_run_counts_as_its_default(tmp_path):
    config = default_config()
    provenance.claim(tmp_path, config)
    path = tmp_path / "config.json"
    record = json.loads(path.read_text())
    del record["config"]["select"], record["config"]["data"]["resize"]
    path.write_text(json.dumps(record))
    provenance.check(tmp_path, config)
    config.data.resize = "pad"
    with pytest.raises(UserError, match="data.resize: squash -> pad"):
        provenance.check(tmp_path, config)
