"""One network trained twice from the same weights on the same batches: by ttl_jax's own step, and by torch.

`train_here` takes the package's step, optimizer, loss and schedule as a run does; `train_in_torch` is a
plain PyTorch script. Both give what they end with under torch's names. Dropout and stochastic depth are
off on both sides: their masks come from different generators. The schedule is compared apart
(`scheduled`): here its rates are float32's, which torch is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchvision
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from ttl_jax import data, models, strategies, weights
from ttl_jax.config import default_config, set_fields
from ttl_jax.models.layers.basic import Dropout
from ttl_jax.strategies import Phase, Strategy, select
from ttl_jax.training.compile_ahead import compile_step
from ttl_jax.training.devices import Layout
from ttl_jax.training.loss import make_loss
from ttl_jax.training.optimizer import make_optimizer
from ttl_jax.training.schedule import learning_rates
from ttl_jax.training.state import initial_state
from ttl_jax.training.step import TrainStep

STEPS, BATCH, CLASSES, UNSEEN = 20, 8, 4, 16


@dataclass(frozen=True)
class Part:
    """A stretch of a network, in both tongues.

    Attributes:
        units: the first and the last one here.
        modules: the same in torch.
        shape: of an image or volume that the network is trained on.
    """

    units: tuple[str, str]
    modules: tuple[str, ...]
    shape: tuple[int, ...]


def _numbered(prefix: str, stop: int, start: int = 0) -> tuple[str, ...]:
    return tuple(f"{prefix}.{number}" for number in range(start, stop))


# What is frozen of each network where a recipe freezes.
FROZEN = {
    "resnet18": Part(("stem", "stage2/block2"), ("conv1", "bn1", "layer1", "layer2"), (32, 32, 3)),
    "densenet121": Part(
        ("stem", "transition2"),
        ("features.conv0", "features.norm0", "features.denseblock1", "features.transition1",
         "features.denseblock2", "features.transition2"),
        (32, 32, 3),
    ),
    # Its largest layers: trained in AlexNet, where they are smaller.
    "vgg16": Part(("classifier/fc1", "classifier/fc2"), ("classifier.0", "classifier.3"), (32, 32, 3)),
    "efficientnet_b0": Part(("stem", "stage3/block2"), _numbered("features", 4), (32, 32, 3)),
    "efficientnet_lite0": Part(
        ("stem", "stage3/block2"), ("_conv_stem", "_bn0", *_numbered("_blocks", 5)), (32, 32, 3)
    ),
    "alexnet": Part(("stage1/conv1", "stage2/pool"), _numbered("features", 6), (64, 64, 3)),
    "cbr_tiny": Part(("stage1/conv", "stage2/pool"), ("CBR1", "CBR2"), (96, 96, 3)),
    "bit_r50x1": Part(("stem", "stage2/block4"), ("stem", "stages.0", "stages.1"), (32, 32, 3)),
    "clip_resnet50": Part(
        ("stem", "stage2/block4"),
        ("visual.conv1", "visual.bn1", "visual.conv2", "visual.bn2", "visual.conv3", "visual.bn3",
         "visual.layer1", "visual.layer2"),
        (32, 32, 3),
    ),
    "resnet18_3d": Part(("stem", "stage2/block2"), ("stem", "layer1", "layer2"), (4, 32, 32, 3)),
    "penet": Part(("stem", "stage2/block4"), ("in_conv", "encoders.0", "encoders.1"), (4, 32, 32, 3)),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, as far as both sides can say it.

    Attributes:
        optimizer: "adam" (decay coupled), "adamw" (decoupled) or "sgd" (momentum 0.9, decay coupled).
        lr: at the top of the schedule.
        weight_decay: on every trainable parameter.
        warmup: steps; then a cosine to 0. None: a constant rate.
        smoothing: of the labels.
        balanced: whether the classes are weighted by n / (classes * count).
        clip: bound of the global norm of the trainable gradients; 0 = none.
        accumulate: parts that a batch is taken in.
        bn: statistics of frozen stages: "auto" (still: torch's `eval()`) or "moving"; None: none is frozen.
        eps: Adam's.
    """

    optimizer: str = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    warmup: int | None = None
    smoothing: float = 0.0
    balanced: bool = False
    clip: float = 0.0
    accumulate: int = 1
    bn: str | None = None
    eps: float = 1e-8


@dataclass(frozen=True)
class Problem:
    """Batches with labels, and images that are validated on; channels last."""

    images: np.ndarray
    labels: np.ndarray
    unseen: np.ndarray


@dataclass(frozen=True)
class Trained:
    """What a training ends with.

    Attributes:
        losses: of each step.
        state: torch's state dict, without counters.
        logits: of the unseen images, in inference mode.
    """

    losses: np.ndarray
    state: dict[str, np.ndarray]
    logits: np.ndarray


def problem(shape: tuple[int, ...]) -> Problem:
    """Noise around a pattern a class; the classes are of unequal size, as weights need them."""
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(CLASSES, *shape))
    labels = rng.choice(CLASSES, (STEPS, BATCH), p=(0.4, 0.3, 0.2, 0.1))
    noise = rng.normal(size=(STEPS, BATCH, *shape))
    unseen = 0.5 * patterns[np.arange(UNSEEN) % CLASSES] + rng.normal(size=(UNSEEN, *shape))
    return Problem(
        (0.5 * patterns[labels] + noise).astype(np.float32),
        labels.astype(np.int32),
        unseen.astype(np.float32),
    )


def class_weights(labels: np.ndarray, recipe: Recipe) -> np.ndarray:
    """n / (classes * count), or ones."""
    counts = np.bincount(labels.ravel(), minlength=CLASSES)
    return (labels.size / (CLASSES * counts) if recipe.balanced else np.ones(CLASSES)).astype(np.float32)


# ttl_jax


def config_of(recipe: Recipe) -> Any:
    """The recipe as a run's config."""
    config = default_config()
    set_fields(
        config,
        {
            "optimizer.name": recipe.optimizer,
            "optimizer.lr": recipe.lr,
            "optimizer.weight_decay": recipe.weight_decay,
            "optimizer.momentum": 0.9,
            "optimizer.clip": recipe.clip,
            "optimizer.eps": recipe.eps,
            "loss.smoothing": recipe.smoothing,
            "schedule.name": "constant" if recipe.warmup is None else "cosine",
            "schedule.warmup": (recipe.warmup or 0) / STEPS,
        },
    )
    return config


def rates_of(recipe: Recipe) -> np.ndarray:
    """The rate of each step."""
    return learning_rates(config_of(recipe).schedule, recipe.lr, STEPS)


def _without_dropout(call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
    return args[0] if isinstance(context.module, Dropout) else call(*args, **kwargs)


def train_here(
    name: str, start: dict[str, np.ndarray], problem: Problem, recipe: Recipe
) -> tuple[Trained, float | None]:
    """Trains with the package's own step.

    Args:
        name: a registered network.
        start: torch's state dict.
        problem: what to train on.
        recipe: how.

    Returns:
        (what it ends with, the share of a running statistic that a step keeps, or None without any).
    """
    config = config_of(recipe)
    phase = Phase()
    if recipe.bn is not None:
        part = select.units(*FROZEN[name].units)
        phase = Phase(rules=((part, "freeze"), (~part, "train")), bn=recipe.bn)
    network = models.create(name, CLASSES)
    variables = jax.tree.map(jnp.float32, weights.load(start, name, num_classes=CLASSES))
    (bound,) = strategies.bind(Strategy("parity", phases=(phase,)), variables["params"], name)
    optimizer = make_optimizer(bound, config.optimizer)
    step = TrainStep(
        network,
        bound,
        optimizer,
        make_loss(
            "multiclass",
            jnp.asarray(class_weights(problem.labels, recipe)),
            smoothing=config.loss.smoothing,
        ),
        lambda images, keys: images,
        lambda batch: data.example_keys(0, batch["epoch"], batch["example"]),
        layout=Layout("jit", (jax.devices()[0],), accumulate=recipe.accumulate),
    )
    place = np.arange(BATCH, dtype=np.int32)
    batches = [
        {"image": np.asarray(images, jnp.float32), "label": labels, "example": place, "epoch": 0 * place}
        for images, labels in zip(problem.images, problem.labels, strict=True)
    ]

    def begin(variables: Any) -> Any:
        return initial_state(variables, optimizer, bound.trainable)

    with nn.intercept_methods(_without_dropout):
        run, _ = compile_step(step, begin(variables), batches[0])

    def move(stats: Any) -> Any:
        state, _ = run(begin({**variables, "batch_stats": stats}), batches[0], np.float32(0))
        return state.batch_stats

    momentum = _momentum(
        move,
        variables["batch_stats"],
        [path for path in strategies.flatten(variables["batch_stats"])
         if models.unit_of(name, path) not in bound.still],
    )  # fmt: skip
    if momentum is not None:  # every part of a batch moves the statistics
        momentum = round(momentum ** (1 / recipe.accumulate), 5)
    state, losses = begin(variables), []
    for batch, rate in zip(batches, rates_of(recipe), strict=True):
        state, measured = run(state, batch, rate)
        losses.append(float(measured["loss"]))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = jax.jit(network.apply)(variables, problem.unseen)
    return Trained(np.array(losses), weights.export_torch(variables, name), np.asarray(logits)), momentum


def _momentum(move: Callable[[Any], Any], stats: Any, moving: Sequence[str]) -> float | None:
    """The share of a running mean that a step keeps: measured, so that it holds wherever it is set."""
    path = next((path for path in moving if path.endswith("/mean")), None)
    if path is None:
        return None
    flat = strategies.flatten(stats)
    low, high = (
        strategies.flatten(move(strategies.unflatten({**flat, path: flat[path] + more})))[path]
        for more in (0, 1)
    )
    return round(float(np.mean(high - low)), 5)


# torch


def train_in_torch(
    network: torch.nn.Module,
    problem: Problem,
    recipe: Recipe,
    frozen: tuple[str, ...],
    momentum: float | None,
    dtype: torch.dtype,
) -> Trained:
    """Trains as a PyTorch script does.

    Args:
        network: with the weights to start from; it is changed.
        problem: what to train on.
        recipe: how.
        frozen: the modules that are frozen, where the recipe freezes.
        momentum: the share of a running statistic that a step keeps: 1 - torch's.
        dtype: to compute in.
    """
    network.to(dtype).train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout | torchvision.ops.StochasticDepth):
            module.p = 0.0
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1 - momentum
    if recipe.bn is not None:
        for path in frozen:
            stage = network.get_submodule(path).requires_grad_(False)
            if recipe.bn == "auto":
                stage.eval()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decay = recipe.weight_decay
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=recipe.lr, momentum=0.9, weight_decay=decay)
    else:
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
        optimizer = kind(parameters, lr=recipe.lr, eps=recipe.eps, weight_decay=decay)
    criterion = torch.nn.CrossEntropyLoss(
        weight=torch.from_numpy(class_weights(problem.labels, recipe)).to(dtype),
        label_smoothing=recipe.smoothing,
    )
    losses = []
    for images, labels, rate in zip(problem.images, problem.labels, rates_of(recipe), strict=True):
        optimizer.param_groups[0]["lr"] = float(rate)
        optimizer.zero_grad()
        total = 0.0
        for part in range(recipe.accumulate):
            rows = slice(part, None, recipe.accumulate)
            x = torch.from_numpy(images[rows]).to(dtype).movedim(-1, 1)
            loss = criterion(network(x), torch.from_numpy(labels[rows]).long()) / recipe.accumulate
            loss.backward()
            total += loss.item()
        if recipe.clip:  # clip_grad_norm_ divides by norm + 1e-6, whose 2e-7 would grow from step to step
            norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters]).item()
            for parameter in parameters:
                parameter.grad.mul_(min(1.0, recipe.clip / norm))
        optimizer.step()
        losses.append(total)
    network.eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(problem.unseen).to(dtype).movedim(-1, 1)).numpy()
    return Trained(np.array(losses), weights_of(network), logits)


# Both


def scheduled(warmup: int, peak: float) -> list[float]:
    """The rate of each step: torch's linear rise, then its cosine."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    fall = CosineAnnealingLR(optimizer, T_max=STEPS - warmup)
    schedule, rates = SequentialLR(optimizer, [rise, fall], milestones=[warmup]), []
    for _ in range(STEPS):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def weights_of(network: torch.nn.Module) -> dict[str, np.ndarray]:
    """A copy of the state dict, without counters."""
    return {
        name: value.detach().numpy().copy()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
