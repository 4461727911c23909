"""A file that is written beside its place, and takes it only when it is whole."""

import pytest

from ttl_jax.system.whole_file import whole_file


def test_it_appears_at_the_end_under_its_name_alone(tmp_path):
    path = tmp_path / "new" / "table.npz"
    with whole_file(path) as beside:
        beside.write_text("half")
        assert not path.exists() and beside.parent == path.parent and beside.suffix == ".npz"
        beside.write_text("whole")
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_what_was_there_stays_where_something_is_raised(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), whole_file(path) as beside:
        beside.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
