"""Interactive figures that answer with a kernel and without one.

Each explorer is an ``anywidget.AnyWidget`` whose values Python can read and set. Its JavaScript (one module without
dependencies, ``common.js`` and the explorer's own file) computes everything that the figure shows, so the same text
serves the book's pages, where no kernel runs: see :mod:`spectral_tutorial.explorers.sphinx_extension`.
"""

from spectral_tutorial.explorers.belief import BeliefExplorer
from spectral_tutorial.explorers.error_map import ErrorMap
from spectral_tutorial.explorers.gap import GapExplorer
from spectral_tutorial.explorers.predictors import linear_predictor
from spectral_tutorial.explorers.spectrum import SpectrumExplorer
from spectral_tutorial.explorers.train import TrainPanel
from spectral_tutorial.explorers.trajectory import TrajectoryPlayer

__all__ = [
    "BeliefExplorer",
    "ErrorMap",
    "GapExplorer",
    "SpectrumExplorer",
    "TrainPanel",
    "TrajectoryPlayer",
    "linear_predictor",
]
