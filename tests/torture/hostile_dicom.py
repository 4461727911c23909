"""DICOM files made to take all memory or to be read for ever, and honest ones to be damaged."""

from __future__ import annotations

import io
import itertools
import random
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from hostile_images import raw_deflated, saved
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)  # fmt: skip

SIDES = (0, 1, 40, 9000, 14_000, 65_535)


def data_set(pixels=b"", rows=40, columns=48, syntax=ExplicitVRLittleEndian, bits=8, samples=1, **attributes):
    """A data set of these pixels; `attributes` by keyword, over the defaults."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    made.PatientID = "P1"
    made.Rows, made.Columns, made.SamplesPerPixel = rows, columns, samples
    made.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelRepresentation = bits - 1, 0
    made.PixelData = pixels
    made["PixelData"].VR = "OB" if syntax.is_compressed and not syntax.is_deflated or bits == 8 else "OW"
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def written(made: Dataset) -> bytes:
    content = io.BytesIO()
    made.save_as(content, enforce_file_format=True)
    return content.getvalue()


def element(group, number, kind, value, length=None):
    """An explicit element, whose length may lie."""
    size = len(value) if length is None else length
    head = struct.pack("<HH", group, number) + kind
    long = kind in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF")
    return head + (struct.pack("<HI", 0, size) if long else struct.pack("<H", size & 0xFFFF)) + value


def behind_meta(content: bytes) -> int:
    """The place where a written file's data set begins."""
    return 144 + struct.unpack_from("<I", content, 140)[0]


def hostile(seed: int, most: int = 1 << 40) -> Iterator[tuple[str, str, bytes]]:
    """Yield (kind, name, bytes) of every file of at most so many bytes; the seed chooses what each claims."""
    count = itertools.count()
    for make in (claims, deflated, compressed, elements):
        for name, content in make(random.Random(f"{seed} {make.__name__}")):
            if len(content) <= most:
                yield f"hostile {make.__name__}", f"dicom-{next(count)}-{name}.dcm", content


def claims(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Headers that claim more than there is."""
    for rows, columns in itertools.product(SIDES, SIDES):
        for bits, samples in ((8, 1), (16, 1), (32, 1), (8, 3)):
            made = data_set(bytes(1920), rows, columns, bits=bits, samples=samples)
            if rng.random() < 0.6:
                made.NumberOfFrames = rng.choice((1, 2, 1000, 2**31 - 1, -1, 0))
            yield "size", written(made)
    for bits in (0, 1, 7, 12, 24, 64, 65_535):
        yield "bits", written(data_set(bytes(1920), BitsAllocated=bits, BitsStored=rng.choice((0, 12, bits))))
    for samples in (0, 2, 4, 65_535):
        yield "samples", written(data_set(bytes(1920), SamplesPerPixel=samples))
    for kind in ("PALETTE COLOR", "YBR_FULL_422", "CMYK", "", "MONOCHROME1", "x" * 1000):
        yield "kind", written(data_set(bytes(1920), PhotometricInterpretation=kind))
    for center, width in (("nan", "1"), ("1e400", "1"), ("0", "0"), ("", ""), ("1\\2\\3", "1"), ("x", "y")):
        made = data_set(bytes(1920))
        made.add_new(0x00281050, "LO", center)
        made.add_new(0x00281051, "LO", width)
        yield "window", written(made)
    for slope in ("0", "1e400", "nan", "1e-400", "x", "9" * 5000):
        made = data_set(bytes(1920), bits=16, rows=20)
        made.add_new(0x00281052, "LO", "0")
        made.add_new(0x00281053, "LO", slope)
        yield "rescale", written(made)
    for entries, first, bits in itertools.product((0, 2, 65_535), (0, 65_535), (0, 8, 16, 65_535)):
        table = Dataset()
        table.LUTDescriptor, table.LUTData = [entries, first, bits], b"\0\1" * 5
        yield "table", written(data_set(bytes(1920), VOILUTSequence=[table]))
    for unit in ("0\\0", "1e-300\\1", "nan\\nan", "x\\y", "1"):
        made = data_set(bytes(1920))
        made.add_new(0x00280030, "LO", unit)
        yield "spacing", written(made)


def deflated(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Deflated data sets of zeros."""
    whole = written(data_set(bytes(1920), syntax=DeflatedExplicitVRLittleEndian))
    start = behind_meta(whole)
    for megabytes in (1, 64, 256, 1024, 3072):
        head = data_set(b"", 13_000, 13_000)
        del head.PixelData
        plain = written(head)
        claim = plain[behind_meta(plain) :] + element(0x7FE0, 0x10, b"OW", b"", megabytes << 20)
        text = element(0x0008, 0x0008, b"UT", b"", megabytes << 20)
        yield f"zeros-{megabytes}", whole[:start] + raw_deflated(claim, megabytes << 20)
        yield f"text-{megabytes}", whole[:start] + raw_deflated(text, megabytes << 20)
    for length in (0, 1, 2**31, 2**32 - 1):
        yield "group", whole[:140] + struct.pack("<I", length) + whole[144:]
    yield "cut", whole[: start + 40]


def compressed(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Frames that are larger than their file says, of every compression."""
    jp2 = saved("JPEG2000", size=(48, 40), no_jp2=True)
    size = jp2.index(b"\xff\x51")
    jpeg = saved("JPEG", size=(48, 40))
    start = jpeg.index(b"\xff\xc0")
    for width, height in itertools.product(SIDES, SIDES):
        large = jp2[: size + 6] + struct.pack(">II", width, height) + jp2[size + 14 :]
        tile = large[: size + 22] + struct.pack(">II", width, height) + large[size + 30 :]
        for frame, syntax in ((large, JPEG2000Lossless), (tile, JPEG2000)):
            yield "jpeg2000", written(data_set(encapsulate([frame]), syntax=syntax))
        large = jpeg[: start + 5] + struct.pack(">HH", height, width) + jpeg[start + 9 :]
        for syntax in (JPEGBaseline8Bit, JPEGLosslessSV1):
            yield "jpeg", written(data_set(encapsulate([large]), syntax=syntax))
            yield "both", written(data_set(encapsulate([large]), height, width, syntax=syntax))
        ls = (
            b"\xff\xd8\xff\xf7"
            + struct.pack(">HBHHB", 11, 8, height, width, 1)
            + b"\1\x11\0"
            + bytes(40)
            + b"\xff\xd9"
        )
        yield "jpegls", written(data_set(encapsulate([ls]), syntax=JPEGLSLossless))
    for segments in (0, 1, 15, 255, 2**32 - 1):
        for offset in (0, 64, 2**31):
            head = struct.pack("<16I", segments, *[offset] * 15)
            frame = head + b"\x81\0" * rng.choice((1, 1000))
            yield "rle", written(data_set(encapsulate([frame]), syntax=RLELossless))
    many = encapsulate([b"\0\0"] * 20_000)
    yield "fragments", written(data_set(many, syntax=JPEGBaseline8Bit, NumberOfFrames=20_000))
    for lie in (0, 1, 2**31, 2**32 - 1):
        whole = written(data_set(encapsulate([jpeg]), syntax=JPEGBaseline8Bit))
        place = whole.rindex(b"\xfe\xff\x00\xe0")
        yield "item", whole[: place + 4] + struct.pack("<I", lie) + whole[place + 8 :]


def elements(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Data sets that lie about lengths, and sequences without end."""
    whole = written(data_set(bytes(1920)))
    start, pixels = behind_meta(whole), whole.index(b"\xe0\x7f\x10\0")
    head, rest = whole[:start], whole[start:]
    for kind in (b"OB", b"UT", b"UN", b"SQ", b"LO", b"DS", b"IS", b"AT", b"zz"):
        for length in (1, 2**16, 2**28, 2**31, 2**32 - 2, 2**32 - 1):
            yield "length", head + element(0x0008, 0x0008, kind, b"x" * 20, length) + rest
    for depth in (10, 900, 20_000):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, 2**32 - 1)
        nested = (element(0x0008, 0x1140, b"SQ", b"", 2**32 - 1) + item) * depth
        yield "depth", head + nested + rest
    yield (
        "items",
        head + element(0x0008, 0x1140, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 100_000) + rest,
    )
    yield "many", head + b"".join(element(0x0009, n, b"LO", b"x ") for n in range(0x1000, 0x9000)) + rest
    yield "values", head + element(0x0008, 0x0008, b"UT", b"1\\" * 1_000_000) + rest
    yield "numbers", whole[:pixels] + element(0x0028, 0x0030, b"UN", b"1\\" * 500_000) + whole[pixels:]
    yield "frames", whole.replace(b"P1", b"\\1") + b"\0" * 100
    for share in (0.1, 0.5, 0.9):
        yield "cut", whole[: int(len(whole) * share)]
    for lie in (0, 100, 2**31, 2**32 - 2):
        yield "pixels", whole[: pixels + 8] + struct.pack("<I", lie) + whole[pixels + 12 :]


def honest() -> dict[str, bytes]:
    """Small files of every transfer syntax that tests can write, to be damaged."""
    rng = np.random.default_rng(9)
    gray = rng.integers(0, 4096, (40, 48)).astype("<u2").tobytes()
    files = {
        "raw": data_set(gray, bits=16, RescaleSlope="2", RescaleIntercept="-1024", WindowCenter=["40"],
                        WindowWidth=["400"]),
        "colour": data_set(rng.bytes(5760), samples=3),
        "frames": data_set(rng.bytes(3 * 1920), NumberOfFrames=3),
        "deflated": data_set(gray, bits=16, syntax=DeflatedExplicitVRLittleEndian),
        "jpeg": data_set(encapsulate([saved("JPEG")]), syntax=JPEGBaseline8Bit),
        "jpeg2000": data_set(encapsulate([saved("JPEG2000", no_jp2=True)]), syntax=JPEG2000Lossless),
    }  # fmt: skip
    run_length = data_set(gray, bits=16)
    run_length.compress(RLELossless, generate_instance_uid=False)
    files["rle"] = run_length
    return {f"{name}.dcm": written(made) for name, made in files.items()} | {
        "lossless.dcm": lossless(files["raw"])
    }


def lossless(made: Dataset) -> bytes:
    """A data set as lossless JPEG, which only GDCM writes and reads."""
    import gdcm

    with tempfile.TemporaryDirectory() as folder:
        plain, packed = f"{folder}/plain", f"{folder}/packed"
        Path(plain).write_bytes(written(made))
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(plain)
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(packed)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return Path(packed).read_bytes()
