"""Images, volumes and tables made to take all memory, to be read for ever, or to show what is not there."""

from __future__ import annotations

import gzip
import io
import itertools
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from PIL import Image

SIDES = (0, 1, 2, 65_535, 65_536, 100_000, 2**24, 2**31 - 1)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, rows, depth=8, colour=0, interlaced=0, before=b"", packed=False):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    data = rows if packed else zlib.compress(rows, 1)
    return b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@lru_cache
def _mebibyte() -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)


def raw_deflated(head, zeros):
    """`head` and so many zeros, deflated without header or checksum: copies of one part, made at once."""
    packer, end = (zlib.compressobj(1, zlib.DEFLATED, -15) for _ in range(2))
    begin = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    return begin + _mebibyte() * (zeros >> 20) + end.compress(bytes(zeros & ((1 << 20) - 1))) + end.flush()


def deflated_zeros(count):
    """So many zeros in zlib's format (RFC 1950), whose checksum of zeros is their number."""
    return b"\x78\x01" + raw_deflated(b"", count) + struct.pack(">I", count % 65_521 << 16 | 1)


def gzipped_zeros(head, megabytes):
    """`head` and zeros in gzip's format (RFC 1952)."""
    checksum, part = zlib.crc32(head), bytes(1 << 20)
    for _ in range(megabytes):
        checksum = zlib.crc32(part, checksum)
    size = (len(head) + (megabytes << 20)) % 2**32
    start = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    return start + raw_deflated(head, megabytes << 20) + struct.pack("<II", checksum, size)


def saved(kind, mode="L", size=(48, 40), **options):
    rng = np.random.default_rng(3)
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], bands) if bands > 1 else (size[1], size[0])
    made = io.BytesIO()
    values = rng.integers(0, 256, shape, dtype=np.uint8)
    image = Image.fromarray(values.astype(np.uint16) * 9) if mode == "I;16" else Image.fromarray(values, mode)
    image.save(made, kind, **options)
    return made.getvalue()


def pngs(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    for width, height in itertools.product(SIDES, SIDES):
        yield f"claim-{width}x{height}.png", png(width, height, b"")
        yield f"short-{width}x{height}.png", png(width, height, bytes(5000), rng.choice((1, 8, 16)), 0)
    for colour, depth, interlaced, width in itertools.product((0, 2, 3, 4, 6), (8, 16), (0, 1), (40, 64)):
        row = 1 + width * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * depth // 8
        rows = b"".join(b"\0" + rng.randbytes(row - 1) for _ in range(rng.randrange(1, 30)))
        if not (colour == 3 and depth == 16) and not interlaced:
            before = chunk(b"PLTE", rng.randbytes(768)) if colour == 3 else b""
            yield f"early-{colour}-{depth}.png", png(width, 40, rows, depth, colour, 0, before)
    yield "early-interlaced.png", png(64, 64, b"".join(b"\0" + rng.randbytes(8) for _ in range(8)), 8, 0, 1)
    for depth, colour, side in ((16, 0, 13_370), (8, 2, 13_370), (16, 2, 8000), (8, 6, 9000), (1, 0, 13_370)):
        row = 1 + side * {0: 1, 2: 3, 6: 4}[colour] * depth // 8
        yield (
            f"zeros-{depth}-{colour}.png",
            png(side, side, deflated_zeros(row * side), depth, colour, packed=True),
        )
    for kind in (b"zTXt", b"iTXt", b"iCCP"):
        text = b"k\0" + (b"\1\0\0\0" if kind == b"iTXt" else b"\0") + deflated_zeros(1 << 27)
        yield f"text-{kind.decode()}.png", png(2, 2, bytes(6), before=chunk(kind, text))
    yield "texts.png", png(2, 2, bytes(6), before=chunk(b"zTXt", b"k\0\0" + deflated_zeros(1 << 20)) * 200)
    yield "chunks.png", png(2, 2, bytes(6), before=chunk(b"abCd", b"") * 100_000)
    yield "frames.png", png(2, 2, bytes(6), before=chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)))


def jpegs(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    for progressive in (False, True):
        whole = saved("JPEG", "RGB", progressive=progressive)
        place = next(n for n in range(len(whole)) if whole[n : n + 2] in (b"\xff\xc0", b"\xff\xc2"))
        for width, height in itertools.product((0, 1, 300, 13_000, 65_535), (0, 1, 300, 13_000, 65_535)):
            yield (
                f"claim-{width}x{height}.jpg",
                (whole[: place + 5] + struct.pack(">HH", height, width) + whole[place + 9 :]),
            )
        for share in (0.3, 0.5, 0.9):
            yield f"early-{share}-{progressive}.jpg", whole[: int(len(whole) * share)] + b"\xff\xd9"
    whole = saved("JPEG", "L", progressive=True)
    scan = whole.rindex(b"\xff\xda")
    place = whole.index(b"\xff\xc2")
    large = whole[: place + 5] + struct.pack(">HH", 10_000, 10_000) + whole[place + 9 :]
    yield "scans.jpg", large[:scan] + large[scan:-2] * 500 + b"\xff\xd9"
    yield "markers.jpg", b"\xff\xd8" + b"\xff\xe1\x00\x02" * 200_000 + whole[2:]
    yield "filling.jpg", b"\xff\xd8" + b"\xff" * 2_000_000 + whole[2:]


def tiff(entries, data=b"", order="<", next_ifd=0):
    """A TIFF of one directory behind its data; an entry is (tag, type, count, value)."""
    packed = b"".join(
        struct.pack(order + "HHI", tag, kind, count)
        + struct.pack(order + ("H2x" if kind == 3 else "I"), value)
        for tag, kind, count, value in sorted(entries)
    )
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(data))
    return head + data + struct.pack(order + "H", len(entries)) + packed + struct.pack(order + "I", next_ifd)


def tiffs(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    def page(width, height, length=1000, bits=8, samples=1, compression=1, **more):
        tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, compression),
                (262, 3, 1, 1), (273, 4, 1, 8), (277, 3, 1, samples), (278, 4, 1, height),
                (279, 4, 1, length)]  # fmt: skip
        return [*[tag for tag in tags if str(tag[0]) not in more], *more.values()]

    for width, height, compression in itertools.product(SIDES, SIDES, (1, 5, 8)):
        if rng.random() < 0.4:
            yield (
                f"claim-{width}x{height}.tif",
                tiff(page(width, height, compression=compression), bytes(1000)),
            )
    zeros = deflated_zeros(13_000 * 13_000)
    yield "zeros.tif", tiff(page(13_000, 13_000, len(zeros), compression=8), zeros)
    for bits, samples in itertools.product((0, 1, 3, 16, 32, 64, 65_535), (0, 1, 3, 1000, 65_535)):
        yield f"samples-{bits}-{samples}.tif", tiff(page(10, 10, 1000, bits, samples), bytes(1000))
    for tag in (256, 258, 273, 279, 320, 34665, 700):
        yield f"count-{tag}.tif", tiff(page(10, 10, more=(tag, 4, 2**31, 8)), bytes(1000))
    for side in (1, 16, 2**24, 2**31 - 16):
        tiles = {"a": (322, 4, 1, side), "b": (323, 4, 1, side), "c": (324, 4, 1, 8), "d": (325, 4, 1, 1000)}
        yield f"tile-{side}.tif", tiff(page(100, 100, compression=5, **tiles), bytes(1000))
    for where in (0, 8, 1008, 2**31):
        yield f"loop-{where}.tif", tiff(page(10, 10), bytes(1000), next_ifd=where)
    one = struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 10)
    pages = b"".join(one + struct.pack("<I", 8 + 18 * (n + 1)) for n in range(50_000))
    yield "pages.tif", b"II*\0" + struct.pack("<I", 8) + pages + one + bytes(4)


def others(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """GIF, WebP, BMP, PNM and JPEG 2000."""
    gif = saved("GIF")
    for width, height in itertools.product((0, 1, 9000, 65_535), (0, 1, 9000, 65_535)):
        size = struct.pack("<HH", width, height)
        yield f"canvas-{width}x{height}.gif", gif[:6] + size + gif[10:]
        place = gif.index(b"\x2c", 13 + 768)
        yield f"frame-{width}x{height}.gif", gif[:6] + size + gif[10 : place + 5] + size + gif[place + 9 :]
    frame = gif[gif.index(b"\x2c", 13 + 768) : -1]
    tiny = frame[:5] + struct.pack("<HH", 1, 1) + b"\0\x02\x02\x44\x01\0"
    yield "frames.gif", gif[:-1] + tiny * 100_000 + b";"
    for mode in ("lossy", "lossless"):
        webp = saved("WEBP", "RGB", lossless=mode == "lossless")
        for side in (2, 4000, 16_383):
            if mode == "lossy":
                changed = webp[:26] + struct.pack("<HH", side, side) + webp[30:]
            else:
                changed = webp[:21] + struct.pack("<I", (side - 1) | (side - 1) << 14) + webp[25:]
            yield f"claim-{mode}-{side}.webp", changed
            canvas = struct.pack("<I", 0) + (side - 1).to_bytes(3, "little") * 2
            inside = b"VP8X" + struct.pack("<I", 10) + canvas + webp[12:]
            yield (
                f"canvas-{mode}-{side}.webp",
                b"RIFF" + struct.pack("<I", 4 + len(inside)) + b"WEBP" + inside,
            )
    bmp = saved("BMP", "P")
    for width, height, compression in itertools.product(SIDES, (*SIDES, -1, -(2**31)), (0, 1, 3)):
        if rng.random() < 0.4:
            size = struct.pack("<ii", width, height)
            yield (
                f"claim-{width}x{height}.bmp",
                bmp[:18] + size + bmp[26:30] + bytes((compression,)) + bmp[31:],
            )
    runs = bmp[:18] + struct.pack("<ii", 3000, 3000) + bmp[26:30] + b"\1" + bmp[31:1078] + b"\1\7" * 1_000_000
    yield "runs.bmp", runs
    for kind in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf"):
        for width, height in itertools.product(SIDES[1:], SIDES[1:]):
            if rng.random() < 0.3:
                yield f"claim-{kind.decode()}.ppm", kind + b" %d %d 255\n" % (width, height) + b"7 " * 500
        yield "digits.ppm", kind + b" " + b"9" * 100_000 + b" 1 255\n"
        yield "comment.ppm", kind + b"\n#" + b"x" * 2_000_000
    jp2 = saved("JPEG2000", "RGB", size=(64, 64), no_jp2=True)
    place = jp2.index(b"\xff\x51")
    for width, height in itertools.product((0, 64, 9000, 13_000, 60_000, 2**31), (64, 9000, 13_000, 2**31)):
        yield (
            f"claim-{width}x{height}.jp2",
            jp2[: place + 6] + struct.pack(">II", width, height) + jp2[place + 14 :],
        )
        tiles = struct.pack(">II", width, height)
        large = jp2[: place + 6] + tiles + jp2[place + 14 : place + 22] + tiles + jp2[place + 30 :]
        yield f"tile-{width}x{height}.jp2", large
    for side in (0, 1, 7, 2**31):
        small = jp2[: place + 22] + struct.pack(">II", side, side) + jp2[place + 30 :]
        yield f"tiles-{side}.jp2", small
        yield (
            f"tiles-{side}-large.jp2",
            small[: place + 6] + struct.pack(">II", 9000, 9000) + small[place + 14 :],
        )


def nifti(shape, kind=4, bits=16, offset=352.0, slope=1.0, data=b""):
    """A NIfTI-1 file of one header (nifti1.h)."""
    head = bytearray(348)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(shape), *[*shape, 1, 1, 1, 1, 1, 1, 1][:7])
    struct.pack_into("<hh", head, 70, kind, bits)
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    struct.pack_into("<fff", head, 108, offset, slope, 0.0)
    struct.pack_into("<h", head, 254, 1)
    struct.pack_into("<12f", head, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    head[344:348] = b"n+1\0"
    return bytes(head) + bytes(4) + data


def niftis(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    sides = (-1, 0, 1, 100, 1000, 32_767)
    for shape in itertools.product(sides, sides, sides):
        kind, bits = rng.choice(
            ((2, 8), (4, 16), (16, 32), (64, 64), (1536, 128), (128, 24), (0, 0), (77, 8))
        )
        content = nifti(shape, kind, bits)
        yield "claim.nii.gz", gzip.compress(content)
        yield "claim.nii", content
    for megabytes in (64, 128, 256, 1024):
        for kind, bits in ((2, 8), (4, 16), (16, 32)):
            slices = megabytes * (1 << 20) * 8 // bits // (1024 * 512)
            head = nifti((1024, 512, slices), kind, bits, slope=rng.choice((1.0, 0.5)))
            yield f"zeros-{megabytes}.nii.gz", gzipped_zeros(head, megabytes)
    for offset in (0.0, -1.0, 1e18, float("nan"), float("inf"), 353.5):
        yield "offset.nii.gz", gzip.compress(nifti((4, 4, 4), offset=offset, data=bytes(128)))
        yield "offset.nii", nifti((4, 4, 4), offset=offset, data=bytes(128))
    for slope in (0.0, float("nan"), float("inf"), 1e38, -1.0):
        yield "slope.nii", nifti((4, 4, 4), slope=slope, data=rng.randbytes(128))
    yield "many.nii.gz", gzip.compress(nifti((4, 4, 4), data=bytes(128))) * 2000


def npys(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    for shape in (
        (2**40, 2, 2),
        (1, 10**5, 10**5),
        (0, 2**31, 2**31),
        (2, 2),
        (2, -2, 2),
        (10**6, 1, 1),
        (3, 4, 5),
    ):
        for kind in ("<f4", "<i2", "|O", "<U100000000", "|V0", "<f2", "<c16"):
            header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
            yield "claim.npy", b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(240)
    for power in (20, 24, 27):
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for split, count in (("train", 1 << (power - 10)), ("test", 4)):
                for name, values in (
                    ("images", np.zeros((count, 32, 32), np.uint8)), ("labels", np.arange(count) % 2),
                ):  # fmt: skip
                    content = io.BytesIO()
                    np.save(content, values)
                    archive.writestr(f"{split}_{name}.npy", content.getvalue())
        yield f"bomb-{power}.npz", made.getvalue()


def tables(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    rows = b"image,label\n" + b"".join(b"i%d.png,%d\n" % (n, n % 2) for n in range(50))
    for name, content in {
        "columns": b",".join(b"c%d" % n for n in range(20_000)) + b"\n" + b",".join([b"1"] * 20_000) + b"\n",
        "one column": b"image" + b"," * 20_000 + b"\n" + rows,
        "cell": b"image,label\n" + b"x" * 5_000_000 + b",1\n",
        "quote": b'image,label\n"' + b"x,1\n" * 500_000,
        "quotes": b"image,label\n" + b'"' * 2_000_000,
        "nul": rows + b"\0" * 100 + rows,
        "utf-16": b"\xff\xfe" + rows.decode().encode("utf-16-le"),
        "half utf-16": b"\xff\xfe" + rows,
        "binary": rng.randbytes(100_000),
        "delimiters": b";\t|,:" * 200_000,
        "lines": b"\n" * 2_000_000,
        "carriage": rows.replace(b"\n", b"\r"),
        "header alone": b"image,label",
        "same": b"image,image,label\n1,2,3\n",
        "escape": b"image,\x1b[2J\n1,2\n",
        "rows": b"image,label\n" + b"a,b\n" * 500_000,
        "ragged": b"image,label\n" + b"a,b,c\n" * 50_000,
        "empty": b"",
        "spaces": b" " * 1_000_000,
        "zip": b"PK\x03\x04" + bytes(100),
    }.items():
        yield f"{name}.csv", content


KINDS = {
    "image": (pngs, jpegs, tiffs, others), "nifti": (niftis,), "npy": (npys,), "table": (tables,),
}  # fmt: skip


def hostile(seed: int, most: int = 1 << 40) -> Iterator[tuple[str, str, bytes]]:
    """Yield (kind, name, bytes) of every file of at most so many bytes; the seed chooses what each claims."""
    count = itertools.count()
    for kind, makers in KINDS.items():
        for make in makers:
            for name, content in make(random.Random(f"{seed} {make.__name__}")):
                reader = "arrays" if name.endswith(".npz") else kind
                if len(content) <= most:
                    yield f"hostile {make.__name__}", f"{reader}-{next(count)}-{name}", content


def honest() -> dict[str, dict[str, bytes]]:
    """Small files of every format, to be damaged, by the kind of their reader."""
    rng = np.random.default_rng(5)
    volume = nifti((12, 10, 6), data=rng.integers(0, 900, 720).astype("<i2").tobytes())
    array = io.BytesIO()
    np.save(array, rng.normal(size=(4, 20, 30)).astype("f4") * 500)
    npz = io.BytesIO()
    images = {f"{name}_images": rng.integers(0, 255, (6, 9, 9), dtype=np.uint8) for name in ("train", "test")}
    np.savez_compressed(npz, **images, train_labels=np.arange(6) % 2, test_labels=np.arange(6) % 2)
    return {
        "image": {
            "gray.png": saved("PNG"), "colour.png": saved("PNG", "RGB"), "deep.png": saved("PNG", "I;16"),
            "palette.png": saved("PNG", "P"), "alpha.png": saved("PNG", "RGBA"), "gray.jpg": saved("JPEG"),
            "progressive.jpg": saved("JPEG", "RGB", progressive=True), "cmyk.jpg": saved("JPEG", "CMYK"),
            "raw.tif": saved("TIFF", "RGB"), "lzw.tif": saved("TIFF", compression="tiff_lzw"),
            "deflate.tif": saved("TIFF", "I;16", compression="tiff_adobe_deflate"),
            "jpeg.tif": saved("TIFF", "RGB", compression="jpeg"), "plain.gif": saved("GIF"),
            "lossy.webp": saved("WEBP", "RGB"), "lossless.webp": saved("WEBP", "RGBA", lossless=True),
            "plain.bmp": saved("BMP", "RGB"), "plain.ppm": saved("PPM", "RGB"),
            "plain.jp2": saved("JPEG2000", "RGB"),
        },
        "nifti": {"plain.nii": volume, "packed.nii.gz": gzip.compress(volume)},
        "npy": {"volume.npy": array.getvalue()},
        "arrays": {"images.npz": npz.getvalue()},
        "table": {"plain.csv": b"image,label\n" + b"".join(b"i%d.png,%d\n" % (n, n % 2) for n in range(50))},
    }  # fmt: skip
