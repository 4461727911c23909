"""How many altered copies the leak check finds, how many strangers it takes for copies, and how fast.

    python -m ttl_jax bench leaks [--data=../shared/data] [--sets=ham10000,lc25000_colon,brain_tumor_mri]
        [--each=150] [--only=turn] [--pictures=FOLDER] [--sizes=1000,10000]

To each set the altered copies of some of its images are added, one an image at most, `each` of a kind.
"near" is the first stage alone (data.duplicates=near), "altered" both. Pairs among the set's own images that
only the second stage finds are counted ("new pairs"); those that the metadata say are one lesion are told
apart, and --pictures writes the others side by side: whether they are copies, eyes decide. --sizes measures
seconds for so many images, of --sets' images and, where these are too few, of copies turned by 40 degrees and
more, which are strangers to the check.
"""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from ttl_jax.data.splits.altered import altered_pairs, content
from ttl_jax.data.splits.fingerprint import Pairs, near_pairs, thumbnail
from ttl_jax.errors import UserError

DEFAULTS = {"data": "../shared/data", "sets": "ham10000,lc25000_colon,brain_tumor_mri", "each": "150",
            "only": "", "pictures": "", "sizes": ""}  # fmt: skip
Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def saved(image: Image.Image, quality: int) -> Image.Image:
    """The image as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def shifted(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """By 5 % of both sides, black where nothing is left."""
    moved = Image.new("RGB", image.size)
    signs = rng.choice([-1, 1], 2)
    moved.paste(image, (int(signs[0] * 0.05 * image.width), int(signs[1] * 0.05 * image.height)))
    return moved


def cropped(share: float) -> Change:
    """To so much of both sides, anywhere."""

    def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = round(share * image.width), round(share * image.height)
        left, top = rng.integers(image.width - width + 1), rng.integers(image.height - height + 1)
        return image.crop((int(left), int(top), int(left) + width, int(top) + height))

    return crop


def marked(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A label in one corner and a scale bar."""
    image = image.copy()
    width, height = image.size
    x, y = rng.choice([0.04, 0.78]) * width, rng.choice([0.04, 0.84]) * height
    draw = ImageDraw.Draw(image)
    draw.rectangle((x, y, x + 0.18 * width, y + 0.12 * height), fill=(0, 0, 0))
    draw.text((x + 2, y + 1), "L 12", fill=(255, 255, 255), font_size=max(8, int(0.09 * height)))
    draw.rectangle((0.3 * width, 0.95 * height, 0.6 * width, 0.965 * height), fill=(255, 255, 255))
    return image


def padded(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """With black to a square; what is square to 4 : 3."""
    wide = image.width != image.height
    side = max(image.size) if wide else round(max(image.size) * 4 / 3)
    return ImageOps.pad(image, (side, side if wide else image.height))


KINDS: dict[str, Change] = {
    "JPEG, quality 50": lambda image, rng: saved(image, 50),
    "half the size": lambda image, rng: image.resize((image.width // 2, image.height // 2)),
    "contrast 0.7": lambda image, rng: ImageEnhance.Contrast(image).enhance(0.7),
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "quarter turn": lambda image, rng: image.transpose(Image.Transpose.ROTATE_90),
    "shifted 5 %": shifted,
    "cropped to 95 %": cropped(0.95),
    "cropped to 90 %": cropped(0.90),
    "turned 3 degrees": lambda image, rng: image.rotate(3 * rng.choice([-1, 1]), Image.Resampling.BILINEAR),
    "marker": marked,
    "padded to a square": padded,
}


def main(arguments: list[str]) -> None:
    """Measures and prints the tables."""
    options = _options(arguments)
    kinds = {name: change for name, change in KINDS.items() if options["only"] in name}
    for name in options["sets"].split(","):
        paths = find(Path(options["data"]) / name)
        if options["sizes"]:
            for size in options["sizes"].split(","):
                timed(paths, int(size))
        else:
            measured(name, paths, kinds, int(options["each"]), options)


def measured(
    name: str, paths: list[Path], kinds: dict[str, Change], each: int, options: dict[str, str]
) -> None:
    """Recall of each kind, and the pairs among the set's own images."""
    rng = np.random.default_rng(0)
    each = min(each, len(paths) // len(kinds))
    chosen = rng.permutation(len(paths))[: each * len(kinds)]
    change = dict(zip(chosen.tolist(), np.repeat(list(kinds), each).tolist(), strict=True))
    seeds = rng.integers(2**31, size=len(paths))

    def read(place: int) -> list[tuple[np.ndarray, np.ndarray]]:
        image = Image.open(paths[place]).convert("RGB")
        images = [image]
        if place in change:
            images.append(saved(kinds[change[place]](image, np.random.default_rng(seeds[place])), 90))
        return [(thumbnail(one), content(one)) for one in images]

    with ThreadPoolExecutor() as pool:
        seen = list(pool.map(read, range(len(paths))))
    own = sorted(change)
    parts = [[one[0] for one in seen], [seen[place][1] for place in own]]
    thumbnails, contents = (np.stack([pair[part] for half in parts for pair in half]) for part in (0, 1))
    started = time.perf_counter()
    near = pairs_of(near_pairs(thumbnails, 0.97))
    between = time.perf_counter()
    altered = pairs_of(altered_pairs(contents))
    ended = time.perf_counter()
    print(f"{name}: {len(paths)} images and {len(own)} copies, {between - started:.1f} s near, "
          f"{ended - between:.1f} s altered", flush=True)  # fmt: skip
    print(f"  {'copies of':22}{'n':>5}{'near':>8}{'altered':>9}")
    for kind in kinds:
        twins = [(place, len(paths) + number) for number, place in enumerate(own) if change[place] == kind]
        rates = [np.mean([pair in found for pair in twins]) for found in (near, near | altered)]
        print(f"  {kind:22}{len(twins):5}{rates[0]:8.1%}{rates[1]:9.1%}", flush=True)
    new = sorted(pair for pair in altered - near if pair[1] < len(paths))
    one_lesion = lesions(paths)
    strange = [pair for pair in new if one_lesion is None or one_lesion[pair[0]] != one_lesion[pair[1]]]
    said = "" if one_lesion is None else f", {len(new) - len(strange)} of them of one lesion"
    print(f"  new pairs among the set's own images: {len(new)}{said}", flush=True)
    if options["pictures"]:
        show(paths, strange, Path(options["pictures"]) / f"{name}.png")


def timed(paths: list[Path], size: int) -> None:
    """Seconds of the second stage for so many images."""

    def read(number: int) -> np.ndarray:
        image = Image.open(paths[number % len(paths)]).convert("L")
        turn = 40 * (number // len(paths))
        return content(image.rotate(turn, Image.Resampling.BILINEAR) if turn else image)

    with ThreadPoolExecutor() as pool:
        contents = np.stack(list(pool.map(read, range(size))))
    wall, work = time.perf_counter(), time.process_time()
    found = altered_pairs(contents)
    wall, work = time.perf_counter() - wall, time.process_time() - work
    print(f"{size} images: {wall:.1f} s, {work:.1f} s of all cores, {len(found.first)} pairs", flush=True)


def find(folder: Path) -> list[Path]:
    """The images below a folder, in order."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not paths:
        raise UserError(f"bench leaks: no images in {folder}; --data names the folder with the sets")
    return paths


def pairs_of(pairs: Pairs) -> set[tuple[int, int]]:
    """As (first, second)."""
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def lesions(paths: list[Path]) -> list[str] | None:
    """HAM10000's lesion of each image; None where nothing is known."""
    table = paths[0].parents[1] / "metadata.csv"
    if not table.is_file():
        return None
    rows = csv.DictReader(table.read_text().splitlines())
    known = {row["image_id"]: row["lesion_id"] for row in rows}
    return [known[path.stem] for path in paths]


def show(paths: list[Path], pairs: list[tuple[int, int]], place: Path) -> None:
    """Pairs side by side, six in a row, to be judged by eye."""
    side, rows = 120, -(-len(pairs) // 6)
    sheet = Image.new("RGB", (6 * (2 * side + 10), max(1, rows) * (side + 10)))
    for number, pair in enumerate(pairs):
        for part, image in enumerate(pair):
            corner = (number % 6 * (2 * side + 10) + part * side, number // 6 * (side + 10))
            sheet.paste(Image.open(paths[image]).convert("RGB").resize((side, side)), corner)
    place.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(place)
    print(f"  wrote {place}", flush=True)


def _options(arguments: list[str]) -> dict[str, str]:
    if arguments and arguments[0] in ("--help", "-h"):
        print(__doc__)
        sys.exit(0)
    options = dict(DEFAULTS)
    for word in arguments:
        name, sign, value = word.removeprefix("--").partition("=")
        if name not in options or not sign:
            raise UserError(
                f"bench leaks takes {', '.join(f'--{known}=' for known in options)}, not {word!r}"
            )
        options[name] = value
    return options
