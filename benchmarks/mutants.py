"""Mutation testing: `python -m ttl_jax bench mutants WORKDIR [--count=300] [--seed=0]`.

Cosmic Ray's operators change one token of the code; the tests that run the changed line must notice. Every
package has the same number of mutants, at most a third of them another number. Tests are chosen by
coverage (one recorded run of the packages' tests), the fastest first, up to `--budget` seconds. The same
command goes on where it was stopped; `--again` runs the survivors against the present tests, whole files
of them; `--table` prints the table and the survivors with their lines. A survivor that changes nothing is
given a "reason" in WORKDIR/mutants.jsonl by hand, and is not run again.
Needs `pip install -e '.[mutants]'`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("strategies", "evaluation", "search", "training", "data")
# Operators that give other meanings. Left out: those that only crash (`<<` for `+`), and `is` for `==`.
OPERATORS = (
    *(f"ReplaceBinaryOperator_{a}_{b}" for a, b in (
        ("Add", "Sub"), ("Sub", "Add"), ("Mul", "Div"), ("Div", "Mul"), ("FloorDiv", "Mul"), ("Mod", "Add"),
        ("Pow", "Mul"), ("BitAnd", "BitOr"),
    )),
    *(f"ReplaceComparisonOperator_{a}_{b}" for a, b in (
        ("Eq", "NotEq"), ("NotEq", "Eq"), ("Lt", "LtE"), ("Lt", "GtE"), ("LtE", "Lt"), ("LtE", "Gt"),
        ("Gt", "GtE"), ("Gt", "LtE"), ("GtE", "Gt"), ("GtE", "Lt"), ("Is", "IsNot"), ("IsNot", "Is"),
    )),
    "ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not", "AddNot", "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak", "NumberReplacer", "ZeroIterationForLoop",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: the nth place in a module where an operator applies."""

    module: str
    operator: str
    occurrence: int
    line: int


def mutants() -> Iterator[Mutant]:
    """Every mutant of the packages, in a fixed order."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    for package in PACKAGES:
        for path in sorted((ROOT / "ttl_jax" / package).rglob("*.py")):
            tree = get_ast(path.read_text())
            for name in OPERATORS:
                operator, count = get_operator(f"core/{name}")(), 0
                for node in ast_nodes(tree):
                    for start, _ in operator.mutation_positions(node):
                        yield Mutant(str(path.relative_to(ROOT)), name, count, start[0])
                        count += 1


def sampled(count: int, seed: int) -> list[Mutant]:
    """As many mutants of each package, in random order."""
    draw, chosen = random.Random(seed), []
    every = list(mutants())
    for package in PACKAGES:
        held = [item for item in every if item.module.startswith(f"ttl_jax/{package}/")]
        numbers = [item for item in held if item.operator == "NumberReplacer"]
        others = [item for item in held if item.operator != "NumberReplacer"]
        share = count // len(PACKAGES)
        chosen += draw.sample(numbers, share // 3) + draw.sample(others, share - share // 3)
    draw.shuffle(chosen)
    return chosen


def mutated(mutant: Mutant) -> str:
    """The module's text with the change."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    text = (ROOT / mutant.module).read_text()
    changed = mutate_code(text, get_operator(f"core/{mutant.operator}")(), mutant.occurrence)
    assert changed is not None
    return changed


def record(workdir: Path) -> None:
    """Runs the packages' tests once: who runs which line, and how long each takes."""
    if (workdir / "coverage").exists():
        return
    tests = [f"tests/{package}" for package in PACKAGES]
    command = [
        sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "--cov=ttl_jax",
        "--cov-context=test", "--cov-report=", f"--junitxml={workdir / 'times.xml'}", *tests,
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, env=os.environ | {"COVERAGE_FILE": str(workdir / "part")}, check=False)
    (workdir / "part").rename(workdir / "coverage")


@dataclass(frozen=True)
class Coverage:
    """The tests of each line, and their seconds."""

    database: Path
    seconds: dict[str, float]

    @classmethod
    def read(cls, workdir: Path) -> Coverage:
        """From the files of `record`."""
        seconds = {}
        for case in ElementTree.parse(workdir / "times.xml").iter("testcase"):
            parts = case.get("classname", "").split(".")
            seconds[f"{'/'.join(parts)}.py::{case.get('name')}"] = float(case.get("time", 0))
        return cls(workdir / "coverage", seconds)

    def tests(self, module: str, line: int, budget: float) -> list[str]:
        """The module's own tests, those that run a line, then the others of their files; the fastest first.

        A module's own are in the file that is named after it. A line that is run by imports has the tests
        that run its module. The others count since a fixture or a compiled program that two tests share is
        recorded for the first of them alone.
        """
        from coverage.numbits import numbits_to_nums

        query = (
            "select context.context, numbits from line_bits join context on context.id = context_id "
            "join file on file.id = file_id where file.path = ?"
        )
        with sqlite3.connect(self.database) as database:
            rows = database.execute(query, (str(ROOT / module),)).fetchall()
        every = [(name.rpartition("|")[0], numbits_to_nums(bits)) for name, bits in rows if name]
        found = {name for name, lines in every if line in lines} or {name for name, _ in every}
        files = {name.partition("::")[0] for name in found}
        of_files = {name for name in self.seconds if name.partition("::")[0] in files}
        own = {name for name in self.seconds if f"/test_{Path(module).stem}.py::" in name}
        chosen: list[str] = []
        spent = 0.0
        for names in (own, found - own, of_files - found - own):
            for name in sorted(names, key=lambda name: (self.seconds.get(name, 1.0), name)):
                spent += self.seconds.get(name, 1.0)
                if chosen and spent > budget:
                    return chosen
                chosen.append(name)
        return chosen


def whole_files(coverage: Coverage, module: str, line: int, budget: float) -> list[str]:
    """As they are now: the module's own file, then those of tests that run a line, the fastest first."""
    own = f"tests/{Path(module).parts[1]}/test_{Path(module).stem}.py"
    chosen, spent = ([own] if (ROOT / own).exists() else []), 0.0
    seconds: Counter[str] = Counter()
    for name, each in coverage.seconds.items():
        seconds[name.partition("::")[0]] += each  # type: ignore[assignment]
    files = {name.partition("::")[0] for name in coverage.tests(module, line, float("inf"))}
    for file in sorted(files - {own}, key=lambda file: (seconds[file], file)):
        spent += seconds[file]
        if chosen and spent > budget:
            break
        chosen.append(file)
    return chosen


def noticed(tree: Path, module: str, text: str, tests: Sequence[str], limit: float) -> str:
    """Outcome of the tests on a tree with this text of a module, in a child process.

    killed, timeout or survived; "error" where pytest found no such tests, which says nothing of them.
    """
    place = tree / module
    before = place.read_text()
    place.write_text(text)
    try:
        child = os.fork()  # what tests import from elsewhere is there already; no device has been started
        if child == 0:
            os.setsid()
            out = os.open(tree.parent / "last.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.chdir(tree)
            sys.path.insert(0, str(tree))
            os.environ["PYTHONPATH"] = f"{tree}:{os.environ.get('PYTHONPATH', '')}"
            for name in [name for name in sys.modules if name.partition(".")[0] == "ttl_jax"]:
                del sys.modules[name]  # those of the tree are to be imported
            sys.dont_write_bytecode = True  # a file of one second and one length would be taken for the last
            import pytest

            programs = f"cache_dir={tree.parent / 'cache'}"  # compiled once for all
            os._exit(int(pytest.main(["-q", "-x", "-o", programs, "-p", "no:cov", *tests])))
        until = time.monotonic() + limit
        while time.monotonic() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                absent = code == 5 or b"ERROR: not found" in (tree.parent / "last.txt").read_bytes()
                return "survived" if code == 0 else "error" if absent else "killed"
            time.sleep(0.05)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return "timeout"
    finally:
        place.write_text(before)


def control(tree: Path, module: str, tests: Sequence[str], budget: float) -> None:
    """Ends the command unless a module as it is passes its tests, and one that cannot be imported does not.

    Else the harness itself would kill every mutant, or none.
    """
    text = (tree / module).read_text()
    for kind, want in ((text, "survived"), ("raise RuntimeError\n", "killed")):
        found = noticed(tree, module, kind, tests, 3 * budget + 60)
        if found != want:
            said = tree.parent / "last.txt"
            sys.exit(f"{module} {'as it is' if kind == text else 'broken'}: {found}; pytest's words: {said}")


def table(rows: Sequence[dict[str, object]]) -> str:
    """The counts of each package, and each survivor with its line."""
    lines = ["| package | mutants | killed | share |", "|---|---:|---:|---:|"]
    for package in (*PACKAGES, ""):
        held = [row for row in rows if str(row["module"]).startswith(f"ttl_jax/{package}")]
        counts = Counter(str(row["outcome"]) for row in held)
        killed = counts["killed"] + counts["timeout"]
        share = f"{killed / max(1, len(held)):.1%}"
        lines.append(f"| {package or 'all'} | {len(held)} | {killed} | {share} |")
    lines.append("")
    for row in rows:
        if row["outcome"] == "survived":
            reason = f": {row['reason']}" if "reason" in row else ""
            lines.append(f"- {row['module']}:{row['line']} `{row['text']}`{reason}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is left and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of tests a mutant")
    parser.add_argument("--again", action="store_true", help="run the survivors that have no reason again")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args(arguments)
    workdir: Path = given.workdir.absolute()
    workdir.mkdir(parents=True, exist_ok=True)
    done = workdir / "mutants.jsonl"
    rows = [json.loads(line) for line in done.read_text().splitlines()] if done.exists() else []
    if not given.table:
        record(workdir)
        coverage, tree = Coverage.read(workdir), workdir / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".*", "runs", "build", "__pycache__"))
        import flax.linen, grain, optax, orbax.checkpoint, pytest, scipy.stats, sklearn.metrics  # noqa: E401, F401, I001

        if given.again:
            rows = [row for row in rows if row["outcome"] not in ("survived", "error") or "reason" in row]
        known, controlled = {(row["module"], row["operator"], row["occurrence"]) for row in rows}, False
        for mutant in sampled(given.count, given.seed):
            if (mutant.module, mutant.operator, mutant.occurrence) in known:
                continue
            choose = partial(whole_files, coverage) if given.again else coverage.tests
            tests = choose(mutant.module, mutant.line, given.budget)
            limit = 10 * given.budget + 60 if given.again else 3 * given.budget + 60
            began = time.monotonic()
            if not controlled and tests:
                control(tree, mutant.module, tests, given.budget)
                controlled, began = True, time.monotonic()
            outcome = noticed(tree, mutant.module, mutated(mutant), tests, limit) if tests else "survived"
            seconds = round(time.monotonic() - began, 1)
            text = mutated(mutant).splitlines()[mutant.line - 1].strip()
            rows.append(
                asdict(mutant) | {"text": text, "outcome": outcome, "tests": len(tests), "seconds": seconds}
            )
            done.write_text("".join(json.dumps(row) + "\n" for row in rows))
            print(mutant.module, mutant.line, mutant.operator, outcome, len(tests), seconds, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
