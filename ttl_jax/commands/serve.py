"""Serves finished runs as a page and a JSON endpoint."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from ttl_jax.commands.arguments import Parser
from ttl_jax.errors import UserError
from ttl_jax.system.compilation_cache import set_up_jax

if TYPE_CHECKING:
    from ttl_jax.deploy.finished_run import Run
    from ttl_jax.deploy.predict import Asked, Ensemble

SUMMARY = "a page and a JSON endpoint on this machine for finished runs"

HELP = """usage: ttl-jax serve RUN [RUN ...] [--port=8000] [...]

Opens a page on this machine: drop an image or a DICOM file on it, and see the
calibrated probabilities, the prediction set, what spoke for the class, how far
the image lies from the training images and which of them are nearest (ids
alone). POST /predict answers programs with JSON; /openapi.json describes it.
Several runs are an ensemble. Nothing that is sent is kept. Research use only,
not a medical device.

  --port=8000              0 takes a free one
  --host=127.0.0.1         another address takes --public and a token as well
  --public                 other machines may reach the server
  --token=TOKEN            16 characters or more, which every request carries;
                           better in the environment, as TTL_JAX_TOKEN
  --allow_host=NAME,...    names by which others call this machine
  --threshold=AIM          as for `predict`
  --set=COVERAGE           of the prediction sets; 0.9, or none
  --tta=VIEWS              none, flip, flips or dihedral instead of data.tta
  --megabytes=64           largest request
  --frames=32              most frames or slices of a file
  --requests=64            held at once; further ones are refused
  --batch_size=8           images that are computed together
  --wait=5                 milliseconds that an image waits for others
  --dicom=PORT             a DICOM node as well, on this machine alone: an image
                           that is sent to it (C-STORE) is answered by a report
                           and an overlay (docs/dicom.md), which go to
  --dicom_out=DIR          a folder, and
  --send_to=TITLE@HOST:PORT   a node, as PACS@10.0.0.5:104

examples:
  ttl-jax serve runs/skin
  ttl-jax serve runs/seed0 runs/seed1 runs/seed2 --port=9000
  curl --data-binary @a.png http://127.0.0.1:8000/predict
"""


def run(arguments: list[str]) -> None:
    """Serves finished runs as a page and a JSON endpoint."""
    parser = Parser("serve")
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--public", action="store_true")
    for name in ("token", "allow_host", "threshold", "set", "dicom_out", "send_to"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--tta")
    numbers = {"port": 8000, "megabytes": 64, "frames": 32, "requests": 64, "batch_size": 8}
    for name, number in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--wait", type=float, default=5.0)
    parser.add_argument("--dicom", type=int, metavar="PORT")
    given = parser.parse_intermixed_args(arguments)
    for name in numbers:
        if getattr(given, name) < (name != "port"):
            raise UserError(f"--{name}={getattr(given, name)} must be {int(name != 'port')} or more")
    if not 0 <= given.wait <= 1000:
        raise UserError(f"--wait={given.wait} is no number of milliseconds from 0 to 1000")
    if given.dicom is None and (given.dicom_out or given.send_to):
        raise UserError("--dicom_out and --send_to are for a DICOM node: give its --dicom=PORT too")
    if given.dicom is not None and not 0 <= given.dicom < 65536:
        raise UserError(f"--dicom={given.dicom} is no port from 0 to 65535")
    set_up_jax()
    from ttl_jax.deploy.export.format import require

    require("serve", ("starlette", "uvicorn", "python_multipart"), "'ttl-jax[serve]'")
    from ttl_jax.deploy import load, serve
    from ttl_jax.deploy.answerer import NOTICE, Answerer, Limits
    from ttl_jax.deploy.predict import DEFAULT_THRESHOLD, Asked
    from ttl_jax.training.records.training_features import FILE

    names = [name for name in given.allow_host.split(",") if name]
    token = given.token or os.environ.get("TTL_JAX_TOKEN", "")
    access = serve.access_of(given.host, token, given.public, names)
    with serve.listen(given.host, given.port) as place:
        runs = [load(path, given.tta) for path in given.runs]
        known = all((each.folder / FILE).is_file() for each in runs)
        asked = Asked(given.threshold or DEFAULT_THRESHOLD, coverage_of(given.set), distance=known)
        joint = joined(runs, asked, insists=bool(given.set))
        limits = Limits(
            1_000_000 * given.megabytes, given.frames, given.requests, given.batch_size, given.wait / 1000
        )
        answerer = Answerer(joint, limits)
        for note in answerer.notes:
            print(note)
        if not known:
            print("a run keeps no features of its training images: there are no nearest ones, no distance")
        with ExitStack() as closing:
            if given.dicom is not None:
                from ttl_jax.deploy.dicom_node import LOOPBACK, start

                node = start(joint, given.dicom, given.dicom_out or None, given.send_to or None)
                closing.callback(node.stop)
                print(f"DICOM node TTL_JAX at {LOOPBACK}:{node.port}", flush=True)
            host, port = place.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"http://{shown}:{port}/  {NOTICE} Ctrl-C ends it.", flush=True)
            with suppress(KeyboardInterrupt):
                serve.serve(answerer, access, place)


def coverage_of(text: str) -> float | None:
    """Read --set: a share, none, or nothing for 0.9.

    Raises:
        UserError: something else.
    """
    if text == "none":
        return None
    with suppress(ValueError):
        return float(text or 0.9)
    raise UserError(f"--set={text} is no share as 0.9, and not none")


def joined(runs: list[Run], asked: Asked, insists: bool) -> Ensemble:
    """Join runs; if they were validated on different images without sets, unless the user insists."""
    from ttl_jax.deploy.predict import ensemble

    try:
        return ensemble(runs, asked)
    except UserError as error:
        if insists or len(runs) == 1 or asked.coverage is None:
            raise
        joint = ensemble(runs, replace(asked, coverage=None))
        print(f"there are no prediction sets: {error}")
        return joint
