"""Playground: paint what a network may see, train some in the page, and watch the gap open."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from spectral_tutorial import store
from spectral_tutorial.explorers import pictures
from spectral_tutorial.explorers.base import HERE, Explorer, describe_world

if TYPE_CHECKING:
    from spectral_tutorial.experiment import Experiment

SIDE = 9
"""Cells along a line: the first, in which the line is absent, and eight that divide the range of its abundance."""

BINS = 256
"""Wavelength bins of a spectrum in the page, at most; with fewer than the experiment has, each has less noise."""

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
    "line_law": "linear",
    "noise_power": 1.0,
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


START = {name: choice["start"] for name, choice in CHOICES.items()}
"""Settings at first."""


class Playground(Explorer):
    """Paint which abundances of two lines training may contain, train a few networks in the page, see their errors.

    The spectra are those of the forward model with two lines, 256 bins and correspondingly less noise; the networks
    have two hidden layers and two outputs. Everything is computed in the page, in WebAssembly, also where a kernel
    runs; the values below are what Python sees of it.

    Parameters
    ----------
    experiment : Experiment, optional
        Whose world, ranges and pair of lines are used; those of the book if none is given.
    support : list of list of int
        Painted cells, ``(9, 9)``, 1 or 0: rows for the second line, from absent upward, columns for the first. By
        default what the book's networks see, the two axes. ``PRESETS`` has others.
    settings : dict
        Any of ``CHOICES``: share (of spectra with both lines, in percent), composed, seed, seeds, steps, rate, hidden,
        spectra, noise (relative to the experiment's), log (whether the network reads log flux).

    Attributes
    ----------
    history : dict
        Of the last run, by ``step``: ``known`` and ``whole``, the mean squared errors of the second line in
        distribution and over the whole plane, a value a seed, and ``bound``, the Cramér-Rao bound over the plane.
    error_map : list of list of float
        Of the last run's end: median over the seeds of the mean squared error, ``(16, 16)``, rows for the second line.
    """

    kind = "playground"
    support = traitlets.List(traitlets.List(traitlets.Int())).tag(sync=True)
    settings = traitlets.Dict().tag(sync=True)
    history = traitlets.Dict().tag(sync=True)
    error_map = traitlets.List(traitlets.List(traitlets.Float())).tag(sync=True)

    def __init__(self, experiment: Experiment | None = None, **values: Any) -> None:
        world, names = DEFAULT_WORLD, DEFAULT_NAMES
        if experiment is not None:
            world = _world_of(experiment)
            names = [experiment.names[label] for label in experiment.reported]
        chosen = [(name, "".join(map(str, sum(cells, []))), "composed" in name) for name, cells in PRESETS.items()]
        payload = {
            "world": world,
            "labels": [line["label"] for line in world["lines"]],
            "names": names,
            "choices": CHOICES,
            "presets": [{"name": name, "cells": cells, "composed": composed} for name, cells, composed in chosen],
        }
        start = {"payload": payload, "support": PRESETS["axes only"], "settings": START}
        super().__init__(experiment, **{**start, **values})  # type: ignore[arg-type]

    @traitlets.validate("support")
    def _cells_within_the_plane(self, proposal: Any) -> Support:
        cells = np.array(proposal["value"])
        if cells.shape != (SIDE, SIDE) or not np.isin(cells, (0, 1)).all():
            raise traitlets.TraitError(f"support: found shape {cells.shape}; expected (9, 9) cells that are 0 or 1")
        return cells.astype(int).tolist()

    @traitlets.validate("settings")
    def _known_settings(self, proposal: Any) -> dict[str, Any]:
        for name, value in proposal["value"].items():
            if name not in CHOICES:
                raise traitlets.TraitError(f"settings: found {name!r}; expected some of {', '.join(CHOICES)}")
            if value not in (values := CHOICES[name]["values"]):
                expected = ", ".join(map(str, values)) if len(values) < 10 else f"{values[0]} to {values[-1]}"
                raise traitlets.TraitError(f"settings: found {name} {value!r}; expected one of {expected}")
        return {**START, **proposal["value"]}

    def payload_key(self) -> str:
        """Name the payload by what is in it: world, names and choices, nothing that is computed."""
        return f"{self.kind}-{store.fingerprint(self.payload)[:10]}"

    def finished(self) -> dict[str, Any]:
        """Return the run that is shown where nothing can be trained: one of the book's world as it is at first."""
        shipped = [self.payload["world"] == DEFAULT_WORLD, self.support == PRESETS["axes only"], self.settings == START]
        return json.loads((HERE / "playground_run.json").read_text(encoding="utf-8")) if all(shipped) else {}

    @property
    def description(self) -> str:
        """The present state in words."""
        names, run = self.payload["names"], self.finished()
        painted = next((name for name, cells in PRESETS.items() if cells == self.support), "cells of one's own")
        told = f"Plane of the abundances of {names[0]} and {names[1]}, painted for training: {painted}."
        if not run:
            return told
        known, whole = (float(np.median(run[name][-1])) for name in ("known", "whole"))
        return (
            f"{told} Beside it the errors of networks that learned from it: in the {names[1]} {known:.4f} in "
            f"distribution and {whole:.3f} over the whole plane."
        )

    def picture(self) -> Figure:
        """Draw the present state for pages without JavaScript."""
        first, second = self.payload["names"]
        low, high = self.payload["world"]["ranges"]["abundance"]
        return pictures.playground(np.array(self.support), self.finished(), (first, second), (low, high))


def _world_of(experiment: Experiment) -> dict[str, Any]:
    """Describe an experiment's forward model with the two reported lines and at most 256 bins.

    Of k bins that make one, the mean has 1 / sqrt(k) of the noise.
    """
    spectra, world = experiment.config.spectra, describe_world(experiment)
    bins = min(BINS, spectra.n_bins)
    calmer = (bins / spectra.n_bins) ** 0.5
    noise = [float(f"{calmer * level:.6g}") for level in world["ranges"]["noise"]]
    lines = [spectra.lines[spectra.index(label)].model_dump(exclude_none=True) for label in experiment.reported]
    if measured := [line["label"] for line in lines if "profile" in line]:
        raise ValueError(f"the line {measured[0]} has a measured profile; the playground needs a center and a width")
    if spectra.noise_law != "relative":
        raise ValueError(f"noise_law is {spectra.noise_law}; the playground needs noise in proportion to flux")
    return world | {"n_bins": bins, "lines": lines, "ranges": world["ranges"] | {"noise": noise}}
