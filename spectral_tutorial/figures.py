"""Arrays and tables in, matplotlib figures out; nothing is computed here beyond what drawing needs.

Every function returns a figure that shows itself once as the last expression of a notebook cell, is unknown
to pyplot (nothing stays open) and keeps the book's style (``style.mplstyle``) whenever it is drawn.
Functions with a single panel draw into `ax` where one is given, and then return the figure of that `ax`.

One visual language: each split and each of the two reported components has one color everywhere, from the
palette of Okabe and Ito (2008), which color-blind readers can tell apart; network, oracle and fooled differ
by line style, dead and diverged seeds by marker; the Cramér-Rao bound is always the same dashed dark line.

Arguments that come back: `reported`, the names of the x and the y component; `trajectories`, a table of
variant, data_seed, training_seed, step, split, component and a value (mse or slope), split "val" being
in-distribution (ID) and "test" out-of-distribution (OOD); `status`, a table of variant, data_seed,
training_seed and status: runs that are not "ok" are drawn gray and enter no median. ``N`` spectra, ``L``
lines, ``W`` bins, ``S`` seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec, cast

import numpy as np
import pandas as pd
from matplotlib import colormaps, colors, style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from spectral_tutorial.data import Spectra
from spectral_tutorial.physics import WIEN_NM_K, World, add_noise, continuum, log_continuum

P = ParamSpec("P")
Pair = tuple[str, str]

STYLE = ["default", str(Path(__file__).with_name("style.mplstyle"))]
"""Starts from matplotlib's own defaults: a reader's settings must not change the book's figures."""

DARK, MUTED, PALE = "#222222", "#6b6b6b", "#8fa3b3"
SPLIT_COLORS = {"train": "#0072B2", "val": "#56B4E9", "test": "#D55E00", "oracle_train": "#009E73"}
SPLIT_NAMES = {"val": "val (ID)", "test": "test (OOD)", "oracle_train": "oracle train"}
COMPONENT_COLORS = ("#CC79A7", "#E69F00")
STATUS_MARKERS = {"ok": "o", "dead": "X", "diverged": "^"}
VARIANT_LINES: dict[str, Any] = {"network": "-", "oracle": (0, (5, 1.5, 1, 1.5)), "fooled": (0, (1, 1.2))}
BOUND_LINE: dict[str, Any] = {"color": DARK, "linestyle": (0, (2.4, 1.2)), "linewidth": 1.5}
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


# --- helpers ---


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


def _split_color(name: object) -> str:
    return SPLIT_COLORS.get(str(name), MUTED)


def _split_name(name: object) -> str:
    return _text(SPLIT_NAMES.get(str(name), name))


def _reach(*arrays: NDArray[np.float64]) -> float:
    """Return the upper end of an axis of abundances: the largest value, rounded up to one decimal."""
    return float(np.ceil(10 * max(np.nanmax(values) for values in arrays) - 1e-9) / 10) or 1.0


def _wide(table: pd.DataFrame, value: str, split: str, component: str) -> pd.DataFrame:
    """One row a run (variant, data seed, training seed), one column a step."""
    part = table[(table["split"] == split) & (table["component"] == component)]
    return part.pivot(index=RUN, columns="step", values=value)


def _statuses(runs: pd.Index, status: pd.DataFrame | None) -> NDArray[np.str_]:
    """Status of each run; only those that are "ok" count in a median."""
    known = {} if status is None else status.set_index(RUN)["status"].to_dict()
    return np.array([known.get(run, "ok") for run in runs], str)


def _run_line(ax: Axes, x: ArrayLike, y: ArrayLike, color: str, status: str) -> None:
    """One run: thin, and dotted gray with a mark at its end where it is not to be counted."""
    look: dict[str, Any] = {"color": color, "alpha": 0.4}
    if status != "ok":
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
    for variant, rows in wide[states == "ok"].groupby(level="variant"):
        median, line = rows.median(), VARIANT_LINES.get(str(variant), "-")
        ax.plot(median.index, median.to_numpy(), color=color, linewidth=2.4, linestyle=line)
        ends.append((float(median.iloc[-1]), _median_name(wide.index, variant, split), color))
    return ends


def _paths(
    ax: Axes, table: pd.DataFrame, value: str, pair: Pair, split: str, status: pd.DataFrame | None
) -> Iterator[tuple[str, Any, NDArray[Any], NDArray[Any], pd.Index]]:
    """Every run's way through the plane of two components; yields each variant's median: name, line, x, y, steps."""
    x = _wide(table, value, split, pair[0])
    y = _wide(table, value, split, pair[1]).reindex_like(x)
    states = _statuses(x.index, status)
    for state, x_run, y_run in zip(states, x.to_numpy(), y.to_numpy(), strict=True):
        _run_line(ax, x_run, y_run, _split_color(split), state)
    for variant, rows in x[states == "ok"].groupby(level="variant"):
        name, line = _median_name(x.index, variant, split), VARIANT_LINES.get(str(variant), "-")
        yield name, line, rows.median().to_numpy(), y.loc[rows.index].median().to_numpy(), x.columns


def _pair(table: pd.DataFrame, reported: Pair | None) -> Pair:
    return reported or cast(Pair, tuple(table["component"].unique()[:2]))


def _sample_grid(spectra: Spectra, rows: NDArray[Any], color: str, world: World, reported: Sequence[str]) -> Figure:
    """Spectra `rows` (2-D), each with its own continuum and a mark above each reported line that it holds."""
    figure, panels = _panels(rows.shape[0], rows.shape[1], height=0.55 + 1.75 * len(rows))
    for ax, row in zip(panels.flat, rows.flat, strict=True):
        ax.plot(spectra.wavelength, spectra.flux[row], color=color, linewidth=0.6)
        own = continuum(spectra.wavelength, spectra.temperature[row])[0]
        ax.plot(spectra.wavelength, own, color=DARK, linestyle="--", linewidth=1.1)
        names = [_text(spectra.labels[k]) for k in np.flatnonzero(spectra.abundance[row])]
        held = " + ".join(names[:2] + ([f"{len(names) - 2} more"] if len(names) > 2 else [])) or "no line"
        facts = f"{spectra.temperature[row]:,.0f} K, noise {spectra.noise_level[row]:.0%}"
        ax.set_title(f"{held}\n{facts}", fontsize=9)
        for label, mark in zip(reported, COMPONENT_COLORS, strict=False):
            if spectra.of(label)[row, 0] > 0:
                center = world.wavelength[world.profiles[world.labels.index(label)].argmax()]
                ax.plot(center, 0.96, "v", color=mark, markersize=7, transform=ax.get_xaxis_transform())
        ax.set(xlim=spectra.wavelength[[0, -1]])
    panels[0, 0].set_ylim(0, None)  # shared by all, and only now that all are drawn
    for ax in panels[-1]:
        ax.set_xlabel("wavelength (nm)")
    for ax in panels[:, 0]:
        ax.set_ylabel("flux")
    return figure


def _combinations(spectra: Spectra, color: str, world: World, reported: Sequence[str]) -> Figure:
    """Two spectra of each combination, a column each (six at most); six of a combination that is alone."""
    held, which = np.unique(spectra.abundance > 0, axis=0, return_inverse=True)
    kinds = np.argsort(held.sum(axis=1), kind="stable")[:6]
    groups = [np.flatnonzero(which.reshape(-1) == kind) for kind in kinds]
    rows = np.resize(groups[0], (2, 3)) if len(groups) == 1 else np.array([np.resize(g, 2) for g in groups]).T
    return _sample_grid(spectra, rows, color, world, reported)


# --- chapter 1: what a spectrum is made of ---


@_styled
def spectral_lines(world: World, reported: Sequence[str] = (), ax: Axes | None = None) -> Figure:
    """Draw every line's strength x profile on its own row, by center: absorption hangs, emission stands.

    Names are at the left, strengths at the right; the lines in `reported` wear their components' colors.
    """
    figure, ax = _panel(ax, 1.0 + 0.24 * len(world.labels))
    order = np.argsort(-world.wavelength[world.profiles.argmax(axis=1)], kind="stable")
    chosen = dict(zip(reported, COMPONENT_COLORS, strict=False))
    for row, k in enumerate(order):
        strength, color = world.strength[k], chosen.get(world.labels[k], MUTED)
        curve = row + 0.85 * strength / np.abs(world.strength).max() * world.profiles[k]
        alpha = 0.8 if world.labels[k] in chosen else 0.15 if strength > 0 else 0.5
        ax.fill_between(world.wavelength, row, curve, color=color, alpha=alpha, linewidth=0)
        ax.plot(world.wavelength, curve, color=_ink(color), linewidth=0.8)
        text = f"{strength:+.2g}".replace("-", "\N{MINUS SIGN}")
        _note(ax, 1.0, row, text, color, fontsize=8.5, xycoords=ax.get_yaxis_transform())
    ax.text(
        1.02,
        len(order),
        "strength",
        ha="center",
        va="center",
        fontsize=8.5,
        transform=ax.get_yaxis_transform(),
    )
    ax.set_yticks(range(len(order)), [_text(world.labels[k]) for k in order])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set(xlabel="wavelength (nm)", xlim=world.wavelength[[0, -1]], ylim=(-1.0, len(order) + 0.2))
    return figure


@_styled
def diverse_samples(spectra: Spectra, world: World, reported: Sequence[str] = (), count: int = 6) -> Figure:
    """Draw the first `count` spectra, three a row, each with the continuum of its own temperature dashed."""
    count, columns = min(count, len(spectra)), min(3, len(spectra))
    rows = np.arange(count // columns * columns).reshape(-1, columns)
    return _sample_grid(spectra, rows, PALE, world, reported)


@_styled
def continua(wavelength: ArrayLike, temperatures: Sequence[float], ax: Axes | None = None) -> Figure:
    """Draw black bodies of several temperatures (K), with Wien's peak marked where it is on the grid (nm)."""
    figure, ax = _panel(ax, 3.0)
    grid = np.asarray(wavelength, float)
    shades = colormaps["inferno"](np.linspace(0.2, 0.75, len(temperatures)))
    for curve, temperature, shade in zip(continuum(grid, temperatures), temperatures, shades, strict=True):
        color, peak = colors.to_hex(shade), WIEN_NM_K / temperature
        ax.plot(grid, curve, color=color)
        if grid[0] <= peak <= grid[-1]:
            ax.plot(peak, 1.0, "o", color=color, markersize=5)
            _note(ax, peak, 1.0, f"{temperature:,.0f} K", color, ha="center", offset=(0, 11), fontsize=8)
    ax.set(xlabel="wavelength (nm)", ylabel="flux / peak flux", ylim=(0, 1.12), xlim=grid[[0, -1]])
    return figure


@_styled
def composition(world: World, temperature: float, abundance: ArrayLike, reported: Sequence[str] = ()) -> Figure:
    """Draw one spectrum taken apart: flux is continuum x factors, log flux the sum of their logarithms.

    `abundance` has shape ``(L,)``; the lines that are present are drawn, the reported ones in their colors.
    """
    amounts = np.asarray(abundance, float)
    chosen = dict(zip(reported, COMPONENT_COLORS, strict=False))
    parts = [("continuum", log_continuum(world.wavelength, temperature)[0], MUTED, "--", 1.5)]
    for k in np.flatnonzero(amounts):
        color = chosen.get(world.labels[k], "#56B4E9")
        parts.append((_text(world.labels[k]), world.line_log_factors(amounts)[0, k], color, "-", 1.8))
    parts.append(("together", np.log(world.mean_flux(temperature, amounts)[0]), DARK, "-", 2.2))
    figure, (panels,) = _panels(1, 2, height=3.2, sharey=False)
    changes: list[Callable[[Any], Any]] = [np.exp, np.asarray]
    for ax, change in zip(panels, changes, strict=True):
        for name, curve, color, line, width in parts:
            ax.plot(world.wavelength, change(curve), line, color=color, linewidth=width, label=name)
        ax.set(xlabel="wavelength (nm)", xlim=world.wavelength[[0, -1]])
    panels[0].set(title="Flux: a product", ylabel="flux, and factors on it", ylim=(0, None))
    panels[1].set(title="Log flux: a sum", ylabel="log flux, and terms in it")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(parts))
    return figure


@_styled
def wing(world: World, temperature: float, x_label: str, y_label: str, levels: Sequence[float] = (0, 0.5, 1)) -> Figure:
    """Draw what line y of abundance 1 does to flux (left) and log flux (right), beside several amounts of x.

    The upper panels show the spectrum with y (solid) and without (dashed), the lower ones their difference.
    """
    x, y = world.index([x_label, y_label])
    near, n = world.profiles[y] > 1e-3, len(levels)
    grid, amounts = world.wavelength[near], np.zeros((2, n, len(world.labels)))
    amounts[:, :, x] = levels
    amounts[1, :, y] = 1.0
    flux = world.mean_flux(np.full(2 * n, temperature), amounts.reshape(2 * n, -1))[:, near]
    figure, panels = _panels(2, 2, height=4.4, sharey=False)
    for column, (name, title) in enumerate((("flux", "In flux it shrinks"), ("log flux", "In log flux it does not"))):
        above, below = panels[:, column]
        curves = np.log(flux) if name == "log flux" else flux
        for i, color in enumerate(colormaps["RdPu"](np.linspace(0.4, 1.0, n))):
            # in log flux the curves coincide: thinner and thinner, so that each is seen below the next
            width = 6.0 * 0.5**i if name == "log flux" else 1.8
            above.plot(grid, curves[n + i], color=color)
            above.plot(grid, curves[i], "--", color=color, linewidth=1.0)
            below.plot(grid, curves[n + i] - curves[i], color=color, linewidth=width, label=f"{levels[i]:g}")
        above.set(ylabel=name, title=title)
        below.set(xlabel="wavelength (nm)", ylabel=f"change in {name}")
    title = f"{_text(y_label)} beside {_text(x_label)} of abundance"
    figure.legend(*panels[1, 0].get_legend_handles_labels(), title=title, ncols=n, loc="outside lower center")
    return figure


@_styled
def noise_levels(
    world: World, temperature: float, abundance: ArrayLike, levels: Sequence[float], rng: np.random.Generator
) -> Figure:
    """Draw one spectrum at several relative noise levels, the noise-free flux on top; `abundance` is (L,)."""
    mean = world.mean_flux(temperature, abundance)
    figure, (panels,) = _panels(1, len(levels), height=2.5)
    for ax, level in zip(panels, levels, strict=True):
        ax.plot(world.wavelength, add_noise(mean, level, rng)[0], color=PALE, linewidth=0.5)
        ax.plot(world.wavelength, mean[0], color=DARK, linewidth=1.4)
        ax.set(title=f"noise {level:.0%}", xlabel="wavelength (nm)", xlim=world.wavelength[[0, -1]])
    panels[0].set(ylabel="flux", ylim=(0, None))
    return figure


# --- chapter 2: what the learner may see ---


@_styled
def train_samples(spectra: Spectra, world: World, reported: Sequence[str]) -> Figure:
    """Draw training spectra, two of each combination, with their own continua, marking the reported lines."""
    return _combinations(spectra, _split_color("train"), world, reported)


@_styled
def test_samples(spectra: Spectra, world: World, reported: Sequence[str]) -> Figure:
    """Draw test spectra as :func:`train_samples` draws them."""
    return _combinations(spectra, _split_color("test"), world, reported)


@_styled
def abundance_scatter(splits: Mapping[str, Spectra], reported: Pair) -> Figure:
    """Draw the plane of the two reported abundances, one panel a split, one dot a spectrum."""
    figure, (panels,) = _panels(1, len(splits), height=2.35)
    end = _reach(*(spectra.of(*reported) for spectra in splits.values()))
    for ax, (name, spectra) in zip(panels, splits.items(), strict=True):
        points, color = spectra.of(*reported), _split_color(name)
        ax.plot(*points.T, ".", color=color, markersize=3, alpha=0.5, markeredgewidth=0, clip_on=False)
        empty = int((points == 0).all(axis=1).sum())
        if empty:  # a thousand dots on one place look like one
            ax.plot(0, 0, "o", color=color, markersize=6, clip_on=False)
            _note(ax, 0, 0, f"{empty:,} here", offset=(8, 9), fontsize=8.5)
        ax.set(
            title=_split_name(name),
            xlim=(-0.04 * end, 1.04 * end),
            ylim=(-0.04 * end, 1.04 * end),
            box_aspect=1,
        )
        ax.set(xticks=(0, end / 2, end), yticks=(0, end / 2, end), xlabel=_text(reported[0]))
    panels[0].set_ylabel(_text(reported[1]))
    return figure


@_styled
def marginals(splits: Mapping[str, Spectra], reported: Pair) -> Figure:
    """Draw each abundance where present (same marginals), and which are present together (another joint)."""
    figure, (panels,) = _panels(1, 3, height=2.9, width_ratios=(1, 1, 1.4), sharex=False, sharey=False)
    (x, y), thick = map(_text, reported), 0.8 / len(splits)
    end = _reach(*(spectra.of(*reported) for spectra in splits.values()))
    for i, (name, spectra) in enumerate(splits.items()):
        points, color = spectra.of(*reported), _split_color(name)
        for ax, column in zip(panels, points.T, strict=False):
            bins = np.linspace(0, end, 11)
            ax.hist(column[column > 0], bins, density=True, histtype="step", color=color, linewidth=1.8)
        shares = np.bincount((points > 0) @ [1, 2], minlength=4) / len(points)
        places = np.arange(4) + (i - (len(splits) - 1) / 2) * thick
        panels[2].barh(places, shares, 0.9 * thick, color=color, label=_split_name(name))
    for ax, label in zip(panels, (x, y), strict=False):
        ax.set(title=label, xlabel="abundance > 0", ylim=(0, 1.6 / end), xticks=(0, end / 2, end))
    panels[0].set_ylabel("density")
    panels[1].tick_params(labelleft=False)
    names = ["neither", f"{x} only", f"{y} only", "both"]
    panels[2].set(title="Which are present", xlabel="share of spectra", xlim=(0, 1))
    panels[2].set_yticks(range(4), names)
    panels[2].invert_yaxis()
    panels[2].tick_params(axis="y", length=0)
    figure.legend(*panels[2].get_legend_handles_labels(), loc="outside lower center", ncols=len(splits))
    return figure


# --- chapter 3: training ---


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
        Columns training_seed, status (ok, dead, diverged), component, mse (drawn at 3 `constant` if infinite).
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
        lines = {"median of the live": (part.loc[part["status"] == "ok", "finite"].median(), "-")}
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


# --- chapter 4: the gap ---


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
            _note(ax, value, place, f"{value:.2g}", color, ha="center", offset=(0, -11 * below), fontsize=8.5)
            ax.plot([row["crlb"], row["crlb"]], [place - 0.15, place + 0.15], zorder=1, **BOUND_LINE)
        ax.set(xscale="log", title=_text(component), xlabel="mean squared error", xmargin=0.08)
        ax.grid(axis="x", color="#e6e6e6", linewidth=0.7)
    panels[0].set(yticks=range(len(methods)), yticklabels=[_text(name) for name in methods])
    panels[0].set_ylim(len(methods) - 0.4, -0.6)
    handles = [Line2D([], [], label="Cramér-Rao bound", **BOUND_LINE)]
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
