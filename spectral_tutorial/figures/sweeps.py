"""Chapter 7: many experiments in one picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectral_tutorial.figures.base import DARK, _panel, _styled, _text


@_styled
def phase_diagram(values: pd.DataFrame, label: str, ax: Axes | None = None) -> Figure:
    """Draw a table of positive numbers as a map: a row an index, a column a column, color and number the value.

    Parameters
    ----------
    values : DataFrame
        Positive numbers; names of index and columns become the axes' labels. What is not finite stays white.
    label : str
        What the numbers are.
    ax : Axes, optional
        Where to draw.
    """
    figure, ax = _panel(ax, 1.1 + 0.36 * len(values))
    numbers = np.ma.masked_invalid(values.to_numpy(float))
    low, high = (float(numbers.min()), float(numbers.max())) if numbers.count() else (1.0, 10.0)
    norm = colors.LogNorm(low, max(high, 1.01 * low))
    cells = ax.pcolormesh(numbers, norm=norm, cmap="YlOrBr", edgecolors="white", linewidth=1.5)
    for (row, column), number in np.ndenumerate(numbers.filled(np.nan)):
        ink = "white" if np.isfinite(number) and norm(number) > 0.65 else DARK
        text = f"{number:.2g}" if np.isfinite(number) and number < 10 else f"{number:,.0f}"
        ax.text(column + 0.5, row + 0.5, text, color=ink, ha="center", va="center", fontsize=9)
    ax.set_xticks(np.arange(values.shape[1]) + 0.5, [_text(name) for name in values.columns])
    ax.set_yticks(np.arange(values.shape[0]) + 0.5, [_text(name) for name in values.index])
    ax.set(xlabel=_text(values.columns.name or ""), ylabel=_text(values.index.name or ""))
    ax.invert_yaxis()
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    figure.colorbar(cells, ax=ax, label=label, pad=0.02, aspect=30, format="{x:,g}")
    return figure
