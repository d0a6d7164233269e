"""Which tests run, and where; fixtures around the book: copies of the project, builds of them, a browser for pages."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parents[1]
GENERATED = ("_build", "exp", ".git", ".venv", "__pycache__", ".*_cache", "*.egg-info", ".hypothesis")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
REQUIRE_BROWSER = "SPECTRAL_TUTORIAL_REQUIRE_BROWSER"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
BROWSER_PATIENCE = 180_000
"""Milliseconds in which a page has to answer; Playwright's own 30 s may pass where other work is going on."""
WORKERS = 2
SHARED = {"shipped_run": "book", "stub_books": "stubs"}
"""Fixtures that take minutes: the tests that use one go to the same worker, which makes it once."""
LONG = (
    "book", "stubs", "test_sweep", "test_interruptions", "test_estimators", "test_worlds", "test_playground_pages",
    "test_figures", "test_packaging", "test_fuzz",
)  # fmt: skip
"""What starts first, so that no worker is left with it in the end."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """All tests are spread over two workers; some tests, and those that look at the clock, need no other process."""
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return WORKERS if everything and not nightly(config) else 0


def pytest_configure(config: pytest.Config) -> None:
    """Let workers have one thread each, as there are as many of them as cores; tell all of a nightly run."""
    if config.option.numprocesses:
        os.environ.update(dict.fromkeys(THREADS, "1"))
    if nightly(config):
        os.environ["SPECTRAL_TUTORIAL_NIGHTLY"] = "1"


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the nightly tests to `-m nightly`; keep together what shares a fixture, and begin with what takes long."""
    if not nightly(config):
        left_out = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: LONG.index(group(item)) if group(item) in LONG else len(LONG))


def nightly(config: pytest.Config) -> bool:
    """Tell whether the nightly tests were asked for."""
    return "nightly" in config.option.markexpr.replace("not nightly", "")


def group(item: Any) -> str:
    """Name the tests that an item shares a worker with: those of a fixture, or else of its module."""
    shared = (name for fixture, name in SHARED.items() if fixture in item.fixturenames)
    return next(shared, item.path.stem)


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


@dataclass(frozen=True)
class ShippedRun:
    """What ``run --all`` left of the shipped configuration in a copy of the project, and how it went."""

    folder: Path
    exp: Path
    seconds: float
    log: str


@pytest.fixture(scope="session")
def shipped_run(copy_project: Callable[[], Path]) -> ShippedRun:
    """The shipped configuration, run once from nothing, with every method, through the command line."""
    folder = copy_project()
    assert not (folder / "book" / "exp").exists()
    command = [sys.executable, "-m", "spectral_tutorial", "run", str(folder / "book" / "meta_config.yaml"), "--all"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-8000:]
    return ShippedRun(folder, folder / "book" / "exp", time.perf_counter() - start, done.stderr)


@dataclass(frozen=True)
class BuiltBook(Build):
    """The whole book, and the size and time of each file that was there before."""

    before: dict[str, tuple[int, int]]


@pytest.fixture(scope="session")
def built_book(shipped_run: ShippedRun, build: Callable[[Path], Build]) -> BuiltBook:
    """The whole book, built over the results of the command line."""
    import helpers

    before = helpers.stamps(shipped_run.exp)
    result = build(shipped_run.folder)
    assert result.returncode == 0, result.log[-8000:]
    return BuiltBook(**vars(result), before=before)


@pytest.fixture(scope="session")
def cold_book(copy_project: Callable[[], Path], build: Callable[[Path], Build]) -> Build:
    """The whole book, built from nothing: for the nightly tests."""
    result = build(copy_project())
    assert result.returncode == 0, result.log[-8000:]
    return result


@dataclass(frozen=True)
class StubBooks:
    """A small book (stubs.py) as on a laptop that knows nothing; and built again, its package edited, as published."""

    local: Build
    published: Build


@pytest.fixture(scope="session")
def stub_books(
    copy_project: Callable[[], Path], build: Callable[[Path], Build], tmp_path_factory: pytest.TempPathFactory
) -> StubBooks:
    """Two builds of a small book, in one folder; of the first a copy is kept."""
    import stubs

    folder = copy_project()
    stubs.write_explorers_book(folder)
    builds = []
    for variables in (dict.fromkeys(stubs.PUBLISHED, ""), stubs.PUBLISHED):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GITHUB_REPOSITORY", "somebody/else")  # set in every run of the automation: means nothing
            for name, value in variables.items():
                patch.setenv(name, value)
            builds.append(build(folder))
        assert builds[-1].returncode == 0, builds[-1].log[-8000:]
        if len(builds) == 1:
            kept = shutil.copytree(folder, tmp_path_factory.mktemp("local"), dirs_exist_ok=True)
            stubs.edit_package(folder)
    return StubBooks(replace(builds[0], folder=kept), builds[1])


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
        chromium = playwright.chromium.launch(executable_path=executable, args=quiet.split(), timeout=BROWSER_PATIENCE)
        plain = chromium.new_context

        def new_context(**options: Any) -> Any:
            context = plain(**options)
            context.set_default_timeout(BROWSER_PATIENCE)
            return context

        chromium.new_context = new_context
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small experiment (helpers.py), run with every method: to be read or copied, not changed."""
    import helpers

    from spectral_tutorial import Experiment

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "small"  # one for all workers
    done = folder.with_name("small.done")
    with FileLock(folder.with_name("small.lock")):
        if not done.exists():
            folder.mkdir()
            with pytest.MonkeyPatch.context() as patch:
                helpers.shrink_fooled(patch)
                Experiment.from_yaml(helpers.write_experiment(folder)).run(everything=True)
            done.touch()
    return folder
