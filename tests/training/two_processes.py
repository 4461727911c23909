"""One of two processes with two virtual devices each, through jax.distributed (see test_parallel.py).

usage: python two_processes.py FOLDER; JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID say who
it is, XLA_FLAGS=--xla_force_host_platform_device_count=2 what it has. Every process is given a folder
of its own: the second one must leave it empty.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from split_runs import FIELDS, datasets, run

from ttl_jax.data.dataset import ArrayReader
from ttl_jax.training import devices


class Noted(ArrayReader):
    """Images that note which of them were read."""

    def __init__(self, images):
        super().__init__(images)
        object.__setattr__(self, "seen", [])

    def read(self, indices):
        self.seen.append([int(index) for index in indices])
        return super().read(indices)


def main(place):
    devices.connect("auto")
    import jax

    index = jax.process_index()
    assert (jax.process_count(), jax.device_count(), jax.local_device_count()) == (2, 4, 2)
    mine = place / f"process{index}"
    found = {}
    for name, mode, strategy, fields in (
        ("pmap", "pmap", "auto_rgn", {}),
        ("jit", "jit", "full", {}),
        ("precise", "pmap", "full", {"model.bn_estimate": "precise(3)"}),
    ):
        sets = {name: replace(split, images=Noted(split.images.images)) for name, split in datasets().items()}
        folder = mine / name
        result = run(folder, strategy, sets=sets, read=index == 0, **{"parallel.mode": mode, **fields})
        reads = {name: split.images.seen for name, split in sets.items()}
        found[name] = {**result, "reads": reads, "wrote": folder.exists()}
    (place / f"found{index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    assert FIELDS["data.batch_size"] == 8
    main(Path(sys.argv[1]))
