"""A cell as a task of an engine.

Nothing heavy is imported before a cell is run, so that an engine can set the process up first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ttl_jax.config import RunConfig
from ttl_jax.engines.task import Report, attempt
from ttl_jax.system.lock import HeldError, held
from ttl_jax.system.preemption import Notice


@dataclass(frozen=True)
class CellTask:
    """A cell to be run.

    Attributes:
        folder: the cell's folder.
        config: the config of the cell's run.
        features: folder of the features that the cells share; "" where they share none.
        others: folder and config of cells that this worker may train along with it, as one program; each
            is still to be run by itself, and then only has to be scored.
    """

    folder: str
    config: RunConfig
    features: str = ""
    others: tuple[tuple[str, RunConfig], ...] = ()

    @property
    def kin(self) -> str:
        """The folder above: the cells in it differ in rate and seed."""
        return str(Path(self.folder).parent)

    def run(self, notice: Notice | None = None) -> Report:
        """Runs or resumes the cell; see `engines.task.Task`."""
        folder = Path(self.folder)
        return attempt(folder, lambda: _train(self, folder, notice))


def _train(task: CellTask, folder: Path, notice: Notice | None) -> str:
    """Trains the cell; returns why it diverged, or ""."""
    from ttl_jax.analysis.cam_gallery import Gallery
    from ttl_jax.engines import worker_cache
    from ttl_jax.system import host
    from ttl_jax.system.compilation_cache import set_up_jax
    from ttl_jax.system.whole_file import write_json
    from ttl_jax.training.frozen.store import FeatureStore
    from ttl_jax.training.heads.many_runs import train_together
    from ttl_jax.training.hooks.finite import DivergedError
    from ttl_jax.training.programs import Session
    from ttl_jax.training.run import train

    config = task.config
    host.set_deterministic(config.deterministic)
    set_up_jax()
    store = FeatureStore(Path(task.features), config.cache_disk_gb * 1e9) if task.features else None
    sets = worker_cache.datasets(config)
    session = Session(notice or Notice(), worker_cache.programs(), store)
    with _free(task.others) as others:
        if others:
            members = [(config, folder), *((made, place) for place, made in others)]
            train_together(members, sets, session)
    try:
        train(config, folder, sets, hooks=(Gallery(),), session=session)
    except DivergedError as error:
        write_json(folder / "diverged.json", {"message": str(error)})
        return str(error)
    return ""


@contextmanager
def _free(cells: tuple[tuple[str, RunConfig], ...]) -> Iterator[list[tuple[Path, RunConfig]]]:
    """Those cells that no other worker is at, held."""
    with ExitStack() as locks:
        held_cells = []
        for name, config in cells:
            folder = Path(name)
            folder.mkdir(parents=True, exist_ok=True)
            try:
                locks.enter_context(held(folder / "lock", wait=False))
            except HeldError:
                continue
            held_cells.append((folder, config))
        yield held_cells
