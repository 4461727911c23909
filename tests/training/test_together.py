"""Probes trained as one program leave what each leaves alone."""

import json

import jax
import numpy as np
import pytest

from ttl_jax.config import set_fields
from ttl_jax.system.preemption import Notice, Preempted
from ttl_jax.training.heads import many
from ttl_jax.training.heads.many_runs import train_together
from ttl_jax.training.programs import Programs, Session
from ttl_jax.training.run import train


@pytest.fixture
def probe(tmp_path, config):
    """A linear probe of one file of weights; another seed is another head alone."""
    from safetensors.numpy import save_file

    from ttl_jax import weights

    path = tmp_path / "resnet18.safetensors"
    save_file(dict(weights.export_torch(weights.initialise("resnet18", 2), "resnet18")), path)
    set_fields(
        config,
        {
            "strategy": "truncated(2)+linear_probe", "data.augment": "none", "model.weights": str(path),
            "total_steps": 11, "eval_every_epochs": 1.5, "log_every_steps": 2,
            "data.class_weights": "balanced",
        },
    )  # fmt: skip
    return config


def members(config, folder, seeds, rates):
    made = []
    for seed in seeds:
        for rate in rates:
            own = config.copy_and_resolve_references()
            set_fields(own, {"seed": seed, "optimizer.lr": rate})
            made.append((own, folder / f"{seed}-{rate:g}"))
    return made


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_they_end_as_alone(tmp_path, probe, datasets, optimizer):
    probe.optimizer.name = optimizer
    programs = Programs()
    group = members(probe, tmp_path / "together", (0, 3), (1e-3, 1e-2))
    done = train_together(group, datasets, Session(programs=programs))
    assert done == tuple(folder for _, folder in group)
    for config, folder in (group[1], group[2]):
        assert not (folder / "result.json").exists()
        mine = train(config, folder, datasets, session=Session(programs=programs))
        alone = train(config, tmp_path / "alone" / folder.name, datasets, session=Session(programs=programs))
        for one, other in zip(jax.tree.leaves(mine.variables), jax.tree.leaves(alone.variables), strict=True):
            assert np.abs(one - other).max() < 1e-5 * max(np.abs(other).max(), 1e-6)
        for split in ("val", "test"):
            assert mine.metrics[split]["loss"] == pytest.approx(alone.metrics[split]["loss"], rel=1e-5)
        for key in ("best_step", "best_phase", "steps", "flops_per_step", "trainable_params"):
            assert mine.metrics[key] == alone.metrics[key]
        assert (mine.metrics["trained_together"], alone.metrics["trained_together"]) == (4, 1)
        lines = [
            [json.loads(line) for line in (result.workdir / "metrics.jsonl").read_text().splitlines()]
            for result in (mine, alone)
        ]
        assert [(line["step"], "split" in line) for line in lines[0]] == [
            (line["step"], "split" in line) for line in lines[1]
        ]
        np.testing.assert_allclose(*([line["loss"] for line in each] for each in lines), rtol=1e-5)


def test_a_stop_on_the_way_changes_nothing(tmp_path, probe, datasets, monkeypatch):
    """Stopped between two validations and started again: the files are those of the run that went through."""

    class Third(Notice):
        asks = 0

        def asked(self):
            Third.asks += 1
            self.reason = "a test" if Third.asks == 3 else ""
            return bool(self.reason)

    monkeypatch.setattr(many, "LONGEST", 2)
    through = members(probe, tmp_path / "through", (0, 3), (1e-3, 1e-2))
    broken = members(probe, tmp_path / "broken", (0, 3), (1e-3, 1e-2))
    programs = Programs()
    train_together(through, datasets, Session(programs=programs))
    with pytest.raises(Preempted, match="a test: 4 probes saved at step 6"):  # after 2, 4 (validated), 6
        train_together(broken, datasets, Session(Third(), programs))
    assert len(list((tmp_path / "broken").glob("*/together-*.npz"))) == 1
    assert not list((tmp_path / "broken").glob("*/checkpoints"))
    train_together(broken, datasets, Session(Third(), programs))
    assert not list((tmp_path / "broken").glob("*/together-*.npz"))
    for (config, one), (_, other) in zip(through, broken, strict=True):
        lines = [
            [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            for folder in (one, other)
        ]
        for line in (*lines[0], *lines[1]):
            line.pop("img_per_s", None)
        assert lines[0] == lines[1]
        results = [
            train(config, folder, datasets, session=Session(programs=programs)) for folder in (one, other)
        ]
        pairs = zip(*(jax.tree.leaves(result.variables) for result in results), strict=True)
        assert all(np.array_equal(*pair) for pair in pairs)


def test_calls_end_where_heads_are_validated_and_after_so_many_steps(monkeypatch):
    monkeypatch.setattr(many, "LONGEST", 4)
    assert many.stops_of(11, 2.5) == [(3, True), (5, True), (8, True), (10, True), (11, True)]
    assert many.stops_of(11, 100.0) == [(4, False), (8, False), (11, True)]


def test_what_has_begun_or_cannot_is_left_to_train_alone(tmp_path, probe, datasets):
    group = members(probe, tmp_path, (0,), (1e-3, 1e-2))
    (group[0][1] / "checkpoints").mkdir(parents=True)
    assert train_together(group, datasets) == ()  # one is left: nothing to share
    for field, value in (("strategy", "full"), ("data.augment", "flip"), ("schedule.name", "plateau")):
        other = probe.copy_and_resolve_references()
        set_fields(other, {field: value})
        assert train_together(members(other, tmp_path / field, (0,), (1e-3, 1e-2)), datasets) == ()
    probe.model.weights = "none"  # every seed has a backbone of its own
    assert train_together(members(probe, tmp_path / "none", (0, 1), (1e-3,)), datasets) == ()
