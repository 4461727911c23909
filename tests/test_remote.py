"""Mirrors and copies of a bucket, the bucket being another folder behind the same interface (etils)."""

import pytest
from etils import epath

from ttl_jax import remote
from ttl_jax.errors import UserError


def files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_mirror_brings_what_is_there_and_takes_back_what_changed(tmp_path, monkeypatch):
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path / "cache"))
    bucket = tmp_path / "bucket"
    (bucket / "checkpoints" / "last" / "1").mkdir(parents=True)
    (bucket / "checkpoints" / "last" / "1" / "manifest.json").write_text("one")
    (bucket / "metrics.jsonl").write_text("a\n")
    mirror = remote.Mirror("gs://bucket/run", epath.Path(bucket))
    assert files(mirror.folder) == files(bucket)
    (mirror.folder / "metrics.jsonl").write_text("a\nb\n")
    (mirror.folder / "checkpoints" / "last" / "1" / "manifest.json").unlink()
    (mirror.folder / "checkpoints" / "last" / "2").mkdir()
    for name in ("manifest.json", "state"):
        (mirror.folder / "checkpoints" / "last" / "2" / name).write_text(name)
    (mirror.folder / "owner.json").write_text("this machine")
    mirror.push()
    assert files(bucket) == {
        "metrics.jsonl": "a\nb\n",
        "checkpoints/last/2/manifest.json": "manifest.json",
        "checkpoints/last/2/state": "state",
    }
    # Another machine starts from the bucket, whatever it had before.
    (mirror.folder / "stale").write_text("x")
    assert files(remote.Mirror("gs://bucket/run", epath.Path(bucket)).folder) == files(bucket)


def test_manifests_come_last(tmp_path, monkeypatch):
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path / "cache"))
    order = []

    class Bucket(type(epath.Path(tmp_path))):
        def write_bytes(self, data):
            order.append(self.name)
            return super().write_bytes(data)

    mirror = remote.Mirror("gs://b/r", Bucket(tmp_path / "bucket"))
    (mirror.folder / "last").mkdir()
    for name in ("a", "manifest.json", "z"):
        (mirror.folder / "last" / name).write_text(name)
    mirror.push()
    assert order[-1] == "manifest.json" and sorted(order) == ["a", "manifest.json", "z"]


def test_local_paths_stay_and_absent_ones_are_refused(tmp_path):
    assert remote.local("runs/a") == "runs/a" and not remote.is_remote(tmp_path)
    with pytest.raises(UserError, match="does not exist, or may not be read"):
        remote.pull(epath.Path(tmp_path / "absent"), tmp_path / "here")
