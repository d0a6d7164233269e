"""Where the error is: by method and split, by true abundance, by what is believed."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from spectral_tutorial.figures import base
from spectral_tutorial.figures.base import BOUND_LINE, BOUND_NAME, COMPONENT_COLORS, DARK, MUTED

OTHER_SETS = ("#009E73", "#56B4E9", "#0072B2", "#D55E00", DARK)
"""Colors of sets of components that are neither empty nor one of the two reported alone."""


@base.styled
def gap(report: pd.DataFrame, names: base.Names = None) -> Figure:
    """Draw ID and OOD error side by side, a panel a component, a row a method, with the Cramér-Rao bounds."""
    table = base.positive(report, "mse_median", "mse_low", "mse_high", "crlb")
    components, methods = list(table["component"].unique()), list(table["method"].unique())
    figure, (panels,) = base.panels(1.4 + 0.7 * len(methods), columns=len(components))
    for ax, component in zip(panels, components, strict=True):
        for row in table[table["component"] == component].to_dict("records"):
            below, color = -1 if row["split"] == "val" else 1, base.split_color(row["split"])
            place, value = methods.index(row["method"]) + 0.16 * below, row["mse_median"]
            ax.plot([row["mse_low"], row["mse_high"]], [place, place], color=color, linewidth=2.2)
            ax.plot(value, place, "o", color=color, markersize=7)
            number = f"{value:#.2g}".removesuffix(".")  # 0.10, not 0.1
            base.note(ax, value, place, number, color, ha="center", offset=(0, -11 * below), fontsize=8.5)
            ax.plot([row["crlb"], row["crlb"]], [place - 0.15, place + 0.15], zorder=1, **BOUND_LINE)
        ax.set(title=base.name(component, names), xlabel="mean squared error", xmargin=0.08)
        ax.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    base.log_scale(panels, "x")
    panels[0].set(yticks=range(len(methods)), yticklabels=[base.text(name) for name in methods])
    panels[0].set_ylim(len(methods) - 0.4, -0.6)
    colors_of = {base.split_name(name): base.split_color(name) for name in table["split"].unique()}
    handles = {name: Line2D([], [], marker="o", color=color) for name, color in colors_of.items()}
    where = f"{BOUND_NAME} (upper: ID, lower: OOD)" if len(handles) > 1 else BOUND_NAME
    base.legend(figure, handles | {where: Line2D([], [], **BOUND_LINE)})
    return figure


@base.styled
def test_abundance_mse(
    truth: ArrayLike, squared_error: ArrayLike, reported: base.Pair, names: base.Names = None
) -> Figure:
    """Draw the test plane colored by error, a panel a component: the median in each hexagon.

    `truth` holds the true abundances and `squared_error` a value a spectrum, for instance the median over seeds; both
    are ``(N, 2)``.
    """
    points, errors = np.asarray(truth, float), np.maximum(np.asarray(squared_error, float), 1e-12)
    errors = np.where(np.isfinite(errors), errors, np.nan)
    figure, (panels,) = base.panels(3.5, columns=2)
    look: dict[str, Any] = {"reduce_C_function": np.median, "gridsize": (11, 6), "linewidths": 0.3}
    look |= {"cmap": "YlOrBr", "extent": np.array([0, 1, 0, 1]) * base.reach(points)}
    cells = [ax.hexbin(*points.T, values, **look) for ax, values in zip(panels, errors.T, strict=True)]
    medians = np.concatenate([np.ma.filled(cell.get_array(), np.nan) for cell in cells])
    medians = medians[np.isfinite(medians)] if np.isfinite(medians).any() else np.ones(1)
    norm = colors.LogNorm(medians.min(), max(medians.max(), 1.01 * medians.min()))
    x, y = (base.name(label, names, 20) for label in reported)
    for ax, cell, label in zip(panels, cells, (x, y), strict=True):
        cell.set_norm(norm)
        ax.set(title=f"error in {label}", xlabel=f"true {x}", box_aspect=1)
    panels[0].set_ylabel(f"true {y}")
    figure.colorbar(cells[0], ax=list(panels), label="squared error", pad=0.02, aspect=30)
    return figure


@base.styled
def prediction_analysis(
    predictions: Mapping[str, tuple[ArrayLike, ArrayLike]], reported: base.Pair, names: base.Names = None
) -> Figure:
    """Draw predicted against true abundance: a row a component, a column a split, a dot a spectrum and seed.

    `predictions` maps a split's name to its truth, ``(N, 2)``, and what all seeds predict, ``(S, N, 2)``.
    """
    figure, panels = base.panels(6.0, 2, len(predictions))
    pairs = [(np.asarray(truth, float), np.asarray(values, float)) for truth, values in predictions.values()]
    end, labels = base.reach(*(truth for truth, _ in pairs)), [base.name(label, names, 16) for label in reported]
    for column, name, (truth, values) in zip(panels.T, predictions, pairs, strict=True):
        for k, (ax, label) in enumerate(zip(column, labels, strict=True)):
            true, dots = np.broadcast_to(truth[:, k], values.shape[:2]).ravel(), values[:, :, k].ravel()
            ax.plot(true, dots, ".", color=base.split_color(name), markersize=2.5, alpha=0.3, markeredgewidth=0)
            ax.plot([0, end], [0, end], color=DARK, linewidth=1.2)
            ax.set(xlabel=f"true {label}", xlim=(-0.03 * end, 1.03 * end))
            ax.tick_params(labelbottom=True)
            panels[k, 0].set_ylabel(f"predicted {label}")
        column[0].set_title(base.split_name(name))
    return figure


@base.styled
def readings(truth: ArrayLike, read: Mapping[str, ArrayLike], label: str) -> Figure:
    """Draw what methods read against the truth, a panel a method, a dot a spectrum and seed; the line is the truth.

    `truth` is ``(N,)``, a quantity that is called `label`, or ``(N, K)``, several of them; `read` maps a method's
    name to an array of that shape, or to one with an axis of seeds before it.
    """
    true = np.asarray(truth, float)
    figure, (panels,) = base.panels(3.0, columns=len(read))
    for ax, (name, values), look in zip(panels, read.items(), base.looks(read).values(), strict=True):
        dots = np.asarray(values, float)
        at, size = np.broadcast_to(true, dots.shape).ravel(), 2.5 if dots.size > 2000 else 5.0  # few, and yet seen
        ax.plot(at, dots.ravel(), ".", color=look["color"], markersize=size, alpha=0.3, markeredgewidth=0)
        ax.plot([0, base.reach(true)], [0, base.reach(true)], color=DARK, linewidth=1.2)
        ax.set(title=base.text(name, 66 // len(read)), xlabel=f"true {base.text(label, 48 // len(read))}")
    panels[0].set_ylabel(f"predicted {base.text(label, 16)}")
    return figure


@base.styled
def beliefs(
    truth: ArrayLike, probability: ArrayLike, held: Sequence[str], reported: base.Pair, names: base.Names = None
) -> Figure:
    """Draw the plane of true abundances ``(N, 2)``, each spectrum colored by its most probable set of components.

    `probability` is ``(N, H)``, of the H sets that `held` names: "nothing" is gray, "comp10 alone" has the color of
    comp10, others have further colors. Spectra without a probability are left out.
    """
    points, belief = np.asarray(truth, float), np.asarray(probability, float)
    figure, panel = base.panel(4.6)
    known = np.isfinite(np.hstack([points, belief])).all(axis=1)
    points, most = points[known], belief[known].argmax(axis=1)
    own = {"nothing": MUTED} | {f"{name} alone": color for name, color in zip(reported, COMPONENT_COLORS, strict=True)}
    look = dict(zip([name for name in held if name not in own], cycle(OTHER_SETS), strict=False)) | own
    alone = {f"{label} alone": f"{base.name(label, names, 18)} alone" for label in reported}
    handles: dict[str, Any] = {}
    for k, name in enumerate(held):
        dots, color = points[most == k], look[name]
        if len(dots):  # an empty line that is not clipped claims room in the corner of the page
            panel.plot(*dots.T, "o", color=color, markersize=3.5, alpha=0.75, markeredgewidth=0, clip_on=False)
        handles[f"{alone.get(name) or base.text(name)} ({len(dots):,})"] = Line2D(
            [], [], linestyle="none", marker="o", color=color
        )
    end, (x, y) = base.reach(points), (base.name(label, names) for label in reported)
    panel.set(xlim=(0, end), ylim=(0, end), box_aspect=1, xlabel=f"true {x}", ylabel=f"true {y}")
    base.legend(figure, handles, title="most probable set of lines (number of spectra)")
    return figure
