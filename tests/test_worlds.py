"""Worlds that other people bring: any valid one is run to its end, with bounds that can be and without a warning."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import PLOTS, cases, combinations, shrink_fooled, small_experiment, write_experiment
from hypothesis import given
from hypothesis import strategies as st

from spectral_tutorial import Experiment, cli, physics

Files = dict[str, dict[str, Any]]


class Worlds:
    """The five files of valid worlds of 2 to 40 lines and 2 to 300 bins, a few spectra in each split.

    A world is named by its seed. Left to choose every number by itself, hypothesis repeats what is simplest, and most
    worlds would have abundances of 0 and no noise.
    """

    def __init__(self, seed: int) -> None:
        self.rng, self.measured = np.random.default_rng(seed), np.random.default_rng([seed, 1])

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def log(self, low: float, high: float) -> float:
        """A number of any size: uniform in its logarithm."""
        return float(np.clip(np.exp(self.rng.uniform(np.log(low), np.log(high))), low, high))

    def one_of(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def span(self, low: float, high: float) -> dict[str, Any]:
        """A range between positive numbers, now and then of a single value, and how it is drawn from."""
        ends = sorted([self.log(low, high), self.log(low, high)])
        if self.chance(0.1):
            return {"range": ends[:1] * 2}
        return {"range": ends, "distribution": self.one_of("uniform", "log_uniform")}

    def from_zero(self, low: float, high: float, zero: float) -> dict[str, Any]:
        """The same, or from 0, or with a probability of `zero` nothing but 0."""
        if self.chance(zero):
            return {"range": [0.0, 0.0]}
        return {"range": [0.0, self.log(low, high)]} if self.chance(0.4) else self.span(low, high)

    def files(self) -> Files:
        files = small_experiment()
        files["meta"]["training_seed"] = self.one_of([123], [123, 124])
        files["training"] |= {
            "model_type": self.one_of("mlp", "mlp", "linear", "cnn"),
            "hidden_dims": [4],
            "epochs": int(self.rng.integers(1, 4)),
            "batch_size": 8,
            "input_transform": self.one_of("none", "log", "standardize", "log_standardize"),
        }
        files["spectra"] = spectra = self.spectra()
        labels = [line["label"] for line in spectra["lines"]]
        pair = self.rng.choice(labels, 2, replace=False).tolist()
        files["distribution"]["splits"] = self.splits(spectra, pair)
        files["analysis"] = {"plot_config": dict(zip(("x_component", "y_component"), pair, strict=True))}
        return files

    def spectra(self) -> dict[str, Any]:
        low = self.log(0.1, 1e6)
        high = low + (low * self.log(0.1, 10.0) if self.chance(0.7) else self.log(1e-3, 1e6))
        # Most stars shine in the window; some are so cold that nothing is seen, some so hot that all look alike.
        warm = physics.WIEN_NM_K / low
        temperature = self.span(0.2 * warm, 5 * warm) if self.chance(0.7) else self.span(1.0, 1e6)
        abundance = self.from_zero(1e-3, 100.0, zero=0.05)
        law, n_lines = self.one_of("linear", "beer_lambert"), int(self.rng.integers(2, 41))
        deepest = (-1.0 if law == "linear" else -4.0) / max(abundance["range"][1], 1.0)
        lines: list[dict[str, Any]] = []
        for number in range(1, n_lines + 1):
            twin = lines and self.chance(0.15)
            line = dict(self.one_of(*lines)) if twin else self.line(low, high, deepest)
            lines.append(line | {"label": f"comp{number}"})
        if self.measured.random() < 0.4:  # one line has a profile of numbers
            line = lines[self.measured.integers(n_lines)]
            nm = np.linspace(0.9 * low, 1.1 * high, int(self.measured.integers(2, 40)))
            line["profile"] = {"wavelength": nm.tolist(), "values": self.measured.random(nm.size).tolist()}
            del line["center"], line["width"]
        return {
            "n_bins": int(self.rng.integers(2, 5) if self.chance(0.2) else self.rng.integers(2, 301)),
            "wavelength_min": low,
            "wavelength_max": high,
            "n_components": n_lines,
            "line_law": law,
            "noise_law": "photon" if self.measured.random() < 0.4 else "relative",
            "lines": lines,
            "sampling": {
                "temperature": temperature,
                "noise": self.from_zero(1e-6, 10.0 if self.chance(0.3) else 0.3, zero=0.15),
                "abundance": abundance,
            },
        }

    def line(self, low: float, high: float, deepest: float) -> dict[str, Any]:
        """A line in the window or, now and then, anywhere, absorbing or emitting."""
        inside = self.chance(0.8)
        return {
            "center": float(self.rng.uniform(low, high)) if inside else self.log(1e-3, 1e7),
            "width": max(1e-3, (high - low) * self.log(1e-3, 1.0)) if inside else self.log(1e-3, 1e7),
            "strength": deepest * self.one_of(0.0, 1.0, *self.rng.uniform(-1, 1, 6).tolist()),
        }

    def splits(self, spectra: dict[str, Any], pair: list[str]) -> dict[str, Any]:
        labels = [line["label"] for line in spectra["lines"]]
        more = [labels[: int(self.rng.integers(1, len(labels) + 1))]] if self.chance(0.3) else []
        alone, together = [[], *([label] for label in pair), *more], [pair]
        splits = {
            "train": alone,
            "val": alone,
            "test": together,
            "oracle_train": [*alone, *together],
            "more": [*more, []],
        }
        left_out = [name for name in ("val", "oracle_train", "more") if self.chance(0.5)]
        return {
            name: {"n_samples": int(self.one_of(1, *self.rng.integers(1, 25, 5))), "distribution": combinations(*sets)}
            for name, sets in splits.items()
            if name not in left_out
        } | self.with_ranges(spectra, pair)

    def with_ranges(self, spectra: dict[str, Any], pair: list[str]) -> dict[str, Any]:
        """Now and then, another test, whose abundances have ranges of their own."""
        if self.chance(0.6):
            return {}
        highest = spectra["sampling"]["abundance"]["range"][1] or 1.0
        distribution = combinations(pair)
        distribution["combinations"][0]["ranges"] = {
            label: sorted(self.rng.uniform(0, highest, 2).tolist()) if self.chance(0.7) else [highest, highest]
            for label in pair
        }
        return {"test": {"n_samples": int(self.rng.integers(1, 25)), "distribution": distribution}}


def run_to_its_end(files: Files, *options: str) -> None:
    """Status 0, no warning (they are errors here), ten plots, a report without a bound that cannot be."""
    with tempfile.TemporaryDirectory() as folder:
        meta = write_experiment(Path(folder), files)
        assert cli.main(["run", str(meta), "--quiet", *options]) == 0
        exp = Path(folder) / "exp"
        assert {path.stem for path in (exp / "plots").glob("*.png")} == PLOTS
        bounds = pd.read_csv(exp / "analysis" / "gap_report.csv")["crlb"]
        assert (bounds >= 0).all(), bounds.tolist()


@pytest.mark.parametrize("transform", ["none", "log", "standardize", "log_standardize"])
def test_networks_learn_from_a_world_without_light(transform: str, tmp_path: Path) -> None:
    """All flux is 0, and what a network sees never differs: it ends, and has learned no more."""
    files = small_experiment()
    files["spectra"]["sampling"]["temperature"]["range"] = [1, 2]
    files["training"]["input_transform"] = transform
    exp = Experiment.from_yaml(write_experiment(tmp_path, files))
    assert np.isfinite(exp.train()[["val_loss"]]).all(axis=None)
    assert (exp.gap_report()["crlb"] == np.inf).all()
    assert np.ptp(exp.predictions().last, axis=1).max() == 0


@pytest.mark.slow
@cases(10, at_night=100)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_world_is_run_to_its_end(seed: int) -> None:
    run_to_its_end(Worlds(seed).files())


@pytest.mark.nightly
@cases(20, at_night=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_method_in_any_world_is_fitted_or_left_out(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        shrink_fooled(patch)
        run_to_its_end(Worlds(seed).files(), "--all")
