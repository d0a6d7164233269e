"""What is said in several places agrees (dependencies, versions, commands), and the linters are content."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
LOCKED_EXTRAS = {"requirements-book.txt": ("book",), "requirements.txt": ("book", "test", "sweep")}
"""The locks of the README's two commands, and the extras that each holds."""
NEEDED_BY_THE_BOOK = {"beautifulsoup4", "ipykernel", "jsonschema", "nbclient", "nbformat", "packaging"}
LOCKS = pytest.mark.parametrize("name", LOCKED_EXTRAS)


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


@pytest.mark.skipif("SPECTRAL_TUTORIAL_REQUIRE_BROWSER" not in os.environ, reason="only CI must have everything")
@pytest.mark.parametrize("module", ["astropy.modeling.models", "distributed", "jupyterlab", "psutil", "threadpoolctl"])
def test_ci_skips_nothing_that_another_machine_may(module: str) -> None:
    importlib.import_module(module)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))["project"]


def lock(name: str) -> dict[str, Requirement]:
    pins = [line.split("#")[0].strip() for line in read(name).splitlines()]
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, filter(None, pins))}


def pinned(requirement: Requirement) -> str:
    """Return the one version that a line of a lock allows."""
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


@LOCKS
def test_a_lock_pins_every_direct_dependency_within_its_range(project: dict[str, Any], name: str) -> None:
    extras = project["optional-dependencies"]
    direct = project["dependencies"] + [line for extra in LOCKED_EXTRAS[name] for line in extras[extra]]
    for requirement in map(Requirement, direct):
        version = pinned(lock(name)[canonicalize_name(requirement.name)])
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}"


@LOCKS
def test_a_lock_holds_exact_versions_from_public_indexes_and_no_cuda(name: str) -> None:
    for package, requirement in lock(name).items():
        assert requirement.url is None
        assert pinned(requirement)
        assert not package.startswith(("nvidia-", "cuda-", "triton"))


def test_the_lock_of_the_book_is_a_part_of_the_whole_without_what_only_tests_need(project: dict[str, Any]) -> None:
    book, everything = map(lock, LOCKED_EXTRAS)
    assert {name: pinned(pin) for name, pin in book.items()}.items() <= {
        name: pinned(pin) for name, pin in everything.items()
    }.items()
    for extra in ("test", "sweep"):
        names = {canonicalize_name(Requirement(line).name) for line in project["optional-dependencies"][extra]}
        assert not names & set(book) - NEEDED_BY_THE_BOOK, names & set(book)


@pytest.mark.nightly
@pytest.mark.parametrize("python", ["3.12", "3.13", "3.14"])
def test_every_pin_has_a_wheel_for_other_pythons(tmp_path: Path, python: str) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed"]
    other = ["--target", str(tmp_path), "--python-version", python, "--only-binary", ":all:"]
    done = subprocess.run([*pip, *other, "-r", "requirements.txt"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_version_is_the_same_in_all_places(project: dict[str, Any]) -> None:
    assert yaml.safe_load(read("CITATION.cff"))["version"] == project["version"]
    newest = re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == project["version"]


def test_the_pythons_that_are_named_are_those_of_the_workflow(project: dict[str, Any]) -> None:
    named = {line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line}
    jobs = yaml.safe_load(read(".github/workflows/book.yml"))["jobs"]
    tested = {str(row["python"]) for row in jobs["package"]["strategy"]["matrix"]["include"]}
    assert named == tested
    assert project["requires-python"] == f">={min(named, key=lambda one: int(one.split('.')[1]))}"


@pytest.mark.nightly
def test_without_a_lock_it_installs_and_runs_the_shipped_files(
    copy_project: Callable[[], Path], tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    programs, folder = tmp_path / "venv" / ("Scripts" if sys.platform == "win32" else "bin"), copy_project()
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (
        [programs / "python", "-m", "pip", "install", "--quiet", folder],
        [programs / "spectral-tutorial", "run", folder / "book" / "meta_config.yaml"],
    ):
        done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
    assert (folder / "book" / "exp" / "analysis" / "gap_report.csv").is_file()


def test_the_environment_takes_its_versions_from_the_lock(project: dict[str, Any]) -> None:
    dependencies = yaml.safe_load(read("environment.yml"))["dependencies"]
    (python,) = (line for line in dependencies if str(line).startswith("python="))
    assert project["requires-python"] == ">=" + python.removeprefix("python=")
    (pip,) = (line["pip"] for line in dependencies if isinstance(line, dict))
    assert [line for line in pip if not line.startswith("--")] == ["-r requirements-book.txt", "-e ."]
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
    listed, package = " install -r requirements{}.txt ", ("pip", " install --no-deps -e . ")
    build = ("jupyter-book", " build . -W -n --keep-going")
    assert steps(book) == [("pip", listed.format("-book")), package, build]
    assert steps(tests) == [("pip", listed.format("")), package, ("pytest", "")]
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
    carried = {".py", ".mplstyle", ".js", ".css", ".ts", ".wasm", ".json"}
    wanted = {path.relative_to(source).as_posix() for path in package.rglob("*.*") if path.suffix in carried}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert wanted <= names
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "spectral-tutorial = spectral_tutorial.cli:main" in archive.read(entry_points).decode()
