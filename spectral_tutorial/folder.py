"""The folder of one experiment: whose it is, and the record of its configuration."""

import logging
import platform
import re
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from spectral_tutorial.reading import load_yaml
from spectral_tutorial.store import LOCKS, PARTS, PUBLISHED, STATUS, Folder, Stage, StoreError, json_bytes, published

log = logging.getLogger(__name__)

Sections = Mapping[str, Mapping[str, Any]]  #: a configuration as plain values: ``meta`` and the four other files
VERSIONS = "versions.json"  #: the record's last file, with the versions that were used
RECORD = {
    "meta": "meta_config.yaml",
    "spectra": "synthetic_spectra.yaml",
    "distribution": "data_distribution.yaml",
    "training": "training.yaml",
    "analysis": "analysis.yaml",
}
"""Names of the five files in an experiment's ``configs`` folder."""

ELSEWHERE = ("plot_config.names", "variations")
"""Keys of analysis.yaml that may differ: names change figures only, and each variation has a folder of its own."""

ORIGINAL_RECORD = "spectra_config.yaml"
"""A file in ``configs`` by which an experiment of the original tutorial is known."""


class _Dumper(yaml.SafeDumper):
    """Puts text such as 1e-3, which is none in YAML 1.2, between quotes."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def open_folder(path: Path, sections: Sections, overwrite: bool, file: str) -> Folder:
    """Return the folder of an experiment, which need not exist; nothing is written yet.

    With `overwrite`, an earlier experiment in it goes when the first file is written. `file` is how messages name the
    meta file. StoreError if the folder cannot be used.
    """
    record = _record(sections)
    if path.exists() and not path.is_dir():
        raise StoreError(f"{path}: found a file; expected a folder for the experiment.")
    if path.is_dir() and not _is_ours(path, record):
        raise StoreError(f"{path}: found a folder that holds something else; expected an empty one or none.")
    difference = _difference(path, sections)
    if difference and not overwrite:
        raise StoreError(
            f"{path}: found the experiment of another configuration ({difference}); "
            f"expected another --exp-dir, or --overwrite to delete it."
        )
    return Folder(path, sections["meta"], file, record, partial(_clear, path) if difference else None)


def versions() -> bytes:
    """Return, as JSON, the versions of Python and of the libraries that decide about results."""
    packages = {name: version(name) for name in ("numpy", "torch", "pandas", "spectral-tutorial")}
    return json_bytes({"python": platform.python_version(), **packages})


def _record(sections: Sections) -> dict[str, bytes]:
    """Content of each file of the record. It can itself be run: its paths lead to its neighbors and back here."""
    paths = {f"{name}_config_path": file for name, file in RECORD.items() if name != "meta"}
    files = {}
    for name, section in {**sections, "meta": {**sections["meta"], **paths, "exp_dir": ".."}}.items():
        text = yaml.dump(dict(section), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        files[RECORD[name]] = text.encode()
    return files | {VERSIONS: versions()}  # last: the record is complete


def _is_ours(path: Path, record: Mapping[str, bytes]) -> bool:
    """Whether a folder is empty, an experiment, or one whose record was cut short while it was written."""
    configs = path / "configs"
    if any((configs / name).is_file() for name in (VERSIONS, ORIGINAL_RECORD)):
        return True
    visible = {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
    written = [file for file in configs.glob("*") if not file.name.startswith(".")]
    begun = visible == {"configs"} and all(file.read_bytes() == record.get(file.name) for file in written)
    return begun or not visible


def _difference(path: Path, sections: Sections) -> str | None:
    """Say where the recorded configuration differs; other seeds, which only add to what is there, may."""
    if (path / "configs" / ORIGINAL_RECORD).is_file():
        return "in the format of the original tutorial"
    for name, section in sections.items():
        file = path / "configs" / RECORD[name]
        if name == "meta" or not file.is_file():
            continue
        try:
            recorded = load_yaml(file)
        except ValueError:
            return f"{file.name} cannot be read"
        if place := first_difference(recorded, section):
            return f"{file.name}: {place}"
    return None


def _clear(path: Path) -> None:
    """Make room: delete an experiment, or set the original tutorial's, whose files are not ours to delete, aside."""
    if not (path / "configs" / ORIGINAL_RECORD).is_file():
        _delete_results(path)
        return
    aside = next(place for n in count(1) if not (place := path / f"original-{n}").exists())
    log.warning("%s: the original tutorial's files are moved to %s", path, aside.name)
    found = [entry for entry in path.iterdir() if entry.name not in LOCKS]
    aside.mkdir()
    for entry in found:
        entry.replace(aside / entry.name)


def _delete_results(folder: Path) -> None:
    """Delete what this package wrote into an experiment's folder, its variations too; whatever else is there stays."""
    for inner in (folder / "variations").glob(f"*/configs/{VERSIONS}"):
        _delete_results(inner.parents[1])
        for name in (*RECORD.values(), VERSIONS, *(f"../{lock}" for lock in LOCKS)):
            (inner.parent / name).unlink(missing_ok=True)
    for part in PARTS:
        for status in list((folder / part).rglob(STATUS)):
            Stage(status.parent, "").delete()
    for name in (*published(folder), f"configs/{PUBLISHED}"):
        (folder / name).unlink(missing_ok=True)
    for part in (*PARTS, "variations"):
        for path in [*sorted((folder / part).rglob("*"), reverse=True), folder / part]:  # what is deepest first
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def first_difference(old: Any, new: Any, path: str = "") -> str | None:
    """Name the first place where two nests of mappings and lists differ; keys that only `new` has do not count."""
    if path in ELSEWHERE:
        return None
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        places = (first_difference(old[key], new.get(key), f"{path}.{key}".lstrip(".")) for key in old)
        return next((place for place in places if place), None)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        places = (first_difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(old, new, strict=True)))
        return next((place for place in places if place), None)
    return None if old == new else f"{path} is {old!r} there and {new!r} here"
