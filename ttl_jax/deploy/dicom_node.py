"""A DICOM node: an image that is sent to it (C-STORE) is answered by a report and an overlay.

The answers go to a peer, to a folder, or to both, before the sender hears that its image was taken: a success
says that they are delivered. No image is kept.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ttl_jax.data.images.decode import UnreadableImageError, reason
from ttl_jax.data.read_images import Entry, file_images
from ttl_jax.data.sources.dicom import read_header
from ttl_jax.data.sources.dicom_frame import parsed
from ttl_jax.deploy.dicom_answer import MAX_FRAMES, DicomAnswerer
from ttl_jax.deploy.dicom_folder import save, writable
from ttl_jax.deploy.dicom_source import MAKER, need_extra
from ttl_jax.deploy.finished_run import Run
from ttl_jax.deploy.predict import Ensemble, ensemble, geometries, predict
from ttl_jax.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom import AE

TITLE = "TTL_JAX"
LOOPBACK = "127.0.0.1"
MAX_BYTES = 256_000_000  # of an object; the association of a larger one is aborted while it comes
ASSOCIATIONS = 4  # at a time
SECONDS = 60.0  # that a peer may say nothing
SUCCESS, NO_MEMORY, NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000  # PS3.4, B.2.3


@dataclass(frozen=True)
class Peer:
    """A DICOM node that takes answers."""

    title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Read AETITLE@host:port.

        Raises:
            UserError: it is not written so.
        """
        match = re.fullmatch(r"([ -?A-\[\]-~]{1,16})@([^@\s]+):(\d{1,5})", text)
        if match is None or not 0 < int(match[3]) < 65536:
            raise UserError(
                f"--send_to={text[:200]!r} is not written as AETITLE@host:port, as PACS@10.0.0.5:104"
            )
        return cls(match[1].strip(), match[2].strip("[]"), int(match[3]))

    def send(self, objects: Sequence[Dataset]) -> None:
        """Send objects.

        Raises:
            OSError: not all of them were taken.
        """
        entity = _entity(TITLE)
        for context in dict.fromkeys(each.SOPClassUID for each in objects):
            entity.add_requested_context(context)
        link = entity.associate(self.host, self.port, ae_title=self.title)
        if not link.is_established:
            raise OSError(f"{self} does not take associations")
        try:
            for each in objects:
                try:
                    status = link.send_c_store(each).get("Status")
                except (ValueError, RuntimeError) as error:
                    raise OSError(f"{self} takes no {each.SOPClassUID.name} ({reason(error)})") from None
                if status is None or (
                    status != SUCCESS and status >> 12 != 0xB
                ):  # 0xB...: taken, with a warning
                    said = "nothing" if status is None else f"status 0x{status:04X}"
                    raise OSError(f"{self} answered {said} to a {each.SOPClassUID.name}")
        finally:
            link.release()

    def __str__(self) -> str:
        return f"{self.title}@{self.host}:{self.port}"


class Node:
    """A node that listens; see `start`.

    Attributes:
        port: where it listens.
        counts: of objects "answered", "passed over", "refused" and "not delivered".
    """

    def __init__(
        self,
        answerer: DicomAnswerer,
        folder: Path | None,
        peer: Peer | None,
        log: Callable[[str], None],
        most: int,
    ) -> None:
        self.counts = dict.fromkeys(("answered", "passed over", "refused", "not delivered"), 0)
        self._answerer, self._folder, self._peer = answerer, folder, peer
        self._log, self._most = log, most
        self._one = threading.Lock()  # an image at a time
        self._server: Any = None
        self.port = 0

    def listen(self, host: str, port: int, title: str) -> None:
        """Listen in a thread; port 0 is any free one.

        Raises:
            UserError: the address cannot be listened at.
        """
        from pynetdicom import AllStoragePresentationContexts, VerificationPresentationContexts, evt

        entity = _entity(title)
        for context in (*VerificationPresentationContexts, *AllStoragePresentationContexts):
            entity.add_supported_context(str(context.abstract_syntax), _syntaxes())
        come: dict[Any, int] = {}

        def count(event: Any) -> None:
            come[event.assoc] = come.get(event.assoc, 0) + len(event.data)
            if come[event.assoc] > self._most:
                self._log(f"an object of more than {self._most} bytes comes in: its association is aborted")
                event.assoc.abort(block=False)

        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_DATA_RECV, count),
            (evt.EVT_DIMSE_RECV, lambda event: come.update({event.assoc: 0})),
            (evt.EVT_CONN_CLOSE, lambda event: come.pop(event.assoc, None)),
        ]
        try:
            self._server = entity.start_server((host, port), block=False, evt_handlers=handlers)
        except (OSError, OverflowError) as error:
            raise UserError(f"the DICOM node cannot listen at {host}:{port} ({reason(error)})") from None
        self.port = int(self._server.server_address[1])

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def _store(self, event: Any) -> Any:
        """Answer a C-STORE; nothing that comes in stops the node."""
        name = _printable(str(event.request.AffectedSOPInstanceUID))
        try:
            content = event.encoded_dataset()
            with self._one, tempfile.TemporaryDirectory(prefix="ttl_jax-") as folder:
                path = Path(folder) / "image.dcm"
                path.write_bytes(content)
                if parsed(path, ("Manufacturer",)).get("Manufacturer") == MAKER:
                    return self._pass_over(name)
                made = self.answer(path)
        except UnreadableImageError as error:
            return self._refuse("refused", NOT_UNDERSTOOD, name, str(error))
        except MemoryError:
            return self._refuse("refused", NO_MEMORY, name, "has too many pixels for the memory")
        except Exception as error:
            return self._refuse(
                "refused", NOT_UNDERSTOOD, name, f"could not be answered to ({reason(error)})"
            )
        try:
            self.deliver(made)
        except Exception as error:
            return self._refuse(
                "not delivered", NO_MEMORY, name, f"has answers that went nowhere: {reason(error)}"
            )
        self.counts["answered"] += 1
        self._log(f"{name} answered: {len(made)} objects")
        return SUCCESS

    def _pass_over(self, name: str) -> int:
        """An archive may send our own answers on to us: a failure would make it try for ever."""
        self.counts["passed over"] += 1
        self._log(f"{name} passed over: it is an answer of ttl_jax itself")
        return SUCCESS

    def answer(self, path: Path) -> list[Dataset]:
        """The report of a file, and its overlays.

        Raises:
            UnreadableImageError: it cannot be read, or not be referred to.
        """
        joint = self._answerer.joint
        known = joint.runs[0].signature
        images = file_images(path, known.source, bool(known.geometry.depth))
        if len(images) > MAX_FRAMES:  # before they are all predicted
            raise UnreadableImageError(
                f"has {len(images)} frames; files of up to {MAX_FRAMES} are answered to"
            )
        if known.geometry.depth and read_header(path, "").frames == 1:
            raise UnreadableImageError(
                "is one slice, and this network takes volumes: send a multi-frame file"
            )
        entries = [[Entry(path.name, path)] for _ in geometries(joint)]
        size = joint.runs[0].config.data.eval_batch_size
        rows = [row for batch in predict(joint, entries, size) for row in batch]
        if faults := [row["error"] for row in rows if "error" in row]:
            raise UnreadableImageError(faults[0])
        return [make() for _, make in self._answerer(path, rows).objects]

    def deliver(self, objects: Sequence[Dataset]) -> None:
        """Write objects, and send them.

        Raises:
            UserError, OSError: one of both cannot be done.
        """
        if self._folder is not None:
            for each in objects:
                save(each, self._folder / f"{each.SOPInstanceUID}.dcm")
        if self._peer is not None:
            self._peer.send(objects)

    def _refuse(self, kind: str, status: int, name: str, why: str) -> Dataset:
        from pydicom import Dataset

        self.counts[kind] += 1
        self._log(f"{name} {kind}: {_printable(why)}")
        said = Dataset()
        said.Status = status
        said.ErrorComment = _printable(why).encode("ascii", "replace").decode()[:64]
        return said


def start(
    runs: DicomAnswerer | Ensemble | Run | Sequence[Run],
    port: int,
    out: str | None = None,
    send_to: str | None = None,
    *,
    host: str = LOOPBACK,
    title: str = TITLE,
    max_bytes: int = MAX_BYTES,
    log: Callable[[str], None] | None = None,
) -> Node:
    """Start a node in the background; it is ready to answer when this returns.

    Args:
        runs: what predicts.
        port: to listen at; 0 is any free one.
        out: folder that answers are written to.
        send_to: peer that they are sent to, AETITLE@host:port.
        host: address to listen at; by default this machine alone can reach it.
        title: application entity title.
        max_bytes: of an object.
        log: takes a sentence for each object; by default it is printed.

    Raises:
        UserError: the extra is missing, no place for answers, or an address that is taken.
    """
    need_extra("the DICOM node", "pynetdicom")
    if not out and not send_to:
        raise UserError(
            "the DICOM node has no place for its answers: give a folder or --send_to=AETITLE@host:port"
        )
    peer = Peer.parse(send_to) if send_to else None
    folder = writable(out) if out else None
    if not isinstance(runs, DicomAnswerer):
        joint = runs if isinstance(runs, Ensemble) else ensemble([runs] if isinstance(runs, Run) else [*runs])
        runs = DicomAnswerer(joint)
    runs.warm_up()
    node = Node(runs, folder, peer, log or (lambda said: print(f"dicom: {said}", flush=True)), max_bytes)
    node.listen(host, port, title)
    return node


def _entity(title: str) -> AE:
    """An application entity that waits for nobody for long."""
    from pynetdicom import AE

    made = AE(ae_title=title)
    made.implementation_version_name = MAKER
    made.maximum_associations = ASSOCIATIONS
    made.acse_timeout = made.dimse_timeout = made.network_timeout = made.connection_timeout = SECONDS
    return made


def _syntaxes() -> list[str]:
    """Transfer syntaxes that the decoders read; a deflated one, which may grow without end, is not taken."""
    from pydicom import uid

    return [
        uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless,
        *uid.JPEGTransferSyntaxes, *uid.JPEGLSTransferSyntaxes, *uid.JPEG2000TransferSyntaxes,
    ]  # fmt: skip


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:200]
