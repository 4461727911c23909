"""Public data sets in the layout that their owners publish, one file each, which registers its sources.

A reader takes the folder that the owner's files were unpacked to (data.path) and returns a Listing;
`python -m ttl_jax prepare` writes any of them as ArrayRecord. Nothing is downloaded: most owners ask
for an account or a signature first.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__, f"{__name__}."):
    import_module(_module.name)
