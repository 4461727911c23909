"""Servers that do not do as asked, on loopback."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ttl_jax.errors import UserError
from ttl_jax.weights.download import download

CONTENT = np.random.default_rng(1).bytes(100_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


class Server(BaseHTTPRequestHandler):
    """/whole/ ignores Range; /range/ obeys it, and answers 416 past the end; all else is a 404."""

    def do_GET(self):
        start = int(self.headers["Range"][6:-1]) if self.headers["Range"] else 0
        if self.path.startswith("/whole/"):
            self.answer(200, CONTENT)
        elif not self.path.startswith("/range/"):
            self.answer(404, b"no")
        elif start >= len(CONTENT):
            self.answer(416, b"")
        else:
            self.answer(206 if start else 200, CONTENT[start:])

    def answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def url(tmp_path, monkeypatch):
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "weights").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_server_that_ignores_range_starts_over(url, tmp_path):
    (tmp_path / "weights" / "a.pth.part").write_bytes(CONTENT[:40_000])
    assert download(f"{url}/whole/a.pth", SHA).read_bytes() == CONTENT
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {"a.pth", "a.pth.lock"}


def test_a_part_that_is_already_the_whole(url, tmp_path):
    (tmp_path / "weights" / "a.pth.part").write_bytes(CONTENT)
    assert download(f"{url}/range/a.pth", SHA).read_bytes() == CONTENT


def test_a_part_of_another_file_is_found_out_and_removed(url, tmp_path):
    (tmp_path / "weights" / "a.pth.part").write_bytes(b"x" * 40_000)
    with pytest.raises(UserError, match="SHA-256"):
        download(f"{url}/range/a.pth", SHA)
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["a.pth.lock"]
    assert download(f"{url}/range/a.pth", SHA).read_bytes() == CONTENT  # the next try works


def test_not_found_says_where_to_put_the_file(url, tmp_path):
    with pytest.raises(UserError, match="Not Found") as error:
        download(f"{url}/gone/a.pth", SHA)
    assert str(tmp_path / "weights" / "a.pth") in str(error.value)
