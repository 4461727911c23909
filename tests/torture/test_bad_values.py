"""A short form of bad_values.py: some of every kind of bad value and damaged file, typed in this process."""

import contextlib

import bad_values
import pytest
from bad_values import FOLDER

MOST = {
    "values": 24, "config_files": 8, "tables": 12, "images": 3, "folders": 6, "newer": 2, "own_files": 12,
    "runs": 9,
}  # fmt: skip
FAST = ("train: ", "finished: ", "interrupted: ", "resume: ")  # other commands load a run before they end
SLOW = ("disk full", "200,000", "10 MB", "classes", "of one colour each", "l2_sp")


def chosen():
    """So many of each kind, from its beginning to its end."""
    for kind, cases in bad_values.KINDS.items():
        fast = [
            case for case in cases()
            if case.name.startswith(FAST) and not any(word in case.name for word in SLOW)
            and (0 not in case.ends or case.name.startswith("resume"))
        ]  # fmt: skip
        step = max(1, len(fast) // MOST[kind])
        yield from fast[::step][: MOST[kind]]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The files and the finished run that the cases damage."""
    place = tmp_path_factory.mktemp("base")
    (place / FOLDER).mkdir()
    with contextlib.chdir(place):
        bad_values.make_base(FOLDER, runs=("run",))
    return place / FOLDER


def test_each_ends_in_one_line_and_leaves_what_was_there(base):
    outcomes = [(case.name, outcome) for case, outcome in bad_values.typed(chosen(), base)]
    faults = [(name, outcome.fault, outcome.said[-300:]) for name, outcome in outcomes if outcome.fault]
    assert not faults, "\n".join(map(str, faults))
    assert len(outcomes) >= 60


def test_a_fault_is_seen(base):
    """What is right is at fault where it is not what the case wants: the check can fail."""
    good = bad_values.Case("good", ("models",))
    words = ("train", "--config={folder}/none.py", "--workdir={new}")
    other = bad_values.Case("other words", words, says="nothing of it")
    assert [outcome.fault for _, outcome in bad_values.typed(iter((good, other)), base)] == [
        "status 0", "does not say 'nothing of it'",
    ]  # fmt: skip
