"""Being asked to stop: at every place where it is polled, the run goes on bit for bit."""

import http.server
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from ttl_jax import cli
from ttl_jax.config import set_fields
from ttl_jax.data.dataset import ArrayReader, Dataset
from ttl_jax.errors import UserError
from ttl_jax.system import preemption
from ttl_jax.system.preemption import Notice, Preempted, watch
from ttl_jax.training.programs import Session
from ttl_jax.training.records import provenance
from ttl_jax.training.run import train

HERE = Path(__file__).parent


class Asking(ArrayReader):
    """Images of which the n-th read has the process asked to stop."""

    def __init__(self, images, notice, at):
        super().__init__(images)
        object.__setattr__(self, "left", [at])
        object.__setattr__(self, "notice", notice)

    def read(self, indices):
        self.left[0] -= 1
        if self.left[0] == 0:
            self.notice.reason = "a test"
        return super().read(indices)


def asking(split, notice, at):
    fields = {name: getattr(split, name) for name in Dataset.__dataclass_fields__}
    return Dataset(**{**fields, "images": Asking(split.images.images, notice, at)})


def test_asked_in_steps_evaluations_measures_and_at_the_end_it_goes_on_bit_for_bit(
    tmp_path, config, datasets
):
    set_fields(config, {
        "strategy": "truncated(2)+lp_ft(share=0.5)+auto_rgn(batches=1)", "eval_every_epochs": 0.8,
        "cache_features": False, "data.loader_threads": 0, "log_every_steps": 1,
    })  # fmt: skip
    whole = train(config, tmp_path / "whole", datasets)
    broken, stops = tmp_path / "broken", []
    # 6 steps in 2 phases; a validation is 3 reads. Each start is asked later in what it still has to do.
    for split, at in (("train", 1), ("val", 2), ("train", 3), ("val", 4), ("val", 1), ("test", 2)):
        notice = Notice()
        with pytest.raises(Preempted) as stopped:
            train(
                config,
                broken,
                {**datasets, split: asking(datasets[split], notice, at)},
                session=Session(notice=notice),
            )
        stops.append(str(stopped.value))
    assert any("saved at step" in line for line in stops)
    resumed = train(config, broken, datasets)
    jax.tree.map(np.testing.assert_array_equal, whole.variables, resumed.variables)
    assert resumed.metrics["test"] == whole.metrics["test"]

    def lines(folder):
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return [{key: row[key] for key in row if key != "img_per_s"} for row in rows]

    assert lines(broken) == lines(tmp_path / "whole")


def test_a_second_process_is_told_who_holds_the_folder(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from ttl_jax.training.records import provenance\n"
        "with provenance.alone(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(UserError, match=rf"in use by process {holder.pid} on .+ since 20\d\d-") as told:
            with provenance.alone(tmp_path):
                pass
        assert "wait for it, or stop it" in str(told.value)
    finally:
        holder.kill()  # as hard as can be: the folder is free all the same
        holder.wait()
    with provenance.alone(tmp_path):
        pass


def test_fresh_moves_the_old_folder_aside(tmp_path):
    run = tmp_path / "run"
    assert provenance.set_aside(run) is None
    for number in (1, 2):
        run.mkdir()
        (run / "config.json").write_text(str(number))
        assert provenance.set_aside(run) == tmp_path / f"run.{number}"
        assert (tmp_path / f"run.{number}" / "config.json").read_text() == str(number)
        assert not run.exists()


@pytest.fixture
def heard():
    """SIGHUP as in a terminal, also where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_a_notice_and_no_exception(number, heard):
    before = signal.getsignal(number)
    with watch(grace=60) as notice:
        assert not notice.asked()
        os.kill(os.getpid(), number)
        _until(notice.asked)
        assert notice.reason == number.name
        with pytest.raises(Preempted, match=number.name):
            list(notice.polled([1, 2]))
    assert signal.getsignal(number) is before


def test_a_file_and_the_metadata_server_are_notices_too(tmp_path, monkeypatch):
    with watch(f"file:{tmp_path / 'leave'}", grace=60) as notice:
        assert not notice.asked()
        (tmp_path / "leave").touch()
        _until(notice.asked)

    answers = {"preempted": "FALSE", "maintenance-event": "NONE"}

    class Metadata(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.headers["Metadata-Flavor"] == "Google"
            self.send_response(200 if known else 403)
            self.end_headers()
            self.wfile.write(answers[self.path.rsplit("/", 1)[1]].encode())

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
    try:
        assert not preemption._gce_leaves()
        with watch("gce", grace=60) as notice:
            answers["preempted"] = "TRUE"
            _until(notice.asked)
            assert notice.reason == "the cloud's notice"
    finally:
        server.shutdown()
        server.server_close()
    for source in ("aws", "file:"):
        with pytest.raises(UserError, match="'gce' or 'file:PATH'"), watch(source):
            pass


def test_a_closed_terminal_is_a_notice_and_what_is_printed_after_is_no_error(tmp_path, heard):
    code = (
        "import fcntl, signal, sys, termios, time\nfrom pathlib import Path\n"
        "from ttl_jax.system.preemption import watch\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # nohup's children ignore it
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "with watch() as notice:\n    print('ready', flush=True)\n"
        "    while not notice.asked(): time.sleep(0.01)\n"
        "    print('saved', flush=True)\n    Path(sys.argv[1]).write_text(notice.reason)\nsys.exit(75)"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "x")],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=environment,
    )  # fmt: skip
    os.close(theirs)
    assert b"ready" in os.read(ours, 100)
    os.close(ours)  # the system sends SIGHUP to the session of that terminal
    assert process.wait(timeout=60) == 75
    assert (tmp_path / "x").read_text() == "SIGHUP"


def test_nohup_goes_on():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with watch(grace=60) as notice:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and not notice.asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_main_thread_that_cannot_poll_is_ended_with_status_75():
    code = (
        "import os, signal, time\nfrom ttl_jax.system.preemption import watch\n"
        "with watch(grace=0.2):\n    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent)}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ended.returncode == 75 and "start me again" in ended.stderr


def test_the_command_line_says_start_me_again(monkeypatch, capsys):
    def stopped(arguments):
        raise Preempted("SIGTERM: saved at step 7")

    monkeypatch.setitem(cli.COMMANDS, "train", SimpleNamespace(run=stopped))
    assert cli.main(["ttl_jax", "train"]) == 75
    assert capsys.readouterr().err == "ttl-jax train: SIGTERM: saved at step 7: start me again\n"


def test_six_kills_at_random_moments_change_no_bit():
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE.parent / "torture" / "harm.py"), "--times", "6"]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(r"train: kill 6 times, (\d+) of \1 ends bitwise equal", ended.stdout)


def _until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")
