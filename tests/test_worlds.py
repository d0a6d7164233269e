"""Worlds that other people bring: any valid one is run to its end, with bounds that can be and without a warning."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import PLOTS, combinations, small_experiment, write_experiment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectral_tutorial import cli


def cases(count: int) -> settings:
    """So many worlds, the same ones every time."""
    checks = list(HealthCheck)
    return settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=checks)


def between(low: float, high: float) -> st.SearchStrategy[float]:
    """Numbers from `low` to `high`, the ends and values of any size in between."""
    log = st.floats(np.log10(max(low, 1e-12)), np.log10(high)).map(lambda power: float(np.clip(10**power, low, high)))
    return st.one_of(st.sampled_from([low, high]), st.floats(low, high), log)


def pair_of(numbers: st.SearchStrategy[float]) -> st.SearchStrategy[list[float]]:
    """Ranges, those of a single value among them."""
    return st.one_of(
        numbers.map(lambda value: [value, value]), st.tuples(numbers, numbers).map(lambda two: sorted(two))
    )


@st.composite
def worlds(draw: Callable[..., Any]) -> dict[str, dict[str, Any]]:
    """The five files of any valid world of 2 to 40 lines and 2 to 300 bins, with a few spectra in each split."""
    files = small_experiment()
    files["meta"]["training_seed"] = [123]
    files["training"] |= {
        "hidden_dims": [4],
        "epochs": draw(st.integers(1, 2)),
        "batch_size": 8,
        "input_transform": draw(st.sampled_from(["none", "log", "standardize", "log_standardize"])),
    }
    low = draw(between(0.1, 1e6))
    high = low + draw(between(1e-3, 1e6))
    law = draw(st.sampled_from(["linear", "beer_lambert"]))
    abundance = draw(pair_of(between(0.0, 100.0)))
    n_lines, lines = draw(st.integers(2, 40)), []
    for number in range(1, n_lines + 1):
        if lines and draw(st.integers(0, 4)) == 0:  # the twin of another
            lines.append({**draw(st.sampled_from(lines)), "label": f"comp{number}"})
            continue
        deepest = (-1.0 if law == "linear" else -4.0) / max(abundance[1], 1.0)
        lines.append(
            {
                "label": f"comp{number}",
                "center": draw(st.one_of(st.floats(low, high), between(1e-3, 1e7))),
                "width": draw(between(1e-3, 1e7)),
                "strength": draw(st.one_of(st.sampled_from([0.0, deepest]), st.floats(deepest, -deepest))),
            }
        )
    files["spectra"] |= {
        "n_bins": draw(st.one_of(st.integers(2, 4), st.integers(2, 300))),
        "wavelength_min": low,
        "wavelength_max": high,
        "n_components": n_lines,
        "line_law": law,
        "lines": lines,
        "sampling": {
            "temperature": {"range": draw(pair_of(between(1.0, 1e6)))},
            "noise": {"range": draw(st.one_of(st.just([0.0, 0.0]), pair_of(between(0.0, 10.0))))},
            "abundance": {"range": abundance},
        },
    }
    labels = [line["label"] for line in lines]
    x, y = draw(st.lists(st.sampled_from(labels), min_size=2, max_size=2, unique=True))
    counts = st.one_of(st.just(1), st.integers(1, 20))
    seen, held = combinations([], [x], [y]), combinations([x, y])
    files["distribution"]["splits"] = {
        "train": {"n_samples": draw(counts), "distribution": seen},
        "val": {"n_samples": draw(counts), "distribution": seen},
        "test": {"n_samples": draw(counts), "distribution": held},
    }
    files["analysis"]["plot_config"] = {"x_component": x, "y_component": y}
    return files


def run_to_its_end(files: dict[str, dict[str, Any]]) -> None:
    """Status 0, no warning (they are errors here), ten plots, a report without a bound that cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        meta = write_experiment(Path(folder), files)
        assert cli.main(["run", str(meta), "--quiet"]) == 0
        exp = Path(folder) / "exp"
        assert {path.stem for path in (exp / "plots").glob("*.png")} == PLOTS
        bounds = pd.read_csv(exp / "analysis" / "gap_report.csv")["crlb"]
        assert (bounds >= 0).all(), bounds.tolist()


@pytest.mark.slow
@cases(10)
@given(files=worlds())
def test_any_world_is_run_to_its_end(files: dict[str, dict[str, Any]]) -> None:
    run_to_its_end(files)


@pytest.mark.nightly
@cases(100)
@given(files=worlds())
def test_a_hundred_worlds_are_run_to_their_end(files: dict[str, dict[str, Any]]) -> None:
    run_to_its_end(files)
