"""Files that claim more than they hold, or stop early: refused before memory is taken, in one sentence."""

import gzip
import io
import json
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from ttl_jax import data
from ttl_jax.data import DataConfig
from ttl_jax.data.images.decode import Geometry, UnreadableImageError, decode
from ttl_jax.data.images.limits import check_pixels
from ttl_jax.data.sources.dicom_limits import check_size
from ttl_jax.data.sources.nifti import read_volume
from ttl_jax.data.sources.npz import read_npz
from ttl_jax.errors import UserError


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, content, depth=8, colour=0, interlaced=0):
    """A PNG file (PNG 1.2, section 11) of these filtered rows, however many they are."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))
    palette = chunk(b"PLTE", bytes(range(255)) + b"\0\0\0") if colour == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
    )


def saved(image, kind, **options):
    made = io.BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


def read(tmp_path, content, name="x.png"):
    (tmp_path / name).write_bytes(content)
    return decode(tmp_path / name, Geometry(16))


@pytest.mark.parametrize("size", [(200, 40), (40, 200), (200, 200)])
def test_a_frame_that_is_wider_or_higher_than_its_file_says_is_refused(size):
    frame = saved(Image.new("L", size), "jpeg")
    check_size(frame, *size)
    with pytest.raises(UnreadableImageError, match=f"40 x 40 pixels, but its frame is {size[0]} x {size[1]}"):
        check_size(frame, 40, 40)


BYTES = {
    "gray": (0, 8, 1),
    "colour": (2, 8, 3),
    "palette": (3, 8, 1),
    "16 bits": (0, 16, 2),
    "alpha": (6, 8, 4),
}


@pytest.mark.parametrize("kind", BYTES)
@pytest.mark.parametrize("rows", [1, 9, 15])
def test_a_png_whose_pixels_stop_early_is_unreadable(tmp_path, kind, rows):
    colour, depth, each = BYTES[kind]
    row = b"\0" + bytes(range(1, 16 * each + 1))
    read(tmp_path, png(16, 16, row * 16, depth, colour))
    with pytest.raises(UnreadableImageError, match="ends early"):
        read(tmp_path, png(16, 16, row * rows, depth, colour))


def test_an_interlaced_png_that_lacks_its_last_pass_is_unreadable(tmp_path):
    # 16 x 16 in Adam7: passes of 2 x 2, 2 x 2, 4 x 2, 4 x 4, 8 x 4, 8 x 8 and 16 x 8 pixels
    passes = [(b"\0" + b"\x66" * w) * h for w, h in ((2, 2), (2, 2), (4, 2), (4, 4), (8, 4), (8, 8), (16, 8))]
    assert (read(tmp_path, png(16, 16, b"".join(passes), interlaced=1)) == 0x66).all()
    with pytest.raises(UnreadableImageError, match="ends early"):
        read(tmp_path, png(16, 16, b"".join(passes[:-1]), interlaced=1))


def test_black_rows_that_are_there_are_read(tmp_path):
    black = (b"\0" + b"\x50" * 16) * 8 + (b"\0" + bytes(16)) * 8
    assert (read(tmp_path, png(16, 16, black))[8:] == 0).all()
    for side in (1, 4, 7, 8, 17):
        read(tmp_path, saved(Image.new("RGB", (side, side)), "JPEG"), "x.jpg")
    half = np.zeros((64, 64, 3), np.uint8)
    half[:32] = np.random.default_rng(0).integers(0, 255, (32, 64, 3))
    for progressive in (False, True):
        read(tmp_path, saved(Image.fromarray(half), "JPEG", progressive=progressive), "x.jpg")


def test_a_jpeg_whose_blocks_stop_early_is_unreadable(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = saved(Image.fromarray(noise), "JPEG")
    read(tmp_path, whole, "x.jpg")
    with pytest.raises(UnreadableImageError, match="ends early"):
        read(tmp_path, whole[: len(whole) // 2] + b"\xff\xd9", "x.jpg")


@pytest.mark.parametrize(
    "content, said",
    [
        (png(1, 10**8, b""), r"too many pixels \(1 x 100000000\)"),
        (png(12_000, 12_000, b"", depth=16), "too many pixels"),
        (png(11_000, 11_000, b"", colour=6), "too many pixels"),
        (
            saved(Image.new("L", (8, 8)), "GIF")[:6] + b"\xff\xff\xff\xff" + bytes(20),
            "too many pixels|not an image",
        ),
    ],
)
def test_too_many_pixels_are_refused_by_the_header(tmp_path, content, said):
    with pytest.raises(UnreadableImageError, match=said):
        read(tmp_path, content)


def test_a_jpeg_of_more_pixels_than_its_bytes_can_hold(tmp_path):
    whole = saved(Image.new("L", (16, 16)), "JPEG")
    place = whole.index(b"\xff\xc0") + 5
    with pytest.raises(UnreadableImageError, match="cannot hold 13000 x 13000 pixels"):
        read(tmp_path, whole[:place] + struct.pack(">HH", 13_000, 13_000) + whole[place + 4 :], "x.jpg")


def test_a_jpeg_of_hundreds_of_passes(tmp_path):
    whole = saved(Image.new("L", (16, 16)), "JPEG", progressive=True)
    scan = whole.rindex(b"\xff\xda")
    with pytest.raises(UnreadableImageError, match="passes"):
        read(tmp_path, whole[:scan] + whole[scan:-2] * 100 + b"\xff\xd9", "x.jpg")


def test_the_largest_images_that_people_have_are_taken():
    check_pixels(13_000, 13_000, 6)  # a tile of a slide, in colour
    check_pixels(6000, 16_000, 15)  # a spine of stitched radiographs, 16 bits
    with pytest.raises(UnreadableImageError):
        check_pixels(70_000, 10, 1)


def volume(shape):
    """The header of a NIfTI-1 file of float64 voxels (nifti1.h)."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<hh", head, 70, 64, 64)
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    struct.pack_into("<f", head, 108, 352.0)
    head[344:348] = b"n+1\0"
    return bytes(head)


def test_a_volume_of_a_few_compressed_bytes(tmp_path):
    pytest.importorskip("nibabel")
    path = tmp_path / "x.nii.gz"
    path.write_bytes(gzip.compress(volume((1000, 1000, 1000)), mtime=0))
    with pytest.raises(UnreadableImageError, match="claims 8000000000 bytes of pixels in"):
        read_volume(path)
    path.write_bytes(gzip.compress(volume((4, 4, 4)) + np.arange(64.0).tobytes()))
    assert read_volume(path).voxels.max() == 255


def deflated_dicom(make_dicom, megabytes):
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    made = make_dicom(np.zeros((4, 4), np.uint8))
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = io.BytesIO()
    made.save_as(content, enforce_file_format=True)
    whole = content.getvalue()
    start = 144 + struct.unpack_from("<I", whole, 140)[0]
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    long = struct.pack("<HH2sHI", 0x0009, 0x1001, b"OB", 0, megabytes << 20)
    parts = [
        packer.compress(long),
        *(packer.compress(bytes(1 << 20)) for _ in range(megabytes)),
        packer.flush(),
    ]
    return whole[:start] + b"".join(parts)


def test_a_deflated_dicom_file_out_of_proportion(tmp_path):
    pytest.importorskip("pydicom")
    from ttl_jax.data.sources.dicom import read_header

    from .dicom_files import make_dicom

    path = tmp_path / "x.dcm"
    path.write_bytes(deflated_dicom(make_dicom, 250))
    with pytest.raises(UnreadableImageError, match="bytes of pixels in"):
        read_header(path)


def encapsulated(tmp_path, frame, syntax, shape=(40, 48)):
    from pydicom.encaps import encapsulate

    from .dicom_files import make_dicom

    made = make_dicom(np.zeros(shape, np.uint8))
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = encapsulate([frame])
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    return tmp_path / "x.dcm"


def test_a_dicom_frame_that_is_larger_than_its_file_says(tmp_path):
    uid = pytest.importorskip("pydicom.uid")
    from ttl_jax.data.sources.dicom import DicomFrame

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48), dtype=np.uint8))
    jpeg, jp2 = saved(image, "JPEG"), saved(image, "JPEG2000", no_jp2=True)
    place = jpeg.index(b"\xff\xc0") + 5
    large_jpeg = jpeg[:place] + struct.pack(">HH", 60_000, 50_000) + jpeg[place + 4 :]
    large_jp2 = jp2[:8] + struct.pack(">II", 50_000, 60_000) + jp2[16:]
    for whole, large, syntax in (
        (jpeg, large_jpeg, uid.JPEGBaseline8Bit), (jp2, large_jp2, uid.JPEG2000Lossless),
    ):  # fmt: skip
        assert DicomFrame(encapsulated(tmp_path, whole, syntax), 0, "", 0.0).read().size == (48, 40)
        with pytest.raises(UnreadableImageError, match="its frame is 50000 x 60000"):
            DicomFrame(encapsulated(tmp_path, large, syntax), 0, "", 0.0).read()


def test_a_dicom_frame_whose_blocks_stop_early(tmp_path):
    uid = pytest.importorskip("pydicom.uid")
    from ttl_jax.data.sources.dicom import DicomFrame

    jpeg = saved(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48), dtype=np.uint8)), "JPEG")
    path = encapsulated(tmp_path, jpeg[: len(jpeg) // 2] + b"\xff\xd9", uid.JPEGBaseline8Bit)
    with pytest.raises(UnreadableImageError, match="ends early"):
        DicomFrame(path, 0, "", 0.0).read()


def test_a_frame_at_which_gdcm_ends_its_process(tmp_path):
    uid = pytest.importorskip("pydicom.uid")
    pytest.importorskip("gdcm")
    from pydicom import dcmread

    from ttl_jax.data.sources import gdcm_process

    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48), dtype=np.uint8))
    jpeg = saved(image, "JPEG")
    whole = dcmread(encapsulated(tmp_path, jpeg, uid.JPEGBaseline8Bit))
    first = gdcm_process.decode_by_gdcm(whole)
    np.testing.assert_allclose(first, np.asarray(Image.open(io.BytesIO(jpeg))), atol=1)
    gdcm_process._own.process.kill()
    gdcm_process._own.process.wait()
    np.testing.assert_array_equal(gdcm_process.decode_by_gdcm(whole), first)  # in a new process
    del whole.Rows
    with pytest.raises(ValueError, match="Rows"):
        gdcm_process.decode_by_gdcm(whole)


def test_an_array_that_its_bytes_do_not_fill(tmp_path):
    path = tmp_path / "x.npz"
    header = repr({"descr": "|u1", "fortran_order": False, "shape": (10**6, 1000, 1000)}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_images.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header)
    with pytest.raises(UserError, match="x.npz is not a readable .npz file .an array of shape"):
        read_npz(path)


def test_a_hostile_image_is_a_counted_skip(tmp_path, class_folders, capsys):
    (class_folders / "a" / "tall.png").write_bytes(png(1, 10**8, b""))
    config = DataConfig(path=str(class_folders), image_size=16, on_error="skip")
    data.load(config)
    assert "tall.png has too many pixels (1 x 100000000)" in capsys.readouterr().out
    with pytest.raises(UserError, match="tall.png has too many pixels"):
        data.load(DataConfig(path=str(class_folders), image_size=16))


def test_a_video_of_too_many_pixels_and_a_playlist(tmp_path):
    av = pytest.importorskip("av")
    from ttl_jax.data.sources.video import VideoFrame

    for name, side in (("small.mp4", 64), ("large.mp4", 4096)):
        with av.open(str(tmp_path / name), "w") as made:
            stream = made.add_stream("mpeg4", rate=25)
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
            made.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), format="rgb24"))
            )
            made.mux(stream.encode())
    assert VideoFrame(tmp_path / "small.mp4", 0, 1).read().size == (64, 64)
    with pytest.raises(UnreadableImageError, match="no frames of up to 9000000 pixels"):
        VideoFrame(tmp_path / "large.mp4", 0, 1).read()
    list_ = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n" + json.dumps(str(tmp_path / "small.mp4"))
    (tmp_path / "list.mp4").write_text(list_.replace('"', "") + "\n#EXT-X-ENDLIST\n")
    with pytest.raises(UnreadableImageError):
        VideoFrame(tmp_path / "list.mp4", 0, 1).read()
