"""The catalogue: every strategy as a few declarative lines.

Each entry is a function of its options that returns a `Strategy`; the docstring names the source.
"""

from __future__ import annotations

from dataclasses import replace

from ttl_jax.errors import UserError
from ttl_jax.registry import register
from ttl_jax.strategies.parts import (
    MeasuredRates,
    SolvedHead,
)
from ttl_jax.strategies.select import (
    K,
    Where,
    backbone,
    biases,
    bottom_stages,
    head,
    norms,
    stages,
    top_stages,
    units,
)
from ttl_jax.strategies.strategy import FREEZE, TRAIN, Phase, Strategy, Surgery, Train

# Who trains, and when


@register("strategy")
def full() -> Strategy:
    """Full fine-tuning: every parameter trains from the first step (FT; FTL in the TTL paper)."""
    return Strategy("full")


@register("strategy")
def linear_probe(solver: str | None = None, l2: float | None = None) -> Strategy:
    """The backbone stays at its pretrained values, the new head trains (LP).

    Args:
        solver: "lbfgs" minimises the loss outright, "ridge" fits +1 and -1 in closed form (squared error:
            the run's loss is not read), its penalty chosen by left-out training examples and its outputs
            scaled to probabilities on these. No learning rate, no steps, no seed. None: the run's
            optimizer.
        l2: lbfgs: weight of l2 / 2 ||kernel||^2; the best power of ten on validation when not given.
    """
    return Strategy("linear_probe", phases=(_probe("linear_probe", solver, l2),))


@register("strategy")
def lp_ft(
    share: float = 0.3,
    lr: float | None = None,
    probe_lr: float | None = None,
    solver: str | None = None,
    l2: float | None = None,
    bn: str = "adapted",
) -> Strategy:
    """Linear probing, then full fine-tuning from the probed head (LP-FT, Kumar et al. 2022).

    The run's learning rate is that of fine-tuning; the probe has one of its own, or none.

    Args:
        share: the probe's share of the budget, from 0 to 1.
        lr: ties the two rates: the run's is then the probe's, and this multiplies it for fine-tuning.
        probe_lr: the probe's learning rate, 0.01 when not given.
        solver: the probe is solved for instead, as in linear_probe.
        l2: the solved probe's penalty, as in linear_probe.
        bn: "adapted" fits the probe to features that the BatchNorms normalise by the training images, as
            fine-tuning does; "still" fine-tunes with the pretrained statistics of the probe and wants a lower
            rate (1e-4 to 3e-4 with Adam); "moving" changes from the one to the other (docs/batch_norm.md).
    """
    if not 0 < share < 1:
        raise UserError(f"lp_ft: share={share} must lie between 0 and 1")
    if sum(value is not None for value in (lr, probe_lr, solver)) > 1:
        raise UserError("lp_ft takes one of lr (ties the rates), probe_lr and solver (the probe has no rate)")
    for name, value in (("lr", lr), ("probe_lr", probe_lr)):
        if value is not None and not value > 0:
            raise UserError(f"lp_ft: {name}={value} must be above 0")
    if bn not in ("adapted", "still", "moving"):
        raise UserError(f"lp_ft: bn={bn!r} is not 'adapted', 'still' or 'moving'")
    base = None if lr or solver else probe_lr or 0.01
    probe = replace(
        _probe("lp_ft", solver, l2),
        until=f"share:{share}",
        base_lr=base,
        bn="adapted" if bn == "adapted" else None,
    )
    tuned = Phase(
        until=f"share:{1 - share}", lr=lr, reset=True, bn="still" if bn == "still" else None, name="finetune"
    )
    return Strategy("lp_ft", phases=(probe, tuned))


def _probe(strategy: str, solver: str | None, l2: float | None) -> Phase:
    """The phase that trains the head, or solves for it."""
    if solver not in (None, "lbfgs", "ridge"):
        raise UserError(f"{strategy}: solver={solver!r} is not 'lbfgs' or 'ridge'")
    if l2 is not None and (solver != "lbfgs" or l2 < 0):
        raise UserError(f"{strategy}: l2={l2} is for solver='lbfgs', and not negative")
    rules = ((head, TRAIN), (backbone, FREEZE))
    return Phase(rules=rules, name="probe", parts=(SolvedHead(solver, l2),) if solver else ())


@register("strategy")
def gradual_last_first(paper_faithful: bool = False) -> Strategy:
    """Gradual unfreezing from the last stage to the first (G-LF, ULMFiT): the head alone, then one
    stage more a phase, down to the stem; equal shares of the budget (Davila et al. 2024).

    Args:
        paper_faithful: statistics move under freezing, and every phase has a new optimizer, as in
            a third-party reimplementation of the study (Nanatsume/DFU_Classification_Risk, dfu_common.py).
    """
    open_now = head | top_stages(K)
    originals = Phase(bn="moving", reset=True) if paper_faithful else Phase()
    return Strategy(
        "gradual_last_first",
        phases=(
            replace(originals, rules=((head, TRAIN), (backbone, FREEZE)), name="head"),
            replace(
                originals, rules=((open_now, TRAIN), (~open_now, FREEZE)), each="stages", name="top stages"
            ),
        ),
    )


@register("strategy")
def gradual_first_last(paper_faithful: bool = False) -> Strategy:
    """Gradual unfreezing from the first stage to the last (G-FL): head and stem, then one stage more
    a phase, upwards; equal shares of the budget (Davila et al. 2024).

    Args:
        paper_faithful: frozen BatchNorms move and each phase has a new optimizer, as in gradual_last_first.
    """
    open_now = head | bottom_stages(K)
    originals = Phase(bn="moving", reset=True) if paper_faithful else Phase()
    rules = ((open_now, TRAIN), (~open_now, FREEZE))
    return Strategy(
        "gradual_first_last",
        phases=(replace(originals, rules=rules, each="stages", name="bottom stages"),),
    )


@register("strategy")
def layerwise(
    freeze_to: int | str | None = None,
    stage: int | str | None = None,
    head_lr: float | None = None,
    paper_faithful: bool = False,
) -> Strategy:
    """Layer-wise fine-tuning (LWFT, Tajbakhsh et al. 2016; TTL paper): the bottom up to a unit or a
    stage stays, what is above and the head train.

    Args:
        freeze_to: the last frozen unit, by name or number from the stem.
        stage: the last frozen stage (the stem is number 1), in the place of `freeze_to`.
        head_lr: the head's learning rate over the backbone's; 1 unless paper_faithful.
        paper_faithful: do as the TTL authors' code does (sun-umn/TTL): statistics of frozen BatchNorms
            move, and the head's rate is 10 times the backbone's.
    """
    if (freeze_to is None) == (stage is None):
        raise UserError("layerwise takes either freeze_to (a unit) or stage, as in layerwise(4)")
    frozen = units(1, freeze_to) if freeze_to is not None else stages(1, stage)  # type: ignore[arg-type]
    ratio = head_lr if head_lr is not None else (10.0 if paper_faithful else 1.0)
    # One label where the rates are the same: above the last unit there is the head alone.
    rules: tuple[tuple[Where, str], ...] = ((frozen, FREEZE), (~frozen, TRAIN))
    if ratio != 1.0:
        rules = ((frozen, FREEZE), (backbone & ~frozen, TRAIN), (head, "head"))
    above = Phase(
        rules=rules,
        transforms={"head": Train(lr=ratio)} if ratio != 1.0 else None,
        bn="moving" if paper_faithful else None,
    )
    return Strategy("layerwise", phases=(above,))


@register("strategy")
def surgical(first: int | str, last: int | str | None = None, stage: bool = False) -> Strategy:
    """Surgical fine-tuning (Lee et al. 2023): one contiguous block and the head train.

    Args:
        first: the lowest unit of the block, by name or number from the stem.
        last: the highest unit of the block; `first` when not given.
        stage: `first` and `last` mean stages.
    """
    between = stages if stage else units
    block = between(first, first if last is None else last) | head
    return Strategy("surgical", phases=(Phase(rules=((block, TRAIN), (~block, FREEZE))),))


@register("strategy")
def bitfit() -> Strategy:
    """Biases, norms and the head train (BitFit, Zaken et al. 2022, for CNNs)."""
    light = biases | norms | head
    return Strategy("bitfit", phases=(Phase(rules=((light, TRAIN), (~light, FREEZE))),))


@register("strategy")
def norm_only() -> Strategy:
    """Scale and bias of the norms, and the head, train (Frankle et al. 2021)."""
    light = norms | head
    return Strategy("norm_only", phases=(Phase(rules=((light, TRAIN), (~light, FREEZE))),))


# What of the network is kept, and how the rest starts


@register("strategy")
def truncated(
    cut: int | str | None = None, stage: int | str | None = None, paper_faithful: bool = False
) -> Strategy:
    """TruncatedTL (TTL, Peng et al. 2023): the bottom is kept and fine-tuned, the rest is dropped.

    Args:
        cut: the last unit kept, by name or number from the stem (the TTL paper's layer-wise numbers
            on ResNet-50: TTL-1 is 14, TTL-2 is 12).
        stage: the last stage kept (the stem is number 1), in the place of `cut`.
        paper_faithful: the linear head sits on the map without pooling, as the TTL code's default.
    """
    if (cut is None) == (stage is None):
        raise UserError("truncated takes either cut (a unit) or stage, as in truncated(12)")
    kind = "flatten" if paper_faithful else None
    return Strategy("truncated", surgery=Surgery(cut=cut, cut_stage=stage, head=kind))


@register("strategy")
def transfusion(slim_from: int, slim: int = 2) -> Strategy:
    """TransFusion's hybrid (Raghu et al. 2019; TF in the TTL paper): pretrained bottom, thinner
    random top, everything trains.

    Args:
        slim_from: residual block (ResNet, 1-based) or dense block from which widths are divided.
        slim: the divisor (2: half width, as published).
    """
    return Strategy("transfusion", surgery=Surgery(slim_from=slim_from, slim=slim))


@register("strategy")
def weight_transfusion(below: int | str, rest: str = "scratch") -> Strategy:
    """Weight transfusion (Raghu et al. 2019): units up to `below` keep their pretrained weights, the
    others start at random, everything trains.

    Args:
        below: the last pretrained unit, by name or number from the stem.
        rest: start of the units above: "scratch" or "mean_var".
    """
    return Strategy("weight_transfusion", surgery=Surgery(init={backbone & ~units(1, below): rest}))


@register("strategy")
def mean_var() -> Strategy:
    """Mean-Var initialisation (Raghu et al. 2019): every tensor of the backbone is drawn from a normal
    distribution of its pretrained mean and variance: the scale is kept, the features are not.
    """
    return Strategy("mean_var", surgery=Surgery(init="mean_var"))


@register("strategy")
def scratch() -> Strategy:
    """No pretrained weights: everything starts at random and trains."""
    return Strategy("scratch", surgery=Surgery(init="scratch"))


# How fast each part learns


@register("strategy")
def discriminative(decay: float = 2.6, by: str = "stage") -> Strategy:
    """Discriminative learning rates (ULMFiT, Howard and Ruder 2018; layer-wise decay): the rate of a
    stage is that of the one above divided by `decay`. Refines every phase of what it is added to.

    Args:
        decay: eta_(l-1) = eta_l / decay.
        by: "stage" or "unit".
    """
    if not decay > 0:
        raise UserError(f"discriminative: decay={decay} must be above 0")
    return Strategy("discriminative", phases=(Phase(decay=(decay, by)),))


@register("strategy")
def auto_rgn(
    norm: str = "max",
    by: str = "tensor",
    refresh: str = "epoch",
    batches: int = 5,
    reset_moments: bool | None = None,
    over: str | None = None,
    paper_faithful: bool = False,
) -> Strategy:
    """Auto-RGN (Lee et al. 2023): the learning rate of each tensor times its relative gradient norm
    ||g|| / ||theta||, divided by the largest of the backbone's; norms do not count in that, and the fresh
    head trains at the full rate.

    Args:
        norm: "max" (Lee et al.), "mean" (the third-party copy) or "none" (BioTune's copy).
        by: "tensor" (Lee et al.), "layer" (BioTune's copy) or "unit".
        refresh: "epoch" measures at the start of each epoch, "batch" in every batch (the third-party copy).
        batches: number of training batches that an epoch's measure averages over.
        reset_moments: a new optimizer state at each refresh; False unless paper_faithful.
        over: "backbone" (the head's multiplier is 1, that of a norm 1 at most), or "all": head and norms
            count in the normalisation like any tensor. "backbone" unless paper_faithful.
        paper_faithful: do as the authors' code in its eval mode, which their runs used: norms stay as they
            are, statistics too, moments are reset, and all tensors are measured (docs/strategies.md).
    """
    rates = MeasuredRates("rgn", norm, by, refresh, batches)
    return _measured("auto_rgn", rates, reset_moments, over, paper_faithful)


@register("strategy")
def auto_snr(
    threshold: float = 0.95,
    by: str = "tensor",
    refresh: str = "epoch",
    batches: int = 5,
    reset_moments: bool | None = None,
    over: str | None = None,
    paper_faithful: bool = False,
) -> Strategy:
    """Auto-SNR (Lee et al. 2023): of the backbone only tensors whose gradient's signal-to-noise ratio is at
    least `threshold` train, measured anew at each epoch; the fresh head always does.

    Args:
        threshold: lowest ratio at which a tensor trains; 0.95 in the authors' code.
        by: the group that shares one measure: "tensor", "layer" or "unit".
        refresh: "epoch" or "batch", as in auto_rgn.
        batches: number of training batches that an epoch's measure averages over.
        reset_moments: a new optimizer state at each refresh; False unless paper_faithful.
        over: "backbone" or "all" groups, as in auto_rgn.
        paper_faithful: do as the authors' code, as in auto_rgn.
    """
    rates = MeasuredRates("snr", "none", by, refresh, batches, threshold=threshold)
    return _measured("auto_snr", rates, reset_moments, over, paper_faithful)


def _measured(
    name: str, part: MeasuredRates, reset_moments: bool | None, over: str | None, paper_faithful: bool
) -> Strategy:
    """Learning rates are measured; as the authors coded it, the norms are left out."""
    rules = ((norms, FREEZE), (~norms, TRAIN)) if paper_faithful else None
    reset = paper_faithful if reset_moments is None else reset_moments
    part = replace(part, reset_moments=reset, over=over or ("all" if paper_faithful else "backbone"))
    return Strategy(name, phases=(Phase(rules=rules),), parts=(part,))


# What else of a strategy is a strength, as the learning rate is: {key: {option: values, weak to strong}}. A
# comparison tunes what a strategy's text leaves open (compare.tuner); each holds the default.
STRENGTHS: dict[str, dict[str, tuple[float, ...]]] = {
    "lp_ft": {"probe_lr": (0.001, 0.01, 0.1), "share": (0.15, 0.3, 0.5)},
    "discriminative": {"decay": (1.3, 2.6, 5.0)},
    "auto_snr": {"threshold": (0.8, 0.95, 1.1)},
    "l1_sp": {"alpha": (0.01, 0.1, 0.3), "beta": (0.01, 0.1, 1.0)},
    "l2_sp": {"alpha": (0.001, 0.01, 0.1), "beta": (0.001, 0.01, 0.1)},
    "bss": {"weight": (0.0001, 0.001, 0.01)},
    "delta": {"alpha": (0.05, 0.5, 5.0), "beta": (0.001, 0.01, 0.1)},
    "cotuning": {"weight": (0.5, 2.3, 5.0)},
    "stochnorm": {"p": (0.25, 0.5, 0.75)},
    "mixout": {"p": (0.5, 0.7, 0.9)},
    "ema": {"decay": (0.9, 0.99, 0.999)},
}
LENGTHS = ("lp_ft.share",)  # strengths that change what a training costs
