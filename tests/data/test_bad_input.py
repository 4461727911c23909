"""200 damaged or odd files of each kind: one clear sentence, or skipped and counted; no row is lost.

Mutations are seeded. A hang would stop the suite: the alarm turns it into a failure.
"""

from __future__ import annotations

import csv
import io
import os
import signal
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ttl_jax import data
from ttl_jax.config.data import DataConfig
from ttl_jax.data.images.decode import Geometry, UnreadableImageError, decode
from ttl_jax.data.prepared.prepare import prepare
from ttl_jax.data.sources.registry import read_listing
from ttl_jax.errors import UserError

COUNT = 200
pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, about damaged files


@pytest.fixture(autouse=True)
def no_hang():
    def stop(*_):
        raise AssertionError("hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(1200)  # a long one: this machine pauses processes
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


Change = Callable[[bytes, np.random.Generator], bytes]


def truncated(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: rng.integers(0, len(content))]


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 9)):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


def flipped_head(content: bytes, rng: np.random.Generator) -> bytes:
    head = min(len(content), 400)
    return flipped(content[:head], rng) + content[head:]


def zeroed(content: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(0, len(content)))
    length = int(rng.integers(1, 200))
    return (content[:start] + bytes(length) + content[start + length :])[: len(content)]


def cut_out(content: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(0, len(content)))
    return content[:start] + content[start + int(rng.integers(1, 100)) :]


CHANGES: tuple[Change, ...] = (
    truncated,
    flipped,
    flipped_head,
    zeroed,
    cut_out,
    lambda content, rng: b"",
    lambda content, rng: content + rng.bytes(50),
    lambda content, rng: rng.bytes(300),
    lambda content, rng: b"Liebe Frau Doktor, die Bilder folgen.\n",
    lambda content, rng: bytes(len(content)),
)


def picture(rng: np.random.Generator, side: int = 12) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))


def encoded(rng: np.random.Generator, kind: str) -> bytes:
    file = io.BytesIO()
    picture(rng).save(file, kind)
    return file.getvalue()


def check_sentence(text: str) -> None:
    """One line that ends in no traceback."""
    assert "\n" not in text and 20 < len(text) < 2000 and "Traceback" not in text


def check_skipped(config: DataConfig, names: set[str], healthy: set[str]) -> int:
    """Loads with on_error="skip": every file is in a split or among the skipped, once."""
    sets = data.load(replace(config, on_error="skip"))
    read = [name for split in sets.values() for name in split.ids.tolist()]
    skipped = sets["train"].skipped
    assert len(read) == len(set(read)) and healthy <= set(read)
    for sentence in skipped:
        check_sentence(sentence)
    assert len(read) + len(skipped) == len(names)
    missing = names - set(read)
    for name in missing:
        assert sum(f"{name} " in sentence for sentence in skipped) == 1
    if missing:
        with pytest.raises(UserError) as caught:
            data.load(config)
        check_sentence(str(caught.value))
        assert any(name in str(caught.value) for name in missing)
        assert "mend or remove it, or set data.on_error=skip" in str(caught.value)
    return len(missing)


def spread_over_classes(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def test_images(tmp_path):
    rng = np.random.default_rng(1)
    kinds = {
        "png": "PNG",
        "jpg": "JPEG",
        "tif": "TIFF",
        "bmp": "BMP",
        "gif": "GIF",
        "webp": "WEBP",
        "ppm": "PPM",
    }
    files: dict[str, bytes] = {}
    for number in range(COUNT):
        ending = list(kinds)[number % len(kinds)]
        content = encoded(rng, kinds[ending])
        change = CHANGES[number // len(kinds) % len(CHANGES)]
        ending = list(kinds)[rng.integers(len(kinds))] if number % 3 == 0 else ending  # a wrong one
        files[f"{'ab'[number % 2]}/ä ö#{number:03}.{ending}"] = change(content, rng)
    healthy = {f"{'ab'[number % 2]}/good {number}.png": encoded(rng, "PNG") for number in range(12)}
    spread_over_classes(tmp_path / "set", files | healthy)
    config = DataConfig(name="folder", path=str(tmp_path / "set"), image_size=8)
    assert check_skipped(config, set(files | healthy), set(healthy)) > COUNT // 3
    done = prepare(replace(config, on_error="skip"), tmp_path / "out", workers=1)
    assert done.images + done.skipped == COUNT + 12


def test_a_wrong_ending_is_read_by_its_content(tmp_path):
    rng = np.random.default_rng(2)
    image = picture(rng)
    image.save(tmp_path / "x.png")
    os.rename(tmp_path / "x.png", tmp_path / "x.jpg")
    assert np.array_equal(decode(tmp_path / "x.jpg", Geometry(12)), np.asarray(image))


def test_one_pixel_is_an_image(tmp_path):
    Image.new("RGB", (1, 1), (9, 8, 7)).save(tmp_path / "x.png")
    for resize in ("squash", "crop", "pad"):
        assert (decode(tmp_path / "x.png", Geometry(6, resize)) == (9, 8, 7)).all()
    Image.new("L", (500, 1), 200).save(tmp_path / "x.png")
    for resize in ("squash", "crop"):
        assert (decode(tmp_path / "x.png", Geometry(6, resize)) == 200).all()


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG by the specification (RFC 2083), whatever its header claims."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    (tmp_path / "x.png").write_bytes(png(60_000, 60_000, bytes(100)))
    with pytest.raises(UnreadableImageError, match="too many pixels"):
        decode(tmp_path / "x.png", Geometry(8))
    (tmp_path / "y.png").write_bytes(png(4, 4, bytes(4 * 5 - 1)))
    with pytest.raises(UnreadableImageError):
        decode(tmp_path / "y.png", Geometry(8))


def test_sixteen_bit_colour_keeps_the_high_byte(tmp_path):
    values = np.random.default_rng(3).integers(0, 65536, (4, 4, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    (tmp_path / "x.png").write_bytes(png(4, 4, rows, depth=16, colour=2))
    assert np.array_equal(decode(tmp_path / "x.png", Geometry(4)), values >> 8)


def test_pipes_devices_folders_and_links(tmp_path):
    rng = np.random.default_rng(4)
    healthy = {f"{'ab'[number % 2]}/{number}.png": encoded(rng, "PNG") for number in range(30)}
    spread_over_classes(tmp_path / "set", healthy)
    os.mkfifo(tmp_path / "set/a/pipe.png")
    (tmp_path / "set/a/null.png").symlink_to("/dev/zero")
    (tmp_path / "set/a/loop.png").symlink_to("loop.png")
    (tmp_path / "set/b/gone.png").symlink_to("nowhere.png")
    odd = {"a/pipe.png", "a/null.png", "a/loop.png", "b/gone.png"}
    config = DataConfig(name="folder", path=str(tmp_path / "set"), image_size=8)
    assert check_skipped(config, set(healthy) | odd, set(healthy)) == 4
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(UserError, match="t.csv cannot be read .it is a pipe"):
        data.load(replace(config, name="csv", path=str(tmp_path / "t.csv")))
    for name in ("npz", "record", "dicom", "nifti"):
        with pytest.raises(UserError) as caught:
            data.load(replace(config, name=name, path=str(tmp_path / "t.csv")))
        check_sentence(str(caught.value))
    (tmp_path / "set/a/round").symlink_to(tmp_path / "set")
    with pytest.raises(UserError, match="round is a link to a folder above itself"):
        data.load(config)


def test_file_names_that_are_not_text(tmp_path):
    rng = np.random.default_rng(5)
    spread_over_classes(tmp_path / "set", {f"{name}/1.png": encoded(rng, "PNG") for name in "ab"})
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "set/a") + b"/x\xff.png")).write_bytes(encoded(rng, "PNG"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(UserError, match="name is not UTF-8.*rename it"):
        data.load(DataConfig(name="folder", path=str(tmp_path / "set"), image_size=8))


def saved_arrays(rng: np.random.Generator, **changes: np.ndarray) -> bytes:
    made = {}
    for split, count in (("train", 20), ("val", 6), ("test", 6)):
        made[f"{split}_images"] = rng.integers(0, 256, (count, 4, 4), dtype=np.uint8)
        made[f"{split}_labels"] = np.arange(count) % 2
    file = io.BytesIO()
    (np.savez_compressed if rng.integers(2) else np.savez)(file, **(made | changes))
    return file.getvalue()


def test_npz_files(tmp_path):
    rng = np.random.default_rng(6)
    path = tmp_path / "set.npz"
    config = DataConfig(name="npz", path=str(path), image_size=4)
    refused = 0
    for number in range(COUNT):
        whole = saved_arrays(rng)
        path.write_bytes(whole)
        want = read_listing(config)
        path.write_bytes(CHANGES[number % len(CHANGES)](whole, rng))
        try:
            found = read_listing(config)
        except UserError as error:
            check_sentence(str(error))
            assert "set.npz" in str(error) and ";" in str(error)
            refused += 1
        else:  # a change that the checksums let pass has changed nothing
            assert np.array_equal(np.stack(found.images), np.stack(want.images))
            assert np.array_equal(found.labels, want.labels)
    assert refused > COUNT // 2


ODD_ARRAYS = [
    {"train_images": np.full((20, 4, 4), np.nan, np.float32)},
    {"train_images": np.zeros((20, 4, 4), np.int64)},
    {"train_images": np.array([None] * 20)},
    {"train_labels": np.array([[1, 2], [3, 4]])},
    {"train_labels": np.full(20, np.nan)},
    {"train_labels": np.array(["a"] * 20)},
    {"val_labels": np.zeros((6, 0))},
    {"val_images": np.zeros((6, 0, 4), np.uint8)},
    {"test_images": np.zeros((6,), np.uint8)},
    {"test_labels": np.array(0)},
    {"train_labels": np.arange(20).astype(object)},
    {"train_labels": np.arange(20) - 1j},
]


@pytest.mark.parametrize("changes", ODD_ARRAYS)
def test_odd_arrays(tmp_path, changes):
    (tmp_path / "set.npz").write_bytes(saved_arrays(np.random.default_rng(7), **changes))
    with pytest.raises(UserError) as caught:
        data.load(DataConfig(name="npz", path=str(tmp_path / "set.npz"), image_size=4))
    check_sentence(str(caught.value))


def test_a_file_that_unpacks_to_more_than_the_memory(tmp_path, monkeypatch):
    images = np.zeros((20, 100, 100), np.uint8)
    (tmp_path / "set.npz").write_bytes(saved_arrays(np.random.default_rng(8), train_images=images))
    real = os.sysconf
    monkeypatch.setattr(os, "sysconf", lambda name: 1 if name == "SC_PHYS_PAGES" else real(name))
    with pytest.raises(UserError, match="unpacks to .* GB, more than this machine's memory; split it up"):
        data.load(DataConfig(name="npz", path=str(tmp_path / "set.npz"), image_size=4))


NAMES = (
    "i {}.png",
    "ünï_{}.png",
    "漢字{}.png",
    "a'b{}.png",
    "x;y{}.png",
    "q,{}.png",
    "sub dir/{}.png",
    "i{}.v2.png",
)


def write_table(rng: np.random.Generator, rows: list[list[str]], header: list[str]) -> bytes:
    """A table in one of the ways that programs write them."""
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=",;\t"[rng.integers(3)],
        lineterminator=("\n", "\r\n")[rng.integers(2)],
        quoting=(csv.QUOTE_MINIMAL, csv.QUOTE_ALL)[rng.integers(2)],
    )
    writer.writerows([header, *rows])
    encoding = ("utf-8", "utf-8-sig", "utf-16")[rng.integers(3)]
    return text.getvalue().encode(encoding)


def odd_rows(rows: list[list[str]], header: list[str], rng: np.random.Generator, kind: int) -> None:
    """Spoils one cell, row or column in place."""
    row = rows[rng.integers(len(rows))]
    hostile = ("../../etc/passwd", "/etc/passwd", "..\\..\\x.png", "C:\\x.png", "", "nothing.png", ".",
               "~/x.png", "a" * 5000, "sub dir", "sub dir/../../x.png")  # fmt: skip
    if kind == 0:
        row[0] = hostile[rng.integers(len(hostile))]
    elif kind == 1:
        row[1] = ("", "NA", "0.5", "7", "A")[rng.integers(5)]
    elif kind == 2:
        row.append("more")
    elif kind == 3:
        row.pop()
    elif kind == 4:
        header[2] = ("label", "image", "", "Label")[rng.integers(4)]
    elif kind == 5:
        rows.append(list(row))
    elif kind == 6:
        row[2] = ("", "NA", 'say "x"', "two\nlines", "x" * 200_000)[rng.integers(5)]
    elif kind == 7:
        header[rng.integers(3)] = "other"
    elif kind == 8:
        rows.insert(3, ["", "", ""])
    elif kind == 9:
        row[3] = ("Train", "dev", "", "training")[rng.integers(4)]


def test_tables(tmp_path):
    rng = np.random.default_rng(9)
    root = tmp_path / "images"
    names = [NAMES[number % len(NAMES)].format(number) for number in range(40)]
    spread_over_classes(root, {name: encoded(rng, "PNG") for name in names})
    path = tmp_path / "table.csv"
    base = DataConfig(name="csv", path=str(path), root=str(root), image_size=8, group="who", split="part")
    outcomes = {"read": 0, "refused": 0, "skipped": 0}
    for number in range(COUNT):
        header = ["image", "label", "who", "part"]
        rows = [[name, "ab"[place % 2], f"p{place // 4}", ("train", "train", "val", "test")[place // 4 % 4]]
                for place, name in enumerate(names)]  # fmt: skip
        odd_rows(rows, header, rng, number % 12)
        content = write_table(rng, rows, header)
        if number % 12 >= 10:
            content = CHANGES[rng.integers(len(CHANGES))](content, rng)
        path.write_bytes(content)
        filled = sum(any(cell.strip() for cell in row) for row in rows)
        for on_error in ("fail", "skip"):
            try:
                sets = data.load(replace(base, on_error=on_error))
            except UserError as error:
                check_sentence(str(error))
                told = str(error)
                assert "table.csv" in told or "column" in told or "data." in told
                if number % 12 in (0, 2, 3):
                    assert ", row " in told
                outcomes["refused"] += 1
            else:
                total = sum(len(split) for split in sets.values()) + len(sets["train"].skipped)
                if number % 12 < 10:
                    assert total == filled
                outcomes["skipped" if sets["train"].skipped else "read"] += 1
    assert min(outcomes.values()) > 5


def test_names_of_any_script_are_found_and_kept(tmp_path):
    import unicodedata

    rng = np.random.default_rng(10)
    names = [NAMES[number % len(NAMES)].format(number) for number in range(24)]
    spread_over_classes(tmp_path / "images", {name: encoded(rng, "PNG") for name in names})
    apart = [unicodedata.normalize("NFD", name) for name in names]  # as macOS exports them
    rows = [[name, "ab"[place % 2]] for place, name in enumerate(apart)]
    (tmp_path / "t.csv").write_bytes(write_table(rng, rows, ["image", "label"]))
    config = DataConfig(name="csv", path=str(tmp_path / "t.csv"), root=str(tmp_path / "images"), image_size=8)
    sets = data.load(config)
    assert sorted(name for split in sets.values() for name in split.ids) == sorted(apart)


def test_dicom_files(tmp_path):
    pytest.importorskip("pydicom")
    from .dicom_files import make_dicom

    rng = np.random.default_rng(11)
    from pydicom.uid import RLELossless

    def one(number: int) -> bytes:
        frames = {"NumberOfFrames": 2} if number % 3 == 0 else {}
        shape = (2, 8, 8) if frames else (8, 8)
        stored = rng.integers(0, 4096, shape, dtype=np.uint16)
        made = make_dicom(stored, WindowCenter=2000, WindowWidth=4000, PatientID=f"P{number}",
                          RescaleSlope="2", RescaleIntercept="-1000", **frames)  # fmt: skip
        if number % 2:
            made.compress(RLELossless)
        file = io.BytesIO()
        made.save_as(file, enforce_file_format=True)
        return file.getvalue()

    files = {f"{'ab'[n % 2]}/ä {n:03}.dcm": CHANGES[n % len(CHANGES)](one(n), rng) for n in range(COUNT)}
    healthy = {f"{'ab'[n % 2]}/good{n}.dcm": one(3 * n + 1) for n in range(12)}
    spread_over_classes(tmp_path / "set", files | healthy)
    config = DataConfig(name="dicom", path=str(tmp_path / "set"), image_size=8, group="file")
    check_volumes(config, set(files), set(healthy))


def test_nifti_files(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(12)

    def one(name: str) -> bytes:
        values = rng.integers(0, 1000, (5, 6, 2)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0])), tmp_path / name)
        return (tmp_path / name).read_bytes()

    files: dict[str, bytes] = {}
    for n in range(COUNT):
        ending = ("nii", "nii.gz")[n % 2]
        files[f"{'ab'[n // 2 % 2]}/ä {n:03}.{ending}"] = CHANGES[n // 2 % len(CHANGES)](
            one(f"x.{ending}"), rng
        )
    healthy = {f"{'ab'[n % 2]}/good{n}.nii.gz": one("x.nii.gz") for n in range(12)}
    spread_over_classes(tmp_path / "set", files | healthy)
    check_volumes(
        DataConfig(name="nifti", path=str(tmp_path / "set"), image_size=8), set(files), set(healthy)
    )


def test_prepared_folders(tmp_path):
    rng = np.random.default_rng(13)
    names = {f"{'ab'[number % 2]}/{number}.png": encoded(rng, "PNG") for number in range(30)}
    spread_over_classes(tmp_path / "set", names)
    source = DataConfig(name="folder", path=str(tmp_path / "set"), image_size=8)
    prepare(source, tmp_path / "out", workers=1)
    config = replace(source, name="record", path=str(tmp_path / "out"), on_error="skip")
    want = {name: split.labels.tolist() for name, split in data.load(config).items()}
    (shard,) = (tmp_path / "out").glob("shard*")
    refused = 0
    for number in range(COUNT):
        spoilt = (shard, tmp_path / "out" / "manifest.json")[number % 2]
        whole = spoilt.read_bytes()
        changed = CHANGES[number // 2 % len(CHANGES)](whole, rng)
        spoilt.write_bytes(changed)
        try:
            sets = data.load(config)
        except UserError as error:
            check_sentence(str(error))
            assert str(tmp_path / "out") in str(error)
            refused += 1
        else:
            assert sum(len(split) for split in sets.values()) + len(sets["train"].skipped) == 30
            if spoilt != shard:
                assert {name: split.labels.tolist() for name, split in sets.items()} == want
        spoilt.write_bytes(whole)
    assert refused > COUNT // 2


def check_volumes(config: DataConfig, files: set[str], healthy: set[str]) -> None:
    """As check_skipped, where a file may hold several images: each is read or skipped, none is lost."""
    listing = read_listing(config)
    assert {name.partition("#")[0] for name in listing.ids.tolist()} == files | healthy
    sets = data.load(replace(config, on_error="skip"))
    read = {name for split in sets.values() for name in split.ids.tolist()}
    skipped = sets["train"].skipped
    assert len(read) + len(skipped) == len(listing.ids)
    assert healthy <= {name.partition("#")[0] for name in read}
    assert len({name.partition("#")[0] for name in set(listing.ids.tolist()) - read}) > COUNT // 3
    for sentence in skipped:
        check_sentence(sentence)
        assert config.path in sentence
    with pytest.raises(UserError, match="mend or remove it, or set data.on_error=skip") as caught:
        data.load(config)
    check_sentence(str(caught.value))
    assert any(name in str(caught.value) for name in files)
