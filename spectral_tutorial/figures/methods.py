"""Methods side by side: what they reach, what they know, what they learned."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

from spectral_tutorial.figures import base
from spectral_tutorial.figures.base import BOUND_LINE, BOUND_NAME, COMPONENT_COLORS, DARK, MUTED, PALE, SPLIT_COLORS

LANDMARK_LINE: dict[str, Any] = {"color": MUTED, "linestyle": ":", "linewidth": 1.3}
FILLED: dict[str, Any] = {"marker": "o", "markersize": 7, "color": SPLIT_COLORS["test"]}
HOLLOW: dict[str, Any] = {"marker": "o", "markersize": 5, "color": SPLIT_COLORS["val"], "markeredgewidth": 1.5}
HOLLOW |= {"markerfacecolor": "white", "zorder": 3}
ERRORS = ("mse_median", "mse_low", "mse_high")


@base.styled
def combinations_shown(
    report: pd.DataFrame, counts: Mapping[str, int], component: str, names: base.Names = None
) -> Figure:
    """Draw ID and OOD error of one component against the number of combinations shown in training.

    `counts` maps methods to that number; those that the report does not have are left out.
    """
    figure, ax = base.panel(3.5)
    table = report[(report["component"] == component) & report["method"].isin(list(counts))]
    table = base.positive(table, *ERRORS, "crlb").assign(count=table["method"].map(counts))
    table = table.sort_values("count", kind="stable")
    shown, bound, ends = sorted({int(count) for count in table["count"]}), _bound(table), []
    for split in ("val", "test"):
        part, color = table[table["split"] == split], base.split_color(split)
        ax.vlines(part["count"], part["mse_low"], part["mse_high"], color=color, linewidth=2.2)
        ax.plot(part["count"], part["mse_median"], "o-", color=color, linewidth=1.2, markersize=7)
        ends.append((part["mse_median"], base.split_name(split), color))
    ax.axhline(bound, zorder=1, **BOUND_LINE)
    ax.set_xscale("symlog", linthresh=1, linscale=0.35)  # logarithmic, and yet 0 has a place
    ax.set_xlim(-0.25, 1.3 * max([1, *shown]))
    ax.set_xticks(shown, [f"{count:,}" for count in shown])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(ylim=_log_limits(table, bound), yscale="log", ylabel=f"MSE of {base.name(component, names)}")
    ax.set_xlabel("combinations among the training spectra")
    base.end_labels(ax, [*ends, (bound, BOUND_NAME, DARK)])
    return figure


@base.styled
def every_method(
    report: pd.DataFrame,
    told: Mapping[str, Mapping[str, str]],
    landmarks: Mapping[str, float],
    component: str,
    names: base.Names = None,
) -> Figure:
    """Draw ID and OOD error of one component, a row a method, in groups by what each was told; the best first in each.

    `told` maps what was told to the methods that were told it, each with the name it is shown under; others are left
    out. `landmarks` are mean squared errors by name, for instance that of a constant prediction.
    """
    titles = {method: title for group in told.values() for method, title in group.items()}
    table = report[(report["component"] == component) & report["method"].isin(list(titles))]
    table = base.positive(table, *ERRORS, "crlb")
    found = table[table["split"] == "test"].set_index("method").sort_values("mse_median", kind="stable")
    known = table[table["split"] == "val"].set_index("method")["mse_median"].reindex(found.index)
    records = found.to_dict("index")
    lines: list[tuple[str, str | None]] = []  # words at the left, and the method of a row, none for a heading
    for heading, group in told.items():
        rows = [(titles[method], str(method)) for method in found.index if method in group]
        lines += [(heading, None), *rows] if rows else []
    places = {BOUND_NAME: _bound(table)} | dict(landmarks)
    marks = sorted((x, name) for name, x in places.items() if 0 < x < np.inf)
    figure, panel = base.panel(1.1 + 0.235 * (len(lines) + len(marks)))
    figure.set_figwidth(4.8)  # its words can then be read on a phone as well
    for i, (x, name) in enumerate(marks):
        # the name ends at its line, and lines further right are longer: nothing crosses
        top = -1.3 - 0.9 * i
        look = BOUND_LINE if name == BOUND_NAME else LANDMARK_LINE
        panel.plot([x, x], [len(lines) - 0.4, top - 0.4], zorder=1, **look)
        base.note(panel, x, top, base.text(name), look["color"], offset=(-4, 0), ha="right", fontsize=8.5)
    for place, (_, method) in enumerate(lines):
        if method is not None:
            _method_row(panel, place, known[method], records[method])
    panel.set(xlim=_log_limits(table, *places.values()), xscale="log")
    panel.set(ylim=(len(lines) - 0.4, -1.3 - 0.9 * len(marks)), xlabel=f"MSE of {base.name(component, names)}")
    panel.set_yticks(range(len(lines)), [base.text(words) for words, _ in lines])
    for label, (_, method) in zip(panel.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if method is None else "normal")
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    hollow, filled = (Line2D([], [], linestyle="none", **look) for look in (HOLLOW, FILLED))
    handles = {base.split_name("val"): hollow, f"{base.split_name('test')}, with quartiles": filled}
    base.legend(figure, handles)
    return figure


@base.styled
def slope_by_other_abundance(slopes: pd.DataFrame, reported: base.Pair, names: base.Names = None) -> Figure:
    """Draw how well the second component is read beside more and more of the first, a line a method.

    `slopes` holds slopes of predicted on true abundance of the second component: a row a range of the first one's
    abundance ("0.0 to 0.2", ...), a column a method.
    """
    figure, ax = base.panel(3.4)
    places, looks = np.arange(len(slopes)), base.looks(slopes)
    for level in (0, 1):
        ax.axhline(level, color=MUTED, linewidth=0.8, zorder=1)
    for method, look in looks.items():
        ax.plot(places, slopes[method].to_numpy(float), linewidth=2.0, **look)
    ranges = [base.text(name, 12) for name in slopes.index]
    ax.set_xticks(places, ranges)
    if len("".join(ranges)) > 55:
        ax.tick_params(axis="x", labelrotation=45)
    ax.set_yticks([0, 0.5, 1], ["ignored  0", "0.5", "read  1"])
    ax.set(xlim=(-0.3, max(len(slopes) - 0.7, 0.3)), ymargin=0.09)
    x, y = (base.name(label, names) for label in reported)
    ax.set(xlabel=f"abundance of {x} in the spectrum", ylabel=f"slope for {y}")
    base.end_labels(ax, [(slopes[name], base.text(name), look["color"]) for name, look in looks.items()])
    return figure


@base.styled
def alarms(shares: Mapping[str, Mapping[str, pd.DataFrame]], false_alarms: float) -> Figure:
    """Draw which share of spectra the alarm of each reader rings for, a panel for each way to sort them.

    `shares` maps what the spectra are sorted by to readers, and these to a table with columns low, median and high: a
    row a place. `false_alarms` is the share of known spectra for which it rings.
    """
    widths = [max(map(len, tables.values())) for tables in shares.values()]
    figure, (panels,) = base.panels(3.3, columns=len(shares), sharex=False, width_ratios=widths)
    looks = base.looks(dict.fromkeys(reader for tables in shares.values() for reader in tables))
    for ax, (label, tables) in zip(panels, shares.items(), strict=True):
        ax.axhline(false_alarms, zorder=1, **LANDMARK_LINE)
        for lane, (reader, table) in enumerate(tables.items()):
            places = np.arange(len(table)) + 0.06 * (lane - (len(tables) - 1) / 2)  # whiskers side by side
            ax.vlines(places, table["low"], table["high"], color=looks[reader]["color"], linewidth=1.4)
            ax.plot(places, table["median"].to_numpy(float), linewidth=1.6, **looks[reader])
            ax.set_xticks(range(len(table)), [base.text(name, 12) for name in table.index])
        ax.set(xlabel=base.text(label, 40), ylim=(-0.03, 1.03))
    panels[0].set_ylabel("share caught")
    handles = {base.text(name): Line2D([], [], linewidth=1.6, **look) for name, look in looks.items()}
    base.legend(figure, handles | {"false alarms": Line2D([], [], **LANDMARK_LINE)})
    return figure


@base.styled
def templates(
    wavelength: ArrayLike, learned: Mapping[str, ArrayLike], true: Mapping[str, ArrayLike], names: base.Names = None
) -> Figure:
    """Draw what a decoder learned that one unit of a component does to log flux, on top of what it truly does.

    `learned` and `true` map components to the change of log flux at abundance 1, ``(W,)`` as is `wavelength` (nm). A
    panel a component of `learned`.
    """
    grid, shades = np.asarray(wavelength, float), (*COMPONENT_COLORS[: len(learned)], *[PALE] * (len(learned) - 2))
    figure, (panels,) = base.panels(2.9, columns=len(learned))
    for panel, (label, curve), color in zip(panels, learned.items(), shades, strict=True):
        panel.plot(grid, np.asarray(true[label], float), color=color, linewidth=5.5, alpha=0.5)
        panel.plot(grid, np.asarray(curve, float), color=DARK, linewidth=1.2)
        panel.set(title=base.name(label, names), xlabel="wavelength (nm)", xlim=grid[[0, -1]])
    panels[0].set_ylabel("change of log flux")
    thick = tuple(Line2D([], [], color=color, linewidth=5.5, alpha=0.5) for color in dict.fromkeys(shades))
    handles = {"true": thick, "learned": Line2D([], [], color=DARK, linewidth=1.2)}
    base.legend(figure, handles, handler_map={tuple: HandlerTuple(None)})
    return figure


@base.styled
def ratios_to_bound(table: pd.DataFrame, names: base.Names = None) -> Figure:
    """Draw how far from the Cramér-Rao bound each method's error is, in many worlds; ratios above 1.5 in numbers.

    `table` has columns group (a row each), method (a marker each), component (a panel each) and ratio; what is no
    positive number is left out. With columns low and high, whiskers from one to the other.
    """
    looks, groups = base.looks(table["method"].unique()), list(table["group"].unique())
    components = list(table["component"].unique())
    lanes = table.groupby("group")["method"].unique().map(list)  # each method of a group has one, for its number's sake
    lane = 1 / (lanes.map(len).max() + 0.7)
    figure, (panels,) = base.panels(1.25 + 0.15 / lane * len(groups), columns=len(components))
    table = base.positive(table, *{"ratio", "low", "high"} & {*table})
    low, high = np.nanmin([1.0, table["ratio"].min()]), np.nanmax([2.0, table["ratio"].max()])
    room = (high / low) ** 0.2  # for numbers
    for panel, component in zip(panels, components, strict=True):
        panel.axvline(1.0, zorder=1, **BOUND_LINE)
        for border in range(1, len(groups)):
            panel.axhline(border - 0.5, color="#e6e6e6", linewidth=0.7, zorder=0)
        for row in table[table["ratio"].notna() & (table["component"] == component)].to_dict("records"):
            look, ratio, beside = looks[row["method"]], row["ratio"], lanes[row["group"]]
            place = groups.index(row["group"]) + (beside.index(row["method"]) - (len(beside) - 1) / 2) * lane
            if np.isfinite([row.get("low", np.nan), row.get("high", np.nan)]).all():
                panel.hlines(place, row["low"], row["high"], color=look["color"], linewidth=1.4)
            panel.plot(ratio, place, linestyle="none", **look)
            if ratio > 1.5:
                base.note(panel, ratio, place, _number(ratio), look["color"], fontsize=8)
        panel.set(xlim=(low / room**0.25, high * room), ylim=(len(groups) - 0.5, -0.5), xscale="log")
        panel.set(title=base.name(component, names), xlabel="error / Cramér-Rao bound")
        if high / low < 300:
            base.plain_log(panel.xaxis)
        panel.set_yticks(range(len(groups)), [base.text(name, 32) for name in groups])
        panel.tick_params(axis="y", length=0, labelleft=panel is panels[0])
    marks = {name: look for name, look in looks.items() if name not in groups}  # those have names at their rows
    handles = {base.text(name): Line2D([], [], linestyle="none", **look) for name, look in marks.items()}
    base.legend(figure, handles | {BOUND_NAME: Line2D([], [], **BOUND_LINE)})
    return figure


def _number(value: float) -> str:
    """A factor as it is read: a decimal below ten."""
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


@base.styled
def phase_diagram(values: pd.DataFrame, label: str, upto: float = 0.0) -> Figure:
    """Draw a table of positive numbers, which `label` says what they are, as a map: color and number the value.

    Names of index and columns become the axes' labels. What is no positive number stays empty. Colors reach up to the
    largest value, and at least to `upto`.
    """
    many = values.shape[1] > 10  # then names stand upright, and what is written is small
    figure, ax = base.panel(1.1 + (0.28 if many else 0.36) * len(values))
    numbers = np.ma.masked_invalid(base.positive(values, *values).to_numpy(float))
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.count() else (1.0, 10.0)
    norm = colors.LogNorm(low, max(high, 1.01 * low, upto))
    cells = ax.pcolormesh(numbers, norm=norm, cmap="YlOrBr", edgecolors="white", linewidth=1.5)
    for (row, column), number in np.ndenumerate(numbers.filled(np.nan)):
        words = "" if np.isnan(number) else _number(number)
        color = "white" if np.isfinite(number) and norm(number) > 0.65 else DARK
        ax.text(column + 0.5, row + 0.5, words, color=color, ha="center", va="center", fontsize=6 if many else 9)
    columns = [base.text(name, 12) for name in values.columns]
    ax.set_xticks(np.arange(values.shape[1]) + 0.5, columns, rotation=90 if many else 0)
    ax.set_yticks(np.arange(values.shape[0]) + 0.5, [base.text(name) for name in values.index])
    ax.set(xlabel=base.text(values.columns.name or "", 32), ylabel=base.text(values.index.name or ""))
    ax.invert_yaxis()
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    figure.colorbar(cells, ax=ax, label=base.text(label), pad=0.02, aspect=30, format="{x:,g}")
    return figure


def _bound(table: pd.DataFrame) -> float:
    """Cramér-Rao bound on the test: it is the same for all methods."""
    return float([*table.loc[table["split"] == "test", "crlb"].dropna(), np.nan][0])


def _log_limits(table: pd.DataFrame, *others: float) -> tuple[float, float]:
    """Limits of a logarithmic axis around all errors in a table, and other values, that can stand on it."""
    values = np.append(table[[*ERRORS]].to_numpy(float), others)
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (values.min(), values.max()) if len(values) else (0.001, 1.0)
    room = max(1.3, (high / low) ** 0.05)
    return low / room, high * room


def _method_row(ax: Axes, place: int, id_error: float, row: Mapping[Any, Any]) -> None:
    """One method: its gap as a pale bridge, OOD median with quartiles, ID median hollow."""
    ax.axhline(place, color="#eeeeee", linewidth=0.8, zorder=0)
    ax.plot([id_error, row["mse_median"]], [place, place], color="#d5d5d5", linewidth=3.5, zorder=1.5)
    ax.plot([row["mse_low"], row["mse_high"]], [place, place], color=FILLED["color"], linewidth=2.2)
    ax.plot(row["mse_median"], place, **FILLED)
    ax.plot(id_error, place, **HOLLOW)
    if not np.isfinite(row["mse_median"]):
        right: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "ha": "right", "fontsize": 8.5}
        base.note(ax, 1.0, place, "no live run", MUTED, offset=(-4, 0), **right)
