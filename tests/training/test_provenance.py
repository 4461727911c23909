"""A work folder belongs to one config; fields that came later do not set it apart."""

import contextlib
import json
import shlex
import sys

import pytest

from ttl_jax.config import RunConfig, default_config, replace_fields, run_config
from ttl_jax.errors import UserError
from ttl_jax.training.records import provenance


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


@pytest.mark.parametrize(
    ("strategy", "refused"),
    [
        ("truncated(12)+auto_rgn(by='unit')", True),
        ("l1_sp", True),
        ("l1_sp(coupled=True)", False),
        ("l2_sp", False),
        ("l2_sp(coupled=False)", True),
        ("truncated(12)+lp_ft(lr=0.1)", True),
        ("gradual_first_last", True),
        ("linear_probe+stochnorm", False),
    ],
)
def test_a_run_of_a_strategy_that_was_another_one_is_refused(tmp_path, strategy, refused):
    config = default_config()
    config.data.name, config.strategy = "phantom/mri", strategy
    provenance.claim(tmp_path, config)
    provenance.check(tmp_path, config)  # of this version
    record = json.loads((tmp_path / "config.json").read_text())
    for name in ("bn_momentum", "bn_estimate"):
        del record["config"]["model"][name]
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="was another one") if refused else contextlib.nullcontext():
        provenance.check(tmp_path, config)


def test_a_run_begun_before_large_groups_were_held_out_is_refused(tmp_path):
    config = default_config()
    for number, (fields, refused) in enumerate([
        ({"name": "folder"}, True), ({"name": "phantom/mri"}, False), ({"folds": 5}, False),
        ({"splits": "kept.json"}, False),
    ]):  # fmt: skip
        config = default_config()
        config.data.update(fields)
        folder = tmp_path / str(number)
        provenance.claim(folder, config)
        record = json.loads((folder / "config.json").read_text())
        del record["config"]["data"]["split_rule"]
        (folder / "config.json").write_text(json.dumps(record))
        if refused:
            with pytest.raises(UserError, match="data.split_rule: 1 -> 2"):
                provenance.check(folder, config)
            config.data.split_rule = 1
        provenance.check(folder, config)


def test_a_run_taken_up_again_has_the_fields_of_its_time(tmp_path):
    config = default_config()
    config.data.name, config.model.name, config.seed = "folder", "efficientnet_lite0", 3
    provenance.claim(tmp_path, config)
    assert provenance.begun_with(tmp_path) == run_config(config)
    record = json.loads((tmp_path / "config.json").read_text())
    del record["config"]["data"]["split_rule"], record["config"]["model"]["bn_momentum"]
    (tmp_path / "config.json").write_text(json.dumps(record))
    begun = provenance.begun_with(tmp_path)  # another split would show it images that it was trained on
    assert (begun.data.split_rule, begun.model.bn_momentum, begun.seed) == (1, 0.99, 3)


def test_a_run_begun_with_the_old_default_stays_mirrored(tmp_path):
    before = default_config()
    before.data.augment = "flip"  # the default of the version before, as its config.json says it
    provenance.claim(tmp_path, before)
    now = RunConfig()
    assert now.data.augment == "auto"
    going_on = provenance.as_begun(tmp_path, now)
    assert going_on.data.augment == "flip" and now.data.augment == "auto"
    provenance.check(tmp_path, going_on)
    assert provenance.as_begun(tmp_path / "new", now) is now
    now = replace_fields(now, {"data.augment": "none"})  # said by a person: another run
    with pytest.raises(UserError, match="data.augment: flip -> none"):
        provenance.check(tmp_path, provenance.as_begun(tmp_path, now))


def test_the_command_can_be_given_to_a_shell_again(monkeypatch):
    words = ["compare", "--config.compare.strategies=('full', 'lp_ft')", "--workdir=my runs"]
    monkeypatch.setattr(sys, "argv", ["/some/where/ttl_jax/__main__.py", *words])
    assert shlex.split(provenance.command()) == ["python", "-m", "ttl_jax", *words]
    assert """--config.compare.strategies="('full', 'lp_ft')" --workdir='my runs'""" in provenance.command()
    words += ["it's $5", "--a b=c", '--x="', "--empty=", "a\\'b"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/ttl-jax", *words])
    assert shlex.split(provenance.command()) == ["/usr/bin/ttl-jax", *words]
