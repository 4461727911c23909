"""Copies, mirrors and outputs of a bucket, in memory behind the interface that a real one has (fsspec).

tests/test_bucket.py runs the commands against a server that speaks Google's protocol.
"""

import fsspec
import pytest

from ttl_jax.errors import UserError
from ttl_jax.system import remote
from ttl_jax.system.whole_file import whole_file


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Its file system, emptied; the machine's cache is a new one."""
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    return system


def files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def stored(system, root):
    return {name[len(root) + 1 :]: system.cat_file(name).decode() for name in system.find(root)}


def noted(monkeypatch, system, method, position):
    """The bucket's paths that a method of the file system is called with, in order."""
    found, plain = [], getattr(type(system), method)

    def note(self, *places, **options):
        found.append(places[position])
        return plain(self, *places, **options)

    monkeypatch.setattr(type(system), method, note)
    return found


def another_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path / "other"))


def test_a_mirror_brings_what_is_there_and_takes_back_what_changed(bucket, tmp_path, monkeypatch):
    bucket.pipe({"/b/run/metrics.jsonl": b"a\n", "/b/run/checkpoints/last/1/manifest.json": b"one"})
    mirror = remote.Mirror("memory://b/run")
    assert mirror.folder.name == "run" and files(mirror.folder) == stored(bucket, "/b/run")
    (mirror.folder / "metrics.jsonl").write_text("a\nb\n")
    (mirror.folder / "checkpoints" / "last" / "1" / "manifest.json").unlink()
    (mirror.folder / "checkpoints" / "last" / "2").mkdir()
    for name in ("manifest.json", "state"):
        (mirror.folder / "checkpoints" / "last" / "2" / name).write_text(name)
    (mirror.folder / "owner.json").write_text("this machine")
    (mirror.folder / "features").mkdir()
    (mirror.folder / "features" / "train.npy").write_text("large")
    mirror.push()
    expected = {
        "metrics.jsonl": "a\nb\n",
        "checkpoints/last/2/manifest.json": "manifest.json",
        "checkpoints/last/2/state": "state",
    }
    assert stored(bucket, "/b/run") == expected
    another_machine(monkeypatch, tmp_path)
    assert files(remote.Mirror("memory://b/run").folder) == expected


def test_what_a_machine_had_before_gives_way_to_the_bucket(bucket):
    with remote.workfolder("memory://b/run") as (folder, _):
        (folder / "a").write_text("old")
    (folder / "stale").write_text("x")
    bucket.pipe_file("/b/run/a", b"gone on with elsewhere")
    with remote.workfolder("memory://b/run") as (folder, _):
        assert files(folder) == {"a": "gone on with elsewhere"}


def test_a_second_process_is_refused_and_later_ones_of_a_run_do_not_copy_back(bucket):
    first = remote.Mirror("memory://b/run")
    with pytest.raises(UserError, match="memory://b/run is in use by process"):
        remote.Mirror("memory://b/run")
    second = remote.Mirror("memory://b/run", part=1)
    assert second.folder != first.folder
    (second.folder / "a").write_text("x")
    second.push()
    assert stored(bucket, "/b/run") == {}


def test_manifests_come_after_arrays_and_results_after_all(bucket, monkeypatch):
    order = noted(monkeypatch, bucket, "put_file", 1)
    with remote.workfolder("memory://b/r") as (folder, _):
        (folder / "last").mkdir()
        (folder / "predictions").mkdir()
        for name in ("result.json", "last/a", "last/manifest.json", "last/z", "predictions/test.npz"):
            (folder / name).write_text(name)
    names = [name.removeprefix("/b/r/") for name in order]
    assert names[-2:] == ["last/manifest.json", "result.json"] and len(names) == 5


def test_what_is_half_written_waits_for_its_end(bucket):
    bucket.pipe({"/b/run/metrics.jsonl": b"a\n"})
    mirror = remote.Mirror("memory://b/run")
    with whole_file(mirror.folder / "predictions" / "test.npz") as beside:
        beside.write_text("half")
        mirror.push()
        assert stored(bucket, "/b/run") == {"metrics.jsonl": "a\n"}
        beside.write_text("whole")
    mirror.push()
    assert stored(bucket, "/b/run") == {"metrics.jsonl": "a\n", "predictions/test.npz": "whole"}


def test_a_failing_run_is_copied_back_too(bucket):
    with pytest.raises(ZeroDivisionError):
        with remote.workfolder("memory://b/run") as (folder, push):
            (folder / "a").write_text("1")
            push()
            assert stored(bucket, "/b/run") == {"a": "1"}
            (folder / "b").write_text("2")
            raise ZeroDivisionError
    assert stored(bucket, "/b/run") == {"a": "1", "b": "2"}


def test_fresh_moves_what_a_bucket_holds(bucket, capsys):
    bucket.pipe({"/b/run/a": b"1", "/b/run.1/x": b"0"})
    with remote.workfolder("memory://b/run", fresh=True) as (folder, _):
        assert files(folder) == {}
        (folder / "c").write_text("3")
    assert stored(bucket, "/b/run.2") == {"a": "1"} and stored(bucket, "/b/run") == {"c": "3"}
    assert "to memory://b/run.2" in capsys.readouterr().out


def test_a_copy_follows_what_it_is_of(bucket, tmp_path, monkeypatch):
    bucket.pipe({"/b/data/x/1.png": b"one", "/b/data/x/2.png": b"two", "/b/data/checkpoints/9": b"no"})
    place = tmp_path / "cache"
    copy = remote.local("memory://b/data", without=("checkpoints",))
    assert copy.startswith(str(place)) and copy.endswith("/data")
    assert files(place / copy) == {"x/1.png": "one", "x/2.png": "two"}
    bucket.pipe_file("/b/data/x/1.png", b"ONE")  # of the same size
    bucket.rm_file("/b/data/x/2.png")
    fetched = noted(monkeypatch, bucket, "get_file", 0)
    assert files(place / remote.local("memory://b/data/", without=("checkpoints",))) == {"x/1.png": "ONE"}
    remote.local("memory://b/data", without=("checkpoints",))
    assert fetched == ["/b/data/x/1.png"]  # once, and nothing the second time


def test_a_single_file_is_copied_and_written(bucket):
    bucket.pipe_file("/b/weights.npz", b"numbers")
    with open(remote.local("memory://b/weights.npz"), "rb") as file:
        assert file.read() == b"numbers" and file.name.endswith("/weights.npz")
    with remote.output("memory://b/all.html") as place:
        place.write_text("<p>")
    assert bucket.cat_file("/b/all.html") == b"<p>"


def test_local_paths_stay_and_absent_ones_are_refused(bucket, tmp_path):
    assert remote.local("runs/a") == "runs/a" and not remote.is_remote(tmp_path)
    with remote.workfolder(tmp_path) as (folder, push), remote.output(str(tmp_path / "f")) as place:
        assert folder == tmp_path and place == tmp_path / "f" and push() is None
    with pytest.raises(UserError, match="ttl_jax.system.remote.workfolder"):
        remote.only_local("memory://b/run")
    with pytest.raises(UserError, match="memory://b/absent does not exist, or may not be read"):
        remote.local("memory://b/absent")
    with pytest.raises(UserError, match="nosuch://b/a cannot be opened"):
        remote.local("nosuch://b/a")
