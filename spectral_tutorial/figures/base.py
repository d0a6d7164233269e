"""The style of the figures, and what several of them need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec, cast

import numpy as np
import pandas as pd
from matplotlib import colors, style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from spectral_tutorial.analysis import LIVE

P = ParamSpec("P")
Pair = tuple[str, str]

STYLE = ["default", str(Path(__file__).with_name("style.mplstyle"))]
"""Starts from matplotlib's own defaults: a reader's settings must not change the book's figures."""

DARK, MUTED, PALE = "#222222", "#6b6b6b", "#8fa3b3"
SPLIT_COLORS = {"train": "#0072B2", "val": "#56B4E9", "test": "#D55E00", "oracle_train": "#009E73"}
SPLIT_NAMES = {"val": "val (ID)", "test": "test (OOD)", "oracle_train": "oracle train"}
COMPONENT_COLORS = ("#CC79A7", "#E69F00")
STATUS_MARKERS = {"ok": "o", "dead": "X", "diverged": "^", "unfinished": "s"}
VARIANT_LINES: dict[str, Any] = {"network": "-", "oracle": (0, (5, 1.5, 1, 1.5)), "fooled": (0, (1, 1.2))}
BOUND_NAME = "Cramér-Rao bound"
BOUND_LINE: dict[str, Any] = {"color": DARK, "linestyle": (0, (2.4, 1.2)), "linewidth": 1.5}
METHOD_COLORS = (SPLIT_COLORS["test"], SPLIT_COLORS["oracle_train"], SPLIT_COLORS["train"], DARK, MUTED, PALE)
METHOD_MARKERS = "osD^vPX"
"""Of methods side by side, in their order. All of them answer the test, so a color cannot mean a split there."""

RUN = ["variant", "data_seed", "training_seed"]
HALO = [withStroke(linewidth=2.5, foreground="white")]


class _Canvas(FigureCanvasAgg):
    """Writes PNG files of 256 colors: a third of the size, and none that the eye would miss."""

    def print_png(self, filename_or_obj: Any, **_: Any) -> None:
        FigureCanvasAgg.draw(self)
        picture = Image.fromarray(np.asarray(self.buffer_rgba())).convert("RGB")
        small = picture.quantize(256, dither=Image.Dither.NONE)
        small.save(filename_or_obj, format="png", optimize=True)


class StyledFigure(Figure):
    """A figure always drawn in the book's style, shown by Jupyter with or without its inline backend."""

    def __init__(self, height: float) -> None:
        super().__init__()
        self.set_figheight(height)
        _Canvas(self)

    def draw(self, renderer: RendererBase) -> None:
        """Draw in the book's style: matplotlib makes ticks and looks for fonts only now."""
        with style.context(STYLE):
            super().draw(renderer)

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """Save as matplotlib does, with the book's resolution and white ground."""
        with style.context(STYLE):
            super().savefig(*args, **kwargs)

    def _repr_png_(self) -> bytes:
        # Once a notebook imports pyplot, the inline backend shows figures its own way instead.
        return png(self)


def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function in the book's style, leaving the caller's settings alone."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style.context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def _panels(rows: int, columns: int, height: float, **kwargs: Any) -> tuple[Figure, NDArray[Any]]:
    """Return a figure as wide as the page, `height` inches high, and its panels ``(rows, columns)``."""
    figure = StyledFigure(height)
    kwargs = {"sharex": True, "sharey": True} | kwargs
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def _panel(ax: Axes | None, height: float) -> tuple[Figure, Axes]:
    if ax is not None:
        return cast(Figure, ax.figure), ax
    figure = StyledFigure(height)
    return figure, figure.subplots()


def _row(ax: Axes | Sequence[Axes] | None, count: int, height: float) -> tuple[Figure, Sequence[Axes]]:
    """Return panels side by side: those that are given, or those of a new figure."""
    if ax is None:
        figure, (panels,) = _panels(1, count, height)
        return figure, list(panels)
    given = [ax] if isinstance(ax, Axes) else list(ax)
    return cast(Figure, given[0].figure), given


def _text(label: object) -> str:
    """Return a label as it is to be read: its dollar signs start no formula."""
    return str(label).replace("$", r"\$")


def _ink(color: str) -> tuple[float, ...]:
    """Return a color's darker sister, in which words can be read on white."""
    return tuple(0.62 * channel for channel in colors.to_rgb(color))


def _note(ax: Axes, x: float, y: float, text: str, color: str = DARK, **kwargs: Any) -> None:
    """Write `offset` points away from a place in the data, on a white halo."""
    look: dict[str, Any] = {"va": "center", "fontsize": 9, "offset": (5, 0), "path_effects": HALO} | kwargs
    look |= {"color": _ink(color), "textcoords": "offset points", "annotation_clip": False}
    ax.annotate(text, (x, y), look.pop("offset"), **look)


def _plain_log(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 in each decade, written as plain numbers: for axes of few decades."""
    axis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
    axis.set_major_formatter("{x:,g}")


def _end_labels(ax: Axes, ends: Sequence[tuple[float, str, str]], gap: float = 0.07) -> None:
    """Name lines at the right edge by (last y, text, color), moved apart where they overlap."""
    # Needs the final limits of the axes.
    ends = sorted(end for end in ends if np.isfinite(end[0]))
    to_axes = ax.transData + ax.transAxes.inverted()
    places = np.array([to_axes.transform((ax.get_xlim()[1], y))[1] for y, _, _ in ends])
    for _ in range(50):
        lack = np.maximum(gap - np.diff(places), 0.0) / 2
        places[:-1] -= lack
        places[1:] += lack
    for place, (_, text, color) in zip(places, ends, strict=True):
        _note(ax, 1.0, place, text, color, xycoords="axes fraction")


def _legend(
    ax: Axes | Sequence[Axes] | None, panels: Sequence[Axes], handles: Mapping[str, Any], **kwargs: Any
) -> None:
    """Put a legend below a figure of our own, or below the first of the panels that were given."""
    figure = cast(Figure, panels[0].figure)
    room = 72 * figure.get_figwidth() * (1.0 if ax is None else panels[0].get_position().width)
    fit = int(room // (_width(handles) + 45))  # beside each label a handle and a space
    look = {"handles": [*handles.values()], "labels": [*handles], "ncols": min(len(handles), max(1, fit))} | kwargs
    if ax is None:
        figure.legend(loc="outside lower center", **look)
        return
    below = panels[0].transAxes + ScaledTranslation(0, -0.5, figure.dpi_scale_trans)
    place: dict[str, Any] = {"bbox_to_anchor": (0.5, 0), "bbox_transform": below, "borderaxespad": 0}
    panels[0].legend(loc="upper center", **place, **look)


def _width(texts: Iterable[object], size: float = 9) -> float:
    """Width of the longest of several texts, in points."""
    font = FontProperties(size=size)
    return max((text_to_path.get_text_width_height_descent(str(text), font, False)[0] for text in texts), default=0.0)


def _split_color(name: object) -> str:
    return SPLIT_COLORS.get(str(name), MUTED)


def _split_name(name: object) -> str:
    return _text(SPLIT_NAMES.get(str(name), name))


def _last(values: pd.Series) -> float:
    """Last number that is one: where a line ends."""
    return float(([np.nan, *values.dropna()])[-1])


def _look(k: int) -> dict[str, Any]:
    """Color and marker of the k-th of several methods."""
    look: dict[str, Any] = {"markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.6}
    return look | {"color": METHOD_COLORS[k % len(METHOD_COLORS)], "marker": METHOD_MARKERS[k % len(METHOD_MARKERS)]}


def _reach(*arrays: NDArray[np.float64]) -> float:
    """Return the upper end of an axis of abundances: the largest value, rounded up to one decimal."""
    return float(np.ceil(10 * max(np.nanmax(values) for values in arrays) - 1e-9) / 10) or 1.0


def _wide(table: pd.DataFrame, value: str, split: str, component: str) -> pd.DataFrame:
    """One row a run (variant, data seed, training seed), one column a step."""
    part = table[(table["split"] == split) & (table["component"] == component)]
    return part.pivot(index=RUN, columns="step", values=value)


def _statuses(runs: pd.Index, status: pd.DataFrame | None) -> NDArray[np.str_]:
    """Status of each run; only those that are live count in a median."""
    known = {} if status is None else status.set_index(RUN)["status"].to_dict()
    return np.array([known.get(run, "ok") for run in runs], str)


def _run_line(ax: Axes, x: ArrayLike, y: ArrayLike, color: str, status: str) -> None:
    """One run: thin, and dotted gray with a mark at its end where it is not to be counted."""
    look: dict[str, Any] = {"color": color, "alpha": 0.4}
    if status not in LIVE:
        look = {"color": MUTED, "linestyle": ":", "marker": STATUS_MARKERS[status], "markersize": 5, "markevery": [-1]}
    ax.plot(x, y, linewidth=0.7, **look)


def _median_name(runs: pd.Index, variant: object, split: str) -> str:
    several = runs.unique("variant").size > 1
    return f"{_text(variant)}, {_split_name(split)}" if several else _split_name(split)


def _curves(ax: Axes, wide: pd.DataFrame, status: pd.DataFrame | None, split: str) -> list[tuple[float, str, str]]:
    """Every run over steps, each variant's median thick; returns the medians' last value, name and color."""
    color, states, ends = _split_color(split), _statuses(wide.index, status), []
    for state, values in zip(states, wide.to_numpy(), strict=True):
        _run_line(ax, wide.columns, values, color, state)
    for variant, rows in wide[np.isin(states, LIVE)].groupby(level="variant"):
        median, line = rows.median(), VARIANT_LINES.get(str(variant), "-")
        ax.plot(median.index, median.to_numpy(), color=color, linewidth=2.4, linestyle=line)
        ends.append((float(median.iloc[-1]), _median_name(wide.index, variant, split), color))
    return ends
