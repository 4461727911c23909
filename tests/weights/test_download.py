"""Downloads from a server on loopback: whole, resumed, wrong, unreachable."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ttl_jax.errors import UserError
from ttl_jax.weights.download import download

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers["Range"])
            start = int(self.headers["Range"][6:-1]) if self.headers["Range"] else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            end = 1_000_000 if self.path.startswith("/cut/") and not start else len(CONTENT)
            self.wfile.write(CONTENT[start:end])

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", asked, tmp_path / "weights"
    running.shutdown()
    running.server_close()


def test_a_file_is_fetched_once(server):
    url, asked, _ = server
    path = download(f"{url}/a.pth", SHA[:8])
    assert path.read_bytes() == CONTENT
    assert download(f"{url}/a.pth", SHA[:8]) == path and asked == [None]


def test_a_cut_download_goes_on_where_it_ended(server):
    url, asked, folder = server
    with pytest.raises(UserError, match="kept and continued"):
        download(f"{url}/cut/a.pth", SHA)
    assert (folder / "a.pth.part").stat().st_size == 1_000_000 and not (folder / "a.pth").exists()
    assert download(f"{url}/cut/a.pth", SHA).read_bytes() == CONTENT
    assert asked == [None, "bytes=1000000-"]


def test_a_wrong_hash_is_named_and_the_file_removed(server):
    url, _, folder = server
    with pytest.raises(UserError, match=f"begins with {SHA[:8]}, not 00000000"):
        download(f"{url}/a.pth", "00000000")
    assert list(folder.iterdir()) == []


def test_out_of_reach_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(UserError) as caught:
        download("http://127.0.0.1:9/resnet50-0676ba61.pth", "0676ba61")
    assert f"put it at {tmp_path}/weights/resnet50-0676ba61.pth" in str(caught.value)
