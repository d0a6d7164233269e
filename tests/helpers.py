"""What several tests share: small experiments, and comparing the folders that runs leave behind."""

from __future__ import annotations

import dataclasses
import filecmp
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, settings

from spectral_tutorial import methods
from spectral_tutorial.config import Config, load
from spectral_tutorial.sections import TrainingConfig
from spectral_tutorial.store import LOCKS

REPOSITORY = Path(__file__).resolve().parents[1]
SHIPPED = REPOSITORY / "book" / "meta_config.yaml"
ORIGINAL = REPOSITORY / "tests" / "fixtures" / "original"
IDLE = bool(os.environ.get("SPECTRAL_TUTORIAL_IDLE"))
"""Whether the machine has nothing else to do: benchmarks then hold their aims, not what a busy machine keeps to."""
NIGHTLY = bool(os.environ.get("SPECTRAL_TUTORIAL_NIGHTLY"))
"""Whether this is the nightly run; conftest.py says so."""
PLOTS = {
    "spectral_lines", "diverse_samples", "train_samples", "test_samples", "abundance_scatter", "training_curves",
    "prediction_analysis", "mse_trajectory", "mse_time_series", "test_abundance_mse",
}  # fmt: skip
"""The ten plots, by their names in the original tutorial."""


def seconds(work: Callable[[], Any]) -> float:
    """Return how long some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cases(few: int, at_night: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test of hypothesis for a few cases, the same ones every time, and in the nightly run for many."""
    several = settings(
        max_examples=at_night if NIGHTLY else few,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: pytest.mark.nightly(several(test)) if NIGHTLY else several(test)


def combinations(*sets: list[str]) -> dict[str, Any]:
    """Equally frequent combinations, as data_distribution.yaml writes it."""
    listed = [{"weight": 1.0, "components": components} for components in sets]
    return {"type": "component_combinations", "combinations": listed}


def small_experiment() -> dict[str, dict[str, Any]]:
    """The five files of an experiment of a second or two, as plain values to change at will."""
    lines = [
        (350, 40.0, 0.6),
        (500, 25.0, -0.5),
        (650, 90.0, -0.4),
        (891, 30.0, -0.4),
        (1100, 60.0, 0.8),
        (956, 120.0, -0.7),
    ]
    seen = [[], ["comp6"], ["comp4"]]
    return {
        "meta": {
            "exp_dir": "exp",
            "spectra_config_path": "configs/synthetic_spectra.yaml",
            "distribution_config_path": "configs/data_distribution.yaml",
            "training_config_path": "configs/training.yaml",
            "analysis_config_path": "configs/analysis.yaml",
            "data_seed": [42],
            "training_seed": [123, 124],
        },
        "spectra": {
            "n_bins": 64,
            "wavelength_min": 300,
            "wavelength_max": 1200,
            "n_components": len(lines),
            "sampling": {
                "temperature": {"range": [3000, 7000], "distribution": "uniform"},
                "noise": {"range": [0.01, 0.15], "distribution": "log_uniform"},
                "abundance": {"range": [0.0, 1.0], "distribution": "uniform"},
            },
            "lines": [
                {"label": f"comp{number}", "center": center, "width": width, "strength": strength}
                for number, (center, width, strength) in enumerate(lines, start=1)
            ],
        },
        "distribution": {
            "splits": {
                "train": {"n_samples": 128, "distribution": combinations(*seen)},
                "val": {"n_samples": 64, "distribution": combinations(*seen)},
                "test": {"n_samples": 64, "distribution": combinations(["comp6", "comp4"])},
                "oracle_train": {"n_samples": 128, "distribution": combinations(*seen, ["comp6", "comp4"])},
            }
        },
        "training": {
            "model_type": "mlp",
            "hidden_dims": [16, 8],
            "input_transform": "log_standardize",
            "initialization": "torch",
            "epochs": 2,
            "batch_size": 32,
            "learning_rate": 0.001,
            "weight_decay": 0.0001,
            "checkpoint_by": "log",
        },
        "analysis": {"plot_config": {"x_component": "comp6", "y_component": "comp4"}},
    }


def write_experiment(folder: Path, files: Mapping[str, Mapping[str, Any]] | None = None) -> Path:
    """Write the five files (those of :func:`small_experiment` by default) and return the meta file's path."""
    files = files or small_experiment()
    paths = {name: folder / files["meta"][f"{name}_config_path"] for name in files if name != "meta"}
    for name, path in {**paths, "meta": folder / "meta_config.yaml"}.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(dict(files[name]), sort_keys=False), encoding="utf-8")
    return folder / "meta_config.yaml"


def shipped() -> Config:
    """The configuration that the book ships."""
    return load(SHIPPED)


def training_config(**changes: Any) -> TrainingConfig:
    """The small experiment's training settings with some changes."""
    return TrainingConfig.model_validate(small_experiment()["training"] | changes)


def files_in(folder: Path) -> set[str]:
    """Relative paths of all files, the locks left out."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {*LOCKS}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size of each file, and when it was last written."""
    found = {name: (folder / name).stat() for name in files_in(folder)}
    return {name: (file.st_size, file.st_mtime_ns) for name, file in found.items()}


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """When each file was last written, and its bytes."""
    return {name: ((folder / name).stat().st_mtime_ns, (folder / name).read_bytes()) for name in files_in(folder)}


def everything(folder: Path) -> tuple[set[Path], dict[str, tuple[int, bytes]]]:
    """All that lies in a folder, empty folders and locks too, and what is in its files."""
    return set(folder.rglob("*")), content(folder)


OF_THE_BOOK = ("variations/exercise-", "variations/again-")
"""Beginnings of what the book alone leaves: its exercises, and what it asks a shipped table again."""


def assert_same_results(exp_a: Path, exp_b: Path) -> None:
    """Assert that two experiments hold the same files: arrays bit for bit, all else byte for byte.

    Of plots only the names are compared, because fonts and libraries may change their bytes, and the recorded meta
    file's seeds are those of the last run. What the book alone leaves does not count.
    """
    names, others = ({name for name in files_in(exp) if not name.startswith(OF_THE_BOOK)} for exp in (exp_a, exp_b))
    assert names == others
    for name in sorted(names):
        a, b = exp_a / name, exp_b / name
        if name.endswith(".npy"):
            left, right = np.load(a, mmap_mode="r"), np.load(b, mmap_mode="r")
            assert left.dtype == right.dtype, name
            assert left.shape == right.shape, name
            assert left.tobytes() == right.tobytes(), name
        elif not name.startswith("plots/"):
            assert filecmp.cmp(a, b, shallow=False), name


def shrink_fooled(patch: pytest.MonkeyPatch) -> None:
    """Let the fooled method have 3 seeds instead of 32."""
    patch.setitem(methods.METHODS, "fooled", dataclasses.replace(methods.METHODS["fooled"], n_seeds=3))  # type: ignore[arg-type]
