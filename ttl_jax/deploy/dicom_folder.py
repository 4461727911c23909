"""A folder of answers to DICOM files, one file for each object, called as its SOP Instance UID."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttl_jax.data.images.decode import UnreadableImageError, reason
from ttl_jax.deploy.dicom_answer import DicomAnswerer
from ttl_jax.errors import UserError
from ttl_jax.system import remote
from ttl_jax.system.whole_file import whole_file

if TYPE_CHECKING:
    from pydicom import Dataset


class AnswerFolder:
    """Answers, written where they are not there yet: the same source and run give the same files.

    Args:
        answerer: what makes them.
        folder: where to; it is made.
        images: paths that are predicted, of which none may hold the folder.

    Raises:
        UserError: a folder that cannot be written to, or within the images.
    """

    def __init__(self, answerer: DicomAnswerer, folder: str, images: Sequence[str] = ()) -> None:
        self.answerer, self.path = answerer, writable(folder)
        for each in images:
            here = Path(each)
            if here.is_dir() and self.path.resolve().is_relative_to(here.resolve()):
                raise UserError(
                    f"--dicom_out={folder} lies within the images, {each}: name a folder beside it"
                )

    def add(self, source: Any, rows: Sequence[dict[str, Any]]) -> None:
        """Answer to one entry: write what is missing; its rows get the names, or why there are none."""
        read = [row for row in rows if "error" not in row]
        if not read:
            return
        try:
            if len(read) < len(rows):
                lost = f"has frames that cannot be read, {len(rows) - len(read)} of {len(rows)}"
                raise UnreadableImageError(f"{lost}: a report of the others would pass for one of the file")
            answer = self.answerer(source, rows)
            for uid, make in answer.objects:
                if not (place := self.path / f"{uid}.dcm").exists():
                    save(make(), place)
            for row, (uid, _) in zip(rows, answer.overlays, strict=True):
                row |= {"report": f"{answer.report[0]}.dcm", "overlay": f"{uid}.dcm"}
        except UnreadableImageError as error:
            _fail(read, str(error))
        except UserError:
            raise
        except Exception as error:  # what is odd in one file is not the reason why all others have no answer
            _fail(read, f"could not be answered to ({reason(error)})")

    def __len__(self) -> int:
        return sum(1 for _ in self.path.glob("*.dcm"))


def writable(folder: str) -> Path:
    """The folder, made where it is missing.

    Raises:
        UserError: in a bucket, no folder, or one that may not be written to.
    """
    if remote.is_remote(folder):
        raise UserError(f"{folder} lies in a bucket: DICOM objects are written to a folder of this machine")
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); name another folder") from None
    if not os.access(path, os.W_OK):
        raise UserError(f"{folder} may not be written to; name another folder")
    return path


def save(made: Dataset, place: Path) -> None:
    """Write an object as a whole: a file of this name is there, or it is not.

    Raises:
        UserError: it cannot be written.
    """
    try:
        with whole_file(place) as beside:
            made.save_as(beside, enforce_file_format=True)
    except OSError as error:
        raise UserError(f"{place} cannot be written ({error.strerror or error})") from None


def _fail(rows: Sequence[dict[str, Any]], why: str) -> None:
    for row in rows:
        row["dicom_error"] = why
