"""The commands on gs:// paths, against a server on this machine that speaks Google's protocol."""

import email
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ttl_jax import cli, engines
from ttl_jax.commands import doctor
from ttl_jax.system import remote

pytest.importorskip("gcsfs", reason="pip install -c constraints.txt 'ttl-jax[gcs]'")
emulator = pytest.importorskip(
    "gcp_storage_emulator.server", reason="pip install -c constraints.txt gcp-storage-emulator"
)

ROOT = Path(__file__).parents[1]
SMALL = [
    "--config.model.name=resnet18", "--config.data.name=npz", "--config.data.image_size=16",
    "--config.data.batch_size=8", "--config.data.eval_batch_size=8", "--config.data.augment=flip",
    "--config.data.duplicates=ignore", "--config.total_steps=8", "--config.eval_every_epochs=1",
    "--config.log_every_steps=1", "--config.save_every_minutes=0", "--config.cache_features=False",
]  # fmt: skip


def read_exactly(request_handler, query, *, read=emulator._read_data):
    """The server's reading of an upload, to the byte.

    Its own parses uploads as mail, which takes a last carriage return of a file for part of a line's end:
    one state in a few hundred then lacks a byte (its manifest says so, and the run starts anew).
    """
    kind = request_handler.headers.get("Content-Type") or ""
    if not kind.startswith("multipart/related"):
        return read(request_handler, query)
    raw = emulator._decode_raw_data(emulator._read_raw_data(request_handler), request_handler)
    mark = b"--" + email.message_from_string(f"Content-Type: {kind}").get_boundary().encode()
    end = b"\r\n" if raw.startswith(mark + b"\r\n") else b"\n"
    (_, meta), (header, content) = (
        part.removeprefix(end).split(2 * end, 1) for part in raw.removeprefix(mark).split(end + mark)[:2]
    )
    kind = email.message_from_bytes(header).get_content_type()
    return {"meta": json.loads(meta), "content": content, "content-type": kind}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with DATA/toy.npz and weights.npz; gs://bucket holds the same."""
    from ttl_jax import weights

    place = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 20), ("val", 10), ("test", 9)):
        labels = np.arange(count) % 2
        images = rng.integers(0, 120, (count, 16, 16, 3)) + 100 * labels[:, None, None, None]
        arrays |= {f"{split}_images": images.astype(np.uint8), f"{split}_labels": labels[:, None]}
    (place / "data").mkdir()
    (place / "xla").mkdir()
    np.savez(place / "data" / "toy.npz", **arrays)
    variables = weights.initialise("resnet18", 2, seed=3)
    np.savez(place / "weights.npz", **weights.export_torch(variables, "resnet18"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    patch = pytest.MonkeyPatch()
    patch.setenv("NO_GCE_CHECK", "true")  # else every process asks for a metadata server first: seconds
    patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    patch.setattr(emulator, "_read_data", read_exactly)
    with emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket"):
        remote.bucket("gs://bucket").store(["data/toy.npz", "weights.npz"], place)
        yield place
    patch.undo()


@pytest.fixture
def machine(monkeypatch, tmp_path, place):
    """machine(name): from now on another machine, with a cache of its own (compiled programs are shared)."""

    def become(name):
        (tmp_path / name).mkdir()
        (tmp_path / name / "xla").symlink_to(place / "xla")
        monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path / name))
        # The same programs in a process of its own as in this one.
        return {**os.environ, "PYTHONPATH": str(ROOT), "TTL_JAX_PLAIN_HOST": "1"}

    become("first")
    return become


def train(root, workdir):
    return [
        "ttl_jax", "train", f"--config={ROOT}/configs/train.py:strategy=truncated(1)+full", *SMALL,
        f"--config.data.path={root}/data/toy.npz", f"--config.model.weights={root}/weights.npz",
        f"--workdir={workdir}", "--config.report=False",
    ]  # fmt: skip


def in_bucket(path):
    return sorted(remote.bucket(f"gs://bucket/{path}").files())


def read(path):
    return Path(remote.local(path)).read_bytes()


@pytest.mark.parametrize("content", [b"a\r", b"a\n", b"a\r\n", b"\r\n--", b""])
def test_a_file_arrives_as_it_is(place, tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    remote.bucket("gs://bucket/exact").store(["file"], tmp_path)
    assert read("gs://bucket/exact/file") == content


def test_killed_and_gone_on_with_on_another_machine_it_is_the_local_run(place, machine, tmp_path, capsys):
    assert cli.main(train(place, tmp_path / "local")) == 0
    here = machine("second")
    killed = subprocess.Popen([sys.executable, "-m", *train("gs://bucket", "gs://bucket/run")], env=here)
    bundles, until = [], time.monotonic() + 900
    while len(bundles) < 3 and killed.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
        bundles = [
            name for name in in_bucket("run") if name.startswith("checkpoints/") and "manifest" in name
        ]
    assert killed.poll() is None and len(bundles) >= 3, "it ended before it could be killed"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert "result.json" not in in_bucket("run")
    machine("third")
    capsys.readouterr()
    assert cli.main(train("gs://bucket", "gs://bucket/run")) == 0
    said = capsys.readouterr().out
    steps = [json.loads(line)["step"] for line in said.splitlines() if line.startswith('{"step"')]
    assert steps and min(steps) > 1, "it began anew"
    own = ("seconds", "weights")  # of the machine, and the path as it was given
    texts = read("gs://bucket/run/result.json"), (tmp_path / "local" / "result.json").read_bytes()
    results = [json.loads(text) for text in texts]
    for result, path in zip(
        results, ("gs://bucket/data/toy.npz", str(place / "data" / "toy.npz")), strict=True
    ):
        assert result["data"].pop("source") == f"npz {path}"
        assert result["data"].pop("splits_from") == f"the data's own, the arrays of {path}"
    one, other = ({name: value for name, value in result.items() if name not in own} for result in results)
    assert one == other
    for split in ("val", "test"):
        with (
            np.load(remote.local(f"gs://bucket/run/predictions/{split}.npz")) as ours,
            np.load(tmp_path / "local" / "predictions" / f"{split}.npz") as theirs,
        ):
            assert all(ours[name].tobytes() == theirs[name].tobytes() for name in theirs.files)
    # A report of both, written to the bucket; the command again says that the run is finished.
    words = ["gs://bucket/run", str(tmp_path / "local"), "--out=gs://bucket/reports/both.html"]
    assert cli.main(["ttl_jax", "report", *words]) == 0
    assert read("gs://bucket/reports/both.html").startswith(b"<!")
    assert cli.main(train("gs://bucket", "gs://bucket/run")) == 0
    assert "this run is finished" in capsys.readouterr().out
    assert cli.main([*train("gs://bucket", "gs://bucket/run"), "--config.seed=5"]) == 2
    assert "seed: 0 -> 5" in capsys.readouterr().err


class InThisProcess:
    """An engine that runs a cell where it is asked for it; notes what the bucket holds at every call."""

    def __init__(self):
        self.tasks, self.seen = [], []

    def submit(self, task):
        self.seen.append(in_bucket("compare"))
        self.tasks.append(task)

    def wait(self, seconds):
        return [self.tasks.pop().run()]

    def close(self, seconds=0.0):
        pass


def test_compare_and_search_leave_every_trial_in_the_bucket(place, machine, monkeypatch, capsys):
    engine = InThisProcess()
    monkeypatch.setattr(engines, "start", lambda name, workers, workdir: engine)
    shared = [*SMALL, "--config.data.path=gs://bucket/data/toy.npz", "--config.total_steps=2"]
    compare = [
        "ttl_jax", "compare", f"--config={ROOT}/configs/compare.py", "--workdir=gs://bucket/compare", *shared,
        "--config.model.weights=gs://bucket/weights.npz", "--config.compare.models=('resnet18',)",
        "--config.compare.datasets=()", "--config.compare.strategies=('truncated(1)+full',)",
        "--config.compare.seeds=(0, 1)", "--config.compare.lrs=(1e-3,)",
    ]  # fmt: skip
    assert cli.main(compare) == 0
    results = [[name for name in names if name.endswith("/result.json")] for names in engine.seen]
    assert [len(names) for names in results] == [0, 1]  # the first cell's, before the second begins
    assert {"compare.json", "report.html"} <= set(in_bucket("compare"))
    machine("other")
    assert cli.main(compare) == 0 and len(engine.seen) == 2  # nothing is left to do
    assert cli.main([*compare, "--config.compare.engine=ray"]) == 2
    assert "a --workdir that its machines share" in capsys.readouterr().err
    search = [
        "ttl_jax", "search", f"--config={ROOT}/configs/search.py:method=exhaustive,weights=none", *shared,
        "--config.search.units=1-2", "--workdir=gs://bucket/search",
    ]  # fmt: skip
    assert cli.main([*search, "--config.search.engine=ray"]) == 2
    assert "search.engine='ray' needs a --workdir that its machines share" in capsys.readouterr().err
    assert cli.main(search) == 0
    assert {"search.json", "figures/search.png", "trials/unit01_seed0/scores.json"} <= set(
        in_bucket("search")
    )


def test_prepare_leaks_and_the_doctor(place, machine, tmp_path, capsys):
    from PIL import Image

    with np.load(place / "data" / "toy.npz") as arrays:
        for name in ("train", "val", "test"):
            for number, (image, label) in enumerate(
                zip(arrays[f"{name}_images"], arrays[f"{name}_labels"], strict=True)
            ):
                file = tmp_path / "images" / name / f"class{label[0]}" / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(file)
    file = tmp_path / "images" / "val" / "class0" / "copy.png"
    file.write_bytes((tmp_path / "images" / "train" / "class0" / "0.png").read_bytes())
    names = [path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("images/**/*.png")]
    remote.bucket("gs://bucket").store(names, tmp_path)
    words = [f"--config={ROOT}/configs/train.py", "--config.data.image_size=16"]
    source = ["--config.data.name=folder", "--config.data.path=gs://bucket/images"]
    assert cli.main(["ttl_jax", "leaks", *words, *source]) == 2
    assert "copy.png" in capsys.readouterr().out
    prepare = ["ttl_jax", "prepare", "gs://bucket/images", "--out=gs://bucket/prepared", "--workers=1"]
    assert cli.main(prepare) == 0 and "manifest.json" in in_bucket("prepared")
    first = read("gs://bucket/prepared/manifest.json")
    for written in (
        1,
        0,
    ):  # another machine's copies are younger; the bytes are the same
        machine(f"other{written}") if written else None
        capsys.readouterr()
        assert cli.main(prepare) == 0
        assert f"shards: {written} written" in capsys.readouterr().out
        assert read("gs://bucket/prepared/manifest.json") == first
    prepared = ["--config.data.name=record", "--config.data.path=gs://bucket/prepared"]
    assert cli.main(["ttl_jax", "leaks", *words, *prepared]) == 2

    checks = doctor.gcs(["gs://bucket/images", "gs://bucket/nothing"], ["gs://bucket/new", "gs://absent/run"])
    assert [check.status for check in checks] == ["ok", "fail", "ok", "fail"]
    assert "gs://bucket/new can be written" in checks[2].line() and in_bucket("new") == []
    assert (
        cli.main(
            ["ttl_jax", "leaks", *words, "--config.data.name=folder", "--config.data.path=gs://bucket/no"]
        )
        == 2
    )
    assert "gs://bucket/no does not exist" in capsys.readouterr().err
