"""Public data sets in the layout that their owners publish, one reader each.

A reader takes the folder that the owner's files were unpacked to (data.path) and returns a Listing;
`python -m ttl_jax prepare` writes any of them as ArrayRecord. Nothing is downloaded: most owners ask
for an account or a signature first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ttl_jax.data.published.bimcv import read_bimcv
from ttl_jax.data.published.busi import read_busi
from ttl_jax.data.published.chexpert import GROUPS, POLICIES, read_chexpert
from ttl_jax.data.published.cholec80 import read_cholec80
from ttl_jax.data.published.isic import read_isic2019, read_isic2020
from ttl_jax.data.published.kvasir import read_kvasir
from ttl_jax.data.published.lc25000 import read_lc25000
from ttl_jax.data.published.medmnist import MEDMNIST
from ttl_jax.data.published.midog import read_midog
from ttl_jax.data.published.radfusion import read_radfusion
from ttl_jax.data.published.tuberculosis import read_montgomery, read_shenzhen
from ttl_jax.data.sources.listing import Listing

BUILDERS: dict[str, Callable[[Path], Listing]] = {
    "bimcv_covid19": read_bimcv,
    "busi": read_busi,
    "chexpert": read_chexpert,
    **{
        f"chexpert/{uncertain}/{group}": partial(read_chexpert, uncertain=uncertain, group=group)
        for uncertain in POLICIES
        for group in GROUPS
    },
    "cholec80/phase": partial(read_cholec80, labels="phase"),
    "cholec80/tools": partial(read_cholec80, labels="tools"),
    "isic2019": read_isic2019,
    "isic2020": read_isic2020,
    "kvasir": read_kvasir,
    "lc25000": read_lc25000,
    **MEDMNIST,
    "midog": read_midog,
    "montgomery": read_montgomery,
    "radfusion": read_radfusion,
    "shenzhen": read_shenzhen,
}
