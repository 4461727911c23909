"""The whole search as a job: a config in, trials under a work folder, one winner, search.json out."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from ttl_jax import data, models, strategies
from ttl_jax.analysis.cost import Cost, cost_of
from ttl_jax.config import data_config, typed
from ttl_jax.data.dataset import Dataset
from ttl_jax.evaluation.registry import metric
from ttl_jax.search.config import SearchConfig
from ttl_jax.search.pareto import pareto
from ttl_jax.search.protocol import SearchResult, follow
from ttl_jax.search.subject import Subject, is_sure, plan_for, read, request_of
from ttl_jax.search.trainings import Evaluations, Trainings, folder
from ttl_jax.search.trial import LastSave
from ttl_jax.system import remote
from ttl_jax.system.json_object import read_object
from ttl_jax.system.lock import held
from ttl_jax.system.preemption import Notice
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.records import provenance

if TYPE_CHECKING:
    from ml_collections import ConfigDict


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
        UserError: something in the config or the data has to be mended, or another process is at the search.
        Preempted: the notice asked to stop; the same call goes on.
    """
    workdir, notice = remote.only_local(workdir), notice or Notice()
    subject = read(config)
    subject = replace(subject, run=provenance.as_begun(workdir, subject.run))
    next(plan_for(subject))  # refuses bad options before anything is loaded
    provenance.check(workdir, subject.run)
    sets = dict(datasets) if datasets is not None else data.load(data_config(subject.run.data))
    manifest = provenance.check_made_from(workdir, subject.run, sets)
    costs = unit_costs(subject, len(sets["train"].class_names))
    alone = datasets is None if apart is None else apart
    trainings = Trainings(subject, workdir, sets, alone, notice, committed)
    # Claimed once every network was built: a search that is refused leaves no folder.
    workdir.mkdir(parents=True, exist_ok=True)
    with held(workdir / "lock", wait=False):
        provenance.claim(workdir, subject.run, manifest)
        return _search(trainings, costs, typed(SearchConfig, config).report)


def _search(trainings: Trainings, costs: Mapping[int, Cost], with_report: bool) -> dict[str, Any]:
    """Searches in a folder that is this process's alone."""
    subject, workdir, price = trainings.subject, trainings.workdir, relative_price(trainings.subject, costs)
    with LastSave(trainings.committed) as last_save:
        evaluations = Evaluations(trainings, price, last_save)
        climb = evaluations.climb if subject.options.engine == "local" else None
        result = follow(plan_for(subject), evaluations.evaluate, climb=climb)
    winners = [trial for trial in result.trials if (trial.unit, trial.budget) == (result.best, 1.0)]
    tests = [trainings.report_test(request_of(trial)) for trial in winners if not math.isnan(trial.score)]
    shutil.rmtree(workdir / "features", ignore_errors=True)
    record = _record(subject, result, costs, price, workdir, tests)
    record["warnings"] = [
        warning
        for trial in winners
        for warning in _result(folder(workdir, request_of(trial))).get("warnings", ())
    ]
    write_json(workdir / "search.json", record)
    from ttl_jax.search.figure import draw

    draw(record, workdir / "figures" / "search.png")
    if with_report and tests:
        from ttl_jax import report

        title = f"{record['model']}, {record['kind'].upper()} by {record['method']}"
        shown, folders = report.read_search(workdir)
        report.write(folders, workdir / "report.html", title, search=shown)
    return record


def unit_costs(subject: Subject, classes: int) -> dict[int, Cost]:
    """The cost of each candidate's network at inference."""
    shape, costs = models.input_shape(subject.run.model.name, subject.run.data.image_size), {}
    batches = (1,) if subject.options.price == "latency" else ()
    networks: dict[Any, Cost] = {}
    for unit, point in subject.points.items():
        network = models.create(
            subject.run.model.name, classes, head=subject.run.model.head or None, **point.shape
        )
        if network not in networks:
            networks[network] = cost_of(network, shape, batches=batches)
        costs[unit] = networks[network]
    return costs


def relative_price(subject: Subject, costs: Mapping[int, Cost]) -> dict[int, float]:
    """Each candidate's price as a share of the dearest one's."""

    def price(cost: Cost) -> float:
        if subject.options.price == "latency":
            return cost.latency_ms[1]
        return float(cost.macs if subject.options.price == "macs" else cost.params)

    dearest = max(price(cost) for cost in costs.values())
    return {unit: price(cost) / dearest for unit, cost in costs.items()}


def _record(
    subject: Subject,
    result: SearchResult,
    costs: Mapping[int, Cost],
    price: Mapping[int, float],
    workdir: Path,
    tests: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """search.json."""
    weight = subject.options.weight

    def raw(unit: int, value: float) -> float | None:
        return None if math.isnan(value) else subject.sign * (value + weight * price[unit])

    trials = [
        {
            "unit": trial.unit,
            "seed": trial.seed,
            "budget": trial.budget,
            "score": raw(trial.unit, trial.score),
            "cost": trial.cost,
            "folder": str(folder(workdir, request_of(trial)).relative_to(workdir)),
        }
        for trial in result.trials
    ]
    whole: dict[int, list[float]] = {}
    for trial in result.trials:
        score = raw(trial.unit, trial.score)
        if trial.budget == 1 and score is not None:
            whole.setdefault(trial.unit, []).append(score)
    scores = {unit: fmean(whole[unit]) for unit in subject.points if unit in whole}
    front = pareto(scores, price, maximize=subject.sign > 0)
    best, sure = subject.points[result.best], is_sure(subject.options, tuple(subject.points), result)
    return {
        "kind": subject.options.kind,
        "method": subject.options.method,
        "model": subject.run.model.name,
        "dataset": subject.run.data.name,
        "select": metric(subject.run.select).name,
        "best": result.best,
        "unit": best.name,
        "strategy": strategies.title(best.strategy),
        "score": raw(result.best, result.score),
        "rounds": list(result.rounds),
        "stages": list(subject.stages),
        "reason": result.reason,
        "tolerance": subject.options.tolerance,
        "confidence": subject.options.confidence if sure else None,  # None: none can be named
        "cost": round(result.cost, 6),
        "exhaustive_cost": len(subject.points),
        "price": subject.options.price,
        "weight": weight,
        "front": list(front),
        "units": _units(subject, scores, costs, price),
        "trials": trials,
        "test": _spread(tests),
    }


def _units(
    subject: Subject, scores: Mapping[int, float], costs: Mapping[int, Cost], price: Mapping[int, float]
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
        for unit, point in subject.points.items()
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


def _result(place: Path) -> dict[str, Any]:
    path = place / "result.json"
    return read_object(path) if path.exists() else {}
