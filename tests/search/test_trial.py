"""Trials: a rung from which a training goes on at once, and a last save that another trial does not await."""

import json

import pytest

from ttl_jax.search.protocol import Request
from ttl_jax.search.subject import read
from ttl_jax.search.trainings import folder
from ttl_jax.search.trial import LastSave, _best_so_far, known, run_trial
from ttl_jax.system.lock import HeldError
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.records import provenance

DROPPED = ("img_per_s",)


def events(place):
    lines = map(json.loads, (place / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in DROPPED} for line in lines]


@pytest.fixture
def trial(config, datasets):
    config.search.method, config.total_steps, config.eval_every_epochs = "halving", 4, 0.5
    setting = read(config)

    def run(workdir, unit, budget, **options):
        request = Request(unit, budget)
        return run_trial(setting.trial(request), folder(workdir, request), budget, datasets, **options)

    return run


def test_a_training_that_goes_on_at_a_rung_is_the_one_that_paused_there(tmp_path, trial):
    paused = [trial(tmp_path / "paused", 1, budget) for budget in (0.25, 0.5, 1.0)]
    told = []

    def onward(score):
        told.append(score)
        return {1: 0.5, 2: 1.0}[len(told)]

    last = trial(tmp_path / "once", 1, 0.25, onward=onward)
    assert [*told, last] == paused
    first, second = (folder(tmp_path / name, Request(1)) for name in ("paused", "once"))
    assert known(first) == known(second) and list(known(first)) == ["0.25", "0.5", "1.0"]
    assert events(first) == events(second)
    assert (
        json.loads((first / "result.json").read_text())["val"]
        == (json.loads((second / "result.json").read_text())["val"])
    )


def test_a_training_may_go_on_and_pause_later(tmp_path, trial):
    further = iter([0.5, None])
    score = trial(tmp_path, 1, 0.25, onward=lambda score: next(further))
    place = folder(tmp_path, Request(1))
    assert list(known(place)) == ["0.25", "0.5"] and known(place)["0.5"]["score"] == score
    assert max(event["step"] for event in events(place)) == 2
    assert trial(tmp_path, 1, 0.5) == score  # known
    trial(tmp_path, 1, 1.0)
    assert max(event["step"] for event in events(place)) == 4


def test_a_training_that_went_further_answers_an_earlier_rung_as_it_stood_there(tmp_path, trial):
    trial(tmp_path / "whole", 1, 1.0)
    before = events(folder(tmp_path / "whole", Request(1)))
    early = trial(tmp_path / "whole", 1, 0.25)
    assert early == trial(tmp_path / "paused", 1, 0.25)
    assert known(folder(tmp_path / "whole", Request(1)))["0.25"]["step"] == 1
    assert events(folder(tmp_path / "whole", Request(1))) == before  # nothing was trained


def test_an_answer_is_kept_before_anybody_hears_of_it(tmp_path, trial):
    def onward(score):
        raise OSError("stdout is closed")

    with pytest.raises(OSError, match="stdout"):
        trial(tmp_path, 1, 0.25, onward=onward)
    assert list(known(folder(tmp_path, Request(1)))) == ["0.25"]
    paused = trial(tmp_path / "paused", 1, 0.25)
    assert known(folder(tmp_path, Request(1)))["0.25"]["score"] == paused == trial(tmp_path, 1, 0.25)


def test_a_last_save_ends_after_the_next_trial_has_begun(tmp_path, trial):
    one, committed = folder(tmp_path, Request(1)), []

    def saved():
        """The steps of what is whole on disk of the first trial."""
        whole = [path.parent for path in one.glob("checkpoints/last/*/manifest.json")]
        progress = [json.loads((bundle / "progress" / "metadata").read_text()) for bundle in whole]
        committed.append({each["step"] for each in progress})

    with LastSave(saved) as saving:
        trial(tmp_path, 1, 0.5, last_save=saving)
        assert known(one) and not committed
        with pytest.raises(HeldError), provenance.alone(one):  # nobody else may begin there
            pass
        trial(tmp_path, 2, 0.5, last_save=saving)
        with provenance.alone(one):
            assert len(committed) == 1 and 2 in committed[0]
        trial(tmp_path, 2, 1.0, last_save=saving)  # waits for itself; a whole training leaves nothing
        assert len(committed) == 3
    assert len(committed) == 3
    assert trial(tmp_path, 1, 1.0) == trial(tmp_path / "alone", 1, 1.0)


def test_a_pause_tells_the_figure_of_the_weights_that_would_be_kept(tmp_path, config):
    lines = [
        {"step": 1, "phase": "probe", "loss": 0.1},
        {"split": "val", "step": 1, "phase": "probe", "auroc": 0.9, "loss": 0.5},
        {"split": "val", "step": 2, "phase": "finetune", "auroc": 0.8, "loss": 0.5},
        {"split": "val", "step": 3, "phase": "finetune", "auroc": 0.8, "loss": 0.4},
        {"split": "val", "step": 4, "phase": "finetune", "auroc": 0.7, "loss": 0.3},
    ]
    cut_off = '{"step": 5, "ph'  # by a kill
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + cut_off)
    assert _best_so_far(tmp_path, config) == (0.8, 3)
    config.select_phase = "any"
    assert _best_so_far(tmp_path, config) == (0.9, 1)
    config.select = "loss"
    assert _best_so_far(tmp_path, config) == (0.3, 4)


def test_where_the_figure_is_undefined_a_trial_goes_by_the_loss_as_training_does(tmp_path, config):
    lines = [{"split": "val", "step": step, "phase": 0, "auroc": None, "ece": None, "loss": loss}
             for step, loss in ((1, 0.5), (2, 0.3), (3, 0.4), (4, None))]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert _best_so_far(tmp_path, config) == (-0.3, 2)  # in the direction of AUROC
    config.select = "ece"
    assert _best_so_far(tmp_path, config) == (0.3, 2)


def test_an_undefined_score_that_a_version_before_kept_as_nothing_is_looked_up_again(tmp_path, trial):
    score, place = trial(tmp_path, 1, 0.5), folder(tmp_path, Request(1))
    answers = known(place)
    write_json(place / "scores.json", {"0.5": answers["0.5"] | {"score": None}})
    assert trial(tmp_path, 1, 0.5) == score and known(place) == answers
