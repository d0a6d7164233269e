"""What the README promises: its numbers, its program, its pictures and the places it points to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
TOLERANCE = 0.3
"""Rounding differs between processors and grows over a training; medians over networks move by up to a fourth. Where
they differ by more, the README's number may lie anywhere between their quartiles."""


def expected_numbers() -> dict[tuple[str, str], list[float]]:
    """Rows of the README's table: ID error, OOD error and bound by method and component."""
    rows = re.findall(r"^\| (\w+) \| (comp\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", README, re.M)
    return {(method, component): [float(value) for value in values] for method, component, *values in rows}


@pytest.mark.slow
def test_expected_numbers_agree_with_the_run(built_book: Any) -> None:
    report = pd.read_csv(built_book.exp / "analysis" / "gap_report.csv").set_index(["method", "component", "split"])
    numbers = expected_numbers()
    assert {method for method, _ in numbers} == {"network", "oracle", "composed", "ridge_log", "observer", "decoder"}
    for place, (id_error, ood_error, bound) in numbers.items():
        for split, error in (("val", id_error), ("test", ood_error)):
            found = report.loc[(*place, split)]
            near = found.mse_median == pytest.approx(error, rel=TOLERANCE)
            assert near or found.mse_low <= error <= found.mse_high, (place, split, error, found.mse_median)
        assert report.loc[(*place, "test"), "crlb"] == pytest.approx(bound, rel=TOLERANCE), place


@pytest.mark.slow
def test_the_six_line_program_runs(built_book: Any) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.S)
    environment = {**os.environ, "PYTHONPATH": str(built_book.folder)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=built_book.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "oracle" in done.stdout
    assert (built_book.folder / "trajectory.png").stat().st_size > 10_000


def test_everything_it_points_to_is_there() -> None:
    root = Path(__file__).resolve().parents[1]
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (root / target).is_file(), target
    for name in re.findall(r"`(\w+\.py)`", README):
        assert list(root.glob(f"spectral_tutorial/{name}")) + list(root.glob(f"tests/{name}")), name
