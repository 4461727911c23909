"""Throughput, latency and memory of `serve` under clients that ask without a pause.

A server of its own is started on this machine. Every client keeps one connection and sends PNG files,
one after the other; the first tenth of the time is not counted. Memory is the server's resident set.

    python -m ttl_jax bench serve RUN --clients=32 --minutes=5
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np


def main(arguments: list[str]) -> None:
    """Starts a server, asks it, and prints what was measured."""
    parser = argparse.ArgumentParser(prog="bench serve", description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--side", type=int, default=256, help="pixels of a side of the images sent")
    parser.add_argument("--pictures", action="store_true", help="ask for maps too")
    given, further = parser.parse_known_args(arguments)  # the rest goes to `serve`
    words = [sys.executable, "-u", "-m", "ttl_jax", "serve", given.run, "--port=0", *further]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        print(json.dumps(measure(server, given), indent=1))
    finally:
        server.terminate()
        server.wait()


def measure(server: subprocess.Popen[str], given: argparse.Namespace) -> dict[str, float]:
    """Images a second, milliseconds, and MB of the server before and after."""
    assert server.stdout is not None
    said = (re.search(r"http://127\.0\.0\.1:(\d+)/", line) for line in server.stdout)
    found = next(filter(None, said), None)
    if found is None:  # its reason stands above
        sys.exit(server.wait())
    threading.Thread(target=lambda: list(server.stdout or ()), daemon=True).start()
    port, path = int(found[1]), "/predict?pictures=true" if given.pictures else "/predict"
    files = [png(number, given.side) for number in range(64)]
    ask(http.client.HTTPConnection("127.0.0.1", port), path, files[0])
    begun, until = time.monotonic(), time.monotonic() + 60 * given.minutes
    taken: list[tuple[float, float]] = []
    refused: list[int] = []

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while (start := time.monotonic()) < until:
            number += given.clients
            status = ask(connection, path, files[number % len(files)])
            taken.append((start, time.monotonic() - start)) if status == 200 else refused.append(status)

    clients = [threading.Thread(target=client, args=(number,)) for number in range(given.clients)]
    for each in clients:
        each.start()
    memory = []
    while any(each.is_alive() for each in clients):
        memory.append((time.monotonic(), resident(server.pid)))
        time.sleep(1)
    counted = begun + 0.1 * 60 * given.minutes
    times = np.array([each for start, each in taken if start >= counted])
    held = [each for when, each in memory if when >= counted]
    return {
        "clients": given.clients,
        "seconds": round(until - counted, 1),
        "cores": os.cpu_count() or 1,
        "images": len(times),
        "refused": len(refused),
        "images_per_second": round(len(times) / (until - counted), 1),
        "p50_ms": round(1e3 * float(np.quantile(times, 0.5)), 1),
        "p99_ms": round(1e3 * float(np.quantile(times, 0.99)), 1),
        "mb_before": held[0],
        "mb_after": held[-1],
        "mb_most": max(held),
    }


def ask(connection: http.client.HTTPConnection, path: str, content: bytes) -> int:
    """The status of one answer, which is read as a whole."""
    connection.request("POST", path, content, {"Content-Type": "image/png"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def png(seed: int, side: int) -> bytes:
    """A file of noise in which neighbours are alike, as in an image."""
    from PIL import Image

    small = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(file, format="PNG")
    return file.getvalue()


def resident(process: int) -> float:
    """MB that a process holds in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    return round(int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024, 1)


if __name__ == "__main__":
    main(sys.argv[1:])
