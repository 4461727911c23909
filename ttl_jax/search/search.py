"""The whole search as a job: a config in, trials under a work folder, one winner, search.json out."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from ttl_jax import data, models
from ttl_jax.analysis.cost import Cost, cost_of
from ttl_jax.config import RunConfig, data_config, typed
from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.search.bayesian import WHOLE, bayesian_plan
from ttl_jax.search.candidates import Point, boundaries, chosen, points
from ttl_jax.search.config import SearchConfig, SearchOptions
from ttl_jax.search.halving import halving_plan
from ttl_jax.search.in_parallel import side_by_side
from ttl_jax.search.pareto import pareto
from ttl_jax.search.posterior import posterior
from ttl_jax.search.protocol import (
    Climb,
    Evaluate,
    Onward,
    Plan,
    Request,
    SearchResult,
    follow,
    upcoming,
)
from ttl_jax.search.trial import LastSave, TrialTask, feature_store, known, report_test, run_trial
from ttl_jax.search.two_stage import exhaustive_plan, two_stage_plan
from ttl_jax.system import remote
from ttl_jax.system.preemption import Notice
from ttl_jax.training.check import check
from ttl_jax.training.foresee import foresee
from ttl_jax.training.frozen.store import FeatureStore
from ttl_jax.training.programs import Programs
from ttl_jax.training.records import provenance

if TYPE_CHECKING:
    from ml_collections import ConfigDict

SEEDED = ("bayesian", "halving")  # those that train finalists with more seeds


@dataclass(frozen=True)
class Setting:
    """What a search is about, read from its config.

    Attributes:
        run: the config of its trainings, without the `search` part.
        options: the `search` part.
        points: candidate by unit.
        stages: boundaries among the candidates.
        sign: 1 where high scores are good, -1 for a loss.
    """

    run: RunConfig
    options: SearchOptions
    points: dict[int, Point]
    stages: tuple[int, ...]
    sign: float

    def trial(self, request: Request) -> RunConfig:
        """The config of one training."""
        return replace(self.run, strategy=self.points[request.unit].strategy, seed=request.seed)


def read(config: ConfigDict | SearchConfig) -> Setting:
    """Checks a search's config.

    Raises:
        UserError: naming the field.
    """
    config = typed(SearchConfig, config)
    options = config.search
    if options.seeds > 1 and options.method not in SEEDED:
        raise UserError(
            f"config search.seeds={options.seeds} is for method=halving and method=bayesian; the "
            f"{options.method} search trains each unit once"
        )
    run = replace(check(config), report=False)
    found = {point.unit: point for point in points(options.kind, run.model.name, run.strategy)}
    if options.units:
        found = {unit: found[unit] for unit in chosen(options.units, tuple(found), "search.units")}
    stages = (
        chosen(options.stages, tuple(found), "search.stages")
        if options.stages
        else boundaries(run.model.name, tuple(found))
    )
    return Setting(run, options, found, stages, -1.0 if run.select == "loss" else 1.0)


def search(
    config: ConfigDict | SearchConfig,
    workdir: str | Path,
    datasets: Mapping[str, Dataset] | None = None,
    *,
    apart: bool | None = None,
    notice: Notice | None = None,
    committed: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Runs or resumes a search; the same call again trains nothing.

    Args:
        config: from `search_config`, filled in.
        workdir: folder for config.json, trials/UNIT_SEED (a run each), search.json, figures/search.png;
            while it runs, features/ too.
        datasets: splits instead of those that the config names.
        apart: whether trials may run in processes of their own, which load what the config names; where
            that is what `datasets` holds too. Without it: where there are no `datasets`.
        notice: of `preemption.watch`: polled, so that trainings under way can be asked to save and stop.
        committed: called whenever trials have ended (to copy the folder elsewhere).

    Returns:
        The content of search.json.

    Raises:
        UserError: something in the config or the data has to be mended.
        Preempted: the notice asked to stop; the same call goes on.
    """
    workdir, notice = remote.only_local(workdir), notice or Notice()
    setting = read(config)
    next(_plan(setting))  # refuses bad options before anything is loaded
    provenance.check(workdir, setting.run)
    sets = dict(datasets) if datasets is not None else data.load(data_config(setting.run.data))
    costs = unit_costs(setting, len(sets["train"].class_names))
    provenance.claim(workdir, setting.run)
    price = relative_price(setting, costs)
    alone = datasets is None if apart is None else apart
    programs = Programs(keeps=True)  # a unit comes again: for more of its training, and with other seeds
    with LastSave(committed) as last_save:
        evaluate, climb = _evaluations(
            setting, price, workdir, sets, alone, notice, committed, programs, last_save
        )
        result = follow(_plan(setting), evaluate, climb=climb if setting.options.engine == "local" else None)
    winners = [trial for trial in result.trials if (trial.unit, trial.budget) == (result.best, 1.0)]
    tests = [
        report_test(setting.trial(_request(trial)), folder(workdir, _request(trial)), sets, notice, programs)
        for trial in winners
        if not math.isnan(trial.score)
    ]
    shutil.rmtree(workdir / "features", ignore_errors=True)
    record = _record(setting, result, costs, price, workdir, tests)
    record["warnings"] = [
        warning
        for trial in winners
        for warning in _result(folder(workdir, _request(trial))).get("warnings", ())
    ]
    provenance.write_json(workdir / "search.json", record)
    from ttl_jax.search.figure import draw

    draw(record, workdir / "figures" / "search.png")
    return record


def folder(workdir: Path, request: Request) -> Path:
    """Where a trial lies."""
    return workdir / "trials" / f"unit{request.unit:02d}_seed{request.seed}"


def _result(place: Path) -> dict[str, Any]:
    path = place / "result.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _request(trial: Any) -> Request:
    return Request(trial.unit, trial.budget, trial.seed)


def _plan(setting: Setting) -> Plan:
    """The search as a plan over values: score, less weight times price, high is good."""
    return plan_of(setting.options, setting.run, setting.stages, tuple(setting.points))


def plan_of(options: SearchOptions, run: RunConfig, stages: Sequence[int], units: Sequence[int]) -> Plan:
    """The plan that a config asks for.

    Args:
        options: its `search` part.
        run: the config of its trainings (seed, epochs, validations).
        stages: boundaries among the units.
        units: candidates.

    Raises:
        UserError: naming what is out of range.
    """
    if options.method == "exhaustive":
        return _seeded(exhaustive_plan(units), run.seed)
    if options.method == "two_stage":
        return _seeded(two_stage_plan(stages, units), run.seed)
    shared: dict[str, Any] = {
        "seeds": tuple(range(run.seed, run.seed + options.seeds)),
        "finalists": options.finalists,
        "allowance": max(options.allowance * len(units), WHOLE),
        "confidence": options.confidence,
        "tolerance": options.tolerance,
        "width": options.workers,
    }
    if options.method == "bayesian":
        return bayesian_plan(units, pilot=validated((options.pilot,), run)[0], **shared)
    return halving_plan(stages, units, rungs=validated(options.rungs, run), eta=options.eta, **shared)


def is_sure(options: SearchOptions, units: Sequence[int], result: SearchResult) -> bool:
    """Whether no unit is better than the chosen one by more than the tolerance, at the config's confidence.

    The posterior's answer, which depends on the trials, not on who asked for them. Never after halving:
    of the few claims that its trials allow, 3 of 38 were wrong in simulations (docs/search.md).
    """
    if options.method == "halving":
        return False
    scores = {_request(trial): trial.score for trial in result.trials}
    return posterior(units, scores, options.tolerance).sure(result.best, options.confidence)


def validated(rungs: Sequence[float], run: RunConfig) -> tuple[float, ...]:
    """The rungs, each moved up to the next share of the training at which it is validated.

    There a trial pauses; a rung between would be said to cost less than it does.
    """
    if run.total_steps > 0:  # how many epochs that is depends on the data
        return tuple(float(rung) for rung in rungs)
    every = run.eval_every_epochs / run.total_epochs
    return tuple(dict.fromkeys(min(1.0, math.ceil(rung / every - 1e-6) * every) for rung in rungs))


def _seeded(plan: Plan, seed: int) -> Plan:
    """A plan that asks for seed 0, asking for another one."""
    answers: Mapping[Request, float] | None = None
    while True:
        try:
            wanted = next(plan) if answers is None else plan.send(answers)
        except StopIteration as end:
            return end.value
        given = yield tuple(request._replace(seed=seed) for request in wanted)
        answers = {request: given[request._replace(seed=seed)] for request in wanted}


def unit_costs(setting: Setting, classes: int) -> dict[int, Cost]:
    """What each candidate's network costs at inference."""
    shape, found = models.input_shape(setting.run.model.name, setting.run.data.image_size), {}
    batches = (1,) if setting.options.price == "latency" else ()
    networks: dict[Any, Cost] = {}
    for unit, point in setting.points.items():
        network = models.create(
            setting.run.model.name, classes, head=setting.run.model.head or None, **point.shape
        )
        if network not in networks:
            networks[network] = cost_of(network, shape, batches=batches)
        found[unit] = networks[network]
    return found


def relative_price(setting: Setting, costs: Mapping[int, Cost]) -> dict[int, float]:
    """Each candidate's price as a share of the dearest one's."""

    def price(found: Cost) -> float:
        if setting.options.price == "latency":
            return found.latency_ms[1]
        return float(found.macs if setting.options.price == "macs" else found.params)

    dearest = max(price(found) for found in costs.values())
    return {unit: price(found) / dearest for unit, found in costs.items()}


def _evaluations(
    setting: Setting,
    price: Mapping[int, float],
    workdir: Path,
    sets: Mapping[str, Dataset],
    apart: bool,
    notice: Notice,
    committed: Callable[[], None],
    programs: Programs,
    last_save: LastSave,
) -> tuple[Evaluate, Climb]:
    """Scores of requests, here or in worker processes; what the folders know already is not asked."""

    def value(request: Request, score: float) -> float:
        point = setting.points[request.unit]
        said = "failed" if math.isnan(score) else f"{setting.run.select} {score:.4f}"
        print(
            f"unit {request.unit} ({point.name}), seed {request.seed}, {request.budget:.0%} "
            f"of the training: {said}",
            flush=True,
        )
        return setting.sign * score - setting.options.weight * price[request.unit]

    told: dict[Request, float] = {}
    in_turn = setting.options.engine == "local" and setting.options.workers == 1

    def begin_next(request: Request) -> None:
        """Has the programs made that the trial after this one most likely needs."""
        following = upcoming(partial(_plan, setting), told, request) if in_turn else None
        if following is None:
            return
        place = folder(workdir, following)
        if str(float(following.budget)) in known(place):
            return
        seen = {name: sets[name] for name in ("train", "val")}
        foresee(setting.trial(following), place, seen, programs, _shared_features(setting, workdir))

    def here(request: Request, onward: Onward | None = None) -> float:
        """The value of a trial in this process; of what the same training went on to where it did."""
        reached, ended = request, False  # ended: its score was told and nothing more is wanted

        def answered(score: float) -> float:
            told[reached] = value(reached, score)
            return told[reached]

        def go_on(score: float) -> float | None:
            nonlocal reached, ended
            assert onward is not None
            budget = onward(answered(score))
            if budget is None:
                ended = True
            else:
                reached = reached._replace(budget=budget)
                begin_next(reached)
            return budget

        score = run_trial(
            setting.trial(request),
            folder(workdir, request),
            request.budget,
            sets,
            notice,
            programs,
            _shared_features(setting, workdir),
            last_save,
            None if onward is None else go_on,
            lambda: begin_next(reached),
        )
        return score if ended else answered(score)

    def evaluate(requests: tuple[Request, ...]) -> list[float]:
        if in_turn:
            return [here(request) for request in requests]
        scores = train_all(
            setting,
            workdir,
            sets,
            requests,
            apart=apart,
            notice=notice,
            committed=committed,
            programs=programs,
            last_save=last_save,
        )
        return [value(request, score) for request, score in zip(requests, scores, strict=True)]

    return evaluate, here


def train_all(
    setting: Setting,
    workdir: Path,
    sets: Mapping[str, Dataset],
    requests: Sequence[Request],
    *,
    apart: bool,
    notice: Notice,
    committed: Callable[[], None],
    programs: Programs,
    last_save: LastSave | None = None,
) -> list[float]:
    """Validation figures of requests, side by side where `apart` allows it.

    With `last_save` the last one may still be written; `committed` is then its own.

    Raises:
        UserError, Preempted: see `side_by_side`.
    """
    options = setting.options
    jobs = [(setting.trial(request), folder(workdir, request), request.budget) for request in requests]
    new = [job for job in jobs if str(float(job[2])) not in known(job[1])]
    alone = options.engine == "local" and (options.workers == 1 or len(new) < 2)
    if not apart and options.engine != "local":
        raise UserError(
            f"config search.engine={options.engine!r} needs data that the config names: its processes read it"
        )
    if alone or not apart:
        scores, features = [], _shared_features(setting, workdir)
        with contextlib.nullcontext(last_save) if last_save is not None else LastSave(committed) as saving:
            for job in jobs:
                scores.append(run_trial(*job, sets, notice, programs, features, saving))
        return scores
    shared = _features_folder(setting, workdir)
    waiting = [TrialTask(str(place.resolve()), config, budget, shared) for config, place, budget in new]
    side_by_side(waiting, options.engine, options.workers, workdir, notice, committed)
    return [run_trial(*job, sets) for job in jobs]  # reads the answers


def _features_folder(setting: Setting, workdir: Path) -> str:
    """Where trials share the features of frozen units; "" where they do not."""
    return str((workdir / "features").resolve()) if setting.run.cache_disk_gb > 0 else ""


def _shared_features(setting: Setting, workdir: Path) -> FeatureStore | None:
    return feature_store(setting.run, _features_folder(setting, workdir))


def _record(
    setting: Setting,
    result: SearchResult,
    costs: Mapping[int, Cost],
    price: Mapping[int, float],
    workdir: Path,
    tests: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """search.json."""
    weight = setting.options.weight

    def raw(unit: int, value: float) -> float | None:
        return None if math.isnan(value) else setting.sign * (value + weight * price[unit])

    trials = [
        {
            "unit": trial.unit,
            "seed": trial.seed,
            "budget": trial.budget,
            "score": raw(trial.unit, trial.score),
            "cost": trial.cost,
            "folder": str(folder(workdir, _request(trial)).relative_to(workdir)),
        }
        for trial in result.trials
    ]
    whole: dict[int, list[float]] = {}
    for trial in result.trials:
        score = raw(trial.unit, trial.score)
        if trial.budget == 1 and score is not None:
            whole.setdefault(trial.unit, []).append(score)
    scores = {unit: fmean(whole[unit]) for unit in setting.points if unit in whole}
    front = pareto(scores, price, maximize=setting.sign > 0)
    best, sure = setting.points[result.best], is_sure(setting.options, tuple(setting.points), result)
    return {
        "kind": setting.options.kind,
        "method": setting.options.method,
        "model": setting.run.model.name,
        "dataset": setting.run.data.name,
        "select": setting.run.select,
        "best": result.best,
        "unit": best.name,
        "strategy": best.strategy,
        "score": raw(result.best, result.score),
        "rounds": list(result.rounds),
        "stages": list(setting.stages),
        "reason": result.reason,
        "tolerance": setting.options.tolerance,
        "confidence": setting.options.confidence if sure else None,  # None: none can be named
        "cost": round(result.cost, 6),
        "exhaustive_cost": len(setting.points),
        "price": setting.options.price,
        "weight": weight,
        "front": list(front),
        "units": [
            {
                "unit": unit,
                "name": point.name,
                "strategy": point.strategy,
                "score": scores[unit] if unit in scores else None,
                "params": costs[unit].params,
                "macs": costs[unit].macs,
                "price": price[unit],
            }
            for unit, point in setting.points.items()
        ],
        "trials": trials,
        "test": _spread(tests),
    }


def _spread(tests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation of each test figure over the winner's seeds."""
    found: dict[str, Any] = {"seeds": len(tests)}
    for name in tests[0] if tests else ():
        values = [test[name] for test in tests]
        if all(isinstance(value, (int, float)) for value in values):
            found[name] = fmean(values)
            if len(values) > 1:
                found[f"{name}_sd"] = stdev(values)
    return found
