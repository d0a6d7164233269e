"""The style of the figures, and what several of them need."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from io import BytesIO
from itertools import cycle, product
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
import pandas as pd
from matplotlib import colors, style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import ArrayLike, NDArray
from PIL import Image

P = ParamSpec("P")
Pair = tuple[str, str]
Names = Mapping[str, str] | None

STYLE = ["default", str(Path(__file__).with_name("style.mplstyle"))]
"""Starts from matplotlib's own defaults: the settings of whoever draws must not change the book's figures."""

DARK, MUTED, PALE = "#222222", "#6b6b6b", "#7a90a2"
SPLIT_COLORS = {"train": "#0072B2", "val": "#56B4E9", "test": "#D55E00", "oracle_train": "#009E73"}
SPLIT_NAMES = {"train": "training", "val": "validation (ID)", "test": "test (OOD)", "oracle_train": "oracle's training"}
COMPONENT_COLORS = ("#CC79A7", "#E69F00")
STATUS_MARKERS = {"ok": "o", "dead": "X", "diverged": "^", "unfinished": "s"}
BOUND_NAME = "Cramér-Rao bound"
BOUND_LINE: dict[str, Any] = {"color": DARK, "linestyle": (0, (2.4, 1.2)), "linewidth": 1.5}

METHOD_LOOKS = {
    "network": ("#D55E00", "o"),
    "oracle": ("#009E73", "o"),
    "limit": ("#D55E00", "s"),
    "limit_oracle": ("#009E73", "X"),
    "observer": ("#009E73", "P"),
    "observer_oracle": ("#56B4E9", "P"),
    "ridge_flux": (MUTED, "v"),
    "ridge_log": (DARK, "^"),
    "local": (PALE, "X"),
    "synthesis": ("#009E73", "s"),
    "decoder": ("#0072B2", "D"),
    "decoder_flat": ("#0072B2", "d"),
}
"""One method, one color and marker in the whole book. All predict the same split, so a color means no split there."""
OTHER_LOOKS = tuple(zip((DARK, *COMPONENT_COLORS, "#0072B2", "#D55E00", "#009E73"), "hp*<>8", strict=True))
"""Of methods that are not the book's, in the order of their panel."""


class _Canvas(FigureCanvasAgg):
    """Writes PNG files of 256 colors: a third of the size, and none that the eye would miss."""

    def print_png(self, filename_or_obj: Any, **_: Any) -> None:
        FigureCanvasAgg.draw(self)
        picture = Image.fromarray(np.asarray(self.buffer_rgba())).convert("RGB")
        small = picture.quantize(256, dither=Image.Dither.NONE)
        small.save(filename_or_obj, format="png", optimize=True)


class StyledFigure(Figure):
    """A figure always drawn in the book's style, shown by Jupyter with or without its inline backend."""

    def __init__(self, height: float, width: float = 7.2) -> None:
        super().__init__((width, min(height, 500.0)))  # Agg draws at most 65,535 pixels
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


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function in the book's style, leaving the caller's settings alone."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style.context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def panels(height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Figure, NDArray[Any]]:
    """Return a new figure as wide as the page and `height` inches high, and its panels in rows."""
    figure = StyledFigure(height)
    return figure, figure.subplots(rows, columns, squeeze=False, **{"sharex": True, "sharey": True} | kwargs)


def panel(height: float, width: float = 7.2) -> tuple[Figure, Axes]:
    """Return a new figure of so many inches, and its only panel."""
    figure = StyledFigure(height, width)
    return figure, figure.subplots()


@cache
def _glyphs() -> frozenset[int]:
    """Code points that can be drawn: of the one font that comes with matplotlib and so is everywhere the same."""
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def text(label: object, most: int = 24) -> str:
    r"""Return a label as it can be read in a figure, at most `most` characters long.

    Dollar signs start no formula. A character without a glyph is written as in Python (``\u7dda``), not drawn as a
    box. What is too long loses its middle to an ellipsis: labels often differ at their ends.
    """
    shown = "".join(c if ord(c) in _glyphs() else c.encode("unicode_escape").decode() for c in str(label))
    if len(shown) > most:
        shown = f"{shown[: most - most // 3 - 1]}…{shown[-(most // 3) :]}"
    return shown.replace("$", r"\$")


def name(label: str, names: Names, most: int = 24) -> str:
    """Return what a component is called in a figure: its name where there is one, else its label, see :func:`text`."""
    return text((names or {}).get(label, label), most)


def split_color(name: object) -> str:
    """Color of a split."""
    return SPLIT_COLORS.get(str(name), MUTED)


def split_name(name: object) -> str:
    """Name of a split, saying which is in and which out of distribution."""
    return text(SPLIT_NAMES.get(str(name), name))


def looks(methods: Iterable[object]) -> dict[object, dict[str, Any]]:
    """Color and marker of each method of a panel."""
    others, edge = cycle(OTHER_LOOKS), {"markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.6}
    chosen = {name: METHOD_LOOKS.get(str(name)) or next(others) for name in methods}
    return {name: {"color": color, "marker": marker, **edge} for name, (color, marker) in chosen.items()}


def ink(color: str) -> tuple[float, ...]:
    """Return a color's darker sister, in which words can be read on white."""
    return tuple(0.62 * channel for channel in colors.to_rgb(color))


def note(ax: Axes, x: float, y: float, words: str, color: str = DARK, **kwargs: Any) -> None:
    """Write `offset` points away from a place in the data, on a white halo; nowhere if there is no such place."""
    look: dict[str, Any] = {"va": "center", "fontsize": 9, "offset": (5, 0)} | kwargs
    look |= {"color": ink(color), "textcoords": "offset points", "annotation_clip": False}
    if np.isfinite([x, y]).all():
        halo = [withStroke(linewidth=2.5, foreground="white")]
        ax.annotate(words, (x, y), look.pop("offset"), path_effects=halo, **look)


def end_labels(ax: Axes, lines: Iterable[tuple[ArrayLike, str, str]], gap: float = 0.07) -> None:
    """Name lines (y, words, color) beside their last y at the right edge, moved apart; needs final limits."""
    finite = [(np.ravel(y)[np.isfinite(np.ravel(y))], *look) for y, *look in lines]
    ends = sorted((float(y[-1]), *look) for y, *look in finite if len(y))
    to_axes = ax.transData + ax.transAxes.inverted()
    places = np.array([to_axes.transform((ax.get_xlim()[1], y))[1] for y, *_ in ends])
    for _ in range(50):
        lack = np.maximum(gap - np.diff(places), 0.0) / 2
        places[:-1] -= lack
        places[1:] += lack
    for place, (_, words, color) in zip(places, ends, strict=True):
        note(ax, 1.0, place, words, color, xycoords="axes fraction")


def legend(place: Figure | Axes, handles: Mapping[str, Any], **kwargs: Any) -> None:
    """Put a legend below a figure, or below a panel in a figure of somebody else's, in as many columns as fit."""
    widths = [len(name) + 8 for name in handles]  # in characters; 8 are a handle and the space around it
    columns = len(widths) if sum(widths) <= 96 else 96 // max(widths)
    look = {"handles": [*handles.values()], "labels": [*handles], "ncols": max(1, columns)} | kwargs
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18)}
    place.legend(**look, **({"loc": "outside lower center"} if isinstance(place, Figure) else below))


def plain_log(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 in each decade, written as plain numbers: for axes of few decades."""
    axis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
    axis.set_major_formatter("{x:,g}")


def positive(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Leave out, as NaN, what has no place on a logarithmic axis: a bound of 0, an infinite one, a loss of 0."""
    found = {name: table[name].astype(float) for name in columns}
    return table.assign(**{name: values.where((values > 0) & (values < np.inf)) for name, values in found.items()})


def log_scale(panels: Iterable[Axes], *names: str) -> None:
    """Make the axes of these names logarithmic; where nothing stands on any of them, from 0.001 to 1."""
    for ax, name in product(panels, names):
        empty = not np.isfinite([getattr(other, f"{name}axis").get_minpos() for other in panels]).any()
        ax.set(**{f"{name}lim": (0.001, 1)} if empty else {}, **{f"{name}scale": "log"})


def reach(*arrays: NDArray[np.float64]) -> float:
    """Return the upper end of an axis of abundances: the largest one, rounded up."""
    largest = max((float(np.nanmax(values)) for values in arrays if np.isfinite(values).any()), default=0.0)
    step = 10.0 ** (np.round(np.log10(largest)) - 1) if largest > 0 else 1.0
    return float(np.ceil(largest / step - 1e-9) * step) or 1.0
