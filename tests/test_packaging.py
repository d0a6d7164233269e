"""What is said in several places agrees (dependencies, versions, commands), and the linters are content."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
LOCKED_EXTRAS = ("book", "test", "sweep")  # what the README's two commands need


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


@pytest.mark.skipif("SPECTRAL_TUTORIAL_REQUIRE_BROWSER" not in os.environ, reason="only CI must have everything")
@pytest.mark.parametrize("module", ["astropy.modeling.models", "distributed", "jupyterlab", "psutil", "threadpoolctl"])
def test_ci_skips_nothing_that_another_machine_may(module: str) -> None:
    importlib.import_module(module)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))["project"]


@pytest.fixture(scope="module")
def lock() -> dict[str, Requirement]:
    pins = [line.split("#")[0].strip() for line in read("requirements.txt").splitlines()]
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, filter(None, pins))}


def pinned(requirement: Requirement) -> str:
    """Return the one version that a line of the lock allows."""
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


def test_the_lock_pins_every_direct_dependency_within_its_range(
    project: dict[str, Any], lock: dict[str, Requirement]
) -> None:
    extras = project["optional-dependencies"]
    direct = project["dependencies"] + [line for extra in LOCKED_EXTRAS for line in extras[extra]]
    for requirement in map(Requirement, direct):
        version = pinned(lock[canonicalize_name(requirement.name)])
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}"


def test_the_lock_holds_exact_versions_from_public_indexes_and_no_cuda(lock: dict[str, Requirement]) -> None:
    for name, requirement in lock.items():
        assert requirement.url is None
        assert pinned(requirement)
        assert not name.startswith(("nvidia-", "cuda-", "triton"))


def test_the_environment_takes_its_versions_from_the_lock(project: dict[str, Any]) -> None:
    dependencies = yaml.safe_load(read("environment.yml"))["dependencies"]
    (python,) = (line for line in dependencies if str(line).startswith("python="))
    assert project["requires-python"] == ">=" + python.removeprefix("python=")
    (pip,) = (line["pip"] for line in dependencies if isinstance(line, dict))
    assert [line for line in pip if not line.startswith("--")] == ["-r requirements.txt", "-e ."]
    assert [line for line in dependencies if not isinstance(line, dict)] == [python, "pip"]


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="only where workers share the tests")
def test_what_shares_a_fixture_shares_a_worker(request: pytest.FixtureRequest) -> None:
    """Or each worker would build the book; that was so where pytest and pytest-xdist did not agree."""
    assert request.node.nodeid.endswith("@test_packaging")


def steps(command: str) -> list[str]:
    """Return what a command runs from its virtual environment, without the environment's path."""
    return re.findall(r'(?:\.venv|"\$venv)/bin/([\w-]+)"?([^&\n]*)', command)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    commands = re.findall(r"^\s*(python -m venv \.venv && .*)$", read("README.md"), re.MULTILINE)
    book, tests = sorted(commands, key=lambda command: command.endswith("pytest"))
    install = [("pip", " install -r requirements.txt "), ("pip", " install --no-deps -e . ")]
    assert steps(book) == [*install, ("jupyter-book", " build . -W -n --keep-going")]
    assert steps(tests) == [*install, ("pytest", "")]
    ci = [(name, arguments.replace(" --quiet", "").strip()) for name, arguments in steps(read(".ci/run"))]
    assert ci == [(name, arguments.strip()) for name, arguments in steps(tests)]


@pytest.mark.slow
@pytest.mark.parametrize("command", [["ruff", "check"], ["mypy"]], ids=lambda command: command[0])
def test_linter_is_content(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_wheel_carries_what_the_package_reads(copy_project: Callable[[], Path], tmp_path: Path) -> None:
    source = copy_project()
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    package = source / "spectral_tutorial"
    carried = {".py", ".mplstyle", ".js", ".css"}
    wanted = {path.relative_to(source).as_posix() for path in package.rglob("*.*") if path.suffix in carried}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert wanted <= names
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "spectral-tutorial = spectral_tutorial.cli:main" in archive.read(entry_points).decode()
