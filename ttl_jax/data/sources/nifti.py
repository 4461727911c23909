"""NIfTI volumes in class folders or named in a table, whole or cut into slices.

Volumes are turned to RAS+ (first axis to the patient's right, second to the front, third to the head)
and slices shown as a radiologist sees them: the patient's right on the left, the front or the head on
top; in sagittal slices the front is on the left.
"""

from __future__ import annotations

import gzip
import logging
import re
import threading
import zlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ttl_jax.config.data import DataConfig
from ttl_jax.data.images.decode import ImageSource, UnreadableImageError, reason
from ttl_jax.data.images.limits import check_pixels, check_unpacked
from ttl_jax.data.sources.csv_table import read_table
from ttl_jax.data.sources.file_kinds import NIFTI
from ttl_jax.data.sources.folder import read_folder
from ttl_jax.data.sources.frames import Unreadable, check_slices, examples_of, in_millimetres
from ttl_jax.data.sources.listing import TABLE, Listing, source
from ttl_jax.data.sources.window import PERCENTILES, Window, parse_window, spread, to_bytes
from ttl_jax.errors import UserError, nearest
from ttl_jax.typing import UInt8

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image
    from PIL.Image import Image

PLANES = {"sagittal": 0, "coronal": 1, "axial": 2}  # the RAS axis that a plane's slices follow
MAX_VOXELS = 1_000_000_000  # 1000 slices of 1000 x 1000; a header may claim more than any memory holds
_SUBJECT = re.compile(r"(?:^|[/_])(sub-[A-Za-z0-9]+)")


@dataclass(frozen=True)
class Volume:
    """A volume in RAS+.

    Attributes:
        voxels: Windowed gray values, uint8 (X, Y, Z).
        millimetres: Size of a voxel along each axis.
    """

    voxels: UInt8[np.ndarray, "X Y Z"]
    millimetres: tuple[float, float, float]

    def slice(self, plane: str, number: int) -> UInt8[np.ndarray, "H W"]:
        """One slice, counted from the patient's left, back or feet."""
        cut = np.take(self.voxels, number, axis=PLANES[plane])
        return cut[::-1, ::-1].T

    def pixel(self, plane: str) -> tuple[float, float]:
        """Height and width of a slice's pixel in millimetres."""
        width, height = (side for axis, side in enumerate(self.millimetres) if axis != PLANES[plane])
        return height, width


@dataclass(frozen=True)
class NiftiSlice:
    """One slice of a NIfTI volume as a Picture.

    Attributes:
        path: The file.
        plane: One of PLANES.
        number: Number of the slice, from the patient's left, back or feet.
        window: Output of `parse_window`.
        spacing: Millimetres per pixel to scale to; 0 leaves the voxels as stored.
    """

    path: Path
    plane: str
    number: int
    window: Window | str
    spacing: float

    def read(self) -> Image:
        """The slice as "L".

        Raises:
            UnreadableImageError: missing, damaged, not one volume, or with NaN.
        """
        from PIL import Image

        volume = read_volume(self.path, self.window)
        image = Image.fromarray(np.ascontiguousarray(volume.slice(self.plane, self.number)))
        return in_millimetres(image, volume.pixel(self.plane), self.spacing)


@source("nifti", *TABLE, "window", "slices", "depth", "spacing", "plane")
def read_nifti(config: DataConfig) -> Listing:
    """List NIfTI files; each slice is an example (see `data.slices`, `data.plane`).

    Groups are the table's column, else the subject of a BIDS name (sub-01_..., Gorgolewski et al.
    2016), else the file: slices of one volume never straddle splits.

    Args:
        config: Reads path (a folder of class folders, or a table), group, window, slices, plane and spacing;
            for a table also root, image, label and split.

    Raises:
        UserError: nibabel is not installed, a field makes no sense, or a fault of the folder or the
            table.
    """
    try:
        import nibabel  # noqa: F401
    except ImportError:
        raise UserError("data.name=nifti needs nibabel: pip install 'ttl-jax[nifti]'") from None
    window = parse_window(config.window)
    check_slices(config.slices)
    if config.plane not in PLANES:
        raise UserError(f"data.plane={config.plane!r} does not exist{nearest(config.plane, tuple(PLANES))}")
    table = not Path(config.path).is_dir()
    if config.group not in ("", "file", "folder") and not table:
        raise UserError(
            f"data.group={config.group!r} names a column, but {config.path} is a folder; list the volumes "
            "in a table, or leave data.group empty"
        )
    files = read_table(config, NIFTI) if table else read_folder(config.path, NIFTI, config.group)
    pictures: list[list[ImageSource]] = []
    for path in files.images:
        assert isinstance(path, Path)
        try:
            pictures.append(nifti_images(path, config.plane, config.slices, window, config.spacing))
        except UnreadableImageError as error:
            pictures.append([Unreadable.example(str(error), config.slices)])
    groups = files.groups
    if not (table and config.group):
        subjects = [_SUBJECT.search(name) for name in files.ids.tolist()]
        groups = np.array(
            [match[1] if match else own for match, own in zip(subjects, files.groups.tolist(), strict=True)]
        )
    return files.expand(pictures, groups)


def nifti_images(
    path: Path, plane: str, slices: str, window: Window | str, spacing: float
) -> list[ImageSource]:
    """List the images of a file: slices of a plane, or the volume; arguments are the fields of the config.

    Raises:
        UserError: nibabel is not installed.
        UnreadableImageError: missing, damaged, or not one volume.
    """
    try:
        import nibabel  # noqa: F401
    except ImportError:
        raise UserError(f"{path}: NIfTI needs nibabel: pip install 'ttl-jax[nifti]'") from None
    opened = _open(path)
    count = _shape(opened)[PLANES[plane]]
    millimetres = _millimetres(opened, plane, spacing)
    return examples_of(
        count, slices, lambda number: NiftiSlice(path, plane, number, window, spacing), millimetres
    )


def _millimetres(opened: Nifti1Image, plane: str, spacing: float) -> tuple[float, float, float]:
    """Return millimetres from slice to slice and a pixel's height and width (`spacing` if that is set)."""
    import nibabel

    sizes = nibabel.affines.voxel_sizes(opened.affine)
    axes = nibabel.orientations.io_orientation(opened.affine)[:, 0]
    along = {int(axis): float(size) for axis, size in zip(axes, sizes, strict=True)}
    width, height = (along[axis] for axis in range(3) if axis != PLANES[plane])
    return along[PLANES[plane]], spacing or height, spacing or width


_reading = threading.Lock()


def read_volume(path: Path, window: Window | str = "") -> Volume:
    """Return a whole volume, windowed; slices that are read one after the other share it.

    Raises:
        UnreadableImageError: missing, damaged, not one volume, or with NaN.
    """
    try:
        state = path.stat()
    except OSError:
        raise UnreadableImageError("does not exist") from None
    with _reading:  # or every thread would decompress the same volume
        volume = _try_volume(path, window, state.st_mtime_ns, state.st_size)
    if isinstance(volume, str):
        raise UnreadableImageError(volume)
    return volume


@lru_cache(maxsize=2)
def _try_volume(path: Path, window: Window | str, changed: int, size: int) -> Volume | str:
    """Return the volume, or the reason why it cannot be read, cached for all its slices."""
    try:
        return _read_volume(path, window)
    except UnreadableImageError as error:
        return str(error)


def _read_volume(path: Path, window: Window | str) -> Volume:
    import nibabel

    opened = _open(path)
    _shape(opened)
    try:
        # As nibabel.as_closest_canonical, which would scale all voxels in double precision.
        axes = nibabel.orientations.io_orientation(opened.affine)
        values = np.asarray(opened.get_fdata(dtype=np.float32, caching="unchanged"))
        values = nibabel.orientations.apply_orientation(values, axes)
        along = dict(zip(axes[:, 0].tolist(), nibabel.affines.voxel_sizes(opened.affine), strict=True))
        sides = [float(along[axis]) for axis in range(3)]
    except MemoryError:
        raise UnreadableImageError("has too many voxels for the memory") from None
    except Exception as error:  # damaged files make nibabel raise nearly anything
        raise UnreadableImageError(f"cannot be read as NIfTI ({reason(error)})") from None
    values = values.reshape(values.shape[:3])
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):  # NaN is the minimum where there is one
        raise UnreadableImageError("has voxels that are NaN or infinite")
    if not isinstance(window, Window):
        spread_window = spread(values, PERCENTILES if window == "percentile" else (0.0, 100.0))
        if spread_window is None:
            return Volume(np.zeros(values.shape, np.uint8), (sides[0], sides[1], sides[2]))
        window = spread_window
    voxels = np.empty(values.shape, np.uint8)
    for place, part in enumerate(values):  # in float64, a part at a time
        voxels[place] = to_bytes(window.apply(part))
    return Volume(voxels, (sides[0], sides[1], sides[2]))


def _open(path: Path) -> Nifti1Image:
    """Open the file's header, of NIfTI-1 or NIfTI-2; voxels are read later."""
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.imageglobals import logger

    logger.setLevel(logging.CRITICAL)  # a damaged header is said in one sentence, or mended

    if not path.exists():
        raise UnreadableImageError("does not exist")
    if not path.is_file():
        raise UnreadableImageError("is not a file")
    try:
        opened = nibabel.load(path)
        if not isinstance(opened, nibabel.Nifti1Image):  # NIfTI-2's is one of them
            raise UnreadableImageError(f"is not a NIfTI image ({type(opened).__name__})")
        return opened
    except UnreadableImageError:
        raise
    except (ImageFileError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableImageError(f"is not a NIfTI file ({reason(error)})") from None
    except Exception as error:  # damaged headers make nibabel raise nearly anything
        raise UnreadableImageError(f"cannot be read as NIfTI ({reason(error)})") from None


def _shape(opened: Nifti1Image) -> tuple[int, int, int]:
    """Return the number of voxels along R, A and S."""
    import nibabel

    shape = tuple(int(side) for side in opened.shape)
    if len(shape) < 3 or min(shape) < 1:
        raise UnreadableImageError(f"has the shape {shape}, which is no volume")
    if np.prod(shape[3:]) > 1:
        raise UnreadableImageError(f"holds {np.prod(shape[3:])} volumes; save the one to be used")
    if np.prod([float(side) for side in shape]) > MAX_VOXELS:
        raise UnreadableImageError(f"claims {' x '.join(map(str, shape))} voxels")
    for width, height in combinations(shape[:3], 2):
        check_pixels(width, height, 1)
    kind = opened.get_data_dtype()
    if kind.kind not in "iuf":
        raise UnreadableImageError(f"has voxels of type {kind}, which are no grays")
    path = Path(str(opened.get_filename()))
    needed = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if path.suffix == ".gz":
        check_unpacked(needed * 4 // min(4, kind.itemsize), path.stat().st_size)  # in single precision
    elif path.stat().st_size < needed:
        raise UnreadableImageError(f"is cut off: {needed} bytes of voxels do not fit into the NIfTI file")
    try:
        axes = nibabel.orientations.io_orientation(opened.affine)[:, 0]
    except Exception as error:
        raise UnreadableImageError(f"has a damaged orientation ({reason(error)})") from None
    if not np.isfinite(axes).all():
        raise UnreadableImageError("has a damaged orientation (an axis of no length)")
    along = {int(axis): side for axis, side in zip(axes, shape[:3], strict=True)}
    return along[0], along[1], along[2]
