"""An image under the map of what spoke for its class, as a DICOM Secondary Capture (PS3.3, A.8.1)."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from ttl_jax.analysis.overlay import overlay
from ttl_jax.data.images.decode import Geometry
from ttl_jax.deploy.dicom_report import RESEARCH
from ttl_jax.deploy.dicom_source import equipment, inherit, instance_number
from ttl_jax.typing import Float, UInt8

if TYPE_CHECKING:
    from pydicom import Dataset

SERIES = 9002
SIDES = 256, 2048  # of a picture's longer side: smaller ones are enlarged, larger ones are reduced
_LETTERS = "LR", "PA", "HF"  # towards larger and smaller x, y and z of the patient (PS3.3, C.7.6.2.1.1)
_KEPT = (
    "Laterality", "ImageLaterality", "BurnedInAnnotation", "RecognizableVisualFeatures",
    "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip


def secondary_capture(
    source: Dataset,
    words: Sequence[str],
    image: UInt8[np.ndarray, "h w 3"],
    heat: Float[np.ndarray, "h w"],
    caption: Sequence[str],
    frame: int | None,
) -> Dataset:
    """Make the overlay of one image.

    Pixels that the map leaves alone are the source's. The caption stands below the image, not on it.

    Args:
        source: the file's header.
        words: what the instance is made from, see `equipment`.
        image: as a viewer shows it, at its own size.
        heat: the map at the same size, see `on_source`.
        caption: lines that say what the map is of; RESEARCH stands above them.
        frame: the frame of a file with several, from 0.
    """
    from highdicom.sc import SCImage

    shown, factor = sized(image, heat)
    spacing = _spacing(source)
    made = SCImage(
        captioned(shown, (RESEARCH, *caption)),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),  # put right below: oblique ones have several letters, some have none
        study_instance_uid=str(source.StudyInstanceUID),
        pixel_spacing=None if spacing is None else (spacing[0] * factor[0], spacing[1] * factor[1]),
        **equipment(
            "overlay",
            *words,
            number=SERIES,
            instance=instance_number(source) if frame is None else frame + 1,
        ),
    )
    made.PatientOrientation = _orientation(source)
    made.DerivationDescription = ". ".join((RESEARCH, *caption))
    made.SourceImageSequence = [_referred(source, frame)]
    if "ImageLaterality" not in source:
        made.Laterality = ""  # empty where the source does not tell
    for keyword in _KEPT:
        if keyword in source:
            made[keyword] = source[keyword]
    inherit(made, source)
    return made


def on_source(
    heat: Float[np.ndarray, "a b"], geometry: Geometry, seen: tuple[int, int], size: tuple[int, int]
) -> Float[np.ndarray, "h w"]:
    """Bring a map over a network's image back to the image that was fitted to it; 0 where it was cut off.

    Args:
        heat: the map over the network's square.
        geometry: how the image was fitted.
        seen: height and width of the image that was fitted.
        size: height and width wanted; the same image at another resolution.
    """
    from PIL import Image

    flat = Image.fromarray(heat.astype(np.float32))
    (height, width), bilinear = seen, Image.Resampling.BILINEAR
    large = np.zeros(size, np.float32)
    if geometry.resize == "crop":
        share = min(seen) / height, min(seen) / width
        rows, columns = (_middle(whole, part) for whole, part in zip(size, share, strict=True))
        inner = flat.resize((columns.stop - columns.start, rows.stop - rows.start), bilinear)
        large[rows, columns] = np.asarray(inner)
        return large
    box = (0.0, 0.0, float(flat.width), float(flat.height))
    if geometry.resize == "pad":
        across, down = width / max(seen) * flat.width, height / max(seen) * flat.height
        left, top = (flat.width - across) / 2, (flat.height - down) / 2
        box = (left, top, left + across, top + down)
    large[:] = np.asarray(flat.resize((size[1], size[0]), bilinear, box=box))
    return large


def sized(
    image: UInt8[np.ndarray, "h w 3"], heat: Float[np.ndarray, "h w"]
) -> tuple[UInt8[np.ndarray, "high wide 3"], tuple[float, float]]:
    """The overlay at a size that can be read and sent, and how many source pixels one of its pixels is."""
    from PIL import Image

    longer, (least, most) = max(image.shape[:2]), SIDES
    if longer > most:
        size = tuple(max(1, round(side * most / longer)) for side in image.shape[1::-1])
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
        heat = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BOX))
        return overlay(image, heat), (longer / most, longer / most)
    times = -(-least // longer)
    shown = overlay(image, heat).repeat(times, axis=0).repeat(times, axis=1)
    return shown, (1 / times, 1 / times)


def captioned(image: UInt8[np.ndarray, "h w 3"], lines: Sequence[str]) -> UInt8[np.ndarray, "high wide 3"]:
    """The image with lines of white text, folded where they are long, in a black band below it."""
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    height, width = image.shape[:2]
    wide = max(width, SIDES[0])
    path, letters = font_manager.findfont("DejaVu Sans"), max(11, wide // 25)
    folded = [part for line in lines for part in wrap(line, int(wide / letters / 0.6))]
    longest = max(ImageFont.truetype(path, 100).getlength(part) / 100 for part in folded)
    letters = min(letters, int((wide - 8) / longest))
    font, step = ImageFont.truetype(path, letters), round(letters * 1.4)
    canvas = Image.new("RGB", (wide, height + step * len(folded) + 4))
    canvas.paste(Image.fromarray(image))
    draw = ImageDraw.Draw(canvas)
    for number, part in enumerate(folded):
        draw.text((4, height + 2 + number * step), part, fill="white", font=font)
    return np.asarray(canvas)


def _middle(whole: int, share: float) -> slice:
    part = max(1, round(whole * share))
    return slice((whole - part) // 2, (whole - part) // 2 + part)


def _spacing(source: Dataset) -> tuple[float, float] | None:
    """Millimetres between rows and columns that the image is calibrated to."""
    holder = source
    groups = source.get("SharedFunctionalGroupsSequence")
    if groups and groups[0].get("PixelMeasuresSequence"):
        holder = groups[0].PixelMeasuresSequence[0]
    value = holder.get("PixelSpacing")
    return None if value is None or len(value) != 2 else (float(value[0]), float(value[1]))


def _orientation(source: Dataset) -> list[str]:
    """Directions of rows and columns in the patient; empty where the source does not tell."""
    cosines = source.get("ImageOrientationPatient")
    if cosines is None or len(cosines) != 6:
        return list(source.get("PatientOrientation") or [])
    told = []
    for vector in (cosines[:3], cosines[3:]):
        axes = sorted(range(3), key=lambda axis: -abs(float(vector[axis])))
        told.append("".join(_LETTERS[axis][vector[axis] < 0] for axis in axes if abs(vector[axis]) > 0.1))
    return told


def _referred(source: Dataset, frame: int | None) -> Dataset:
    """An item of Source Image Sequence."""
    from pydicom import Dataset
    from pydicom.sr.codedict import codes

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame + 1
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    coded = Dataset()
    coded.CodeValue, coded.CodingSchemeDesignator, coded.CodeMeaning = purpose[:3]
    item.PurposeOfReferenceCodeSequence = [coded]
    return item
