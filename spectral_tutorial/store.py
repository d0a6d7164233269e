"""Files: stages that are written as a whole, in a folder where one process at a time makes them.

A *stage* is one folder: its files are made in a neighbor folder, which takes the stage's place by a rename when
everything is there, with a ``status.json`` that holds the fingerprint of what it was made from and the checksum of each
file. A folder whose fingerprint or checksums do not match is made again. Whoever makes one holds the experiment's lock.
"""

import hashlib
import io
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray

log = logging.getLogger(__name__)

IN_MEMORY = 2**26  #: bytes of an array without a name that is held in memory; larger ones lie in a file
STATUS = "status.json"

PUBLISHED = "published.json"
"""In ``configs``, the names of single files, tables and plots, that were written beside the stages."""

PARTS = ("data", "runs", "analysis", "plots")
"""Folders of an experiment that are written under its own locks; each of the ``variations`` has locks of its own."""

LOCKS = LOCK, FILES_LOCK = (".lock", ".files.lock")
"""Who holds the first makes stages, which may take long; who holds the second writes single files."""

TEXT_COLUMNS = ("method", "variation", "component", "split", "status", "place")


class StoreError(OSError):
    """Something about the files on disk that the person has to decide or mend, in one sentence."""


class MissingError(StoreError):
    """A stage that is switched off, and whose product is not on disk."""


def fingerprint(*parts: Any) -> str:
    """SHA-256 over plain values (anything JSON can say); equal values give equal fingerprints."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- single files


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full disk, or whatever else keeps a file from being written, into one sentence that names it."""
    try:
        yield
    except OSError as problem:
        if isinstance(problem, StoreError) or problem.filename is not None:  # it says enough
            raise
        raise StoreError(
            f"{path}: cannot be written ({' '.join(str(problem).split())}); "
            f"what was finished before is kept, and the same command goes on from there."
        ) from problem


def holds(path: Path, content: bytes) -> bool:
    """Whether a file is there, with this content."""
    return path.is_file() and path.read_bytes() == content


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that `path` holds either the old bytes or all of the new; equal bytes are left alone."""
    if holds(path, content):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with explained(path):
            partial.write_bytes(content)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def json_bytes(value: Any) -> bytes:
    """Return plain values as readable JSON."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def array_bytes(array: NDArray[Any]) -> bytes:
    """Return the content of an .npy file, without pickle."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def create_array(folder: Path, name: str | None, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Make room for an array and return it, to be filled.

    With a `name`, as ``NAME.npy`` in the folder, mapped into memory. Without one in memory or, if it is large, in a
    nameless file of the folder, which goes with the array or with a killed process.
    """
    if name is None and np.dtype(dtype).itemsize * math.prod(shape) <= IN_MEMORY:
        return np.empty(shape, dtype)
    with ExitStack() as stack:
        if name is None:
            stack.enter_context(explained(folder))
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder, prefix=".", suffix=".partial"))
            array: NDArray[Any] = np.memmap(file, dtype, mode="w+", shape=shape)
        else:
            path = folder / f"{name}.npy"
            array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
            file = stack.enter_context(path.open("r+b"))
        if hasattr(os, "posix_fallocate"):
            # Take the space now: on a full disk a mapped file would otherwise end the process with a signal later.
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    return array


def open_array(path: Path) -> NDArray[Any]:
    """Map an .npy file into memory. Python objects, which could run code, are refused with a :class:`StoreError`."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as problem:
        raise StoreError(f"{path}: found no plain array ({problem}); expected one, or no folder here.") from None
    return array


def read_table(path: Path, text: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table back as it was written: names, and the columns `text`, stay text (a line may be called NA or 1)."""
    names = dict.fromkeys((*TEXT_COLUMNS, *text), str)
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])


def write_checkpoint(folders: Iterable[Path], step: int, state: Mapping[str, torch.Tensor]) -> None:
    """Write the weights ``(S, ...)`` of S seeds as ``step-N.safetensors``, each seed's into its own folder."""
    for place, folder in enumerate(folders):
        alone = {name: tensor[place].clone() for name, tensor in state.items()}
        (folder / f"step-{step:06d}.safetensors").write_bytes(safetensors.torch.save(alone))


def read_checkpoint(folders: Iterable[Path], step: int) -> dict[str, torch.Tensor]:
    """Read what :func:`write_checkpoint` wrote; what is no checkpoint is refused with a :class:`StoreError`."""
    states = []
    for path in (folder / f"step-{step:06d}.safetensors" for folder in folders):
        try:
            states.append(safetensors.torch.load(path.read_bytes()))
        except (safetensors.SafetensorError, ValueError) as problem:
            raise StoreError(f"{path}: found no checkpoint ({problem}); expected one, or no folder here.") from None
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


# --- stages


class Stage:
    """One folder with the product of one step, and the fingerprint of everything that it depends on."""

    def __init__(self, directory: Path, fingerprint: str) -> None:
        self.directory = directory
        self.fingerprint = fingerprint

    def status(self) -> dict[str, Any] | None:
        """Content of ``status.json``, or None where it is missing or damaged."""
        try:
            status = json.loads((self.directory / STATUS).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return status if isinstance(status, dict) and isinstance(status.get("files"), dict) else None

    def intact(self, fingerprint: str | None = None) -> bool:
        """Whether each file is there, byte for byte as it was written, and made from these inputs if they are given."""
        status = self.status()
        if status is None or fingerprint not in (None, status.get("fingerprint")):
            return False
        for name, digest in status["files"].items():
            path = self.directory / name
            if not path.is_file() or file_digest(path) != digest:
                log.warning("%s is missing or was altered", path)
                return False
        return True

    def current(self) -> bool:
        """Whether the product can be used: made from the same inputs, and intact."""
        return self.intact(self.fingerprint)

    @contextmanager
    def write(self) -> Iterator[Path]:
        """Give a folder to fill; when the block ends without an error it becomes the product.

        Interrupted anywhere, the old product, or none, is what remains; what somebody put beside it stays.
        """
        parent, name = self.directory.parent, self.directory.name
        partial = parent / f".{name}.{os.getpid()}.partial"
        try:
            with explained(self.directory):
                _delete_leftovers(parent.glob(f".{name}.*.partial"))
                partial.mkdir(parents=True)
                yield partial
                files = {path.name: file_digest(path) for path in sorted(partial.iterdir())}
                write_atomically(partial / STATUS, json_bytes({"fingerprint": self.fingerprint, "files": files}))
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        if self.directory.exists():
            if status := self.status():
                for path in self.directory.iterdir():
                    if path.name not in {STATUS, *status["files"]}:
                        path.replace(partial / path.name)
            old = parent / f".{name}.{os.getpid()}.old.partial"
            self.directory.replace(old)
            partial.replace(self.directory)
            shutil.rmtree(old, ignore_errors=True)
        else:
            partial.replace(self.directory)

    def delete(self) -> None:
        """Delete the product and nothing that lies beside it."""
        for name in (self.status() or {"files": ()})["files"]:
            (self.directory / Path(name).name).unlink(missing_ok=True)
        (self.directory / STATUS).unlink(missing_ok=True)


# --- the folder of an experiment


@contextmanager
def locked(lock: filelock.BaseFileLock, folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; who has to wait for another process says so."""
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.info("another process is working on %s: waiting until it is done", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Folder:
    """The folder of one experiment: what can be used of it, and who may write into it now.

    It need not exist. `meta` are the meta file's keys, with the flags of the stages, and `file` its name in messages.
    Before anything else is written `clear`, if given, removes what has to go, and the files of `record`, by name, are
    written into ``configs``.
    """

    def __init__(
        self,
        path: Path,
        meta: Mapping[str, Any],
        file: str,
        record: Mapping[str, bytes],
        clear: Callable[[], None] | None = None,
    ) -> None:
        self.path, self.meta, self.file = path, meta, file
        self._record, self._clear, self._recorded = record, clear, False
        self._current: set[tuple[Path, str]] = set()
        # stages nest: one process may hold a lock twice
        self._lock, self._files_lock = (filelock.FileLock(path / name, is_singleton=True) for name in LOCKS)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, waiting for whoever has it, with the configuration written down."""
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self._lock, self.path):
            if not self._recorded:
                with locked(self._files_lock, self.path):  # nobody else writes here now
                    for part in ("configs", *PARTS):
                        _delete_leftovers(list((self.path / part).rglob(".*.partial")))
                    if self._clear:
                        self._clear()
                        self._clear = None
                    for name, content in self._record.items():
                        write_atomically(self.path / "configs" / name, content)
                self._recorded = True
            yield

    def record(self) -> None:
        """Write the configuration down where it is not yet: before anything lies in the folder."""
        if self._recorded:
            return
        if self._clear or not all(holds(self.path / "configs" / name, text) for name, text in self._record.items()):
            with self.locked():
                pass

    def is_current(self, stage: Stage) -> bool:
        """Whether a stage can be used; each is checked, byte for byte, once in the life of this object.

        None can while another configuration's results are still to be deleted, as they all go at the first write.
        """
        if self._clear:
            return False
        known = (stage.directory, stage.fingerprint)
        if known not in self._current and stage.intact(stage.fingerprint):
            self._current.add(known)
        return known in self._current

    @contextmanager
    def pending(self, stages: Iterable[Stage], flag: str) -> Iterator[list[Stage]]:
        """Give the stages that cannot be used, to be written in the block, which holds the lock if there are any.

        MissingError if the meta file's `flag` is off and a stage was never finished; one of other code is used as it
        is.
        """
        missing = [stage for stage in stages if not self.is_current(stage)]
        with ExitStack() as stack:
            if missing and self.meta[flag]:
                stack.enter_context(self.locked())
                # Another process may have made them while this one waited.
                missing = [stage for stage in missing if not self.is_current(stage)]
                for stage in missing:
                    if stage.intact():
                        log.info("%s was made from other inputs or by other code: it is made again", stage.directory)
                yield missing
            else:
                for stage in missing:
                    self._accept(stage, flag)
                yield []
        self._current |= {(stage.directory, stage.fingerprint) for stage in missing}

    def _accept(self, stage: Stage, flag: str) -> None:
        if self._clear or not stage.intact():
            raise MissingError(
                f"{self.file}: {flag}: found false, with nothing complete in {stage.directory}; "
                f"expected true, or an experiment where this stage is finished."
            )
        log.warning("%s was made by another version of the code; used as it is (%s: false)", stage.directory, flag)

    def publish(self, name: str, content: bytes) -> None:
        """Write one file under the experiment's folder, atomically; equal content is left alone."""
        path = self.path / name
        if self._clear or not holds(path, content):
            self.record()
            with locked(self._files_lock, self.path):  # not behind those who make stages
                for parent in (path.parent, self.path / "configs"):
                    _delete_leftovers(left for left in parent.glob(".*.partial") if left.is_file())
                known = published(self.path)
                if name not in known:
                    write_atomically(self.path / "configs" / PUBLISHED, json_bytes(sorted([*known, name])))
                write_atomically(path, content)


def _delete_leftovers(paths: Iterable[Path]) -> None:
    """Delete what killed processes left."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def published(folder: Path) -> list[str]:
    """Names of the single files that were written into an experiment's folder."""
    try:
        names = json.loads((folder / "configs" / PUBLISHED).read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    inside = [name for name in names if isinstance(name, str) and ".." not in name] if isinstance(names, list) else []
    return [name for name in inside if name.startswith(tuple(f"{part}/" for part in PARTS))]
