"""Chapter 4: the gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial.analysis import LIVE
from spectral_tutorial.figures.base import (
    BOUND_LINE,
    BOUND_NAME,
    DARK,
    VARIANT_LINES,
    Pair,
    _curves,
    _end_labels,
    _median_name,
    _note,
    _panel,
    _panels,
    _reach,
    _run_line,
    _split_color,
    _split_name,
    _statuses,
    _styled,
    _text,
    _wide,
)


@_styled
def gap(report: pd.DataFrame) -> Figure:
    """Draw ID and OOD error side by side, a panel a component, a row a method, with the Cramér-Rao bounds.

    `report` has columns method, component, split, mse_median, mse_low, mse_high (whiskers) and crlb.
    """
    components, methods = list(report["component"].unique()), list(report["method"].unique())
    figure, (panels,) = _panels(1, len(components), height=1.4 + 0.7 * len(methods))
    for ax, component in zip(panels, components, strict=True):
        for row in report[report["component"] == component].to_dict("records"):
            below, color = -1 if row["split"] == "val" else 1, _split_color(row["split"])
            place, value = methods.index(row["method"]) + 0.16 * below, row["mse_median"]
            ax.plot([row["mse_low"], row["mse_high"]], [place, place], color=color, linewidth=2.2)
            ax.plot(value, place, "o", color=color, markersize=7)
            number = f"{value:#.2g}".removesuffix(".")  # 0.10, not 0.1
            _note(ax, value, place, number, color, ha="center", offset=(0, -11 * below), fontsize=8.5)
            ax.plot([row["crlb"], row["crlb"]], [place - 0.15, place + 0.15], zorder=1, **BOUND_LINE)
        ax.set(xscale="log", title=_text(component), xlabel="mean squared error", xmargin=0.08)
        ax.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    panels[0].set(yticks=range(len(methods)), yticklabels=[_text(name) for name in methods])
    panels[0].set_ylim(len(methods) - 0.4, -0.6)
    handles = [Line2D([], [], label=BOUND_NAME, **BOUND_LINE)]
    for name in report["split"].unique()[::-1]:
        handles.insert(0, Line2D([], [], marker="o", color=_split_color(name), label=_split_name(name)))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


@_styled
def mse_trajectory(
    trajectories: pd.DataFrame,
    reference_points: Mapping[str, Sequence[float] | NDArray[np.float64]] | None = None,
    split: str = "test",
    reported: Pair | None = None,
    status: pd.DataFrame | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw the way through the plane of the two errors, first checkpoint (hollow) to last (filled).

    Seeds are thin, the median is thick and colored by step; the ID errors of the same seeds stand beside it.
    `reference_points` are named places (x, y) in the plane, for instance what a constant answer scores.
    """
    pair, bar = _pair(trajectories, reported), None
    figure, ax = _panel(ax, 5.0)
    norm = colors.LogNorm(1, max(2, trajectories["step"].max()))
    for _, line, x, y, _ in _paths(ax, trajectories, "mse", pair, "val", status):
        ax.plot(x, y, color=_split_color("val"), linewidth=1.8, linestyle=line)
        _note(ax, x[-1], y[-1], _split_name("val"), _split_color("val"), offset=(7, 0))
    for name, line, x, y, steps in _paths(ax, trajectories, "mse", pair, split, status):
        points = np.column_stack([x, y])
        pieces = list(np.stack([points[:-1], points[1:]], axis=1))
        way = LineCollection(pieces, array=steps[1:], norm=norm, cmap="viridis", linewidths=3.2, linestyles=[line])
        way.set_capstyle("round")
        ax.add_collection(way)
        bar = bar or figure.colorbar(way, ax=ax, label="training step", pad=0.02, aspect=30, format="{x:,.0f}")
        ax.plot(*points[0], "o", color=DARK, markerfacecolor="white", markersize=7)
        ax.plot(*points[-1], "o", color=DARK, markersize=7)
        top, color = int(np.nanargmax(y)), _split_color(split)
        _note(ax, x[top], y[top], name, color, offset=(0, 10), ha="center")
    for label, point in (reference_points or {}).items():
        if not np.min(point) > 0:
            continue  # an error of 0 has no place on a logarithmic axis
        ax.plot(*point, "+", color=DARK, markersize=9, markeredgewidth=1.8)
        _note(ax, point[0], point[1], _text(label), offset=(8, -7), fontsize=8.5)
    ax.set(xscale="log", yscale="log", xlabel=f"MSE of {_text(pair[0])}", ylabel=f"MSE of {_text(pair[1])}")
    return figure


@_styled
def mse_time_series(
    trajectories: pd.DataFrame, reported: Pair | None = None, status: pd.DataFrame | None = None
) -> Figure:
    """Draw each component's error over training steps, ID and OOD: every seed thin, the median thick."""
    pair = _pair(trajectories, reported)
    figure, (panels,) = _panels(1, 2, height=3.3)
    last = max(int(trajectories["step"].max()), 1)
    for ax, component in zip(panels, pair, strict=True):
        ends = []
        for split in ("val", "test"):
            ends += _curves(ax, _wide(trajectories, "mse", split, component), status, split)
        ax.set_xscale("symlog", linthresh=1, linscale=0.35)  # logarithmic, and yet step 0 has a place
        ax.set(yscale="log", title=_text(component), xlabel="training step", xlim=(-0.05, 1.05 * last))
        ax.set_xticks([0, *(10**k for k in range(int(np.log10(last)) + 1))])
        ax.xaxis.set_major_formatter("{x:,.0f}")
        _end_labels(ax, ends)
    panels[0].set_ylabel("mean squared error")
    return figure


@_styled
def test_abundance_mse(truth: ArrayLike, squared_error: ArrayLike, reported: Pair) -> Figure:
    """Draw the test plane colored by error, a panel a component: the median in each hexagon.

    Parameters
    ----------
    truth : array, shape (N, 2)
        True abundances of the two components.
    squared_error : array, shape (N, 2)
        Squared error of each spectrum and component, for instance the median over seeds.
    reported : (str, str)
        Names of the two components.
    """
    points, errors = np.asarray(truth, float), np.maximum(np.asarray(squared_error, float), 1e-12)
    figure, (panels,) = _panels(1, 2, height=3.5)
    look: dict[str, Any] = {"reduce_C_function": np.median, "gridsize": (11, 6), "linewidths": 0.3}
    look |= {"cmap": "YlOrBr", "extent": np.array([0, 1, 0, 1]) * _reach(points)}
    cells = [ax.hexbin(*points.T, values, **look) for ax, values in zip(panels, errors.T, strict=True)]
    medians = np.concatenate([np.ma.filled(cell.get_array(), np.nan) for cell in cells])
    medians = medians[np.isfinite(medians)] if np.isfinite(medians).any() else np.ones(1)
    norm = colors.LogNorm(medians.min(), max(medians.max(), 1.01 * medians.min()))
    for ax, cell, label in zip(panels, cells, reported, strict=True):
        cell.set_norm(norm)
        ax.set(title=f"error in {_text(label)}", xlabel=f"true {_text(reported[0])}", box_aspect=1)
    panels[0].set_ylabel(f"true {_text(reported[1])}")
    figure.colorbar(cells[0], ax=list(panels), label="squared error", pad=0.02, aspect=30)
    return figure


@_styled
def prediction_analysis(predictions: Mapping[str, tuple[ArrayLike, ArrayLike]], reported: Pair) -> Figure:
    """Draw predicted against true abundance: a row a component, a column a split, a dot a spectrum and seed.

    `predictions` maps a split's name to its truth, ``(N, 2)``, and what all seeds predict, ``(S, N, 2)``.
    """
    figure, panels = _panels(2, len(predictions), height=6.0)
    pairs = [(np.asarray(truth, float), np.asarray(values, float)) for truth, values in predictions.values()]
    end = _reach(*(truth for truth, _ in pairs))
    for column, name, (truth, values) in zip(panels.T, predictions, pairs, strict=True):
        for k, ax in enumerate(column):
            true, dots = np.broadcast_to(truth[:, k], values.shape[:2]).ravel(), values[:, :, k].ravel()
            ax.plot(true, dots, ".", color=_split_color(name), markersize=2.5, alpha=0.3, markeredgewidth=0)
            ax.plot([0, end], [0, end], color=DARK, linewidth=1.2)
            ax.set(xlabel=f"true {_text(reported[k])}", xlim=(-0.03 * end, 1.03 * end))
            ax.tick_params(labelbottom=True)
            panels[k, 0].set_ylabel(f"predicted {_text(reported[k])}")
        column[0].set_title(_split_name(name))
    return figure


@_styled
def slopes(
    trajectories: pd.DataFrame,
    reported: Pair | None = None,
    status: pd.DataFrame | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw slopes of predicted on true abundance over checkpoints, ID dashed, OOD solid."""
    pair = _pair(trajectories, reported)
    figure, ax = _panel(ax, 4.6)
    for split, line, offset in (("val", (0, (4, 2)), (-8, 8)), ("test", "-", (8, -8))):
        color = _split_color(split)
        for name, _, x, y, _ in _paths(ax, trajectories, "slope", pair, split, status):
            ax.plot(x, y, color=color, linewidth=2.4, linestyle=line)
            ax.plot(x[-1], y[-1], "o", color=color, markersize=7)
            middle, side = np.abs(x - 0.6).argmin(), "right" if split == "val" else "left"
            _note(ax, x[middle], y[middle], name, color, offset=offset, ha=side)
    for place, corner in (((1, 1), "target"), ((1, 0), "shortcut"), ((0, 0), "collapse")):
        ax.plot(*place, "+", color=DARK, markersize=11, markeredgewidth=2.0)
        _note(ax, *place, f"{corner} {place}", offset=(0, 15 if place[1] else -15), ha="center")
    ax.set(xlabel=f"slope for {_text(pair[0])}", ylabel=f"slope for {_text(pair[1])}", xmargin=0.09, ymargin=0.1)
    return figure


def _paths(
    ax: Axes, table: pd.DataFrame, value: str, pair: Pair, split: str, status: pd.DataFrame | None
) -> Iterator[tuple[str, Any, NDArray[Any], NDArray[Any], pd.Index]]:
    """Every run's way through the plane of two components; yields each variant's median: name, line, x, y, steps."""
    x = _wide(table, value, split, pair[0])
    y = _wide(table, value, split, pair[1]).reindex_like(x)
    states = _statuses(x.index, status)
    for state, x_run, y_run in zip(states, x.to_numpy(), y.to_numpy(), strict=True):
        _run_line(ax, x_run, y_run, _split_color(split), state)
    for variant, rows in x[np.isin(states, LIVE)].groupby(level="variant"):
        name, line = _median_name(x.index, variant, split), VARIANT_LINES.get(str(variant), "-")
        yield name, line, rows.median().to_numpy(), y.loc[rows.index].median().to_numpy(), x.columns


def _pair(table: pd.DataFrame, reported: Pair | None) -> Pair:
    return reported or cast(Pair, tuple(table["component"].unique()[:2]))
