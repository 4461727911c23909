"""Module paths of ours -> those of the code that came with a paper, as data (see torchvision.py)."""

from __future__ import annotations

Rules = tuple[tuple[str, str], ...]

# sun-umn/TTL, utils/CBR.py
CBR: Rules = (
    (r"stage(\d+)/conv", "CBR{1}.conv"),
    (r"stage(\d+)/norm", "CBR{1}.bn"),
    (r"head", "fc"),
)

PAPERS: dict[str, Rules] = {
    **dict.fromkeys(("cbr_larget", "cbr_largew", "cbr_small", "cbr_tiny"), CBR),
}
