"""DICOM objects that answer to an image: a report, and an overlay for each image that was seen in it.

a file of one frame                  a report and an overlay
several frames, flat network         a report with a group for each frame seen, an overlay for each
several frames, network of volumes   a report, and an overlay of the slice with most of the map
files of one series, likewise        the same; the report refers to all of the files
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import ttl_jax
from ttl_jax.data.images.decode import Geometry, Stack, UnreadableImageError, decode, upright
from ttl_jax.data.read_images import file_images, one_series
from ttl_jax.data.sources.dicom import DicomFrame
from ttl_jax.data.sources.file_kinds import DICOM
from ttl_jax.deploy.dicom_overlay import on_source, secondary_capture
from ttl_jax.deploy.dicom_report import Author, structured_report
from ttl_jax.deploy.dicom_source import derived_uid, need_extra, read_source
from ttl_jax.deploy.explain import METHOD, Explainer
from ttl_jax.deploy.predict import Ensemble
from ttl_jax.typing import Float

if TYPE_CHECKING:
    from pydicom import Dataset

MAX_FRAMES = 64  # of a file: each one has an overlay
Make = Callable[[], "Dataset"]


@dataclass(frozen=True)
class DicomAnswer:
    """The objects that answer to a file; each is made when it is called.

    Attributes:
        report: SOP Instance UID and the report.
        overlays: the same of each row's overlay.
    """

    report: tuple[str, Make]
    overlays: tuple[tuple[str, Make], ...]

    @property
    def objects(self) -> tuple[tuple[str, Make], ...]:
        """All of them, the report first."""
        return (self.report, *self.overlays)


class DicomAnswerer:
    """Answers to DICOM files by runs.

    Args:
        joint: the runs.
        method: of the maps, see `Explainer`.

    Raises:
        UserError: the extra is not installed, or a network that the method does not fit.
    """

    def __init__(self, joint: Ensemble, method: str = METHOD) -> None:
        need_extra("DICOM output")
        self.joint, self.method = joint, method
        self.author = Author.of(joint, method)
        self.explainers = [Explainer(run, (method,)) for run in joint.runs]

    def warm_up(self) -> None:
        """Compile what a single image needs."""
        for explainer in self.explainers:
            explainer(np.zeros((1, *explainer.run.signature.geometry.shape), np.uint8))

    def __call__(self, source: Any, rows: Sequence[Mapping[str, Any]]) -> DicomAnswer:
        """Answer to a file, or to the files of a series.

        Args:
            source: `Entry.source`.
            rows: of `predict` for it, without error.

        Raises:
            UnreadableImageError: no answer can refer to it, or it has too many frames.
        """
        if isinstance(source, Path) and source.is_dir():  # of a table's row
            source = one_series(source)
        paths = source if isinstance(source, tuple) else (source,)
        if not all(isinstance(path, Path) and DICOM.accepts(path) for path in paths):
            raise UnreadableImageError("is not a DICOM file, and gets no report and no overlay")
        if len(rows) > MAX_FRAMES:
            raise UnreadableImageError(f"has {len(rows)} frames; files of up to {MAX_FRAMES} are answered to")
        read = [(path, read_source(path)) for path in paths]
        headers = dict(
            sorted(read, key=lambda each: str(each[1].SOPInstanceUID))
        )  # whatever files are called
        known = self.joint.runs[0].signature
        volumes = bool(known.geometry.depth)
        seen = [file_images(source, run.signature.source, volumes) for run in self.joint.runs]
        if any(len(images) != len(rows) for images in seen):
            raise UnreadableImageError("has changed since it was predicted")
        frames = [self._frame(image, headers) for image in seen[0]]
        sources = list(headers.values())
        words = self.author.key, str(sources[0].SeriesInstanceUID)
        named = (*words, *(str(each.SOPInstanceUID) for each in sources))
        report = partial(structured_report, self.author, sources, rows, frames)
        overlays = []
        for place, (row, frame) in enumerate(zip(rows, frames, strict=True)):
            own = (*named, str(frame))
            make = partial(self._overlay, headers, own, row, [images[place] for images in seen])
            overlays.append((derived_uid("overlay", *own), make))
        return DicomAnswer((derived_uid("report", *named), report), tuple(overlays))

    def _frame(self, image: Any, headers: Mapping[Any, Dataset]) -> int | None:
        """The frame that an image is, from 0; None for a file's only one, and for a volume."""
        if isinstance(image, DicomFrame) and int(headers[image.path].get("NumberOfFrames") or 1) > 1:
            return image.frame
        return None

    def _overlay(
        self,
        headers: Mapping[Any, Dataset],
        words: tuple[str, ...],
        row: Mapping[str, Any],
        images: list[Any],
    ) -> Dataset:
        """The overlay of one row; `images` are the same one as each run reads it."""
        name = max(self.joint.class_names, key=lambda each: row[f"p_{each}"])
        maps = []
        for image, explainer in zip(images, self.explainers, strict=True):
            pixels = decode(image, explainer.run.signature.geometry)[None]
            heat = explainer(pixels, name).maps[self.method][0]
            maps.append(np.maximum(heat, 0) / max(float(heat.max()), 1e-30))
        frame, flat = images[0], [(heat, image) for heat, image in zip(maps, images, strict=True)]
        if isinstance(frame, Stack):
            count = len(frame.slices)
            profile = np.sum([_per_slice(heat, count).sum((1, 2)) for heat in maps], axis=0)
            place = int(profile.argmax())
            flat = [(_per_slice(h, count)[place], image.slices[place]) for h, image in flat]
            frame = frame.slices[place]
        assert isinstance(frame, DicomFrame)
        geometry = replace(self.joint.runs[0].signature.geometry, depth=0)
        shown = np.asarray(upright(replace(frame, spacing=0.0), geometry).convert("RGB"))
        heat = np.mean(
            [self._on(shown.shape, *each) for each in zip(flat, self.explainers, strict=True)], axis=0
        )
        source = headers[frame.path]
        several = int(source.get("NumberOfFrames") or 1) > 1
        method = self.method.replace("_", " ").replace("grad cam", "Grad-CAM")
        caption = f"{method} for {_plain(name)}, {row[f'p_{name}']:.2f}", self._signed()
        return secondary_capture(source, words, shown, heat, caption, frame.frame if several else None)

    @staticmethod
    def _on(shape: tuple[int, ...], flat: Any, explainer: Explainer) -> Float[np.ndarray, "h w"]:
        """One run's map over the image at its own size."""
        heat, image = flat
        geometry: Geometry = replace(explainer.run.signature.geometry, depth=0)
        size = seen = shape[0], shape[1]
        if image.spacing:
            picture = upright(image, geometry)
            seen = picture.height, picture.width
        return on_source(heat, geometry, seen, size)

    def _signed(self) -> str:
        several = len(self.author.digests) - 1
        more = f" and {several} more" if several else ""
        return f"ttl_jax {ttl_jax.__version__}, run {self.author.digests[0]}{more}"


def _per_slice(heat: Float[np.ndarray, "d a b"], count: int) -> Float[np.ndarray, "n a b"]:
    """The map's nearest plane for each of the slices that were scaled to a volume."""
    nearest = ((np.arange(count) + 0.5) * len(heat) / count).astype(int)
    return np.asarray(heat[nearest])


def _plain(text: str) -> str:
    text = "".join(each if each.isprintable() else " " for each in text)
    return text if len(text) <= 60 else f"{text[:57]}..."
