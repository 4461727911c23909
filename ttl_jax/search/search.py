"""The whole search as a job: a config in, trials under a work folder, one winner, search.json out."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from ttl_jax import data, models, strategies
from ttl_jax.analysis.cost import Cost, cost_of
from ttl_jax.config import RunConfig, data_config, typed
from ttl_jax.data.dataset import Dataset
from ttl_jax.errors import UserError
from ttl_jax.evaluation.registry import metric
from ttl_jax.search.bayesian import WHOLE, bayesian_plan
from ttl_jax.search.candidates import Point, boundaries, chosen, points
from ttl_jax.search.config import SearchConfig, SearchOptions
from ttl_jax.search.finalists import Terms
from ttl_jax.search.halving import halving_plan
from ttl_jax.search.in_parallel import side_by_side
from ttl_jax.search.pareto import pareto
from ttl_jax.search.posterior import posterior
from ttl_jax.search.protocol import (
    Onward,
    Outcome,
    Plan,
    Request,
    SearchResult,
    follow,
    upcoming,
)
from ttl_jax.search.trial import LastSave, TrialTask, feature_store, known, report_test, run_trial
from ttl_jax.search.two_stage import exhaustive_plan, two_stage_plan
from ttl_jax.system import remote
from ttl_jax.system.json_object import read_object
from ttl_jax.system.preemption import Notice
from ttl_jax.training.check import check
from ttl_jax.training.compile_ahead import foresee
from ttl_jax.training.loop_state import LoopState
from ttl_jax.training.programs import Programs
from ttl_jax.training.records import provenance
from ttl_jax.training.session import Session
from ttl_jax.training.trainer import Hook, Trainer

if TYPE_CHECKING:
    from ml_collections import ConfigDict

SEEDED = ("bayesian", "halving")  # those that train finalists with more seeds


@dataclass(frozen=True)
class Setting:
    """The subject of a search, read from its config.

    Attributes:
        run: the config of its trainings, without the `search` part.
        options: the `search` part.
        points: candidate of each unit.
        stages: stage boundaries among the candidates.
        sign: 1 where high values of the metric selected by are good, -1 where low ones are.
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
    run = check(provenance.settled(replace(config, report=False)))
    base = strategies.text_of(run.strategy)
    by_unit = {point.unit: point for point in points(options.kind, run.model.name, base)}
    if options.units:
        by_unit = {unit: by_unit[unit] for unit in chosen(options.units, tuple(by_unit), "search.units")}
    stages = (
        chosen(options.stages, tuple(by_unit), "search.stages")
        if options.stages
        else boundaries(run.model.name, tuple(by_unit))
    )
    return Setting(run, options, by_unit, stages, metric(run.select).sign)


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
        config: the result of `search_config`, filled in.
        workdir: folder for config.json, trials/UNIT_SEED (a run each), search.json, figures/search.png;
            while it runs, features/ too.
        datasets: splits instead of those that the config names.
        apart: whether trials may run in other processes, which load what the config names. True where
            `datasets` holds just that. None: True where `datasets` is not given.
        notice: the notice of `preemption.watch`, polled so that trainings can be asked to save and stop.
        committed: called whenever trials have ended (to copy the folder elsewhere).

    Returns:
        The content of search.json.

    Raises:
        UserError: something in the config or the data has to be mended.
        Preempted: the notice asked to stop; the same call goes on.
    """
    workdir, notice = remote.only_local(workdir), notice or Notice()
    setting = read(config)
    setting = replace(setting, run=provenance.as_begun(workdir, setting.run))
    next(_plan(setting))  # refuses bad options before anything is loaded
    provenance.check(workdir, setting.run)
    sets = dict(datasets) if datasets is not None else data.load(data_config(setting.run.data))
    manifest = provenance.check_made_from(workdir, setting.run, sets)
    costs = unit_costs(setting, len(sets["train"].class_names))
    # Claimed once every network was built: a search that is refused leaves no folder.
    provenance.claim(workdir, setting.run, manifest)
    price = relative_price(setting, costs)
    alone = datasets is None if apart is None else apart
    trainings = Trainings(setting, workdir, sets, alone, notice, committed)
    with LastSave(committed) as last_save:
        evaluations = _Evaluations(trainings, price, last_save)
        climb = evaluations.climb if setting.options.engine == "local" else None
        result = follow(_plan(setting), evaluations.evaluate, climb=climb)
    winners = [trial for trial in result.trials if (trial.unit, trial.budget) == (result.best, 1.0)]
    tests = [trainings.report_test(_request(trial)) for trial in winners if not math.isnan(trial.score)]
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
    if typed(SearchConfig, config).report and tests:
        from ttl_jax import report

        title = f"{record['model']}, {record['kind'].upper()} by {record['method']}"
        shown, folders = report.read_search(workdir)
        report.write(folders, workdir / "report.html", title, search=shown)
    return record


@dataclass(frozen=True)
class Trainings:
    """The trainings of a search, and what they share.

    Attributes:
        setting: the subject of the search.
        workdir: folder of the search, under which each training has its own.
        sets: the splits.
        apart: whether trainings may run in other processes.
        notice: polled, so that trainings under way can be asked to save and stop.
        committed: called whenever trials have ended.
        programs: compiled programs; a unit comes again, for more of its training and with other seeds.
    """

    setting: Setting
    workdir: Path
    sets: Mapping[str, Dataset]
    apart: bool
    notice: Notice
    committed: Callable[[], None]
    programs: Programs = field(default_factory=lambda: Programs(keeps=True))

    def folder(self, request: Request) -> Path:
        """The folder of a trial."""
        return folder(self.workdir, request)

    @property
    def session(self) -> Session:
        """The resources that this process lends to its trainings."""
        features = feature_store(self.setting.run, self.features)
        return Session(self.notice, self.programs, features)

    @property
    def features(self) -> str:
        """The folder in which trials share frozen features; "" where they do not."""
        return str((self.workdir / "features").resolve()) if self.setting.run.cache_disk_gb > 0 else ""

    def report_test(self, request: Request) -> dict[str, Any]:
        """The test scores of a finished trial; see `trial.report_test`."""
        return report_test(self.setting.trial(request), self.folder(request), self.sets, self.session)

    def run(
        self,
        request: Request,
        last_save: LastSave | None = None,
        onward: Onward | None = None,
        hooks: Sequence[Hook] = (),
    ) -> float:
        """The validation figure of a trial in this process; see `run_trial`."""
        place, budget = self.folder(request), request.budget
        return run_trial(
            self.setting.trial(request), place, budget, self.sets, self.session, last_save, onward, hooks
        )

    def is_known(self, request: Request) -> bool:
        """Return whether the trial's folder has the answer."""
        return str(float(request.budget)) in known(self.folder(request))


def folder(workdir: Path, request: Request) -> Path:
    """Return the folder of a trial."""
    return workdir / "trials" / f"unit{request.unit:02d}_seed{request.seed}"


def _result(place: Path) -> dict[str, Any]:
    path = place / "result.json"
    return read_object(path) if path.exists() else {}


def _request(trial: Any) -> Request:
    return Request(trial.unit, trial.budget, trial.seed)


def _plan(setting: Setting) -> Plan:
    """The search as a plan over values: score, less weight times price, high is good."""
    return plan_of(setting.options, setting.run, setting.stages, tuple(setting.points))


def plan_of(options: SearchOptions, run: RunConfig, stages: Sequence[int], units: Sequence[int]) -> Plan:
    """The plan that a config asks for.

    Args:
        options: the `search` part of the config.
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
    terms = Terms(
        seeds=tuple(range(run.seed, run.seed + options.seeds)),
        finalists=options.finalists,
        allowance=max(options.allowance * len(units), WHOLE),
        confidence=options.confidence,
        tolerance=options.tolerance,
        width=options.workers,
    )
    if options.method == "bayesian":
        return bayesian_plan(units, terms, pilot=validated((options.pilot,), run)[0])
    return halving_plan(stages, units, terms, rungs=validated(options.rungs, run), eta=options.eta)


def is_sure(options: SearchOptions, units: Sequence[int], result: SearchResult) -> bool:
    """Return whether no unit beats the chosen one by more than the tolerance, at the config's confidence.

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
            outcome: Outcome = end.value
            return outcome
        given = yield tuple(request._replace(seed=seed) for request in wanted)
        answers = {request: given[request._replace(seed=seed)] for request in wanted}


def unit_costs(setting: Setting, classes: int) -> dict[int, Cost]:
    """The cost of each candidate's network at inference."""
    shape, costs = models.input_shape(setting.run.model.name, setting.run.data.image_size), {}
    batches = (1,) if setting.options.price == "latency" else ()
    networks: dict[Any, Cost] = {}
    for unit, point in setting.points.items():
        network = models.create(
            setting.run.model.name, classes, head=setting.run.model.head or None, **point.shape
        )
        if network not in networks:
            networks[network] = cost_of(network, shape, batches=batches)
        costs[unit] = networks[network]
    return costs


def relative_price(setting: Setting, costs: Mapping[int, Cost]) -> dict[int, float]:
    """Each candidate's price as a share of the dearest one's."""

    def price(cost: Cost) -> float:
        if setting.options.price == "latency":
            return cost.latency_ms[1]
        return float(cost.macs if setting.options.price == "macs" else cost.params)

    dearest = max(price(cost) for cost in costs.values())
    return {unit: price(cost) / dearest for unit, cost in costs.items()}


@dataclass
class _Begun(Hook):
    """Calls a function when the steps of a phase begin."""

    begin: Callable[[], None]

    def on_phase(self, trainer: Trainer, now: LoopState) -> None:
        """Calls it."""
        self.begin()


@dataclass(frozen=True)
class _Evaluations:
    """The values of requests, in this process or in workers; folders that have the answer are read.

    Attributes:
        trainings: the trainings of the search.
        price: price of each unit, as a share of the dearest one's.
        last_save: what the trial before has left to write.
        told: the values that were told in this process.
    """

    trainings: Trainings
    price: Mapping[int, float]
    last_save: LastSave
    told: dict[Request, float] = field(default_factory=dict)

    def evaluate(self, requests: tuple[Request, ...]) -> list[float]:
        """The values of requests, side by side where that is allowed."""
        if self._in_turn:
            return [self.climb(request) for request in requests]
        scores = train_all(self.trainings, requests, self.last_save)
        return [self._value(request, score) for request, score in zip(requests, scores, strict=True)]

    def climb(self, request: Request, onward: Onward | None = None) -> float:
        """The value of a trial in this process; of what the same training went on to where it did."""
        reached, ended = request, False  # ended: its score was told and nothing more is wanted

        def answered(score: float) -> float:
            self.told[reached] = self._value(reached, score)
            return self.told[reached]

        def go_on(score: float) -> float | None:
            nonlocal reached, ended
            assert onward is not None
            budget = onward(answered(score))
            if budget is None:
                ended = True
            else:
                reached = reached._replace(budget=budget)
                self._begin_next(reached)
            return budget

        score = self.trainings.run(
            request,
            self.last_save,
            None if onward is None else go_on,
            (_Begun(lambda: self._begin_next(reached)),),
        )
        return score if ended else answered(score)

    @property
    def _in_turn(self) -> bool:
        options = self.trainings.setting.options
        return options.engine == "local" and options.workers == 1

    def _value(self, request: Request, score: float) -> float:
        """Score less weight times price, told to the user."""
        setting = self.trainings.setting
        said = "failed" if math.isnan(score) else f"{metric(setting.run.select).name} {score:.4f}"
        print(
            f"unit {request.unit} ({setting.points[request.unit].name}), seed {request.seed}, "
            f"{request.budget:.0%} of the training: {said}",
            flush=True,
        )
        return setting.sign * score - setting.options.weight * self.price[request.unit]

    def _begin_next(self, request: Request) -> None:
        """Has the programs made that the trial after this one most likely needs."""
        trainings, setting = self.trainings, self.trainings.setting
        following = upcoming(partial(_plan, setting), self.told, request) if self._in_turn else None
        if following is None or trainings.is_known(following):
            return
        seen = {name: trainings.sets[name] for name in ("train", "val")}
        foresee(setting.trial(following), trainings.folder(following), seen, trainings.session)


def train_all(
    trainings: Trainings, requests: Sequence[Request], last_save: LastSave | None = None
) -> list[float]:
    """Trains what is requested, side by side where that is allowed; returns the validation figures.

    Args:
        trainings: the trainings of the search.
        requests: the trainings to do, in the order in which they are to begin.
        last_save: saving that may go on after the return; without it all is on disk by then.

    Raises:
        UserError, Preempted: see `side_by_side`.
    """
    setting, options = trainings.setting, trainings.setting.options
    new = [request for request in requests if not trainings.is_known(request)]
    alone = options.engine == "local" and (options.workers == 1 or len(new) < 2)
    if not trainings.apart and options.engine != "local":
        raise UserError(
            f"config search.engine={options.engine!r} needs data that the config names: its processes read it"
        )
    if alone or not trainings.apart:
        own = contextlib.nullcontext(last_save) if last_save is not None else LastSave(trainings.committed)
        with own as saving:
            return [trainings.run(request, saving) for request in requests]
    waiting = [
        TrialTask(
            str(trainings.folder(request).resolve()),
            setting.trial(request),
            request.budget,
            trainings.features,
        )
        for request in new
    ]
    side_by_side(
        waiting, options.engine, options.workers, trainings.workdir, trainings.notice, trainings.committed
    )
    return [trainings.run(request) for request in requests]  # reads the answers


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
        "select": metric(setting.run.select).name,
        "best": result.best,
        "unit": best.name,
        "strategy": strategies.title(best.strategy),
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
        "units": _units(setting, scores, costs, price),
        "trials": trials,
        "test": _spread(tests),
    }


def _units(
    setting: Setting, scores: Mapping[int, float], costs: Mapping[int, Cost], price: Mapping[int, float]
) -> list[dict[str, Any]]:
    """Each candidate's score, where it has one, and what its network costs."""
    return [
        {
            "unit": unit,
            "name": point.name,
            "strategy": strategies.title(point.strategy),
            "score": scores[unit] if unit in scores else None,
            "params": costs[unit].params,
            "macs": costs[unit].macs,
            "price": price[unit],
        }
        for unit, point in setting.points.items()
    ]


def _spread(tests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and sample standard deviation of each test figure over the winner's seeds."""
    spread: dict[str, Any] = {"seeds": len(tests)}
    for name in tests[0] if tests else ():
        values = [test[name] for test in tests]
        if all(isinstance(value, (int, float)) for value in values):
            spread[name] = fmean(values)
            if len(values) > 1:
                spread[f"{name}_sd"] = stdev(values)
    return spread
