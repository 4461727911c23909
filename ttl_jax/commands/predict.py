"""Predicts images with finished runs and writes a table."""

from __future__ import annotations

from ttl_jax.commands.arguments import Parser
from ttl_jax.config.fields import LARGEST
from ttl_jax.errors import UserError
from ttl_jax.system.compilation_cache import set_up_jax

SUMMARY = "predict images with finished runs"

HELP = """usage: ttl-jax predict RUN [RUN ...] IMAGES [IMAGES ...] --out=FILE [...]

Writes a row for each image: probabilities (calibrated by the run's
temperature), the likeliest class, the decision at a threshold chosen on
validation. IMAGES are image, DICOM and NIfTI files, folders of them, .npz
files, prepared folders, or tables with a column of image names (their other
columns are kept); they are prepared as the training images were. One that
cannot be read has a row that says why. Several runs are an ensemble: the mean
of their probabilities, and how far they disagree. Killed at any moment, the
same command goes on. docs/deploy.md explains the columns.

  --out=FILE               .csv, .parquet or .jsonl; FILE.json says what made
                           it
  --threshold=AIM          "sensitivity 0.90" (the default; or specificity, or
                           0.95), a probability, or none
  --set=COVERAGE           the classes that hold the true one as often, as 0.9
  --by_class               with --set: in every class
  --abstain=ACCURACY       whether a reader should decide, so that the other
                           decisions reach it, as 0.95
  --ood                    how far the image lies from the training images:
                           percentile among validation's
  --dicom_out=DIR          for each DICOM file a report and an overlay
                           (docs/dicom.md)
  --tta=VIEWS              none, flip, flips or dihedral instead of data.tta
  --batch_size=N           images a step; else the run's data.eval_batch_size
  --anonymous              hashes in the place of file names, no other columns
                           of a table: a file to hand on (docs/privacy.md)
  --image=COLUMN           tables: the column with the image names
  --root=DIR               tables: the folder above them

examples:
  ttl-jax predict runs/skin new_images --out=skin.csv
  ttl-jax predict runs/ct-seed0 runs/ct-seed1 export/*.dcm --out=ct.parquet
  ttl-jax predict runs/skin patients.csv --image=file --root=photos \\
      --threshold="specificity 0.95" --out=skin.jsonl
"""


def run(arguments: list[str]) -> None:
    """Predicts images with finished runs and writes a table."""
    parser = Parser("predict")
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--threshold", default="")
    parser.add_argument("--set", type=float)
    parser.add_argument("--by_class", action="store_true")
    parser.add_argument("--abstain", type=float)
    parser.add_argument("--ood", action="store_true")
    parser.add_argument("--dicom_out", "--dicom-out", default="")
    parser.add_argument("--tta")
    parser.add_argument("--batch_size", type=int, default=0)
    parser.add_argument("--anonymous", action="store_true")
    parser.add_argument("--image", default="image")
    parser.add_argument("--root", default="")
    given = parser.parse_intermixed_args(arguments)
    if not 0 <= given.batch_size <= LARGEST:
        raise UserError(f"--batch_size={given.batch_size} is not from 1 to {LARGEST}")
    set_up_jax()
    from ttl_jax.deploy.finished_run import load
    from ttl_jax.deploy.predict import DEFAULT_THRESHOLD, Asked, ensemble
    from ttl_jax.deploy.prediction_table import PredictionTable, check_out, predict_table
    from ttl_jax.training.kept import is_run

    check_out(given.out)
    count = next((place for place, path in enumerate(given.paths) if not is_run(path)), len(given.paths))
    runs, images = given.paths[: max(count, 1)], given.paths[max(count, 1) :]
    if count and not images:
        raise UserError("predict needs images behind the run: files, folders, tables or .npz files")
    asked = Asked(given.threshold or DEFAULT_THRESHOLD, given.set, given.by_class, given.abstain, given.ood)
    joint = ensemble([load(path, given.tta) for path in runs], asked)
    for note in joint.notes:
        print(note)
    size = given.batch_size or joint.runs[0].config.data.eval_batch_size
    answers = None
    if given.dicom_out:
        from ttl_jax.deploy.dicom_answer import DicomAnswerer
        from ttl_jax.deploy.dicom_folder import AnswerFolder

        answers = AnswerFolder(DicomAnswerer(joint), given.dicom_out, images)
    table = PredictionTable(given.out, given.image, given.root, given.anonymous, answers)
    done = predict_table(joint, images, table, size)
    print(f"{given.out}: {done['rows']} rows, {done['unreadable']} of them of images that cannot be read")
    if answers is not None:
        without = f", {done['unanswered']} rows have none: see dicom_error" if done["unanswered"] else ""
        print(f"{given.dicom_out}: {done['objects']} reports and overlays{without}")
