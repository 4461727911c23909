"""Every trick of docs/performance.md with and without it: `python -m ttl_jax bench tricks`.

One process a side, both on one core, four steps in turn; CPU time a step, which other work on the machine
disturbs least, and what XLA allocates for a step's temporaries. Without a trick the part that does it is
replaced in that process alone. What the environment sets is timed by the clock on all cores, with nothing
else running: it gains by the other cores, or by what the system does.

    python -m ttl_jax bench tricks --only=winograd,moments --repeats=7
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import cpu as bench  # noqa: E402

COUNT = 3  # steps of a turn that count, after one that does not


def depthwise() -> None:
    from ttl_jax.models.cpu.convolution import Geometry

    Geometry.ours = property(lambda self: len(self.space) == 2 and self.groups == 1)  # type: ignore[assignment]


def pointwise() -> None:
    from ttl_jax.models.cpu.convolution import Geometry

    Geometry.pointwise = property(lambda self: False)  # type: ignore[assignment]


def winograd() -> None:
    from ttl_jax.models.cpu import winograd

    winograd.LEAST = 1 << 30


def wide() -> None:
    from ttl_jax.models.cpu import convolution

    convolution._is_wide = lambda geometry, examples: False


def late() -> None:
    from ttl_jax.models.cpu import convolution

    forms = convolution._forms

    def without(*given: Any) -> Any:
        found = forms(*given)
        plain = convolution.plain_kernel_gradient
        return found._replace(dw=plain) if found.dw is convolution._late_dw else found

    convolution._forms = without


def max_pool() -> None:
    from ttl_jax.models.cpu import max_pool

    max_pool._POOL = SimpleNamespace(bind=lambda x, how: max_pool._plain(how, x))


def moments() -> None:
    from ttl_jax.models.cpu import moments

    moments._noted = lambda x: False


def recompute() -> None:
    import flax.linen as nn

    from ttl_jax.models.layers import basic

    def without(x: Any, factor: Any, offset: Any, *given: Any) -> Any:
        return basic.convolution(nn.relu(x * factor + offset), *given)

    basic.normalised_convolution = without


def folding() -> None:
    from ttl_jax.models.cpu import folding

    folding.folding = lambda found: nullcontext()


def kept_memory() -> None:
    from ttl_jax.system import placing

    placing.keep_memory = lambda: None


@dataclass(frozen=True)
class Trick:
    """A trick and the network that it is for.

    Attributes:
        without: replaces it.
        model, px, batch, mode: what is timed, as for `bench cpu`.
        flags: the environment without it has XLA's flags.
        clock: timed by the clock, on all cores.
    """

    without: Callable[[], None]
    model: str
    px: int = 128
    batch: int = 8
    mode: str = "train"
    flags: bool = True
    clock: bool = False


def nothing() -> None:
    """For tricks of the environment."""


TRICKS = {
    "depthwise": Trick(depthwise, "efficientnet_lite0"),
    "pointwise": Trick(pointwise, "resnet50"),
    "wide": Trick(wide, "resnet50", px=64),
    "winograd": Trick(winograd, "vgg16"),
    "late": Trick(late, "resnet18", px=224),
    "max_pool": Trick(max_pool, "resnet50"),
    "moments": Trick(moments, "densenet121"),
    "recompute": Trick(recompute, "densenet121"),
    "folding": Trick(folding, "densenet121", mode="infer"),
    "xla_flags": Trick(nothing, "resnet50", flags=False, clock=True),
    "kept_memory": Trick(kept_memory, "resnet50", clock=True),
}


def worker(name: str, core: int) -> None:
    """Steps of a trick's network; "-NAME" without it."""
    trick = TRICKS[name.removeprefix("-")]
    if not trick.clock:
        os.sched_setaffinity(0, {core})
    seconds = time.perf_counter if trick.clock else time.process_time
    if name.startswith("-"):
        trick.without()
    temporaries = watch_temporaries()
    run = bench.jax_step(trick.model, trick.px, trick.batch, trick.mode)
    for _ in range(2):
        run()
    print("ready", flush=True)
    for _ in sys.stdin:
        run()
        start = seconds()
        for _ in range(COUNT):
            run()
        print((seconds() - start) / COUNT, flush=True)
    print(sum(temporaries), flush=True)


def watch_temporaries() -> list[float]:
    """A list that takes the MiB of temporaries of each step that is compiled."""
    from ttl_jax.training import compile_ahead

    found: list[float] = []
    plain = compile_ahead.compile_step

    def compile_step(*given: Any) -> Any:
        program, operations = plain(*given)
        found.append(program.memory_analysis().temp_size_in_bytes / 2**20)
        return program, operations

    compile_ahead.compile_step = compile_step
    return found


def compare(name: str, repeats: int, core: int) -> dict[str, Any]:
    """One row: both sides in turn."""
    trick = TRICKS[name]
    start = partial(bench.Child, __file__)
    children = {
        "with": start([name, str(core)], bench.environment(flags=True)),
        "without": start([f"-{name}", str(core)], bench.environment(trick.flags)),
    }
    seconds: dict[str, list[float]] = {side: [] for side in children}
    for _ in range(repeats):
        for side, child in children.items():
            seconds[side].append(child.step())
    temporaries = {side: child.close() for side, child in children.items()}
    found = {side: bench.spread(values, 1e3) for side, values in seconds.items()}
    least = {side: min(values) for side, values in seconds.items()}
    return {
        "trick": name, "of": f"{trick.model} {trick.px} px, {trick.batch}, {trick.mode}",
        "ms with": found["with"], "ms without": found["without"],
        "least without / with": round(least["without"] / least["with"], 2),
        "temporaries MiB": f"{temporaries['with']:.0f} / {temporaries['without']:.0f}",
    }  # fmt: skip


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--worker"]:
        worker(arguments[1], int(arguments[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default=",".join(TRICKS), help="names with commas between them")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--core", type=int, default=0, help="the one that both sides run on")
    given = parser.parse_args(arguments)
    for name in given.only.split(","):
        if name not in TRICKS:
            parser.error(f"--only={name}: it is one of {', '.join(TRICKS)}")
        row = compare(name, given.repeats, given.core)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
