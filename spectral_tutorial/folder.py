"""The folder of one experiment: whose it is, what lies in it, and who may write into it now."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from shutil import rmtree
from typing import Any

import filelock
import yaml

from spectral_tutorial.reading import load_json, load_yaml
from spectral_tutorial.store import STATUS, MissingError, Stage, StoreError, json_bytes, versions, write_atomically

log = logging.getLogger(__name__)

PARTS = ("data", "runs", "analysis", "plots")
"""Folders of an experiment that are written under its own lock; each of the ``variations`` has a lock of its own."""


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


class _Dumper(yaml.SafeDumper):
    """Puts text such as 1e-3, which is none in YAML 1.2, between quotes."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


class ExperimentFolder:
    """The folder of one experiment: whose it is, and who may write into it now.

    Parameters
    ----------
    path : Path
        The folder; it need not exist.
    sections : mapping
        The configuration as plain values: ``meta`` and the four other files.
    overwrite : bool
        Whether an earlier experiment in the folder is deleted when the first file is written.
    file : str
        The meta file as its user named it, for messages.

    Raises
    ------
    StoreError
        If the folder cannot be used; nothing has been written then.
    """

    def __init__(
        self, path: Path, sections: Mapping[str, Mapping[str, Any]], overwrite: bool, file: str = "meta_config.yaml"
    ) -> None:
        self.path = path
        self.sections = sections
        self.file = file
        self._current: set[tuple[Path, str]] = set()
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

    def is_current(self, stage: Stage) -> bool:
        """Whether a stage can be used; each is checked, byte for byte, once in the life of this object.

        None can while another configuration's results are still to be deleted, as they all go at the first write.
        """
        if self._stale:
            return False
        known = (stage.directory, stage.fingerprint)
        if known not in self._current and stage.current():
            self._current.add(known)
        return known in self._current

    def produce(self, stages: Iterable[Stage], flag: str, make: Callable[[list[Stage]], None]) -> None:
        """Call `make` with the stages that cannot be used, if there are any and the meta file's `flag` is on.

        Raises
        ------
        MissingError
            If the flag is off and a stage was never finished.
        """
        missing = [stage for stage in stages if not self.is_current(stage)]
        if not missing:
            return
        if self.sections["meta"][flag]:
            with self.claimed():
                # Another process may have made them while this one waited.
                if todo := [stage for stage in missing if not self.is_current(stage)]:
                    _say_what_is_old(todo)
                    make(todo)
        else:
            self._accept_as_found(missing, flag)
        self._current |= {(stage.directory, stage.fingerprint) for stage in missing}

    def _accept_as_found(self, stages: list[Stage], flag: str) -> None:
        for stage in stages:
            if self._stale or not stage.intact():
                raise MissingError(
                    f"{self.file}: {flag}: found false, with nothing complete in {stage.directory}; "
                    f"expected true, or an experiment where this stage is finished."
                )
            log.warning("%s was made by another version of the code; used as it is (%s: false)", stage.directory, flag)

    def publish(self, name: str, content: bytes) -> None:
        """Write one file under the experiment's folder, atomically; equal content is left alone."""
        path = self.path / name
        if self._stale or not path.is_file() or path.read_bytes() != content:
            with self.claimed():
                known = _published(self.path)
                if name not in known:
                    write_atomically(self._record / PUBLISHED, json_bytes(sorted([*known, name])))
                write_atomically(path, content)

    def _clear_leftovers(self) -> None:
        """Delete what killed processes left: only the lock's holder writes here."""
        for part in (self._record.name, *PARTS):
            for leftover in list((self.path / part).rglob(".*.partial")):
                if leftover.is_file():
                    leftover.unlink()
                else:
                    rmtree(leftover, ignore_errors=True)

    def _write_record(self) -> None:
        if self._stale and (self._record / ORIGINAL_RECORD).is_file():
            self._set_aside()
        elif self._stale:
            _delete_results(self.path)
        self._stale = False
        for name, content in self._record_files().items():
            write_atomically(self._record / name, content)

    def _set_aside(self) -> None:
        """Move an experiment of the original tutorial, whose files are not ours to delete, into a folder of its own."""
        aside = next(path for n in count(1) if not (path := self.path / f"original-{n}").exists())
        log.warning("%s: the original tutorial's files are moved to %s", self.path, aside.name)
        found = [path for path in self.path.iterdir() if path.name != ".lock"]
        aside.mkdir()
        for path in found:
            path.replace(aside / path.name)

    def _record_files(self) -> dict[str, bytes]:
        """Content of each file of the record. It can itself be run: its paths lead to its neighbors and back here."""
        paths = {f"{name}_config_path": file for name, file in RECORD_NAMES.items() if name != "meta"}
        sections = {**self.sections, "meta": {**self.sections["meta"], **paths, "exp_dir": ".."}}
        files = {
            RECORD_NAMES[name]: yaml.dump(dict(section), Dumper=_Dumper, sort_keys=False, allow_unicode=True).encode()
            for name, section in sections.items()
        }
        files[VERSIONS] = versions()  # last: the record is complete
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


def _say_what_is_old(stages: list[Stage]) -> None:
    for stage in stages:
        if stage.intact():
            log.info("%s was made from other inputs or by other code: it is made again", stage.directory)


def _published(folder: Path) -> list[str]:
    """Names of the single files that were written into an experiment's folder."""
    try:
        names = load_json(folder / "configs" / PUBLISHED)
    except (OSError, ValueError):
        return []
    inside = [name for name in names if isinstance(name, str) and ".." not in name] if isinstance(names, list) else []
    return [name for name in inside if name.startswith(tuple(f"{part}/" for part in PARTS))]


def _delete_results(folder: Path) -> None:
    """Delete what this package wrote into an experiment's folder, its variations too; whatever else is there stays."""
    for inner in (folder / "variations").glob(f"*/configs/{VERSIONS}"):
        _delete_results(inner.parents[1])
        for name in (*RECORD_NAMES.values(), VERSIONS, "../.lock"):
            (inner.parent / name).unlink(missing_ok=True)
    for part in PARTS:
        for status in list((folder / part).rglob(STATUS)):
            Stage(status.parent, "").delete()
    for name in (*_published(folder), f"configs/{PUBLISHED}"):
        (folder / name).unlink(missing_ok=True)
    for part in (*PARTS, "variations"):
        for path in [*sorted((folder / part).rglob("*"), reverse=True), folder / part]:  # what is deepest first
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


PUBLISHED = "published.json"
"""Names of the single files, tables and plots, that were written beside the stages."""

VERSIONS = "versions.json"
"""The record's last file, with the versions that were used."""

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


ONLY_SHOWN = "plot_config.names"
"""The key of analysis.yaml that changes figures and nothing that is computed: it may differ."""


def first_difference(old: Any, new: Any, path: str = "") -> str | None:
    """Name the first place where two nests of mappings and lists differ; keys that only `new` has do not count."""
    if path == ONLY_SHOWN:
        return None
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        places = (first_difference(old[key], new.get(key), f"{path}.{key}".lstrip(".")) for key in old)
        return next((place for place in places if place), None)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        places = (first_difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(old, new, strict=True)))
        return next((place for place in places if place), None)
    return None if old == new else f"{path} is {old!r} there and {new!r} here"
