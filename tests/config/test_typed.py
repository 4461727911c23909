"""Below the command line a config is a dataclass: no parameter or attribute takes one of any type."""

import ast
from pathlib import Path

import ttl_jax

PACKAGE = Path(ttl_jax.__file__).parent
NAMES = {"config", "section", "parallel", "options", "settings", "run", "values"}  # what configs are called


def untyped(source):
    """(line, name) of what is called as a config is and annotated as Any."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            found += [(each.lineno, each.arg, each.annotation) for each in arguments]
        elif isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                    found.append((each.lineno, each.target.id, each.annotation))
    return [
        (line, name)
        for line, name, annotation in found
        if name in NAMES and isinstance(annotation, ast.Name) and annotation.id == "Any"
    ]


def test_the_search_finds_parameters_and_attributes():
    source = "class A:\n    config: Any\ndef f(config: Any, *, parallel: Any, other: Any, run: int): ..."
    assert untyped(source) == [(2, "config"), (3, "config"), (3, "parallel")]


def test_no_config_is_of_any_type():
    found = {path: untyped(path.read_text()) for path in PACKAGE.rglob("*.py")}
    assert len(found) > 100 and not {path: names for path, names in found.items() if names}
