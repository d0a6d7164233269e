"""The book's logo, its icon and the card that shows it in a feed, drawn in every build from the shipped world.

The drawing is the question of the book: the line of one component in the wing of another's.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sphinx.application import Sphinx
from sphinx.config import Config

from spectral_tutorial import config as configuration
from spectral_tutorial.figures import base as figures
from spectral_tutorial.physics import World, add_noise, continuum

META = Path("book") / "meta_config.yaml"
LOGOS = {"light": "logo-light.svg", "dark": "logo-dark.svg"}
INK = {"light": figures.DARK, "dark": "#f2f2f2"}
ICON, CARD = "favicon.svg", "social-card.png"
SIDE, POINTS = 64, 97
WING = 0.07
"""Height of the broad line's profile at the edges of the drawing."""
TITLE = "Compositional generalization\nin spectra"
QUESTION = (
    "A network has learned to read one ingredient of a star,\nand to read another. Can it read a star that holds both?"
)


def shipped_world(root: Path) -> tuple[World, tuple[str, str]]:
    """Return the forward model of the book's own configuration, and the two components that it reports."""
    config = configuration.load(root / META)
    return World.from_config(config.spectra), config.reported


def logo(world: World, lines: tuple[str, str], ink: str) -> str:
    """Return the logo as SVG: below a line in `ink`, what two lines together take away from log flux."""
    places = world.index(lines)
    near = world.profiles[places[0]] > WING
    imprints = -world.line_log_factors(np.ones(len(world.labels)))[0, places][:, near]
    wavelength = np.linspace(*world.wavelength[near][[0, -1]], POINTS)
    first, second = (np.interp(wavelength, world.wavelength[near], imprint) for imprint in imprints)
    x, top = np.linspace(2, SIDE - 2, POINTS), 10
    zero, one, both = (
        top + (SIDE - top - 6) * depth / (first + second).max() for depth in (0 * x, first, first + second)
    )
    shapes = [
        f'<path fill="{color}" d="M{outline(x, above)}L{outline(x[::-1], below[::-1])}Z"/>'
        for color, above, below in zip(figures.COMPONENT_COLORS, (zero, one), (one, both), strict=True)
    ]
    ground = f'<path class="ink" stroke="{ink}" stroke-width="4" stroke-linecap="round" d="M2 {top}H{SIDE - 2}"/>'
    size = f'width="{SIDE}" height="{SIDE}" viewBox="0 0 {SIDE} {SIDE}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'
    return f"{head}<title>{alt_text(lines)}</title>{''.join(shapes)}{ground}</svg>\n"


def outline(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """Return points as the numbers of an SVG path."""
    return "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def icon(world: World, lines: tuple[str, str]) -> str:
    """Return the logo with an ink that follows the browser's light or dark mode."""
    rule = f"<style>@media (prefers-color-scheme: dark) {{ .ink {{ stroke: {INK['dark']} }} }}</style>"
    return logo(world, lines, INK["light"]).replace("</title>", f"</title>{rule}")


def alt_text(lines: tuple[str, str]) -> str:
    """Return what the logo shows, in words that can stand in markup: the theme puts them there as they are."""
    x, y = map(escape, lines)
    return f"Two lines of a spectrum: the narrow {y} in the wing of the broad {x}"


def around(world: World, lines: tuple[str, str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Wavelengths around the first of two lines and, ``(2, W)``, flux over continuum with it alone and with both."""
    x, y = world.index(lines)
    abundance = np.zeros((2, len(world.labels)))
    abundance[:, x], abundance[1, y] = 1.0, 1.0
    near = world.profiles[x] > WING
    return world.wavelength[near], world.factors(abundance)[:, near]


def card(world: World, lines: tuple[str, str]) -> Figure:
    """Draw the card, 1200 by 630 pixels: title, question, and a star with both lines over the same without."""
    wavelength, (alone, both) = around(world, lines)
    base = continuum(wavelength, 5000.0)[0]
    noisy = add_noise((base * both)[None], np.array([0.02]), np.random.default_rng(0))[0]
    with style.context(figures.STYLE):
        figure = figures.StyledFigure(5.25)
        figure.set_figwidth(10.0)
        figure.set_layout_engine("none")
        ax = figure.add_axes((0.0, 0.0, 1.0, 0.56))
        areas = (base, base * alone), (base * alone, base * both)
        for color, (top, bottom) in zip(figures.COMPONENT_COLORS, areas, strict=True):
            ax.fill_between(wavelength, top, bottom, color=color, linewidth=0)
        ax.plot(wavelength, base, color=figures.DARK, linestyle="--", linewidth=1.5)
        ax.plot(wavelength, noisy, color=figures.DARK, linewidth=1.8)
        ax.set(xlim=wavelength[[0, -1]], ylim=(0.0, 1.02 * base.max()))
        ax.axis("off")
        figure.text(0.05, 0.94, TITLE, va="top", fontsize=30, fontweight="bold", linespacing=1.1)
        figure.text(0.05, 0.68, QUESTION, va="top", fontsize=15, color=figures.DARK, linespacing=1.35)
    return figure


def draw(root: Path, folder: Path) -> str:
    """Write the pictures into `folder` and return the logo's alt text."""
    world, lines = shipped_world(root)
    folder.mkdir(parents=True, exist_ok=True)
    for mode, name in LOGOS.items():
        (folder / name).write_text(logo(world, lines, INK[mode]), encoding="utf-8")
    (folder / ICON).write_text(icon(world, lines), encoding="utf-8")
    (folder / CARD).write_bytes(figures.png(card(world, lines)))
    return alt_text(lines)


def put_on(app: Sphinx, config: Config) -> None:
    """Draw the pictures beside the cached pages, and let the theme take them from there."""
    folder = Path(app.doctreedir) / "emblem"
    described = draw(Path(app.srcdir), folder)
    config.html_static_path.append(str(folder))
    config.html_favicon = str(folder / ICON)
    pictures = {f"image_{mode}": str(folder / name) for mode, name in LOGOS.items()}
    config.html_theme_options["logo"] = {**pictures, "alt_text": described, "text": config.html_title}


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the hook; Sphinx calls this."""
    app.connect("config-inited", put_on)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
