"""Draws maps of what spoke for a class, and checks them."""

from __future__ import annotations

from pathlib import Path

from ttl_jax.commands.arguments import Parser
from ttl_jax.errors import UserError
from ttl_jax.system.compilation_cache import set_up_jax

SUMMARY = "maps of what spoke for a class, checked"

HELP = """usage: ttl-jax explain RUN [RUN ...] IMAGE [IMAGE ...] --out=DIR [...]
       ttl-jax explain RUN [RUN ...] --split=test --out=DIR [...]

Where in each image the evidence for a class is. DIR gets RUN/*.png (overlays),
RUN/*.npz (arrays), figure.png (a row for each image, a column for each run and
method), index.html and explain.json with the checks. Several runs stand side by
side. An IMAGE is a file, a folder, DICOM, NIfTI, a .npz or a table of names.

  --out=DIR                folder for what is written
  --method=grad_cam        some of grad_cam, grad_cam_pp, hires_cam, eigen_cam,
                           integrated_gradients, occlusion, FILE.py:NAME
  --unit=UNIT              unit to look at, by name or number; else the topmost
                           one with 4 x 4 places or more
  --class=CLASS            name or column (from 0); else the most probable class
                           of each image
  --masks=DIR              masks called as their images: how much of each map
                           lies within
  --checks=8               images that deletion, insertion and random weights
                           are tried on; 0 leaves them out
  --split=test             images of the runs' own data set instead of IMAGES
  --count=8                as many of them

examples:
  ttl-jax explain runs/skin-ttl photos/ --out=explained
  ttl-jax explain runs/full runs/layerwise runs/ttl x1.png x2.png --out=figure
  ttl-jax explain runs/skin-ttl photos/ --masks=masks/ \\
      --method=grad_cam,occlusion --out=checked
"""


def run(arguments: list[str]) -> None:
    """Draws maps of what spoke for a class, and checks them."""
    parser = Parser("explain")
    parser.add_argument("words", nargs="+", metavar="RUN")
    parser.add_argument("--out", required=True)
    parser.add_argument("--method", default="grad_cam")
    parser.add_argument("--unit")
    parser.add_argument("--class", dest="of")
    parser.add_argument("--masks", default="")
    parser.add_argument("--checks", type=int, default=8)
    parser.add_argument("--split", default="")
    parser.add_argument("--count", type=int, default=8)
    given = parser.parse_intermixed_args(arguments)
    for name, least in (("checks", 0), ("count", 1)):
        if getattr(given, name) < least:
            raise UserError(f"--{name}={getattr(given, name)} must be {least} or more")
    from ttl_jax.training.kept import is_run

    count = next((place for place, word in enumerate(given.words) if not is_run(word)), len(given.words))
    folders, images = given.words[: max(count, 1)], given.words[max(count, 1) :]
    if given.split and (images or given.masks):
        raise UserError(f"--split shows the runs' own images: leave {(images or ['--masks'])[0]} out")
    if not (given.split or images):
        raise UserError("name images to explain, or --split=test for some of the run's own data set")
    set_up_jax()
    import ttl_jax
    from ttl_jax.commands.printing import print_rows
    from ttl_jax.deploy import explain, pictures
    from ttl_jax.report import explanation
    from ttl_jax.system import remote

    runs = {name: ttl_jax.load(word) for name, word in zip(_names(folders), folders, strict=True)}
    methods = tuple(dict.fromkeys(given.method.split(",")))
    explainers = {name: explain.Explainer(run, methods, given.unit) for name, run in runs.items()}
    for loaded in runs.values():
        if given.of is not None:
            explain.column_of(loaded, given.of)
    if given.split:
        shown = pictures.from_split(runs, given.split, given.count)
    else:
        shown = pictures.from_files(runs, images, given.masks and remote.local(given.masks))
    with remote.workfolder(given.out) as (out, _):
        explained = explain.write(explainers, shown, out, given.of, given.checks)
    judged = explanation.judge(explained)
    print_rows([each.row for each in judged])
    for each in judged:
        for sentence in each.remarks:
            print(f"WARNING {sentence}")
    count = len(explained["images"])
    files = f"{given.out}/index.html, figure.png, explain.json"
    print(f"{count} image{'s' * (count != 1)} explained; {files}")


def _names(folders: list[str]) -> list[str]:
    """Short names of runs that tell them apart, as names of folders."""
    parts = [[part for part in Path(folder).parts if part.strip("/.:")] or ["run"] for folder in folders]
    length = 1
    while len({tuple(each[-length:]) for each in parts}) < len(parts) and length < max(map(len, parts)):
        length += 1
    names = ["-".join(each[-length:]) for each in parts]
    if len(set(names)) < len(names):
        raise UserError("a run is named twice")
    return names
