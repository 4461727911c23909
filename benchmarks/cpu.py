"""A training step and inference on this CPU, beside what an expert would run: `python -m ttl_jax bench cpu`.

All sides run in one process tree and one run: a child process each, told in turn to do eight steps, of
which the last four count, so that whatever else the machine does falls on all. Medians of the repeats,
with the spread from the 25th to the 75th percentile, and the ratio peer / ours in seconds (above 1: we
are faster). Read the ratio against the best peer first; the line names it.

A peer is PyTorch, eager, float32, channels-last, as many threads as cores, and what its name adds:
+tcmalloc   Google's malloc preloaded, as PyTorch's guide for CPUs advises (Debian: libtcmalloc-minimal4)
+bf16       autocast to bfloat16, where the CPU computes in it
+compile    torch.compile
onnxruntime is ONNX Runtime on the network as PyTorch exports it; inference alone.
A name with a slash is the folder of another checkout of this project: before a change and after it.
What is not there is named and left out. `make parity` installs PyTorch; extra `export`, ONNX Runtime.

    python -m ttl_jax bench cpu --cases=resnet50:128,densenet121:128,vgg19:128,efficientnet_lite0:128 \
        --modes=train,infer --repeats=7 --batch=16 --peers=torch,torch+tcmalloc,onnxruntime
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from ctypes.util import find_library
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import ttl_jax
from ttl_jax.errors import UserError
from ttl_jax.system import host

ROOT = Path(ttl_jax.__file__).resolve().parents[1]  # where children find the package
# Steps of a turn: in a training one follows the other. Those after a pause have to be given their memory
# anew by a virtual machine's host, and do not count. DenseNet-121's ten after one, ours: 908, 612, 544, 536,
# 452, 465, 482, 452, 434, 438 ms; PyTorch's: 687, 630, 783, 716, 599, 575, 566, 594, 606, 632.
BEFORE, COUNT = 4, 4
CASES = "resnet50:128,densenet121:128,vgg19:128,efficientnet_lite0:128"
PEERS = (
    "torch", "torch+tcmalloc", "torch+tcmalloc+compile", "torch+tcmalloc+bf16", "torch+tcmalloc+bf16+compile",
    "onnxruntime",
)  # fmt: skip
ADDITIONS = ("tcmalloc", "bf16", "compile")


def jax_step(model: str, size: int, batch: int, mode: str, classes: int = 2) -> Callable[[], None]:
    """One step of ours as the training loop runs it, or one inference."""
    import jax
    import jax.numpy as jnp

    from ttl_jax import models, strategies, weights
    from ttl_jax.config import default_config
    from ttl_jax.data import example_keys
    from ttl_jax.system.compilation_cache import set_up_jax
    from ttl_jax.training.compile_ahead import compile_step
    from ttl_jax.training.devices import ONE
    from ttl_jax.training.loss import make_loss
    from ttl_jax.training.optimizer import make_optimizer
    from ttl_jax.training.predictor import make_predict
    from ttl_jax.training.state import initial_state
    from ttl_jax.training.step import TrainStep

    set_up_jax()
    network, variables = models.create(model, classes), weights.initialise(model, classes)
    preprocessing = weights.preprocessing("imagenet", model)
    images = np.random.default_rng(0).integers(0, 255, (batch, size, size, 3)).astype(np.uint8)
    if mode == "infer":
        predict = make_predict(network, preprocessing.normalise)
        variables = jax.device_put(variables)  # the host's arrays go
        run = predict.fixed(variables, images)
        del variables  # as a service would: the folded ones are enough
        host.release_memory()
        return lambda: jax.block_until_ready(run(images))
    (bound,) = strategies.bind(strategies.get("full"), variables["params"], model)
    optimizer = make_optimizer(bound, default_config().optimizer)
    step = TrainStep(
        network,
        bound,
        optimizer,
        make_loss("multiclass", jnp.ones(classes)),
        lambda images, keys: preprocessing.normalise(images),
        lambda item: example_keys(0, item["epoch"], item["example"]),
    )
    state = initial_state(variables, optimizer, bound.trainable)
    del variables
    data = {
        "image": images,
        "label": (np.arange(batch) % 2).astype(np.int32),
        "example": np.arange(batch, dtype=np.int32),
        "epoch": np.zeros(batch, np.int32),
    }
    compiled, _ = compile_step(step, state, ONE.place_batch(data))
    box = [state]

    def train() -> None:
        box[0], measured = compiled(box[0], ONE.place_batch(data), np.float32(1e-4))
        jax.block_until_ready(measured)
        jax.block_until_ready(box[0].step)

    return train


def torch_step(
    model: str, size: int, batch: int, mode: str, additions: frozenset[str] = frozenset()
) -> Callable[[], None]:
    """The same in PyTorch, channels-last; `additions` are of ADDITIONS."""
    torch, network, raw = torch_network(model, size, batch)
    labels = torch.arange(batch) % 2
    mean, std = torch.tensor(124.0), torch.tensor(58.0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    network.train(mode == "train")
    forward = torch.compile(network) if "compile" in additions else network

    def cast() -> Any:
        return torch.autocast("cpu", torch.bfloat16) if "bf16" in additions else nullcontext()

    def infer() -> None:
        with torch.inference_mode(), cast():
            forward((raw.float() - mean) / std)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = torch.nn.functional.cross_entropy(forward((raw.float() - mean) / std), labels)
        loss.backward()
        optimizer.step()

    return train if mode == "train" else infer


def torch_network(model: str, size: int, batch: int) -> tuple[Any, Any, Any]:
    """PyTorch, the network and raw images, both channels-last."""
    sys.path.insert(0, str(ROOT / "parity"))
    import conftest  # noqa: F401  # makes torchvision importable on a CPU torch
    import reference
    import torch

    network = reference.build(model, 2).to(memory_format=torch.channels_last)
    images = np.random.default_rng(0).integers(0, 255, (batch, 3, size, size)).astype(np.uint8)
    return torch, network, torch.from_numpy(images).contiguous(memory_format=torch.channels_last)


def onnxruntime_step(model: str, size: int, batch: int) -> Callable[[], None]:
    """One inference of ONNX Runtime on the network as PyTorch exports it."""
    import io

    import onnxruntime

    torch, network, raw = torch_network(model, size, batch)
    written = io.BytesIO()
    images = raw.float().contiguous()
    warnings.simplefilter("ignore", DeprecationWarning)  # torch's other exporter needs onnxscript
    torch.onnx.export(network.eval(), (images,), written, dynamo=False, input_names=["images"])
    session = onnxruntime.InferenceSession(written.getvalue(), providers=["CPUExecutionProvider"])
    given = raw.contiguous().numpy()
    return lambda: session.run(None, {"images": (given.astype(np.float32) - 124.0) / 58.0})  # type: ignore[return-value]


def missing(peer: str) -> str:
    """Why `peer` cannot run on this machine; nothing where it can."""
    if "/" in peer:
        return (
            "" if (Path(peer) / "benchmarks" / "cpu.py").exists() else "no checkout of this project is there"
        )
    name, *additions = peer.split("+")
    if find_spec("torch") is None or not (ROOT / "parity").is_dir():
        return "torch is not installed: say `make parity` in a checkout of the project"
    if name == "onnxruntime":
        return "" if find_spec("onnxruntime") else "onnxruntime is not installed: extra [export]"
    if "tcmalloc" in additions and not tcmalloc():
        return "no tcmalloc here: install libtcmalloc-minimal4"
    flags = Path("/proc/cpuinfo")
    if "bf16" in additions and not (flags.exists() and "bf16" in flags.read_text()):
        return "this CPU does not compute in bfloat16"
    return ""


def tcmalloc() -> str:
    """The library's name for LD_PRELOAD; empty where there is none."""
    return find_library("tcmalloc") or find_library("tcmalloc_minimal") or ""


def peer_environment(peer: str) -> dict[str, str]:
    """This process's environment without what our command line adds; with the malloc of `peer`."""
    plain = environment(flags=False)
    return plain | {"LD_PRELOAD": tcmalloc()} if "tcmalloc" in peer.split("+") else plain


def environment(flags: bool) -> dict[str, str]:
    """This process's environment, with or without the XLA_FLAGS that our command line adds to it."""
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return plain | (host.additions(plain, version("jaxlib")) if flags else {})


def worker(side: str, model: str, size: int, batch: int, mode: str) -> None:
    """Some steps an answer."""
    if side == "onnxruntime":
        run = onnxruntime_step(model, size, batch)
    elif side == "jax":
        run = jax_step(model, size, batch, mode)
    else:
        run = torch_step(model, size, batch, mode, frozenset(side.split("+")[1:]))
    for _ in range(2):
        run()
    answers(run, before=BEFORE, count=COUNT)


def answers(run: Callable[[], object], before: int = 0, count: int = 1) -> None:
    """Answers every line on standard input with seconds, its end with the process's peak in MiB.

    Args:
        run: what is timed.
        before: runs of each turn that do not count.
        count: those after them, whose mean is the answer.
    """
    print("ready", flush=True)
    for _ in sys.stdin:
        for _ in range(before):
            run()
        start = time.perf_counter()
        for _ in range(count):
            run()
        print((time.perf_counter() - start) / count, flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


class Child:
    """One side in its own process.

    Args:
        script: a benchmark whose `--worker WORDS` ends in `answers`.
        words: these.
        environment: of the process.
        root: the checkout that it finds the package in.
    """

    def __init__(self, script: str, words: list[str], environment: dict[str, str], root: Path = ROOT) -> None:
        paths = (str(root), environment.get("PYTHONPATH"))
        self.process = subprocess.Popen(
            [sys.executable, script, "--worker", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root,
            env={**environment, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )  # fmt: skip
        self.answer("ready")

    def answer(self, wanted: str = "") -> str:
        """The next line of the child; anything but an answer is an error of the child's."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line or (wanted and line != wanted):
            raise RuntimeError(f"a benchmark's process ended: {self.process.args!r}")
        return line

    def step(self) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.answer())

    def close(self) -> float:
        """Ends the process; returns its peak memory in MiB."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        peak = float(self.answer())
        self.process.wait()
        return peak


def spread(seconds: list[float], scale: float = 1.0, digits: int = 0) -> str:
    """Median and quartiles."""
    quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else 3 * seconds
    low, middle, high = (f"{scale * value:.{digits}f}" for value in quartiles)
    return f"{middle} ({low}-{high})"


def compare(
    model: str, size: int, batch: int, mode: str, repeats: int, peers: list[str]
) -> list[dict[str, object]]:
    """All sides in turn; a row each, ours first."""
    words = [model, str(size), str(batch), mode]
    children: dict[str, Child] = {}
    for side in ("jax", *peers):
        try:
            if side == "jax" or "/" in side:
                root, given = ROOT if side == "jax" else Path(side), environment(flags=True)
                script = str(root / "benchmarks" / "cpu.py")
                children[side] = Child(script, ["jax", *words], given, root)
            else:
                children[side] = Child(__file__, [side, *words], peer_environment(side))
        except RuntimeError:  # its own error stands above: PyTorch's exporter refuses some networks
            if side == "jax":
                raise
            print(f"left out: {side} cannot run {model} at {size} px", flush=True)
    seconds: dict[str, list[float]] = {side: [] for side in children}
    for _ in range(repeats):
        for side, child in children.items():
            seconds[side].append(child.step())
    ours = statistics.median(seconds["jax"])
    return [
        {"model": model, "px": size, "batch": batch, "mode": mode, "side": side, "ms": spread(values, 1e3),
         "img/s": round(batch / statistics.median(values), 1),
         "peer / ours": round(statistics.median(values) / ours, 2), "peak MiB": round(children[side].close())}
        for side, values in seconds.items()
    ]  # fmt: skip


def verdict(rows: list[dict[str, object]]) -> str:
    """The ratio against the best peer, and against PyTorch as it is installed."""
    ratios = {str(row["side"]): float(str(row["peer / ours"])) for row in rows if row["side"] != "jax"}
    if not ratios:
        return "no peer ran"
    best = min(ratios, key=ratios.__getitem__)
    plain = (
        f"; against torch as installed {ratios['torch']:.2f}" if best != "torch" and "torch" in ratios else ""
    )
    return f"against the best peer, {best}: {ratios[best]:.2f}{plain}"


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--worker"]:
        side, model, size, batch, mode = arguments[1:]
        worker(side, model, int(size), int(batch), mode)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default=CASES, help="MODEL:PIXELS with commas between them")
    parser.add_argument("--modes", default="train,infer")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--peers", default=",".join(PEERS), help=f"torch, + {', '.join(ADDITIONS)}; onnxruntime; a checkout"
    )
    parser.add_argument("--out", default="", help="also write the rows to this JSON file")
    given = parser.parse_args(arguments)
    rows: list[dict[str, object]] = []
    cases = [case.partition(":") for case in given.cases.split(",")]
    for model, _, size in cases:
        if not size.isdecimal():
            parser.error(f"--cases takes MODEL:PIXELS with commas between them, not {model!r} without pixels")
    if given.repeats < 1:
        parser.error(f"--repeats={given.repeats}: give 1 or more")
    peers = [peer for peer in given.peers.split(",") if peer]
    for peer in peers:
        name, *additions = peer.split("+")
        if "/" not in peer and (
            name not in ("torch", "onnxruntime")
            or not set(additions) <= set(ADDITIONS if name == "torch" else ())
        ):
            parser.error(
                f"--peers takes torch, with any of +{', +'.join(ADDITIONS)}, onnxruntime and a folder (a "
                f"slash is in its name), not {peer!r}"
            )
    for peer in [peer for peer in peers if missing(peer)]:
        print(f"left out: {peer} ({missing(peer)})", flush=True)
        peers.remove(peer)
    if not peers:
        raise UserError("bench cpu runs PyTorch beside us: say `make parity` in a checkout of the project")
    for model, _, size in cases:
        for mode in given.modes.split(","):
            beside = [peer for peer in peers if mode == "infer" or peer != "onnxruntime"]
            rows += (new := compare(model, int(size), given.batch, mode, given.repeats, beside))
            for row in new:
                print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            print(f"{model} {size} px {mode}, {verdict(new)}", flush=True)
    if given.out:
        Path(given.out).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
