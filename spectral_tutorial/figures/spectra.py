"""Chapters 1 and 2: what a spectrum is made of, and what the network may see."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, colors
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial.data import Spectra
from spectral_tutorial.figures import base
from spectral_tutorial.figures.base import COMPONENT_COLORS, DARK, MUTED, PALE
from spectral_tutorial.physics import WIEN_NM_K, World, add_noise, continuum, log_continuum


@base.styled
def spectral_lines(world: World, reported: Sequence[str] = (), names: base.Names = None) -> Figure:
    """Draw every line's strength x profile on its own row, by center: absorption hangs, emission stands.

    The lines in `reported` have their components' colors. Narrow and in large type: it can be read on a phone.
    """
    figure, ax = base.panel(1.0 + 0.28 * len(world.labels), width=5.2)
    order = np.argsort(-world.wavelength[world.profiles.argmax(axis=1)], kind="stable")
    chosen, strongest = dict(zip(reported, COMPONENT_COLORS, strict=False)), np.abs(world.strength).max() or 1.0
    for row, k in enumerate(order):
        strength, color = world.strength[k], chosen.get(world.labels[k], MUTED)
        curve = row + 0.85 * strength / strongest * world.profiles[k]
        alpha = 0.8 if world.labels[k] in chosen else 0.15 if strength > 0 else 0.5
        ax.fill_between(world.wavelength, row, curve, color=color, alpha=alpha, linewidth=0)
        ax.plot(world.wavelength, curve, color=base.ink(color), linewidth=0.8)
    ax.set_yticks(range(len(order)), [base.name(world.labels[k], names) for k in order])
    ax.tick_params(axis="y", length=0)
    ax.tick_params(labelsize=12)
    ax.locator_params(axis="x", nbins=5)
    ax.spines["left"].set_visible(False)
    ax.set(xlim=world.wavelength[[0, -1]], ylim=(-1.0, len(order)))
    ax.set_xlabel("wavelength (nm)", fontsize=12)
    return figure


@base.styled
def diverse_samples(spectra: Spectra, world: World, reported: Sequence[str] = (), names: base.Names = None) -> Figure:
    """Draw the first six spectra, three a row, each with the continuum of its own temperature dashed."""
    columns = min(3, len(spectra))
    rows = np.arange(min(6, len(spectra)) // columns * columns).reshape(-1, columns)
    return _sample_grid(spectra, rows, PALE, world, reported, names)


@base.styled
def continua(wavelength: ArrayLike, temperatures: Sequence[float]) -> Figure:
    """Draw black bodies of several temperatures (K), with Wien's peak marked where it is on the grid (nm)."""
    figure, ax = base.panel(3.0)
    grid = np.asarray(wavelength, float)
    shades = colormaps["inferno"](np.linspace(0.7, 0.2, len(temperatures)))
    for curve, temperature, shade in zip(continuum(grid, temperatures), temperatures, shades, strict=True):
        color, peak = colors.to_hex(shade), WIEN_NM_K / temperature
        ax.plot(grid, curve, color=color)
        if grid[0] <= peak <= grid[-1]:
            ax.plot(peak, 1.0, "o", color=color, markersize=5)
            base.note(ax, peak, 1.0, f"{temperature:,.0f} K", color, ha="center", offset=(0, 11), fontsize=8)
    ax.set(xlabel="wavelength (nm)", ylabel="flux / peak flux", ylim=(0, 1.12), xlim=grid[[0, -1]])
    return figure


@base.styled
def composition(
    world: World, temperature: float, abundance: ArrayLike, reported: Sequence[str] = (), names: base.Names = None
) -> Figure:
    """Draw one spectrum taken apart: flux is continuum x factors, log flux the sum of their logarithms.

    `abundance` has shape ``(L,)``; the lines that are present are drawn, the reported ones in their colors.
    """
    amounts = np.asarray(abundance, float)
    chosen = dict(zip(reported, COMPONENT_COLORS, strict=False))
    parts = [("continuum", log_continuum(world.wavelength, temperature)[0], MUTED, "--", 1.5)]
    for k in np.flatnonzero(amounts):
        color = chosen.get(world.labels[k], "#56B4E9")
        parts.append((base.name(world.labels[k], names), world.line_log_factors(amounts)[0, k], color, "-", 1.8))
    with np.errstate(divide="ignore"):  # a star too cold to shine
        parts.append(("together", np.log(world.mean_flux(temperature, amounts)[0]), DARK, "-", 2.2))
    figure, (panels,) = base.panels(3.2, columns=2, sharey=False)
    changes: list[Callable[[Any], Any]] = [np.exp, np.asarray]
    for ax, change in zip(panels, changes, strict=True):
        handles = {}
        for name, curve, color, line, width in parts:
            (handles[name],) = ax.plot(world.wavelength, change(curve), line, color=color, linewidth=width)
        ax.set(xlabel="wavelength (nm)", xlim=world.wavelength[[0, -1]])
    panels[0].set(title="Flux: a product", ylabel="flux, and factors on it", ylim=(0, None))
    panels[1].set(title="Log flux: a sum", ylabel="log flux, and terms in it")
    base.legend(figure, handles)
    return figure


@base.styled
def wing(
    world: World,
    temperature: float,
    x_label: str,
    y_label: str,
    levels: Sequence[float] = (0, 0.5, 1),
    names: base.Names = None,
) -> Figure:
    """Draw what line y of abundance 1 does to flux (left) and log flux (right), beside several amounts of x.

    The upper panels show the spectrum with y (solid) and without (dashed), the lower ones their difference.
    """
    x, y = world.index([x_label, y_label])
    near, n = world.profiles[y] > 1e-3, len(levels)
    near |= ~near.any()  # a line without a trace: everywhere
    grid, amounts = world.wavelength[near], np.zeros((2, n, len(world.labels)))
    amounts[:, :, x] = levels
    amounts[1, :, y] = 1.0
    flux = world.mean_flux(np.full(2 * n, temperature), amounts.reshape(2 * n, -1))[:, near]
    log_flux = np.log(flux, out=np.full_like(flux, np.nan), where=flux > 0)
    figure, panels = base.panels(4.4, 2, 2, sharey=False)
    for (above, below), name, curves in zip(panels.T, ("flux", "log flux"), (flux, log_flux), strict=True):
        for i, color in enumerate(colormaps["RdPu"](np.linspace(0.5, 1.0, n))):
            # in log flux the curves coincide: thinner and thinner, so that each is seen below the next
            width = 6.0 * 0.5**i if name == "log flux" else 1.8
            above.plot(grid, curves[n + i], color=color)
            above.plot(grid, curves[i], "--", color=color, linewidth=1.0)
            below.plot(grid, curves[n + i] - curves[i], color=color, linewidth=width)
        above.set(ylabel=name, title="In flux the change shrinks" if name == "flux" else "In log flux it does not")
        below.set(xlabel="wavelength (nm)", ylabel=f"change in {name}")
    handles = {f"{level:g}": line for level, line in zip(levels, panels[1, 0].lines, strict=True)}
    base.legend(figure, handles, title=f"abundance of {base.name(x_label, names)}")
    return figure


@base.styled
def noise_levels(
    world: World, temperature: float, abundance: ArrayLike, levels: Sequence[float], rng: np.random.Generator
) -> Figure:
    """Draw one spectrum at several noise levels, the noise-free flux on top; `abundance` is (L,)."""
    mean = world.mean_flux(temperature, abundance)
    figure, (panels,) = base.panels(2.5, columns=len(levels))
    for ax, level in zip(panels, levels, strict=True):
        ax.plot(world.wavelength, add_noise(mean, level, rng, world.noise_power)[0], color=PALE, linewidth=0.5)
        ax.plot(world.wavelength, mean[0], color=DARK, linewidth=1.4)
        ax.set(title=f"noise {100 * level:.2g}%", xlabel="wavelength (nm)", xlim=world.wavelength[[0, -1]])
    panels[0].set(ylabel="flux", ylim=(0, None))
    return figure


@base.styled
def samples(
    spectra: Spectra, split: str, world: World, reported: Sequence[str] = (), names: base.Names = None
) -> Figure:
    """Draw spectra of a split: two of each combination, a column each (four at most); six of one that is alone."""
    held, which = np.unique(spectra.abundance > 0, axis=0, return_inverse=True)
    kinds = np.argsort(held.sum(axis=1), kind="stable")[:4]
    groups = [np.flatnonzero(which.reshape(-1) == kind) for kind in kinds]
    rows = np.resize(groups[0], (2, 3)) if len(groups) == 1 else np.array([np.resize(g, 2) for g in groups]).T
    return _sample_grid(spectra, rows, base.split_color(split), world, reported, names)


@base.styled
def abundance_scatter(splits: Mapping[str, Spectra], reported: base.Pair, names: base.Names = None) -> Figure:
    """Draw the plane of the two reported abundances, one panel a split, one dot a spectrum."""
    figure, (panels,) = base.panels(2.35, columns=len(splits))
    end = base.reach(*(spectra.of(*reported) for spectra in splits.values()))
    x, y = (base.name(label, names, 72 // max(4, len(splits))) for label in reported)
    for ax, (name, spectra) in zip(panels, splits.items(), strict=True):
        points, color = spectra.of(*reported), base.split_color(name)
        ax.plot(*points.T, ".", color=color, markersize=3, alpha=0.5, markeredgewidth=0, clip_on=False)
        empty = int((points == 0).all(axis=1).sum())
        if empty:  # a thousand dots on one place look like one
            ax.plot(0, 0, "o", color=color, markersize=6, clip_on=False)
            base.note(ax, 0, 0, f"{empty:,} here", offset=(8, 9), fontsize=8.5)
        ax.set(title=base.split_name(name), xlabel=x, box_aspect=1, xticks=(0, end / 2, end), yticks=(0, end / 2, end))
        ax.set(xlim=(-0.04 * end, 1.04 * end), ylim=(-0.04 * end, 1.04 * end))
    panels[0].set_ylabel(y)
    return figure


@base.styled
def marginals(splits: Mapping[str, Spectra], reported: base.Pair, names: base.Names = None) -> Figure:
    """Draw each abundance where present (same marginals), and which are present together (another joint)."""
    figure, (panels,) = base.panels(2.9, columns=3, width_ratios=(1, 1, 1.4), sharex=False, sharey=False)
    (x, y), thick = (base.name(label, names, 12) for label in reported), 0.8 / len(splits)
    end, handles = base.reach(*(spectra.of(*reported) for spectra in splits.values())), {}
    for i, (name, spectra) in enumerate(splits.items()):
        points, color = spectra.of(*reported), base.split_color(name)
        for ax, column in zip(panels, points.T, strict=False):
            bins, present = np.linspace(0, end, 11), column[column > 0]
            weights = np.full(len(present), 10 / end / max(1, len(present)))  # a density, also of nothing
            ax.hist(present, bins, weights=weights, histtype="step", color=color, linewidth=1.8)
        shares = np.bincount((points > 0) @ [1, 2], minlength=4) / len(points)
        places = np.arange(4) + (i - (len(splits) - 1) / 2) * thick
        handles[base.split_name(name)] = panels[2].barh(places, shares, 0.9 * thick, color=color)
    top = max(1.6 / end, *(ax.dataLim.y1 for ax in panels[:2]))
    for ax, label in zip(panels, (x, y), strict=False):
        ax.set(title=label, xlabel="abundance > 0", ylim=(0, top), xticks=(0, end / 2, end))
    panels[0].set_ylabel("density")
    panels[1].tick_params(labelleft=False)
    panels[2].set(title="Which are present", xlabel="share of spectra", xlim=(0, 1))
    panels[2].set_yticks(range(4), ["neither", f"{x} only", f"{y} only", "both"])
    panels[2].invert_yaxis()
    panels[2].tick_params(axis="y", length=0)
    base.legend(figure, handles)
    return figure


def _sample_grid(
    spectra: Spectra, rows: NDArray[Any], color: str, world: World, reported: Sequence[str], names: base.Names
) -> Figure:
    """Spectra `rows` (2-D), each with its own continuum and a mark above each reported line that it holds."""
    figure, panels = base.panels(0.55 + 1.75 * len(rows), *rows.shape)
    for ax, row in zip(panels.flat, rows.flat, strict=True):
        ax.plot(spectra.wavelength, spectra.flux[row], color=color, linewidth=0.6)
        own = continuum(spectra.wavelength, spectra.temperature[row])[0]
        ax.plot(spectra.wavelength, own, color=DARK, linestyle="--", linewidth=1.1)
        found = [(names or {}).get(label := spectra.labels[k], label) for k in np.flatnonzero(spectra.abundance[row])]
        held = " + ".join(found if len(found) < 3 else [found[0], f"{len(found) - 1} more"]) or "no line"
        facts = f"{spectra.temperature[row]:,.0f} K, noise {100 * spectra.noise_level[row]:.2g}%"
        ax.set_title(f"{base.text(held, 84 // rows.shape[1])}\n{facts}", fontsize=9)
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
