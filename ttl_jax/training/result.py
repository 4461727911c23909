"""The result of a finished run: its scores, its costs, and the model that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ttl_jax import evaluation, strategies
from ttl_jax.config import RunConfig
from ttl_jax.data.dataset import Dataset
from ttl_jax.data.pseudonyms import pseudonymous
from ttl_jax.data.read_images import read_images
from ttl_jax.errors import UserError
from ttl_jax.evaluation import sanity
from ttl_jax.models import Network
from ttl_jax.strategies import Strategy
from ttl_jax.training.devices import ONE, Layout
from ttl_jax.training.predictor import Predict, Predictor, make_predict
from ttl_jax.training.records.events import read_events
from ttl_jax.training.records.signature import Signature
from ttl_jax.typing import Array, Float, UInt8, Variables


@dataclass(frozen=True, repr=False)
class Result:
    """A finished run: its scores, and the model that it leaves.

    Attributes:
        metrics: the content of result.json.
        workdir: the run's folder.
        config: the run's config.
        model: the Flax module.
        variables: the best parameters and statistics.
        signature: all that turns an image into a decision.
    """

    metrics: dict[str, Any]
    workdir: Path
    config: RunConfig
    model: Network
    variables: Variables
    signature: Signature
    _predict: Predict
    _layout: Layout = ONE
    _programs: dict[tuple[Any, ...], Callable[[Any], Array]] = field(default_factory=dict)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The order of the columns of `predict`."""
        return self.signature.class_names

    @property
    def strategy(self) -> Strategy:
        """The run's strategy."""
        return strategies.parse(self.config.strategy)

    def preprocess(self, images: Any) -> UInt8[np.ndarray, "n ... s s 3"]:
        """Bring images to the size and the colours that the network was trained on.

        Args:
            images: arrays, files, folders: see `data.read_images.list_images`.

        Raises:
            UserError: an image that cannot be read, or arrays that are refused.
        """
        shape = self.signature.geometry.shape
        return np.concatenate([np.empty((0, *shape), np.uint8), *self._batches(images)])

    def _batches(self, images: Any) -> Iterator[UInt8[np.ndarray, "n ... s s 3"]]:
        most, batch = self.config.data.eval_batch_size, list[np.ndarray]()
        for name, pixels in read_images(images, self.signature.geometry, self.signature.source):
            if isinstance(pixels, str):
                raise UserError(f"image {name} {pixels}; the command `predict` goes on without such images")
            batch.append(pixels)
            if len(batch) == most:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)

    def logits(self, images: UInt8[np.ndarray, "n ... s s 3"]) -> Float[np.ndarray, "n classes"]:
        """Compute logits, unscaled, of images from `preprocess`, in padded batches of few sizes.

        Raises:
            UserError: other images than `preprocess` returns.
        """
        wanted = self.signature.geometry.shape
        if images.dtype != np.uint8 or images.shape[1:] != wanted:
            raise UserError(
                f"logits takes uint8 images (N, {', '.join(map(str, wanted))}), as preprocess returns them, "
                f"not {images.dtype} {images.shape}"
            )
        return self._in_batches("logits", self._predict, images)

    def features(self, images: UInt8[np.ndarray, "n ... s s 3"]) -> Float[np.ndarray, "n d"]:
        """Compute the pooled features of the last unit, of images from `preprocess`."""
        made = make_predict(self.model.pooled(), self.signature.normalisation.normalise)
        return self._in_batches("features", made, images)

    def _in_batches(
        self, what: str, predict: Predict, images: UInt8[np.ndarray, "n ..."]
    ) -> Float[np.ndarray, "n d"]:
        parts, most = list[np.ndarray](), self.config.data.eval_batch_size
        for start in range(0, len(images), most):
            batch = images[start : start + most]
            rows = self._layout.rows(min(most, 1 << (len(batch) - 1).bit_length()), parts=1).padded
            padded = np.concatenate([batch, np.repeat(batch[-1:], rows - len(batch), axis=0)])
            run = self._program(what, predict, padded)
            parts.append(np.asarray(run(padded), np.float32)[: len(batch)])
        return np.concatenate(parts) if parts else np.empty((0, len(self.class_names)), np.float32)

    def predict(self, images: Any, calibrated: bool = False) -> Float[np.ndarray, "n classes"]:
        """Compute probabilities of images of any size, prepared as the training images were.

        Args:
            images: as for `preprocess`; a file of many frames or slices has a row for each.
            calibrated: divide the logits by the run's temperature, as the command `predict` does; by default
                they are those of the prediction files.

        Returns:
            float32; a row sums to 1, or of several labels each lies between 0 and 1.

        Raises:
            UserError: as `preprocess`.
        """
        none = np.empty((0, len(self.class_names)), np.float32)
        logits = np.concatenate([none, *map(self.logits, self._batches(images))])
        return self.signature.probabilities(logits, calibrated)

    def report(self) -> Path:
        """The run's one-file HTML report."""
        return self.workdir / "report.html"

    def __repr__(self) -> str:
        said, geometry = self.signature, self.signature.geometry
        names = ", ".join(said.class_names[:6]) + (", ..." if len(said.class_names) > 6 else "")
        depth = f"{geometry.depth} x " if geometry.depth else ""
        split = "test" if "test" in self.metrics else "val"
        scores = self.metrics[split] if split in self.metrics else {}
        figures = [
            f"{name} {scores[name]:.3f}" for name in ("auroc", "accuracy") if scores.get(name) is not None
        ]
        return (
            f"{type(self).__name__} {self.workdir}\n"
            f"  {said.network.name}, {said.network.strategy}; {depth}{geometry.size} x {geometry.size} px; "
            f"{said.task}, {len(said.class_names)} classes: {names}\n"
            f"  {split}: {', '.join(figures) or 'no scores'}; temperature {said.temperature:.3f}; "
            f"ttl_jax {said.version}"
        )

    def _program(
        self, what: str, predict: Predict, images: UInt8[np.ndarray, "n ..."]
    ) -> Callable[[Any], Array]:
        """The compiled program for batches of this shape; two of a kind are kept: each folds the weights."""
        if (key := (what, *images.shape)) not in self._programs:
            kind = [other for other in self._programs if other[0] == what]
            if len(kind) > 1:
                self._programs.pop(kind[0])
            given = dict(self.variables)
            if self._layout.plain and isinstance(predict, Predictor):
                self._programs[key] = predict.fixed(given, images)
            else:
                self._programs[key] = partial(self._layout.spread(predict), self._layout.replicate(given))
        return self._programs[key]


def evaluate_once(
    workdir: Path,
    sets: Mapping[str, Dataset],
    logits_for: Any,
    writes: bool = True,
    kept_step: int | None = None,
) -> dict[str, Any]:
    """Scores every held-out split with the best variables and keeps its predictions.

    Returns:
        split -> `score`; "intervals": split -> {metric: [low, high]}, 95 % over patients; and "warnings": a
        list of {"code", "message", "remedy"}, see `evaluation.sanity`, which are printed too.
    """
    scores: dict[str, Any] = {}
    held: dict[str, evaluation.Predictions] = {}
    for name, split in sets.items():
        logits, split = logits_for(split), pseudonymous(split)
        if writes:
            evaluation.predictions.save(
                workdir / "predictions" / f"{name}.npz",
                ids=split.ids,
                groups=split.groups,
                labels=split.labels,
                logits=logits,
                class_names=split.class_names,
                task=split.task,
                columns=split.columns,
            )
        given = split.labels, logits, split.class_names, split.task
        scores[name] = evaluation.score(*given)
        held[name] = evaluation.Predictions(split.ids, split.groups, *given)
    lines = (event for _, event in read_events(workdir / "metrics.jsonl"))
    course = [event for event in lines if event.get("split") == "val"]
    warnings = sanity.warnings_of(held, scores, course, kept_step)
    if writes:
        for warning in warnings:
            print(f"WARNING {warning.message}. {warning.remedy[0].upper()}{warning.remedy[1:]}.", flush=True)
    intervals = {
        name: {metric: list(ends) for metric, ends in evaluation.intervals_of([each]).items()}
        for name, each in held.items()
    }
    return scores | {"intervals": intervals, "warnings": [asdict(warning) for warning in warnings]}
