"""The shape of the package: data flow one way, each module knows only what it needs, importing changes nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import traces
from helpers import REPOSITORY

import spectral_tutorial

PACKAGE = REPOSITORY / "spectral_tutorial"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
MODULES |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
LAYERS = re.findall(r"\w+", str(spectral_tutorial.__doc__).split("in this list:")[1])
TOUCHES_FILES = {"io", "json", "os", "pathlib", "shutil", "tempfile", "open"}

layers = pytest.mark.parametrize("name", LAYERS)
files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def parts(name: str) -> list[Path]:
    """The file of a module, or the files of a subpackage."""
    single = PACKAGE / f"{name}.py"
    return [single] if single.is_file() else sorted((PACKAGE / name).rglob("*.py"))


def imports(name: str) -> Iterator[str]:
    """Yield the full name of everything that a module or subpackage imports."""
    for path in parts(name):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def outside(name: str) -> set[str]:
    """Top-level packages that a module imports."""
    return {full.split(".")[0] for full in imports(name)}


def inside(name: str) -> set[str]:
    """Modules of this package that a module imports."""
    return {full.split(".")[1] for full in imports(name) if full.startswith("spectral_tutorial.")}


def test_the_list_names_every_module() -> None:
    assert len(LAYERS) == len(set(LAYERS))
    assert set(LAYERS) == MODULES


@layers
def test_a_module_imports_only_from_those_above_it(name: str) -> None:
    assert inside(name) - {name} <= set(LAYERS[: LAYERS.index(name)])
    assert (name in inside(name)) <= (len(parts(name)) > 1)


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("torch", "models training store stages experiment executors"),
        ("matplotlib", "figures plots experiment"),
        ("pandas", "analysis alarms figures store stages experiment sweep"),
        ("safetensors", "store"),
        ("tqdm", "stages executors sweep"),
        ("yaml", "folder"),
        ("pydantic", "reading sections config sweep"),
        ("filelock", "store sweep"),
        ("shutil", "store"),
        ("distributed", "executors sweep"),
        ("threadpoolctl", "cores executors"),
        ("ruamel", "reading"),
        ("json", "reading store"),
    ],
)
def test_who_may_know_what(library: str, allowed: str) -> None:
    """The explorers stand outside the flow of data and bring libraries of their own."""
    assert {name for name in MODULES - {"explorers"} if library in outside(name)} <= set(allowed.split())


@pytest.mark.parametrize("name", ["physics", "models", "training", "limits", "analysis"])
def test_no_files_where_numbers_are_made(name: str) -> None:
    nodes = [node for path in parts(name) for node in ast.walk(tree(path))]
    called = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not (outside(name) | called) & TOUCHES_FILES


@files
def test_nothing_is_printed_and_no_global_state_is_used(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    called = [node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert not [call.id for call in called if isinstance(call, ast.Name) and call.id in ("print", "exec", "eval")]
    assert not re.search(r"np\.random\.(seed|rand|randn|normal|uniform|choice|shuffle|permutation)\(", source)
    assert not re.search(r"torch\.manual_seed\(|\brandom\.seed\(|^import random", source)
    assert not re.search(r"rcParams\[|plt\.|simplefilter", source)


@files
def test_every_public_thing_says_what_it_is(path: Path) -> None:
    def silent(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_"):
                if not ast.get_docstring(child):
                    yield f"{prefix}{child.name}"
                if isinstance(child, ast.ClassDef):
                    yield from silent(child, f"{child.name}.")

    assert ast.get_docstring(tree(path))
    assert list(silent(tree(path), "")) == []


@files
def test_modules_and_functions_are_short(path: Path) -> None:
    """The aim is 300 and 40 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            docstring = len((ast.get_docstring(node) or "").splitlines())
            most = 55 if node.name == "train" and path.stem == "training" else 45  # the loop is to be seen whole
            assert int(node.end_lineno or 0) - node.lineno - docstring <= most, node.name


STATE = """
import random, sys, warnings
import numpy as np, pandas, matplotlib, torch
import logging
import ruamel.yaml, scipy.ndimage, scipy.special, sklearn.neighbors  # these add warning filters of their own

def state():
    key = np.random.get_state()
    return {
        "random": random.getstate(), "numpy": (key[0], key[1].tolist(), key[2:]),
        "torch": torch.get_rng_state().tolist(),
        "rcParams": dict(matplotlib.rcParams), "filters": list(warnings.filters), "err": np.geterr(),
        "threads": torch.get_num_threads(), "dtype": torch.get_default_dtype(), "path": list(sys.path),
        "deterministic": torch.are_deterministic_algorithms_enabled(), "level": logging.getLogger().level,
        "handlers": list(logging.getLogger().handlers), "backend": matplotlib.get_backend(auto_select=False),
    }

before = state()
import spectral_tutorial, spectral_tutorial.cli
after = state()
sys.exit(", ".join(name for name in before if before[name] != after[name]) or 0)
"""


def test_importing_the_package_changes_no_global_state() -> None:
    done = subprocess.run([sys.executable, "-c", STATE], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"changed: {done.stderr}"
    assert done.stdout == ""


def test_the_main_path_is_importable_from_the_top() -> None:
    assert set(dir(spectral_tutorial)) >= {"Experiment", "Spectra", "World", "ConfigError", "figures", "limits"}


def test_the_way_of_a_question_fits_in_a_head(tmp_path: Path) -> None:
    """Files that four questions pass, and how deep; what they say is printed by ``python tests/traces.py``."""
    found = traces.questions(tmp_path).values()
    assert all(len(trace.files) <= most for trace, most in zip(found, (5, 9, 11, 7), strict=True))
    assert max(trace.depth for trace in found) <= 10
