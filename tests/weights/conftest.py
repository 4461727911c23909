"""State dicts with the names and shapes of the real libraries."""

import gzip
import json
import zlib
from pathlib import Path

import numpy as np
import pytest

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(name="fixtures")
def fixtures_fixture():
    return FIXTURES


@pytest.fixture(scope="session")
def torchvision_state():
    """A function of a network's name: torchvision's state dict, every value a function of its name."""
    names = json.loads(gzip.decompress((FIXTURES / "names.json.gz").read_bytes()))

    def values(key, shape):
        if key.endswith("num_batches_tracked"):
            return np.array(5)
        drawn = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, dtype=np.float32)
        return np.abs(drawn) if key.endswith("running_var") else drawn

    def state(name):
        return {key: values(key, shape) for key, shape in names[name].items()}

    return state


@pytest.fixture(scope="session")
def resnet18(torchvision_state):
    """torchvision's ResNet-18; copy it before changing it."""
    return torchvision_state("resnet18")
