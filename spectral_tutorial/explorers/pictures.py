"""Pictures of the explorers' states, for pages without JavaScript and for print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectral_tutorial.data import LOG_FLOOR, Spectra
from spectral_tutorial.figures.base import (
    COMPONENT_COLORS,
    DARK,
    MUTED,
    PALE,
    SPLIT_COLORS,
    SPLIT_NAMES,
    StyledFigure,
    styled,
    text,
)
from spectral_tutorial.physics import World, continuum

Pair = tuple[str, str]
MARKERS = "os^D"


def _log(flux: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.maximum(flux, LOG_FLOOR))


@styled
def spectrum(world: World, shown: Spectra, lines: Pair, names: Sequence[str]) -> Figure:
    """Draw flux over log flux, with the continuum dashed and each line's own imprint; `names` are shown for lines."""
    figure = StyledFigure(5.0)
    panels = figure.subplots(2, 1, sharex=True)
    grid, base = shown.wavelength, continuum(shown.wavelength, shown.temperature)[0]
    logs = world.line_log_factors(shown.abundance)[0, world.index(lines)]
    for ax, values in zip(panels, (shown.flux[0], _log(shown.flux[0])), strict=True):
        ax.plot(grid, values, color=PALE, linewidth=0.8, label="with noise")
        ax.plot(grid, base if ax is panels[0] else _log(base), color=DARK, linestyle="--", label="continuum")
        for name, color, factor in zip(names, COMPONENT_COLORS, logs, strict=True):
            imprint = base * np.exp(factor) if ax is panels[0] else factor
            ax.plot(grid, imprint, color=color, label=f"{text(name)} alone")
    panels[0].set(ylabel="flux", ylim=(0, None), xlim=grid[[0, -1]])
    panels[1].set(ylabel="log flux", xlabel="wavelength (nm)")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def gap(
    shown: Spectra,
    reported: Pair,
    names: Sequence[str],
    predicted: Mapping[str, NDArray[np.float64]],
    seen: NDArray[np.float64],
    held: NDArray[np.float64],
) -> Figure:
    """Draw the plane with truth and predictions joined by arrows, and the log flux beside it."""
    figure = StyledFigure(4.0)
    plane, side = figure.subplots(1, 2, width_ratios=(1.0, 1.0))
    _dots(plane, seen, "train", "training stars")
    _dots(plane, held, "test", "test stars, held out", alpha=0.3)
    truth = shown.of(*reported)[0]
    for marker, (name, values) in zip(MARKERS * len(predicted), predicted.items(), strict=False):
        plane.annotate("", values, truth, arrowprops={"arrowstyle": "-", "color": SPLIT_COLORS["test"]})
        plane.plot(*values, marker, color=SPLIT_COLORS["test"], label=text(name), markersize=7)
    plane.plot(*truth, "o", color=DARK, markerfacecolor="white", markeredgewidth=2, markersize=9, label="truth")
    _name(plane, names)
    side.plot(shown.wavelength, _log(shown.flux[0]), color=PALE, linewidth=0.8)
    side.set(xlabel="wavelength (nm)", ylabel="log flux", xlim=shown.wavelength[[0, -1]])
    figure.legend(loc="outside lower center", ncols=3)
    return figure


@styled
def trajectory(
    truth: NDArray[np.float64],
    predicted: NDArray[np.float64],
    paths: Mapping[str, NDArray[np.float64]],
    names: Sequence[str],
) -> Figure:
    """Draw the cloud of predictions ``(N, 2)`` over the truth, and the paths ``(C, 2)`` of the errors by split."""
    figure = StyledFigure(3.9)
    plane, errors = figure.subplots(1, 2)
    plane.plot(*truth.T, "o", color=MUTED, alpha=0.4, markersize=3, label="truth", markeredgewidth=0)
    _dots(plane, predicted, "test", "prediction")
    _name(plane, names)
    for split, path in paths.items():
        name = SPLIT_NAMES[split]
        errors.plot(*path.T, color=SPLIT_COLORS[split], linewidth=2, label=name)
        errors.plot(*path[-1], "o", color=SPLIT_COLORS[split], markersize=7)
    x, y = map(text, names)
    errors.set(xscale="log", yscale="log", xlabel=f"MSE of {x}", ylabel=f"MSE of {y}")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


@styled
def curves(step: Sequence[float], known: Sequence[float], held: Sequence[float], component: str) -> Figure:
    """Draw the errors of one run in one component, ID and OOD, as far as they have grown."""
    figure = StyledFigure(3.0)
    ax = figure.subplots()
    for split, values in (("val", known), ("test", held)):
        ax.plot(step, values, color=SPLIT_COLORS[split], marker="o", markersize=4, label=SPLIT_NAMES[split])
    ax.set_xscale("symlog", linthresh=1)
    ax.set(xlabel="training step", ylabel=f"MSE of {text(component)}", yscale="log")
    ax.legend()
    return figure


@styled
def playground(support: NDArray[np.int64], run: Mapping[str, Any], names: Pair, ends: tuple[float, float]) -> Figure:
    """Draw what is painted, ``(9, 9)``; if there is a run, its error map and the losses of its seeds beside it."""
    panels = 3 if run else 1
    figure = StyledFigure(2.9)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    step = (ends[1] - ends[0]) / (len(support) - 1)
    edges = np.append(ends[0] - step, np.linspace(*ends, len(support)))
    axes[0].pcolormesh(edges, edges, support, cmap="Blues", vmax=1.4, edgecolors="white")
    axes[0].set_title("painted: in training")
    for ax in axes[:2]:
        ax.set(xlabel=text(names[0]), ylabel=text(names[1]), box_aspect=1)
    if run:
        error = np.array(run["error_map"])
        shown = axes[1].imshow(error, origin="lower", extent=(*ends, *ends), norm=LogNorm(1e-4, 1.0))
        figure.colorbar(shown, ax=axes[1], shrink=0.6)
        axes[1].set_title("mean squared error")
        for split, name in (("val", "known"), ("test", "whole")):
            axes[2].plot(run["step"][1:], run[name][1:], color=SPLIT_COLORS[split], linewidth=0.8)
        axes[2].axhline(run["bound"][-1], color=DARK, linestyle="--")
        axes[2].set(xscale="log", yscale="log", xlabel="training step", ylim=(1e-4, 1.0), box_aspect=1)
    return figure


def _dots(ax: Axes, points: NDArray[np.float64], split: str, label: str, alpha: float = 0.8) -> None:
    ax.plot(*points.T, "o", color=SPLIT_COLORS[split], alpha=alpha, markersize=3.5, markeredgewidth=0, label=label)


def _name(ax: Axes, names: Sequence[str]) -> None:
    x, y = map(text, names)
    ax.set(xlabel=f"{x}, abundance", ylabel=f"{y}, abundance", box_aspect=1)


@styled
def error_map(
    grid: NDArray[np.float64],
    errors: NDArray[np.float64],
    ends: tuple[float, float],
    shown: NDArray[np.float64],
    names: Sequence[str],
    component: str,
) -> Figure:
    """Draw the mean squared error ``(y, x)`` over the plane; `shown` are combinations among the training spectra."""
    figure = StyledFigure(4.4)
    ax = figure.subplots()
    cells = ax.pcolormesh(grid, grid, errors, norm=LogNorm(*ends), cmap="YlOrBr", shading="nearest")
    _dots(ax, shown, "train", "")
    _name(ax, names)
    figure.colorbar(cells, ax=ax, label=f"mean squared error of {text(component)}")
    return figure


@styled
def belief(
    truth: Sequence[float],
    prediction: NDArray[np.float64],
    held: Sequence[str],
    prior: NDArray[np.float64],
    posterior: NDArray[np.float64],
    names: Sequence[str],
) -> Figure:
    """Draw truth and prediction in the plane, and what is believed of each set in `held`, before and after."""
    figure = StyledFigure(3.8)
    plane, bars = figure.subplots(1, 2)
    plane.plot(*truth, "o", color=DARK, markerfacecolor="white", markeredgewidth=2, markersize=9, label="truth")
    plane.plot(*prediction, "D", color=SPLIT_COLORS["test"], markersize=7, label="prediction")
    plane.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    _name(plane, names)
    places = np.arange(len(held))
    bars.barh(places - 0.18, prior, 0.34, color=PALE, label="believed before")
    bars.barh(places + 0.18, posterior, 0.34, color=DARK, label="after seeing the star")
    bars.set(xlim=(0, 1), xlabel="probability", ylim=(len(held) - 0.5, -0.5))
    bars.set_yticks(places, [text(name) for name in held])
    figure.legend(loc="outside lower center", ncols=4)
    return figure
