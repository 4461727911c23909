"""The catalogue: every strategy as a few declarative lines.

Each entry is a function of its options that returns a `Strategy`; the docstring names the source.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from ttl_jax import registry
from ttl_jax.errors import UserError
from ttl_jax.registry import register
from ttl_jax.strategies.parts import (
    CoTuning,
    Ema,
    FeatureDistance,
    MeasuredRates,
    Mixout,
    Pull,
    SmallSingularValues,
    SolvedHead,
    Soup,
    WiseFT,
)
from ttl_jax.strategies.select import (
    K,
    Where,
    backbone,
    biases,
    bottom_stages,
    everything,
    head,
    kernels,
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


# What is added to the loss


@register("strategy")
def l2_sp(
    alpha: float = 0.01, beta: float = 0.01, coupled: bool = True, paper_faithful: bool = False
) -> Strategy:
    """L2-SP (Li et al. 2018, eq. 4): alpha / 2 ||w - w0||_2^2 over the backbone + beta / 2 ||w||_2^2 over
    the head, w0 being the weights at the start.

    Args:
        alpha: pull of the backbone towards its start (the authors: 0.1; TLlib: 0.01).
        beta: pull of the head towards zero.
        coupled: a term of the loss, as in the paper. False: a proximal step after each update, which
            Adam's division does not reach, as AdamW (Loshchilov and Hutter 2019; parts/pull.py): of a
            learning rate of 1e-3 and some hundred steps alpha then has to be 1 or so to be felt.
        paper_faithful: kernels only; norms and biases are left free, as in the authors' code.
    """
    return _towards_start("l2_sp", 2, alpha, beta, coupled, paper_faithful)


@register("strategy")
def l1_sp(
    alpha: float = 0.01, beta: float = 0.01, coupled: bool = False, paper_faithful: bool = False
) -> Strategy:
    """L1-SP (Li et al. 2018): alpha ||w - w0||_1 over the backbone + beta / 2 ||w||_2^2 over the head.

    Args:
        alpha: pull of the backbone towards its start. Under Adam a weight stays at its start, exactly,
            while its direction (a mean gradient over its root mean square, 1 at most) is smaller than
            alpha: 0 is full fine-tuning, 1 a frozen backbone.
        beta: pull of the head towards zero.
        coupled: False: soft-thresholding towards w0 after each update, by learning rate * alpha (the
            proximal operator of the penalty; parts/pull.py has the argument). True: its subgradient
            joins the loss's, as in the paper, whose optimizer is SGD; Adam makes a push of that which is
            as strong whatever alpha is, once it outweighs the data's gradient.
        paper_faithful: kernels only, as in l2_sp.
    """
    return _towards_start("l1_sp", 1, alpha, beta, coupled, paper_faithful)


def _towards_start(
    name: str, norm: int, alpha: float, beta: float, coupled: bool, kernels_only: bool
) -> Strategy:
    which = kernels if kernels_only else everything
    return Strategy(
        name,
        parts=(
            Pull(backbone & which, alpha, norm, "start", coupled),
            Pull(head & which, beta, 2, "zero", coupled),
        ),
    )


@register("strategy")
def bss(weight: float = 0.001, k: int = 1) -> Strategy:
    """Batch spectral shrinkage (BSS, Chen et al. 2019): + weight * the sum of the k smallest squared
    singular values of a batch's features, so that what transfers badly is not fitted.

    Args:
        weight: eta of the paper.
        k: number of singular values in the penalty, smallest first.
    """
    return Strategy("bss", parts=(SmallSingularValues(weight, k),))


@register("strategy")
def delta(alpha: float = 0.5, beta: float = 0.01, attention: str = "measured") -> Strategy:
    """DELTA (Li et al. 2019): + alpha / 2 * the attended distance of every stage's feature maps from
    those of the starting network, + beta / 2 ||w||_2^2 over the head.

    Args:
        alpha: weight of the distance, mean over examples (TLlib: 0.01 on the sum over a batch of 48).
        beta: pull of the head towards zero (TLlib: 0.01).
        attention: "measured" (softmax of what each channel's loss costs a linear probe) or "uniform".
    """
    return Strategy(
        "delta", parts=(FeatureDistance(alpha, attention), Pull(head, beta, 2, "zero", coupled=True))
    )


@register("strategy")
def cotuning(weight: float = 2.3) -> Strategy:
    """Co-tuning (You et al. 2020): the pretrained head stays, and is trained towards the source
    classes that the pretrained network sees in images of a label.

    Args:
        weight: lambda of the paper (TLlib: 2.3).
    """
    return Strategy("cotuning", parts=(CoTuning(weight),))


# What the forward pass takes


@register("strategy")
def mixout(p: float = 0.9) -> Strategy:
    """Mixout (Lee et al. 2020): in every step each trained weight of the backbone is back at its start
    with probability p, and what is kept is scaled so that its mean stays.

    Args:
        p: probability of the start (the authors: 0.7 to 0.9 for BERT-large); 0 is full fine-tuning.
    """
    return Strategy("mixout", parts=(Mixout(p),))


# What the norms do


@register("strategy")
def stochnorm(p: float = 0.5) -> Strategy:
    """StochNorm (Kou et al. 2020): each channel of each norm takes the batch's statistics with
    probability p, and the running ones, which start at the pretrained, otherwise.
    """
    return Strategy("stochnorm", phases=(Phase(bn=f"stochastic({p})"),))


# What happens to the weights at the end


@register("strategy")
def ema(decay: float = 0.999) -> Strategy:
    """Exponential moving average of the weights: validated and kept in their place."""
    return Strategy("ema", parts=(Ema(decay),))


@register("strategy")
def soup(kind: str = "greedy", last: int = 5) -> Strategy:
    """Soup of the weights at the last validations (Wortsman et al. 2022; within a run as SWA).

    Args:
        kind: "greedy" (keeps what does not lower the validation score) or "uniform".
        last: number of validations of the last phase whose weights are averaged.
    """
    return Strategy("soup", parts=(Soup(kind, last),))


@register("strategy")
def wise_ft(alpha: float | None = None) -> Strategy:
    """WiSE-FT (Wortsman et al. 2022): (1 - alpha) * weights before the last phase + alpha * after it.

    Args:
        alpha: share of the fine-tuned weights; the best of 0, .1, ..., 1 on validation when not given.
    """
    return Strategy("wise_ft", parts=(WiseFT(alpha),))


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


def names() -> tuple[str, ...]:
    """The keys of the catalogue."""
    return registry.names("strategy")


def get(key: str, *arguments: Any, **options: Any) -> Strategy:
    """Returns a strategy by its key.

    Args:
        key: a key of the catalogue, or FILE.py:NAME, a Strategy or a function that returns one.
        arguments, options: the entry's arguments, by position and by name.

    Raises:
        UserError: an unknown key (the nearest one is named) or option, or an entry that is no strategy.
    """
    entry = registry.get("strategy", key)
    if isinstance(entry, Strategy):
        if arguments or options:
            raise UserError(f"strategy {key!r} takes no options: it is a Strategy, not a function of them")
        return entry
    if not callable(entry):
        raise UserError(f"strategy {key!r} is of type {type(entry).__name__}, no Strategy and no function")
    try:
        inspect.signature(entry).bind(*arguments, **options)
    except TypeError as error:
        raise UserError(
            f"strategy {key!r}: {error}; it takes {key}{inspect.signature(entry)}".split(" -> ")[0]
        ) from None
    made = entry(*arguments, **options)
    if not isinstance(made, Strategy):
        raise UserError(f"strategy {key!r} is a function that returns {type(made).__name__}, no Strategy")
    return made
