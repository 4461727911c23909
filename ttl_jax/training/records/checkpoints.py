"""Checkpoints by Orbax: the last state to resume from, and the best variables to evaluate.

The only file that knows Orbax. A bundle is a folder of arrays (and for the state a JSON file of the
progress: phase, label digest, step, which fixes randomness and data position, best-so-far, plateau and
early-stop counters), sealed by a manifest (`bundle`). Bundles are written by a thread of our own, in the
order of the calls, by the first process alone, from copies on the host: they know nothing of the number of
devices. The best variables wait for the next state, which names them: what no state on disk names is of no
use to a resume.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ttl_jax.errors import UserError
from ttl_jax.system.host import release_memory
from ttl_jax.system.json_object import read_object
from ttl_jax.training.records.bundle import fault, seal
from ttl_jax.training.records.failed_save import silence_orbax
from ttl_jax.typing import Variables

LAST_KEPT = 2
BEST_KEPT = 3  # those that the kept states name, and the one being written
_YOUNG = ("updates",)  # parts of a state that older bundles lack: on disk where they hold something
_WAITING = 3  # saves under way at once: each holds a copy of its arrays


class Checkpoints:
    """The folders of a run: checkpoints/last (two newest kept) and checkpoints/best.

    Where a strategy asks for it, also checkpoints/start (the weights at the start of the last phase),
    checkpoints/soup (those of the last validations) and checkpoints/end (what was made of them).
    """

    def __init__(
        self,
        workdir: Path,
        *,
        writes: bool = True,
        share: float = 1.0,
        committed: Callable[[], None] | None = None,
    ) -> None:
        """Opens the folders.

        Args:
            workdir: the run's folder.
            writes: False in all processes but the first.
            share: the largest share of wall time that saving may take, above 0 up to 1; see `affordable`.
            committed: called by the writing thread after every bundle (to copy it elsewhere).
        """
        import orbax.checkpoint as ocp

        self._ocp = ocp
        self._folder = Path(workdir).absolute() / "checkpoints"
        self._writes, self._share, self._committed = writes, share, committed
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: deque[Future[None]] = deque()
        self._next = 0
        self._best: tuple[int, Variables] | None = None  # a copy, not on disk yet
        self._began, self._took = -math.inf, 0.0  # of the last save of a state: when, and seconds
        self._chosen: int | None = None  # the bundle of `last` to resume from
        alone = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
        several = {"multiprocessing_options": alone} if jax.process_count() > 1 else {}
        if writes:
            # Compressed, floats are a tenth smaller, and take almost three times as long to write.
            handler = ocp.PyTreeCheckpointHandler(use_compression=False, **several)
            self._orbax = ocp.Checkpointer(handler, **several)
            silence_orbax()

    # Saving.

    def affordable(self) -> bool:
        """Return whether a save now keeps saving within its share of the wall time."""
        if self._share == 1:
            return True
        busy = any(not saving.done() for saving in self._pending)
        return not busy and self._took <= self._share * (time.perf_counter() - self._began)

    def save_last(self, state: Any, progress: dict[str, Any]) -> None:
        """Starts writing a bundle; training may go on meanwhile, and may donate the state."""
        if not self._writes:
            return
        self._began = time.perf_counter()
        self._submit_best()
        self._next = max(self._next, max(_numbers(self._folder / "last"), default=-1) + 1)
        number, self._next = self._next, self._next + 1  # a phase boundary saves one step twice
        self._submit("last", number, {"state": _parts(state)}, LAST_KEPT, progress)

    def save_best(self, step: int, variables: Variables) -> None:
        """Keeps the best variables so far, to be written with the next state, or at the end.

        A step that is on disk already (after a resume) is not written again.
        """
        if self._writes:
            self._best = step, _host_copy(variables)

    def _submit_best(self) -> None:
        if self._best is not None:
            (step, variables), self._best = self._best, None
            self._submit_copies("best", step, {"default": variables}, BEST_KEPT)

    def save_start(self, step: int, variables: Variables) -> None:
        """Keeps the weights at the start of the last phase."""
        self._submit("start", step, {"default": variables}, 1)

    def save_ingredient(self, step: int, variables: Variables, keep: int) -> None:
        """Keeps the weights of a validation, the newest so many."""
        self._submit("soup", step, {"default": variables}, keep)

    def save_end(self, step: int, variables: Variables) -> None:
        """Keeps the weights that a part makes at the end, in the place of the best ones."""
        self._submit("end", step, {"default": variables}, 1)

    def _submit(self, name: str, number: int, trees: dict[str, Any], keep: int, progress: Any = None) -> None:
        if not self._writes:
            return
        self._wait_for(_WAITING - 1)
        copies = {part: _host_copy(tree) for part, tree in trees.items()}
        self._submit_copies(name, number, copies, keep, progress)

    def _submit_copies(
        self, name: str, number: int, copies: dict[str, Any], keep: int, progress: Any = None
    ) -> None:
        self._wait_for(_WAITING - 1)
        self._pending.append(self._thread.submit(self._write, name, number, copies, keep, progress))

    def _write(self, name: str, number: int, trees: dict[str, Any], keep: int, progress: Any) -> None:
        bundle = self._folder / name / str(number)
        if fault(bundle) is not None:
            shutil.rmtree(bundle, ignore_errors=True)
            bundle.mkdir(parents=True)
            for part, tree in trees.items():
                self._orbax.save(bundle / part, args=self._ocp.args.PyTreeSave(tree))
            release_memory()  # what orbax wrote from, most of what it saved once more; the steps' too
            if progress is not None:
                (bundle / "progress").mkdir()
                (bundle / "progress" / "metadata").write_text(json.dumps(progress))
            seal(bundle)  # last: a bundle without a manifest was cut short, and is written again
        # Only now do older ones go: a kill at any point leaves a whole bundle.
        for old in _numbers(self._folder / name)[:-keep]:
            shutil.rmtree(self._folder / name / str(old), ignore_errors=True)
        if self._committed is not None:
            self._committed()
        if name == "last":
            self._took = time.perf_counter() - self._began

    # Resuming.

    def progress(self) -> dict[str, Any] | None:
        """The progress of the newest bundle that can be used, or None where there is none.

        A broken bundle, and one whose best variables are broken, is passed over with a line that says
        so, and removed; what was kept after the chosen one's step is made again.
        """
        if self._chosen is None:
            self._chosen = self._choose()
        if self._chosen is None:
            return None
        return _progress(self._folder / "last" / str(self._chosen))

    def _choose(self) -> int | None:
        numbers = _numbers(self._folder / "last")
        for place, number in enumerate(reversed(numbers)):
            why = self._unusable(number)
            if why is None:
                self._forget_after(_progress(self._folder / "last" / str(number))["step"])
                return number
            left = len(numbers) - place - 1
            then = f"the one before it, {numbers[left - 1]}, is used" if left else "the run starts anew"
            print(f"checkpoint {number} is broken ({why}): {then}", flush=True)
            if self._writes:
                shutil.rmtree(self._folder / "last" / str(number), ignore_errors=True)
        self._forget_after(-1)
        return None

    def _unusable(self, number: int) -> str | None:
        bundle = self._folder / "last" / str(number)
        why = fault(bundle)
        if why is None:
            try:
                progress = _progress(bundle)
            except UserError as error:
                return str(error)
            if progress.get("best") is not None:
                broken = fault(self._folder / "best" / str(progress["best_step"]))
                why = broken and f"its best weights: {broken}"
            why = why or self._averaged_fault(progress["step"])
        return why

    def _averaged_fault(self, step: int) -> str | None:
        """The fault of weights kept up to a step for an average; they were written before its state."""
        for name, what in (
            ("start", "the weights at the start of its phase"),
            ("soup", "weights of its soup"),
        ):
            for number in _numbers(self._folder / name):
                broken = fault(self._folder / name / str(number)) if number <= step else None
                if broken is not None:
                    return f"{what}: {broken}"
        return None

    def _forget_after(self, step: int) -> None:
        """Drops the weights kept after a step: they belong to what is done again."""
        for name in ("best", "soup", "start"):
            for number in _numbers(self._folder / name):
                bundle = self._folder / name / str(number)
                if self._writes and (number > step or fault(bundle) is not None):
                    shutil.rmtree(bundle, ignore_errors=True)

    def restore_last(self, template: Any, digest: str) -> Any:
        """Restores the state that `progress` speaks of into the structure of a template.

        Raises:
            UserError: it was saved under another label tree (Orbax itself would restore it silently), or by a
                version of this library whose states have other parts.
        """
        progress = self.progress()
        assert progress is not None, "there is no checkpoint to restore"
        if progress["digest"] != digest:
            raise UserError(
                "the checkpoint was saved under another label tree than this strategy gives; "
                "use another --workdir, or the config that the run was started with"
            )
        bundle = self._folder / "last" / str(self._chosen)
        try:
            state = _with_parts(template, self._read(bundle / "state", _parts(template)))
        except ValueError as error:  # what Orbax says of it is pages long
            raise UserError(
                f"{bundle} was saved by another version of ttl_jax, whose states have other parts; finish "
                "the run with that version, or start it again with --fresh"
            ) from error
        if str(jax.tree.structure(state)) != str(jax.tree.structure(template)):
            raise RuntimeError("the restored state has another structure than its template")
        return state

    def restore_best(self, variables: Variables, step: int | None = None) -> tuple[Variables, int]:
        """The best variables, and the step at which they were saved.

        Args:
            variables: variables of the shapes to restore.
            step: the step of the saved weights; the newest ones when not given.

        Raises:
            UserError: they are broken or gone.
        """
        self.wait()
        known = _numbers(self._folder / "best")
        chosen = step if step is not None else max(known, default=0)
        return self._checked("best", chosen, variables), chosen

    def restore_start(self, variables: Variables) -> Variables:
        """The weights at the start of the last phase.

        Raises:
            UserError: they are broken or gone.
        """
        self.wait()
        return self._checked("start", max(_numbers(self._folder / "start"), default=0), variables)

    def restore_ingredients(self, variables: Variables, keep: int) -> list[Variables]:
        """The weights of the last validations, oldest first."""
        self.wait()
        return [
            self._checked("soup", number, variables) for number in _numbers(self._folder / "soup")[-keep:]
        ]

    def kept(self, averaged: bool = False) -> Variables:
        """The weights that a finished run was evaluated with, as they lie on disk.

        Args:
            averaged: they are an average that was made at the end.

        Raises:
            UserError: they are broken or gone.
        """
        self.wait()
        name = "end" if averaged else "best"
        known = _numbers(self._folder / name)
        if averaged and not known:
            raise UserError(
                f"{self._folder.parent} was finished by a version of ttl_jax that kept no averaged weights; "
                "run its train command once more, which makes them again without training"
            )
        return self._checked(name, max(known, default=0))

    def _checked(self, name: str, number: int, variables: Variables | None = None) -> Variables:
        bundle = self._folder / name / str(number)
        why = fault(bundle)
        if why is not None:
            raise UserError(f"{bundle} cannot be used ({why}); start the run again with --fresh")
        restored: Variables
        if variables is None:
            restored = self._orbax.restore(bundle / "default")
            return restored
        try:
            restored = self._read(bundle / "default", variables)
        except ValueError as error:  # what Orbax says of it is pages long
            raise UserError(
                f"{bundle} holds weights of other parts or shapes than this network's; start the run again "
                "with --fresh"
            ) from error
        return restored

    def _read(self, folder: Path, template: Any) -> Any:
        shapes = _shapes(template)
        wanted = self._ocp.checkpoint_utils.construct_restore_args(shapes)
        return self._orbax.restore(folder, args=self._ocp.args.PyTreeRestore(shapes, wanted))

    def wait(self) -> None:
        """Blocks until every save is on disk."""
        self._submit_best()
        self._wait_for(0)

    def _wait_for(self, left: int) -> None:
        """Blocks until no more than so many saves are under way."""
        while len(self._pending) > left:
            self._pending.popleft().result()

    def close(self) -> None:
        """Waits, and releases the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            if self._writes:
                self._orbax.close()


def _progress(bundle: Path) -> dict[str, Any]:
    return read_object(bundle / "progress" / "metadata", step=int, best_step=int)


def _numbers(folder: Path) -> list[int]:
    """The bundles of a folder, oldest first."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(int(path.name) for path in paths if path.name.isdigit())


def _parts(state: Any) -> Any:
    """A state as it lies on disk."""
    if not is_dataclass(state):
        return state
    parts = {item.name: getattr(state, item.name) for item in fields(state)}
    return {name: part for name, part in parts.items() if name not in _YOUNG or jax.tree.leaves(part)}


def _with_parts(template: Any, parts: Any) -> Any:
    """The inverse of `_parts`, for a state like the template."""
    return replace(template, **parts) if is_dataclass(template) else parts  # type: ignore[type-var]


def _host_copy(tree: Any) -> Any:
    """Copies on the host: on a CPU the arrays would else be the buffers that the next step donates."""
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def _shapes(tree: Any) -> Any:
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), tree)
