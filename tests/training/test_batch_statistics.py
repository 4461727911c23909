"""Running statistics against NumPy from the formulas, and through whole small runs."""

import importlib
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ttl_jax import data, models, strategies, weights
from ttl_jax.analysis.soup_of_runs import soup
from ttl_jax.config import default_config, set_fields
from ttl_jax.errors import UserError
from ttl_jax.models import Network
from ttl_jax.models.layers.basic import BatchNorm
from ttl_jax.models.network import Head
from ttl_jax.models.unit import unit
from ttl_jax.search.trial import run_trial
from ttl_jax.strategies import Phase, Strategy, Surgery, flatten, select
from ttl_jax.system.preemption import Notice, Preempted
from ttl_jax.training.batch_statistics import (
    Estimate,
    anything_moves,
    corrected,
    estimate_of,
    make_reestimate,
    moved,
    population,
)
from ttl_jax.training.devices import ONE
from ttl_jax.training.frozen import phase_data
from ttl_jax.training.loss import make_loss
from ttl_jax.training.optimizer import make_optimizer
from ttl_jax.training.programs import Programs, Session
from ttl_jax.training.records import provenance
from ttl_jax.training.run import check, train
from ttl_jax.training.state import initial_state
from ttl_jax.training.step import TrainStep

RNG = np.random.default_rng(0)
NAME, CUT = "resnet18", 2
PRECISE = {"model.bn_estimate": "precise(3)"}


def convolved(images, kernel, stride=1, padding="SAME"):
    form = ("NHWC", "HWIO", "NHWC")
    return np.asarray(
        jax.lax.conv_general_dilated(images, kernel, (stride,) * 2, padding, dimension_numbers=form)
    )


def stem_map(images, variables):
    """What enters a ResNet's first norm, a function of the stem's kernel alone: (N, channels) float64."""
    kernel = np.asarray(variables["params"]["stem"]["conv"]["kernel"])
    found = convolved(np.asarray(images, np.float32), kernel, 2, ((3, 3), (3, 3)))
    return found.reshape(-1, found.shape[-1]).astype(np.float64)


def norm_moments(x):
    """The collection that a BatchNorm at "n" leaves of a batch."""
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), x, False)
    _, seen = layer.apply(variables, x, True, mutable=["moments"])
    return {"n": seen["moments"]}


def batches_of(count, rows=6):
    return [RNG.normal(3.0, 2.0, (rows, 4, 5, 2)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999])
def test_moving_is_torchs_average_from_where_it_stood(momentum):
    start = {"mean": np.float32([4.0, -1.0]), "var": np.float32([9.0, 0.5])}
    statistics, expected = {"n": start}, {name: value.astype(np.float64) for name, value in start.items()}
    for x in batches_of(5):
        statistics, updates = moved(statistics, {}, norm_moments(x), Estimate(momentum))
        batch = {"mean": x.mean((0, 1, 2)), "var": x.reshape(-1, 2).astype(np.float64).var(0, ddof=1)}
        expected = {name: momentum * expected[name] + (1 - momentum) * batch[name] for name in batch}
        assert updates == {}
    for name, value in expected.items():
        np.testing.assert_allclose(statistics["n"][name], value, rtol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.999])
def test_corrected_is_the_weighted_mean_of_the_batches_alone(momentum):
    """sum_i m^(T-i) x_i / sum_i m^(T-i), whatever the statistics stood at."""
    statistics = {"n": {"mean": np.float32([1e4, 1e4]), "var": np.ones(2, np.float32)}}
    updates, batches = np.zeros(1, int), batches_of(7)
    for number, x in enumerate(batches, start=1):
        statistics, updates = moved(statistics, updates, norm_moments(x), Estimate(momentum, corrected=True))
        shares = [momentum ** (number - place) for place in range(1, number + 1)]
        each = [x.reshape(-1, 2).astype(np.float64) for x in batches[:number]]
        mean = np.average([x.mean(0) for x in each], axis=0, weights=shares)
        var = np.average([x.var(0, ddof=1) for x in each], axis=0, weights=shares)
        np.testing.assert_allclose(statistics["n"]["mean"], mean, rtol=2e-5)
        np.testing.assert_allclose(statistics["n"]["var"], var, rtol=2e-5)
    assert updates.tolist() == [7]


def test_the_effective_momentum_grows_to_its_own():
    steps = np.arange(1, 2000)
    m = 0.99
    found = np.asarray(corrected(m, jnp.asarray(steps, jnp.int32)))
    expected = m * (1 - m ** (steps - 1.0)) / (1 - m**steps)
    assert found[0] == 0
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_batchnorm_that_joins_later_starts_then_and_one_that_pauses_goes_on():
    estimate, batches = Estimate(0.9, corrected=True), batches_of(4)
    old = {name: {"mean": np.zeros(2, np.float32), "var": np.ones(2, np.float32)} for name in ("a", "b")}
    updates, statistics = np.zeros(2, int), old
    for names, x in zip((("a",), ("a", "b"), ("b",), ("a",)), batches, strict=True):
        before = statistics
        seen = {name: norm_moments(x)["n"] for name in names}
        statistics, updates = moved(statistics, updates, seen, estimate)
        for name in {"a", "b"} - set(names):
            assert all(statistics[name][part] is before[name][part] for part in ("mean", "var"))
    assert updates.tolist() == [3, 2]
    means = [x.reshape(-1, 2).mean(0) for x in batches]
    for name, seen in {"a": (0, 1, 3), "b": (1, 2)}.items():
        shares = 0.9 ** np.arange(len(seen))[::-1]
        expected = np.average([means[place] for place in seen], axis=0, weights=shares)
        np.testing.assert_allclose(statistics[name]["mean"], expected, rtol=1e-5)


def test_a_population_is_that_of_the_batches_put_together():
    batches = [batch + 50 * number for number, batch in enumerate(batches_of(4))]  # means far apart
    found = population([flatten(norm_moments(x)) for x in batches])
    whole = np.concatenate(batches).reshape(-1, 2).astype(np.float64)
    np.testing.assert_allclose(found["n/mean"], whole.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["n/var"], whole.var(0, ddof=1), rtol=1e-5)


def pass_of(still, layout=ONE):
    """A network of two convolutions with norms, its variables, batches, and its pass over batches."""
    from ttl_jax.models.efficientnet import FLAVOURS, ConvNorm

    specs = tuple(
        unit(name, name, ConvNorm, features=4, size=3, flavour=FLAVOURS["efficientnet_b0"])
        for name in ("low", "high")
    )
    network = Network(specs, Head("gap", 2))
    images = RNG.normal(size=(3, 6, 8, 8, 3)).astype(np.float32)
    variables = network.init(jax.random.key(1), images[0])
    batches = [
        {"image": x, "example": np.arange(6, dtype=np.int32), "epoch": np.zeros(6, np.int32),
         "seed": np.zeros(6, np.int32)} for x in images
    ]  # fmt: skip
    run = make_reestimate(
        network, still, lambda images, keys: images,
        lambda batch: data.example_keys(batch["seed"], batch["epoch"], batch["example"]), None, layout,
    )  # fmt: skip
    return network, dict(variables), batches, run


def test_precise_statistics_are_those_of_what_enters_each_norm_normalised_by_batch():
    network, variables, batches, run = pass_of(())
    given = jax.tree.map(np.asarray, variables)
    found = run(variables, batches)

    def conv(x, name):
        return convolved(x, given["params"][name]["conv"]["kernel"])

    entering = {"low": [conv(batch["image"], "low") for batch in batches], "high": []}
    for x in entering["low"]:
        y = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)  # scale 1, bias 0 as initialised
        entering["high"].append(conv(y / (1 + np.exp(-y)), "high"))
    for name, maps in entering.items():
        whole = np.concatenate(maps).reshape(-1, 4).astype(np.float64)
        statistics = found["batch_stats"][name]["norm"]
        np.testing.assert_allclose(statistics["mean"], whole.mean(0), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(statistics["var"], whole.var(0, ddof=1), rtol=1e-3)
    jax.tree.map(np.testing.assert_array_equal, found["params"], given["params"])


def test_a_still_unit_keeps_its_bits_and_normalises_by_them():
    network, variables, batches, run = pass_of(("low",))
    low = {"mean": np.full(4, 0.1, np.float32), "var": np.full(4, 2.0, np.float32)}
    variables["batch_stats"] = {**variables["batch_stats"], "low": {"norm": low}}
    found = run(variables, batches)
    jax.tree.map(np.testing.assert_array_equal, found["batch_stats"]["low"]["norm"], low)
    wider = {"low": {"norm": {**low, "var": 9 * low["var"]}}}
    again = run({**variables, "batch_stats": {**variables["batch_stats"], **wider}}, batches)
    high, again = (each["batch_stats"]["high"]["norm"]["var"] for each in (found, again))
    assert np.abs(high / again - 1).max() > 0.5
    assert anything_moves(network, ("low",), variables["batch_stats"])
    assert not anything_moves(network, ("low", "high"), variables["batch_stats"])


def test_padding_is_no_example_of_a_population():
    _, variables, batches, run = pass_of(())
    plain = run(variables, batches)
    padded = [
        {name: np.concatenate([value, value[-1:], value[-1:]]) for name, value in batch.items()}
        | {"mask": np.float32([1] * 6 + [0] * 2)}
        for batch in batches
    ]
    found = run(variables, padded)
    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6),
        found["batch_stats"], plain["batch_stats"],
    )  # fmt: skip


# Through the training step.


def steps_of(estimate, parts=1, skip=False, count=3):
    """States after each of `count` steps of a small network, and the batches."""
    from dataclasses import replace

    network, variables = models.create(NAME, 2, cut=1), weights.initialise(NAME, 2, cut=1)
    (bound,) = strategies.bind(strategies.get("full"), variables["params"], NAME)
    optimizer = make_optimizer(bound, default_config().optimizer)
    step = jax.jit(TrainStep(
        network, bound, optimizer, make_loss("multiclass", jnp.ones(2)),
        lambda images, keys: images.astype(jnp.float32) / 255,
        lambda batch: data.example_keys(0, batch["epoch"], batch["example"]),
        layout=replace(ONE, accumulate=parts), estimate=estimate, skip=skip,
    ))  # fmt: skip
    images = RNG.integers(0, 255, (count, 4, 16, 16, 3)).astype(np.uint8)
    each = {"label": np.array([0, 1, 1, 0], np.int32), "example": np.arange(4, dtype=np.int32),
            "epoch": np.zeros(4, np.int32)}  # fmt: skip
    state, states = initial_state(variables, optimizer, bound.trainable, counted=estimate.corrected), []
    rate = jnp.float32(0)  # so that every batch meets the same weights
    for number in range(count):
        state, _ = step(state, {"image": images[number], **each}, rate)
        states.append(jax.device_get(state))
    maps = [stem_map(x.astype(np.float32) / 255, variables).reshape(4, -1, 64) for x in images]
    return states, maps


def test_a_step_moves_as_the_run_says_and_not_as_the_layer():
    for momentum in (0.5, 0.99):
        (state, *_), (x, *_) = steps_of(Estimate(momentum))
        mean = x.reshape(-1, 64).astype(np.float64).mean(0)
        found = state.batch_stats["stem"]["norm"]["mean"]
        np.testing.assert_allclose(found, (1 - momentum) * mean, rtol=1e-3, atol=1e-5)
        assert state.updates == {}


@pytest.mark.parametrize("parts", [1, 2])
def test_every_part_of_a_batch_counts_as_one(parts):
    states, maps = steps_of(Estimate(0.9, corrected=True), parts)
    each = [x[part::parts].reshape(-1, 64).astype(np.float64) for x in maps for part in range(parts)]
    for number, state in enumerate(states, start=1):
        seen = each[: number * parts]
        shares = 0.9 ** np.arange(len(seen))[::-1]
        assert state.updates.tolist() == [len(seen)]
        mean = np.average([x.mean(0) for x in seen], axis=0, weights=shares)
        var = np.average([x.var(0, ddof=1) for x in seen], axis=0, weights=shares)
        np.testing.assert_allclose(state.batch_stats["stem"]["norm"]["mean"], mean, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(state.batch_stats["stem"]["norm"]["var"], var, rtol=1e-3)


# Through whole runs.


@pytest.fixture
def small(config):
    set_fields(config, {"strategy": f"truncated({CUT})", "eval_every_epochs": 0.8, "data.loader_threads": 0})
    return config


def alike(one, other):
    mine, theirs = jax.device_get((one.variables, other.variables))
    jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    assert one.metrics["val"] == other.metrics["val"] and one.metrics["test"] == other.metrics["test"]


def lines(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in row if key != "img_per_s"} for row in rows]


@pytest.mark.parametrize("fields", [
    {**PRECISE, "strategy": f"truncated({CUT})+gradual_first_last", "total_steps": 8},
    {**PRECISE, "strategy": f"truncated({CUT})+ema(0.9)"},
    {"strategy": f"truncated({CUT})+lp_ft(bn='adapted')", "total_steps": 8},
    {"model.bn_estimate": "corrected",
     "strategy": f"truncated({CUT})+auto_rgn(batches=1, paper_faithful=True)"},
    {"model.bn_estimate": "corrected", "parallel.steps_per_call": 2, "nan_skip": 1},
])  # fmt: skip
def test_a_run_asked_to_stop_goes_on_bit_for_bit(tmp_path, small, datasets, fields):
    from tests.training.test_preemption import asking

    set_fields(small, {**fields, "cache_features": False})
    whole = train(small, tmp_path / "whole", datasets)
    broken = tmp_path / "broken"
    for split, at in (("val", 2), ("train", 4), ("val", 4)):  # training is read to estimate, too
        notice = Notice()
        with pytest.raises(Preempted):
            train(
                small,
                broken,
                {**datasets, split: asking(datasets[split], notice, at)},
                session=Session(notice=notice),
            )
    alike(train(small, broken, datasets), whole)
    assert lines(broken) == lines(tmp_path / "whole")


def test_what_is_validated_does_not_enter_training(tmp_path, small, datasets):
    losses, often = {}, {**PRECISE, "eval_every_epochs": 0.4}
    for name, fields in {"moving": {}, "precise": PRECISE, "often": often}.items():
        set_fields(small, {"model.bn_estimate": "moving", "log_every_steps": 1, **fields})
        train(small, tmp_path / name, datasets)
        losses[name] = [line["loss"] for line in lines(tmp_path / name) if "split" not in line]
    assert losses["moving"] == losses["precise"] == losses["often"]


def of_the_first_batches(config, datasets, variables, count):
    """Mean and variance of the stem's outputs over the first training batches, from its kernel alone."""
    from ttl_jax.training.build import build_model

    _, _, preprocessing = build_model(config, strategies.parse(config.strategy), 2)
    maps = []
    for batch in data.train_batches(datasets["train"], batch_size=8, seed=0, start=0, stop=count, threads=0):
        keys = data.example_keys(batch["seed"], batch["epoch"], batch["example"])
        keys = jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys)
        images = data.augment(batch["image"].astype(np.float32), keys, data.augmentation(config.data))
        maps.append(stem_map(preprocessing.normalise(images), variables))
    whole = np.concatenate(maps)
    return whole.mean(0), whole.var(0, ddof=1)


def test_the_kept_weights_have_the_moments_of_the_first_batches(tmp_path, small, datasets):
    set_fields(small, PRECISE)
    result = train(small, tmp_path, datasets)
    variables = jax.device_get(result.variables)
    mean, var = of_the_first_batches(small, datasets, variables, 3)
    statistics = variables["batch_stats"]["stem"]["norm"]
    np.testing.assert_allclose(statistics["mean"], mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(statistics["var"], var, rtol=1e-3)
    said = result.metrics["bn_estimate"], result.metrics["bn_momentum"]
    assert said == ("precise(3)", 0.9)


@pytest.mark.parametrize("solver", [None, "lbfgs"])
def test_an_adapted_phase_begins_with_the_moments_of_the_training_images_and_keeps_them(
    tmp_path, small, datasets, monkeypatch, solver
):
    monkeypatch.setattr(phase_data, "ADAPTED", 3)
    probe = strategies.get("lp_ft", bn="adapted", solver=solver).phases[0]
    made = Strategy("probe", Surgery(cut=CUT), phases=(replace(probe, until=None),))
    monkeypatch.setattr(strategies, "parse", lambda text: made)
    set_fields(small, {"data.augment": "none"} if solver else {})
    variables = jax.device_get(train(small, tmp_path, datasets).variables)
    mean, var = of_the_first_batches(small, datasets, variables, 3)
    statistics = variables["batch_stats"]["stem"]["norm"]
    np.testing.assert_allclose(statistics["mean"], mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(statistics["var"], var, rtol=1e-3)


def test_a_unit_that_becomes_still_keeps_the_precise_statistics(tmp_path, small, datasets, monkeypatch):
    validate = importlib.import_module("ttl_jax.training.hooks.validate")  # its function has its name

    seen, as_validated = [], validate.as_validated

    def spy(trainer, now):
        state = as_validated(trainer, now)
        seen.append((now.progress.phase, jax.device_get(state.batch_stats["stem"])))
        return state

    monkeypatch.setattr(validate, "as_validated", spy)
    whole = Phase(rules=((select.everything, "train"),), until="steps:4")
    probe = Phase(rules=((select.head, "train"), (select.backbone, "freeze")))
    made = Strategy("ft_lp", Surgery(cut=CUT), phases=(whole, probe))
    monkeypatch.setattr(strategies, "parse", lambda text: made)
    set_fields(small, {**PRECISE, "data.augment": "none"})
    train(small, tmp_path, datasets)
    last = [stem for phase, stem in seen if phase == 0][-1]
    later = [stem for phase, stem in seen if phase == 1]
    assert later
    for stem in later:
        jax.tree.map(np.testing.assert_array_equal, stem, last)


@pytest.mark.parametrize("strategy", ["soup('uniform', last=2)", "wise_ft(0.5)", "ema(0.5)"])
def test_an_average_gets_statistics_of_its_own(tmp_path, small, datasets, strategy):
    """Those of the mean weights: of the stem's map, which depends on its kernel alone."""
    set_fields(small, {**PRECISE, "strategy": f"truncated({CUT})+{strategy}", "data.augment": "none"})
    result = train(small, tmp_path, datasets)
    variables = jax.device_get(result.variables)
    from ttl_jax.training.build import build_model

    _, _, preprocessing = build_model(small, strategies.parse(small.strategy), 2)
    images = np.concatenate([
        batch["image"] for batch in
        data.train_batches(datasets["train"], batch_size=8, seed=0, start=0, stop=3, threads=0)
    ])  # fmt: skip
    x = stem_map(preprocessing.normalise(images.astype(np.float32)), variables)
    statistics = variables["batch_stats"]["stem"]["norm"]
    np.testing.assert_allclose(statistics["var"], x.var(0, ddof=1), rtol=2e-3)


def test_a_soup_of_runs_gets_them_too(tmp_path, small, datasets, monkeypatch):
    monkeypatch.setattr(data, "load", lambda settings: datasets)
    set_fields(small, {**PRECISE, "total_steps": 3})
    folders = []
    for seed, momentum in ((0, 0.9), (1, 0.5)):  # which says nothing about the weights
        set_fields(small, {"seed": seed, "model.bn_momentum": momentum})
        folders.append(train(small, tmp_path / f"{seed}", datasets).workdir)
    from ttl_jax.training.build import load_run

    soup(folders, tmp_path / "soup", "uniform")
    each = [load_run(folder).best["batch_stats"]["stem"]["norm"]["var"] for folder in folders]
    mean = load_run(tmp_path / "soup").best["batch_stats"]["stem"]["norm"]["var"]
    assert np.abs(mean - np.mean(each, axis=0)).max() > 1e-3 * np.abs(mean).max()


@pytest.mark.parametrize("fields", [
    {"model.name": "vgg16"}, {"strategy": f"truncated({CUT})+linear_probe"},
    {"strategy": f"truncated({CUT})+linear_probe(solver='lbfgs')"},
])  # fmt: skip
def test_where_nothing_moves_nothing_is_done(tmp_path, small, datasets, fields, monkeypatch):
    from ttl_jax.training.frozen import phase_data

    monkeypatch.setattr(phase_data, "make_reestimate", None)
    base = {"strategy": f"truncated({CUT})", "data.augment": "none", "total_steps": 2, **fields}
    results = []
    for estimate in ("moving", "corrected", "precise(2)"):
        set_fields(small, {**base, "model.bn_estimate": estimate})
        results.append(train(small, tmp_path / estimate, datasets))
    for other in results[1:]:
        alike(results[0], other)
    known = None if "model.name" in fields else "precise(2)"
    assert results[2].metrics["bn_estimate"] == known


def test_cached_features_give_the_statistics_of_images(tmp_path, small, datasets):
    set_fields(small, {**PRECISE, "strategy": "truncated(3)+layerwise(2)", "data.augment": "none"})
    found = []
    for cached in (True, False):
        set_fields(small, {"cache_features": cached})
        found.append(train(small, tmp_path / f"{cached}", datasets).variables["batch_stats"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4), *found)


def test_other_settings_share_no_program(tmp_path, small, datasets):
    programs, kept = Programs(keeps=True), []
    set_fields(small, {"total_steps": 2})
    for fields in ({}, {"model.bn_momentum": 0.5}, {"model.bn_estimate": "corrected"}, PRECISE, {"seed": 1}):
        set_fields(small, fields)
        train(small, tmp_path / str(len(kept)), datasets, session=Session(programs=programs))
        kept.append(next(program for key, program in programs.made.items() if key[0] == "step"))
    assert len({id(program) for program in kept}) == 4 and kept[3] is kept[4]


def test_probes_trained_together_leave_what_a_corrected_run_restores(tmp_path, small, datasets):
    from safetensors.numpy import save_file

    from ttl_jax.training.heads.many_runs import train_together

    path = tmp_path / "resnet18.safetensors"
    save_file(dict(weights.export_torch(weights.initialise(NAME, 2), NAME)), path)
    set_fields(small, {
        "strategy": f"truncated({CUT})+linear_probe", "data.augment": "none", "model.weights": str(path),
        "model.bn_estimate": "corrected",
    })  # fmt: skip
    members = []
    for rate in (1e-3, 1e-2):
        own = small.copy_and_resolve_references()
        set_fields(own, {"optimizer.lr": rate})
        members.append((own, tmp_path / f"{rate:g}"))
    assert train_together(members, datasets) == tuple(folder for _, folder in members)
    assert train(*members[0], datasets).metrics["trained_together"] == 2


def test_a_rung_of_a_search_and_a_cell_of_a_comparison_take_them(tmp_path, small, datasets):
    from ttl_jax.compare import cells
    from ttl_jax.compare import default_config as comparison

    set_fields(small, PRECISE)
    assert run_trial(small, tmp_path / "trial", 0.5, datasets) >= 0
    validated = [line for line in lines(tmp_path / "trial") if "split" in line]
    whole = train(small, tmp_path / "alone", {name: datasets[name] for name in ("train", "val")})
    alone = [line for line in lines(whole.workdir) if "split" in line]
    assert validated == alone[: len(validated)] and validated
    config = comparison()
    set_fields(config, {**PRECISE, "model.bn_momentum": 0.8})
    (setting, *_) = cells.settings(config)
    made = cells.cell_config(config, cells.final_cells(config, setting, 1e-3)[0])
    assert estimate_of(made.model) == Estimate(0.8, batches=3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model.bn_momentum": 1.0}, "bn_momentum=1.0 must be from 0 to below 1"),
        ({"model.bn_momentum": -0.1}, "bn_momentum=-0.1 must be"),
        ({"model.bn_momentum": float("nan")}, "bn_momentum=nan must be"),
        ({"model.bn_estimate": "precise(0)"}, "takes how many training batches, 1 to 9999"),
        ({"model.bn_estimate": "precise"}, "takes how many training batches"),
        ({"model.bn_estimate": "precise(2.5)"}, "takes how many training batches"),
        ({"model.bn_estimate": "corected"}, "bn_estimate='corected'.*'corrected'"),
    ],
)
def test_what_makes_no_sense_is_refused(fields, message):
    config = default_config()
    set_fields(config, fields)
    with pytest.raises(UserError, match=message):
        check(config)


@pytest.mark.parametrize(("model", "momentum"), [("efficientnet_lite0", 0.99), ("resnet50", 0.9)])
def test_a_run_of_the_version_before_goes_on_as_it_began_or_not_at_all(tmp_path, model, momentum):
    config = default_config()
    config.model.name = model
    provenance.claim(tmp_path, config)
    path = tmp_path / "config.json"
    record = json.loads(path.read_text())
    del record["config"]["model"]["bn_momentum"], record["config"]["model"]["bn_estimate"]
    path.write_text(json.dumps(record))
    if config.model.bn_momentum != momentum:
        with pytest.raises(UserError, match=f"model.bn_momentum: {momentum} -> {config.model.bn_momentum}"):
            provenance.check(tmp_path, config)
    set_fields(config, {"model.bn_momentum": momentum})
    provenance.check(tmp_path, config)
    set_fields(config, {"model.bn_estimate": "corrected"})
    with pytest.raises(UserError, match="model.bn_estimate: moving -> corrected"):
        provenance.check(tmp_path, config)
