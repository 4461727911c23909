from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ttl_jax import data
from ttl_jax.config.data import DataConfig
from ttl_jax.data.images.decode import Geometry, UnreadableImageError, decode
from ttl_jax.data.sources.dicom import DicomFrame, read_header
from ttl_jax.data.sources.dicom_listing import read_dicom
from ttl_jax.data.sources.file_kinds import DICOM
from ttl_jax.data.sources.window import PRESETS, parse_window
from ttl_jax.errors import UserError

pytest.importorskip("pydicom")

from pydicom import Dataset, Sequence, dcmread  # noqa: E402
from pydicom.encaps import encapsulate, get_frame  # noqa: E402
from pydicom.pixels import apply_modality_lut, apply_voi_lut  # noqa: E402
from pydicom.uid import (  # noqa: E402
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from .dicom_files import make_dicom, save_dicom  # noqa: E402


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.dcm"


def pixels_of(path, frame=0, window="", spacing=0.0):
    return np.asarray(DicomFrame(path, frame, parse_window(window), spacing).read())


def linear(values, center, width):
    """PS3.3, C.11.2.1.2.1, written as there, for an output of 0..255."""
    below = values <= center - 0.5 - (width - 1) / 2
    above = values > center - 0.5 + (width - 1) / 2
    middle = ((values - (center - 0.5)) / (width - 1) + 0.5) * 255
    return np.rint(np.where(below, 0.0, np.where(above, 255.0, middle)))


def test_ct_through_rescale_and_its_own_window(path, rng):
    stored = rng.integers(0, 4096, (9, 7), dtype=np.uint16)
    save_dicom(path, stored, BitsStored=12, RescaleSlope="1.5", RescaleIntercept="-1024",
               WindowCenter=[40, -600], WindowWidth=[400, 1500])  # fmt: skip
    units = stored * 1.5 - 1024
    assert np.array_equal(pixels_of(path), linear(units, 40, 400))
    # pydicom's own chain gives the same up to its output range
    whole = dcmread(path)
    theirs = apply_voi_lut(apply_modality_lut(whole.pixel_array, whole), whole)
    low, high = -1024, 4095 * 1.5 - 1024
    np.testing.assert_allclose(pixels_of(path), (theirs - low) / (high - low) * 255, atol=0.51)


HOUNSFIELD = {"lung": (-600, 1500), "mediastinum": (50, 350), "bone": (400, 1800), "brain": (40, 80)}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_replaces_the_files_window(path, rng, name):
    center, width = HOUNSFIELD[name]
    stored = rng.integers(-1024, 3000, (20, 20), dtype=np.int16)
    save_dicom(path, stored, RescaleSlope=1, RescaleIntercept=0, WindowCenter=0, WindowWidth=10)
    want = np.clip((stored - (center - width / 2)) / width, 0, 1) * 255
    np.testing.assert_allclose(pixels_of(path, window=name), want, atol=0.5001)
    np.testing.assert_allclose(pixels_of(path, window=f"{center}/{width}"), want, atol=0.5001)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_voi_functions(path, rng, function):
    stored = rng.integers(-500, 500, (8, 8), dtype=np.int16)
    save_dicom(path, stored, WindowCenter=20, WindowWidth=300, VOILUTFunction=function)
    want = {
        "LINEAR": linear(stored, 20, 300),
        "LINEAR_EXACT": np.rint(np.clip((stored - 20) / 300 + 0.5, 0, 1) * 255),
        "SIGMOID": np.rint(255 / (1 + np.exp(-4 * (stored - 20.0) / 300))),
    }[function]
    assert np.array_equal(pixels_of(path), want)


def test_a_window_of_width_one_is_a_step(path):
    stored = np.array([[9, 10], [11, 12]], np.uint16)
    save_dicom(path, stored, WindowCenter=11, WindowWidth=1)
    assert pixels_of(path).tolist() == [[0, 0], [255, 255]]


@pytest.mark.parametrize(("function", "width"), [("LINEAR", 0), ("SIGMOID", -3), ("LOG", 10)])
def test_a_window_that_is_none_is_a_fault(path, function, width):
    save_dicom(path, np.eye(4, dtype=np.uint8), WindowCenter=1, WindowWidth=width, VOILUTFunction=function)
    with pytest.raises(UnreadableImageError, match="a window that is none.*set data.window"):
        pixels_of(path)
    assert pixels_of(path, window="range").tolist() == (np.eye(4) * 255).tolist()


def test_monochrome1_is_inverted_after_the_window(path, rng):
    stored = rng.integers(0, 1024, (8, 8), dtype=np.uint16)
    save_dicom(path, stored, BitsStored=10, WindowCenter=500, WindowWidth=800,
               PhotometricInterpretation="MONOCHROME1")  # fmt: skip
    want = ((stored - 499.5) / 799 + 0.5).clip(0, 1)
    assert np.array_equal(pixels_of(path), np.rint((1 - want) * 255))
    save_dicom(path, stored, BitsStored=10, PhotometricInterpretation="MONOCHROME1")
    span = (stored - stored.min()) / (stored.max() - stored.min())
    np.testing.assert_allclose(pixels_of(path), (1 - span) * 255, atol=0.5001)


def test_a_voi_lut_comes_before_a_window(path):
    table = Dataset()
    table.LUTDescriptor = [4, 10, 12]  # 4 entries, the first for value 10, of 12 bits
    table.LUTData = np.array([0, 100, 4000, 4095], np.uint16).tobytes()
    table["LUTData"].VR = "OW"
    stored = np.array([[0, 10, 11], [12, 13, 99]], np.uint16)
    save_dicom(path, stored, VOILUTSequence=Sequence([table]), WindowCenter=1, WindowWidth=2)
    want = np.array([[0, 0, 100], [4000, 4095, 4095]]) / 4095 * 255
    assert np.array_equal(pixels_of(path), np.rint(want))


def test_a_modality_lut(path):
    table = Dataset()
    table.LUTDescriptor = [3, 0, 16]
    table.LUTData = np.array([500, 100, 300], np.uint16).tobytes()
    table["LUTData"].VR = "OW"
    table.ModalityLUTType = "US"
    save_dicom(path, np.array([[0, 1, 2]], np.uint8), ModalityLUTSequence=Sequence([table]))
    assert pixels_of(path).tolist() == [[255, 0, 128]]


def test_without_a_window_padding_is_left_out_of_the_range(path):
    stored = np.array([[-2000, 0, 50], [100, 200, -2000]], np.int16)
    save_dicom(path, stored, PixelPaddingValue=-2000)
    want = [[0, 0, 64], [128, 255, 0]]
    assert pixels_of(path).tolist() == want
    save_dicom(path, stored, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    assert pixels_of(path).tolist() == [[0, 255, 191], [128, 0, 0]]  # padding is black all the same


def test_percentiles_leave_outliers_out(path, rng):
    stored = rng.integers(0, 1000, (50, 50), dtype=np.uint16)
    stored[0, 0] = 60000
    save_dicom(path, stored)
    assert pixels_of(path)[1:].max() <= 5
    low, high = np.percentile(stored, [0.5, 99.5])
    want = np.clip((stored - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(pixels_of(path, window="percentile"), want, atol=0.5001)


def test_a_constant_image_is_black(path):
    save_dicom(path, np.full((3, 3), 77, np.uint16))
    assert pixels_of(path).tolist() == np.zeros((3, 3)).tolist()


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize("kind", ["gray", "signed", "colour"])
def test_lossless_compression_changes_no_pixel(path, rng, syntax, kind):
    pixels = {
        "gray": rng.integers(0, 4096, (48, 40), dtype=np.uint16),
        "signed": rng.integers(-1000, 1000, (48, 40), dtype=np.int16),
        "colour": rng.integers(0, 256, (48, 40, 3), dtype=np.uint8),
    }[kind]
    more = {"BitsStored": 12} if kind == "gray" else {}
    save_dicom(path, pixels, **more)
    want = pixels_of(path)
    made = make_dicom(pixels, **more)
    made.compress(syntax)
    made.save_as(path, enforce_file_format=True)
    assert dcmread(path).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(pixels_of(path), want)
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(got, want) for got in pool.map(lambda _: pixels_of(path), range(20)))


def to_lossless_jpeg(path):
    """Write a file anew as lossless JPEG, which GDCM alone writes."""
    gdcm = pytest.importorskip("gdcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def test_jpeg_lossless_process_14(path, rng):
    pixels = rng.integers(0, 4096, (16, 12), dtype=np.uint16)
    save_dicom(path, pixels, BitsStored=12)
    want = pixels_of(path)
    to_lossless_jpeg(path)
    assert dcmread(path).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.70"
    assert np.array_equal(pixels_of(path), want)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("compress", [
    to_lossless_jpeg,
    lambda path: compressed(path, RLELossless),
    lambda path: compressed(path, JPEGLSLossless),
    lambda path: compressed(path, JPEG2000Lossless),
])  # fmt: skip
def test_a_cut_frame_with_its_end_mark_is_a_fault(path, rng, compress, share):
    """As libjpeg reads it, what is missing is gray, and a warning on standard error alone says so."""
    save_dicom(path, rng.integers(0, 4096, (40, 48), dtype=np.uint16), BitsStored=12)
    compress(path)
    whole = dcmread(path)
    pixels_of(path)
    frame = get_frame(whole.PixelData, 0, number_of_frames=1).rstrip(b"\0")
    whole.PixelData = encapsulate([frame[: int(len(frame) * share)] + b"\xff\xd9"])
    whole.save_as(path)
    with pytest.raises(UnreadableImageError, match="cannot be decoded|ends early"):
        pixels_of(path)


def compressed(path, syntax):
    made = dcmread(path)
    made.compress(syntax)
    made.save_as(path)


@pytest.mark.parametrize("colour", [False, True])
def test_jpeg_baseline_is_what_pil_decodes(path, rng, colour):
    smooth = rng.integers(0, 256, (2, 2, 3) if colour else (2, 2), dtype=np.uint8)
    picture = Image.fromarray(smooth).resize((16, 16), Image.Resampling.BILINEAR)
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=95, subsampling=0)
    made = make_dicom(np.asarray(picture), WindowCenter=128, WindowWidth=256)
    if colour:
        made.PhotometricInterpretation = "YBR_FULL_422"
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    made.PixelData = encapsulate([buffer.getvalue()])
    made["PixelData"].is_undefined_length = True
    made.save_as(path, enforce_file_format=True)
    want = np.asarray(Image.open(BytesIO(buffer.getvalue())))
    np.testing.assert_allclose(pixels_of(path).astype(int), want, atol=2)


def test_colour_kinds(path, rng):
    pixels = rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)
    save_dicom(path, pixels)
    assert np.array_equal(pixels_of(path), pixels)
    save_dicom(path, pixels.transpose(2, 0, 1).copy(), NumberOfFrames=1, Rows=6, Columns=4,
               SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=1)  # fmt: skip
    assert np.array_equal(pixels_of(path), pixels)
    # ITU-R BT.601 with the full range, as PS3.3, C.7.6.3.1.2 gives it
    save_dicom(path, pixels, PhotometricInterpretation="YBR_FULL")
    y, b, r = (pixels[..., place].astype(float) for place in range(3))
    want = np.stack([y + 1.402 * (r - 128), y - 0.344136 * (b - 128) - 0.714136 * (r - 128),
                     y + 1.772 * (b - 128)], axis=-1)  # fmt: skip
    np.testing.assert_allclose(pixels_of(path), want.clip(0, 255), atol=1.01)


@pytest.mark.parametrize(("stored", "bits"), [(16, 16), (16, 12), (16, 10), (12, 12), (12, 9)])
def test_colour_of_more_than_eight_bits(path, rng, stored, bits):
    pixels = rng.integers(0, 2**bits, (6, 4, 3), dtype=np.uint16)
    pixels[0, 0] = 2**bits - 1
    save_dicom(path, pixels, BitsStored=stored)
    top = 2 ** (bits if stored == 16 else stored) - 1  # 12-bit values in 16 bits are 12-bit colour
    np.testing.assert_allclose(pixels_of(path), pixels / top * 255, atol=0.501)


def test_a_palette(path):
    index = np.array([[0, 1], [2, 1]], np.uint8)
    colours = np.array([[0, 65535, 257 * 30], [65535, 0, 257 * 60], [257 * 7, 0, 257 * 90]], np.uint16)
    lut = {f"{name}PaletteColorLookupTable{part}": value
           for name, channel in zip(("Red", "Green", "Blue"), colours, strict=True)
           for part, value in (("Descriptor", [3, 0, 16]), ("Data", channel.tobytes()))}  # fmt: skip
    save_dicom(path, index, PhotometricInterpretation="PALETTE COLOR", **lut)
    assert np.array_equal(pixels_of(path), np.rint(colours.T[index] / 257))


def functional_groups(count):
    """Per frame: rescale slope 1 + frame, and a window; shared: millimetres."""
    frames = []
    for number in range(count):
        rescale, window, item = Dataset(), Dataset(), Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1 + number, -5, "US"
        window.WindowCenter, window.WindowWidth = 100 * (1 + number), 200
        item.PixelValueTransformationSequence = Sequence([rescale])
        item.FrameVOILUTSequence = Sequence([window])
        frames.append(item)
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [2, 1]
    shared.PixelMeasuresSequence = Sequence([measures])
    return {
        "PerFrameFunctionalGroupsSequence": Sequence(frames),
        "SharedFunctionalGroupsSequence": Sequence([shared]),
    }


def test_enhanced_files_have_a_window_for_each_frame(path, rng):
    stored = rng.integers(0, 256, (3, 6, 5), dtype=np.uint8)
    save_dicom(path, stored, NumberOfFrames=3, **functional_groups(3))
    for frame in range(3):
        want = linear(stored[frame] * (1.0 + frame) - 5, 100 * (1 + frame), 200)
        assert np.array_equal(pixels_of(path, frame), want)
    assert pixels_of(path, 1, spacing=0.5).shape == (24, 10)


def test_spacing_makes_pixels_square(path):
    stored = np.repeat([[0, 255]], 4, axis=0).astype(np.uint8)
    save_dicom(path, stored, PixelSpacing=[0.5, 2.0], WindowCenter=128, WindowWidth=256)
    assert pixels_of(path, spacing=1.0).shape == (2, 4)
    save_dicom(path, stored)
    with pytest.raises(UnreadableImageError, match="size of its pixels"):
        pixels_of(path, spacing=1.0)
    save_dicom(path, stored, PixelSpacing=[9000, 9000])
    with pytest.raises(UnreadableImageError, match="would need 36000 x 18000"):
        pixels_of(path, spacing=1.0)


@pytest.fixture
def study(tmp_path, rng):
    """Class folders of 24 files: 12 patients of 2 files; patients 0, 2, ... are of class a."""
    root = tmp_path / "study"
    for number in range(24):
        patient = number // 2
        save_dicom(
            root / "ab"[patient % 2] / f"IM{number:04}",
            rng.integers(0, 4096, (8, 8), dtype=np.uint16),
            PatientID=f"MRN-{patient:07}",
            PatientName=f"Surname{patient}^Given",
        )
    return DataConfig(name="dicom", path=str(root), image_size=8)


def test_class_folders_are_split_by_patient(study):
    sets = data.load(study)
    assert sum(len(split) for split in sets.values()) == 24
    groups = [set(split.groups) for split in sets.values()]
    assert len(set().union(*groups)) == sum(map(len, groups)) == 12
    for split in sets.values():
        for place, name in enumerate(split.ids):
            want = pixels_of(Path(study.path, name))
            assert np.array_equal(split.images.read(np.array([place]))[0, ..., 0], want)
            assert split.class_names[split.labels[place]] == name[0]


def test_no_identifying_text_stands_in_what_was_read(study):
    found = read_dicom(study)
    text = " ".join([*found.groups, *found.ids, *(str(values) for values in found.columns.values())])
    for patient in range(12):
        assert f"{patient:07}" not in text
    assert "MRN" not in text and "Surname" not in text and "Given" not in text
    assert found.columns == {}


def test_groups_depend_on_the_secret_key(study, monkeypatch):
    plain = read_dicom(study).groups
    monkeypatch.setenv("TTL_JAX_PATIENT_KEY", "s3cret")
    keyed = read_dicom(study).groups
    assert len(set(plain)) == len(set(keyed)) == 12 and not set(plain) & set(keyed)
    assert [list(plain).index(group) for group in plain] == [list(keyed).index(group) for group in keyed]


@pytest.mark.parametrize("name", ["MRN-77120431_1.dcm", "mrn77120431.dcm", "featherstone-3.dcm"])
def test_file_names_with_the_patient_in_them_are_hashed(tmp_path, rng, capsys, name):
    for folder, file in (("a", name), ("b", "IM1.dcm")):
        save_dicom(tmp_path / "set" / folder / file, rng.integers(0, 9, (4, 4), dtype=np.uint8))
    found = read_dicom(DataConfig(name="dicom", path=str(tmp_path / "set")))
    assert found.ids[1] == "b/IM1.dcm" and found.ids[0].startswith("file-")
    assert "1 file names hold the patient's number or name" in capsys.readouterr().out


def test_files_without_a_patient_need_another_group(study, tmp_path, rng):
    save_dicom(tmp_path / "study" / "a" / "x.dcm", rng.integers(0, 9, (4, 4), dtype=np.uint8), PatientID="")
    with pytest.raises(UserError, match="x.dcm has no PatientID.*StudyInstanceUID"):
        read_dicom(study)
    assert len(set(read_dicom(replace(study, group="StudyInstanceUID")).groups)) == 25
    assert len(set(read_dicom(replace(study, group="file")).groups)) == 25
    with pytest.raises(UserError, match="'PatientId' is no DICOM keyword.*'PatientID'"):
        read_dicom(replace(study, group="PatientId"))


@pytest.mark.parametrize("compressed", [False, True])
def test_frames_are_examples_of_one_patient(tmp_path, rng, compressed):
    stacks = {}
    for name in "ab":
        stacks[name] = rng.integers(0, 256, (7, 8, 8), dtype=np.uint8)
        made = make_dicom(stacks[name], NumberOfFrames=7, WindowCenter=128, WindowWidth=256)
        if compressed:
            made.compress(RLELossless)
        (tmp_path / name).mkdir()
        made.save_as(tmp_path / name / "cine.dcm", enforce_file_format=True)
    config = DataConfig(name="dicom", path=str(tmp_path))
    found = read_dicom(config)
    assert found.ids[:2].tolist() == ["a/cine.dcm#0000", "a/cine.dcm#0001"] and len(found.ids) == 14
    assert len(set(found.groups)) == 1 and found.labels.tolist() == [0] * 7 + [1] * 7
    for place, picture in enumerate(found.images):
        want = linear(stacks["ab"[place // 7]][place % 7].astype(float), 128, 256)
        assert np.array_equal(np.asarray(picture.read()), want)
    for text, frames in (("middle", [3]), ("3", [1, 3, 5]), ("9", list(range(7)))):
        chosen = read_dicom(replace(config, slices=text)).images
        assert [picture.frame for picture in chosen] == frames * 2
    volumes = read_dicom(replace(config, slices="volume"))
    assert volumes.ids.tolist() == ["a/cine.dcm", "b/cine.dcm"]
    for stack, name in zip(volumes.images, "ab", strict=True):
        got = decode(stack, Geometry(8, depth=7))
        assert np.array_equal(got[..., 1], linear(stacks[name].astype(float), 128, 256))
    with pytest.raises(UserError, match="data.slices='first'"):
        read_dicom(replace(config, slices="first"))


def test_a_table_of_dicom_files(study, tmp_path):
    rows = [f"{'ab'[n // 2 % 2]}/IM{n:04},{'xy'[n % 2]},p{n // 3}" for n in range(24)]
    (tmp_path / "t.csv").write_text("\n".join(["image,label,who", *rows]))
    config = replace(study, path=str(tmp_path / "t.csv"), root=study.path)
    found = read_dicom(config)
    assert found.class_names == ("x", "y") and len(set(found.groups)) == 12
    assert all(group.startswith("patient-") for group in found.groups)
    assert read_dicom(replace(config, group="who")).groups.tolist() == [f"p{n // 3}" for n in range(24)]


def test_files_that_are_no_images(path, tmp_path, rng):
    path.write_bytes(b"hello")
    with pytest.raises(UnreadableImageError, match="not a DICOM file"):
        read_header(path)
    made = make_dicom(rng.integers(0, 9, (4, 4), dtype=np.uint8))
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(made, keyword)
    made.save_as(path, enforce_file_format=True)
    with pytest.raises(UnreadableImageError, match="holds no image"):
        read_header(path)
    save_dicom(path, rng.integers(0, 9, (64, 64), dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(UnreadableImageError, match="cannot be decoded"):
        pixels_of(path)
    with pytest.raises(UnreadableImageError, match="does not exist"):
        pixels_of(tmp_path / "none.dcm")


def test_a_damaged_file_is_named_or_skipped(study, tmp_path):
    (tmp_path / "study" / "a" / "bad.dcm").write_bytes(b"hello")
    with pytest.raises(UserError, match="a/bad.dcm is not a DICOM file .*on_error=skip"):
        data.load(study)
    sets = data.load(replace(study, on_error="skip"))
    assert sum(len(split) for split in sets.values()) == 24 and len(sets["train"].skipped) == 1


@pytest.mark.parametrize("fields", [{}, {"folds": 3}, {"train_share": 0.5}])
def test_the_split_does_not_depend_on_the_secret_key(study, monkeypatch, fields):
    def split(key):
        monkeypatch.setenv("TTL_JAX_PATIENT_KEY", key)
        sets = data.load(replace(study, **fields))
        return {
            name: sorted(map(pixel_sum, range(len(part)), [part] * len(part))) for name, part in sets.items()
        }

    def pixel_sum(place, part):
        return int(part.images.read(np.array([place])).astype(np.int64).sum()), int(part.labels[place])

    plain = split("")
    assert all(split(key) == plain for key in ("s3cret", "another", "third"))


def test_one_patient_everywhere_is_said(tmp_path, rng):
    for label in "ab":
        for number in range(6):
            pixels = rng.integers(0, 4000, (8, 8), dtype=np.uint16)
            save_dicom(tmp_path / "set" / label / f"{number}.dcm", pixels, PatientID="ANONYMOUS")
    config = DataConfig(name="dicom", path=str(tmp_path / "set"), image_size=16)
    with pytest.raises(UserError, match="all 12 images .* one PatientID.*data.group=StudyInstanceUID"):
        data.load(config)
    assert sum(map(len, data.load(replace(config, group="StudyInstanceUID")).values())) == 12
    pixels = rng.integers(0, 4000, (8, 8), dtype=np.uint16)
    save_dicom(tmp_path / "set" / "a" / "other.dcm", pixels, PatientID="P2")
    with pytest.raises(UserError, match="has no images.*more groups .data.group; 12 of 13 images are of one"):
        data.load(config)
    (tmp_path / "set" / "a" / "other.dcm").unlink()
    by_file = data.load(replace(config, group="file"))
    (tmp_path / "set").rename(tmp_path / "moved")
    moved = data.load(replace(config, group="file", path=str(tmp_path / "moved")))
    assert {name: part.ids.tolist() for name, part in by_file.items()} == {
        name: part.ids.tolist() for name, part in moved.items()
    }


@pytest.mark.parametrize(("signed", "bits"), [(True, 16), (True, 12), (False, 16)])
def test_padding_of_the_other_sign_is_the_same_bits(path, signed, bits):
    stored = np.array([[-2000, 0, 50], [100, 200, -2000]])
    pixels = (stored if signed else np.where(stored < 0, 63536, stored)).astype("i2" if signed else "u2")
    made = make_dicom(pixels, BitsStored=bits)
    made.add_new("PixelPaddingValue", "US" if signed else "SS", -2000 % 2**bits if signed else -2000)
    made.save_as(path, enforce_file_format=True)
    assert pixels_of(path).tolist() == [[0, 0, 64], [128, 255, 0]]


@pytest.mark.parametrize(
    ("given", "slope", "intercept"),
    [
        ({"RescaleIntercept": -1024}, 1, -1024), ({"RescaleSlope": 2}, 2, 0),
        ({"RescaleSlope": None, "RescaleIntercept": None}, 1, 0),
        ({"RescaleSlope": None, "RescaleIntercept": -50}, 1, -50),
        ({"ModalityLUTSequence": None, "VOILUTSequence": None, "WindowCenter": None, "PixelSpacing": None,
          "PixelPaddingValue": None, "RescaleIntercept": -3}, 1, -3),
    ],
)  # fmt: skip
def test_what_is_missing_or_empty_of_the_rescaling_changes_nothing(path, given, slope, intercept):
    ramp = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (4, 1))
    save_dicom(path, ramp, **given)
    want = np.rint((((ramp * float(slope) + intercept) - 40) / 400 + 0.5).clip(0, 1) * 255)
    assert np.array_equal(pixels_of(path, window="40/400"), want)


@pytest.mark.parametrize("slope", ["nan", "1e400"])
def test_a_slope_that_is_no_number_is_a_fault(path, slope):
    made = make_dicom(np.eye(4, dtype=np.uint16))
    made.add_new("RescaleSlope", "LO", slope)
    made.save_as(path, enforce_file_format=True)
    with pytest.raises(UnreadableImageError, match="has the rescale slope|cannot be decoded"):
        pixels_of(path)


@pytest.mark.parametrize("center", [2000, 3000])
def test_a_window_in_stored_values_beside_a_small_slope(path, center):
    stored = np.tile(np.linspace(0, 4000, 64).astype(np.uint16), (4, 1))
    rescale = {"RescaleSlope": 0.01, "RescaleIntercept": 0}
    save_dicom(path, stored, WindowCenter=center, WindowWidth=1500, **rescale)
    want = np.rint(((stored - float(center)) / 1500 + 0.5).clip(0, 1) * 255)
    assert np.array_equal(pixels_of(path), want)
    # Positron emission alone has such a slope of its own in a slice without activity.
    save_dicom(path, stored, WindowCenter=center, WindowWidth=1500, Modality="PT", **rescale)
    assert pixels_of(path).max() <= 1
    # A window of modality values is one.
    save_dicom(path, stored, WindowCenter=20, WindowWidth=30, **rescale)
    assert np.array_equal(pixels_of(path), linear(stored * 0.01, 20, 30))


def test_a_palette_of_eight_bits_in_entries_of_sixteen(path):
    index = np.array([[0, 1], [2, 1]], np.uint8)
    colours = np.array([[0, 255, 30], [200, 0, 60], [7, 0, 90]], np.uint16)
    lut = {f"{name}PaletteColorLookupTable{part}": value
           for name, channel in zip(("Red", "Green", "Blue"), colours, strict=True)
           for part, value in (("Descriptor", [3, 0, 16]), ("Data", channel.tobytes()))}  # fmt: skip
    save_dicom(path, index, PhotometricInterpretation="PALETTE COLOR", **lut)
    assert np.array_equal(pixels_of(path), colours.T[index])


@pytest.mark.parametrize("name", ["image_dfl.dcm", "SC_rgb_jpeg.dcm"])
def test_files_of_pydicom(name):
    from pydicom.data import get_testdata_file

    path = Path(get_testdata_file(name, download=False))
    assert np.array_equal(pixels_of(path), dcmread(path).pixel_array)


def test_jpeg_of_twelve_bits():
    pytest.importorskip("gdcm")
    from pydicom.data import get_testdata_file

    pixels = pixels_of(Path(get_testdata_file("JPGExtended.dcm", download=False)))
    # pydicom's tests/pixels/pixels_reference.py has 244 and 95 there; the range is 0 to 264
    assert (pixels[420, 140], pixels[230, 120]) == (round(244 / 264 * 255), round(95 / 264 * 255))


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("mark", [True, False])
def test_a_file_without_mark_or_transfer_syntax(path, rng, implicit, mark):
    stored = rng.integers(0, 4096, (9, 7), dtype=np.uint16)
    made = make_dicom(stored)
    want = np.rint((stored - stored.min()) / np.ptp(stored) * 255)
    del made.file_meta
    made.save_as(path, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    if mark:
        path.write_bytes(bytes(128) + b"DICM" + path.read_bytes())
    assert read_header(path).frames == 1
    np.testing.assert_allclose(pixels_of(path), want, atol=0.5001)
    bare = path.with_name("IM0001")
    bare.write_bytes(path.read_bytes())
    assert DICOM.accepts(bare)


def test_an_enhanced_file_has_its_windows_where_the_rescaling_is_half(path, rng):
    stored = rng.integers(0, 1000, (2, 6, 4), dtype=np.uint16)
    groups = functional_groups(2)
    for frame in groups["PerFrameFunctionalGroupsSequence"]:
        del frame.PixelValueTransformationSequence[0].RescaleSlope
    save_dicom(path, stored, NumberOfFrames=2, **groups)
    for frame in (0, 1):
        assert np.array_equal(pixels_of(path, frame), linear(stored[frame] - 5.0, 100 * (1 + frame), 200))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("left", [False, True])
def test_twelve_bits_in_the_upper_ones_of_sixteen(path, rng, signed, left):
    """As HighBit says (retired); where the lower bits are used all the same, it is HighBit that is wrong."""
    kind = np.int16 if signed else np.uint16
    values = rng.integers(-2048 if signed else 0, 2048, (8, 8)).astype(kind)
    save_dicom(path, values, BitsStored=12)
    want = pixels_of(path)
    made = make_dicom(values << 4 if left else values | 1, BitsStored=12)
    made.HighBit = 15
    made.save_as(path, enforce_file_format=True)
    np.testing.assert_allclose(pixels_of(path), want, atol=0 if left else 1)


@pytest.mark.parametrize("kind", ["HSV", "ARGB", "CMYK"])
def test_colour_of_a_retired_kind_is_refused(path, rng, kind):
    save_dicom(path, rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), PhotometricInterpretation=kind)
    with pytest.raises(UnreadableImageError, match=f"photometric interpretation {kind}, which is not"):
        pixels_of(path)
