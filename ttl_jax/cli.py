"""The command line: `python -m ttl_jax COMMAND`, also installed as `ttl-jax`.

Exit status: 0 done, 1 the run failed, 2 the user must change something (one sentence says what),
75 stopped from outside and saved: the same command goes on.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttl_jax import host
from ttl_jax.compilation_cache import set_up_jax
from ttl_jax.errors import UserError, nearest


@dataclass(frozen=True)
class Command:
    """One command: what it does, how it is called, and the function that takes its arguments."""

    summary: str
    help: str
    function: Callable[[list[str]], None]


def _config_and_flags(arguments: list[str], needs_workdir: bool = True) -> tuple[Any, Any]:
    """Reads --config=FILE:ARG, --config.x.y=z and --workdir."""
    from absl import flags
    from ml_collections import config_flags

    from ttl_jax.config import paths

    def parse(words: list[str]) -> flags.FlagValues:
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values)
        flags.DEFINE_string("workdir", None, "work folder", flag_values=values)
        before, sys.argv = sys.argv, ["ttl_jax", *words]  # where config_flags looks for overrides
        try:
            rest = values(sys.argv)
        except flags.Error as error:
            raise UserError(str(error).split("\n")[0]) from None
        except FileNotFoundError as error:
            raise UserError(f"config file {error.filename!r} does not exist") from None
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise UserError(f"--config: {str(error).splitlines()[0]}") from None
        finally:
            sys.argv = before
        if len(rest) > 1:
            raise UserError(f"argument {rest[1]!r} is not understood; fields are --config.NAME=VALUE")
        return values

    for word in arguments:
        file = word.partition("=")[2].split(":")[0]
        if word.startswith("--config=") and not Path(file).is_file():
            raise UserError(f"--config={file}: there is no such file; presets are in configs/")
    overrides = [word for word in arguments if word.startswith("--config.")]
    values = parse([word for word in arguments if word not in overrides])
    if values["config"].value is None:
        raise UserError("--config=FILE is missing, as in --config=configs/train.py")
    known = paths(values["config"].value)
    for word in overrides:
        name = word.partition("=")[0].removeprefix("--config.")
        if name not in known:
            raise UserError(f"config field {name!r} does not exist{nearest(name, known)}")
        if "=" not in word:
            raise UserError(f"{word} has no value: write {word}=VALUE")
    values = parse(arguments)
    if needs_workdir and not values["workdir"].value:
        raise UserError("--workdir=DIR is missing: the folder that the run writes to")
    return values["config"].value, values["workdir"].value


def train_command(arguments: list[str]) -> None:
    """Trains, evaluates, writes the report, prints the table."""
    config, workdir = _config_and_flags([word for word in arguments if word != "--fresh"])
    if config.deterministic:
        os.environ["XLA_FLAGS"] = host.deterministic(os.environ.get("XLA_FLAGS", ""))
    set_up_jax()
    import jax

    from ttl_jax import remote, report
    from ttl_jax.training import parallel, preemption, provenance
    from ttl_jax.training.run import check, train

    parallel.connect(config.parallel.hosts)
    mirror = remote.Mirror(workdir) if remote.is_remote(workdir) else None
    if mirror is not None:
        workdir = str(mirror.folder)
    first = jax.process_index() == 0
    with preemption.watch(config.preemption_notice) as notice:
        if "--fresh" in arguments and first:
            check(config)
            if mirror is not None:
                raise UserError("--fresh does not empty a bucket: name another --workdir")
            moved = provenance.set_aside(Path(workdir))
            if moved is not None:
                print(f"--fresh: moved what was in {workdir} to {moved}", flush=True)
        push = mirror.push if mirror is not None and first else None
        try:
            result = train(config, workdir, notice=notice, committed=push)
        finally:
            if push is not None:
                push()
    if not first:
        return
    report.print_table(report.rows([result.workdir]))
    if config.report:
        print(f"report: {result.report()}")


def compare_command(arguments: list[str]) -> None:
    """Runs the cells of a comparison that are not done yet, writes compare.json and the report."""
    config, workdir = _config_and_flags(arguments)
    from ttl_jax.compare import compare

    compare(config, workdir)


def leaks_command(arguments: list[str]) -> None:
    """Lists what stands in two splits of a data set; exit status 2 where that is anything."""
    config, _ = _config_and_flags(arguments, needs_workdir=False)
    from ttl_jax.data.config import data_config
    from ttl_jax.data.examine import examine
    from ttl_jax.data.load import check
    from ttl_jax.data.sources import read_listing

    settings = data_config(config.data)
    check(settings)
    if settings.name.startswith("phantom/"):
        raise UserError(
            f"data.name={settings.name} is generated patient by patient: there are no files to check"
        )
    found = examine(read_listing(settings), settings)
    findings = [*found.leaks, *found.conflicts]
    for finding in findings:
        print(finding.line())
    print(found.overview(), flush=True)
    if findings and not settings.allow_leaks:
        remedies = ["data.resplit=True splits anew with copies kept together"] if found.leaks else []
        remedies += ["give each image one label or leave it out"] if found.conflicts else []
        raise UserError(
            f"{found.summary()}; {', '.join(remedies)}, or data.allow_leaks=True accepts what is listed"
        )


def report_command(arguments: list[str]) -> None:
    """Prints the table of finished runs and writes one report over them."""
    from ttl_jax import report

    out, folders = "report.html", []
    for word in arguments:
        if word.startswith("--out="):
            out = word.removeprefix("--out=")
        elif word.startswith("-"):
            raise UserError(f"report takes work folders and --out=FILE, not {word!r}")
        else:
            folders.append(Path(word))
    if not folders:
        raise UserError("report needs at least one work folder, as in: report runs/* --out=all.html")
    comparison = None
    if len(folders) == 1 and (folders[0] / "compare.json").exists():
        comparison, folders = report.read_comparison(folders[0])
    for folder in folders:
        if not (folder / "config.json").exists():
            raise UserError(f"{folder} is not a work folder: it has no config.json")
    report.print_table(report.rows(folders))
    title = "Comparison of runs" if comparison is None else "Comparison of strategies"
    print(f"report: {report.write(folders, Path(out), title, comparison=comparison)}")


def search_command(arguments: list[str]) -> None:
    """Searches the unit to cut at, freeze up to or slim from; `--preview` ranks units untrained."""
    preview = "--preview" in arguments
    config, workdir = _config_and_flags([word for word in arguments if word != "--preview"])
    if "search" not in config:
        raise UserError("--config has no `search` part; start from configs/search.py")
    set_up_jax()
    if preview:
        from ttl_jax.search.preview import preview as look

        record = look(config, workdir)
        _print_rows(record["table"])
        print(record["proposal"])
        return
    from ttl_jax.search.figure import rows, sentence
    from ttl_jax.search.study import search

    record = search(config, workdir)
    _print_rows(rows(record))
    print(sentence(record))
    print(f"figure: {Path(workdir) / 'figures' / 'search.png'}")


def soup_command(arguments: list[str]) -> None:
    """Averages the weights of finished runs, scores the mean, prints the table."""
    kind, workdir, runs = "greedy", "", []
    for word in arguments:
        if word.startswith("--kind="):
            kind = word.removeprefix("--kind=")
        elif word.startswith("--workdir="):
            workdir = word.removeprefix("--workdir=")
        elif word.startswith("-"):
            raise UserError(f"soup takes work folders, --workdir=DIR and --kind=greedy|uniform, not {word!r}")
        else:
            runs.append(Path(word))
    if not workdir:
        raise UserError("--workdir=DIR is missing: the folder that the soup is written to")
    set_up_jax()
    from ttl_jax import report
    from ttl_jax.training.soup import soup

    found = soup(runs, Path(workdir), kind)["soup"]
    report.print_table(report.rows([*runs, Path(workdir)]))
    print(f"kept: {', '.join(found['kept'])}")


def analyze_command(arguments: list[str]) -> None:
    """Costs, similarities, and the table of finished runs and searches."""
    set_up_jax()
    from ttl_jax.analysis.command import analyze

    found = analyze(arguments)
    if "--json" in arguments:
        print(json.dumps(found.rows, indent=1))
    else:
        _print_rows(found.rows)
        print(found.note)


def prepare_command(arguments: list[str]) -> None:
    """Writes a folder, table, DICOM or NIfTI source as shards with a manifest."""
    from dataclasses import fields, replace

    from ttl_jax.data.config import DataConfig
    from ttl_jax.data.guess import guess_source
    from ttl_jax.data.prepare import prepare

    kinds: dict[str, Callable[[str], Any]] = {
        item.name: type(item.default) for item in fields(DataConfig) if f"--{item.name}=" in PREPARE_HELP
    }
    kinds |= {"out": str, "workers": int}
    known = tuple(kinds)
    given: dict[str, Any] = {}
    sources = [word for word in arguments if not word.startswith("-")]
    for word in arguments:
        name, equals, value = word.removeprefix("--").partition("=")
        if word in sources:
            continue
        if not word.startswith("--") or name not in known:
            raise UserError(f"argument {word!r} is not understood{nearest(name, known)}")
        if not equals or not value:
            raise UserError(f"{word} has no value: write --{name}=VALUE")
        try:
            given[name] = kinds[name](value)
        except ValueError:
            raise UserError(f"--{name}={value} is not a number") from None
    if len(sources) != 1 or "out" not in given:
        raise UserError("prepare needs one source and --out=DIR, as in: prepare images --out=prepared")
    out, workers = given.pop("out"), given.pop("workers", None)
    if "name" not in given:
        given["name"] = guess_source(sources[0])
    done = prepare(replace(DataConfig(path=sources[0]), **given), out, workers)
    print(
        f"{done.folder}: {done.images} images in {done.size / 1e6:.1f} MB, {done.skipped} skipped; shards: "
        f"{done.made} written, {done.kept} kept\ntrain on it with: --config.data.name=record "
        f"--config.data.path={done.folder}"
    )


def bench_command(arguments: list[str]) -> None:
    """Runs one of benchmarks/*.py of this checkout."""
    import importlib.util

    folder = Path(__file__).resolve().parent.parent / "benchmarks"
    known = tuple(sorted(path.stem for path in folder.glob("*.py")))
    if not known:
        raise UserError(
            "bench needs a checkout of the project: benchmarks/ is not installed with the package"
        )
    if not arguments or arguments[0] not in known:
        raise UserError(f"bench takes the name of a benchmark{nearest((arguments or [''])[0], known)}")
    spec = importlib.util.spec_from_file_location(arguments[0], folder / f"{arguments[0]}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(arguments[1:])


def doctor_command(arguments: list[str]) -> None:
    """Says what of this machine would stop a run; exit status 2 where something would."""
    from ttl_jax import doctor

    words = [word for word in arguments if word != "--json"]
    paths, model, source = {}, "", ""
    if any(word.startswith("--config") for word in words):
        config, workdir = _config_and_flags(words, needs_workdir=False)
        model, source = config.model.name, config.model.weights
        paths = {"workdir": workdir or "", "data": config.data.path}
        if source.endswith((".pth", ".pt", ".safetensors", ".h5", ".keras", ".npz")) or "/" in source:
            paths["weights"] = source
    elif words:
        raise UserError(
            f"argument {words[0]!r} is not understood; doctor takes --json, --config and --workdir"
        )
    checks = doctor.examine(paths, model, source)
    if "--json" in arguments:
        print(json.dumps(doctor.as_rows(checks), indent=1))
    else:
        for check in checks:
            print(check.line())
    bad = [check.name for check in checks if check.status == doctor.FAIL]
    if bad:
        raise UserError(f"{len(bad)} of {len(checks)} checks failed: {', '.join(bad)}")


def _list_command(rows: Callable[[], list[dict[str, Any]]]) -> Callable[[list[str]], None]:
    """A command that lists things as a table, or as JSON."""

    def run(arguments: list[str]) -> None:
        unknown = [word for word in arguments if word != "--json"]
        if unknown:
            raise UserError(f"argument {unknown[0]!r} is not understood; this list takes --json only")
        found = rows()
        if "--json" in arguments:
            print(json.dumps(found, indent=1))
        else:
            _print_rows(found)

    return run


def _print_rows(found: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*found[0])
    for row in found:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    Console(highlight=False, width=None if sys.stdout.isatty() else 140).print(table)


def _models() -> list[dict[str, Any]]:
    import jax

    from ttl_jax import models

    rows = []
    for name in models.names():
        network = models.create(name, 1000)
        image = jax.ShapeDtypeStruct((1, *models.input_shape(name)), "float32")
        shapes = jax.eval_shape(network.init, jax.random.key(0), image)
        sizes = [leaf.size for leaf in jax.tree.leaves(shapes["params"])]
        rows.append(
            {
                "model": name,
                "units": len(models.units(name)),
                "stages end at": ", ".join(str(unit.index) for unit in models.stages(name)),
                "parameters (1000 classes)": int(sum(sizes)),
            }
        )
    return rows


def _strategies() -> list[dict[str, Any]]:
    import inspect

    from ttl_jax.strategies.catalogue import CATALOGUE

    return [
        {
            "strategy": f"{key}({', '.join(map(_option, inspect.signature(entry).parameters.values()))})",
            "what it does": inspect.cleandoc(entry.__doc__ or "").split("\n\n")[0].replace("\n", " "),
        }
        for key, entry in CATALOGUE.items()
    ]


def _option(parameter: Any) -> str:
    """An option as a user writes it: name, or name=default."""
    needed = parameter.default is parameter.empty
    return parameter.name if needed else f"{parameter.name}={parameter.default!r}"


def strategies_command(arguments: list[str]) -> None:
    """Lists the strategies, or shows the plan of one on a network, with its picture."""
    if not [word for word in arguments if word != "--json"]:
        _list_command(_strategies)(arguments)
        return
    from ttl_jax.training.plan_command import show

    show(arguments)


def _weights() -> list[dict[str, Any]]:
    from ttl_jax import weights

    return weights.listing()


def _datasets() -> list[dict[str, Any]]:
    from ttl_jax.data import presets

    return [
        {
            "data set": name,
            "group": preset.group or "none named",
            "metric": preset.metric,
            "licence": preset.licence,
            "citation": preset.citation,
            "note": preset.note,
        }
        for name, preset in presets.PRESETS.items()
    ]


TRAIN_HELP = """usage: python -m ttl_jax train --config=FILE[:name=value,...] --workdir=DIR
                               [--fresh] [--config.FIELD=VALUE ...]

Fine-tunes a pretrained network, evaluates it once on the test split, writes a report.
The same command again resumes, or shows the finished result; --fresh moves what is in DIR to DIR.1
(or .2, ...) and starts anew. SIGTERM, Ctrl-C and a cloud's notice save and end with status 75.

examples:
  python -m ttl_jax train --config=configs/train.py:dataset=phantom/mri,strategy=linear_probe \\
      --workdir=runs/mri
  python -m ttl_jax train --config=configs/train.py:model=resnet50,weights=/data/resnet50.pth,strategy=full \\
      --config.data.name=folder --config.data.path=/data/xrays \\
      --config.data.image_size=224 --workdir=runs/xrays
  python -m ttl_jax train --config=configs/train.py --workdir=runs/csv --config.data.name=csv \\
      --config.data.path=table.csv --config.data.root=images --config.data.image=file \\
      --config.data.label=diagnosis --config.data.group=patient_id

fields (all of them with explanations: ttl_jax/config.py):
"""


def _train_help() -> str:
    from ttl_jax.config import default_config, paths

    config = default_config()
    values = config.to_dict()

    def value(path: str) -> Any:
        node: Any = values
        for name in path.split("."):
            node = node[name]
        return node

    return TRAIN_HELP + "".join(f"  --config.{path}={value(path)}\n" for path in paths(config))


def _search_help() -> str:
    from ttl_jax.search.config import search_config

    options = search_config().search
    return SEARCH_HELP + "".join(f"  --config.search.{name}={value}\n" for name, value in options.items())


def _help(name: str) -> str:
    whole = {"train": _train_help, "search": _search_help}
    return whole[name]() if name in whole else COMMANDS[name].help


def _list_help(name: str) -> str:
    return f"usage: python -m ttl_jax {name} [--json]\n\nexample:\n  python -m ttl_jax {name} --json\n"


COMPARE_HELP = """usage: python -m ttl_jax compare --config=FILE --workdir=DIR [--config.FIELD=VALUE ...]

Strategies x models x data sets x seeds, the learning rate of each setting chosen on validation.
Stopped at any moment, the same command goes on and repeats nothing. More strategies, seeds or
rates may be added later. Fields: ttl_jax/compare/config.py, and those of `train`.

example:
  python -m ttl_jax compare --config=configs/compare.py --workdir=runs/compare \\
      --config.compare.strategies="('full', 'linear_probe', 'lp_ft')" --config.compare.seeds="(0, 1, 2)" \\
      --config.compare.workers=2 --config.total_epochs=5
"""

LEAKS_HELP = """usage: python -m ttl_jax leaks --config=FILE[:name=value,...] [--config.data.FIELD=VALUE ...]

Lists groups and copies of an image that stand in two splits, and same images under two labels:
same group, same file, same pixels, near-duplicate (DCT hash, then correlation of thumbnails).
Exit status 2 where something is found, unless data.allow_leaks=True.

examples:
  python -m ttl_jax leaks --config=configs/train.py:dataset=brain_tumor_mri --config.data.resplit=False
  python -m ttl_jax leaks --config=configs/train.py --config.data.name=folder --config.data.path=/data/xrays
"""

REPORT_HELP = """usage: python -m ttl_jax report WORKDIR [WORKDIR ...] [--out=FILE]

Prints the table of runs and writes one HTML report over all of them. The work folder of a
comparison gives the comparison's report.

examples:
  python -m ttl_jax report runs/skin-* --out=runs/skin.html
  python -m ttl_jax report runs/compare --out=runs/compare.html
"""

SEARCH_HELP = """usage: python -m ttl_jax search --config=configs/search.py[:name=value,...] --workdir=DIR
                                [--preview] [--config.FIELD=VALUE ...]

Searches the unit at which a network is best cut (kind=ttl), made slim (tf) or frozen (lwft).
Selection is on validation; the test split is looked at once, for the winner. The same command again
trains nothing. --preview ranks the units from one forward pass instead of training.

examples:
  python -m ttl_jax search --config=configs/search.py:dataset=phantom/mri,kind=ttl --workdir=runs/cut
  python -m ttl_jax search --config=configs/search.py:dataset=ham10000,method=halving \\
      --workdir=runs/skin --config.search.workers=2 --config.search.weight=0.02
  python -m ttl_jax search --config=configs/search.py:dataset=ham10000 --workdir=runs/look --preview

fields: those of `train`, and (explained in ttl_jax/search/config.py):
"""

ANALYZE_HELP = """usage: python -m ttl_jax analyze cost|table|ranking|svcca|pwcca|cka [...] [--json]

  cost --model=NAME [--image-size=224] [--channels=3] [--classes=2] [--cut=UNIT | --strategy=TEXT | --cuts]
       [--latency]                   parameters, MACs, activations, file size, milliseconds
  table DIR [DIR ...] [--latency]    method x AUROC x AUPRC x params x MACs x ms, of runs and searches
  ranking PREVIEW SEARCH             how well a preview's measures ranked the units that a search trained
  svcca | pwcca | cka RUN [--against=RUN | pretrained] [--examples=256]
                                     similarity of features, unit by unit, beside a random baseline

examples:
  python -m ttl_jax analyze cost --model=resnet50 --cuts
  python -m ttl_jax analyze table runs/skin-* runs/search --latency
  python -m ttl_jax analyze svcca runs/skin-full
"""

PREPARE_HELP = """usage: python -m ttl_jax prepare SOURCE --out=DIR [--workers=N] [--FIELD=VALUE ...]

Decodes, checks and hashes every image of a source once and writes ArrayRecord shards and manifest.json
(hashes, sizes, labels, groups). The same command again goes on after a kill, or brings the folder up to
date; the same images give the same bytes. SOURCE is a folder of class folders (images, DICOM or NIfTI),
a CSV table or a MedMNIST .npz file. Metadata of image files and DICOM tags are not copied; patients
become keyed hashes (set the secret TTL_JAX_PATIENT_KEY); ids are the file names as they are, and a
table's other columns are kept.

fields (as in --config.data.FIELD; explanations: ttl_jax/data/config.py):
  --name=csv|folder|npz|dicom|nifti (guessed from SOURCE), or a published layout (see `datasets`)
  --on_error=fail|skip
  --root=DIR --image=COL --label=COL[,COL] --group=COL --split=COL    tables
  --window=lung --slices=all|middle|volume|N --spacing=MM --plane=axial  DICOM, NIfTI (docs/datasets.md)

examples:
  python -m ttl_jax prepare xrays --out=prepared/xrays
  python -m ttl_jax prepare table.csv --root=images --label=diagnosis --group=patient_id --out=prepared/skin
  python -m ttl_jax prepare scans.csv --name=dicom --root=export --window=lung --out=prepared/ct
"""

BENCH_HELP = """usage: python -m ttl_jax bench NAME [--help]

Runs one of benchmarks/*.py. The comparison with PyTorch needs `make parity` once, for torch.

example:
  python -m ttl_jax bench cpu --cases=resnet50:128 --modes=train
"""

STRATEGIES_HELP = """usage: python -m ttl_jax strategies [--json]
       python -m ttl_jax strategies STRATEGY [--model=NAME] [--classes=N] [--image_size=PIXELS]
                                    [--batch=N] [--out=FILE.png|.svg|.pdf ...] [--json]

Lists the catalogue; or shows the plan of one strategy on a network: phases, labels, trainable
parameters, operations of a step (XLA's cost analysis), bytes of the optimizer, and its picture.

examples:
  python -m ttl_jax strategies
  python -m ttl_jax strategies gradual_last_first --model=resnet50 --out=plan.png --out=plan.svg
  python -m ttl_jax strategies "truncated(12)+lp_ft+l2_sp+discriminative" --model=resnet50
"""

SOUP_HELP = """usage: python -m ttl_jax soup RUN RUN [RUN ...] --workdir=DIR [--kind=greedy|uniform]

One model whose weights are the mean of those of finished runs (seeds, rates, strategies of one network
on one data set). Greedy: from the best down, each run that does not lower the validation figure.

example:
  python -m ttl_jax soup runs/skin-seed0 runs/skin-seed1 runs/skin-seed2 --workdir=runs/skin-soup
"""

DOCTOR_HELP = """usage: python -m ttl_jax doctor [--json] [--config=FILE --workdir=DIR ...]

Python, packages, JAX and its devices, memory, disk, caches, weights, data paths, Google Cloud Storage:
one line a check, with the remedy. Exit status 2 where a run would fail.

examples:
  python -m ttl_jax doctor
  python -m ttl_jax doctor --config=configs/train.py:model=resnet50 --config.data.path=/data --workdir=runs/a
"""

COMMANDS: dict[str, Command] = {
    "train": Command("train and evaluate one model", "", train_command),
    "compare": Command("strategies x models x data sets x seeds", COMPARE_HELP, compare_command),
    "leaks": Command("what stands in two splits of a data set", LEAKS_HELP, leaks_command),
    "search": Command("find the best unit to cut, slim or freeze at", SEARCH_HELP, search_command),
    "analyze": Command("what networks cost and how alike they are", ANALYZE_HELP, analyze_command),
    "soup": Command("average the weights of finished runs", SOUP_HELP, soup_command),
    "strategies": Command("the strategies, or the plan of one", STRATEGIES_HELP, strategies_command),
    "prepare": Command("write any source as shards with a manifest", PREPARE_HELP, prepare_command),
    "bench": Command("measure speed, beside PyTorch", BENCH_HELP, bench_command),
    "doctor": Command("what of this machine would stop a run", DOCTOR_HELP, doctor_command),
    "report": Command("table and HTML report of finished runs", REPORT_HELP, report_command),
    **{
        name: Command(summary, _list_help(name), _list_command(rows))
        for name, summary, rows in (
            ("models", "the networks, their units and sizes", _models),
            ("weights", "where pretrained weights come from", _weights),
            ("datasets", "the data set presets", _datasets),
        )
    },
}


def usage() -> str:
    """The overview that `--help` prints."""
    lines = "\n".join(f"  {name:12}{command.summary}" for name, command in COMMANDS.items())
    return (
        "usage: python -m ttl_jax COMMAND [...]\n\n"
        f"{lines}\n\nexamples:\n"
        "  python -m ttl_jax train --help\n"
        "  python -m ttl_jax strategies\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status."""
    words = list(sys.argv if argv is None else argv)[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0 if words else 2
    name, arguments = words[0], words[1:]
    try:
        if name not in COMMANDS:
            raise UserError(f"there is no command {name!r}{nearest(name, tuple(COMMANDS))}")
        if {"-h", "--help"} & set(arguments[: 1 if name == "bench" else None]):
            print(_help(name), end="")
            return 0
        COMMANDS[name].function(arguments)
    except UserError as error:
        print(f"ttl_jax {name}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except Exception as error:
        from ttl_jax.compare import FailedCellsError
        from ttl_jax.training.loop import DivergedError
        from ttl_jax.training.preemption import STATUS, Preempted

        if isinstance(error, Preempted):
            print(f"ttl_jax {name}: {error}: start me again", file=sys.stderr)
            return STATUS
        if not isinstance(error, DivergedError | FailedCellsError):
            raise
        print(f"ttl_jax {name}: {error}", file=sys.stderr)
        return 1
    return 0
