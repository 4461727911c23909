"""Write the reference pages: the commands, the config fields, the Python API, each from the program itself.

python docs/make_reference.py        # into docs/reference/, which git ignores; `make docs` calls it
"""

from __future__ import annotations

from pathlib import Path

from ttl_jax.cli import COMMANDS, usage
from ttl_jax.compare.config import CompareConfig
from ttl_jax.config import RunConfig
from ttl_jax.config.fields import leaves
from ttl_jax.search.config import SearchConfig

FOLDER = Path(__file__).parent / "reference"
CONFIGS = {"train": RunConfig, "search": SearchConfig, "compare": CompareConfig}
API = {  # what a notebook or a file of one's own imports
    "Train, load, predict": (
        "ttl_jax.training.finetune.finetune",
        "ttl_jax.deploy.finished_run.load",
        "ttl_jax.training.result.Result",
        "ttl_jax.deploy.finished_run.Run",
    ),
    "Strategies": (
        "ttl_jax.strategies.strategy",
        "ttl_jax.strategies.select",
        "ttl_jax.strategies.parts.part",
        "ttl_jax.strategies.catalogue",
        "ttl_jax.strategies.regularisers",
        "ttl_jax.strategies.parse",
        "ttl_jax.analysis.strategy_plan",
    ),
    "Networks and weights": ("ttl_jax.models.registry", "ttl_jax.models.unit", "ttl_jax.weights.load"),
    "Data": ("ttl_jax.data.load", "ttl_jax.data.sources.listing", "ttl_jax.data.dataset"),
    "Comparisons and searches": ("ttl_jax.compare.comparison", "ttl_jax.search.search"),
    "Metrics and statistics": (
        "ttl_jax.evaluation.registry",
        "ttl_jax.evaluation.predictions",
        "ttl_jax.evaluation.intervals",
        "ttl_jax.evaluation.paired",
        "ttl_jax.evaluation.conformal",
    ),
    "Extending": ("ttl_jax.registry", "ttl_jax.training.trainer.Hook", "ttl_jax.errors"),
}


def commands() -> str:
    """Return the page of commands: the help of each, as the terminal shows it."""
    parts = ["# Commands", "Config fields have [a page of their own](config.md).", _text(usage())]
    for name, command in COMMANDS.items():
        parts += [f"## {name}", _text(command.HELP)]
    return "\n\n".join(parts) + "\n"


def config() -> str:
    """Return the page of config fields: those of a training, and what a search and a comparison add."""
    parts = [
        "# Config fields",
        "Type `--config.NAME=VALUE`, and in Python `NAME` with `__` for each dot. A preset may set other "
        "values: `ttl-jax train --config=PRESET --help` shows them. A search and a comparison take the "
        "fields of a training, too.",
    ]
    seen: dict[str, object] = {}  # a search and a comparison have some defaults of their own
    for command, kind in CONFIGS.items():
        section = None
        for path, about, value in leaves(kind()):
            if path in seen and seen[path] == value:
                continue
            seen[path] = value
            if (above := path.rpartition(".")[0]) != section:
                section = above
                parts += [
                    f"\n## {command}: {section or 'the whole run'}\n",
                    "| field | default | what it is |",
                ]
                parts.append("|---|---|---|")
            bounds = f" ({about.bounds})" if about.bounds else ""
            unsaid = [choice for choice in about.choices if choice not in about.explanation]
            choices = f" One of {', '.join(about.choices)}." if unsaid else ""
            row = (f"`{path}`", f"`{value!r}`", f"{about.explanation}{bounds}.{choices}")
            parts.append(f"| {' | '.join(_cell(text) for text in row)} |")
    return "\n".join(parts) + "\n"


def api() -> str:
    """Return the page of the Python API, which mkdocstrings fills in from the docstrings."""
    parts = ["# Python", "What a notebook, or a file of your own, imports."]
    for title, names in API.items():
        parts += [f"## {title}", *(f"::: {name}" for name in names)]
    return "\n\n".join(parts) + "\n"


def _text(said: str) -> str:
    return f"```text\n{said.rstrip()}\n```"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for page in (commands, config, api):
        (FOLDER / f"{page.__name__}.md").write_text(page())
