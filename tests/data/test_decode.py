import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ttl_jax.data.dataset import ArrayReader
from ttl_jax.data.images.cache import DecodingReader, read_all
from ttl_jax.data.images.decode import Geometry, UnreadableImageError, decode
from ttl_jax.data.progress_lines import progress_lines
from ttl_jax.errors import UserError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def write(tmp_path: Path, image: Image.Image, name: str = "x.png", **options) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_an_rgb_image_of_the_right_size_is_untouched(tmp_path, rng):
    pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(decode(write(tmp_path, Image.fromarray(pixels)), Geometry(8)), pixels)
    assert np.array_equal(decode(pixels, Geometry(8)), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, rng, orientation):
    # EXIF 2.3, tag 0x0112: how the stored rows and columns lie in the upright picture
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a),
    }[orientation]
    pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write(tmp_path, Image.fromarray(pixels), exif=exif)
    assert np.array_equal(decode(path, Geometry(8)), upright(pixels))


def test_a_palette_gives_its_colours(tmp_path, rng):
    index = rng.integers(0, 3, (6, 6), dtype=np.uint8)
    colours = np.array([[10, 200, 30], [250, 0, 90], [7, 8, 9]], np.uint8)
    image = Image.fromarray(index).convert("P")
    image.putpalette(colours.ravel().tolist())
    image.putdata(index.ravel().tolist())
    assert np.array_equal(decode(write(tmp_path, image), Geometry(6)), colours[index])


def test_alpha_is_laid_over_the_pad_value(tmp_path, rng):
    pixels = rng.integers(0, 256, (6, 6, 4), dtype=np.uint8)
    got = decode(write(tmp_path, Image.fromarray(pixels)), Geometry(6, pad_value=40))
    alpha = pixels[..., 3:] / 255
    np.testing.assert_allclose(got, pixels[..., :3] * alpha + 40 * (1 - alpha), atol=1.01)


def test_gray_with_alpha(tmp_path):
    pixels = np.zeros((4, 4, 2), np.uint8)
    pixels[..., 0], pixels[:2, :, 1] = 200, 255
    got = decode(write(tmp_path, Image.fromarray(pixels)), Geometry(4, pad_value=9))
    assert (got[:2] == 200).all() and (got[2:] == 9).all()


def test_cmyk_becomes_rgb(tmp_path, rng):
    ink = rng.integers(0, 256, (6, 6, 4), dtype=np.uint8)
    path = write(tmp_path, Image.fromarray(ink, "CMYK"), "x.tif")
    want = (255.0 - ink[..., :3]) * (255.0 - ink[..., 3:]) / 255
    np.testing.assert_allclose(decode(path, Geometry(6)), want, atol=1.01)


def test_sixteen_bits_are_stretched_to_eight(tmp_path):
    values = np.linspace(100, 4095, 64).reshape(8, 8).round().astype(np.uint16)
    want = np.rint((values - 100.0) * 255 / 3995)
    for name in ("x.png", "x.tif"):
        got = decode(write(tmp_path, Image.fromarray(values), name), Geometry(8))
        assert np.array_equal(got, np.repeat(want[..., None], 3, axis=2))


def big_endian_tiff(values: np.ndarray) -> bytes:
    """One strip of 16-bit grays, as TIFF 6.0 (sections 2 to 4) lays it out for Motorola's byte order."""
    height, width = values.shape
    tags = ((256, 3, width), (257, 3, height), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 134),
            (277, 3, 1), (278, 3, height), (279, 4, 2 * values.size))  # fmt: skip
    entries = b"".join(
        struct.pack(">HHIHxx", tag, kind, 1, value)
        if kind == 3
        else struct.pack(">HHII", tag, kind, 1, value)
        for tag, kind, value in tags
    )
    head = b"MM\0*" + struct.pack(">IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(134, b"\0") + values.astype(">u2").tobytes()


def test_big_endian_sixteen_bits(tmp_path, rng):
    values = rng.integers(0, 65536, (5, 5), dtype=np.uint16)
    values[0, :2] = 0, 65535
    (tmp_path / "x.tif").write_bytes(big_endian_tiff(values))
    got = decode(tmp_path / "x.tif", Geometry(5))[..., 2]
    np.testing.assert_allclose(got, values / 257, atol=0.5001)


def deep_png(values: np.ndarray) -> bytes:
    """A PNG file of 16-bit gray and alpha, colour, or colour and alpha (PNG 1.2, sections 6 and 9)."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in chunks
    )


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_colour_of_fewer_bits_in_a_png_of_sixteen(tmp_path, rng, channels, bits):
    values = rng.integers(0, 2**bits, (8, 8, channels))
    values[0, 0] = 2**bits - 1
    if channels != 3:
        values[..., -1] = 65535  # opaque
    (tmp_path / "x.png").write_bytes(deep_png(values))
    want = values[..., : 1 if channels == 2 else 3] / (2**bits - 1) * 255
    atol = 0.501 if bits < 16 else 1  # PIL keeps the upper byte of 16
    np.testing.assert_allclose(
        decode(tmp_path / "x.png", Geometry(8)), np.broadcast_to(want, (8, 8, 3)), atol=atol
    )


def gray_tiff(values: np.ndarray, photometric: int) -> bytes:
    """An uncompressed TIFF file (TIFF 6.0, sections 3 and 4) of integers or floats, in their byte order."""
    data, kind = values.tobytes(), {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    order, mark = (">", b"MM\0*") if values.dtype.str[0] == ">" else ("<", b"II*\0")
    tags = {256: values.shape[1], 257: values.shape[0], 258: values.itemsize * 8, 259: 1, 262: photometric,
            273: 8, 277: 1, 278: values.shape[0], 279: len(data), 339: kind}  # fmt: skip
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    return (
        mark
        + struct.pack(f"{order}I", 8 + len(data))
        + data
        + struct.pack(f"{order}H", 10)
        + entries
        + bytes(4)
    )


@pytest.mark.parametrize("kind", ["u1", "<u2", ">u2", "<f4", ">f4"])
def test_white_is_zero_in_every_depth(tmp_path, kind):
    values = np.tile(np.linspace(0, 255, 16).astype(kind), (16, 1))
    (tmp_path / "black.tif").write_bytes(gray_tiff(values, 1))
    (tmp_path / "white.tif").write_bytes(gray_tiff(values, 0))
    black, white = (decode(tmp_path / f"{name}.tif", Geometry(16)) for name in ("black", "white"))
    np.testing.assert_allclose(black[..., 0], values, atol=0.501)
    assert np.array_equal(white, 255 - black)


def test_unsigned_values_of_32_bits_do_not_wrap(tmp_path):
    values = np.tile(np.linspace(0, 2**32 - 1, 16).astype("<u4"), (16, 1))
    (tmp_path / "black.tif").write_bytes(gray_tiff(values, 1))
    found = decode(tmp_path / "black.tif", Geometry(16))[..., 0]
    np.testing.assert_allclose(found, values / (2**32 - 1) * 255, atol=0.501)
    (tmp_path / "white.tif").write_bytes(gray_tiff(values, 0))
    with pytest.raises(UnreadableImageError, match="PIL can read"):  # refused rather than inverted
        decode(tmp_path / "white.tif", Geometry(16))


def test_inverted_cmyk_of_photoshop(tmp_path):
    # Adobe stores CMYK JPEG inverted; PIL writes it so, and the reader must turn it back
    ink = np.zeros((8, 8, 4), np.uint8)
    ink[..., 0], ink[..., 3] = 255, 51  # cyan, a fifth black
    path = write(tmp_path, Image.fromarray(ink, "CMYK"), "x.jpg", quality=100)
    np.testing.assert_allclose(decode(path, Geometry(8))[4, 4], (0, 204, 204), atol=3)


def test_a_transparent_palette_colour_shows_the_pad_value(tmp_path):
    index = np.array([[0, 1], [2, 1]], np.uint8)
    image = Image.fromarray(index, "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    path = write(tmp_path, image, transparency=1)
    want = [[[10, 20, 30], [5] * 3], [[70, 80, 90], [5] * 3]]
    assert decode(path, Geometry(2, pad_value=5)).tolist() == want


def test_a_transparent_gray_value_shows_the_pad_value(tmp_path):
    path = write(tmp_path, Image.fromarray(np.array([[7, 8], [9, 7]], np.uint8)), transparency=7)
    assert decode(path, Geometry(2, pad_value=99))[..., 0].tolist() == [[99, 8], [9, 99]]


@pytest.mark.parametrize("name", ["x.tif", "x.webp", "x.png", "x.jpg"])
def test_orientation_is_read_from_every_format(tmp_path, name):
    pixels = np.zeros((16, 16), np.uint8)
    pixels[:8] = 255  # above in the file, so on the right of the upright picture
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"lossless": True} if name == "x.webp" else {}
    path = write(tmp_path, Image.fromarray(pixels).convert("RGB"), name, exif=exif, **options)
    got = decode(path, Geometry(16))[..., 0].astype(int)
    np.testing.assert_allclose(got, np.rot90(pixels, -1), atol=2)
    assert got[0, 15] > 250 and got[15, 0] < 5


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.png"])
def test_animations_are_refused_in_every_format(tmp_path, rng, name):
    frames = [Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)) for _ in range(3)]
    path = write(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableImageError, match="3 frames"):
        decode(path, Geometry(6))
    still = decode(write(tmp_path, frames[0], name), Geometry(6))
    assert still.shape == (6, 6, 3)


def test_a_dicom_file_among_images_is_told_its_source(tmp_path):
    (tmp_path / "x.png").write_bytes(bytes(128) + b"DICM" + bytes(100))
    with pytest.raises(UnreadableImageError, match="set data.name=dicom"):
        decode(tmp_path / "x.png", Geometry(4))


def test_postscript_is_not_handed_to_an_interpreter(tmp_path):
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(UnreadableImageError, match="not an image"):
        decode(tmp_path / "x.png", Geometry(4))


def test_float_images_are_stretched_and_nan_refused(tmp_path):
    values = np.linspace(-3, 5, 16, dtype=np.float32).reshape(4, 4)
    got = decode(write(tmp_path, Image.fromarray(values), "x.tif"), Geometry(4))
    np.testing.assert_allclose(got[..., 1], (values + 3) / 8 * 255, atol=0.51)
    values[1, 1] = np.nan
    with pytest.raises(UnreadableImageError, match="NaN"):
        decode(write(tmp_path, Image.fromarray(values), "y.tif"), Geometry(4))


def test_a_constant_sixteen_bit_image_is_black(tmp_path):
    path = write(tmp_path, Image.fromarray(np.full((4, 4), 900, np.uint16)))
    assert (decode(path, Geometry(4)) == 0).all()


@pytest.mark.parametrize("bits", ["1", "L"])
def test_gray_and_bilevel_have_three_equal_channels(tmp_path, bits):
    pixels = (np.arange(16).reshape(4, 4) % 2 * 255).astype(np.uint8)
    got = decode(write(tmp_path, Image.fromarray(pixels).convert(bits)), Geometry(4))
    assert np.array_equal(got, np.repeat(pixels[..., None], 3, axis=2))


def test_shrinking_by_a_whole_factor_averages(tmp_path):
    # the antialiased (triangle) kernel of a 4-fold reduction reaches over 8 pixels
    wave = np.zeros((64, 64), np.uint8)
    wave[:, ::2] = 255
    got = decode(write(tmp_path, Image.fromarray(wave)), Geometry(16))
    assert np.abs(got[:, 2:-2].astype(int) - 127.5).max() < 3  # no moire, unlike plain bilinear


def halves(height: int, width: int) -> np.ndarray:
    """Left half 50, right half 200; the middle column belongs to the left."""
    pixels = np.full((height, width), 200, np.uint8)
    pixels[:, : width // 2] = 50
    return pixels


def test_squash_keeps_everything():
    got = decode(halves(20, 40), Geometry(10, "squash"))
    assert (got[:, :4] == 50).all() and (got[:, 6:] == 200).all()


def test_crop_takes_the_middle_of_the_long_side():
    ramp = np.broadcast_to(np.arange(40, dtype=np.uint8), (20, 40))
    got = decode(ramp, Geometry(20, "crop"))[..., 0]
    assert np.array_equal(got, np.broadcast_to(np.arange(10, 30), (20, 20)))
    got = decode(ramp.T, Geometry(20, "crop"))[..., 0]
    assert np.array_equal(got, np.broadcast_to(np.arange(10, 30)[:, None], (20, 20)))


def test_pad_fills_up_with_the_pad_value():
    got = decode(halves(10, 20), Geometry(20, "pad", 77))[..., 0]
    assert (got[:5] == 77).all() and (got[15:] == 77).all()
    assert np.array_equal(got[5:15], halves(10, 20))
    got = decode(np.zeros((40, 3), np.uint8), Geometry(20, "pad", 77))[..., 0]
    assert (got == 0).sum() == 20 * 2 and (got == 77).sum() == 20 * 18


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not an image"), (b"hello", "not an image"), (None, "does not exist")],
)
def test_files_that_are_no_images(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(UnreadableImageError, match=message):
        decode(tmp_path / "x.png", Geometry(4))


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.bmp", "x.tif", "x.webp"])
def test_a_truncated_file_is_refused(tmp_path, rng, name):
    path = write(tmp_path, Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImageError, match="cannot be decoded|not an image"):
        decode(path, Geometry(8))


def test_an_animation_is_refused(tmp_path, rng):
    frames = [Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)) for _ in range(3)]
    path = write(tmp_path, frames[0], "x.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableImageError, match="3 frames"):
        decode(path, Geometry(4))


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "x.png").symlink_to(tmp_path / "x.png")
    with pytest.raises(UnreadableImageError):
        decode(tmp_path / "x.png", Geometry(4))


@pytest.mark.parametrize("threads", [1, 4])
def test_cached_and_uncached_reads_are_the_same(rng, threads):
    images = [rng.integers(0, 256, (9, 7, 3), dtype=np.uint8) for _ in range(30)]
    where = [f"image {number}" for number in range(30)]
    held = read_all(images, where, Geometry(8), cache_gb=1, threads=threads)
    fresh = read_all(images, where, Geometry(8), cache_gb=0, threads=threads)
    assert isinstance(held.reader, ArrayReader) and isinstance(fresh.reader, DecodingReader)
    assert held.hashes == fresh.hashes and len(set(held.hashes)) == 30
    order = np.array([3, 3, 29, 0])
    assert np.array_equal(held.reader.read(order), fresh.reader.read(order))
    want = np.stack([decode(images[index], Geometry(8)) for index in order])
    assert np.array_equal(held.reader.read(order), want)
    assert len(held.reader) == len(fresh.reader) == 30


def test_a_file_that_vanishes_during_training_is_named(tmp_path, rng):
    path = write(tmp_path, Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)))
    reader = read_all([path], [str(path)], Geometry(4), cache_gb=0).reader
    path.unlink()
    with pytest.raises(UserError, match="x.png does not exist, though"):
        reader.read(np.array([0]))


def test_threads_leave_the_warning_filters_alone(tmp_path, rng):
    # warnings.catch_warnings in several threads at once restores another thread's filters
    pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    files = [write(tmp_path, Image.fromarray(pixels), f"{number}.png") for number in range(40)] * 10
    with warnings.catch_warnings():
        warnings.resetwarnings()
        before = list(warnings.filters)
        read_all(files, [str(file) for file in files], Geometry(16), cache_gb=1, threads=8)
        assert list(warnings.filters) == before


def test_a_large_image_gives_no_warning(tmp_path, monkeypatch):
    path = write(tmp_path, Image.new("L", (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_all([path], [str(path)], Geometry(4), cache_gb=1).faults == {}
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    faults = read_all([path], [str(path)], Geometry(4), cache_gb=1).faults
    assert "too many pixels" in faults[0]


def test_progress_lines_come_at_most_so_often_and_tell_the_rest(capsys):
    times = iter([0.0, 1.0, 5.0, 6.0, 10.0])
    say = progress_lines(seconds=5.0, clock=lambda: next(times))
    for done in (10, 50, 60, 100):
        say(done, 100)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["read 50 of 100 images, about 5 s left", "read 100 of 100 images, about 0 s left"]
