"""Trains, evaluates, writes the report, prints the table."""

from __future__ import annotations

from pathlib import Path

from ttl_jax.commands.arguments import config_and_workdir, fields_help
from ttl_jax.commands.printing import compare_with
from ttl_jax.config import RunConfig
from ttl_jax.errors import UserError
from ttl_jax.system import host, terminal
from ttl_jax.system.compilation_cache import set_up_jax

SUMMARY = "train and evaluate one model"

HELP = """usage: ttl-jax train --config=NAME[:name=value,...] --workdir=DIR
                     [--fresh | --continue] [--config.FIELD=VALUE ...]

Fine-tunes a pretrained network, evaluates it once on the test split, writes a
report. The same command again resumes, or shows the finished result. SIGTERM,
SIGHUP, Ctrl-C and a cloud's notice save and end with status 75.

  --config=NAME            train, another preset, or the path of a config file
  --workdir=DIR            folder that the run writes to; may be gs://...
  --fresh                  moves what is in DIR to DIR.1 (.2, ...), starts anew
  --continue               gives a finished run the greater total_epochs
                           (docs/deploy.md)
  --config.FIELD=VALUE     any field below

examples:
  ttl-jax train --config=train:dataset=phantom/mri,strategy=linear_probe \\
      --workdir=runs/mri
  ttl-jax train --config=train:model=resnet50,weights=/data/resnet50.pth \\
      --config.data.name=folder --config.data.path=/data/xrays \\
      --config.data.image_size=224 --workdir=runs/xrays
  ttl-jax train --config=train --workdir=runs/csv --config.data.name=csv \\
      --config.data.path=table.csv --config.data.root=images \\
      --config.data.image=file --config.data.label=diagnosis \\
      --config.data.group=patient_id
"""


ALSO = ("full", "linear_probe", "lp_ft")  # strategies to compare a trained one with


def run(arguments: list[str]) -> None:
    """Trains, evaluates, writes the report, prints the table, and says what to do next."""
    from ttl_jax.strategies import text_of

    finished = train_once(arguments)
    if finished is not None:
        config, workdir = finished
        terminal.say(
            f"next, on new images: ttl-jax predict {workdir} IMAGES --out=predictions.csv",
            compare_with(arguments, workdir, (text_of(config.strategy), *ALSO)),
        )


def train_once(arguments: list[str]) -> tuple[RunConfig, str] | None:
    """`run` without a word on what is next; returns config and folder, in the first process."""
    switches = ("--fresh", "--continue")
    options = set(switches) & set(arguments)
    config, workdir = config_and_workdir(arguments, RunConfig, switches=switches)
    if len(options) > 1:
        raise UserError("--fresh starts anew and --continue goes on: give one of them")
    host.set_deterministic(config.deterministic)
    set_up_jax()
    import jax

    from ttl_jax import report
    from ttl_jax.analysis.cam_gallery import Gallery
    from ttl_jax.system import preemption, remote
    from ttl_jax.training import devices
    from ttl_jax.training.extend import extend
    from ttl_jax.training.programs import Session
    from ttl_jax.training.records import provenance
    from ttl_jax.training.run import check, train

    devices.connect(config.parallel.hosts)
    fresh, first = "--fresh" in options, jax.process_index() == 0
    if fresh and first:
        check(config)
        if remote.is_remote(workdir) and jax.process_count() > 1:
            raise UserError("--fresh is for a bucket's run of one process: name another --workdir")
        moved = None if remote.is_remote(workdir) else provenance.set_aside(Path(workdir))
        if moved is not None:
            print(f"--fresh: moved what was in {workdir} to {moved}", flush=True)
    with (
        remote.workfolder(workdir, jax.process_index(), fresh) as (folder, push),
        preemption.watch(config.preemption_notice) as notice,
    ):
        if "--continue" in options and first:
            with provenance.alone(folder):
                extend(folder, config)
        session = Session(notice=notice, committed=push)
        result = train(config, folder, hooks=(Gallery(),), session=session)
    if not first:
        return None
    report.print_table(report.rows([result.workdir]))
    if config.report:
        print(f"report: {workdir.rstrip('/')}/report.html")
    return config, workdir


def fields(arguments: list[str]) -> str:
    """The config fields and their defaults, for the end of the help."""
    return fields_help(arguments, RunConfig)
