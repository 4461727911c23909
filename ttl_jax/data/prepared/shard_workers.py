"""Writing of shards by several processes, which end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any

from ttl_jax.data.prepared.shard import Shard, write_shard
from ttl_jax.data.progress_lines import Progress


def write_all(shards: list[Shard], workers: int, progress: Progress) -> None:
    """Write shards, in this process where one is enough; `progress` counts images done and all."""
    total = sum(len(shard.images) for shard in shards)
    if workers == 1 or len(shards) == 1:
        done = 0
        for shard in shards:
            for _ in write_shard(shard):
                done += 1
                progress(done, total)
        return
    # Not fork: JAX's threads may hold locks.
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    with ProcessPoolExecutor(
        min(workers, len(shards)), context, initializer=_start_worker, initargs=(counter,)
    ) as pool:
        pending = {pool.submit(_work, shard) for shard in shards}
        try:
            while pending:
                finished, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                if counter.value:
                    progress(counter.value, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_counter: Any = None  # of a worker process: images done by all of them


def _start_worker(counter: Any) -> None:
    global _counter
    _counter = counter
    parent = multiprocessing.parent_process()
    assert parent is not None
    # A killed parent would leave its workers waiting for ever.
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _work(shard: Shard) -> None:
    for _ in write_shard(shard):
        with _counter.get_lock():
            _counter.value += 1
