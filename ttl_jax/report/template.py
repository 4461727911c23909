"""Pages of HTML from the templates of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unicodedata import bidirectional

from ttl_jax.system.whole_file import whole_file

# Unicode's own (UAX 9): marks, embeddings, overrides, isolates.
_CONTROLS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FIRST_STRONG, _POP = "\u2068", "\u2069"


def fill(template: str, **values: Any) -> str:
    """A page's HTML: a template of this folder with its variables; one that is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=isolated,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def isolated(value: Any) -> Any:
    """Text of either direction that changes none around it; overrides of the direction stand as U+202E."""
    if not isinstance(value, str) or hasattr(value, "__html__") or value.isascii():
        return value
    shown = told_controls(value)
    turned = any(bidirectional(each) in ("R", "AL", "AN") for each in shown)
    return f"{_FIRST_STRONG}{shown}{_POP}" if turned else shown


def told_controls(text: str) -> str:
    """Text whose controls of direction stand as U+202E and so on."""
    return "".join(f"U+{ord(each):04X}" if each in _CONTROLS else each for each in text)


def write_page(path: str | Path, page: str) -> Path:
    """Write a page; it appears whole or not at all."""
    place = Path(path)
    with whole_file(place) as beside:
        beside.write_text(page, encoding="utf-8")
    return place
