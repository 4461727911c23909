import io

import numpy as np
import pytest
from PIL import Image

from ttl_jax.data.images.decode import Geometry, decode, read_stream, whole
from ttl_jax.data.images.encode import encode, strip_jpeg


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def photo(path, rng, mode="RGB", orientation=1, **options):
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (24, 16, bands) if bands > 1 else (24, 16)
    image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "Wilhelmina Featherstone"
    image.save(path, exif=exif, comment=b"Featherstone", icc_profile=b"icc" * 50, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_keeps_its_data_and_loses_its_metadata(tmp_path, rng, mode, progressive):
    path = photo(tmp_path / "x.jpg", rng, mode, progressive=progressive)
    content, size = encode(path)
    assert b"Featherstone" in path.read_bytes() and b"Featherstone" not in content and b"icc" not in content
    assert content[:2] == b"\xff\xd8" and size == (24, 16)
    scan = path.read_bytes().index(b"\xff\xda")
    assert content.endswith(path.read_bytes()[scan:])  # the compressed data, bit for bit
    assert np.array_equal(np.asarray(read_stream(io.BytesIO(content))), np.asarray(whole(path)))


def test_a_turned_photo_becomes_png(tmp_path, rng):
    path = photo(tmp_path / "x.jpg", rng, orientation=6)
    content, size = encode(path)
    assert content.startswith(b"\x89PNG") and size == (16, 24) and b"Featherstone" not in content
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), np.asarray(whole(path)))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "I;16", "F"])
def test_other_files_become_png_of_the_same_pixels(tmp_path, rng, mode):
    values = rng.integers(0, 256, (9, 7, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 17)
    elif mode == "F":
        image = Image.fromarray(values[..., 0].astype(np.float32))
    else:
        image = Image.fromarray(values).convert(mode)
    path = tmp_path / ("x.tif" if mode == "F" else "x.png")
    image.save(path)
    content, _ = encode(path)
    for background in (0, 99):
        geometry = Geometry(9, "pad", background)
        (tmp_path / "y.png").write_bytes(content)
        assert np.array_equal(decode(tmp_path / "y.png", geometry), decode(path, geometry))


def test_text_of_a_png_is_not_kept(tmp_path, rng):
    from PIL.PngImagePlugin import PngInfo

    told = PngInfo()
    told.add_text("patient", "Featherstone")
    Image.fromarray(rng.integers(0, 256, (4, 4), dtype=np.uint8)).save(tmp_path / "x.png", pnginfo=told)
    assert b"Featherstone" in (tmp_path / "x.png").read_bytes()
    assert b"Featherstone" not in encode(tmp_path / "x.png")[0]


def test_arrays_and_the_same_bytes_again(rng):
    pixels = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    content, size = encode(pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels) and size == (5, 6)
    assert encode(pixels)[0] == content


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\x00\x04", b"\x89PNG", b"\xff\xd8abcdef"]
)
def test_what_is_no_jpeg_is_not_stripped(content):
    with pytest.raises(ValueError):
        strip_jpeg(content)
