"""Analysis, plots and the command line, each beside the least that its work could take, and growth with spectra."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import SHIPPED, content, seconds, small_experiment, write_experiment
from test_memory import measured

from spectral_tutorial import Experiment, figures, models
from spectral_tutorial.plots import PLOTS

pytestmark = pytest.mark.nightly
SIZES = (1_000, 10_000, 100_000)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The shipped experiment with two epochs, trained and not analyzed."""
    config = Experiment.from_yaml(SHIPPED, exp_dir=tmp_path_factory.mktemp("trained") / "exp").config
    exp = Experiment(config.with_training(epochs=2))
    exp.train()
    return exp


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[str], None]]:
    def speak(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")

    return speak


@pytest.mark.benchmark(group="analysis")
def test_analysis_against_the_forward_passes_alone(benchmark: Any, trained: Experiment, say: Any) -> None:
    """All seeds read both splits at all checkpoints; the rest is reading weights, moments, tables and files."""
    steps = trained.train()["step"].unique()
    network = models.template(trained.builder(trained.config.training))
    states = [trained.weights(step=int(step)) for step in steps]
    inputs = [trained.transform().transform(np.asarray(trained.data(s).flux)) for s in ("val", "test")]
    pairs = [(state, torch.from_numpy(x)) for state in states for x in inputs]
    passes = min(seconds(lambda: [models.predict(network, *pair) for pair in pairs]) for _ in range(3))
    judged = {split: trained.data(split) for split in ("val", "test")}

    def analyze() -> None:
        for seed, stage in trained._prediction_stages("network").items():
            trained._predict("network", seed, stage, judged, trained._networks("network", seed))

    benchmark.pedantic(analyze, rounds=3)
    ratio = benchmark.stats.stats.min / passes
    benchmark.extra_info.update({"of_passes": ratio, "checkpoints": len(steps)})
    say(f"analysis, {len(steps)} checkpoints of 8 seeds: {ratio:.1f} x the forward passes' {passes:.2f} s")
    assert ratio < 5


@pytest.mark.benchmark(group="plots")
def test_plots_against_an_empty_one(benchmark: Any, trained: Experiment, say: Any) -> None:
    trained.gap_report("network")
    trained._plot_all()  # what they show is computed
    empty = min(seconds(lambda: figures.png(matplotlib.figure.Figure(figsize=(8, 4)))) for _ in range(3))
    took = {name: min(seconds(lambda n=name: trained.plot(n)) for _ in range(2)) for name in PLOTS}
    slowest = max(took, key=lambda name: took[name])
    benchmark.pedantic(trained._plot_all, rounds=2)
    benchmark.extra_info.update({"empty_s": empty, "slowest": slowest, "slowest_s": took[slowest]})
    total = benchmark.stats.stats.min
    say(f"{len(PLOTS)} plots: {total:.1f} s; slowest {slowest} {took[slowest]:.2f} s, an empty one {empty:.3f} s")
    assert took[slowest] < 300 * empty


@pytest.mark.benchmark(group="command line")
def test_the_command_line_against_importing_its_libraries(benchmark: Any, tmp_path: Path, say: Any) -> None:
    """A small experiment, from start to end in a process of its own: what is left beside importing is the work."""
    meta = write_experiment(tmp_path, small_experiment())
    run = [sys.executable, "-m", "spectral_tutorial", "run", str(meta), "--quiet", "--exp-dir"]
    libraries = [sys.executable, "-c", "import torch, pandas, matplotlib.figure, pydantic"]
    imports = min(seconds(lambda: subprocess.run(libraries, check=True)) for _ in range(3))
    folders = iter(range(100))
    benchmark.pedantic(lambda: subprocess.run([*run, str(tmp_path / f"exp-{next(folders)}")], check=True), rounds=3)
    finished = content(tmp_path / "exp-0")
    again = min(seconds(lambda: subprocess.run([*run, str(tmp_path / "exp-0")], check=True)) for _ in range(2))
    whole = benchmark.stats.stats.min
    benchmark.extra_info.update({"imports_s": imports, "again_s": again})
    say(f"a small run: {whole:.1f} s; when finished {again:.1f} s; importing its libraries alone {imports:.1f} s")
    assert max(whole, again) < 10 * imports
    # with so little work, a clock cannot tell a run from one that finds all its work done
    assert content(tmp_path / "exp-0") == finished


@pytest.mark.benchmark(group="growth")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from /proc")
def test_growth_with_the_number_of_spectra(benchmark: Any, tmp_path: Path, say: Any) -> None:
    """One epoch of two seeds on one thread, in a process each; a million in test_benchmark_memory.py."""
    load = os.getloadavg()[0]
    tables: dict[int, pd.DataFrame] = {}

    def grow() -> None:
        tables.update({n: measured(tmp_path / str(n), n) for n in SIZES})

    benchmark.pedantic(grow, rounds=1)
    rows = {n: [*(1e6 * table["seconds"] / n), table["private_mib"].max()] for n, table in tables.items()}
    columns = ["generate us", "train us", "analyze us", "private MiB"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).round(1)
    benchmark.extra_info.update(table.to_dict())
    busy = [tables[n]["busy"].sum() / n for n in SIZES[1:]]  # the processor's time: a busy machine does not count
    say(f"a spectrum, by how many there are (load before {load:.1f}):\n{table}")
    assert busy[1] < 1.3 * busy[0]
