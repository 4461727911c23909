"""What a run is built of, before its first step."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from ttl_jax import weights
from ttl_jax.config import run_config, set_fields
from ttl_jax.data.sources.record import FORMAT, MANIFEST, digest
from ttl_jax.errors import UserError
from ttl_jax.strategies import bind, parse
from ttl_jax.training import run
from ttl_jax.training.build import loss_of
from ttl_jax.training.records.header import print_header
from ttl_jax.training.records.signature import _source


@pytest.mark.parametrize("balanced", [False, True])
def test_classes_weigh_as_scikit_learn_balances_them(config, make_split, balanced):
    training = make_split("train", 20, 0)
    training.labels[:5] = 0  # 13 to 7
    set_fields(config, {"data.class_weights": "balanced" if balanced else "none"})
    logits = np.random.default_rng(0).normal(size=(20, 2))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    each = compute_sample_weight("balanced", training.labels) if balanced else np.ones(20)
    expected = log_loss(training.labels, chances, sample_weight=each)
    found = loss_of(run_config(config), training)(jnp.asarray(logits), jnp.asarray(training.labels))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_a_batch_that_memory_cannot_hold_is_refused_with_both_sizes(config, monkeypatch):
    monkeypatch.setattr(run, "machine_memory", lambda: 3 * 2**30)
    set_fields(config, {"data.batch_size": 1 << 16, "data.image_size": 256})
    side = 2**16 * 256**2 * 3 * run.FLOATS / 2**30
    with pytest.raises(
        UserError, match=f"data.batch_size=65536 .* take {side:.0f} GiB, and this .* has 3: lower"
    ):
        run._check_memory(run_config(config))


def test_the_table_names_each_phase_once_at_its_first_row(config, make_split, capsys):
    set_fields(config, {"strategy": "lp_ft", "data.augment": "none"})
    variables = weights.initialise("resnet18", 2)
    phases = bind(parse("lp_ft"), variables["params"], "resnet18")
    sets = {name: make_split(name, 8, 0) for name in ("train", "val")}
    print_header(run_config(config), sets, phases, (30, 70), variables)
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "%" in line]
    assert [row[:3] for row in rows] == [
        ["probe", "30", "freeze"], ["train", rows[1][1], rows[1][2]], ["finetune", "70", "train"],
    ]  # fmt: skip


def test_a_prepared_folder_s_source_is_the_one_that_it_was_made_from(config, tmp_path):
    made = {"format": FORMAT, "source": {"name": "dicom", "window": "40,400"}}
    (tmp_path / MANIFEST).write_text(json.dumps(made | {"digest": digest(made)}))
    for name, kind in (("record", "dicom"), ("folder", "folder")):
        set_fields(config, {"data.name": name, "data.path": str(tmp_path)})
        found = _source(run_config(config))
        assert found.kind == kind and (found.window == "40,400") == (name == "record")
