"""The catalogue's regularisers: penalties, noise in weights and norms, averages of weights.

Each leaves open what trains, and is added to an entry of catalogue.py: "full + l2_sp".
"""

from __future__ import annotations

from ttl_jax.registry import register
from ttl_jax.strategies.parts import (
    CoTuning,
    Ema,
    FeatureDistance,
    Mixout,
    Pull,
    SmallSingularValues,
    Soup,
    WiseFT,
)
from ttl_jax.strategies.select import backbone, everything, head, kernels
from ttl_jax.strategies.strategy import Phase, Strategy

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
