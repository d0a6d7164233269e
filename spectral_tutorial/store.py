"""Files: where a stage's product lies, whether it can be used, and writing it so that a kill loses nothing.

A *stage* is one folder that is written as a whole: its files are made in a neighbor folder, which takes the stage's
place by a rename when everything is there, with a ``status.json`` that holds the fingerprint of what it was made from
and the checksum of each file. A folder whose fingerprint or checksums do not match is made again.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import json
import logging
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from spectral_tutorial.reading import load_json, load_yaml

log = logging.getLogger(__name__)

STATUS = "status.json"

PARTS = ("data", "runs", "analysis", "plots")
"""Folders of an experiment that are written under its own lock; each of the ``variations`` has a lock of its own."""


class StoreError(OSError):
    """Something about the files on disk that the person has to decide or mend, in one sentence."""


class MissingError(StoreError):
    """A stage that is switched off, and whose product is not on disk."""


def fingerprint(*parts: Any) -> str:
    """SHA-256 over plain values (anything JSON can say); equal values give equal fingerprints."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def source_digest(path: Path) -> str:
    """Fingerprint of a Python file's code; comments and layout do not count."""
    return hashlib.sha256(ast.dump(ast.parse(path.read_text(encoding="utf-8"))).encode()).hexdigest()


def code_digest(function: Callable[..., Any]) -> str:
    """Fingerprint of the whole file in which a function or class is defined, or of its name where there is none."""
    try:
        return source_digest(Path(str(inspect.getsourcefile(function))))
    except (TypeError, OSError):
        return fingerprint(repr(getattr(function, "__qualname__", type(function))))


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that `path` holds either the old bytes or all of the new; equal bytes are left alone."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with explained(path):
            partial.write_bytes(content)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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


def json_bytes(value: Any) -> bytes:
    """Return plain values as readable JSON."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def array_bytes(array: NDArray[Any]) -> bytes:
    """Return the content of an .npy file, without pickle."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def create_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Make an .npy file of the given shape and return it mapped into memory, to be filled."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        # Take the space now: on a full disk a mapped file would otherwise end the process with a signal later.
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array


def open_array(path: Path) -> NDArray[Any]:
    """Map an .npy file into memory. Python objects, which could run code, are refused with a :class:`StoreError`."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as problem:
        raise StoreError(f"{path}: found no plain array ({problem}); expected one, or no folder here.") from None
    return array


TEXT_COLUMNS = ("method", "variant", "variation", "component", "split", "status", "place")


def read_table(path: Path, text: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table back as it was written: names, and the columns `text`, stay text (a line may be called NA or 1)."""
    names = dict.fromkeys((*TEXT_COLUMNS, *text), str)
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])


@contextmanager
def held(lock: filelock.BaseFileLock, folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; who has to wait for another process says so."""
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.warning("another process is working on %s: waiting until it is done", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Stage:
    """One folder with the product of one step, and the :func:`fingerprint` of everything that it depends on."""

    def __init__(self, directory: Path, print_of_inputs: str) -> None:
        self.directory = directory
        self.fingerprint = print_of_inputs

    def status(self) -> dict[str, Any] | None:
        """Content of ``status.json``, or None where it is missing or damaged."""
        try:
            status = load_json(self.directory / STATUS)
        except (OSError, ValueError):
            return None
        return status if isinstance(status, dict) and isinstance(status.get("files"), dict) else None

    def intact(self) -> bool:
        """Whether every file of the product is there, byte for byte as it was written."""
        status = self.status()
        if status is None:
            return False
        for name, digest in status["files"].items():
            path = self.directory / name
            if not path.is_file() or file_digest(path) != digest:
                log.warning("%s is missing or was altered", path)
                return False
        return True

    def current(self) -> bool:
        """Whether the product can be used: made from the same inputs, and intact."""
        status = self.status()
        return status is not None and status.get("fingerprint") == self.fingerprint and self.intact()

    @contextmanager
    def write(self) -> Iterator[Path]:
        """Give a folder to fill; when the block ends without an error it becomes the product.

        Interrupted anywhere, the old product, or none, is what remains.
        """
        with write_together([self]) as (folder,):
            yield folder

    def _begin(self) -> Path:
        parent, name = self.directory.parent, self.directory.name
        parent.mkdir(parents=True, exist_ok=True)
        for leftover in self._leftovers():
            shutil.rmtree(leftover, ignore_errors=True)
        partial = parent / f".{name}.{os.getpid()}.partial"
        partial.mkdir()
        return partial

    def _complete(self, partial: Path) -> None:
        files = {path.name: file_digest(path) for path in sorted(partial.iterdir())}
        write_atomically(partial / STATUS, json_bytes({"fingerprint": self.fingerprint, "files": files}))

    def _replace(self, partial: Path) -> None:
        if self.directory.exists():
            old = self.directory.with_name(f".{self.directory.name}.{os.getpid()}.old.partial")
            self.directory.replace(old)
            partial.replace(self.directory)
            shutil.rmtree(old, ignore_errors=True)
        else:
            partial.replace(self.directory)

    def _leftovers(self) -> list[Path]:
        """Folders that a killed process left; whoever asks holds the experiment's lock."""
        return sorted(self.directory.parent.glob(f".{self.directory.name}.*.partial"))


@contextmanager
def write_together(stages: Sequence[Stage]) -> Iterator[list[Path]]:
    """Give a folder to fill for each of several stages that are made at once; see :meth:`Stage.write`.

    Killed between two of the last renames, :func:`recovered` does the others.
    """
    partials: list[Path] = []
    try:
        with explained(Path(os.path.commonpath([stage.directory for stage in stages]))):
            for stage in stages:
                partials.append(stage._begin())
            yield partials
            for stage, partial in zip(stages, partials, strict=True):
                stage._complete(partial)
    except BaseException:
        for partial in partials:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    for stage, partial in zip(stages, partials, strict=True):
        stage._replace(partial)


def recovered(stages: Iterable[Stage]) -> bool:
    """Whether a killed process had completed all of the stages; then they take their places.

    All or none: what is trained together differs in the last digits from what is trained alone.
    """
    complete = {
        stage: [path for path in stage._leftovers() if Stage(path, stage.fingerprint).current()] for stage in stages
    }
    if not all(complete.values()):
        return False
    for stage, (first, *_) in complete.items():
        stage._replace(first)
    return True


class _Dumper(yaml.SafeDumper):
    """Puts text such as 1e-3, which is none in YAML 1.2, between quotes."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


class ExperimentFolder:
    """The folder of one experiment, which need not exist: whose it is, and who may write into it now.

    `sections` is the configuration as plain values; `overwrite` says whether an earlier experiment in the folder is
    deleted when the first file is written. StoreError if the folder cannot be used; nothing has been written then.
    """

    def __init__(self, path: Path, sections: Mapping[str, Mapping[str, Any]], overwrite: bool) -> None:
        self.path = path
        self.sections = sections
        self._record = path / "configs"
        self._lock = filelock.FileLock(path / ".lock", is_singleton=True)  # stages nest: one process may hold it twice
        self._claimed = False
        self._stale = self._check_owner(overwrite)

    def _check_owner(self, overwrite: bool) -> bool:
        """Say whether the folder holds an experiment that has to go first."""
        if self.path.exists() and not self.path.is_dir():
            raise StoreError(f"{self.path}: found a file; expected a folder for the experiment.")
        if self.path.is_dir() and not self._is_ours():
            raise StoreError(f"{self.path}: found a folder that holds something else; expected an empty one or none.")
        difference = self._difference()
        if difference and not overwrite:
            raise StoreError(
                f"{self.path}: found the experiment of another configuration ({difference}); "
                f"expected another --exp-dir, or --overwrite to delete it."
            )
        return difference is not None

    def _difference(self) -> str | None:
        """Say where the recorded configuration differs; other seeds, which only add to what is there, may."""
        if (self._record / ORIGINAL_RECORD).is_file():
            return "in the format of the original tutorial"
        for name, section in self.sections.items():
            path = self._record / RECORD_NAMES[name]
            if name == "meta" or not path.is_file():
                continue
            try:
                recorded = load_yaml(path)
            except ValueError:
                return f"{path.name} cannot be read"
            place = first_difference(recorded, section)
            if place:
                return f"{path.name}: {place}"
        return None

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the experiment's lock, waiting for whoever has it, with the configuration written down."""
        self.path.mkdir(parents=True, exist_ok=True)
        with held(self._lock, self.path):
            if not self._claimed:
                self._clear_leftovers()
                self._write_record()
                self._claimed = True
            yield

    def publish(self, name: str, content: bytes) -> None:
        """Write one file under the experiment's folder, atomically; equal content is left alone."""
        path = self.path / name
        if not path.is_file() or path.read_bytes() != content:
            with self.claimed():
                write_atomically(path, content)

    def _clear_leftovers(self) -> None:
        """Delete what killed processes left and nobody can use: only the lock's holder writes here."""
        for part in (self._record.name, *PARTS):
            for leftover in list((self.path / part).rglob(".*.partial")):
                if leftover.is_file():
                    leftover.unlink()
                elif leftover.name.endswith(".old.partial") or not (leftover / STATUS).is_file():
                    shutil.rmtree(leftover, ignore_errors=True)

    def _write_record(self) -> None:
        if self._stale:
            for part in (*PARTS, "variations"):
                shutil.rmtree(self.path / part, ignore_errors=True)
            for path in self._record.glob("*.yaml"):  # the original's, which had other names
                if path.name not in RECORD_NAMES.values():
                    path.unlink()
        for name, content in self._record_files().items():
            write_atomically(self._record / name, content)

    def _record_files(self) -> dict[str, bytes]:
        """Content of each file of the record. It can itself be run: its paths lead to its neighbors and back here."""
        paths = {f"{name}_config_path": file for name, file in RECORD_NAMES.items() if name != "meta"}
        sections = {**self.sections, "meta": {**self.sections["meta"], **paths, "exp_dir": ".."}}
        files = {
            RECORD_NAMES[name]: yaml.dump(dict(section), Dumper=_Dumper, sort_keys=False, allow_unicode=True).encode()
            for name, section in sections.items()
        }
        packages = {name: version(name) for name in ("numpy", "torch", "pandas", "spectral-tutorial")}
        files[VERSIONS] = json_bytes({"python": platform.python_version(), **packages})  # last: the record is complete
        return files

    def _is_ours(self) -> bool:
        """Whether the folder is empty, an experiment, or one whose record was cut short while it was written."""
        if any((self._record / name).is_file() for name in (VERSIONS, ORIGINAL_RECORD)):
            return True
        visible = {entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")}
        if not visible:
            return True
        ours = self._record_files()
        found = (
            [path for path in self._record.iterdir() if not path.name.startswith(".")] if self._record.is_dir() else []
        )
        return visible == {self._record.name} and all(path.read_bytes() == ours.get(path.name) for path in found)


VERSIONS = "versions.json"  # the record's last file: what was used

ORIGINAL_RECORD = "spectra_config.yaml"
"""A file by which the record of the original tutorial is known."""

RECORD_NAMES = {
    "meta": "meta_config.yaml",
    "spectra": "synthetic_spectra.yaml",
    "distribution": "data_distribution.yaml",
    "training": "training.yaml",
    "analysis": "analysis.yaml",
}
"""Names of the five files in an experiment's ``configs`` folder."""


def first_difference(old: Any, new: Any, path: str = "") -> str | None:
    """Name the first place where two nests of mappings and lists differ; keys that only `new` has do not count."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        places = (first_difference(old[key], new.get(key), f"{path}.{key}".lstrip(".")) for key in old)
        return next((place for place in places if place), None)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        places = (first_difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(old, new, strict=True)))
        return next((place for place in places if place), None)
    return None if old == new else f"{path} is {old!r} there and {new!r} here"
