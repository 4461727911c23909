"""Trials on engines: what is started again, what ends the search, and that the engine changes no number."""

from importlib.util import find_spec

import pytest

from ttl_jax.engines.task import Report
from ttl_jax.errors import UserError
from ttl_jax.search.in_parallel import RETRIES, side_by_side
from ttl_jax.search.search import search
from ttl_jax.search.trial import TrialTask
from ttl_jax.system.preemption import SAVING, Notice, Preempted

TASKS = [TrialTask(f"/runs/trials/unit{unit:02d}_seed0", {}, 1.0) for unit in (1, 2, 3)]


class Scripted:
    """An engine whose tasks end as told, the oldest first."""

    def __init__(self, ends):
        self.ends, self.under_way, self.given, self.most, self.closed = list(ends), [], [], 0, None

    def submit(self, task):
        self.given.append(task.folder[-6 - 2 : -6])
        self.under_way.append(task)
        self.most = max(self.most, len(self.under_way))

    def wait(self, seconds):
        return [Report(self.under_way.pop(0).folder, self.ends.pop(0), "why", 1.0)]

    def close(self, seconds=0.0):
        self.closed = seconds


def run(monkeypatch, engine, workers=2, notice=None):
    monkeypatch.setattr("ttl_jax.engines.start", lambda name, workers, workdir: engine)
    counted = []
    side_by_side(TASKS, "local", workers, None, notice or Notice(), lambda: counted.append(1))
    return len(counted)


def test_so_many_at_a_time_and_a_lost_one_again(monkeypatch, capsys):
    engine = Scripted(["done", "lost", "done", "done"])
    assert run(monkeypatch, engine) == 4
    assert engine.given == ["01", "02", "03", "02"] and engine.most == 2 and engine.closed == 0.0
    assert capsys.readouterr().out.splitlines()[-1] == "unit02_seed0: 1 s (3 of 3)"


@pytest.mark.parametrize("ends", [["failed"], ["lost"] * (RETRIES + 1)])
def test_a_fault_ends_the_search_and_says_where(monkeypatch, ends):
    engine = Scripted([*ends])
    monkeypatch.setattr(f"{__name__}.TASKS", TASKS[:1])
    with pytest.raises(UserError, match=r"trial unit01_seed0: why; .*unit01_seed0/log.txt"):
        run(monkeypatch, engine)
    assert len(engine.given) == len(ends) and engine.closed == 0.0


def test_a_notice_leaves_the_trials_time_to_save(monkeypatch):
    engine, notice = Scripted(["done"] * 3), Notice()
    notice.reason = "SIGTERM"
    with pytest.raises(Preempted, match="SIGTERM"):
        run(monkeypatch, engine, notice=notice)
    assert engine.closed == SAVING


def test_seeds_of_a_unit_are_of_one_kin():
    kins = {TrialTask(f"/runs/trials/unit02_seed{seed}", {}, 1.0).kin for seed in (0, 12)}
    assert len(kins) == 1 and TASKS[0].kin not in kins


def test_an_engine_of_processes_needs_data_by_name(tmp_path, config, datasets):
    config.search.engine = "ray"
    with pytest.raises(UserError, match="search.engine='ray' needs data that the config names"):
        search(config, tmp_path, datasets)


@pytest.mark.extras
def test_other_engines_train_the_same_trials(tmp_path, config):
    others = [name for name in ("ray", "submitit") if find_spec(name)]
    if not others:
        pytest.skip("neither ray nor submitit is installed")
    config.data.name, config.data.phantom_patients, config.total_steps = "phantom/mri", 20, 2
    here = search(config, tmp_path / "local")
    for name in others:
        config.search.engine = name
        found = search(config, tmp_path / name)
        assert found["trials"] == here["trials"] and found["test"] == here["test"]
