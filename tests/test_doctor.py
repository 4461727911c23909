"""The doctor: each check on values that are well, doubtful and bad; the command's status and JSON."""

import json

import pytest

from ttl_jax import cli
from ttl_jax.commands import doctor


def test_python_and_versions():
    assert doctor.python((3, 11, 0)).status == "ok"
    old = doctor.python((3, 10, 4))
    assert old.status == "fail" and "3.11" in old.remedy
    installed = {"jax": "0.4.1", "numpy": "2.0"}.get
    (good,) = doctor.versions(["numpy>=1.26"], installed)
    assert good.status == "ok"
    bad = doctor.versions(["jax>=0.10", "numpy>=1.26", "flax>=0.12"], installed)
    assert [(check.name, check.status) for check in bad] == [
        ("package jax", "fail"),
        ("package flax", "fail"),
    ]
    assert bad[0].line() == (
        "fail  package jax      0.4.1, not >=0.10 -> pip install -c constraints.txt 'jax>=0.10'"
    )
    assert "absent" in bad[1].found
    assert any(line.startswith("jax>=") for line in doctor.requirements())


@pytest.mark.parametrize(("free", "status"), [(0.5e9, "fail"), (2e9, "warn"), (64e9, "ok"), (None, "ok")])
def test_memory(free, status):
    found = doctor.memory(free)
    assert found.status == status and bool(found.remedy) == (status != "ok")


def test_paths(tmp_path):
    assert doctor.place("data", str(tmp_path)).status == "ok"
    assert "does not exist" in doctor.place("data", str(tmp_path / "absent")).found
    assert str(tmp_path) in doctor.disk("disk", str(tmp_path / "not" / "yet")).found
    assert doctor.writable("cache", str(tmp_path / "new"), "").status == "ok"
    file = tmp_path / "file"
    file.touch()
    assert doctor.writable("cache", str(file), "set it").status == "fail"
    assert doctor.gcs([str(tmp_path)])[0].found == "not used"


def test_a_remote_path_needs_gcsfs(monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda name: None)
    (check,) = doctor.gcs(["/here", "gs://bucket/data"])
    assert check.status == "fail" and "ttl-jax[gcs]" in check.remedy


def test_the_command(tmp_path, capsys, monkeypatch):
    assert cli.main(["ttl_jax", "doctor", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in rows]
    assert {"python", "packages", "jax", "memory", "disk, cache", "cache", "weights", "gcs"} <= set(names)
    config = tmp_path / "config.py"
    config.write_text("from ttl_jax.config import default_config as get_config\n")
    words = [f"--config={config}", f"--config.data.path={tmp_path / 'absent'}", f"--workdir={tmp_path}"]
    assert cli.main(["ttl_jax", "doctor", *words]) == 2
    told = capsys.readouterr()
    assert "absent does not exist -> mend the path" in told.out and "checks failed: data" in told.err
    assert cli.main(["ttl_jax", "doctor", "--jsno"]) == 2
