"""Strategies through whole small runs: what trains when, what is handed over, what is averaged.

The network is ResNet-18 cut after its first stage or second: it compiles in a fraction of the time.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import models, strategies, weights
from ttl_jax.config import set_fields
from ttl_jax.errors import UserError
from ttl_jax.evaluation.registry import Merit
from ttl_jax.training import compile_ahead
from ttl_jax.training.programs import Programs, Session
from ttl_jax.training.progress import Progress
from ttl_jax.training.records.checkpoints import Checkpoints
from ttl_jax.training.run import train

HEAD = ("head/kernel", "head/bias")


@pytest.fixture
def run(tmp_path, config, datasets):
    """run(strategy, cut=unit, **fields) -> Result of a small run."""

    def go(strategy, name="run", cut=3, **fields):
        set_fields(config, {"strategy": f"truncated({cut})+{strategy}", "optimizer.lr": 1e-2, **fields})
        return train(config, tmp_path / name, datasets)

    return go


@pytest.fixture
def states(monkeypatch):
    """Every state that validation saw, as host arrays: [(phase, params, batch_stats, opt_state)]."""
    seen = []
    validate = sys.modules["ttl_jax.training.hooks.validate"]  # the package has a function of that name
    as_validated = validate.as_validated

    def spy(trainer, now):
        state = as_validated(trainer, now)
        seen.append((now.progress.phase, jax.device_get(state)))
        return state

    monkeypatch.setattr(validate, "as_validated", spy)
    return seen


@pytest.fixture
def script(monkeypatch):
    """script({step: figure}): what validation says, whatever the weights."""
    plain = Progress.scored

    def write(figures):
        def scored(self, now):
            return plain(self, Merit(figures[self.step], 0.0))

        monkeypatch.setattr(Progress, "scored", scored)

    return write


@pytest.fixture
def compiled(monkeypatch):
    """Counts how often a training step was compiled."""
    calls = []
    compile_step = compile_ahead.compile_step

    def spy(*arguments):
        calls.append(1)
        return compile_step(*arguments)

    monkeypatch.setattr(compile_ahead, "compile_step", spy)
    return calls


def moved(before, after):
    old, new = strategies.flatten(before), strategies.flatten(after)
    return {path for path, value in old.items() if not np.array_equal(value, new[path])}


def test_gradual_unfreezing_moves_the_leaves_of_its_phase_and_no_others(run, states, compiled):
    result = run("gradual_last_first", cut=5, total_steps=4, eval_every_epochs=0.4)  # a step: 0.4 epochs
    assert [phase for phase, _ in states] == [0, 1, 2, 3]
    stages = [set(), {"stage2"}, {"stage1"}, {"stem"}]
    start = weights.initialise("resnet18", 2, cut=5)
    before, open_now = start, {"head"}
    for (_, state), fresh in zip(states, stages, strict=True):
        open_now |= fresh
        assert {path.split("/")[0] for path in moved(before["params"], state.params)} == open_now
        statistics = {path.split("/")[0] for path in moved(before["batch_stats"], state.batch_stats)}
        assert statistics == open_now - {"head"}
        before = {"params": state.params, "batch_stats": state.batch_stats}
    assert len(compiled) == 4 and result.metrics["steps"] == 4


def test_lp_ft_hands_its_head_over_and_starts_a_new_optimizer(run, states, compiled):
    run("lp_ft(share=0.5, lr=0.5)", total_steps=4, eval_every_epochs=0.8, **{"schedule.name": "constant"})
    (first, probe), (second, tuned) = states
    assert (first, second) == (0, 1) and len(compiled) == 2
    start = weights.initialise("resnet18", 2, cut=3)
    assert moved(start["params"], probe.params) == set(HEAD)
    counts = [leaf for leaf in jax.tree.leaves(tuned.opt_state) if leaf.dtype == np.int32]
    ages = {int(age) for leaf in counts for age in leaf}
    assert ages == {2}  # two steps of this phase, none of the probe's
    distance = np.abs(tuned.params["head"]["bias"] - probe.params["head"]["bias"]).max()
    assert 0 < distance <= 2 * 0.5 * 1e-2 * 1.01  # two Adam steps at the reduced rate, from the probe's head


@pytest.mark.parametrize(
    ("text", "count"),
    [("full", 1), ("auto_rgn(batches=1)", 1), ("auto_snr(batches=1)", 1), ("gradual_first_last", 2),
     ("lp_ft+discriminative", 2)],
)  # fmt: skip
def test_one_compile_for_each_label_tree(text, count, run, compiled):
    run(text, total_steps=max(count, 5), eval_every_epochs=10.0)  # two epochs: Auto-RGN refreshes twice
    assert len(compiled) == count


def test_measured_rates_refresh_and_scale_the_step(run, states):
    run("auto_rgn(batches=1)", total_steps=6, eval_every_epochs=0.4)
    rates = [np.array([float(leaf) for leaf in state.multipliers.values()]) for _, state in states]
    for values in rates:
        assert values.max() == pytest.approx(1, abs=1e-6) and values.min() > 0
    np.testing.assert_array_equal(rates[0], rates[1])  # within the first epoch
    assert not np.array_equal(rates[0], rates[-1])  # after an epoch of 2.5 steps


def test_an_anchored_head_stays_small_and_the_anchor_is_the_start(run):
    free = run("full", "free", total_steps=4)
    held = run("l2_sp(alpha=100.0, beta=0.0)", "held", total_steps=4, **{"optimizer.name": "sgd"})
    start = strategies.flatten(weights.initialise("resnet18", 2, cut=3)["params"])

    def drift(result):
        leaves = strategies.flatten(result.variables["params"])
        return sum(float(np.square(leaves[path] - start[path]).sum()) for path in start if path not in HEAD)

    assert drift(held) < 0.2 * drift(free)


@pytest.mark.parametrize(("select_phase", "step", "phase"), [("last", 6, "finetune"), ("any", 2, "probe")])
def test_lp_ft_is_selected_within_fine_tuning_unless_asked_otherwise(
    run, states, script, select_phase, step, phase
):
    script({2: 0.9, 3: 0.8, 4: 0.5, 6: 0.6, 8: 0.55})
    fields = {"total_steps": 8, "eval_every_epochs": 0.8, "select_phase": select_phase}
    result = run("lp_ft(share=0.375)", **fields)
    assert (result.metrics["best_step"], result.metrics["best_phase"]) == (step, phase)
    (kept,) = (state for _, state in states if int(state.step) == step)
    for found, expected in zip(
        jax.tree.leaves(result.variables), jax.tree.leaves(kept.variables), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_gradual_unfreezing_is_selected_within_its_last_phase(run, script):
    script({1: 0.9, 2: 0.9, 3: 0.8, 4: 0.7, 5: 0.6, 6: 0.5})
    result = run("gradual_last_first", total_steps=6, eval_every_epochs=0.4)
    assert (result.metrics["best_step"], result.metrics["best_phase"]) == (5, "top stages 2")


@pytest.mark.parametrize(("hand_over", "step"), [("last", 3), ("best", 2)])
def test_a_phase_hands_its_last_or_its_best_state_over(run, states, script, hand_over, step):
    script({1: 0.5, 2: 0.9, 3: 0.7, 4: 0.5, 5: 0.5, 6: 0.5})
    result = run(
        "lp_ft(share=0.5)+wise_ft(0.0)", total_steps=6, eval_every_epochs=0.4, hand_over=hand_over
    )  # which ends where the last phase started
    (handed,) = (state for _, state in states if int(state.step) == step)
    for found, expected in zip(
        jax.tree.leaves(result.variables), jax.tree.leaves(handed.variables), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("text", "stops", "fields"),
    [
        ("lp_ft(share=0.5)+wise_ft", (1, 2, 3, 4, 5), {}),
        ("gradual_first_last+ema(decay=0.5)", (3, 4), {}),
        ("lp_ft(share=0.5, solver='lbfgs')", (1, 2), {"data.augment": "none"}),
    ],
)
@pytest.mark.parametrize("hand_over", ["last", "best"])
def test_phases_resume_bit_for_bit_at_every_save(
    text, stops, fields, hand_over, tmp_path, config, datasets, monkeypatch, script
):
    script({1: 0.5, 2: 0.9, 3: 0.7, 4: 0.6, 5: 0.8, 6: 0.5})
    set_fields(config, {"strategy": f"truncated(2)+{text}", "total_steps": 6, "eval_every_epochs": 0.4})
    set_fields(config, {"optimizer.lr": 1e-2, "hand_over": hand_over, "save_share": 1.0, **fields})
    programs = Programs()
    whole = train(config, tmp_path / "whole", datasets, session=Session(programs=programs))
    save = Checkpoints.save_last
    for stop in stops:
        saves = []

        def stopping(self, *arguments, stop=stop, saves=saves):
            save(self, *arguments)
            saves.append(1)
            if len(saves) == stop:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Checkpoints, "save_last", stopping)
            with pytest.raises(KeyboardInterrupt):
                train(config, tmp_path / f"cut{stop}", datasets, session=Session(programs=programs))
        resumed = train(config, tmp_path / f"cut{stop}", datasets, session=Session(programs=programs))
        jax.tree.map(np.testing.assert_array_equal, whole.variables, resumed.variables)
        assert resumed.metrics["best_step"] == whole.metrics["best_step"] == 5


@pytest.mark.parametrize(
    "text", ["bss+delta+ema", "mixout(0.5)", "stochnorm+l1_sp(coupled=False)+auto_rgn(batches=2)"]
)
def test_a_run_resumes_bit_for_bit(text, tmp_path, config, datasets, monkeypatch):
    set_fields(config, {"strategy": f"truncated(2)+{text}", "total_steps": 6, "eval_every_epochs": 0.8})
    whole = train(config, tmp_path / "whole", datasets)  # saves now and then, the other at every validation
    set_fields(config, {"save_share": 1.0})
    save, calls = Checkpoints.save_last, []

    def stop_after_two(self, *arguments):
        save(self, *arguments)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save_last", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "cut", datasets)
    resumed = train(config, tmp_path / "cut", datasets)
    jax.tree.map(np.testing.assert_array_equal, whole.variables, resumed.variables)


def test_co_tuning_trains_the_source_head_and_drops_it(tmp_path, config, datasets, states):
    pretrained = weights.initialise("resnet18", 5, seed=3)
    path = tmp_path / "source.npz"
    np.savez(path, **weights.export_torch(pretrained, "resnet18"))
    set_fields(config, {"strategy": "cotuning", "model.weights": str(path), "total_steps": 2})
    config.data.eval_batch_size = 3  # the last batch of 20 is padded
    result = train(config, tmp_path / "run", datasets)
    trained = states[-1][1].params["source_head"]
    assert trained["kernel"].shape == (512, 5)
    assert not np.array_equal(trained["kernel"], pretrained["params"]["head"]["kernel"])
    assert "source_head" not in result.variables["params"]
    with pytest.raises(UserError, match="it cannot be joined with truncated"):
        set_fields(config, {"strategy": "cotuning+truncated(5)"})
        train(config, tmp_path / "cut", datasets)


def test_ema_is_what_is_validated(run, states):
    run("ema(decay=0.5)", total_steps=3, eval_every_epochs=0.4)
    start = weights.initialise("resnet18", 2, cut=3)["params"]["head"]["bias"].astype(np.float64)
    expected = start
    for number, (_, state) in enumerate(states):
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * state.params["head"]["bias"]
        np.testing.assert_allclose(state.average["params"]["head/bias"], expected, rtol=1e-4, atol=1e-7)
        np.testing.assert_array_equal(
            state.variables["params"]["head"]["bias"], state.average["params"]["head/bias"]
        )


def test_a_uniform_soup_is_the_mean_of_the_last_validations(run, states):
    result = run("soup(kind='uniform', last=2)", total_steps=3, eval_every_epochs=0.4)
    last = [state.params["head"]["kernel"] for _, state in states[-2:]]
    np.testing.assert_allclose(result.variables["params"]["head"]["kernel"], np.mean(last, axis=0), rtol=1e-5)
    assert result.metrics["after"]["kept"] == 2


def test_wise_ft_lies_between_the_probe_and_the_tuned_weights(run, states, script):
    # The probe's validation is the better one.
    script({2: 0.9, 4: 0.5})
    result = run("lp_ft(share=0.5)+wise_ft(0.25)", total_steps=4, eval_every_epochs=0.8)
    (_, probe), (_, tuned) = states
    assert (result.metrics["best_step"], result.metrics["best_phase"]) == (4, "finetune")
    path = ("stage1", "block2", "conv2", "kernel")
    a, b, found = (_at(tree, path) for tree in (probe.params, tuned.params, result.variables["params"]))
    np.testing.assert_allclose(found, 0.75 * a + 0.25 * b, rtol=1e-4, atol=1e-6)
    assert not np.array_equal(a, b)
    with pytest.raises(UserError, match="needs select_phase='last'"):
        run("lp_ft(share=0.5)+wise_ft(0.25)", "any", select_phase="any")
    with pytest.raises(UserError, match="it needs select_phase='last'"):
        run("lp_ft(share=0.5)", "neither", select_phase="any", hand_over="best")


def _at(tree, path):
    for name in path:
        tree = tree[name]
    return np.asarray(tree)


def test_stochastic_norm_takes_either_statistic_channel_by_channel():
    network, variables = models.create("resnet18", 2), weights.initialise("resnet18", 2)
    images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))

    def stem(**options):
        return network.apply(variables, images, capture=("stem",), mutable=["batch_stats"], **options)

    (_, running), _ = stem(train=False)
    (_, batch), plain = stem(train=True)
    with models.stochastic_norm(0.5, jax.random.key(1)):
        (_, mixed), moving = stem(train=True)
        (_, still), _ = stem(train=False)
    by_batch = jnp.isclose(mixed["stem"], batch["stem"], rtol=1e-5).all(axis=(0, 1, 2))
    by_running = jnp.isclose(mixed["stem"], running["stem"], rtol=1e-5).all(axis=(0, 1, 2))
    assert (by_batch | by_running).all() and 10 < int(by_batch.sum()) < 54
    np.testing.assert_array_equal(still["stem"], running["stem"])
    stem_of = lambda updated: updated["batch_stats"]["stem"]["norm"]["mean"]  # noqa: E731
    np.testing.assert_allclose(stem_of(moving), stem_of(plain), rtol=1e-5, atol=1e-7)


def test_early_stop_counts_ties_with_a_lower_loss_as_better(run, config):
    """Easy images: once the AUROC is 1, the loss says what is still learnt."""
    set_fields(config, {"early_stop.patience": 1, "schedule.name": "constant", "optimizer.lr": 3e-3})
    result = run("full", total_steps=20, eval_every_epochs=0.4)
    lines = map(json.loads, (result.workdir / "metrics.jsonl").read_text().splitlines())
    seen = [line for line in lines if "split" in line]
    perfect = [line for line in seen if line["auroc"] == 1]
    assert result.metrics["best_step"] == min(perfect, key=lambda line: line["loss"])["step"]
    assert result.metrics["best_step"] > perfect[0]["step"] and result.metrics["steps"] > perfect[1]["step"]


def test_early_stop_ends_a_stage_and_not_the_run(run, states, config):
    set_fields(config, {"early_stop.patience": 1, "select": "loss", "schedule.name": "constant"})
    result = run("gradual_last_first", total_steps=18, eval_every_epochs=0.4, **{"optimizer.lr": 10.0})
    phases = [phase for phase, _ in states]
    assert set(phases) == {0, 1, 2}  # every stage had its turn
    assert result.metrics["steps"] == len(phases) < 18  # and some gave the rest of theirs up
