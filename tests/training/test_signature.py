"""What a run's predictions need to be made again."""

import json

from ttl_jax.config import run_config, set_fields
from ttl_jax.data.sources.record import FORMAT, MANIFEST, digest
from ttl_jax.training.records.signature import _source


def test_a_prepared_folder_s_source_is_the_one_that_it_was_made_from(config, tmp_path):
    made = {"format": FORMAT, "source": {"name": "dicom", "window": "40,400"}}
    (tmp_path / MANIFEST).write_text(json.dumps(made | {"digest": digest(made)}))
    for name, kind in (("record", "dicom"), ("folder", "folder")):
        set_fields(config, {"data.name": name, "data.path": str(tmp_path)})
        found = _source(run_config(config))
        assert found.kind == kind and (found.window == "40,400") == (name == "record")
