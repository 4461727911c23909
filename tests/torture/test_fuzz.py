"""A short form of the fuzzer: hostile and damaged files, read in another process with limits."""

import random
from itertools import chain, islice

import fuzz
import pytest

pytest.importorskip("gdcm")  # lossless JPEG is made with it
import hostile_dicom  # noqa: E402
import hostile_images  # noqa: E402
import hostile_weights  # noqa: E402

LARGEST = 1 << 18  # bytes of a file, so that the short form is short
# Nothing of these may be read: the numbers are elsewhere or nowhere, or reading them would run something.
NEVER = (
    "external", "virtual", "soft-link", "unwritten", "fill", "chunks", "cycle", "objects", "overlap",
    "deflated",
)  # fmt: skip


@pytest.fixture(scope="module")
def outcomes():
    """(kind, file, outcome) of every file."""
    honest = {"weights": hostile_weights.honest(), "dicom": hostile_dicom.honest()} | hostile_images.honest()
    whole = (
        ("whole", f"{kind}-{name}", content)
        for kind, files in honest.items()
        for name, content in files.items()
    )
    damaged = chain.from_iterable(fuzz.mutated(kind, files, 24, 1) for kind, files in honest.items())
    data = chain(hostile_images.hostile(1, LARGEST), hostile_dicom.hostile(1, LARGEST))
    hostile = chain(hostile_weights.hostile(1, LARGEST), islice(data, None, None, 10))
    return list(fuzz.run(chain(whole, hostile, damaged)))


def test_hostile_and_damaged_files_end_as_read_or_in_one_sentence(outcomes):
    assert len(outcomes) > 900
    assert [(file, outcome) for _, file, outcome in outcomes if outcome.fault] == []


def test_whole_files_are_read(outcomes):
    refused = {file for kind, file, outcome in outcomes if kind == "whole" and outcome.how != "read"}
    assert refused == set()


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
