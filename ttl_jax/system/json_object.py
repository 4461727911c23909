"""Files that hold a JSON object, read with one sentence for whatever is wrong with them."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ttl_jax.errors import UserError


def read_object(path: Path, remedy: str = "", **kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """Reads a file that holds a JSON object.

    Args:
        path: the file.
        remedy: what to do where it is damaged.
        kinds: fields that it must have, and of which type, as config=dict.

    Raises:
        UserError: it is not readable as that.
    """
    after = f"; {remedy}" if remedy else ""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} is not readable ({error.strerror}){after}") from None
    except RecursionError:
        raise UserError(f"{path} is not readable JSON: it is nested too deep{after}") from None
    except ValueError as error:
        raise UserError(f"{path} is not readable JSON: {error}{after}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds a {type(value).__name__}, not a JSON object{after}")
    check_fields(path, value, after, **kinds)
    return value


@contextmanager
def readable_folder(folder: object) -> Iterator[None]:
    """Says of a folder whose files are not what this version writes that it cannot be read.

    For readers that look at many fields of many files, which others may have written or damaged.

    Raises:
        UserError: instead of what a missing or odd field makes Python raise.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"{folder} cannot be read: a file in it is damaged or of another version "
            f"({error!r} at {Path(place.filename).name}:{place.lineno}); put back its own, or make it again"
        ) from error


def check_fields(
    where: object, value: Mapping[str, Any], after: str = "", **kinds: type | tuple[type, ...]
) -> None:
    """Raises UserError unless an object has these fields, of these types."""
    for name, kind in kinds.items():
        if name not in value:
            raise UserError(f"{where} is damaged: it has no {name!r}{after}")
        if not isinstance(value[name], kind):
            raise UserError(f"{where} is damaged: {name!r} is a {type(value[name]).__name__}{after}")
