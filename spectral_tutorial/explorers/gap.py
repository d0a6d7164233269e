"""GapExplorer: a point in the plane of two abundances, and what trained networks predict for its spectrum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectral_tutorial import models
from spectral_tutorial.explorers import pictures
from spectral_tutorial.explorers.base import SpectrumShown, describe_reported
from spectral_tutorial.explorers.packing import unpack_layer
from spectral_tutorial.explorers.predictors import NETWORK_COLOR, describe_transform, dressed, network_predictors

if TYPE_CHECKING:
    from spectral_tutorial.experiment import Experiment

DOTS = 150
"""Test spectra that are marked in the plane, and half of the training spectra that are."""


class GapExplorer(SpectrumShown):
    """What the networks of an experiment predict for the spectrum at any point of the abundance plane.

    Three networks are shown, chosen by rule: those with the lowest, the median and the highest OOD error of the y
    component at the last checkpoint, dead and diverged ones left out.

    Parameters
    ----------
    experiment : Experiment
        Trained on the way where it is not yet.
    predictors : sequence of mapping
        Others to be shown beside them, for instance of :func:`~spectral_tutorial.explorers.linear_predictor`.
    ask : bool
        Whether a question comes first: what will the network predict when both lines are there?
    guess : {"", "same", "less", "more"}
        What was answered.
    abundance : list of two float
        Of the reported components, x first; only the first is there unless others are named.
    temperature, noise : float
        In K, and relative to the flux.
    draw : int
        Which noise is shown.
    shown : list of str
        Names of the networks and others that are shown: ``"seed 123"``, say. All if none are named.
    """

    kind = "gap"
    shown = traitlets.List(traitlets.Unicode()).tag(sync=True)
    ask = traitlets.Bool(False).tag(sync=True)
    guess = traitlets.Enum(["", "same", "less", "more"], "").tag(sync=True)

    def __init__(self, experiment: Experiment, *, predictors: Sequence[Mapping[str, Any]] = (), **values: Any) -> None:
        payload = self._payload(experiment, predictors)
        self._predictors = {one["name"]: one for one in payload["predictors"]}
        least = experiment.config.spectra.sampling.abundance.range[0]
        start = {"payload": payload, "shown": list(self._predictors), "abundance": [payload["level"], least]}
        super().__init__(experiment, **{**start, **values})

    @staticmethod
    def _payload(experiment: Experiment, predictors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        networks = network_predictors(experiment)
        low, high = experiment.config.spectra.sampling.abundance.range
        return {
            "reported": describe_reported(experiment),
            "predictors": dressed([*networks, *predictors]),
            "transform": describe_transform(experiment.transform("network")),
            "middle": networks[(len(networks) - 1) // 2]["name"],
            "seen": _some(experiment.data("train").of(*experiment.reported), 2 * DOTS),
            "held": _some(experiment.data("test").of(*experiment.reported), DOTS),
            "level": round(low + 0.6 * (high - low), 2),
        }

    @traitlets.validate("shown")
    def _known_predictors(self, proposal: Any) -> list[str]:
        unknown = set(proposal["value"]) - set(self._predictors)
        if unknown:
            known = ", ".join(self._predictors)
            raise traitlets.TraitError(f"shown: found {sorted(unknown)}; expected some of {known}")
        return [name for name in self._predictors if name in proposal["value"]]

    def payload_options(self) -> Any:
        """Return the names of what is not a network: which networks are chosen may change with their weights."""
        return [name for name, one in self._predictors.items() if one["color"] != NETWORK_COLOR]

    @property
    def shown_lines(self) -> tuple[str, str]:
        """Labels of the two reported components."""
        return self.experiment.reported

    def predicted(self) -> dict[str, NDArray[np.float64]]:
        """Return what each predicts for the shown spectrum, from the weights as the page has them."""
        flux = self.spectrum().flux[0].astype(float)
        return {name: predict(one, self.payload["transform"], flux) for name, one in self._predictors.items()}

    @property
    def description(self) -> str:
        """The present state in words."""
        x, y = (line["phrase"] for line in self.payload["reported"])
        told = [
            f"{name} predicts {a:.2f} and {b:.2f}" for name, (a, b) in self.predicted().items() if name in self.shown
        ]
        place = f"{x} {self.abundance[0]:.2f}, {y} {self.abundance[1]:.2f}"
        return f"Plane of the abundances of {x} and {y}. At {place}, {'; '.join(told)}. Beside it the spectrum."

    def picture(self) -> Figure:
        """Draw the present state for readers without JavaScript."""
        predicted = {name: values for name, values in self.predicted().items() if name in self.shown}
        seen, held = (np.array(self.payload[name]) for name in ("seen", "held"))
        names = [line["name"] for line in self.payload["reported"]]
        return pictures.gap(self.spectrum(), self.shown_lines, names, predicted, seen, held)


def _some(points: NDArray[np.float64], count: int) -> list[list[float]]:
    rows = np.linspace(0, len(points) - 1, min(count, len(points))).astype(int)
    return [[round(float(value), 3) for value in points[row]] for row in rows]


def predict(one: Mapping[str, Any], transform: Mapping[str, Any], flux: NDArray[np.float64]) -> NDArray[np.float64]:
    """Do in NumPy what ``makePredictor`` in ``common.js`` does: flux ``(W,)`` to two abundances."""
    own = one.get("transform", transform)
    values = np.log(np.maximum(flux, own["floor"])) if own["log"] else flux
    values = (values - (np.array(own["mean"]) if own["mean"] else 0.0)) / own["scale"]
    layers = [unpack_layer(layer) for layer in one["layers"]]
    activate = models.ACTIVATIONS[one["activation"]]()
    for weights, bias in layers[:-1]:
        values = activate(torch.from_numpy(weights @ values + bias)).numpy()
    weights, bias = layers[-1]
    return weights @ values + bias
