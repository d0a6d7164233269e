"""What all explorers have in common: their JavaScript, their values, and how they appear in a built page."""

from __future__ import annotations

import base64
import html
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectral_tutorial import figures, store
from spectral_tutorial.data import Spectra

if TYPE_CHECKING:
    from spectral_tutorial.experiment import Experiment
    from spectral_tutorial.sections import Line

BOOK_VARIABLE = "SPECTRAL_TUTORIAL_BOOK"
"""Set while a book is built, to the folder where explorers leave what their page must load."""

HERE = Path(__file__).parent
CSS = (HERE / "explorers.css").read_text(encoding="utf-8")


PARTS = {"playground": ("playground_state", "playground_charts", "playground_controls", "playground")}
"""Files that make up an explorer of several."""

CARRIED = {"playground": {"WORKER": "playground_worker.js", "KERNELS": "playground.wasm"}}
"""Files that an explorer carries along as constants of its module: text as it is, bytes in base64."""


def module_text(kind: str) -> str:
    """Return the text of an explorer's ES module: what all share, what it carries along, then its own."""
    carried = [f"const {name} = {json.dumps(_carried(HERE / file))};" for name, file in CARRIED.get(kind, {}).items()]
    own = [(HERE / f"{name}.js").read_text(encoding="utf-8") for name in ("common", *PARTS.get(kind, (kind,)))]
    return "\n".join([own[0], *carried, *own[1:]])


def _carried(path: Path) -> str:
    content = path.read_bytes()
    return base64.b64encode(content).decode() if path.suffix == ".wasm" else content.decode()


def css_text(kind: str) -> str:
    """Return the style of an explorer: what all share, then its own if it has some."""
    own = HERE / f"{kind}.css"
    return CSS + own.read_text(encoding="utf-8") if own.exists() else CSS


def book_folder() -> Path | None:
    """Return the folder for payloads while a book is built, and None otherwise."""
    folder = os.environ.get(BOOK_VARIABLE)
    return Path(folder) if folder else None


def json_for_page(value: Any) -> str:
    """Write plain values as JSON that can stand inside a ``<script>``: no text in it can close the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def picture_tag(figure: Figure, description: str) -> str:
    """Return a figure as an ``<img>`` that carries its own data."""
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{_png(figure)}">'


def _png(figure: Figure) -> str:
    return base64.b64encode(figures.png(figure)).decode()


def describe_line(experiment: Experiment, label: str) -> dict[str, str]:
    """Say what a line is called: its label, its name in figures (plot_config.names) and that name in a sentence."""
    name = experiment.names[label]
    return {"label": label, "name": name, "phrase": name if name == label else f"the {name}"}


def describe_reported(experiment: Experiment) -> list[dict[str, str]]:
    """Say what the two reported components are called, x first."""
    return [describe_line(experiment, label) for label in experiment.reported]


def describe_world(experiment: Experiment) -> dict[str, Any]:
    """Describe the forward model and its ranges for ``makeWorld`` in ``common.js``."""
    spectra = experiment.config.spectra
    sampling = spectra.sampling
    return {
        "wavelength_min": spectra.wavelength_min,
        "wavelength_max": spectra.wavelength_max,
        "n_bins": spectra.n_bins,
        "line_law": spectra.line_law,
        "noise_power": experiment.world.noise_power,
        "lines": [_shape(experiment, line) | describe_line(experiment, line.label) for line in spectra.lines],
        "ranges": {
            "temperature": list(sampling.temperature.range),
            "noise": list(sampling.noise.range),
            "abundance": list(sampling.abundance.range),
        },
    }


def _shape(experiment: Experiment, line: Line) -> dict[str, Any]:
    """Center, width and strength of a line; one with a measured profile has that on the grid, as in a World."""
    shape = line.model_dump(mode="json", include={"center", "width", "strength"}, exclude_none=True)
    if line.profile is not None:
        world, (k,) = experiment.world, experiment.world.index([line.label])
        shape = {"center": float(world.wavelength[world.profiles[k].argmax()]), "strength": float(world.strength[k])}
        shape["profile"] = world.profiles[k].round(5).tolist()
    return shape


def standard_normal(draw: int, n: int) -> NDArray[np.float64]:
    """Return the n standard normal numbers of a draw, the same as the function of this name in ``common.js``.

    The pages need noise that Python can repeat; nothing that is trained or measured uses it.
    """
    counter = np.arange(1, 2 * n + 1, dtype=np.uint64)
    word = np.uint64(0xFFFFFFFF)
    a = (np.uint64((draw + 1) * 0x9E3779B1 & 0xFFFFFFFF) + counter * np.uint64(0x6D2B79F5)) & word
    t = ((a ^ (a >> np.uint64(15))) * (a | np.uint64(1))) & word
    t ^= (t + (((t ^ (t >> np.uint64(7))) * (t | np.uint64(61))) & word)) & word
    uniform = ((t ^ (t >> np.uint64(14))).astype(float) + 0.5) / 2**32
    radius = np.sqrt(-2.0 * np.log(uniform[0::2]))
    return radius * np.cos(2.0 * np.pi * uniform[1::2])


class Explorer(anywidget.AnyWidget):
    """An interactive figure of an experiment.

    In a notebook with a kernel it is a widget: its traits are what its sliders say, both ways; where no widgets are
    drawn, as on GitHub, there is a picture of the state in which it was displayed. While a book is built it opens no
    connection to a kernel and shows itself as HTML: its values, and a picture of them for pages without JavaScript,
    which the page's script replaces.

    Parameters
    ----------
    experiment : Experiment
        Where everything that is shown comes from.
    **values
        Initial values of the traits.
    """

    kind = ""
    """Name of the JavaScript file and of the scripts in a built site."""

    payload = traitlets.Dict().tag(sync=True)
    """What the figure needs and nothing changes: large, and shared by all pages of a site that show the same."""

    def __init__(self, experiment: Experiment, **values: Any) -> None:
        self.experiment = experiment
        super().__init__(**values)

    def __init_subclass__(cls, **options: Any) -> None:
        if "kind" in vars(cls):  # not for the classes that traitlets derives at run time
            cls._esm = module_text(cls.kind)
            cls._css = css_text(cls.kind)
        super().__init_subclass__(**options)

    def open(self) -> None:
        """Open the connection to the page, unless a book is built: there is nobody at the other end."""
        if book_folder() is None:
            super().open()

    def picture(self) -> Figure:
        """Draw the present state for pages without JavaScript."""
        raise NotImplementedError

    @property
    def description(self) -> str:
        """The present state in words."""
        raise NotImplementedError

    def values(self) -> dict[str, Any]:
        """Return the synced values of the figure, the payload left out."""
        names = [name for name in self.traits(sync=True) if not name.startswith("_")]
        own = set(names) - {"payload", "layout", "tabbable", "tooltip", "comm"}
        return {name: getattr(self, name) for name in sorted(own)}

    def payload_key(self) -> str:
        """Name the payload: by kind and configuration, not by content, since cached pages must find the next one."""
        sections = self.experiment.config.as_dict()
        return f"{self.kind}-{store.fingerprint(sections, self.payload_options())[:10]}"

    def payload_options(self) -> Any:
        """Return what distinguishes two payloads of the same configuration, as plain values."""
        return None

    def page_html(self, folder: Path) -> str:
        """Return the figure as it stands in a built page, leaving its payload in `folder` for the extension."""
        key = ""
        if self.payload:
            key = self.payload_key()
            store.write_atomically(folder / f"{key}.json", json_for_page(self.payload).encode())
        return (
            f'<div class="spectral-explorer" data-explorer="{self.kind}" data-payload="{key}">'
            f"{picture_tag(self.picture(), self.description)}"
            f'<script type="application/json">{json_for_page(self.values())}</script></div>'
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        folder = book_folder()
        if folder is None:
            data, metadata = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
            return {**data, "image/png": _png(self.picture())}, metadata  # for viewers that draw no widgets
        return {"text/plain": repr(self), "text/html": self.page_html(folder)}, {}

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.values().items() if name != "world")
        return f"{type(self).__name__}({inside})"


class SpectrumShown(Explorer):
    """An explorer that shows one spectrum: temperature (K), noise level and the draw of its noise.

    Values outside the ranges of ``synthetic_spectra.yaml`` are moved to their ends.
    """

    world = traitlets.Dict().tag(sync=True)
    temperature = traitlets.Float().tag(sync=True)
    noise = traitlets.Float().tag(sync=True)
    draw = traitlets.Int(0).tag(sync=True)
    abundance = traitlets.List(traitlets.Float(), minlen=2, maxlen=2).tag(sync=True)

    def __init__(self, experiment: Experiment, **values: Any) -> None:
        world = describe_world(experiment)
        self._ranges = {name: tuple(ends) for name, ends in world["ranges"].items()}
        self._ranges["noise"] = (0.0, self._ranges["noise"][1])  # a figure may show what noise hides
        start = {"temperature": 5000.0, "noise": 0.03, "abundance": [0.6, 0.6], "world": world}
        super().__init__(experiment, **{**start, **values})

    @traitlets.validate("temperature", "noise")
    def _within_range(self, proposal: Any) -> float:
        low, high = self._ranges[proposal["trait"].name]
        return float(min(max(proposal["value"], low), high))

    @traitlets.validate("abundance")
    def _abundance_within_range(self, proposal: Any) -> list[float]:
        low, high = self._ranges["abundance"]
        return [float(min(max(value, low), high)) for value in proposal["value"]]

    @property
    def shown_lines(self) -> tuple[str, str]:
        """Labels of the two lines whose abundances are shown."""
        raise NotImplementedError

    def spectrum(self) -> Spectra:
        """Return the spectrum that the figure shows, as one row of :class:`~spectral_tutorial.data.Spectra`."""
        world = self.experiment.world
        abundance = np.zeros((1, len(world.labels)))
        abundance[0, world.index(self.shown_lines)] = self.abundance
        flux = world.mean_flux([self.temperature], abundance)
        flux += self.noise * flux**world.noise_power * standard_normal(self.draw, flux.shape[1])
        return Spectra.from_arrays(
            world.wavelength,
            flux,
            abundance=abundance,
            temperature=[self.temperature],
            noise_level=[self.noise],
            labels=world.labels,
        )
