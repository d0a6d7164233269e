"""SpectrumExplorer: what temperature, noise and two lines make of a spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets
from matplotlib.figure import Figure

from spectral_tutorial.explorers import pictures
from spectral_tutorial.explorers.base import SpectrumShown, describe_line

if TYPE_CHECKING:
    from spectral_tutorial.experiment import Experiment


class SpectrumExplorer(SpectrumShown):
    """A spectrum of two lines, as flux and as its logarithm, with sliders for all that it is made of.

    Parameters
    ----------
    experiment : Experiment
        Whose lines and ranges are used.
    temperature, noise : float
        In K, and relative to the flux.
    lines : list of two str
        Labels of the two lines; the reported components if none are named.
    abundance : list of two float
        Of the two lines.
    draw : int
        Which noise is shown.
    """

    kind = "spectrum"
    lines = traitlets.List(traitlets.Unicode(), minlen=2, maxlen=2).tag(sync=True)

    def __init__(self, experiment: Experiment, **values: Any) -> None:
        labels = experiment.world.labels
        if len(labels) < 2:
            raise ValueError(f"found {len(labels)} line; expected at least two for SpectrumExplorer")
        super().__init__(experiment, **{"lines": list(experiment.reported), **values})

    @traitlets.validate("lines")
    def _two_known_lines(self, proposal: Any) -> list[str]:
        lines = [str(label) for label in proposal["value"]]
        labels = self.experiment.world.labels
        if len(set(lines)) < 2 or not set(lines) <= set(labels):
            raise traitlets.TraitError(f"lines: found {lines}; expected two different ones of {', '.join(labels)}")
        return lines

    @property
    def shown_lines(self) -> tuple[str, str]:
        """Labels of the two lines."""
        return self.lines[0], self.lines[1]

    @property
    def description(self) -> str:
        """The present state in words."""
        called = [describe_line(self.experiment, label)["phrase"] for label in self.lines]
        parts = [f"{phrase} at abundance {value:.2f}" for phrase, value in zip(called, self.abundance, strict=True)]
        return (
            f"Spectrum of {self.temperature:,.0f} K with {' and '.join(parts)}, as flux and as log flux, "
            "with the continuum and each line's own imprint."
        )

    def picture(self) -> Figure:
        """Draw the present state for pages without JavaScript."""
        names = [describe_line(self.experiment, label)["name"] for label in self.lines]
        return pictures.spectrum(self.experiment.world, self.spectrum(), self.shown_lines, names)
