"""The fields of a run: model, data, optimizer, loss, schedule and the rest.

Presets (configs/*.py) fill these in; nothing else in the program holds a default or an explanation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ttl_jax.config.data import DataConfig
from ttl_jax.config.fields import Section, defaults, option, typed
from ttl_jax.errors import UserError, nearest

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from ttl_jax.strategies import Strategy


@dataclass(frozen=True)
class ModelConfig(Section):
    """The network and the weights that it starts from."""

    name: str = option("resnet50", "see `ttl-jax models`")
    weights: str = option(
        "imagenet", "a key of `ttl-jax weights`, a path, the folder of a finished run, or none"
    )
    partial: bool = option(False, "let units that the weights file lacks start fresh (they are listed)")
    head: str = option("", "gap (global average pooling), flatten or mlp; empty is the architecture's own")
    bn_momentum: float = option(
        0.9,
        "BatchNorm: share of the running statistics that a batch leaves (PyTorch's momentum of 0.1)",
        at_least=0,
        below=1,
    )
    bn_estimate: str = option(
        "moving",
        "BatchNorm's statistics: moving averages; corrected for their start; or precise(20), the moments of "
        "20 training batches",
    )
    dtype: str = option(
        "float32",
        "compute type, float32 or bfloat16; parameters stay float32",
        choices=("float32", "bfloat16"),
    )


@dataclass(frozen=True)
class RunDataConfig(DataConfig):
    """The images, their split, and how batches are made of them."""

    batch_size: int = option(32, "training examples a step, of all devices together", above=0)
    eval_batch_size: int = option(128, "examples a step in evaluation; the last batch is padded", above=0)
    augment: str = option(
        "auto", "auto (by data.name), none, a list as flip,rotate(10), or a modality as histology"
    )
    views: int = option(
        0, "if positive, each image has so many augmentations, used in turn, epoch by epoch", at_least=0
    )
    mix: str = option("none", "none, mixup(0.2), cutmix(1), or both with a comma")
    tta: str = option(
        "none", "test-time augmentation, averaged in the final evaluation: none, flip, flips or dihedral"
    )
    class_weights: str = option(
        "none",
        "class weights in the loss: none, or balanced, n / (classes * count) on training data",
        choices=("none", "balanced"),
    )
    sampling: str = option(
        "uniform",
        "sampling of training examples: uniform, or balanced, every class equally often",
        choices=("uniform", "balanced"),
    )
    loader_threads: int = option(
        2, "threads that decode and batch ahead of the step", at_least=0, at_most=1024
    )


@dataclass(frozen=True)
class OptimizerConfig(Section):
    """The update of the weights."""

    name: str = option("adam", "adam, adamw or sgd", choices=("adam", "adamw", "sgd"))
    lr: float = option(1e-3, "learning rate at the top of the schedule", above=0)
    weight_decay: float = option(
        0.0, "adam, sgd: added to the gradient; adamw: decoupled from it", at_least=0
    )
    momentum: float = option(0.9, "sgd: momentum", at_least=0, below=1)
    b1: float = option(0.9, "adam, adamw: decay of the first moment", at_least=0, below=1)
    b2: float = option(0.999, "adam, adamw: decay of the second moment", at_least=0, below=1)
    eps: float = option(1e-8, "adam, adamw: added to the denominator", above=0)
    clip: float = option(
        0.0, "if positive, bound of the gradient's global norm over trainable leaves", at_least=0
    )


@dataclass(frozen=True)
class LossConfig(Section):
    """The training loss."""

    name: str = option("cross_entropy", "cross_entropy, focal or logit_adjusted")
    gamma: float = option(2.0, "focal: exponent of 1 - p (Lin et al. 2017)", at_least=0, at_most=10)
    tau: float = option(1.0, "logit_adjusted: strength (Menon et al. 2021)", at_least=0, at_most=10)
    smoothing: float = option(
        0.0, "label smoothing: share of the target spread over all classes", at_least=0, below=1
    )


@dataclass(frozen=True)
class ScheduleConfig(Section):
    """The learning rate over a phase; every phase begins it anew."""

    name: str = option("cosine", "constant, cosine or plateau", choices=("constant", "cosine", "plateau"))
    warmup: float = option(
        0.05, "share of a phase's steps in which the rate rises linearly from 0", at_least=0, below=1
    )
    final: float = option(0.0, "cosine: last rate as a share of the top", at_least=0, at_most=1)
    factor: float = option(0.5, "plateau: multiplies the rate (TTL paper: 0.5)", above=0, below=1)
    patience: int = option(5, "plateau: validations without a lower loss before that", at_least=0)
    min_lr: float = option(1e-6, "plateau: training stops below this rate (TTL paper)", at_least=0)


@dataclass(frozen=True)
class ParallelConfig(Section):
    """The devices and how a batch is spread over them."""

    mode: str = option("jit", "jit (a mesh over all devices) or pmap", choices=("jit", "pmap"))
    devices: int = option(0, "number of devices; 0 is all of them", at_least=0)
    hosts: str = option("one", "one, or auto: join the processes of a TPU pod, Slurm or GKE job")
    batch_norm: str = option(
        "global",
        "BatchNorm's moments over the global batch, or each device's own part (device, with mode=pmap)",
        choices=("global", "device"),
    )
    steps_per_call: int = option(
        1, "steps that the device gets at once, for networks whose step takes a millisecond", above=0
    )
    accumulate: int = option(
        1, "gradient accumulation: parts that a batch is taken in, to save memory", above=0
    )
    shard_above: int = option(
        0, "jit: leaves of at least so many values are sharded over the devices; 0 is none", at_least=0
    )


@dataclass(frozen=True)
class EarlyStopConfig(Section):
    """Early stopping."""

    patience: int = option(
        0, "validations of a phase with no better `select` figure or loss; 0 never stops early", at_least=0
    )


@dataclass(frozen=True)
class RunConfig(Section):
    """One training, its evaluation and its files."""

    seed: int = option(0, "seed of initialisation, order of examples, augmentation and dropout", at_least=0)
    strategy: str | Strategy = option(
        "full", "see `ttl-jax strategies`; a sum as a(1)+b(x=2), or FILE.py:NAME", objects=True
    )
    total_epochs: float = option(
        10.0, "passes over the training split, of all phases together", at_least=0, at_most=1e6
    )
    total_steps: int = option(0, "if positive, the length in steps instead of epochs", at_least=0)
    eval_every_epochs: float = option(
        1.0, "epochs between validations, each with a best and a last checkpoint (see save_share)", above=0
    )
    select: str = option(
        "auroc", "validation figure that picks the best checkpoint; at a tie the lower loss, then the later"
    )
    select_phase: str = option(
        "last", "phase that the checkpoint is picked in: last, or any of them", choices=("last", "any")
    )
    hand_over: str = option(
        "last", "state that the next phase starts from: the last of this one, or its best",
        choices=("last", "best"),
    )  # fmt: skip
    cache_features: bool = option(
        True, "compute the outputs of frozen bottom units once a view, where views repeat (see data.views)"
    )
    cache_disk_gb: float = option(
        0.0, "such outputs beyond data.cache_gb go to WORKDIR/features, up to this size", at_least=0
    )
    log_every_steps: int = option(20, "steps between lines of metrics.jsonl", above=0)
    nan_check_steps: int = option(
        20, "steps between looks at the losses (each waits for the device)", above=0
    )
    deterministic: bool = option(
        False, "GPU: only algorithms that give the same bits every time, which are slower"
    )
    nan_skip: int = option(
        0, "steps of a run whose loss may be no number; such a step changes nothing", at_least=0
    )
    save_every_minutes: float = option(
        10.0, "minutes between checkpoints where validations are farther apart", at_least=0
    )
    save_share: float = option(
        0.1, "share of the time from checkpoint to checkpoint that writing one may take; 1 is no limit",
        above=0, at_most=1,
    )  # fmt: skip
    preemption_notice: str = option(
        "", "what says that the machine will stop, besides SIGTERM and SIGINT: gce or file:PATH (docs/tpu.md)"
    )
    report: bool = option(True, "write report.html at the end")
    report_images: bool = option(
        True, "show images of the test split in the report: errors, and where the network looked"
    )
    training_features: bool = option(
        True,
        "keep features and fingerprints of the training images (ids, no pixels): out-of-distribution scores, "
        "nearest cases and the leak check of `evaluate` need them",
    )
    loggers: tuple[str, ...] = option(
        ("csv",), "loggers besides metrics.jsonl: csv, tensorboard, wandb, mlflow; () is none"
    )
    evaluate_test: bool = option(
        True, "score the test split at the end; False scores val alone, as for a tuning run"
    )
    other_versions: bool = option(
        False, "go on with a run that other versions of JAX, NumPy and the rest began: its figures may differ"
    )
    own: tuple[str, ...] = option(
        (), "filled in by the run: FILE.py:NAME DIGEST of everything of your own that other fields name"
    )
    model: ModelConfig = ModelConfig()
    data: RunDataConfig = RunDataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    parallel: ParallelConfig = ParallelConfig()
    early_stop: EarlyStopConfig = EarlyStopConfig()


# Fields that may differ between the start of a run and its continuation: they change no result.
FREE = frozenset(
    {"data.loader_threads", "data.cache_gb", "data.keep_ids", "data.path", "data.root", "log_every_steps",
     "nan_check_steps", "report", "report_images", "training_features", "loggers", "cache_features",
     "cache_disk_gb", "data.eval_batch_size", "evaluate_test", "other_versions",
     "save_every_minutes", "save_share", "deterministic", "preemption_notice", "parallel.mode",
     "parallel.devices", "parallel.hosts", "parallel.shard_above"}
)  # fmt: skip


def default_config() -> ConfigDict:
    """Returns the locked ConfigDict with every field that a run reads, for config files to fill in."""
    return defaults(RunConfig)


def run_config(config: ConfigDict | RunConfig) -> RunConfig:
    """Converts the config of a run to its dataclass and checks types, ranges and choices; see `typed`."""
    return typed(RunConfig, config)


def parse_arg(arg: str | None, **known: str) -> dict[str, str]:
    """Reads the part behind `--config=file.py:`, as "dataset=skin,model=resnet18".

    Args:
        arg: the text, or None.
        known: the names that may stand there, with their defaults.

    Raises:
        UserError: not of that form, or an unknown name.
    """
    values = dict(known)
    for item in split_top_level(arg or ""):
        name, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--config argument {item!r} is not of the form name=value")
        if name.strip() not in known:
            raise UserError(
                f"--config argument {name.strip()!r} does not exist{nearest(name.strip(), tuple(known))}"
            )
        values[name.strip()] = value.strip()
    return values


def split_top_level(text: str) -> list[str]:
    """Splits at commas outside parentheses, so that a strategy's options may hold commas."""
    items, depth, start = [], 0, 0
    for place, letter in enumerate(text + ","):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            items.append(text[start:place].strip())
            start = place + 1
    return [item for item in items if item]
