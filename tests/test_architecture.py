"""The table of what to touch in docs/architecture.md: each done in a scratch copy, its files counted."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEW = ""  # in the place of the text before which something is put in: a new file, or the end of one

STRATEGY = '''

@register("strategy")
def lately() -> Strategy:
    """The last unit and the head."""
    return Strategy("lately", phases=(Phase(rules=((head, TRAIN), (backbone, FREEZE))),))
'''
BEHAVIOUR = '''"""Sums up the head's biases."""

from dataclasses import dataclass

from ttl_jax.strategies.parts.part import Part


@dataclass(frozen=True)
class BiasSum(Part):
    """Adds the sum of all leaves to the loss."""

    weight: float

    def loss(self, seen):
        return sum(leaf.sum() for leaf in seen.params.values())
'''
ITS_STRATEGY = '''

@register("strategy")
def bias_sum(weight: float = 0.1) -> Strategy:
    """The sum of all leaves in the loss."""
    from ttl_jax.strategies.parts.bias_sum import BiasSum

    return Strategy("bias_sum", parts=(BiasSum(weight),))
'''
BACKBONE = '''"""A network of one unit."""

import flax.linen as nn

from ttl_jax.models.layers.basic import Conv
from ttl_jax.models.unit import Plan, unit
from ttl_jax.registry import register


class Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, moving, keys):
        return nn.relu(Conv(self.features, size=3, stride=2, padding=1, name="conv")(x))


@register("backbone")
def tiny(name, dtype):
    return Plan((unit("stage1", "stage1", Block, features=8),))
'''
SOURCE = '''"""One gray image a class."""

import numpy as np

from ttl_jax.data.sources.listing import make_listing, source


@source("grays")
def read_grays(config):
    images = np.stack([np.full((8, 8, 3), 60 * n, np.uint8) for n in range(3)])
    return make_listing(
        source="grays", images=images, where=list("abc"), ids=list("abc"), labels=np.arange(3),
        class_names=["dark", "middle", "light"],
    )
'''
METRIC = '''

@register("metric")
@of_counts("all right")
def all_right(counts):
    """1 where every decision is right."""
    return (np.trace(counts, axis1=1, axis2=2) == counts.sum(axis=(1, 2))).astype(float)
'''
COMMAND = '''"""`python -m ttl_jax hello`."""

SUMMARY = "say hello"
HELP = "usage: python -m ttl_jax hello\\n"


def run(arguments):
    """Says it."""
    print("hello from a command")
'''
ATTRIBUTION = '''

@register("attribution")
def brightness(network: Network, variables: Variables, images: Array, classes: Array) -> Array:
    """The image."""
    return images.mean(axis=-1)
'''
FIELD = '    lookahead: int = option(5, "steps that are looked ahead", at_least=1)\n'
CATALOGUE, PRESETS = "strategies/catalogue.py", "data/published/presets.py"
# what is added: ({file of the package: (text before which, what)}, a check that it is there)
ADDITIONS = {
    "strategy": (
        {CATALOGUE: (NEW, STRATEGY)},
        "assert strategies.parse('lately + l2_sp').phases and 'lately' in strategies.names()",
    ),
    "behaviour": (
        {"strategies/parts/bias_sum.py": (NEW, BEHAVIOUR), CATALOGUE: (NEW, ITS_STRATEGY)},
        "assert strategies.parse('bias_sum(0.5)').parts[0].weight == 0.5",
    ),
    "backbone": (
        {"models/tiny.py": (NEW, BACKBONE), "models/registry.py": ("resnet, densenet", "tiny, ")},
        "assert models.create('tiny', 2) and [unit.name for unit in models.units('tiny')] == ['stage1']",
    ),
    "source": (
        {"data/sources/grays.py": (NEW, SOURCE)},
        "assert list(sources.read_listing(DataConfig(name='grays', path='.')).labels) == [0, 1, 2]",
    ),
    "data set": (
        {PRESETS: ('    "breastmnist": _medmnist(', '    "bloodcells": _medmnist("bloodmnist"),\n')},
        "assert presets.fields('bloodcells', '/d')['data.path'] == '/d/medmnist/bloodmnist.npz'",
    ),
    "metric": (
        {"evaluation/metrics.py": (NEW, METRIC)},
        "assert evaluation.score(*TWO, ('a', 'b'), 'multiclass')['all_right'] == 1.0",
    ),
    "attribution method": (
        {"analysis/attribution.py": (NEW, ATTRIBUTION)},
        "assert 'brightness' in registry.names('attribution') and not attribution.takes_unit('brightness')",
    ),
    "config field": (
        {"config/run.py": ('    lr: float = option(1e-3, "learning rate', FIELD)},
        "said = train.fields([]); assert '--config.optimizer.lookahead=5' in said\n"
        "assert default_config().optimizer.lookahead == 5 and 'looked ahead [1 or more]' in said",
    ),
    "command": (
        {"commands/hello.py": (NEW, COMMAND)},
        "assert cli.main(['ttl_jax', 'hello']) == 0 and 'say hello' in cli.usage()",
    ),
}
CHECKS = """
import numpy as np
import ttl_jax
from ttl_jax import cli, data, evaluation, models, registry, strategies
from ttl_jax.analysis import attribution
from ttl_jax.commands import train
from ttl_jax.config import DataConfig, default_config
from ttl_jax.data.published import presets
from ttl_jax.data.sources import registry as sources

TWO = np.array([0, 1]), 2 * np.eye(2)
"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A copy of the package with everything added at once."""
    folder = tmp_path_factory.mktemp("scratch")
    shutil.copytree(ROOT / "ttl_jax", folder / "ttl_jax", ignore=shutil.ignore_patterns("__pycache__"))
    for files, _ in ADDITIONS.values():
        for name, (before, what) in files.items():
            path = folder / "ttl_jax" / name
            text = path.read_text() if path.exists() else ""
            assert before in text
            path.write_text(text.replace(before, what + before, 1) if before else text + what)
    return folder


def test_all_of_them_work_together(scratch):
    checks = "\n".join(check for _, check in ADDITIONS.values())
    said = subprocess.run(
        [sys.executable, "-c", f"{CHECKS}\nassert ttl_jax.__file__.startswith({str(scratch)!r})\n{checks}"],
        cwd=scratch, env={"PYTHONPATH": str(scratch), "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert "hello from a command" in said.stdout


def test_the_table_counts_the_files():
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = dict(re.findall(rf"^\| ({'|'.join(ADDITIONS)}) \| (\d)", page, re.M))
    of_its_own = {"behaviour": {CATALOGUE}}  # the strategy that names it is counted as that
    counted = {name: len(set(files) - of_its_own.get(name, set())) for name, (files, _) in ADDITIONS.items()}
    assert {name: int(count) for name, count in table.items()} == counted
