"""Downloads from a server on loopback: whole, resumed, wrong, unreachable."""

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ttl_jax.errors import UserError
from ttl_jax.weights import download as module
from ttl_jax.weights.download import download

CONTENT = np.random.default_rng(0).bytes(3_000_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


def drip(file, content):
    """Send a byte every 10 ms until the other side has had enough."""
    try:
        for byte in content:
            file.write(bytes((byte,)))
            file.flush()
            time.sleep(0.01)
    except OSError:
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers["Range"])
            start = int(self.headers["Range"][6:-1]) if self.headers["Range"] else 0
            if self.path.startswith("/head/"):
                drip(self.wfile, b"HTTP/1.1 200 OK\r\n" + b"X-Drip: x\r\n" * 1000)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            if self.path.startswith("/drip/"):
                drip(self.wfile, CONTENT)
                return
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
    assert [file.name for file in folder.iterdir()] == ["a.pth.lock"]


def test_six_at_once_fetch_it_once(server):
    url, asked, _ = server
    with ThreadPoolExecutor(6) as pool:
        paths = list(pool.map(lambda _: download(f"{url}/a.pth", SHA), range(6)))
    assert len(set(paths)) == 1 and paths[0].read_bytes() == CONTENT and asked == [None]


@pytest.mark.parametrize("place", ["drip", "head"])
def test_a_server_that_drips_is_not_waited_for(server, monkeypatch, place):
    url, _, _ = server
    monkeypatch.setattr(module, "WINDOW", 0.2)
    with pytest.raises(UserError, match="cannot be reached .(too slow: [1-9]|no answer in)"):
        download(f"{url}/{place}/a.pth", SHA)
    monkeypatch.setattr(module, "WINDOW", 60.0)
    monkeypatch.setattr(module, "DEADLINE", 0.2)
    if place == "drip":
        with pytest.raises(UserError, match="too slow"):
            download(f"{url}/drip/b.pth", SHA)


def test_a_cached_file_is_checked_at_every_use(server):
    url, _, _ = server
    path = download(f"{url}/a.pth", SHA)
    content = bytearray(path.read_bytes())
    content[1234] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"not {SHA[:8]}, so it is damaged.*remove it"):
        download(f"{url}/a.pth", SHA[:8])
    path.unlink()
    assert download(f"{url}/a.pth", SHA[:8]).read_bytes() == CONTENT


def test_out_of_reach_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("TTL_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(UserError) as caught:
        download("http://127.0.0.1:9/resnet50-0676ba61.pth", "0676ba61")
    assert f"put it at {tmp_path}/weights/resnet50-0676ba61.pth" in str(caught.value)
