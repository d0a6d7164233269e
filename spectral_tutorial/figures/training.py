"""Chapter 3: training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from spectral_tutorial.analysis import LIVE
from spectral_tutorial.figures.base import (
    COMPONENT_COLORS,
    DARK,
    MUTED,
    RUN,
    SPLIT_COLORS,
    STATUS_MARKERS,
    _curves,
    _end_labels,
    _note,
    _panel,
    _panels,
    _plain_log,
    _styled,
    _text,
)


@_styled
def training_curves(histories: pd.DataFrame, status: pd.DataFrame | None = None) -> Figure:
    """Draw train and val loss of every seed (thin) and the median (thick), one panel a variant.

    `histories` has columns variant, data_seed, training_seed, step, train_loss, val_loss.
    """
    variants = list(histories["variant"].unique())
    figure, (panels,) = _panels(1, len(variants), height=3.3)
    for ax, variant in zip(panels, variants, strict=True):
        part, ends = histories[histories["variant"] == variant], []
        for split in ("train", "val"):
            ends += _curves(ax, part.pivot(index=RUN, columns="step", values=f"{split}_loss"), status, split)
        ax.set(xscale="log", yscale="log", xlabel="training step")
        ax.set_title(_text(variant) if len(variants) > 1 else "")
        _plain_log(ax.xaxis)
        _end_labels(ax, ends)
    panels[0].set_ylabel("loss (MSE over all outputs)")
    return figure


@_styled
def seed_strip(summary: pd.DataFrame, constant: float = 1 / 12, mean_over_all: bool = True) -> Figure:
    """Draw one mark a seed for each component's in-distribution MSE; seeds that are not ok are named.

    Parameters
    ----------
    summary : DataFrame
        Columns training_seed, status (ok, dead, diverged, unfinished), component, mse (at 3 `constant` if infinite).
    constant : float
        MSE of the best constant answer.
    mean_over_all : bool
        Draw the mean over all seeds, the dead ones too, beside the median of the live ones.
    """
    table = summary.assign(finite=summary["mse"].where(np.isfinite(summary["mse"])))
    components, handles = list(table["component"].unique()), {}
    figure, (panels,) = _panels(1, len(components), height=3.5)
    for i, (ax, component) in enumerate(zip(panels, components, strict=True)):
        part = table[table["component"] == component].sort_values("training_seed")
        named: list[int | None] = []
        lines = {"median of the live": (part.loc[part["status"].isin(LIVE), "finite"].median(), "-")}
        lines |= {"mean over all": (part["finite"].mean(), ":")} if mean_over_all else {}
        for name, (value, line) in (lines | {"best constant": (constant, "-.")}).items():
            handles[name] = ax.axhline(value, color=DARK, linestyle=line, linewidth=1.3, zorder=1)
        for row in part.fillna({"finite": 3 * constant}).to_dict("records"):
            ok, marker = row["status"] == "ok", STATUS_MARKERS[row["status"]]
            look: dict[str, Any] = {"marker": marker, "linestyle": "none", "markersize": 6 if ok else 8}
            look |= {"markeredgecolor": "white", "markeredgewidth": 0.6}
            color = COMPONENT_COLORS[i % 2] if ok else DARK
            ax.plot(row["training_seed"], row["finite"], color=color, gid=row["status"], zorder=3, **look)
            handles[f"{'live' if ok else row['status']} seed"] = Line2D([], [], color=MUTED if ok else DARK, **look)
            if not ok:
                seed, low = row["training_seed"], named[-1:] != [row["training_seed"] - 1]
                named.append(seed if low else None)  # names of neighbors stand at two heights
                look = {"offset": (0, 7 if low else 29), "rotation": 90, "ha": "center", "va": "bottom"}
                _note(ax, seed, row["finite"], str(seed), fontsize=8.5, **look)
        ax.set(yscale="log", title=_text(component), xlabel="training seed")
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=(1, 2, 5, 10)))
    panels[0].set(ylabel="in-distribution MSE", ylim=(None, 3 * max(constant, *(ax.dataLim.y1 for ax in panels))))
    _plain_log(panels[0].yaxis)
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3)
    return figure


@_styled
def drift(steps: ArrayLike, difference: ArrayLike, ax: Axes | None = None) -> Figure:
    """Draw how far apart two trainings of each seed are after so many steps: seeds thin, the median thick.

    Parameters
    ----------
    steps : array, shape (C,)
        Training steps.
    difference : array, shape (S, C)
        Largest difference of two predictions of a seed; 0 has no place on the axis.
    """
    figure, ax = _panel(ax, height=3.3)
    difference = np.where(np.asarray(difference, float) > 0, difference, np.nan)
    look: dict[str, Any] = {"color": SPLIT_COLORS["test"]}
    for seed in difference:
        ax.plot(steps, seed, linewidth=0.8, alpha=0.5, **look)
    known = ~np.isnan(difference).all(axis=0)
    ax.plot(np.asarray(steps)[known], np.nanmedian(difference[:, known], axis=0), linewidth=2.4, **look)
    ax.set(xscale="log", yscale="log", xlabel="training step", ylabel="largest difference of two answers")
    _plain_log(ax.xaxis)
    return figure
