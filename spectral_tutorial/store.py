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
import math
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray

from spectral_tutorial.reading import load_json

log = logging.getLogger(__name__)

STATUS = "status.json"

IN_MEMORY = 2**26
"""Bytes of an array without a name that is held in memory; larger ones lie in a file."""


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


def import_closure(module: ModuleType) -> dict[str, Path]:
    """Return name and file of a module and of all that it imports from its package, directly or through others.

    Imports inside functions count; the package's own ``__init__``, which imports everything for its users, does not.
    """
    package = module.__name__.partition(".")[0]
    root = Path(str(import_module(package).__file__)).parent
    found: dict[str, Path] = {}
    todo = [module.__name__]
    while todo:
        name = todo.pop()
        place = root.joinpath(*name.split(".")[1:])
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if name in found or name == package or not path.is_file():  # the last: a function or a class
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == package:
                todo += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def closure_digest(*modules: ModuleType) -> str:
    """Fingerprint of the code of some modules and of everything in their :func:`import_closure`."""
    files = {name: path for module in modules for name, path in import_closure(module).items()}
    return fingerprint({name: source_digest(path) for name, path in files.items()})


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


def versions() -> bytes:
    """Return, as JSON, the versions of Python and of the libraries that decide about results."""
    packages = {name: version(name) for name in ("numpy", "torch", "pandas", "spectral-tutorial")}
    return json_bytes({"python": platform.python_version(), **packages})


def json_bytes(value: Any) -> bytes:
    """Return plain values as readable JSON."""
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def array_bytes(array: NDArray[Any]) -> bytes:
    """Return the content of an .npy file, without pickle."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def create_array(folder: Path, shape: tuple[int, ...], dtype: np.dtype[Any], name: str | None = None) -> NDArray[Any]:
    """Make room for an array and return it, to be filled.

    With a `name`, as ``NAME.npy`` in the folder, mapped into memory. Without one in memory or, if it is large, in a
    nameless file of the folder, which goes with the array or with a killed process.
    """
    size = dtype.itemsize * math.prod(shape)
    if name is None and size <= IN_MEMORY:
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


TEXT_COLUMNS = ("method", "variation", "component", "split", "status", "place")


def read_table(path: Path, text: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table back as it was written: names, and the columns `text`, stay text (a line may be called NA or 1)."""
    names = dict.fromkeys((*TEXT_COLUMNS, *text), str)
    return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])


def write_checkpoint(folders: list[Path], step: int, state: Mapping[str, torch.Tensor]) -> None:
    """Write the weights ``(S, ...)`` of S seeds as ``step-N.safetensors``, each seed's into its own folder."""
    for place, folder in enumerate(folders):
        alone = {name: tensor[place].clone() for name, tensor in state.items()}
        (folder / f"step-{step:06d}.safetensors").write_bytes(safetensors.torch.save(alone))


def read_checkpoint(folder: Path, step: int) -> dict[str, torch.Tensor]:
    """Read the weights of one seed at one step; what is no checkpoint is refused with a :class:`StoreError`."""
    path = folder / f"step-{step:06d}.safetensors"
    try:
        return safetensors.torch.load(path.read_bytes())
    except (safetensors.SafetensorError, ValueError) as problem:
        raise StoreError(f"{path}: found no checkpoint ({problem}); expected one, or no folder here.") from None


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

        Interrupted anywhere, the old product, or none, is what remains. Whoever writes holds the experiment's lock.
        """
        parent, name = self.directory.parent, self.directory.name
        partial = parent / f".{name}.{os.getpid()}.partial"
        try:
            with explained(self.directory):
                for leftover in parent.glob(f".{name}.*.partial"):
                    shutil.rmtree(leftover, ignore_errors=True)
                partial.mkdir(parents=True)
                yield partial
                files = {path.name: file_digest(path) for path in sorted(partial.iterdir())}
                write_atomically(partial / STATUS, json_bytes({"fingerprint": self.fingerprint, "files": files}))
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        self._replace(partial)

    def _replace(self, partial: Path) -> None:
        if not self.directory.exists():
            partial.replace(self.directory)
            return
        for path in self._not_ours():
            path.replace(partial / path.name)
        old = self.directory.with_name(f".{self.directory.name}.{os.getpid()}.old.partial")
        self.directory.replace(old)
        partial.replace(self.directory)
        shutil.rmtree(old, ignore_errors=True)

    def _not_ours(self) -> list[Path]:
        """Files in the folder that are not part of a product: somebody put them there."""
        status = self.status()
        ours = {STATUS, *(status["files"] if status else ())}
        return [path for path in self.directory.iterdir() if status and path.name not in ours]

    def delete(self) -> None:
        """Delete the product, and the folder if nothing else is in it."""
        for name in (self.status() or {"files": ()})["files"]:
            (self.directory / Path(name).name).unlink(missing_ok=True)
        (self.directory / STATUS).unlink(missing_ok=True)
