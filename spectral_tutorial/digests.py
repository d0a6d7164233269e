"""Digests of code: whatever a stage's modules import, so that there is no list to keep."""

import ast
import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from spectral_tutorial.store import fingerprint


def source_digest(path: Path) -> str:
    """SHA-256 of a Python file's code; comments and layout do not count."""
    return _digest(ast.parse(path.read_text(encoding="utf-8")))


def _digest(tree: ast.Module) -> str:
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def code_digest(function: Callable[..., Any]) -> str:
    """Digest of the whole file in which a function or class is defined, or of its name where there is none."""
    try:
        return source_digest(Path(str(inspect.getsourcefile(function))))
    except (TypeError, OSError):
        return fingerprint(repr(getattr(function, "__qualname__", type(function))))


@cache
def _module(path: Path) -> tuple[str, tuple[str, ...]]:
    """Digest of a module of the package, and what it imports from; read once: what is edited later is not what runs."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [(str(n.module), n.names) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    return _digest(tree), tuple(
        name for module, names in imports for name in (module, *(f"{module}.{a.name}" for a in names))
    )


def import_closure(*modules: ModuleType) -> dict[str, Path]:
    """Return name and file of modules and of all that they import from their package, directly or through others.

    Imports inside functions count; the package's own ``__init__``, which imports everything for its users, does not.
    """
    package = modules[0].__name__.partition(".")[0]
    root = Path(str(import_module(package).__file__)).parent
    found: dict[str, Path] = {}
    todo = [module.__name__ for module in modules]
    while todo:
        name = todo.pop()
        place = root.joinpath(*name.split(".")[1:])
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if name in found or name == package or not path.is_file():  # the last: a function or a class
            continue
        found[name] = path
        todo += [name for name in _module(path)[1] if name.partition(".")[0] == package]
    return found


def closure_digest(*modules: ModuleType) -> str:
    """Digest of the code of some modules and of everything in their :func:`import_closure`."""
    return fingerprint({name: _module(path)[0] for name, path in import_closure(*modules).items()})
