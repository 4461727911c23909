"""Checkpoints by Orbax: the last state to resume from, and the best variables to evaluate.

The only file that knows Orbax. A bundle is the state (arrays) and the progress (JSON): phase, label
digest, step (which fixes randomness and data position, both pure functions of seed and step),
best-so-far, plateau and early-stop counters.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.typing import Variables


class Checkpoints:
    """The folders of a run: checkpoints/last (two newest kept) and checkpoints/best (one).

    Where a strategy asks for it, also checkpoints/start (the weights at the start of the last phase)
    and checkpoints/soup (those of the last validations).
    """

    def __init__(self, workdir: Path) -> None:
        import orbax.checkpoint as ocp

        self._ocp = ocp
        folder = (workdir / "checkpoints").absolute()

        def manager(name: str, keep: int) -> Any:
            options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
            return ocp.CheckpointManager(folder / name, options=options)

        self._manager = manager
        self._last, self._best = manager("last", 2), manager("best", 1)
        self._more: dict[str, Any] = {}

    def save_last(self, state: Any, progress: dict[str, Any]) -> None:
        """Starts writing a bundle; training may go on meanwhile, and may donate the state."""
        args, newest = self._ocp.args, self._last.latest_step()
        self._last.save(
            0 if newest is None else newest + 1,  # a phase boundary saves one step twice
            args=args.Composite(state=args.StandardSave(_copy(state)), progress=args.JsonSave(progress)),
            force=True,
        )

    def save_best(self, step: int, variables: Variables) -> None:
        """Starts writing the best variables so far; a repeated step (after a resume) is kept."""
        if step not in self._best.all_steps():
            self._best.save(step, args=self._ocp.args.StandardSave(_copy(variables)), force=True)

    def save_start(self, step: int, variables: Variables) -> None:
        """Keeps the weights at the start of the last phase."""
        self._save("start", 1, step, variables)

    def save_ingredient(self, step: int, variables: Variables, keep: int) -> None:
        """Keeps the weights of a validation, the newest so many."""
        self._save("soup", keep, step, variables)

    def restore_start(self, variables: Variables) -> Variables | None:
        """The weights at the start of the last phase; None where they were not kept."""
        found = self._restore("start", 1, variables)
        return found[-1] if found else None

    def restore_ingredients(self, variables: Variables, keep: int) -> list[Variables]:
        """The weights of the last validations, oldest first."""
        return self._restore("soup", keep, variables)

    def _folder(self, name: str, keep: int) -> Any:
        if name not in self._more:
            self._more[name] = self._manager(name, keep)
        return self._more[name]

    def _save(self, name: str, keep: int, step: int, variables: Variables) -> None:
        folder = self._folder(name, keep)
        if step not in folder.all_steps():
            folder.save(step, args=self._ocp.args.StandardSave(_copy(variables)), force=True)

    def _restore(self, name: str, keep: int, variables: Variables) -> list[Variables]:
        folder, args = self._folder(name, keep), self._ocp.args
        folder.wait_until_finished()
        shapes = _shapes(variables)
        return [
            folder.restore(step, args=args.StandardRestore(shapes)) for step in sorted(folder.all_steps())
        ]

    def progress(self) -> dict[str, Any] | None:
        """The progress of the newest checkpoint, or None where there is none."""
        step = self._last.latest_step()
        if step is None:
            return None
        args = self._ocp.args
        return self._last.restore(step, args=args.Composite(progress=args.JsonRestore()))["progress"]

    def restore_last(self, template: Any, digest: str) -> Any:
        """Restores the newest state into the structure of a template.

        Raises:
            UserError: it was saved under another label tree. Orbax itself would restore it silently.
        """
        step = self._last.latest_step()
        args = self._ocp.args
        found = self._last.restore(
            step,
            args=args.Composite(state=args.StandardRestore(_shapes(template)), progress=args.JsonRestore()),
        )
        if found["progress"]["digest"] != digest:
            raise UserError(
                "the checkpoint was saved under another label tree than this strategy gives; "
                "use another --workdir, or the config that the run was started with"
            )
        state = found["state"]
        if str(jax.tree.structure(state)) != str(jax.tree.structure(template)):
            raise RuntimeError("the restored state has another structure than its template")
        return state

    def restore_best(self, variables: Variables) -> tuple[Variables, int]:
        """The best variables, and the step at which they were saved."""
        step = self._best.latest_step()
        restored = self._best.restore(step, args=self._ocp.args.StandardRestore(_shapes(variables)))
        return restored, int(step)

    def wait(self) -> None:
        """Blocks until every save is on disk."""
        for manager in (self._last, self._best, *self._more.values()):
            manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and releases Orbax's threads."""
        for manager in (self._last, self._best, *self._more.values()):
            manager.close()


def _copy(tree: Any) -> Any:
    """A copy of its own: on a CPU Orbax would read the very buffers that the next step donates."""
    return jax.tree.map(jnp.copy, tree)


def _shapes(tree: Any) -> Any:
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=device)

    return jax.tree.map(shape, tree)
