"""Maps of what spoke for a class, of one run or of several side by side, with checks of how far they hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import ttl_jax
from ttl_jax.analysis import attribution, faithfulness
from ttl_jax.analysis.overlay import outlined, overlay
from ttl_jax.deploy.pictures import Picture
from ttl_jax.errors import UserError, nearest
from ttl_jax.report import explanation
from ttl_jax.system.whole_file import write_json
from ttl_jax.training.result import Result
from ttl_jax.typing import Array, Bool, Float, Int, UInt8

if TYPE_CHECKING:
    from PIL import Image

METHOD = "grad_cam"
BATCH = 8
PIXELS = 256  # least side of a picture
SLICES = 9  # of a volume in its picture, at most


@dataclass(frozen=True)
class Explained:
    """Images explained by a run.

    Attributes:
        images: as the network sees them.
        classes: column of the class that each image's maps are about.
        probabilities: calibrated.
        maps: method -> a map of each image, larger where more speaks for the class.
        units: method -> the unit whose output it looks at; "" for one that looks at the image alone.
    """

    images: UInt8[np.ndarray, "n ... s s 3"]
    classes: Int[np.ndarray, "n"]
    probabilities: Float[np.ndarray, "n classes"]
    maps: dict[str, Float[np.ndarray, "n *places"]]
    units: dict[str, str]


class Explainer:
    """Methods of attribution, compiled for a run.

    Args:
        run: a finished run.
        methods: registered names, or FILE.py:NAME.
        unit: the unit to look at, by name or number; None takes the topmost map of 4 x 4 places or more.

    Raises:
        UserError: no such method or unit, or a unit that no method looks at.
    """

    def __init__(self, run: Result, methods: Sequence[str] = (METHOD,), unit: str | None = None) -> None:
        self.run, self.variables = run, dict(run.variables)
        normalise = run.signature.normalisation.normalise
        looking = [name for name in methods if attribution.takes_unit(name)]
        if unit is not None and not looking:
            raise UserError(f"{' and '.join(methods)} look at the image alone: leave the unit out")
        given = run.model, self.variables, normalise, run.signature.geometry.shape
        chosen = attribution.map_unit(*given, unit) if looking else ""
        self.units = {name: chosen if name in looking else "" for name in methods}
        self.find = {
            name: attribution.make_attribution(name, run.model, normalise, chosen or None) for name in methods
        }
        self._logits = jax.jit(lambda variables, images: run.model.apply(variables, images))

    def __call__(self, images: UInt8[np.ndarray, "n ... s s 3"], of: str | int | None = None) -> Explained:
        """Explain images from `Run.preprocess`.

        Args:
            images: any number of them.
            of: the class, by name or column; None is each image's most probable one.

        Raises:
            UserError: no such class.
        """
        chances = self.run.signature.probabilities(self.run.logits(images), calibrated=True)
        column = None if of is None else column_of(self.run, of)
        classes = chances.argmax(axis=1) if column is None else np.full(len(images), column)
        maps = {name: self.maps(name, images, classes) for name in self.find}
        return Explained(images, classes, chances, maps, self.units)

    def maps(
        self,
        method: str,
        images: UInt8[np.ndarray, "n ... s s 3"],
        classes: Int[np.ndarray, "n"],
        variables: Any = None,
    ) -> Float[np.ndarray, "n *places"]:
        """Maps by one method, with the run's weights or others."""
        weights, find = self.variables if variables is None else variables, self.find[method]
        return _in_batches(lambda *each: find(weights, *each), images, classes)

    def checks(self, explained: Explained) -> dict[str, dict[str, Any]]:
        """Randomised weights, deletion and insertion for each method, over all of the images.

        Returns:
            method -> {"images": their number, "randomised": [{"down_to": unit, "rank_correlation": mean}],
            and for "deletion" and "insertion": {"area", "at_random": mean areas, "better": images that do
            better than at random, "curve", "curve_at_random"}}.
        """
        images, classes = explained.images, explained.classes
        normalised = np.asarray(self.run.signature.normalisation.normalise(jnp.asarray(images)))

        def probability(seen: np.ndarray) -> np.ndarray:
            logits = _in_batches(lambda each: self._logits(self.variables, each), seen)
            chances = self.run.signature.probabilities(logits, calibrated=True)
            return np.take_along_axis(chances, classes[:, None], axis=1)[:, 0]

        by_method: dict[str, dict[str, Any]] = {}
        for method, maps in explained.maps.items():
            curves = faithfulness.curves(probability, normalised, maps)
            areas, values = curves.areas(), vars(curves)
            by_method[method] = {"images": len(images), "randomised": []}
            for name, sign in (("deletion", -1), ("insertion", 1)):
                area, chance = areas[name], areas[f"{name}_at_random"]
                by_method[method][name] = {
                    "area": float(area.mean()),
                    "at_random": float(chance.mean()),
                    "better": int((sign * (area - chance) > 0).sum()),
                    "curve": values[name].mean(axis=0).tolist(),
                    "curve_at_random": values[f"{name}_at_random"].mean(axis=0).tolist(),
                }
        for unit, weights in faithfulness.randomised(self.run.model, self.variables):
            for method, maps in explained.maps.items():
                alike = faithfulness.rank_correlation(maps, self.maps(method, images, classes, weights))
                step = {"down_to": unit, "rank_correlation": float(alike.mean())}
                by_method[method]["randomised"].append(step)
        return by_method


def explain(
    run: Result,
    images: Any,
    methods: Sequence[str] = (METHOD,),
    unit: str | None = None,
    of: str | int | None = None,
) -> Explained:
    """Explain images by a run.

    Args:
        run: a finished run.
        images: as `Run.predict` takes them.
        methods, unit: as `Explainer`.
        of: the class, by name or column; None is each image's most probable one.

    Raises:
        UserError: no such method, unit or class, or images that cannot be read.
    """
    return Explainer(run, methods, unit)(run.preprocess(images), of)


def _in_batches(run: Callable[..., Array], *arrays: np.ndarray) -> np.ndarray:
    """A function of several rows at a time over all rows, in batches of few sizes."""
    count, parts = len(arrays[0]), []
    for start in range(0, count, BATCH):
        size = min(BATCH, 1 << (count - start - 1).bit_length())
        rows = np.minimum(np.arange(start, start + size), count - 1)  # the last one fills up
        parts.append(np.asarray(run(*(jnp.asarray(each[rows]) for each in arrays)))[: count - start])
    return np.concatenate(parts)


def column_of(run: Result, wanted: str | int) -> int:
    """The column of a class given by name or by column.

    Raises:
        UserError: no such class.
    """
    names = run.class_names
    if str(wanted) in names:
        return names.index(str(wanted))
    if str(wanted).isdigit() and int(wanted) < len(names):
        return int(wanted)
    hint = nearest(str(wanted), names)
    raise UserError(f"{run.workdir} has no class {wanted!r}{hint}; a number is a column, from 0")


def write(
    explainers: Mapping[str, Explainer],
    pictures: Iterable[Picture],
    out: Path,
    of: str | int | None = None,
    checked: int = BATCH,
) -> dict[str, Any]:
    """Explain images by one run or several and write OUT/explain.json, the page and the figure.

    For each image RUN/NAME.npz (the map of every method, image, class, probabilities) and a picture
    RUN/NAME.METHOD.png are written as it comes: memory does not grow with their number.

    Args:
        explainers: by the name of their run.
        pictures: the images.
        out: folder to write to.
        of: the class, by name or column; None is each image's most probable one by each run.
        checked: images, the first ones, that `Explainer.checks` takes; 0 leaves the checks out.

    Returns:
        The content of explain.json.

    Raises:
        UserError: no image at all, or no such class.
    """
    entries: list[dict[str, Any]] = []
    unread: list[dict[str, str]] = []
    first: dict[str, list[Explained]] = {name: [] for name in explainers}
    for batch in _batches(pictures, unread):
        lines: list[dict[str, Any]] = [
            {"id": each.id, "file": _file(number, each.id), "runs": {}}
            for number, each in enumerate(batch, start=len(entries))
        ]
        for name, explainer in explainers.items():
            explained = explainer(np.stack([each.images[name] for each in batch]), of)
            for row, (line, each) in enumerate(zip(lines, batch, strict=True)):
                mask = None if each.masks is None else each.masks[name]
                line["runs"][name] = _write_one(out / name, line["file"], explainer, explained, row, mask)
            if sum(len(part.images) for part in first[name]) < checked:
                first[name].append(explained)
        entries += lines
    if not entries:
        fault = f"; the first, {unread[0]['id']}: {unread[0]['fault']}" if unread else ""
        raise UserError(f"there is no image that can be read{fault}")
    summary = {
        "version": ttl_jax.__version__,
        "class": None if of is None else str(of),
        "runs": {
            name: {
                "folder": str(explainer.run.workdir),
                "network": explainer.run.signature.network.name,
                "strategy": explainer.run.signature.network.strategy,
                "units": explainer.units,
                "checks": explainer.checks(_joined(first[name], checked)) if checked else {},
            }
            for name, explainer in explainers.items()
        },
        "images": entries,
        "unreadable": unread,
    }
    write_json(out / "explain.json", summary)
    explanation.draw(out)
    explanation.write(out)
    return summary


def _batches(pictures: Iterable[Picture], unread: list[dict[str, str]]) -> Iterable[list[Picture]]:
    """Batches of what can be read; the others are noted."""
    batch: list[Picture] = []
    for picture in pictures:
        if picture.fault:
            print(f"WARNING {picture.id} {picture.fault}", flush=True)
            unread.append({"id": picture.id, "fault": picture.fault})
            continue
        batch.append(picture)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _write_one(
    folder: Path,
    name: str,
    explainer: Explainer,
    explained: Explained,
    row: int,
    mask: Bool[np.ndarray, "... s s"] | None,
) -> dict[str, Any]:
    """Write one image's arrays and pictures; return its line of explain.json."""
    folder.mkdir(parents=True, exist_ok=True)
    image, column = explained.images[row], int(explained.classes[row])
    names, chances = explainer.run.class_names, explained.probabilities[row]
    arrays = {explanation.file_word(method): found[row] for method, found in explained.maps.items()}
    arrays |= {"image": image, "class": np.asarray(names[column]), "probabilities": chances}
    arrays |= {} if mask is None else {"mask": mask}
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    draw(image, None, mask).save(folder / f"{name}.png")
    inside = {}
    for method, found in explained.maps.items():
        draw(image, found[row], mask).save(folder / f"{name}.{explanation.file_word(method)}.png")
        if mask is not None:
            within = faithfulness.inside(found[row][None], mask[None])
            energy = float(within.energy[0])
            inside[method] = {
                "energy": energy if np.isfinite(energy) else None,
                "hit": bool(within.hit[0]),
                "area": float(within.area[0]),
            }
    said: dict[str, Any] = {"class": names[column], "probability": float(chances[column])}
    if explainer.run.signature.task == "multiclass":
        said["decision"] = names[int(chances.argmax())]
    return said | ({"inside": inside} if mask is not None else {})


def draw(
    image: UInt8[np.ndarray, "... s s 3"],
    heat: Float[np.ndarray, "..."] | None = None,
    mask: Bool[np.ndarray, "... s s"] | None = None,
) -> Image.Image:
    """A picture of at least 256 px, of a volume some of its slices, plain or under its map."""
    from PIL import Image

    if image.ndim == 4:
        chosen = np.unique(np.linspace(0, len(image) - 1, min(SLICES, len(image))).round().astype(int))
        if heat is not None:
            heat = _montage(np.asarray(attribution.enlarged(heat[None], image.shape[:-1]))[0][chosen])
        image, mask = _montage(image[chosen]), mask if mask is None else _montage(mask[chosen])
    times = -(-PIXELS // max(image.shape[:2]))
    size = image.shape[1] * times, image.shape[0] * times
    shown = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    shown = shown if heat is None else overlay(shown, heat)
    return Image.fromarray(shown if mask is None else outlined(shown, mask))


def _montage(slices: np.ndarray) -> np.ndarray:
    """Slices side by side, row by row, in about a square."""
    columns = int(np.ceil(np.sqrt(len(slices))))
    rows = -(-len(slices) // columns)
    blank = np.zeros((rows * columns - len(slices), *slices.shape[1:]), slices.dtype)
    grid = np.concatenate([slices, blank]).reshape(rows, columns, *slices.shape[1:])
    return np.concatenate([np.concatenate(list(row), axis=1) for row in grid], axis=0)


def _joined(parts: Sequence[Explained], most: int) -> Explained:
    """The first `most` images of several batches."""
    return Explained(
        np.concatenate([part.images for part in parts])[:most],
        np.concatenate([part.classes for part in parts])[:most],
        np.concatenate([part.probabilities for part in parts])[:most],
        {name: np.concatenate([part.maps[name] for part in parts])[:most] for name in parts[0].maps},
        parts[0].units,
    )


def _file(number: int, name: str) -> str:
    """The name, without an ending, of an image's files."""
    stem = name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] or name
    return f"{number:04d}_{_word(stem)[:60]}"


def _word(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")
