"""Chapter 5: why there is a gap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from spectral_tutorial.figures.base import (
    COMPONENT_COLORS,
    DARK,
    MUTED,
    SPLIT_COLORS,
    Pair,
    _end_labels,
    _last,
    _legend,
    _look,
    _panel,
    _reach,
    _styled,
    _text,
    _width,
)

OTHER_SETS = (SPLIT_COLORS["oracle_train"], "#56B4E9", "#0072B2", "#D55E00", DARK)
"""Colors of sets of components that are neither empty nor one of the two reported alone."""


@_styled
def beliefs(
    truth: ArrayLike, probability: ArrayLike, held: Sequence[str], reported: Pair, ax: Axes | None = None
) -> Figure:
    """Draw the plane of true abundances, each spectrum colored by the set of components it is believed to hold.

    Parameters
    ----------
    truth : array, shape (N, 2)
        True abundances of the two components.
    probability : array, shape (N, H)
        What is believed about each of H sets; spectra without a belief are left out.
    held : sequence of str
        Names of the sets: "nothing" is gray, "comp10 alone" has the color of comp10, others have further colors.
    reported : (str, str)
        Names of the two components.
    ax : Axes, optional
        Where to draw.
    """
    points, belief = np.asarray(truth, float), np.asarray(probability, float)
    figure, panel = _panel(ax, 4.6)
    known = np.isfinite(np.hstack([points, belief])).all(axis=1)
    points, most = points[known], belief[known].argmax(axis=1)
    alone = [f"{label} alone" for label in reported]
    colors = {"nothing": MUTED} | dict(zip(alone, COMPONENT_COLORS, strict=True))
    colors = dict(zip([name for name in held if name not in colors], cycle(OTHER_SETS), strict=False)) | colors
    handles: dict[str, Any] = {}
    for k, name in enumerate(held):
        dots, color = points[most == k], colors[name]
        if len(dots):  # an empty line that is not clipped claims room in the corner of the page
            panel.plot(*dots.T, "o", color=color, markersize=3.5, alpha=0.75, markeredgewidth=0, clip_on=False)
        handles[f"{_text(name)} ({len(dots):,})"] = Line2D([], [], linestyle="none", marker="o", color=color)
    end = _reach(points) if len(points) else 1.0
    panel.set(xlim=(0, end), ylim=(0, end), box_aspect=1)
    panel.set(xlabel=f"true {_text(reported[0])}", ylabel=f"true {_text(reported[1])}")
    _legend(ax, [panel], handles, title="what is believed (and of how many spectra)")
    return figure


@_styled
def slope_by_company(slopes: pd.DataFrame, reported: Pair, ax: Axes | None = None) -> Figure:
    """Draw how well the second component is read beside more and more of the first, a line a method.

    `slopes` holds slopes of predicted on true abundance of the second component: a row a range of the first one's
    abundance ("0.0 to 0.2", ...), a column a method.
    """
    figure, ax = _panel(ax, 3.4)
    places, ends = np.arange(len(slopes)), []
    for level in (0, 1):
        ax.axhline(level, color=MUTED, linewidth=0.8, zorder=1)
    for k, method in enumerate(slopes):
        ax.plot(places, slopes[method].to_numpy(float), linewidth=2.0, **_look(k))
        ends.append((_last(slopes[method]), _text(method), _look(k)["color"]))
    ax.set_xticks(places, [_text(name) for name in slopes.index])
    room = 72 * ax.get_position().width * figure.get_figwidth() - _width(slopes.columns)  # the names need some of it
    if len(slopes) * (_width(slopes.index) + 6) > room:
        ax.tick_params(axis="x", labelrotation=45)
    ax.set_yticks([0, 0.5, 1], ["ignored  0", "0.5", "read  1"])
    ax.set(xlim=(-0.3, max(len(slopes) - 0.7, 0.3)), ymargin=0.09)
    ax.set(xlabel=f"abundance of {_text(reported[0])} in the spectrum", ylabel=f"slope for {_text(reported[1])}")
    _end_labels(ax, ends)
    return figure
