"""The plan of every strategy of a comparison as a picture, for its report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ttl_jax.analysis.strategy_plan import plan
from ttl_jax.analysis.strategy_plan_picture import draw


def write_pictures(
    workdir: Path, settings: Sequence[dict[str, Any]], image_size: int
) -> list[dict[str, str]]:
    """Draws what is not there yet into WORKDIR/figures/strategies; says which picture is whose.

    Returns:
        {"strategy", "model", "path"} each, the path relative to the work folder.
    """
    pictures = []
    for each in {(each["strategy"], each["model"]): each for each in settings}.values():
        strategy, model = each["strategy"], each["model"]
        name = re.sub(r"[^A-Za-z0-9._+=]+", "-", f"{model}-{strategy}").strip("-")
        path = Path("figures") / "strategies" / f"{name}.svg"
        if not (workdir / path).exists():
            # two classes; without counting operations, for which every step would have to be traced
            text = each.get("written", strategy)
            draw(plan(text, model, image_size=image_size, count=False), (workdir / path,))
        pictures.append({"strategy": strategy, "model": model, "path": str(path)})
    return pictures
