"""Rows of a batch over processes: every row in one process, padded to a multiple."""

from types import SimpleNamespace

import jax
import pytest

from ttl_jax.training.devices import Layout, Rows


@pytest.mark.parametrize(("parts", "padded"), [(1, 12), (2, 12), (4, 24)])
def test_every_process_has_its_share_of_the_rows(monkeypatch, parts, padded):
    chips = tuple(SimpleNamespace(process_index=process) for process in (0, 0, 1, 1, 2, 2))
    layout, found = Layout("jit", chips, parts), []
    for process in range(3):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        found.append(layout.rows(11))
    each = padded // 3
    assert found == [Rows(padded, slice(place * each, (place + 1) * each)) for place in range(3)]
    assert layout.rows(11, parts=1).padded == 12


def test_one_process_has_all_rows():
    chips = (SimpleNamespace(process_index=0),) * 4
    assert Layout("jit", chips, 2).rows(9) == Rows(16, slice(0, 16))
