"""Fixtures around the book: copies of the project, builds of them, and a browser to look at pages."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
GENERATED = ("_build", "exp", ".git", ".venv", "__pycache__", ".*_cache", "*.egg-info", ".hypothesis")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
REQUIRE_BROWSER = "SPECTRAL_TUTORIAL_REQUIRE_BROWSER"


@dataclass(frozen=True)
class Build:
    """One run of jupyter-book over a copy of the project."""

    folder: Path
    returncode: int
    seconds: float
    log: str

    @property
    def html(self) -> Path:
        return self.folder / "_build" / "html"

    @property
    def exp(self) -> Path:
        return self.folder / "book" / "exp"


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def extension() -> Iterator[Callable[[str], ModuleType]]:
    """Import one of the book's own Sphinx extensions."""
    folder = str(REPOSITORY / "book" / "_ext")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


@pytest.fixture(scope="session")
def copy_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Copy what git tracks or would track into a new folder: sources, no results, no earlier build."""

    def copy() -> Path:
        target = tmp_path_factory.mktemp("project")
        listing = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
        found = subprocess.run(listing, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        if found.returncode != 0:  # an unpacked archive
            shutil.copytree(REPOSITORY, target, ignore=shutil.ignore_patterns(*GENERATED), dirs_exist_ok=True)
            return target
        for name in filter(None, found.stdout.split("\0")):
            if (REPOSITORY / name).is_file():  # git still lists what was deleted a moment ago
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(REPOSITORY / name, target / name)
        return target

    return copy


@pytest.fixture(scope="session")
def build() -> Callable[[Path], Build]:
    """Run the README's build command in a copy of the project, with the copy's own package."""

    def run(folder: Path) -> Build:
        jupyter_book = shutil.which("jupyter-book", path=str(Path(sys.executable).parent))
        assert jupyter_book, "jupyter-book is not installed beside this Python"
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        environment.pop("MPLBACKEND", None)  # or no figure would reach the pages
        start = time.perf_counter()
        done = subprocess.run(
            [jupyter_book, "build", ".", "-W", "-n", "--keep-going"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        return Build(folder, done.returncode, time.perf_counter() - start, done.stdout)

    return run


@pytest.fixture(scope="session")
def built_book(copy_project: Callable[[], Path], build: Callable[[Path], Build]) -> Build:
    """The whole book, built from nothing."""
    folder = copy_project()
    assert not (folder / "book" / "exp").exists()
    result = build(folder)
    assert result.returncode == 0, result.log[-8000:]
    return result


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; without it a test is skipped, or fails where a browser is required."""
    give_up = pytest.fail if os.environ.get(REQUIRE_BROWSER) else pytest.skip
    executable = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    if executable is None:
        give_up("no Chromium on the path")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        give_up("playwright is not installed")
    quiet = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, args=quiet.split())
        yield chromium
        chromium.close()


@dataclass(frozen=True)
class ShippedRun:
    """What ``run --all`` left of the shipped configuration, and how it went."""

    exp: Path
    seconds: float
    log: str


@pytest.fixture(scope="session")
def shipped_run(tmp_path_factory: pytest.TempPathFactory) -> ShippedRun:
    """The shipped configuration, run once from nothing, with every variant, through the command line."""
    exp = tmp_path_factory.mktemp("shipped") / "exp"
    meta = str(REPOSITORY / "book" / "meta_config.yaml")
    command = [sys.executable, "-m", "spectral_tutorial", "run", meta, "--all", "--exp-dir", str(exp)]
    start = time.perf_counter()
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-8000:]
    return ShippedRun(exp, time.perf_counter() - start, done.stderr)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small experiment (helpers.py), run with every variant: to be read or copied, not changed."""
    import helpers

    from spectral_tutorial import Experiment

    folder = tmp_path_factory.mktemp("small")
    meta = helpers.write_experiment(folder)
    with pytest.MonkeyPatch.context() as patch:
        helpers.shrink_fooled(patch)
        Experiment.from_yaml(meta).run(everything=True)
    return folder
