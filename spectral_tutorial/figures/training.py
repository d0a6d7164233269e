"""Runs over their training steps: losses, errors and slopes, every seed thin and the median thick."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, product
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib import colormaps, colors
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial.analysis import LIVE
from spectral_tutorial.figures import base
from spectral_tutorial.figures.base import COMPONENT_COLORS, DARK, MUTED, STATUS_MARKERS

RUN = ["method", "data_seed", "training_seed"]
METHOD_LINES: dict[str, Any] = {"network": "-", "oracle": (0, (5, 1.5, 1, 1.5)), "fooled": (0, (1, 1.2))}

STROKES: Sequence[Any] = ("-", (0, (4, 1.5)), (0, (1.5, 1)))
AIM: dict[str, Any] = {"linewidth": 1.3, "linestyle": (0, (1, 2.5))}


@base.styled
def training_curves(histories: pd.DataFrame, status: pd.DataFrame | None = None) -> Figure:
    """Draw train and val loss of every seed (thin) and the median (thick), one panel a method.

    `histories` has columns method, data_seed, training_seed, step, train_loss, val_loss.
    """
    parts = dict(list(base.positive(histories, "train_loss", "val_loss").groupby("method", sort=False)))
    figure, (panels,) = base.panels(3.3, columns=len(parts))
    for ax, method in zip(panels, parts, strict=True):
        ax.set(xscale="log", xlabel="training step", title=base.text(method) if len(parts) > 1 else "")
        base.plain_log(ax.xaxis)
    losses = {name: [_wide(part, f"{name}_loss") for part in parts.values()] for name in ("train", "val")}
    _curves(panels, losses, status)
    panels[0].set_ylabel("loss (MSE over all outputs)")
    return figure


@base.styled
def mse_time_series(
    trajectories: pd.DataFrame,
    reported: base.Pair | None = None,
    status: pd.DataFrame | None = None,
    names: base.Names = None,
) -> Figure:
    """Draw each component's error over training steps, ID and OOD: every seed thin, the median thick."""
    table, pair = base.positive(trajectories, "mse"), _pair(trajectories, reported)
    figure, (panels,) = base.panels(3.3, columns=2)
    last = max(int(table["step"].max()), 1)
    for ax, component in zip(panels, pair, strict=True):
        ax.set_xscale("symlog", linthresh=1, linscale=0.35)  # logarithmic, and yet step 0 has a place
        ax.set(title=base.name(component, names), xlabel="training step", xlim=(-0.05, 1.05 * last))
        ax.set_xticks([0, *(10**k for k in range(int(np.log10(last)) + 1))])
        ax.xaxis.set_major_formatter("{x:,.0f}")
    _curves(panels, {name: [_wide(table, "mse", name, label) for label in pair] for name in ("val", "test")}, status)
    panels[0].set_ylabel("mean squared error")
    return figure


@base.styled
def mse_trajectory(
    trajectories: pd.DataFrame,
    reference_points: Mapping[str, Sequence[float] | NDArray[np.float64]] | None = None,
    reported: base.Pair | None = None,
    status: pd.DataFrame | None = None,
    names: base.Names = None,
) -> Figure:
    """Draw the path through the plane of the two errors, first checkpoint (hollow) to last (filled).

    Seeds are thin, the median is thick and colored by step; the ID errors of the same seeds stand beside it.
    `reference_points` are named places (x, y) in the plane, for instance what a constant prediction scores.
    """
    table, pair, bar = base.positive(trajectories, "mse"), _pair(trajectories, reported), None
    figure, ax = base.panel(5.0)
    norm = colors.LogNorm(1, max(2, table["step"].max()))
    shades = colors.ListedColormap(colormaps["viridis"](np.linspace(0, 0.75, 256)))  # its yellow is pale on white
    for _, line, x, y, _ in _paths(ax, table, "mse", pair, "val", status):
        ax.plot(x, y, color=base.split_color("val"), linewidth=1.8, linestyle=line)
        base.note(ax, x[-1], y[-1], base.split_name("val"), base.split_color("val"), offset=(7, 0))
    for name, line, x, y, steps in _paths(ax, table, "mse", pair, "test", status):
        points = np.column_stack([x, y])
        pieces = list(np.stack([points[:-1], points[1:]], axis=1))
        path = LineCollection(pieces, array=steps[1:], norm=norm, cmap=shades, linewidths=3.2, linestyles=[line])
        path.set_capstyle("round")
        ax.add_collection(path)
        bar = bar or figure.colorbar(path, ax=ax, label="training step", pad=0.02, aspect=30, format="{x:,.0f}")
        ax.plot(*points[0], "o", color=DARK, markerfacecolor="white", markersize=7)
        ax.plot(*points[-1], "o", color=DARK, markersize=7)
        top = int(np.argmax(y))
        base.note(ax, x[top], y[top], name, base.split_color("test"), offset=(0, 10), ha="center")
    for label, (across, up) in (reference_points or {}).items():
        if 0 < across < np.inf and 0 < up < np.inf:
            ax.plot(across, up, "+", color=DARK, markersize=9, markeredgewidth=1.8)
            base.note(ax, across, up, base.text(label), offset=(8, -7), fontsize=8.5)
    base.log_scale([ax], "x", "y")
    x_name, y_name = (base.name(label, names) for label in pair)
    ax.set(xlabel=f"MSE of {x_name}", ylabel=f"MSE of {y_name}")
    return figure


@base.styled
def slopes(
    trajectories: pd.DataFrame,
    reported: base.Pair | None = None,
    status: pd.DataFrame | None = None,
    names: base.Names = None,
) -> Figure:
    """Draw slopes of predicted on true abundance over checkpoints, ID dashed, OOD solid."""
    pair = _pair(trajectories, reported)
    figure, ax = base.panel(4.6)
    for split, line, offset in (("val", (0, (4, 2)), (-8, 8)), ("test", "-", (8, -8))):
        color = base.split_color(split)
        for name, _, x, y, _ in _paths(ax, trajectories, "slope", pair, split, status):
            ax.plot(x, y, color=color, linewidth=2.4, linestyle=line)
            ax.plot(x[-1], y[-1], "o", color=color, markersize=7)
            middle, side = np.abs(x - 0.6).argmin(), "right" if split == "val" else "left"
            base.note(ax, x[middle], y[middle], name, color, offset=offset, ha=side)
    for place, corner in (((1, 1), "target"), ((1, 0), "shortcut"), ((0, 0), "collapse")):
        ax.plot(*place, "+", color=DARK, markersize=11, markeredgewidth=2.0)
        base.note(ax, *place, f"{corner} {place}", offset=(0, 15 if place[1] else -15), ha="center")
    x_name, y_name = (base.name(label, names) for label in pair)
    ax.set(xlabel=f"slope for {x_name}", ylabel=f"slope for {y_name}", xmargin=0.09, ymargin=0.1)
    return figure


@base.styled
def more_data(
    table: pd.DataFrame, aims: Mapping[tuple[str, str], float], components: Sequence[str], names: base.Names = None
) -> Figure:
    """Draw the errors of networks, ID and OOD, against how many spectra they learned from: a panel a component.

    `table` is that of a sweep whose first axis is hidden units (a line style each) and whose second is the number of
    spectra. `aims` are errors by component and split that the networks' are held against, those of the ideal observer.
    """
    units, spectra = table.columns[:2]
    table = base.positive(table, "mse_low", "mse_median", "mse_high").sort_values(spectra, kind="stable")
    lines = dict(zip(table[units].unique(), cycle(STROKES), strict=False))
    figure, (panels,) = base.panels(3.6, columns=len(components))
    ends: list[list[Any]] = [[] for _ in components]
    for (k, component), split in product(enumerate(components), ("val", "test")):
        part, color = table[(table["component"] == component) & (table["split"] == split)], base.split_color(split)
        panels[k].axhline(aims[component, split], color=color, zorder=1, **AIM)
        panels[k].vlines(part[spectra], part["mse_low"], part["mse_high"], color=color, linewidth=1.0, alpha=0.6)
        for hidden, line in lines.items():
            run = part[part[units] == hidden]
            panels[k].plot(run[spectra], run["mse_median"], color=color, linestyle=line, linewidth=2.0)
        ends[k].append((run["mse_median"], base.split_name(split), color))
        panels[k].set(title=base.name(component, names), xlabel="training spectra, each seen once")
    base.log_scale(panels, "x", "y")
    panels[0].set_ylabel("mean squared error")
    for ax, named in zip(panels, ends, strict=True):
        base.end_labels(ax, named)
    handles = {f"hidden units {base.text(hidden)}": {"linestyle": line} for hidden, line in lines.items()}
    looks = handles | {"ideal observer": AIM}
    base.legend(figure, {name: Line2D([], [], color=DARK, **look) for name, look in looks.items()})
    return figure


@base.styled
def seed_strip(summary: pd.DataFrame, names: base.Names = None) -> Figure:
    """Draw one mark a seed for each component's in-distribution MSE; seeds that are not ok are named.

    `summary` has columns training_seed, status (ok, dead, diverged, unfinished), component and mse, drawn at thrice the
    best constant's if infinite. Beside the median of the live seeds stands the mean of all, the dead ones too.
    """
    constant = 1 / 12  # the best constant's error, for an abundance uniform from 0 to 1
    shown = summary["mse"].where(np.isfinite(summary["mse"]), 3 * constant)
    table = base.positive(summary.assign(finite=summary["mse"], shown=shown), "finite", "shown")
    components, handles = list(table["component"].unique()), {}
    figure, (panels,) = base.panels(3.5, columns=len(components))
    for i, (ax, component) in enumerate(zip(panels, components, strict=True)):
        part = table[table["component"] == component].sort_values("training_seed")
        named: list[int | None] = []
        live = part.loc[part["status"].isin(LIVE), "finite"]
        lines = {"median of live seeds": (live.median(), "-"), "mean of all seeds": (part["finite"].mean(), ":")}
        for name, (value, line) in (lines | {"best constant": (constant, "-.")}).items():
            handles[name] = ax.axhline(value, color=DARK, linestyle=line, linewidth=1.3, zorder=1)
        for row in part.to_dict("records"):
            ok, seed = row["status"] == "ok", row["training_seed"]
            look: dict[str, Any] = {"marker": STATUS_MARKERS[row["status"]], "linestyle": "none"}
            look |= {"markersize": 6 if ok else 8, "markeredgecolor": "white", "markeredgewidth": 0.6}
            color = COMPONENT_COLORS[i % 2] if ok else DARK
            ax.plot(seed, row["shown"], color=color, gid=row["status"], zorder=3, **look)
            handles[f"{'live' if ok else row['status']} seed"] = Line2D([], [], color=MUTED if ok else DARK, **look)
            if not ok:
                low = named[-1:] != [seed - 1]
                named.append(seed if low else None)  # names of neighbors stand at two heights
                upright: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 8.5}
                base.note(ax, seed, row["shown"], str(seed), offset=(0, 7 if low else 29), **upright)
        ax.set(title=base.name(component, names), xlabel="training seed")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=(1, 2, 5, 10)))
    base.log_scale(panels, "y")
    panels[0].set(ylabel="in-distribution MSE", ylim=(None, 3 * max(constant, *(ax.dataLim.y1 for ax in panels))))
    base.plain_log(panels[0].yaxis)
    base.legend(figure, handles, ncols=3)
    return figure


@base.styled
def drift(steps: ArrayLike, difference: ArrayLike) -> Figure:
    """Draw how far apart two trainings of each seed are after so many `steps` ``(C,)``: seeds thin, the median thick.

    `difference` ``(S, C)`` is the largest between two predictions of a seed; 0 has no place on the axis.
    """
    figure, ax = base.panel(3.3)
    difference = np.where(np.asarray(difference, float) > 0, difference, np.nan)
    look: dict[str, Any] = {"color": base.split_color("test")}
    for seed in difference:
        ax.plot(steps, seed, linewidth=0.8, alpha=0.5, **look)
    known = ~np.isnan(difference).all(axis=0)
    ax.plot(np.asarray(steps)[known], np.nanmedian(difference[:, known], axis=0), linewidth=2.4, **look)
    base.log_scale([ax], "x", "y")
    ax.set(xlabel="training step", ylabel="largest difference of two predictions")
    base.plain_log(ax.xaxis)
    return figure


def _pair(table: pd.DataFrame, reported: base.Pair | None) -> base.Pair:
    return reported or cast(base.Pair, tuple(table["component"].unique()[:2]))


def _wide(table: pd.DataFrame, value: str, *of: str) -> pd.DataFrame:
    """One row a run (method, data seed, training seed), one column a step: of a split and a component, say."""
    rows = table.set_index(["split", "component"]).loc[[of]] if of else table
    return rows.pivot(index=RUN, columns="step", values=value)


def _states(runs: pd.Index, status: pd.DataFrame | None) -> NDArray[np.str_]:
    """Status of each run; only those that are live count in a median."""
    known = {} if status is None else status.set_index(RUN)["status"].to_dict()
    return np.array([known.get(run, "ok") for run in runs], str)


def _run_line(ax: Axes, x: ArrayLike, y: ArrayLike, color: str, state: str) -> None:
    """One run: thin, and dotted gray with a mark at its end where it is not to be counted."""
    look: dict[str, Any] = {"color": color, "alpha": 0.4}
    if state not in LIVE:
        look = {"color": MUTED, "linestyle": ":", "marker": STATUS_MARKERS[state], "markersize": 5, "markevery": [-1]}
    ax.plot(x, y, linewidth=0.7, **look)


def _median_look(runs: pd.Index, method: object, split: str) -> tuple[str, Any]:
    """Name and line style of a method's median."""
    several = runs.unique("method").size > 1
    name = f"{base.text(method)}, {base.split_name(split)}" if several else base.split_name(split)
    return name, METHOD_LINES.get(str(method), "-")


def _curves(panels: NDArray[Any], tables: Mapping[str, Sequence[pd.DataFrame]], status: pd.DataFrame | None) -> None:
    """Every run over steps, each method's median thick and named: of each split a table a panel."""
    lines: list[list[Any]] = [[] for _ in panels]
    for split, k in product(tables, range(len(panels))):
        wide, color = tables[split][k], base.split_color(split)
        states = _states(wide.index, status)
        for state, values in zip(states, wide.to_numpy(), strict=True):
            _run_line(panels[k], wide.columns, values, color, state)
        for method, rows in wide[np.isin(states, LIVE)].groupby(level="method"):
            median, (name, line) = rows.median(), _median_look(wide.index, method, split)
            panels[k].plot(median.index, median, color=color, linewidth=2.4, linestyle=line)
            lines[k].append((median, name, color))
    base.log_scale(panels, "y")
    for ax, named in zip(panels, lines, strict=True):
        base.end_labels(ax, named)


def _paths(
    ax: Axes, table: pd.DataFrame, value: str, pair: base.Pair, split: str, status: pd.DataFrame | None
) -> Iterator[tuple[str, Any, NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Every run's path through the plane of two components; yields each method's median: name, line, x, y, steps."""
    x = _wide(table, value, split, pair[0])
    y = _wide(table, value, split, pair[1]).reindex_like(x)
    states = _states(x.index, status)
    for state, x_run, y_run in zip(states, x.to_numpy(), y.to_numpy(), strict=True):
        _run_line(ax, x_run, y_run, base.split_color(split), state)
    for method, rows in x[np.isin(states, LIVE)].groupby(level="method"):
        median = np.array([x.columns, rows.median(), y.loc[rows.index].median()], float)
        steps, across, up = median[:, np.isfinite(median).all(axis=0)]
        if len(steps):
            yield *_median_look(x.index, method, split), across, up, steps
