"""Answers of runs about files in memory, asked one at a time and computed together."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

import ttl_jax
from ttl_jax.data.read_images import decode_content
from ttl_jax.deploy.explain import METHOD, Explainer, draw
from ttl_jax.deploy.predict import Ensemble, Row, geometries, of_runs
from ttl_jax.errors import UserError
from ttl_jax.typing import UInt8

NOTICE = "Research use only, not a medical device."


@dataclass(frozen=True)
class Limits:
    """Sizes and times that a server takes at most.

    Attributes:
        bytes: of a request.
        frames: of a file.
        requests: held at once; what comes beyond is refused.
        batch: images that are computed together.
        wait: seconds that an image waits for others.
        seconds: for a request to arrive.
    """

    bytes: int = 64_000_000
    frames: int = 32
    requests: int = 64
    batch: int = 8
    wait: float = 0.005
    seconds: float = 30.0


@dataclass(frozen=True, eq=False)
class Question:
    """One file's images.

    Attributes:
        images: as each way of `geometries` reads them.
        pictures: whether pictures and maps are wanted.
    """

    images: list[UInt8[np.ndarray, "n ... s s 3"]]
    pictures: bool


class Answerer:
    """Answers of runs about files.

    Args:
        joint: the runs; their programs are compiled for one image and for a whole batch alone.
        limits: what is taken.

    Attributes:
        notes: what a reader must know of the answers.
    """

    def __init__(self, joint: Ensemble, limits: Limits | None = None) -> None:
        self.joint, self.limits = joint, limits or Limits()
        self.notes = list(joint.notes)
        self._explainers = dict[int, Explainer]()
        for place, run in enumerate(joint.runs):
            try:
                self._explainers[place] = Explainer(run)
            except UserError as error:  # a small image has no map of 4 x 4 places
                self.notes.append(f"there is no map of {run.folder.name}: {error}")
        for count in (1, self.batch):
            blank = [np.zeros((count, *way.shape), np.uint8) for way, _ in geometries(joint)]
            self.answer([Question(blank, pictures=count == 1)])

    @property
    def batch(self) -> int:
        """Images that are computed together."""
        return min(self.limits.batch, *(run.config.data.eval_batch_size for run in self.joint.runs))

    def read(self, content: bytes, pictures: bool) -> Question:
        """Read a file's content; raises as `decode_content`."""
        ways = geometries(self.joint)
        return Question([decode_content(content, *way, self.limits.frames) for way in ways], pictures)

    def answer(self, asked: Sequence[Question]) -> list[list[Row]]:
        """Answer several questions in one computation: a row for each of their images."""
        ways = zip(*(each.images for each in asked), strict=True)
        images = of_runs(self.joint, [np.concatenate(way) for way in ways])
        rows = iter(self._rows(images))
        answers, start = list[list[Row]](), 0
        for each in asked:
            own = [_said(row) for row in islice(rows, len(each.images[0]))]
            if each.pictures:
                for place, row in enumerate(own, start):
                    row |= self._pictures([every[place : place + 1] for every in images], row)
            answers.append(own)
            start += len(own)
        return answers

    def _rows(self, images: list[np.ndarray]) -> list[Row]:
        """The answers to all images: one alone, or whole batches, which the last image fills up."""
        rows = list[Row]()
        for start in range(0, len(images[0]), self.batch):
            parts = [each[start : start + self.batch] for each in images]
            count = len(parts[0])
            lacks = 0 if count == 1 else self.batch - count
            filled = [np.concatenate([each, each[-1:].repeat(lacks, axis=0)]) for each in parts]
            rows += islice(self.joint.answers(filled), count)
        return rows

    def _pictures(self, images: list[np.ndarray], row: Row) -> dict[str, Any]:
        """The image as the first run sees it, and what spoke for its likeliest class by each."""
        likeliest = max(row["probabilities"], key=row["probabilities"].__getitem__)
        column = np.array([self.joint.class_names.index(likeliest)])
        maps = []
        for place, explainer in self._explainers.items():
            heat = explainer.maps(METHOD, images[place], column)[0]
            about = {
                "run": self.joint.runs[place].folder.name,
                "method": METHOD,
                "unit": explainer.units[METHOD],
            }
            maps.append(about | {"class": likeliest, "picture": _picture(images[place][0], heat)})
        return {"picture": _picture(images[0][0]), "maps": maps}

    def about(self) -> dict[str, Any]:
        """Describe the runs that answer."""
        joint, known = self.joint, self.joint.runs[0].signature
        at = {name: each if np.isfinite(each) else None for name, each in joint.threshold.items()}
        sets = joint.sets
        return {
            "notice": NOTICE,
            "version": ttl_jax.__version__,
            "task": joint.task,
            "class_names": list(joint.class_names),
            "positive_class": known.positive_class,
            "runs": [
                {
                    "name": run.folder.name,
                    "network": run.signature.network.name,
                    "strategy": run.signature.network.strategy,
                    "cut": None if run.signature.network.cut is None else str(run.signature.network.cut),
                    "image": list(run.signature.geometry.shape),
                    "temperature": run.signature.temperature,
                }
                for run in joint.runs
            ],
            "thresholds": at,
            "set": sets and {"coverage": sets.coverage, "by_class": sets.by_class},
            "notes": self.notes,
            "limits": {"bytes": self.limits.bytes, "frames": self.limits.frames},
        }


def _said(row: Row) -> Row:
    """An answer of `Ensemble.answers` with the probabilities under one name."""
    chances = {name.removeprefix("p_"): value for name, value in row.items() if name.startswith("p_")}
    others = {name: value for name, value in row.items() if not name.startswith("p_")}
    return {"probabilities": chances, "classes": others.pop("class"), **others}


def _picture(image: np.ndarray, heat: np.ndarray | None = None) -> str:
    file = io.BytesIO()
    draw(image, heat).save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


class Batcher:
    """Questions that come one at a time, answered together.

    Args:
        answer: of several questions; runs in one thread, which is that of the network.
        most: images of one computation.
        wait: seconds that a question waits for others while the network is idle.
    """

    def __init__(self, answer: Callable[[list[Question]], list[list[Row]]], most: int, wait: float) -> None:
        self._answer, self._most, self._wait = answer, most, wait
        self._queue: asyncio.Queue[tuple[Question, asyncio.Future[list[Row]]]] = asyncio.Queue()

    async def __call__(self, question: Question) -> list[Row]:
        """The rows of a question."""
        future: asyncio.Future[list[Row]] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((question, future))
        return await future

    async def run(self) -> None:
        """Answer until cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            while True:
                batch = [await self._queue.get()]
                until = loop.time() + self._wait
                while sum(len(each.images[0]) for each, _ in batch) < self._most:
                    try:
                        async with asyncio.timeout_at(max(until, loop.time() + 1e-4)):
                            batch.append(await self._queue.get())
                    except TimeoutError:
                        break
                try:
                    rows = await loop.run_in_executor(thread, self._answer, [each for each, _ in batch])
                except Exception as error:  # their clients hear of it, the others go on
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), own in zip(batch, rows, strict=True):
                    if not future.done():  # cancelled
                        future.set_result(own)
