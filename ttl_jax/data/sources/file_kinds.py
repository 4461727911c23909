"""Files that a source accepts, by their endings or by a look inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ttl_jax.data.images.decode import ENDINGS


@dataclass(frozen=True)
class FileKind:
    """Kind of file that a source reads.

    Attributes:
        noun: Name of such a file in messages.
        endings: File endings in lower case, with their dots.
        source: Value of data.name that reads such files.
        bare: Returns True if a file without ending is of this kind. None accepts no such file.
    """

    noun: str
    endings: tuple[str, ...]
    source: str
    bare: Callable[[Path], bool] | None = None

    def accepts(self, file: Path) -> bool:
        """Return True if the source reads this file."""
        if file.name.lower().endswith(self.endings):
            return True
        # Scanners number their files: IM0001, or 1.2.840.113619.2.55
        bare = not file.suffix or file.suffix[1:].isdigit()
        return bool(bare and self.bare and self.bare(file))

    def stem(self, name: str) -> str | None:
        """Return the name without its ending; None for a name of another kind."""
        for ending in sorted(self.endings, key=len, reverse=True):
            if name.lower().endswith(ending):
                return name[: -len(ending)]
        return None


def _looks_like_dicom(file: Path) -> bool:
    """Return True if "DICM" follows the 128 bytes of the preamble, or the file begins as without one.

    DICOM PS3.10, 7.1; without preamble the first attribute is one of group 2 or 8, whose number is low.
    """
    try:
        if not file.is_file() or file.name == "DICOMDIR":
            return False
        with file.open("rb") as opened:
            head = opened.read(132)
        first = head[:2] in (b"\x02\0", b"\x08\0") and head[2:3] <= b"\x20" and head[3:4] == b"\0"
        return head[128:] == b"DICM" or (first and len(head) == 132)
    except OSError:
        return False


IMAGES = FileKind("image", ENDINGS, "folder")
DICOM = FileKind("DICOM file", (".dcm", ".dicom", ".ima"), "dicom", _looks_like_dicom)
NIFTI = FileKind("NIfTI file", (".nii", ".nii.gz"), "nifti")
KINDS = (IMAGES, DICOM, NIFTI)
