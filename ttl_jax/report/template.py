"""Pages of HTML from the templates of this folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def fill(template: str, **values: Any) -> str:
    """A page's HTML: a template of this folder with its variables; one that is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def write_page(path: str | Path, page: str) -> Path:
    """Write a page; it appears whole or not at all."""
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        beside.write_text(page, encoding="utf-8")
        os.replace(beside, place)
    finally:
        beside.unlink(missing_ok=True)
    return place
