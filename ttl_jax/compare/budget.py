"""Equal budgets: lengths of training with which all strategies take the same epochs or operations."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from ttl_jax import strategies
from ttl_jax.compare import cells
from ttl_jax.compare.cells import Setting
from ttl_jax.compare.config import CompareConfig, strategy_texts
from ttl_jax.errors import UserError
from ttl_jax.system.json_object import read_object
from ttl_jax.system.whole_file import write_json

Key = tuple[str, str, str]  # data set, model, strategy


def reference(config: CompareConfig) -> str:
    """The strategy that the others are held against: `compare.reference`, or the first."""
    names, wanted = strategy_texts(config), strategies.text_of(config.compare.reference)
    return next((name for name in names if wanted in (name, strategies.title(name))), names[0])


def lengths(config: CompareConfig, workdir: Path) -> dict[Key, float]:
    """The length of each strategy's training as a multiple of the reference's; {} for budget="epochs".

    Counted are the operations of a training step (XLA's count of the lowered program, phases by their
    share; a head of two classes; no feature is cached, no probe's measuring counted). A solved probe
    takes no steps and keeps its length of 1. Counts are kept in WORKDIR/budget.json.
    """
    if config.compare.budget == "epochs":
        return {}
    path = workdir / "budget.json"
    counts: dict[str, float] = read_object(path) if path.exists() else {}
    wanted = {}
    for dataset in config.compare.datasets or ("",):
        for model in config.compare.models:
            for strategy in strategy_texts(config):
                setting = Setting(dataset, model, strategy)
                run = cells.cell_config(config, cells.final_cells(config, setting, 1.0)[0])
                wanted[dataset, model, strategy] = (
                    strategy, model, run.data.image_size, run.data.batch_size,
                )  # fmt: skip
    missing = [what for what in dict.fromkeys(wanted.values()) if _name(what) not in counts]
    if missing:
        print(f"counting the operations of {len(missing)} training steps", flush=True)
        # A process of its own: this one must not take an accelerator from the cells.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            counted = list(pool.map(operations, *zip(*missing, strict=True)))
        counts |= {_name(what): flops for what, flops in zip(missing, counted, strict=True)}
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(path, counts)
    return relative(config, {key: counts[_name(what)] for key, what in wanted.items()})


def relative(config: CompareConfig, flops: Mapping[Key, float]) -> dict[Key, float]:
    """The reference's operations of a step over each strategy's, to four digits."""
    base = reference(config)
    return {
        key: 1.0 if solved(key[2]) else float(f"{flops[(*key[:2], base)] / count:.4g}")
        for key, count in flops.items()
    }


def solved(strategy: str) -> bool:
    """No phase of the strategy takes steps: then it has no learning rate either."""
    return all(any(part.solves for part in phase.parts) for phase in strategies.parse(strategy).phases)


def operations(strategy: str, model: str, image_size: int, batch: int) -> float:
    """Floating-point operations of a mean training step.

    Raises:
        UserError: they are not counted here: nothing could be held equal.
    """
    from ttl_jax.analysis.strategy_plan import plan
    from ttl_jax.system.compilation_cache import set_up_jax

    set_up_jax()
    planned = plan(strategy, model, image_size=image_size, batch=batch)
    mean = 0.0
    for phase in planned.phases:
        if phase.flops is None:
            raise UserError(
                f"config compare.budget='flops': the operations of {strategy!r} on {model} cannot be counted "
                "with this JAX backend; take 'epochs'"
            )
        mean += phase.share * phase.flops
    return mean


def _name(what: tuple[str, str, int, int]) -> str:
    strategy, model, image_size, batch = what
    return f"{strategy} on {model}, {image_size} px, batch {batch}"


def sentence(config: CompareConfig) -> str:
    """The budget in words."""
    epochs = "1 epoch" if config.total_epochs == 1 else f"{config.total_epochs:g} epochs"
    whole = f"{config.total_steps} steps" if config.total_steps else epochs
    if config.compare.budget == "epochs":
        return whole
    return f"the training operations that {reference(config)} takes in {whole}, without cached features"
