"""Full fine-tuning on one GPU beside torch.compile: `python -m ttl_jax bench gpu`.

bfloat16 compute on float32 parameters, NHWC, donated state, normalisation on the device, a scan over
several steps a dispatch; against PyTorch with AMP (bfloat16), channels-last, torch.compile and fused
Adam. A child process each, told in turn to do one dispatch, in one run on one card. Prints one table:
medians with quartiles, the ratio ours / theirs, and the share of the card's measured matmul peak.

    python -m ttl_jax bench gpu                    # 3 networks, 224 px, about 6 minutes
    python -m ttl_jax bench gpu --smoke            # tiny, on whatever device there is

Imports jax, flax, optax, numpy, and for the peer torch and torchvision: nothing else needs to be there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]  # where children find the package: a checkout, or
ROOT = ROOT.parent if (ROOT / "cli.py").exists() else ROOT  # what the wheel installed it into
MODELS = "resnet50,densenet121,vgg19"
CLASSES, RATE = 1000, 1e-4
ADAM = SimpleNamespace(name="adam", b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0, momentum=0.0, clip=0.0)


def jax_dispatch(model: str, size: int, batch: int, steps: int) -> tuple[Callable[[], None], dict[str, Any]]:
    """One dispatch of `steps` training steps of ours, and what is known of it."""
    import jax
    import jax.numpy as jnp

    from ttl_jax import models, strategies
    from ttl_jax.training.loss import make_loss
    from ttl_jax.training.optimizer import make_optimizer
    from ttl_jax.training.state import initial_state
    from ttl_jax.training.step import TrainStep

    network = models.create(model, CLASSES, dtype=jnp.bfloat16)
    variables = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, size, size, 3)))
    variables = {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}
    (bound,) = strategies.bind(strategies.get("full"), variables["params"], model)
    optimizer = make_optimizer(bound, ADAM)
    step = TrainStep(
        network, bound, optimizer, make_loss("multiclass", jnp.ones(CLASSES)),
        lambda images, keys: (images.astype(jnp.float32) - 124.0) / 58.0,
        lambda item: jax.vmap(jax.random.key)(item["example"]),
    )  # fmt: skip

    def dispatch(state: Any, batches: Any) -> tuple[Any, Any]:
        return jax.lax.scan(lambda state, item: step(state, item, jnp.float32(RATE)), state, batches)

    batches = jax.device_put(data(size, batch, steps))
    box = [initial_state(variables, optimizer, bound.trainable)]
    one = jax.tree.map(lambda leaf: leaf[0], batches)
    counted = jax.jit(step).lower(box[0], one, jnp.float32(RATE)).cost_analysis()
    compiled = jax.jit(dispatch, donate_argnums=0).lower(box[0], batches).compile()

    def run() -> None:
        box[0], measured = compiled(box[0], batches)
        jax.block_until_ready((box[0], measured))

    return run, {
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "flops an image": float(dict(counted or {}).get("flops", 0.0)) / batch,
        "peak": matmul_peak(64 if size < 128 else 8192),
    }


def matmul_peak(edge: int) -> float:
    """Measured operations a second of a square bfloat16 product: the best of ten."""
    import jax
    import jax.numpy as jnp

    a = jnp.ones((edge, edge), jnp.bfloat16)
    product = jax.jit(lambda a: jax.lax.fori_loop(0, 10, lambda _, b: jnp.dot(a, b), a))
    product(a).block_until_ready()
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        product(a).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 10 * 2 * edge**3 / min(seconds)


def data(size: int, batch: int, steps: int) -> dict[str, np.ndarray]:
    """The batches of one dispatch, uint8."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 255, (steps, batch, size, size, 3), np.uint8),
        "label": rng.integers(0, CLASSES, (steps, batch)).astype(np.int32),
        "example": np.tile(np.arange(batch, dtype=np.int32), (steps, 1)),
    }


def torch_dispatch(
    model: str, size: int, batch: int, steps: int
) -> tuple[Callable[[], None], dict[str, Any]]:
    """As many steps of PyTorch's."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        sys.path.insert(0, str(ROOT / "parity"))
        import conftest  # noqa: F401  # makes torchvision importable on a CPU torch
    import torchvision

    torch.backends.cudnn.benchmark = True
    network = getattr(torchvision.models, model)(num_classes=CLASSES)
    network = network.to(device, memory_format=torch.channels_last).train()
    forward = torch.compile(network) if device == "cuda" else network
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=device == "cuda")
    given = data(size, batch, steps)
    images = torch.from_numpy(given["image"]).to(device).permute(0, 1, 4, 2, 3)
    labels = torch.from_numpy(given["label"]).long().to(device)

    def run() -> None:
        for number in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16):
                logits = forward((images[number].float() - 124.0) / 58.0)
                loss = torch.nn.functional.cross_entropy(logits, labels[number])
            loss.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return run, {"torch": torch.__version__}


def worker(side: str, model: str, size: int, batch: int, steps: int) -> None:
    """Answers every line on standard input with the seconds of one dispatch."""
    run, known = (jax_dispatch if side == "jax" else torch_dispatch)(model, size, batch, steps)
    for _ in range(2):
        run()
    print(json.dumps(known), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(time.perf_counter() - start, flush=True)


class Child:
    """One side in its own process."""

    def __init__(self, side: str, model: str, size: int, batch: int, steps: int) -> None:
        words = [side, model, str(size), str(batch), str(steps)]
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        own = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **own},
        )  # fmt: skip

    def answer(self) -> Any:
        """The next line of the child; its end is an error of the child's."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a benchmark's process ended: {self.process.args!r}")
        return json.loads(line)

    def dispatch(self) -> float:
        """Seconds of one dispatch."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.answer())

    def close(self) -> None:
        """Ends the process and frees its memory on the card."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(
    model: str, size: int, batch: int, steps: int, repeats: int, sides: tuple[str, ...]
) -> dict[str, Any]:
    """All sides in turn; a row of the table."""
    children = {side: Child(side, model, size, batch, steps) for side in sides}
    known: dict[str, Any] = {}
    for child in children.values():
        known |= child.answer()
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(repeats):
        for side, child in children.items():
            seconds[side].append(child.dispatch())
    for child in children.values():
        child.close()
    row: dict[str, Any] = {"model": model, "px": size, "batch": batch}
    for side, values in seconds.items():
        rates = [batch * steps / value for value in values]
        low, middle, high = statistics.quantiles(rates, n=4) if len(rates) > 1 else 3 * rates
        row[f"{side} img/s"] = f"{middle:.0f} ({low:.0f}-{high:.0f})"
    middle = batch * steps / statistics.median(seconds["jax"])
    if "torch" in seconds:
        row["ratio"] = round(statistics.median(seconds["torch"]) / statistics.median(seconds["jax"]), 2)
    row["TFLOP/s"] = round(middle * known["flops an image"] / 1e12, 3)
    row["peak TFLOP/s"] = round(known["peak"] / 1e12, 3)
    row["share of peak"] = f"{middle * known['flops an image'] / known['peak']:.0%}"
    return row | {"on": f"{known['device']}, jax {known['jax']}, torch {known.get('torch', '-')}"}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as one Markdown table."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([str(row.get(name, "-")) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: list[str]) -> None:
    """Runs the comparison, or one side of it as a worker."""
    if arguments[:1] == ["--worker"]:
        side, model, *numbers = arguments[1:]
        worker(side, model, *map(int, numbers))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default=MODELS, help="names with commas between them")
    parser.add_argument("--size", type=int, default=224, help="image edge in pixels")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8, help="training steps a dispatch")
    parser.add_argument("--repeats", type=int, default=7, help="dispatches a side that are timed")
    parser.add_argument("--sides", default="jax,torch", help="jax alone, or both")
    parser.add_argument("--smoke", action="store_true", help="one small network at a tiny size")
    parser.add_argument("--out", default="", help="also write the rows to this JSON file")
    given = parser.parse_args(arguments)
    if given.smoke:
        given.models, given.size, given.batch, given.steps, given.repeats = "resnet18", 32, 2, 2, 2
    rows, sides = [], tuple(given.sides.split(","))
    if sides not in (("jax",), ("jax", "torch")):
        parser.error(f"--sides takes jax or jax,torch, not {given.sides!r}")
    missing = [name for name in ("torch", "torchvision") if find_spec(name) is None]
    if "torch" in sides and missing:
        parser.error(f"{' and '.join(missing)} not installed here: install it, or say --sides=jax")
    for model in given.models.split(","):
        rows.append(compare(model, given.size, given.batch, given.steps, given.repeats, sides))
        print(rows[-1], file=sys.stderr, flush=True)
    print(table(rows))
    if given.out:
        Path(given.out).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
