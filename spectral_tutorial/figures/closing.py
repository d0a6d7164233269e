"""Chapter 6: what closes the gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

from spectral_tutorial.figures.base import (
    BOUND_LINE,
    BOUND_NAME,
    COMPONENT_COLORS,
    DARK,
    MUTED,
    PALE,
    SPLIT_COLORS,
    _end_labels,
    _last,
    _legend,
    _look,
    _note,
    _panel,
    _plain_log,
    _row,
    _split_color,
    _split_name,
    _styled,
    _text,
    _width,
)

LANDMARK_LINE: dict[str, Any] = {"color": MUTED, "linestyle": ":", "linewidth": 1.3}
FILLED: dict[str, Any] = {"marker": "o", "markersize": 7, "color": SPLIT_COLORS["test"]}
HOLLOW: dict[str, Any] = {"marker": "o", "markersize": 5, "color": SPLIT_COLORS["val"], "markeredgewidth": 1.5}
HOLLOW |= {"markerfacecolor": "white", "zorder": 3}


@_styled
def combinations_shown(
    report: pd.DataFrame, counts: Mapping[str, int], component: str, ax: Axes | None = None
) -> Figure:
    """Draw ID and OOD error of one component against the number of combinations shown in training.

    Parameters
    ----------
    report : DataFrame
        Columns method, component, split, mse_median, mse_low, mse_high (whiskers) and crlb.
    counts : mapping
        Method to number of combinations; methods that the report does not have are left out.
    component : str
        Which error to draw.
    ax : Axes, optional
        Where to draw.
    """
    figure, ax = _panel(ax, 3.5)
    table = report[(report["component"] == component) & report["method"].isin(list(counts))]
    table = table.assign(count=table["method"].map(counts)).sort_values("count", kind="stable")
    shown = sorted({int(count) for count in table["count"]})
    ends = []
    for split in ("val", "test"):
        part, color = table[table["split"] == split], _split_color(split)
        ax.vlines(part["count"], part["mse_low"], part["mse_high"], color=color, linewidth=2.2)
        ax.plot(part["count"], part["mse_median"], "o-", color=color, linewidth=1.2, markersize=7)
        ends.append((_last(part["mse_median"]), _split_name(split), color))
    bound = _bound(table)
    ax.axhline(bound, zorder=1, **BOUND_LINE)
    ends.append((bound, BOUND_NAME, DARK))
    ax.set_xscale("symlog", linthresh=1, linscale=0.35)  # logarithmic, and yet 0 has a place
    ax.set_xlim(-0.25, 1.3 * max([1, *shown]))
    ax.set_xticks(shown, [f"{count:,}" for count in shown])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(yscale="log", ylabel=f"MSE of {_text(component)}", ylim=_log_limits(table, bound))
    ax.set_xlabel("combinations among the training spectra")
    _end_labels(ax, ends)
    return figure


@_styled
def every_method(
    report: pd.DataFrame,
    knowledge: Mapping[str, tuple[str, str]],
    landmarks: Mapping[str, float],
    component: str,
    names: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw ID and OOD error of one component, a row a method, the best first, beside what each was told.

    Parameters
    ----------
    report : DataFrame
        Columns method, component, split, mse_median, mse_low, mse_high (whiskers) and crlb.
    knowledge : mapping
        Method to two short texts: the combinations it saw, the physics it was given.
    landmarks : mapping
        Name to mean squared error, for instance of a constant answer.
    component : str
        Which error to draw.
    names : mapping, optional
        Method to the name it is shown under.
    ax : Axes, optional
        Where to draw.
    """
    table = report[report["component"] == component]
    rows = table[table["split"] == "test"].set_index("method").sort_values("mse_median", kind="stable")
    known = table[table["split"] == "val"].set_index("method")["mse_median"].reindex(rows.index)
    places = {BOUND_NAME: _bound(table)} | dict(landmarks)
    marks = sorted((x, name) for name, x in places.items() if 0 < x < np.inf)
    figure, panel = _panel(ax, 1.1 + 0.235 * (len(rows) + len(marks)))
    for i, (x, name) in enumerate(marks):
        # the name ends at its line, and lines further right are longer: nothing crosses
        top = -1.3 - 0.9 * i
        look = BOUND_LINE if name == BOUND_NAME else LANDMARK_LINE
        panel.plot([x, x], [len(rows) - 0.4, top - 0.4], zorder=1, **look)
        _note(panel, x, top, _text(name), look["color"], offset=(-4, 0), ha="right", fontsize=8.5)
    for place, (id_error, row) in enumerate(zip(known, rows.to_dict("records"), strict=True)):
        _method_row(panel, place, id_error, row)
    panel.set(xscale="log", xlim=_log_limits(table, *places.values()))
    panel.set_xlabel(f"mean squared error of {_text(component)}")
    panel.set_ylim(len(rows) - 0.4, -1.3 - 0.9 * len(marks))
    panel.set_yticks(range(len(rows)), [_text((names or {}).get(name, name)) for name in rows.index])
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    told = [knowledge.get(name, ("", "")) for name in rows.index]
    left = 12.0
    for heading, texts in zip(("combinations seen", "physics given"), zip(*told, strict=True), strict=False):
        left = _column(panel, left, heading, texts) + 12.0
    hollow, filled = (Line2D([], [], linestyle="none", **look) for look in (HOLLOW, FILLED))
    _legend(ax, [panel], {_split_name("val"): hollow, f"{_split_name('test')}, with quartiles": filled})
    return figure


@_styled
def templates(
    wavelength: ArrayLike,
    learned: Mapping[str, ArrayLike],
    true: Mapping[str, ArrayLike],
    ax: Axes | Sequence[Axes] | None = None,
) -> Figure:
    """Draw what a decoder learned that one unit of a component does to log flux, on top of what it truly does.

    Parameters
    ----------
    wavelength : array, shape (W,)
        In nm.
    learned, true : mapping
        Component to change of log flux at abundance 1, shape ``(W,)``. A panel a component of `learned`.
    ax : Axes or sequence of Axes, optional
        Where to draw: a panel a component.
    """
    grid = np.asarray(wavelength, float)
    figure, panels = _row(ax, len(learned), height=2.9)
    for k, (panel, (label, curve)) in enumerate(zip(panels, learned.items(), strict=True)):
        color = COMPONENT_COLORS[k] if k < len(COMPONENT_COLORS) else PALE
        panel.plot(grid, np.asarray(true[label], float), color=color, linewidth=5.5, alpha=0.5)
        panel.plot(grid, np.asarray(curve, float), color=DARK, linewidth=1.2)
        panel.set(title=_text(label), xlabel="wavelength (nm)", xlim=grid[[0, -1]])
    reach = np.array([panel.get_ylim() for panel in panels])
    for panel in panels:
        panel.set_ylim(reach.min(), reach.max())
    panels[0].set_ylabel("change of log flux")
    colors = COMPONENT_COLORS[: len(learned)] if len(learned) <= len(COMPONENT_COLORS) else (PALE,)
    thick = tuple(Line2D([], [], color=color, linewidth=5.5, alpha=0.5) for color in colors)
    handles = {"true": thick, "learned": Line2D([], [], color=DARK, linewidth=1.2)}
    _legend(ax, panels, handles, handler_map={tuple: HandlerTuple(None)})
    return figure


@_styled
def ratios_to_bound(table: pd.DataFrame, ax: Axes | Sequence[Axes] | None = None) -> Figure:
    """Draw how far from the Cramér-Rao bound each method's OOD error is, in many worlds; ratios above 1.5 in numbers.

    Parameters
    ----------
    table : DataFrame
        Columns group (a row each), method (a marker each), component (a panel each) and ratio; what is no positive
        number is left out. With columns low and high, whiskers from one to the other.
    ax : Axes or sequence of Axes, optional
        Where to draw: a panel a component.
    """
    groups, methods = list(table["group"].unique()), list(table["method"].unique())
    components = list(table["component"].unique())
    lanes = table.groupby("group")["method"].unique().map(list)  # each method of a group has one, for its number's sake
    lane = 1 / (lanes.map(len).max() + 0.7)
    figure, panels = _row(ax, len(components), height=1.25 + 0.15 / lane * len(groups))
    ratios = table["ratio"].where(table["ratio"] > 0).replace(np.inf, np.nan)
    low, high = np.nanmin([1.0, ratios.min()]), np.nanmax([2.0, ratios.max()])
    room = (high / low) ** 0.2  # for numbers
    for panel, component in zip(panels, components, strict=True):
        panel.axvline(1.0, zorder=1, **BOUND_LINE)
        for border in range(1, len(groups)):
            panel.axhline(border - 0.5, color="#e6e6e6", linewidth=0.7, zorder=0)
        for row in table[ratios.notna() & (table["component"] == component)].to_dict("records"):
            k, ratio, beside = methods.index(row["method"]), row["ratio"], lanes[row["group"]]
            place = groups.index(row["group"]) + (beside.index(row["method"]) - (len(beside) - 1) / 2) * lane
            look = _look(k)
            if row.get("low", np.nan) > 0:
                panel.hlines(place, row["low"], row["high"], color=look["color"], linewidth=1.4)
            panel.plot(ratio, place, linestyle="none", **look)
            if ratio > 1.5:
                number = f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}"
                _note(panel, ratio, place, number, look["color"], fontsize=8)
        panel.set(xscale="log", title=_text(component), xlabel="OOD error / Cramér-Rao bound")
        panel.set(xlim=(low / room**0.25, high * room), ylim=(len(groups) - 0.5, -0.5))
        if high < 300:
            _plain_log(panel.xaxis)
        panel.set_yticks(range(len(groups)), [_text(name) for name in groups])
        panel.tick_params(axis="y", length=0, labelleft=panel is panels[0])
    looks = [(name, _look(k)) for k, name in enumerate(methods) if name not in groups]  # those have names at their rows
    handles = {_text(name): Line2D([], [], linestyle="none", **look) for name, look in looks}
    _legend(ax, panels, handles | {BOUND_NAME: Line2D([], [], **BOUND_LINE)})
    return figure


# --- helpers ---


def _bound(table: pd.DataFrame) -> float:
    """Cramér-Rao bound on the test: it is the same for all methods."""
    return float([*table.loc[table["split"] == "test", "crlb"].dropna(), np.nan][0])


def _log_limits(table: pd.DataFrame, *others: float) -> tuple[float, float]:
    """Limits of a logarithmic axis around all errors in a table, and other values, that can stand on it."""
    values = np.append(table[["mse_median", "mse_low", "mse_high"]].to_numpy(float), others)
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (values.min(), values.max()) if len(values) else (0.001, 1.0)
    room = max(1.3, (high / low) ** 0.05)
    return low / room, high * room


def _method_row(ax: Axes, place: int, id_error: float, row: Mapping[Any, Any]) -> None:
    """One method: its gap as a pale bridge, OOD median with quartiles, ID median hollow."""
    color = _split_color("test")
    ax.axhline(place, color="#eeeeee", linewidth=0.8, zorder=0)
    ax.plot([id_error, row["mse_median"]], [place, place], color="#d5d5d5", linewidth=3.5, zorder=1.5)
    ax.plot([row["mse_low"], row["mse_high"]], [place, place], color=color, linewidth=2.2)
    ax.plot(row["mse_median"], place, **FILLED)
    ax.plot(id_error, place, **HOLLOW)
    if not np.isfinite(row["mse_median"]):
        words: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "ha": "right", "fontsize": 8.5}
        _note(ax, 1.0, place, "no live run", MUTED, offset=(-4, 0), **words)


def _column(ax: Axes, left: float, heading: str, texts: Sequence[str]) -> float:
    """Write a column of texts beside the rows, `left` points right of the panel, and return where it ends."""
    words: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "offset": (left, 0), "fontsize": 8.5}
    _note(ax, 1.0, -1.3, heading, MUTED, **words)
    for place, text in enumerate(texts):
        _note(ax, 1.0, place, _text(text), PALE if text == "none" else DARK, **words)
    return left + _width([heading, *texts], 8.5)
