"""GapExplorer: a point in the plane of two abundances, and what trained readers make of its spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectral_tutorial import models
from spectral_tutorial.data import LOG_FLOOR
from spectral_tutorial.explorers import pictures
from spectral_tutorial.explorers.base import SpectrumShown
from spectral_tutorial.explorers.packing import unpack_layer
from spectral_tutorial.explorers.readers import NETWORK_COLOR, describe_transform, dressed, network_readers

if TYPE_CHECKING:
    from spectral_tutorial.experiment import Experiment

DOTS = 150
"""Test spectra that are marked in the plane, and half of the training spectra that are."""


class GapExplorer(SpectrumShown):
    """The networks of an experiment read the spectrum at any point of the abundance plane.

    Three networks are shown, chosen by rule: those with the lowest, the median and the highest OOD error of the y
    component at the last checkpoint, dead and diverged ones left out.

    Parameters
    ----------
    experiment : Experiment
        Trained on the way where it is not yet.
    readers : sequence of mapping
        Further readers, for instance of :func:`~spectral_tutorial.explorers.linear_reader`.
    abundance : list of two float
        Of the reported components, x first.
    temperature, noise : float
        In K, and relative to the flux.
    draw : int
        Which noise is shown.
    shown : list of str
        Names of the readers that are shown: ``"seed 123"``, say. All if none are named.
    """

    kind = "gap"
    shown = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(self, experiment: Experiment, *, readers: Sequence[Mapping[str, Any]] = (), **values: Any) -> None:
        payload = self._payload(experiment, readers)
        self._readers = {reader["name"]: reader for reader in payload["readers"]}
        start = {"payload": payload, "shown": list(self._readers)}
        super().__init__(experiment, **{**start, **values})

    @staticmethod
    def _payload(experiment: Experiment, readers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        networks = network_readers(experiment)
        transform = experiment.transform("network")
        names = [reader["name"] for reader in networks]
        low, high = experiment.config.spectra.sampling.abundance.range
        middle = low + 0.6 * (high - low)
        x, y = experiment.reported
        alone = [{"name": f"{x} alone", "at": [middle, low]}, {"name": f"{y} alone", "at": [low, middle]}]
        return {
            "reported": [x, y],
            "readers": dressed([*networks, *readers]),
            "transform": describe_transform(transform),
            "middle": names[(len(names) - 1) // 2],
            "seen": _some(experiment.data("train").of(x, y), 2 * DOTS),
            "held": _some(experiment.data("test").of(x, y), DOTS),
            "places": [*alone, {"name": f"{x} and {y}", "at": [middle, middle]}],
        }

    @traitlets.validate("shown")
    def _known_readers(self, proposal: Any) -> list[str]:
        unknown = set(proposal["value"]) - set(self._readers)
        if unknown:
            raise traitlets.TraitError(f"shown: found {sorted(unknown)}; expected some of {', '.join(self._readers)}")
        return [name for name in self._readers if name in proposal["value"]]

    def payload_options(self) -> Any:
        """Return the names of the further readers: which networks are chosen may change with their weights."""
        return [name for name, reader in self._readers.items() if reader["color"] != NETWORK_COLOR]

    @property
    def shown_lines(self) -> tuple[str, str]:
        """Labels of the two reported components."""
        return self.experiment.reported

    def readings(self) -> dict[str, NDArray[np.float64]]:
        """Return what each reader makes of the shown spectrum, from the weights as the page has them."""
        flux = self.spectrum().flux[0].astype(float)
        return {name: read(reader, self.payload["transform"], flux) for name, reader in self._readers.items()}

    @property
    def description(self) -> str:
        """The present state in words."""
        x, y = self.shown_lines
        told = [f"{name} reads {a:.2f} and {b:.2f}" for name, (a, b) in self.readings().items() if name in self.shown]
        place = f"{x} {self.abundance[0]:.2f}, {y} {self.abundance[1]:.2f}"
        return f"Plane of the abundances of {x} and {y}. At {place}, {'; '.join(told)}. Beside it the spectrum."

    def picture(self) -> Figure:
        """Draw the present state for readers without JavaScript."""
        readings = {name: values for name, values in self.readings().items() if name in self.shown}
        seen, held = (np.array(self.payload[name]) for name in ("seen", "held"))
        return pictures.gap(self.spectrum(), self.shown_lines, readings, seen, held)


def _some(points: NDArray[np.float64], count: int) -> list[list[float]]:
    rows = np.linspace(0, len(points) - 1, min(count, len(points))).astype(int)
    return [[round(float(value), 3) for value in points[row]] for row in rows]


def read(reader: Mapping[str, Any], transform: Mapping[str, Any], flux: NDArray[np.float64]) -> NDArray[np.float64]:
    """Do in NumPy what ``readers.network`` in ``common.js`` does: flux ``(W,)`` to two abundances."""
    own = reader.get("transform", transform)
    values = np.log(np.maximum(flux, LOG_FLOOR)) if own["log"] else flux
    values = (values - (np.array(own["mean"]) if own["mean"] else 0.0)) / own["scale"]
    layers = [unpack_layer(layer) for layer in reader["layers"]]
    activate = models.ACTIVATIONS[reader["activation"]]()
    for weights, bias in layers[:-1]:
        values = activate(torch.from_numpy(weights @ values + bias)).numpy()
    weights, bias = layers[-1]
    return weights @ values + bias
