"""Being asked to stop: SIGTERM, SIGINT, SIGHUP (a closed ssh), or a cloud that takes the machine away.

The loop polls a `Notice` at every step, in every batch of an evaluation and between phases, saves, and
leaves with `Preempted`; the command line turns that into exit status 75 ("start me again"). Where the
main thread cannot poll (a long compilation, a step of minutes), a thread ends the process once the
grace is over: nothing newer than the last checkpoint was there to save, or it could not be in time.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ttl_jax.errors import UserError

T = TypeVar("T")
STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again
AGREE_EVERY = 4  # questions; each answer waits for the slowest process
GRACE = 8.0  # seconds from the notice to the end where no save is under way
SAVING = 6.0  # seconds of these that a process has whose parent waits for it, and then ends it
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_GCE_KEYS = ("preempted", "maintenance-event")
_GCE_LEAVING = ("TRUE", "TERMINATE_ON_HOST_MAINTENANCE")


class Preempted(Exception):
    """The run was asked to stop and is saved; the same command goes on from there, bit for bit."""


@dataclass
class Notice:
    """The notice that asks this process to stop.

    Attributes:
        reason: the source of the notice ("SIGTERM", ...); "" while there is none.
        saving: whether the last checkpoint is being written; the grace period does not cut it short.
        agree: tells, where several processes take part, whether any of them was asked to stop.
    """

    reason: str = ""
    saving: bool = False
    agree: Callable[[bool], bool] | None = None
    _asked: int = 0
    _agreed: bool = False

    def asked(self) -> bool:
        """Return whether to save and leave. Several processes ask together, and get one answer."""
        if self.agree is None:
            return bool(self.reason)
        self._asked += 1
        if not self._agreed and self._asked % AGREE_EVERY == 0:
            self._agreed = self.agree(bool(self.reason))
            if self._agreed and not self.reason:
                self.reason = "the notice of another process"
        return self._agreed

    def polled(self, items: Iterable[T], alone: bool = False) -> Iterator[T]:
        """The items, until the process is asked to stop.

        Args:
            items: what one asks between.
            alone: whether this process asks only itself: one of several must not wait for the others.

        Raises:
            Preempted: before the next item.
        """
        for item in items:
            if self.reason if alone else self.asked():
                raise Preempted(self.reason)
            yield item


@contextmanager
def watch(source: str = "", grace: float = GRACE) -> Iterator[Notice]:
    """Listens for signals and a cloud's notice while the context lasts; for the main thread only.

    A second SIGINT (Ctrl-C twice) ends the process at once. A SIGHUP that is ignored (nohup) stays so.

    Args:
        source: "" for signals alone, "gce" for the metadata server of a Google Cloud machine, or
            "file:PATH", which asks to stop as soon as PATH exists (a hook for any other cloud).
        grace: seconds after which the process ends where nothing is being saved.

    Raises:
        UserError: another source.
    """
    check_source(source)
    notice, over = Notice(), threading.Event()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # The number of a signal reaches the pipe even while the main thread is inside XLA.
    heard = [each for each in SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]
    before = {number: signal.signal(number, _remembered) for number in heard}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    terminals = [number for number in (1, 2) if os.isatty(number)]
    listening = (reading, notice, over, grace, terminals)
    threads = [threading.Thread(target=_listen, args=listening, daemon=True)]
    if source:
        threads.append(threading.Thread(target=_ask_cloud, args=(source, writing, over), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield notice
    finally:
        over.set()
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(writing, b"\0")
        for thread in threads:
            thread.join()
        os.close(reading)
        os.close(writing)


def check_source(source: str) -> None:
    """Raises UserError where `watch` knows no such source of a notice."""
    if source not in ("", "gce") and (not source.startswith("file:") or source == "file:"):
        raise UserError(f"config preemption_notice={source!r} is not '', 'gce' or 'file:PATH'")


def _remembered(number: int, frame: object) -> None:
    """The wake-up pipe has told the listening thread."""


def _listen(
    reading: int, notice: Notice, over: threading.Event, grace: float, terminals: Sequence[int]
) -> None:
    while not over.is_set():
        for number in os.read(reading, 16):
            if over.is_set() or number == 0:
                return
            if number == signal.SIGHUP:
                _leave_terminal(terminals)
            if notice.reason and number == signal.SIGINT:
                _end("stopped at once; the last checkpoint stays: start me again")
            if not notice.reason:
                notice.reason = "the cloud's notice" if number == 255 else signal.Signals(number).name
                threading.Thread(target=_end_after, args=(notice, over, grace), daemon=True).start()


def _leave_terminal(terminals: Sequence[int]) -> None:
    """Sends what is printed from now on nowhere: the terminal is gone, and writing to it is an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in terminals:
        os.dup2(nowhere, number)
    os.close(nowhere)


def _end_after(notice: Notice, over: threading.Event, grace: float) -> None:
    over.wait(grace)
    if not over.is_set() and not notice.saving:
        _end(f"{notice.reason}: the last checkpoint stays, nothing newer could be saved: start me again")


def _end(line: str) -> None:
    os.write(2, f"ttl_jax: {line}\n".encode())
    os._exit(STATUS)


def _ask_cloud(source: str, writing: int, over: threading.Event) -> None:
    while not over.is_set():
        leaving = _gce_leaves() if source == "gce" else Path(source.removeprefix("file:")).exists()
        if leaving:
            os.write(writing, b"\xff")
            return
        time.sleep(0.5)


def _gce_leaves() -> bool:
    """Asks the metadata server (GCE_METADATA_HOST, as Google's own libraries read it)."""
    host = (
        os.environ["GCE_METADATA_HOST"] if "GCE_METADATA_HOST" in os.environ else "metadata.google.internal"
    )
    for key in _GCE_KEYS:
        url = f"http://{host}/computeMetadata/v1/instance/{key}"
        request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                if answer.read().decode().strip() in _GCE_LEAVING:
                    return True
        except (urllib.error.URLError, OSError):
            return False  # no answer is no notice; the next question follows
    return False
