"""Compositional generalization in synthetic spectroscopy: the package behind the book.

The main path::

    import spectral_tutorial as st

    exp = st.Experiment.from_yaml("meta_config.yaml")
    train, test = exp.data("train"), exp.data("test")
    history = exp.train()
    report = exp.gap_report()
    st.figures.mse_trajectory(exp.trajectories())

A module imports only from those before it in this list: cores, reading, arrays, sections, config, physics, splits,
data, models, training, estimators, methods, limits, analysis, alarms, figures, store, digests, folder, stages, plots,
experiment, executors, sweep, explorers, cli.
"""

import importlib
import os
from importlib.metadata import version
from typing import Any

# Threads of torch that wait for each other spin, by default long enough to hold a core for good. Where another process
# needs that core, too, training took 16 times as long as with short waits. Read once, when torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from spectral_tutorial import (
    alarms,
    analysis,
    config,
    cores,
    data,
    figures,
    limits,
    methods,
    models,
    physics,
    splits,
    training,
)
from spectral_tutorial.config import ConfigError
from spectral_tutorial.data import Spectra
from spectral_tutorial.experiment import Experiment
from spectral_tutorial.physics import World

__all__ = [
    "ConfigError",
    "Experiment",
    "Spectra",
    "World",
    "alarms",
    "analysis",
    "config",
    "cores",
    "data",
    "figures",
    "limits",
    "methods",
    "models",
    "physics",
    "splits",
    "training",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("spectral-tutorial")
    if name in ("estimators", "explorers", "sweep"):  # the first two bring scikit-learn and Jupyter's widgets along
        return importlib.import_module(f"spectral_tutorial.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
