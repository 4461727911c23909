"""The TTL paper's table: FTL beside the winners of both stages of the search, for LWFT, TF and TTL.

Peng et al. 2023, its main comparison: stage one tries the ends of the network's stages
(its winner is the method's "-1"), stage two every unit beside that winner ("-2"). Selection is on
validation with one seed; only what was selected is trained with more seeds and looks at the test split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from ttl_jax import data, models, strategies
from ttl_jax.analysis.cost import BATCHES, Cost, cost_of
from ttl_jax.config import data_config, typed
from ttl_jax.data.dataset import Dataset
from ttl_jax.evaluation import paired_difference, predictions, registry
from ttl_jax.search.candidates import KINDS, Point, chosen, points
from ttl_jax.search.config import SearchConfig
from ttl_jax.search.protocol import Request
from ttl_jax.search.search import search
from ttl_jax.search.subject import read
from ttl_jax.search.trainings import Trainings, folder, train_all
from ttl_jax.system.lock import held
from ttl_jax.system.preemption import Notice
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.records import provenance

if TYPE_CHECKING:
    from ml_collections import ConfigDict


class Method(NamedTuple):
    """A row of the table: its name in the paper, and the search and unit that it came from."""

    name: str
    kind: str
    unit: int


Tests = dict[Method, dict[int, dict[str, Any]]]  # row -> seed -> test scores


def methods(records: Mapping[str, Mapping[str, Any]]) -> tuple[Method, ...]:
    """The rows, from the search.json of each kind.

    FTL is the whole network at full width: the last candidate of the slimming search.
    """
    rows = [Method("FTL", "tf", records["tf"]["units"][-1]["unit"])]
    for kind in ("lwft", "tf", "ttl"):
        for stage, unit in enumerate(records[kind]["rounds"], 1):
            rows.append(Method(f"{kind.upper()}-{stage}", kind, unit))
    return tuple(rows)


def paper(
    config: ConfigDict | SearchConfig,
    workdir: str | Path,
    datasets: Mapping[str, Dataset] | None = None,
    *,
    notice: Notice | None = None,
    committed: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Runs or resumes the three searches and the final trainings; the same call again trains nothing.

    Args:
        config: the result of `search_config`, with `search.kind` = "all".
        workdir: folder of WORKDIR/KIND (a search each), paper.json, paper.md.
        datasets: splits instead of those that the config names.
        notice: the notice of `preemption.watch`, polled so that trainings can be asked to save and stop.
        committed: called whenever trials have ended (to copy the folder elsewhere).

    Returns:
        The content of paper.json: "rows", each with its test scores, costs and the difference from
        FTL, and "searches".

    Raises:
        UserError: something in the config or the data has to be mended.
        Preempted: the notice asked to stop; the same call goes on.
    """
    config, workdir, notice = typed(SearchConfig, config), Path(workdir), notice or Notice()
    config = provenance.as_begun(workdir / KINDS[0], config)
    configs = {kind: _of_kind(config, kind) for kind in KINDS}
    settings = {kind: read(each) for kind, each in configs.items()}
    sets = dict(datasets) if datasets is not None else data.load(data_config(config.data))
    records = {
        kind: search(each, workdir / kind, sets, apart=datasets is None, notice=notice, committed=committed)
        for kind, each in configs.items()
    }
    rows = methods(records)
    seeds = range(config.seed, config.seed + config.search.seeds)
    tests: Tests = {row: {} for row in rows}
    for kind in KINDS:
        trainings = Trainings(settings[kind], workdir / kind, sets, datasets is None, notice, committed)
        with held(workdir / kind / "lock", wait=False):
            _train_finals(trainings, kind, seeds, tests)
    costs: dict[Any, Cost] = {}

    def spent(row: Method) -> Cost:
        """Measured once for every network: LWFT's is the whole one."""
        shape = settings[row.kind].points[row.unit].shape
        network = models.create(
            config.model.name, len(sets["train"].class_names), head=config.model.head or None, **shape
        )
        if network not in costs:
            size = models.input_shape(config.model.name, config.data.image_size)
            costs[network] = cost_of(network, size, batches=BATCHES)
        return costs[network]

    select = registry.metric(config.select).name
    content = {
        "model": config.model.name,
        "dataset": config.data.name,
        "select": select,
        "image_size": config.data.image_size,
        "lr": config.optimizer.lr,
        "train_examples": len(sets["train"].ids),
        "test_examples": len(sets["test"].ids),
        "rows": [
            _row(row, settings[row.kind].points[row.unit], tests, spent(row), workdir, rows[0], select)
            for row in rows
        ],
        "searches": {kind: records[kind]["cost"] for kind in KINDS},
    }
    write_json(workdir / "paper.json", content)
    (workdir / "paper.md").write_text(markdown(content), encoding="utf-8")
    return content


def _train_finals(trainings: Trainings, kind: str, seeds: Sequence[int], tests: Tests) -> None:
    """Trains what a kind of search selected with every seed, and fills in its test scores."""
    rows = [row for row in tests if row.kind == kind]
    wanted = dict.fromkeys((row.unit, seed) for seed in seeds for row in rows)
    train_all(trainings, tuple(Request(unit, 1.0, seed) for unit, seed in wanted))
    for row in rows:
        for seed in seeds:
            request = Request(row.unit, 1.0, seed)
            if (trainings.folder(request) / "result.json").exists():  # a training that diverged has none
                tests[row][seed] = trainings.report_test(request)


def _of_kind(config: SearchConfig, kind: str) -> SearchConfig:
    options = replace(config.search, kind=kind, method="two_stage", seeds=1)
    if options.units:  # those of them that are candidates of this kind
        candidates = [point.unit for point in points(kind, config.model.name)]
        units = [unit.index for unit in models.units(config.model.name)]
        wanted = chosen(options.units, units, "search.units")
        options = replace(options, units=",".join(str(unit) for unit in wanted if unit in candidates))
    return replace(config, search=options)


def _row(
    row: Method, point: Point, tests: Any, spent: Cost, workdir: Path, base: Method, select: str
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "method": row.name,
        "unit": row.unit,
        "unit_name": point.name,
        "strategy": strategies.title(point.strategy),
        "seeds": len(tests[row]),
    }
    for metric in (each.name for each in registry.metrics() if each.in_table):
        values = [test[metric] for test in tests[row].values() if test[metric] is not None]
        entry[metric] = fmean(values) if values else None
        entry[f"{metric}_sd"] = stdev(values) if len(values) > 1 else None
    entry["difference"] = _difference(row, base, tests, workdir, select)
    return entry | {
        "params": spent.params,
        "macs": spent.macs,
        "file_bytes": spent.file_bytes,
        "latency_ms": {str(batch): value for batch, value in spent.latency_ms.items()},
        "device": spent.device,
    }


def _difference(row: Method, base: Method, tests: Any, workdir: Path, select: str) -> dict[str, Any] | None:
    """The metric selected by, less that of FTL, over patients and seeds; None for FTL itself."""
    seeds = [seed for seed in tests[row] if seed in tests[base]]
    if row == base or not seeds:
        return None

    def read(method: Method, seed: int) -> Any:
        run = folder(workdir / method.kind, Request(method.unit, 1.0, seed))
        return predictions.load(run / "predictions" / "test.npz")

    mine, its = [read(row, seed) for seed in seeds], [read(base, seed) for seed in seeds]
    difference = paired_difference(
        mine[0].labels,
        [one.logits for one in mine],
        [one.logits for one in its],
        mine[0].groups,
        select,
        task=mine[0].task,
    )
    return {
        select: difference.estimate,
        "low": difference.low,
        "high": difference.high,
        "p": difference.p,
        "caveat": difference.caveat,
    }


def table(comparison: Mapping[str, Any]) -> list[dict[str, str]]:
    """The paper's columns, as text; ± is the sample standard deviation over seeds."""

    def score(row: Mapping[str, Any], metric: str) -> str:
        if row[metric] is None:
            return "not defined"
        spread = row[f"{metric}_sd"]
        return f"{100 * row[metric]:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")

    def less(row: Mapping[str, Any]) -> str:
        known = row["difference"]
        if known is None or known["low"] is None:
            return ""
        return _points(known, select)

    select = comparison["select"]
    shown = [each for each in registry.metrics() if each.in_table and each.name in comparison["rows"][0]]
    return [
        {
            "method": row["method"],
            "unit": f"{row['unit']} ({row['unit_name']})",
            **{f"{each.title} %": score(row, each.name) for each in shown},
            f"{registry.known_metric(select).title} - FTL [95 %]": less(row),
            "params (M)": f"{row['params'] / 1e6:.3f}",
            "MACs (M)": f"{row['macs'] / 1e6:.1f}",
            "file (MB)": f"{row['file_bytes'] / 1e6:.2f}",
            **{f"ms (batch {batch})": f"{value:.2f}" for batch, value in row["latency_ms"].items()},
        }
        for row in comparison["rows"]
    ]


def markdown(comparison: Mapping[str, Any]) -> str:
    """The table and its sentence, to be copied into a text."""
    rows = table(comparison)
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{sentence(comparison)}\n"


def _points(known: Mapping[str, Any], select: str) -> str:
    """A difference in hundredths, with its interval."""
    estimate, low, high = (f"{100 * known[key]:+.1f}" for key in (select, "low", "high"))
    return f"{estimate} [{low}, {high}]"


def sentence(comparison: Mapping[str, Any]) -> str:
    """Return, in words, what truncation did to the score, and what it saved."""
    by_name = {row["method"]: row for row in comparison["rows"]}
    whole, cut = by_name["FTL"], by_name["TTL-2"]
    kept = f"TTL-2 keeps {cut['unit_name']} and what is below it"
    if cut["unit"] == whole["unit"]:
        return f"{kept}: the whole network; truncation was not chosen."
    saved = (
        f"{cut['params'] / whole['params']:.0%} of the parameters and "
        f"{cut['macs'] / whole['macs']:.0%} of the multiply-accumulates of the whole network"
    )
    known = cut["difference"]
    if known is None or known["low"] is None:
        return f"{kept}: {saved}."
    select = comparison.get("select", "auroc")
    moved = f"{_points(known, select)} points of {registry.known_metric(select).title}"
    verdict = "the score rises"
    if known["low"] <= 0 <= known["high"]:
        verdict = "no difference in the score can be shown"
    elif known["high"] < 0:
        verdict = "the score falls"
    if "caveat" in known and known["caveat"]:
        verdict = f"it cannot be told whether the score changes ({known['caveat']})"
    return f"{kept}: {saved}; {moved} against FTL: {verdict}."
