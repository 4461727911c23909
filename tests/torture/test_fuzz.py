"""A short form of the fuzzer: hostile and damaged files, read in another process with limits."""

import random
from itertools import chain

import fuzz
import hostile_weights
import pytest

LARGEST = 2 << 20  # bytes of a file, so that the short form is short
# Nothing of these may be read: the numbers are elsewhere or nowhere, or reading them would run something.
NEVER = (
    "external",
    "virtual",
    "soft-link",
    "unwritten",
    "fill",
    "chunks",
    "cycle",
    "objects",
    "overlap",
    "deflated",
)


@pytest.fixture(scope="module")
def outcomes():
    """(kind, file, outcome) of every file."""
    honest = hostile_weights.honest()
    whole = (("whole", f"weights-{name}", content) for name, content in honest.items())
    damaged = fuzz.mutated("weights", honest, 300, seed=1)
    return list(fuzz.run(chain(whole, hostile_weights.hostile(seed=1, most=LARGEST), damaged)))


def test_hostile_and_damaged_files_end_as_read_or_in_one_sentence(outcomes):
    assert len(outcomes) > 900
    assert [(file, outcome) for _, file, outcome in outcomes if outcome.fault] == []


def test_whole_files_are_read(outcomes):
    assert {outcome.how for kind, _, outcome in outcomes if kind == "whole"} == {"read"}


def test_nothing_is_read_from_files_that_run_code_or_point_elsewhere(outcomes):
    refused = [
        outcome.how
        for kind, file, outcome in outcomes
        if kind.startswith("hostile")
        and (kind in ("hostile code", "hostile pickles") or file.split("-", 2)[-1].startswith(NEVER))
    ]
    assert set(refused) == {"refused"} and len(refused) > 400


def test_the_same_seed_makes_the_same_mutations():
    content = bytes(range(256)) * 4
    assert fuzz.mutate(content, random.Random(5)) == fuzz.mutate(content, random.Random(5)) != content
