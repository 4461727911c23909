"""Paths that lie in a bucket (gs://, s3://, anything fsspec knows): read through a local copy, work
folders through a mirror.

Everything else in the program works on local files. What is read is copied once, and again where it has
changed. A work folder is copied here at the start, the bucket being the truth, and every file that
changed is copied back: what other files are judged by (manifests, then results) after all else, so that
a bundle in the bucket is whole or passed over, and a result there has its predictions beside it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ttl_jax.errors import UserError
from ttl_jax.system.folders import user_cache
from ttl_jax.system.lock import held
from ttl_jax.system.whole_file import is_half

OWN = ("owner.json", "lock", "features")  # of this machine: locks, and features kept on its disk
HALF = (".tmp", ".part", ".lock")  # being written
MANIFESTS = ("manifest.json",)
RESULTS = ("result.json", "scores.json", "diverged.json", "compare.json", "search.json", "soup.json")
EXTRAS = {"gs": "'ttl-jax[gcs]'", "gcs": "'ttl-jax[gcs]'", "s3": "s3fs"}  # what a protocol needs
ACCESS = "mend the path, or the access to it (gcloud auth application-default login)"
TRIES = 3  # to copy files of which some are removed meanwhile
PUSH_SECONDS = 60.0  # between pushes of a folder that is worked in


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Return whether a path lies in a bucket."""
    return "://" in os.fspath(path)


@dataclass(frozen=True)
class Bucket:
    """A file or folder in a bucket.

    Attributes:
        url: URL as the user wrote it.
        system: fsspec's file system, which copies many files at a time.
        root: the same path, as the file system writes it.
    """

    url: str
    system: Any
    root: str

    def files(self) -> dict[str, str]:
        """Relative path ("" where it is a file itself) -> what changes when the content does."""
        with self._told("read"):
            listed = self.system.find(self.root, detail=True)
        return {
            name[len(self.root) :].lstrip("/"): _stamp(about)
            for name, about in listed.items()
            if about["type"] == "file" and not name.endswith("/")  # a folder's marker
        }

    def exists(self) -> bool:
        """Return whether there is a file, or anything below."""
        with self._told("read"):
            return bool(self.system.exists(self.root))

    def fetch(self, names: Sequence[str], folder: Path) -> None:
        """Copies files to the same places below a local folder, each as a whole or not at all."""
        places = [folder / name for name in names]
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
        parts = [place.with_name(f"{place.name}.part") for place in places]
        if names:
            with self._told("read"):
                self.system.get([self._at(name) for name in names], [str(part) for part in parts])
        for part, place in zip(parts, places, strict=True):
            part.replace(place)

    def store(self, names: Sequence[str], folder: Path) -> None:
        """Copies files of a local folder to the same places here; one that is gone by now is left out."""
        with self._told("written"):
            for left in reversed(range(TRIES)):
                names = [name for name in names if (folder / name).exists()]
                try:
                    if names:
                        places = [self._at(name) for name in names]
                        self.system.put([str(folder / name) for name in names], places)
                    return
                except FileNotFoundError:  # removed since, or there is no such bucket
                    if not left:
                        raise

    def remove(self, names: Sequence[str]) -> None:
        """Removes files, those that are there."""
        with self._told("written"):
            for name in names:
                try:
                    self.system.rm_file(self._at(name))
                except FileNotFoundError:
                    pass

    def probe(self) -> None:
        """Writes a small file and removes it."""
        name = self._at(f".ttl_jax_doctor_{uuid.uuid4().hex}")
        with self._told("written"):
            self.system.pipe_file(name, b"may this be written?")
            self.system.rm_file(name)

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}" if self.root else name

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        """One sentence for whatever a library raises: each has errors of its own."""
        try:
            yield
        except FileNotFoundError:
            raise UserError(f"{self.url} cannot be {done}: no such bucket, or file in it") from None
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise UserError(f"{self.url} cannot be {done} ({reason}): {ACCESS}") from error


def bucket(path: str) -> Bucket:
    """The bucket's side of a path.

    Raises:
        UserError: the library for its protocol is not installed, or there is no such protocol.
    """
    import fsspec

    # gcsfs would ask for each bucket's kind before every operation, for the sake of zonal buckets.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # its last failure becomes a sentence here
    protocol = path.partition("://")[0]
    try:
        system, root = fsspec.url_to_fs(path, use_listings_cache=False)
    except ImportError:
        needed = EXTRAS[protocol] if protocol in EXTRAS else "the library that fsspec names for it"
        raise UserError(f"{path} needs: pip install -c constraints.txt {needed}") from None
    except Exception as error:  # an unknown protocol, broken credentials
        raise UserError(f"{path} cannot be opened ({str(error).splitlines()[0][:200]})") from error
    return Bucket(path, system, root.rstrip("/"))


def local(path: str, without: Sequence[str] = ()) -> str:
    """A path that can be read here: itself, or a copy in the cache of what lies in a bucket.

    Args:
        path: path of a file or a folder.
        without: names of folders that are not copied.

    Raises:
        UserError: gcsfs is not installed, there is nothing at that path, or it may not be read.
    """
    if not is_remote(path):
        return path
    there = bucket(path)
    above, _, name = there.root.rpartition("/")
    home = _cache("copies", path)
    home.mkdir(parents=True, exist_ok=True)
    with held(home / "lock", wait=True):  # processes of one machine share the copy
        files = {f"{name}/{rest}".rstrip("/"): stamp for rest, stamp in there.files().items()}
        if not files:
            raise UserError(f"{path} does not exist, or may not be read: {ACCESS}")
        wanted = {item: stamp for item, stamp in files.items() if not {*without} & {*item.split("/")}}
        record = home / "copied.json"
        known = json.loads(record.read_text()) if record.exists() else {}
        for item in known.keys() - files.keys():
            (home / item).unlink(missing_ok=True)
        known = {item: stamp for item, stamp in known.items() if item in files and (home / item).exists()}
        changed = [item for item, stamp in wanted.items() if item not in known or known[item] != stamp]
        replace(there, root=above).fetch(changed, home)
        record.write_text(json.dumps(known | wanted))
    return str(home / name)


@contextmanager
def output(path: str) -> Iterator[Path]:
    """A local place for a file that is written; where the path lies in a bucket, it is copied there."""
    if not is_remote(path):
        yield Path(path)
        return
    there = bucket(path)
    above, _, name = there.root.rpartition("/")
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, name)
        replace(there, root=above).store([name], Path(folder))


class Mirror:
    """The local folder of a work folder that lies in a bucket."""

    def __init__(self, path: str, part: int = 0) -> None:
        """Fetches what the bucket holds.

        Args:
            path: URL of the bucket's folder.
            part: number of this process in its run; only the first, 0, copies back.

        Raises:
            UserError: the bucket cannot be read, or another process of this machine works in it.
        """
        self._there, self._writes, self._turn = bucket(path), part == 0, threading.Lock()
        home = _cache("mirror", f"{path.rstrip('/')}#{part}" if part else path)
        self.folder = home / PurePosixPath(self._there.root).name
        home.mkdir(parents=True, exist_ok=True)
        # Locked before the copy is thrown away: another process may be at work in it.
        self.lock = ExitStack()
        self.lock.enter_context(held(home / "lock", wait=False, name=path))
        shutil.rmtree(self.folder, ignore_errors=True)  # another machine may have gone on since
        self.folder.mkdir()
        self._there.fetch([*self._there.files()], self.folder)
        self._known = _state(self.folder)

    def push(self) -> None:
        """Copies back what is new or changed, and removes what is gone.

        Raises:
            UserError: the bucket cannot be written.
        """
        if not self._writes:
            return
        with self._turn:
            now = _state(self.folder)
            changed = [name for name, stamp in now.items() if self._known.get(name) != stamp]
            gone = [name for name in self._known if name not in now]
            # A bundle loses its manifest first, and gets it last.
            for wave in reversed(_waves(gone)):
                self._there.remove(wave)
            for wave in _waves(changed):
                self._there.store(wave, self.folder)
            self._known = now

    def set_aside(self) -> str | None:
        """Moves what the bucket holds to PATH.1 (or .2, ...), empties the folder; None where nothing is."""
        names = [*self._there.files()]
        if not names:
            return None
        number = 1
        while (place := bucket(f"{self._there.url.rstrip('/')}.{number}")).exists():
            number += 1
        place.store(names, self.folder)
        self._there.remove(names)
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self._known = {}
        return place.url

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Pushes every so often while the block runs, and once more when it ends, however it ends."""
        ended = threading.Event()

        def push_on() -> None:
            while not ended.wait(PUSH_SECONDS):
                try:
                    self.push()
                except UserError as error:  # the next push, or the last, may do better
                    print(error, flush=True)

        thread = threading.Thread(target=push_on, name="mirror", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.push()


@contextmanager
def workfolder(
    path: str | os.PathLike[str], part: int = 0, fresh: bool = False
) -> Iterator[tuple[Path, Callable[[], None]]]:
    """The local folder to work in, and what copies it back at once (nothing where it is local).

    Args:
        path: path or URL as the user gives it.
        part: number of this process in its run, as for `Mirror`.
        fresh: whether to move aside what a bucket holds there first; a local folder is left as it is.

    Raises:
        UserError: the bucket cannot be read, or another process of this machine works in it.
    """
    if not is_remote(path):
        yield Path(path), lambda: None
        return
    mirror = Mirror(os.fspath(path), part)
    moved = mirror.set_aside() if fresh and part == 0 else None
    if moved is not None:
        print(f"--fresh: moved what was in {path} to {moved}", flush=True)
    with mirror.lock, mirror.kept():
        yield mirror.folder, mirror.push


def only_local(path: str | os.PathLike[str]) -> Path:
    """The path of a work folder, which has to be local.

    Raises:
        UserError: it lies in a bucket.
    """
    if is_remote(path):
        raise UserError(
            f"{path} is in a bucket: work in the folder that ttl_jax.system.remote.workfolder gives for it"
        )
    return Path(path)


def _waves(names: Sequence[str]) -> list[list[str]]:
    """Files in the order in which they are copied: what others are judged by comes after these."""
    waves: list[list[str]] = [[], [], []]
    for name in sorted(names):
        file = PurePosixPath(name).name
        waves[1 if file in MANIFESTS else 2 if file in RESULTS else 0].append(name)
    return waves


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    state = {}
    for path in folder.rglob("*"):
        if {*OWN} & {*path.relative_to(folder).parts} or path.suffix in HALF or is_half(path):
            continue
        try:
            stat = path.stat()
        except FileNotFoundError:  # gone since it was listed
            continue
        if path.is_file():
            state[path.relative_to(folder).as_posix()] = stat.st_mtime_ns, stat.st_size
    return state


def _stamp(about: Mapping[str, Any]) -> str:
    """Return a mark that changes with a file's content, from what a file system tells."""
    for name in ("md5Hash", "etag", "ETag", "generation", "mtime", "created"):
        if name in about:
            return f"{about['size']} {about[name]}"
    return str(about["size"])


def _cache(kind: str, path: str) -> Path:
    return user_cache() / kind / hashlib.sha256(path.rstrip("/").encode()).hexdigest()[:16]
