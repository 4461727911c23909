"""What README.md and docs/ say: commands that parse, links that lead somewhere, questions that are answered.

A comment `<!-- run -->` before a block says that `make docs-check` runs it as it stands: those of a page one
after the other, the pages in the order of RUN, all in one folder, as a reader would. All commands are parsed
here, and typed with fewer epochs and smaller images by test_docs_commands.py.
"""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from markdown_it import MarkdownIt

from ttl_jax import strategies
from ttl_jax.cli import COMMANDS
from ttl_jax.commands import arguments
from ttl_jax.compare.config import CompareConfig
from ttl_jax.config.fields import leaves
from ttl_jax.search.config import SearchConfig
from ttl_jax.system import folders

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent != DOCS / "reference")
PAGES = [README, ROOT / "CONTRIBUTING.md", *PAGES]
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
RUN = [DOCS / f"{name}.md" for name in ("first_run", "own_data", "ship", "read_report")]
SHORTENED = ("compare", "serve")  # of README's commands: minutes, and no end; test_docs_commands types them
FIELDS = {path for kind in (SearchConfig, CompareConfig) for path, _, _ in leaves(kind())}
QUESTIONS = {  # in README's words, and what the answer has to say
    "which class is positive": "data.positive=NAME",
    "how do I predict": "ttl-jax predict runs/skin new_images --out=predictions.csv",
    "how do I resume": "the same command again",
    "how do I use my GPU": "[cuda]",
}
ids = [str(path.relative_to(ROOT)) for path in PAGES]
every_page = pytest.mark.parametrize("page", PAGES, ids=ids)


class Block(NamedTuple):
    """A block of code: its language ("" of an indented one), its text, and whether it is run."""

    language: str
    text: str
    run: bool


@cache
def tokens(page):
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def blocks(page):
    found, before = [], ""
    for token in tokens(page):
        if token.type in ("fence", "code_block"):
            found.append(Block(token.info.strip(), token.content, before == "<!-- run -->"))
        before = token.content.strip()
    return found


def inline(page, kind):
    """The inline tokens of a page of one kind: code_inline, link_open, image, text."""
    return [child for token in tokens(page) for child in token.children or () if child.type == kind]


def commands(text):
    """The words of each `ttl-jax ...`, `python -m ttl_jax ...` and `launch/... -- ...` of a shell block."""
    lines = re.sub(r"\\\n", " ", text).splitlines()
    lines = [re.sub(r"^\s*python -m ttl_jax\b", "ttl-jax", line) for line in lines]
    lines = [
        re.sub(r"^\s*launch/\w+\.sh \w+ -- (?!.*\.\.\.)", "ttl-jax train --workdir=runs/cloud ", line)
        for line in lines
    ]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("ttl-jax ")]


def shell(page):
    return [block for block in blocks(page) if block.language in ("", "bash", "sh")]


def heading(token_list, place):
    return "".join(child.content for child in token_list[place + 1].children)


@cache
def anchors(page):
    found = tokens(page)
    titles = [heading(found, place) for place, token in enumerate(found) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"): title for title in titles}


def links(page):
    """(file, anchor) of each link of a page that stays within the repository."""
    found = [token.attrs["href"] for token in inline(page, "link_open")]
    found += [token.attrs["src"] for token in inline(page, "image")]
    for target in found:
        if not target.startswith(("http://", "https://", "mailto:")):
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


class Understood(BaseException):
    """Raised in the place of doing what was typed."""


@pytest.fixture
def dry(monkeypatch):
    """Commands read what is typed as ever, and then end."""

    def ends(function):
        def read(*given, **options):
            function(*given, **options)
            raise Understood

        return read

    for name, command in COMMANDS.items():
        for reader in ("config_and_workdir", "overridden"):
            if hasattr(command, reader):
                monkeypatch.setattr(command, reader, ends(getattr(arguments, reader)))
        if hasattr(command, "Parser") and name not in ("evaluate", "quickstart"):  # these read on
            ways = ("parse_args", "parse_intermixed_args")
            reads = {way: ends(getattr(arguments.Parser, way)) for way in ways}
            monkeypatch.setattr(command, "Parser", type("Parser", (arguments.Parser,), reads))
    for place in ("data.prepared.prepare.prepare", "commands.doctor.examine"):
        monkeypatch.setattr(f"ttl_jax.{place}", ends(lambda *given: None))
    monkeypatch.setattr("ttl_jax.data.sources.registry.guess_source", lambda path: "folder")


def understand(words):
    """Let a command read its words; a benchmark's are looked up in its file."""
    name, given = words[0], words[1:]
    if name.startswith("-") or "--help" in given:
        assert name in ("--version", "--help") or name in COMMANDS
    elif name == "bench" and given:
        source = (folders.shipped("benchmarks") / f"{given[0]}.py").read_text()
        for flag in re.findall(r"--(\w+)", " ".join(given)):
            assert flag in source, f"bench {given[0]} takes no --{flag}"
    elif name in ("strategies", "bench") and not given:
        return
    else:
        with pytest.raises(Understood):
            COMMANDS[name].run(given)


@every_page
def test_every_command_is_understood(page, dry):
    for block in shell(page):
        for words in commands(block.text):
            understand(words)


@every_page
def test_shell_blocks_are_shell(page):
    text = "\n".join(block.text for block in shell(page) if commands(block.text))
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""


@every_page
def test_every_flag_in_the_text_exists(page):
    for code in inline(page, "code_inline"):
        for field in re.findall(r"--config\.([a-z_0-9.]+)", code.content):
            assert field.rstrip(".") in FIELDS, f"there is no --config.{field}"
        for command in re.findall(r"^(?:ttl-jax|python -m ttl_jax) ([a-z]+)", code.content):
            assert command in COMMANDS, f"there is no command {command}"


@every_page
def test_every_make_target_exists(page):
    targets = set(re.findall(r"^([\w.$()/-]+):", (ROOT / "Makefile").read_text(), re.M))
    said = [block.text for block in shell(page)] + [code.content for code in inline(page, "code_inline")]
    for target in re.findall(r"^\s*make ([\w-]+)", "\n".join(said), re.M):
        assert target in targets, f"there is no `make {target}`"


@every_page
def test_python_blocks_compile(page):
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@every_page
def test_every_link_leads_somewhere(page):
    for path, anchor in links(page):
        assert path.exists(), f"{path} is not there"
        assert not anchor or anchor in anchors(path), f"{path.name} has no heading #{anchor}"


@every_page
def test_nothing_is_left_to_be_filled_in(page):
    assert not re.search(r"^[A-Z]{6,}$|TODO|FIXME|TBD", page.read_text(), re.M)


def navigated(entries):
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else navigated(value)


def test_the_site_has_every_page():
    listed = list(navigated(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    assert len(set(listed)) == len(listed)
    here = {str(path.relative_to(DOCS)) for path in PAGES if DOCS in path.parents}
    there = {path for path in listed if not path.startswith("reference/")}
    assert here == there


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered_within_two_clicks(question):
    reached = {path for path, _ in links(README) if path.suffix == ".md"}
    reached |= {path for page in list(reached) for path, _ in links(page) if path.suffix == ".md"}
    words = question.lower().replace(" ", "-")
    pages = [page for page in reached if words in anchors(page)]
    assert pages, f"no heading says {question!r}"
    text = re.split(r"(?m)^#+ ", pages[0].read_text())
    (answer,) = [part for part in text if part.lower().startswith(question.lower())]
    assert QUESTIONS[question] in " ".join(answer.split())
    assert (pages[0], words) in set(links(README))  # one click, even


def prose(page):
    """The sentences of paragraphs and lists; code and links' targets are left out, tables too."""
    said, inside = [], 0
    for token in tokens(page):
        inside += (token.type == "table_open") - (token.type == "table_close")
        if token.type == "inline" and not inside:
            words = ("it" if part.type == "code_inline" else part.content or " " for part in token.children)
            said.append("".join(words))
    return said


def syllables(word):
    """Groups of vowels, less a silent e: within 3 points of Flesch's index of textstat on these pages."""
    groups = len(re.findall(r"[aeiouy]+", word))
    silent = word.endswith("e") and not word.endswith(("le", "ee")) or re.search(r"[^aeioutdy]ed$", word)
    return max(1, groups - bool(silent))


def reading_ease(text):
    """Flesch 1948: 100 is very easy, 60 plain, 30 hard."""
    words = re.findall(r"[a-z']+", text.lower())
    sentences = max(1, len(re.findall(r"[.!?;:](?=\s|$)", text)))
    return 206.835 - 1.015 * len(words) / sentences - 84.6 * sum(map(syllables, words)) / len(words)


def test_reading_ease_of_known_sentences():
    assert reading_ease("The cat sat on the mat.") > 110
    hard = "Heterogeneous institutional populations necessitate comprehensive multidimensional recalibration."
    assert reading_ease(hard) < 0


def test_readme_is_short_and_plain():
    lines = README.read_text().splitlines()
    assert len(lines) <= 110 and max(map(len, lines)) <= 120
    ends = (".", "!", "?", ":")
    text = "\n".join(said if said.rstrip().endswith(ends) else f"{said}." for said in prose(README))
    assert reading_ease(text) >= 60
    numbers = re.findall(r"\d+(?:\.\d+)?", text)
    assert len(numbers) <= 15  # they live in docs/results and docs/performance.md


def test_readme_names_every_strategy():
    (table,) = re.findall(r"^\| strategy \|.*?\n\n", README.read_text(), re.M | re.S)
    assert sorted(re.findall(r"\| `(\w+)`", table)) == sorted(strategies.names())


def test_readme_types_what_the_pages_run():
    run = [words for page in RUN for block in blocks(page) if block.run for words in commands(block.text)]
    run.append(["doctor"])
    for block in shell(README):
        for words in commands(block.text):
            assert words in run or words[0] in SHORTENED, f"no page runs {shlex.join(words)}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        assert cell["outputs"] == [] and cell["execution_count"] is None
        compile("".join(cell["source"]), path.name, "exec")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder that the pages' blocks run in, and the environment."""
    folder = tmp_path_factory.mktemp("reader")
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    python = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return folder, os.environ | {"PATH": paths, "PYTHONPATH": python}


@pytest.mark.docs
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_marked_blocks_run(page, place):
    folder, environment = place
    for block in blocks(page):
        if block.run:
            shell = ["bash", "-euo", "pipefail", "-c", block.text]
            words = [sys.executable, "-c", block.text] if block.language == "python" else shell
            done = subprocess.run(words, cwd=folder, env=environment, text=True, capture_output=True)
            print(block.text, done.stdout[-2000:], done.stderr[-2000:])
            assert done.returncode == 0, f"{page.name}:\n{block.text}\n{done.stderr[-1000:]}"


@pytest.mark.docs
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_run(path, place):
    import nbformat
    from nbclient import NotebookClient

    folder, environment = place
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}})
    client.execute(env=environment)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
