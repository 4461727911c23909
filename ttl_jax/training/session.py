"""Resources that a process lends to the runs that it trains, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ttl_jax.system.preemption import Notice
from ttl_jax.training.frozen.store import FeatureStore
from ttl_jax.training.programs import Programs


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
