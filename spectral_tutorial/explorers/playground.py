"""Playground: paint what a network may see, train some in the page, and watch the gap open."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectral_tutorial.explorers import pictures
from spectral_tutorial.explorers.base import HERE, Explorer, describe_world

if TYPE_CHECKING:
    from spectral_tutorial.experiment import Experiment

SIDE = 9
"""Cells along a line: the first, in which the line is absent, and eight that divide the range of its abundance."""

BINS = 256
"""Wavelength bins of a spectrum in the page, at most; with fewer than the experiment has, there is less noise in each."""

CHOICES: dict[str, dict[str, Any]] = {
    "share": {"label": "Spectra with both lines", "values": list(range(0, 101, 5)), "start": 25},
    "seed": {"label": "Seed", "values": list(range(1, 100)), "start": 1},
    "composed": {"label": "Compose them from spectra with one line", "values": [False, True], "start": False},
    "seeds": {"label": "Networks side by side", "values": [1, 3, 5], "start": 5},
    "steps": {"label": "Training steps", "values": [250, 500, 1000, 2000, 4000], "start": 2000},
    "rate": {"label": "Learning rate", "values": [0.0001, 0.0003, 0.001, 0.003, 0.01], "start": 0.001},
    "hidden": {"label": "Hidden units", "values": [16, 32, 64, 128], "start": 64},
    "spectra": {"label": "Training spectra", "values": [1024, 2048, 4096, 8192], "start": 4096},
    "noise": {"label": "Noise", "values": [0.25, 0.5, 1, 2, 4], "start": 1},
    "log": {"label": "The network reads", "values": [True, False], "start": True},
}
"""Settings: what a reader may choose from, and what is chosen at first."""

DEFAULT_WORLD: dict[str, Any] = {
    "wavelength_min": 300.0,
    "wavelength_max": 1200.0,
    "n_bins": 256,
    "law": "linear",
    "lines": [
        {"label": "comp10", "center": 956.0, "width": 71.8, "strength": -0.7},
        {"label": "comp4", "center": 891.0, "width": 9.0, "strength": -0.4},
    ],
    "ranges": {"temperature": [3000.0, 7000.0], "noise": [0.005, 0.075], "abundance": [0.0, 1.0]},
}
"""The book's two lines as the page has them: four of the book's bins make one, with half the noise."""

DEFAULT_NAMES = ["broad line", "narrow line"]

Support = list[list[int]]
"""Painted cells, 1 or 0: rows for the second line from absent upward, columns for the first."""


def _support(*cells: tuple[slice | int, slice | int], axes: bool = True) -> Support:
    """Paint the axes and some cells, as (first line, second line)."""
    support = np.zeros((SIDE, SIDE), int)
    if axes:
        support[0, :] = support[:, 0] = 1
    for x, y in cells:
        support[y, x] = 1
    return support.tolist()


_NEAR, _FAR, _ALL = slice(1, 5), slice(5, 9), slice(1, 9)
PRESETS: dict[str, Support] = {
    "axes only": _support(),
    "one point": _support((4, 4)),
    "five points": _support((2, 2), (2, 7), (7, 2), (7, 7), (4, 4)),
    "an L": _support((slice(1, 3), _ALL), (_ALL, slice(1, 3))),
    "near quarter": _support((_NEAR, _NEAR)),
    "far quarter": _support((_FAR, _FAR)),
    "everything": _support((_ALL, _ALL)),
    "axes, composed": _support(),
}
"""What may be painted by one press. The first is what the book's networks see; the last shows products of that."""
