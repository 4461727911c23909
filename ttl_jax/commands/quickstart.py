"""Trains twice on generated images, by linear probing and by full fine-tuning, and reports both."""

from __future__ import annotations

from ttl_jax.commands import report, train
from ttl_jax.commands.arguments import Parser

SUMMARY = "the first run: two trainings on generated images, and their report"

HELP = """usage: ttl-jax quickstart [--workdir=DIR] [--config.FIELD=VALUE ...]

Trains EfficientNet-Lite0 (ImageNet weights) twice on generated skin lesions, by
linear probing and by full fine-tuning, and writes one report over both. Takes
under 5 minutes on two cores; downloads nothing. The same command again resumes,
or shows the finished result.

  --workdir=runs/quickstart
                           folder that both runs write to
  --config.FIELD=VALUE     any field of `ttl-jax train --help`

examples:
  ttl-jax quickstart
  ttl-jax quickstart --workdir=/tmp/first --config.total_epochs=2
"""
STRATEGIES = ("linear_probe", "full")


def run(arguments: list[str]) -> None:
    """Trains by either strategy, then prints the table and writes the report."""
    parser = Parser("quickstart")
    parser.add_argument("--workdir", default="runs/quickstart")
    fields = [word for word in arguments if word.startswith("--config.")]
    given = parser.parse_args([word for word in arguments if word not in fields])
    folders = [f"{given.workdir.rstrip('/')}/{strategy}" for strategy in STRATEGIES]
    for strategy, folder in zip(STRATEGIES, folders, strict=True):
        train.train_once([f"--config=quickstart:strategy={strategy}", f"--workdir={folder}", *fields])
    report.run([*folders, f"--out={given.workdir.rstrip('/')}/report.html"])
    print("next, your own images: ttl-jax train --config=train --config.data.path=IMAGES --workdir=runs/mine")
