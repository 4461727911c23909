"""All that turns an image into a decision, as one small file: signature.json in a run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import ttl_jax
from ttl_jax.config import RunConfig
from ttl_jax.data.images.decode import Geometry
from ttl_jax.data.read_images import SourceOptions
from ttl_jax.data.sources.record import MANIFEST, read_manifest
from ttl_jax.errors import UserError
from ttl_jax.evaluation.calibration import fit_temperature
from ttl_jax.evaluation.predictions import Predictions, questions
from ttl_jax.evaluation.probability import Task, probabilities
from ttl_jax.evaluation.thresholds import threshold_at
from ttl_jax.report.operating import AIMS
from ttl_jax.strategies import parse, title
from ttl_jax.system.json_object import read_object
from ttl_jax.system.whole_file import write_json
from ttl_jax.typing import Float
from ttl_jax.weights import Preprocessing

FILE = "signature.json"
FORMAT = 1
SURE = 0.011  # a temperature below is at the end of its range: any example that is wrong would be the first


@dataclass(frozen=True)
class Architecture:
    """The choices that the network is built from.

    Attributes:
        name: network.
        cut, slim_from, slim, head: its shape, as `models.create` takes it.
        dtype: compute type.
        strategy: the strategy's title.
    """

    name: str
    cut: int | str | None = None
    slim_from: int | None = None
    slim: int = 2
    head: str | None = None
    dtype: str = "float32"
    strategy: str = ""

    @property
    def shape(self) -> dict[str, Any]:
        """Keywords of `models.create` and `weights.initialise.template`."""
        return {"cut": self.cut, "slim_from": self.slim_from, "slim": self.slim, "head": self.head}


@dataclass(frozen=True)
class Signature:
    """The way from an image to a decision.

    Attributes:
        network: what the network is built from.
        geometry: size of the images, and how they are brought to it.
        normalisation: what the weights expect.
        source: how a file becomes an image.
        tta: views that logits are averaged over.
        task: "multiclass" or "multilabel".
        class_names: in the order of the columns.
        temperature: divides the logits; fitted on validation, 1 where that does not tell it.
        thresholds: class -> {aim, as "sensitivity 0.90": calibrated probability from which the class is said
            to be there}, chosen on validation; infinite where no probability is high enough. Of two classes
            the positive one alone.
        version: of ttl_jax.
    """

    network: Architecture
    geometry: Geometry
    normalisation: Preprocessing
    source: SourceOptions
    tta: str
    task: Task
    class_names: tuple[str, ...]
    temperature: float = 1.0
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    version: str = ttl_jax.__version__

    @property
    def positive_class(self) -> str | None:
        """Of two classes the second, which thresholds are about; None of more, and of labels."""
        return self.class_names[1] if self.task == "multiclass" and len(self.class_names) == 2 else None

    def probabilities(
        self, logits: Float[np.ndarray, "n classes"], calibrated: bool = False
    ) -> Float[np.ndarray, "n classes"]:
        """Probabilities of logits, as trained or at the temperature, float32."""
        scale = self.temperature if calibrated else 1.0
        return probabilities(np.asarray(logits, np.float64) / scale, self.task).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """The content of signature.json."""
        held = asdict(self)
        thresholds = {
            name: {aim: at if np.isfinite(at) else None for aim, at in aims.items()}
            for name, aims in self.thresholds.items()
        }
        names = {"class_names": list(self.class_names), "positive_class": self.positive_class}
        return {"format": FORMAT, **held, **names, "thresholds": thresholds}


def from_json(held: Mapping[str, Any], where: str = FILE) -> Signature:
    """The inverse of `Signature.to_json`.

    Raises:
        UserError: of a newer format, or damaged.
    """
    if not isinstance(held, Mapping) or not isinstance(held.get("format"), int):
        raise UserError(f"{where} is no signature of a run: it has no format")
    if held["format"] > FORMAT:
        raise UserError(
            f"{where} has format {held['format']}, this version of ttl_jax reads {FORMAT}: install the one "
            f"that wrote it ({held.get('version', 'a newer one')})"
        )
    try:
        scale = held["normalisation"]
        mean, std = tuple(scale["mean"]), tuple(scale["std"])
        thresholds = {
            name: {aim: np.inf if at is None else float(at) for aim, at in aims.items()}
            for name, aims in held["thresholds"].items()
        }
        return Signature(
            network=Architecture(**held["network"]),
            geometry=Geometry(**held["geometry"]),
            normalisation=Preprocessing(mean, std, scale["channels"], scale["reverse"]),
            source=SourceOptions(**held["source"]),
            tta=held["tta"],
            task=held["task"],
            class_names=tuple(held["class_names"]),
            temperature=float(held["temperature"]),
            thresholds=thresholds,
            version=held["version"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{where} is damaged ({error!r}); copy it anew from the run") from None


def read(folder: Path) -> Signature | None:
    """The signature of a run's folder; None where an earlier version wrote none."""
    path = folder / FILE
    if not path.exists():
        return None
    return from_json(read_object(path, "copy it anew from the run"), str(path))


def write(folder: Path, signature: Signature) -> None:
    """Write signature.json as a whole."""
    write_json(folder / FILE, signature.to_json())


def signature_of(
    config: RunConfig,
    validation: Predictions,
    normalisation: Preprocessing,
    shape: tuple[int, ...] | None = None,
    volumes: bool = False,
) -> Signature:
    """The signature of a finished run.

    Args:
        config: the run's config.
        validation: its predictions of the validation split.
        normalisation: what its weights expect.
        shape: of one image that it was trained on, ([D,] S, S, 3); None takes the config's.
        volumes: whether it takes volumes, where the shape is not known.
    """
    surgery = parse(config.strategy).surgery.shape(config.model.name)
    surgery["head"] = config.model.head or surgery["head"]
    data = config.data
    size, depth = data.image_size, data.depth if volumes else 0
    if shape is not None:
        size, depth = shape[-2], shape[0] if len(shape) == 4 else 0
    temperature = _temperature(validation)
    return Signature(
        network=Architecture(
            config.model.name, dtype=config.model.dtype, strategy=title(config.strategy), **surgery
        ),
        geometry=Geometry(size, data.resize, data.pad_value, depth),
        normalisation=normalisation,
        source=_source(config),
        tta=data.tta,
        task=validation.task,
        class_names=validation.class_names,
        temperature=temperature,
        thresholds=thresholds_of(validation, temperature),
    )


def _source(config: RunConfig) -> SourceOptions:
    """The options of the source; of a prepared folder those that it was made with, where it is there."""
    names = ("window", "slices", "plane", "spacing")
    held = {"kind": config.data.name, **{name: getattr(config.data, name) for name in names}}
    folder = Path(config.data.path)
    if config.data.name == "record" and (folder / MANIFEST).is_file():
        made = read_manifest(folder)["source"]
        held |= {"kind": made["name"], **{name: made[name] for name in names if name in made}}
    return SourceOptions(**held)


def _temperature(validation: Predictions) -> float:
    """The fitted temperature; 1 where every validation example is right, so that the surest would be best."""
    try:
        fitted = fit_temperature(validation.labels, validation.logits, validation.task)
    except ValueError:  # nothing known to fit on
        return 1.0
    return fitted if fitted > SURE else 1.0


def thresholds_of(validation: Predictions, temperature: float = 1.0) -> dict[str, dict[str, float]]:
    """Thresholds a class and aim, halfway to the next lower score, so that rounding decides nothing."""
    found: dict[str, dict[str, float]] = {}
    for each in questions(validation, temperature):
        if not 0 < each.truth.sum() < len(each.truth):
            continue
        found[each.name] = {}
        for kind, aim in AIMS:
            at = threshold_at(each.truth, each.odds, **{kind: aim})
            below = each.odds[each.odds < at]
            if np.isfinite(at):
                at = (at + below.max()) / 2 if len(below) else at - 1e-3
                at = float(np.exp(-np.logaddexp(0.0, -at)))
            found[each.name][f"{kind} {aim:.2f}"] = at
    return found
