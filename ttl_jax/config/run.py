"""The config of a run: every field with its default, one commented line each.

Presets (configs/*.py) only fill these in; nothing else in the program holds a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ttl_jax.errors import UserError, nearest


def default_config() -> Any:
    """Returns the locked ConfigDict with every field that a run reads."""
    from ml_collections import ConfigDict

    from ttl_jax.config.data import DataConfig

    config = ConfigDict()
    config.own = ()  # filled in: "FILE.py:NAME DIGEST" of everything of your own that the fields below name
    config.seed = 0  # initialisation, order of examples, augmentation, dropout
    config.strategy = "full"  # see `python -m ttl_jax strategies`; a sum as "a(1)+b(x=2)", FILE.py:NAME too
    config.total_epochs = 10.0  # passes over the training split, all phases together
    config.total_steps = 0  # if positive, the length in steps instead of epochs
    config.eval_every_epochs = 1.0  # validation, best and last checkpoint (see save_share)
    config.select = "auroc"  # validation figure that picks the best checkpoint (ties: lower loss, then later)
    config.select_phase = "last"  # the phase that the checkpoint is picked in: "last", or "any" of them
    config.hand_over = "last"  # what the next phase starts from: the "last" state of this one, or the "best"
    config.cache_features = True  # compute frozen bottom units once a view, where views repeat (data.views)
    config.cache_disk_gb = 0.0  # such features beyond data.cache_gb go to WORKDIR/features, up to so much
    config.log_every_steps = 20  # one line in metrics.jsonl
    config.nan_check_steps = 20  # how often the losses are looked at (each look waits for the device)

    config.deterministic = False  # GPU: only algorithms that give the same bits every time; slower
    config.nan_skip = 0  # so many steps of a run may have a loss that is no number, and change nothing
    config.save_every_minutes = 10.0  # a checkpoint between validations too, where they are far apart
    config.save_share = (
        0.1  # of the time from checkpoint to checkpoint that writing one may take; 1.0: no limit
    )
    config.preemption_notice = ""  # besides SIGTERM and SIGINT: "gce" or "file:PATH" (docs/tpu.md)

    config.model = ConfigDict()
    config.model.name = "resnet50"  # see `python -m ttl_jax models`
    config.model.weights = "imagenet"  # a catalogue key, a path, or "none"
    config.model.partial = False  # let units that the weights file lacks start fresh (listed)
    config.model.head = ""  # "", "gap", "flatten" or "mlp"; "" is the architecture's own
    config.model.bn_momentum = 0.9  # of running statistics, the share a batch leaves (torch's momentum: 0.1)
    config.model.bn_estimate = "moving"  # or "corrected" for its start, or "precise(20)" batches' moments
    config.model.dtype = "float32"  # compute type: "float32" or "bfloat16"; parameters stay float32

    config.data = ConfigDict({item.name: item.default for item in fields(DataConfig)})
    config.data.batch_size = 32  # training examples a step
    config.data.eval_batch_size = 128  # examples a step in evaluation; the last batch is padded
    config.data.augment = (
        "auto"  # by data.name; "none", a list as "flip,rotate(10)", a modality, as "histology"
    )
    config.data.views = 0  # if positive, each image has so many augmentations, used in turn (epoch by epoch)
    config.data.mix = "none"  # "none", "mixup(0.2)", "cutmix(1)" or both with a comma
    config.data.tta = "none"  # "none", "flip", "flips" or "dihedral": views averaged in the final evaluation
    config.data.class_weights = "none"  # "none" or "balanced": n / (classes * count) on training data
    config.data.sampling = "uniform"  # "uniform", or "balanced": every class equally often
    config.data.loader_threads = 2  # decoding and batching ahead of the step

    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"  # "adam", "adamw" or "sgd"
    config.optimizer.lr = 1e-3  # at the top of the schedule
    config.optimizer.weight_decay = 0.0  # adam, sgd: added to the gradient; adamw: decoupled
    config.optimizer.momentum = 0.9  # sgd
    config.optimizer.b1 = 0.9  # adam
    config.optimizer.b2 = 0.999  # adam
    config.optimizer.eps = 1e-8  # adam
    config.optimizer.clip = 0.0  # if positive, the global norm over trainable leaves is clipped

    config.loss = ConfigDict()
    config.loss.name = "cross_entropy"  # "cross_entropy", "focal" or "logit_adjusted"
    config.loss.gamma = 2.0  # focal: exponent of 1 - p (Lin et al. 2017)
    config.loss.tau = 1.0  # logit_adjusted: strength (Menon et al. 2021)
    config.loss.smoothing = 0.0  # share of the target spread over all classes

    config.schedule = ConfigDict()
    config.schedule.name = "cosine"  # "constant", "cosine" or "plateau", anew in every phase
    config.schedule.warmup = 0.05  # share of a phase's steps with a linear rise from 0
    config.schedule.final = 0.0  # cosine: the last rate as a share of the first
    config.schedule.factor = 0.5  # plateau: multiplies the rate (TTL recipe: 0.5)
    config.schedule.patience = 5  # plateau: evaluations without a lower validation loss
    config.schedule.min_lr = 1e-6  # plateau: training stops below this rate (TTL recipe)

    config.parallel = ConfigDict()
    config.parallel.mode = "jit"  # "jit" (a mesh over all devices) or "pmap"
    config.parallel.devices = 0  # so many of them; 0 = all. The batch size stays that of all together
    config.parallel.hosts = "one"  # "auto": join the processes of a TPU pod, Slurm or GKE job
    config.parallel.batch_norm = "global"  # moments over the whole batch, or "device" (pmap): its own part
    config.parallel.steps_per_call = 1  # steps that the device gets at once, where one takes a millisecond
    config.parallel.accumulate = 1  # parts that a batch is taken in, to save memory
    config.parallel.shard_above = 0  # jit: leaves of at least so many values are sharded; 0 = none

    config.early_stop = ConfigDict()
    config.early_stop.patience = 0  # validations of a phase with no better `select` figure or loss; 0 = never

    config.report = True  # write report.html at the end
    config.report_images = True  # the report shows images of the test split: errors, and where it looked
    config.loggers = ("csv",)  # besides metrics.jsonl: "csv", "tensorboard", "wandb", "mlflow"; () is none
    config.evaluate_test = True  # False: only "val" is scored at the end, as for a tuning run
    return config.lock()


def set_fields(config: Any, values: Mapping[str, Any]) -> None:
    """Sets dotted fields, as {"data.image_size": 64}.

    Raises:
        UserError: a field that does not exist (the nearest is named) or a value of another type.
    """
    for key, value in values.items():
        *parents, last = key.split(".")
        node = config
        for name in parents:
            node = node[name] if name in node else None
            if node is None or not hasattr(node, "keys"):
                raise UserError(f"config field {key!r} does not exist{nearest(key, paths(config))}")
        if last not in node:
            raise UserError(f"config field {key!r} does not exist{nearest(key, paths(config))}")
        try:
            node[last] = value
        except (TypeError, ValueError):
            want = type(node[last]).__name__
            raise UserError(f"config field {key!r} takes a value of type {want}, not {value!r}") from None


def paths(config: Any, prefix: str = "") -> tuple[str, ...]:
    """Every field's dotted name."""
    found: list[str] = []
    for name, value in config.items():
        if hasattr(value, "items"):
            found += paths(value, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return tuple(found)


def parse_arg(arg: str | None, **known: str) -> dict[str, str]:
    """Reads the part behind `--config=file.py:`, as "dataset=skin,model=resnet18".

    Args:
        arg: the text, or None.
        known: the names that may stand there, with their defaults.

    Raises:
        UserError: not of that form, or an unknown name.
    """
    values = dict(known)
    for item in _split_top_level(arg or ""):
        name, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"--config argument {item!r} is not of the form name=value")
        if name.strip() not in known:
            raise UserError(
                f"--config argument {name.strip()!r} does not exist{nearest(name.strip(), tuple(known))}"
            )
        values[name.strip()] = value.strip()
    return values


def _split_top_level(text: str) -> list[str]:
    """Splits at commas outside parentheses, so that a strategy's options may hold commas."""
    items, depth, start = [], 0, 0
    for place, letter in enumerate(text + ","):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            items.append(text[start:place].strip())
            start = place + 1
    return [item for item in items if item]
