"""A short form of bad_values.py: every kind of bad value and damaged file, typed in this process."""

import contextlib

import bad_values
import pytest
from bad_values import FOLDER

LONG = ("disk full", "quickstart", "search", "compare", "explain", "export", "200,000", "10 MB", "classes")


def chosen():
    """The cases that take a moment: of damaged files two ways each."""
    for kind, cases in bad_values.KINDS.items():
        for case in cases():
            if any(word in case.name for word in LONG) or bad_values.slow(case):
                continue
            if kind == "own_files" and not case.name.endswith((" cut", " odd")):
                continue
            yield case


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The files and finished runs that the cases damage."""
    place = tmp_path_factory.mktemp("base")
    (place / FOLDER).mkdir()
    with contextlib.chdir(place):
        bad_values.make_base(FOLDER)
    return place / FOLDER


def test_each_ends_in_one_line_and_leaves_what_was_there(base):
    outcomes = [(case.name, outcome) for case, outcome in bad_values.typed(chosen(), base)]
    faults = [(name, outcome.fault, outcome.said[-300:]) for name, outcome in outcomes if outcome.fault]
    assert not faults, "\n".join(map(str, faults))
    assert len(outcomes) > 150


def test_a_fault_is_seen(base):
    """What is right is at fault where it is not what the case wants: the check can fail."""
    good = bad_values.Case("good", ("models",))
    words = ("train", "--config={folder}/none.py", "--workdir={new}")
    raised = bad_values.Case("raised", words, says="nothing of it")
    assert [outcome.fault for _, outcome in bad_values.typed(iter((good, raised)), base)] == [
        "status 0", "does not say 'nothing of it'",
    ]  # fmt: skip
