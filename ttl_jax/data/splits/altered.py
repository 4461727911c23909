"""Altered copies of an image: shifted, cropped, turned a little, stretched, marked or padded.

Candidates first: for every image the few whose spectra are most like its own. A spectrum's magnitude does
not change where the image is shifted, and little where it is cropped, turned by a few degrees or marked.
Then geometry: each candidate is laid over the image by the affine map that fits best (Lucas and Kanade 1981,
inverse compositional as in Baker and Matthews 2004), and the fine detail of the two is correlated block by
block. Copies agree in most blocks; neighbouring slices, other photographs of one lesion and other
patients do not. A marker spoils few blocks, so that the median does not mind it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from ttl_jax.data.progress_lines import Progress
from ttl_jax.data.splits.fingerprint import Pairs
from ttl_jax.typing import Bool, Float, Int, UInt8

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 64  # pixels of the gray squares that are compared
# The median correlation of the blocks of a copy. On three data sets nine of ten altered copies lie above it
# (docs/leaks.md); of the pairs of one HAM10000 lesion that are other photographs few do.
MEDIAN = 0.965
CANDIDATES = 5  # of each image
_COSINE = (
    0.3  # least likeness of the spectra of a candidate; that of strangers is 0 with a deviation of 0.125
)
_BLOCK = 8  # pixels of a block
_TEXTURE = 2.0  # gray levels; below this deviation of its detail a block shows nothing
_LEAST_BLOCKS = 8  # with texture, that both images show
_STEPS = (6, 4, 3)  # of fitting, at 16, 32 and 64 pixels a side
_COARSE = 0.6  # correlation at half the size without which a candidate is dropped
_EVEN = 4  # gray levels; a line of the margin whose middle half varies less is even
_CHUNK = 64  # images or pairs at a time: what is worked on stays in the processor's cache
_SAMPLE = 4000  # images that the spectra's principal components are taken from


def content(image: Image) -> UInt8[np.ndarray, "64 64"]:
    """Return an image's gray square without even margins (of padding, of air), squashed."""
    from PIL import Image as pil

    gray = image.convert("L")
    gray = gray.reduce(max(1, min(gray.size) // (4 * SIDE)))  # quicker, and it averages as scaling does
    small = np.asarray(gray.resize((SIDE, SIDE), pil.Resampling.BILINEAR))
    top, bottom = _margins(small)
    left, right = _margins(small.T)
    if not top + bottom + left + right:
        return small
    x, y = gray.width / SIDE, gray.height / SIDE
    box = (left * x, top * y, gray.width - right * x, gray.height - bottom * y)
    return np.asarray(gray.resize((SIDE, SIDE), pil.Resampling.BILINEAR, box=box))


def _margins(square: UInt8[np.ndarray, "S S"]) -> tuple[int, int]:
    """Count the even lines at both ends, plus one for the half-even line; at most a third each."""
    ordered = np.sort(square, axis=1).astype(np.int16)
    shows = ordered[:, 3 * SIDE // 4] - ordered[:, SIDE // 4] >= _EVEN
    even = int(np.argmax(shows)), int(np.argmax(shows[::-1]))
    before, after = (min(lines + 1, SIDE // 3) if lines else 0 for lines in even)  # one is half a line
    return before, after


def altered_pairs(contents: UInt8[np.ndarray, "N 64 64"], progress: Progress | None = None) -> Pairs:
    """Find pairs of images that are altered copies; their likeness is the median over blocks.

    contents: Gray squares of `content`, (N, 64, 64).
        progress: Called with (done, total) images compared.
        progress: called with (done, total) images compared.
    """
    if len(contents) < 2:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        pieces = [slice(start, start + _CHUNK) for start in range(0, len(contents), _CHUNK)]
        levels = list(pool.map(lambda piece: _levels(contents[piece]), pieces))
        spectra, half, quarter = (np.concatenate(parts) for parts in zip(*levels, strict=True))
        candidates = np.concatenate([np.zeros((0, 2), np.int64), *_neighbours(spectra)])
        candidates = np.unique(np.sort(candidates, axis=1), axis=0)

        def judge(pairs: Int[np.ndarray, "Q 2"]) -> Float[np.ndarray, " Q"]:
            return _judge(contents, half, quarter, pairs)

        parts = [candidates[start : start + _CHUNK] for start in range(0, len(candidates), _CHUNK)]
        alike = [np.zeros(0)]
        for part, values in zip(parts, pool.map(judge, parts), strict=True):
            alike.append(values)
            if progress:
                progress(int(part[-1, 0]) + 1, len(contents))
    likeness = np.concatenate(alike)
    is_copy = likeness >= MEDIAN
    return Pairs(candidates[is_copy, 0], candidates[is_copy, 1], likeness[is_copy].astype(np.float64))


def _levels(contents: UInt8[np.ndarray, "N 64 64"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return spectra (N, D), and even detail at 32 and at 16 pixels a side, float16."""
    from scipy.fft import rfft2

    full = contents.astype(np.float32)
    half = _halve(full)
    window = np.hanning(SIDE + 2)[1:-1].astype(np.float32)
    waves = np.abs(rfft2(_even(_detail(full)) * np.outer(window, window), axes=(1, 2)))
    down, across = np.abs(np.fft.fftfreq(SIDE) * SIDE)[:, None], np.arange(SIDE // 2 + 1)[None]
    radius = np.hypot(down, across)
    spectra = np.log1p(_blur(waves, 3, 1))[:, (radius >= 1.5) & (radius <= 14)]
    # Filters that find the most altered copies on three data sets: fine ones cope with new black corners,
    # smoothed ones with noise.
    half_detail, quarter_detail = _detail(half, 7, smooth=False), _detail(_halve(half), 5)
    return spectra, _even(half_detail).astype(np.float16), _even(quarter_detail).astype(np.float16)


def _halve(squares: Float[np.ndarray, "N S S"]) -> np.ndarray:
    count, side, _ = squares.shape
    return squares.reshape(count, side // 2, 2, side // 2, 2).mean(axis=(2, 4))


def _blur(squares: Float[np.ndarray, "N S S"], width: int, times: int = 2) -> np.ndarray:
    from scipy.ndimage import uniform_filter

    for _ in range(times):
        squares = uniform_filter(squares, (0, width, width), mode="nearest")
    return squares


def _detail(squares: Float[np.ndarray, "N S S"], width: int = 9, *, smooth: bool = True) -> np.ndarray:
    """Return detail finer than `width` pixels; `smooth` first removes the noise of single pixels."""
    return (_blur(squares, 3, 1) if smooth else squares) - _blur(squares, width)


def _even(detail: Float[np.ndarray, "N S S"]) -> np.ndarray:
    """Divide detail by its deviation around each pixel, so that every part of an image counts."""
    return detail / (np.sqrt(np.maximum(_blur(detail * detail, 9), 0)) + 4)


def _neighbours(spectra: Float[np.ndarray, "N D"]) -> Iterator[Int[np.ndarray, "Q 2"]]:
    """Yield for each image the CANDIDATES whose spectra are most like its own, by whitened components."""
    count = len(spectra)
    spectra = spectra - spectra.mean(axis=0)
    sample = spectra[:: -(-count // _SAMPLE)]
    _, spread, axes = np.linalg.svd(sample, full_matrices=False)
    kept = min(64, -(-count // 8))
    # Components that hardly vary are damped: theirs is the noise by which copies differ.
    points = spectra @ (axes[:kept].T / (spread[:kept] + 0.05 * spread[0] + 1e-6))
    points /= np.linalg.norm(points, axis=1, keepdims=True) + 1e-6
    for start in range(0, count, 1024):
        cosine = points[start : start + 1024] @ points.T
        rows = np.arange(len(cosine))
        cosine[rows, rows + start] = -1
        row, column = np.nonzero(cosine >= _COSINE)
        value = cosine[row, column]
        order = np.lexsort((-value, row))
        row, column = row[order], column[order]
        place = np.arange(len(row)) - np.searchsorted(row, rows)[row]  # among its row's
        best = place < CANDIDATES
        yield np.stack([row[best] + start, column[best]], axis=1)


def _judge(
    contents: UInt8[np.ndarray, "N 64 64"],
    half: Float[np.ndarray, "N 32 32"],
    quarter: Float[np.ndarray, "N 16 16"],
    pairs: Int[np.ndarray, "Q 2"],
) -> Float[np.ndarray, " Q"]:
    """Return the median correlation of each pair's blocks after alignment; 0 for pairs that are no copies."""
    scores = np.zeros(len(pairs))
    maps = np.tile(np.eye(2, 3, dtype=np.float32), (len(pairs), 1, 1))
    for level, steps in ((quarter, _STEPS[0]), (half, _STEPS[1])):
        one, other = (level[pairs[:, column]].astype(np.float32) for column in (0, 1))
        maps = _align(one, other, maps, steps)
    laid, inside = _lay(other, maps)
    # Drop poor fits here, because the last level is the costly one.
    left = np.flatnonzero((_correlation(one, laid, inside) >= _COARSE) & _plausible(maps))
    if not len(left):
        return scores
    maps = maps[left]
    first, second = (_detail(contents[pairs[left, column]].astype(np.float32)) for column in (0, 1))
    maps = _align(_even(first), _even(second), maps, _STEPS[2])
    laid, inside = _lay(second, maps)
    scores[left] = np.where(_plausible(maps), _agreement(first, laid, inside), 0)
    return scores


def _align(
    one: Float[np.ndarray, "P S S"],
    other: Float[np.ndarray, "P S S"],
    maps: Float[np.ndarray, "P 2 3"],
    steps: int,
) -> Float[np.ndarray, "P 2 3"]:
    """Take Gauss-Newton steps to the affine maps by which `other` fits `one` best.

    Args:
        one: Detail of the images to fit to.
        other: Detail of the images to lay over them.
        maps: Maps to start from: (x, y, 1) of a place in `one` to its place in `other`, from -1/2 to 1/2.
        steps: Number of Gauss-Newton steps.
    """
    count, side, _ = one.shape
    across, down = _places(side)
    slope_down, slope_across = (np.gradient(one, axis=axis) * side for axis in (1, 2))
    descent = np.stack(
        [slope * place for slope in (slope_across, slope_down) for place in (across, down, np.float32(1))],
        axis=1,
    ).reshape(count, 6, -1)
    curvature = descent @ descent.swapaxes(1, 2) + 0.1 * side * np.eye(6, dtype=np.float32)
    solve = np.linalg.inv(curvature) @ descent
    whole = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))
    whole[:, :2] = maps
    for _ in range(steps):
        laid, inside = _lay(other, whole[:, :2])
        error = np.clip((laid - one) * inside, -1, 1)  # a marker must not pull
        step = np.tile(np.eye(3, dtype=np.float32), (count, 1, 1))
        step[:, :2] += (solve @ error.reshape(count, -1, 1)).reshape(count, 2, 3).clip(-0.2, 0.2)
        whole = (whole @ np.linalg.inv(step)).clip(-2, 2)
    return whole[:, :2]


def _lay(
    other: Float[np.ndarray, "P S S"], maps: Float[np.ndarray, "P 2 3"]
) -> tuple[Float[np.ndarray, "P S S"], Bool[np.ndarray, "P S S"]]:
    """Sample `other` bilinearly where `maps` take each pixel; also return the pixels that fall inside it."""
    count, side, _ = other.shape
    across, down = _places(side)
    x, y = (
        (m[:, 0, None, None] * across + m[:, 1, None, None] * down + m[:, 2, None, None] + 0.5) * side - 0.5
        for m in (maps[:, 0], maps[:, 1])
    )
    inside = (x >= 0) & (y >= 0) & (x <= side - 1) & (y <= side - 1)
    x, y = x.clip(0, side - 1.001), y.clip(0, side - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    x -= left
    y -= top
    start = np.arange(count, dtype=np.int32)[:, None, None] * (side * side) + top * side + left
    pixels = other.reshape(-1)
    upper = pixels[start] * (1 - x) + pixels[start + 1] * x
    lower = pixels[start + side] * (1 - x) + pixels[start + side + 1] * x
    return upper * (1 - y) + lower * y, inside


def _places(side: int) -> tuple[np.ndarray, np.ndarray]:
    """(across, down) of the pixels' middles, from -1/2 to 1/2."""
    line = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    return line[None, :], line[:, None]


def _plausible(maps: Float[np.ndarray, "P 2 3"]) -> Bool[np.ndarray, " P"]:
    """Return True for maps that shift by a quarter at most, and scale, turn and shear little."""
    return (np.abs(maps[:, :, 2]) <= 0.25).all(axis=1) & (
        np.abs(maps[:, :, :2] - np.eye(2, dtype=np.float32)) <= 0.35
    ).all(axis=(1, 2))


def _correlation(one: np.ndarray, other: np.ndarray, inside: Bool[np.ndarray, "P S S"]) -> np.ndarray:
    axes = (1, 2)
    weight = inside / np.maximum(inside.sum(axis=axes, keepdims=True), 1)
    one, other = (part - (part * weight).sum(axis=axes, keepdims=True) for part in (one, other))
    both = np.sqrt((one * one * weight).sum(axis=axes) * (other * other * weight).sum(axis=axes))
    return (one * other * weight).sum(axis=axes) / (both + 1e-6)


def _agreement(
    one: Float[np.ndarray, "P 64 64"],
    other: Float[np.ndarray, "P 64 64"],
    inside: Bool[np.ndarray, "P 64 64"],
) -> Float[np.ndarray, " P"]:
    """Return the median correlation of the blocks that have texture; 0 if they are too few."""
    ours, theirs, within = (_blocks(part) for part in (one, other, inside))
    textured = within.all(axis=2) & (np.maximum(ours.std(axis=2), theirs.std(axis=2)) >= _TEXTURE)
    ours, theirs = (part - part.mean(axis=2, keepdims=True) for part in (ours, theirs))
    both = np.sqrt((ours * ours).sum(axis=2) * (theirs * theirs).sum(axis=2))
    value = np.where(textured, (ours * theirs).sum(axis=2) / (both + 1e-6), np.nan)
    value[textured.sum(axis=1) < _LEAST_BLOCKS] = 0
    return np.nanmedian(value, axis=1)


def _blocks(squares: np.ndarray) -> np.ndarray:
    """(P, 64, 64) to (P, blocks, pixels)."""
    count, side = len(squares), SIDE // _BLOCK
    split = squares.reshape(count, side, _BLOCK, side, _BLOCK).swapaxes(2, 3)
    return split.reshape(count, side * side, _BLOCK * _BLOCK)
