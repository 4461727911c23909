"""Resources that a process lends to its runs, above all compiled programs kept from one run to the next.

A sweep trains the same network with other seeds and learning rates, and neither is a constant of a
compiled program: the second such run need not trace, lower or load anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from threading import Thread
from typing import Any, TypeVar

import jax

from ttl_jax import data, strategies
from ttl_jax.config import RunConfig
from ttl_jax.models import cpu
from ttl_jax.system import host
from ttl_jax.system.preemption import Notice
from ttl_jax.training.frozen.store import FeatureStore

# What the programs take as an argument, or never see.
ARGUMENTS = ("seed", "optimizer.lr", "evaluate_test", "report_images", "training_features", "loggers")

CROWDED = 0.25  # of the machine's memory
FORESEEN = "foreseen"  # the key of what begins a config's programs before it is claimed

T = TypeVar("T")


@dataclass
class Programs:
    """The programs of runs that differ in `ARGUMENTS` alone.

    Attributes:
        keeps: whether programs of other configs stay too, for runs that take turns, until this process
            takes a quarter of the machine's memory; else it holds those of one config at a time.
        owner: the config that they belong to, without `ARGUMENTS`.
        made: program by key.
        begun: those that a thread is still making.
        others: the programs of other configs.
    """

    keeps: bool = False
    owner: str = ""
    made: dict[Hashable, Any] = field(default_factory=dict)
    begun: dict[Hashable, Future[Any]] = field(default_factory=dict)
    others: dict[str, Programs] = field(default_factory=dict)

    def claim(self, config: RunConfig) -> None:
        """Forgets what other configs left, or not yet; JAX's own caches too: they would grow to gigabytes."""
        owner = _owner(config)
        if owner == self.owner:
            return
        self._wait()
        if self.made:
            self.others[self.owner] = Programs(owner=self.owner, made=self.made)
        claimed = self.others.pop(owner, Programs())
        self.made, self.begun, self.owner = claimed.made, claimed.begun, owner
        host.release_memory()  # what was kept for the owner's steps
        if self.others and (not self.keeps or host.memory_share() > CROWDED):
            for programs in (self, *self.others.values()):
                programs._wait()
            self.others.clear()
            jax.clear_caches()
            host.release_memory()
        self.get(FORESEEN, lambda: None)

    def foresee(self, config: RunConfig, begin: Callable[[Programs], None]) -> None:
        """Has a thread begin the programs of a config that may be claimed next.

        Args:
            config: the run's config. Nothing is done where it has programs already, nor where those of other
                configs are not kept, or memory is short.
            begin: is given those of that config.
        """
        owner = _owner(config)
        if owner == self.owner or not self.keeps or host.memory_share() > CROWDED:
            return
        foreseen = self.others.setdefault(owner, Programs(owner=owner))
        if not foreseen.made:
            foreseen.begin(FORESEEN, partial(begin, foreseen))

    def _wait(self) -> None:
        """Until nothing is being made: JAX's caches must not go while something is traced."""
        done = 0
        while done < len(self.begun):  # one may begin another
            done = len(wait(list(self.begun.values())).done)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The program of that key; made now if it is not there, waited for if it is being made.

        One that could not be made beside other work (there was no memory for both) is made again.
        """
        if key not in self.made:
            begun = self.begun.pop(key, None)
            self.made[key] = make() if begun is None or begun.exception() else begun.result()
        program: T = self.made[key]
        return program

    def begin(self, key: Hashable, make: Callable[[], Any]) -> None:
        """Makes a program in a thread of its own, for a `get` to come."""
        if key in self.made or key in self.begun:
            return
        future: Future[Any] = Future()
        plain = not cpu.wanted()

        def work() -> None:
            try:
                with cpu.disabled(plain):
                    future.set_result(make())
            except BaseException as error:  # noqa: BLE001  # who wants the program makes it, or fails, again
                future.set_exception(error)

        self.begun[key] = future
        Thread(target=work, name=host.COMPILING).start()


def _owner(config: RunConfig) -> str:
    """The part of a config that its programs depend on, as JSON."""
    values = config.to_dict()
    for name in ARGUMENTS:
        *path, last = name.split(".")
        place = values
        for part in path:
            place = place[part]
        del place[last]
    return json.dumps([values, cpu.enabled()], sort_keys=True, default=str)


def one_program(config: RunConfig) -> bool:
    """Return whether runs of this config may be trained together: one phase on features that stay the same.

    That only the head trains, in the end, is known when the strategy meets its network.
    """
    strategy = strategies.parse(config.strategy)
    return (
        len(strategy.phases) == 1
        and not (strategy.parts or strategy.phases[0].parts)
        and not data.augmentation(config.data)
        and not data.parse_mix(config.data.mix)
        and config.data.sampling == "uniform"
        and config.cache_features
        and config.schedule.name != "plateau"
        and config.early_stop.patience == 0
        and config.nan_skip == 0
        and config.parallel.accumulate == 1
        and config.parallel.hosts == "one"
    )


@dataclass(frozen=True)
class Session:
    """The resources that a process lends to its runs.

    Attributes:
        notice: the notice of `preemption.watch`, polled so that a run can be asked to save and stop.
        programs: compiled programs; one value given to several runs on the same data sets is reused by all.
        features: frozen features shared with other runs, in other processes too: computed once for all of
            them, as far as `config.cache_disk_gb` allows.
        committed: called, in another thread, after every checkpoint on disk (to copy it elsewhere).
    """

    notice: Notice = field(default_factory=Notice)
    programs: Programs = field(default_factory=Programs)
    features: FeatureStore | None = None
    committed: Callable[[], None] | None = None
