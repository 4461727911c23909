"""The machine and its processes: environment, locks, remote paths, compile cache, preemption."""
