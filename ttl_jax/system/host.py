"""Environment and memory settings that make JAX fast on a CPU.

Measured in benchmarks/NOTES.md. Two settings before JAX starts:

- XLA:CPU's convolutions by Eigen, which uses all cores, not by YNNPACK, which in jaxlib 0.10 and
  0.12 leaves narrow ones on one core;
- vectors as wide as the CPU's own (XLA stops at 256 bits unless told otherwise).

Once a step is compiled, malloc keeps what a step frees for the next one (`keep_memory`).

What the user has set in XLA_FLAGS or GLIBC_TUNABLES is never overridden. TTL_JAX_PLAIN_HOST=1 leaves
all of it alone, and has networks run as JAX's own operations (`models.cpu`).
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import threading
from collections.abc import Mapping
from functools import cache
from typing import Any

XLA_FLAGS = {
    "--xla_cpu_experimental_ynn_fusion_type": "-individual_convolution",
    "--xla_cpu_prefer_vector_width": "512",
}
# An unknown flag ends the process, so they are set for versions of jaxlib that were tried.
TRIED = ("0.10.", "0.12.")
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
GAPS = 4, 16, 64, 256  # MiB: for batches, for a convolution's scratch, for copies of weights


# What makes XLA's GPU programs bitwise the same every time: no atomics, no algorithm chosen by timing.
DETERMINISTIC = {"--xla_gpu_deterministic_ops": "true", "--xla_gpu_autotune_level": "0"}


def deterministic(given: str) -> str:
    """XLA_FLAGS with those for GPUs added; what the user has set is never overridden.

    They have to be set before JAX makes its first array.
    """
    flags = [f"{name}={value}" for name, value in DETERMINISTIC.items() if name not in given]
    return " ".join([*given.split(), *flags])


def deterministic_fault(given: str) -> str:
    """Return what in XLA_FLAGS would let a GPU's results differ from run to run; "" for nothing."""
    off = [f"--xla_gpu_deterministic_ops={value}" for value in ("false", "0")]
    against = [flag for flag in given.split() if flag in off]
    if against:
        return f"XLA_FLAGS has {against[0]}: take it out"
    wanted = deterministic(given)
    return "" if wanted == given else f"set XLA_FLAGS to {wanted!r} before this program starts JAX"


def set_deterministic(wanted: bool) -> None:
    """Adds the flags to this process's environment, where they are wanted; before JAX starts."""
    if wanted:
        os.environ["XLA_FLAGS"] = deterministic(os.environ.get("XLA_FLAGS", ""))


def additions(environment: Mapping[str, str], jaxlib: str) -> dict[str, str]:
    """The variables to set on top of an environment.

    Args:
        environment: environment variables of the process.
        jaxlib: the installed version.
    """
    given = environment.get("XLA_FLAGS", "")
    flags = [f"{name}={value}" for name, value in XLA_FLAGS.items() if name not in given]
    if environment.get("TTL_JAX_PLAIN_HOST") or not flags or not jaxlib.startswith(TRIED):
        return {}
    return {"XLA_FLAGS": " ".join([*given.split(), *flags])}


def prepare() -> None:
    """Sets the variables; for the start of a command line, before JAX starts."""
    from importlib.metadata import version

    os.environ.update(additions(os.environ, version("jaxlib")))


def _libc() -> Any:
    """The C library, where it may be glibc (musl's has neither mallopt nor malloc_trim); else nothing."""
    return ctypes.CDLL(None) if sys.platform == "linux" else None


def machine_memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def memory_share() -> float:
    """The share of the machine's memory that this process has now (had at its peak, but on Linux)."""
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    else:
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return resident / machine_memory()


COMPILING = "compile ahead"  # the name of a thread whose program nobody may come to want


def leave(status: int) -> None:
    """Ends the process with this status, and does not wait for a compilation that nobody wants now.

    A preempted machine may be gone before XLA is done.
    """
    if any(thread.name == COMPILING for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def keeps_memory() -> bool:
    """Return whether this process may hold the memory that a step frees for the next one.

    Not where the user has said how malloc keeps memory, nor with TTL_JAX_PLAIN_HOST=1.
    """
    names = "mmap_max", "mmap_threshold", "trim_threshold"
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    free = not any(name in tunables or f"MALLOC_{name.upper()}_" in os.environ for name in names)
    return free and not os.environ.get("TTL_JAX_PLAIN_HOST") and hasattr(_libc(), "mallopt")


def keep_memory() -> None:
    """From now on malloc keeps what a step frees; `release_memory` gives back what there is, for once.

    For a process that is ours: malloc does so to its end.

    XLA allocates a step's temporaries (hundreds of MiB) anew in each step. malloc takes such blocks from
    the system and gives them back at once, so that each step waits for fresh pages: a tenth of its time,
    and several times that where a virtual machine's host takes free pages away. That each step finds the
    place of the last one free, `set_up_jax` has programs run in the thread that calls them, one after the
    other, and `placed` sees to it that they can. That is the main thread here: malloc has a heap a thread,
    and another's can hold no block of that size.
    """
    if not keeps_memory() or threading.current_thread() is not threading.main_thread():
        return
    library = _libc()
    library.mallopt(M_MMAP_MAX, 0)
    library.mallopt(M_TRIM_THRESHOLD, -1)  # never
    _leave_gaps()


@cache
def _leave_gaps() -> None:
    """Leaves free blocks in the heap, of address space alone.

    malloc takes the smallest free block that will do. Without gaps a batch goes where the last step's
    temporaries were, and the next step's, which no longer fit, take as much memory again.
    """
    library = _libc()
    library.malloc.restype = library.realloc.restype = ctypes.c_void_p
    library.malloc.argtypes, library.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    library.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    for mebibytes in GAPS:
        size = mebibytes << 20
        gap = library.malloc(size)
        library.realloc(library.malloc(size), 64)  # stays, so that the gap is none of the heap's end
        library.free(gap)


def release_memory() -> None:
    """Gives the pages that malloc holds without need back to the system.

    XLA's compiler leaves hundreds of MiB of them, which would add to the peak of training.
    """
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(0)
