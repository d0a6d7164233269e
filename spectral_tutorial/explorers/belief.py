"""BeliefExplorer: what an ideal observer makes of a star, depending on what it believes beforehand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import traitlets
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectral_tutorial import analysis
from spectral_tutorial.explorers import pictures
from spectral_tutorial.explorers.base import Explorer, describe_reported

if TYPE_CHECKING:
    from spectral_tutorial.estimators import BayesianObserver
    from spectral_tutorial.experiment import Experiment

Array = NDArray[np.float64]

DECADES = (8.0, 4.0, 2.0, 60.0)
"""How much more likely, in powers of ten, the shown stars are with both lines than with the best of the others."""

LEAST = 12
"""The smallest belief above never is 10 to minus this."""


class BeliefExplorer(Explorer):
    """An observer that knows the physics reads one star, with a slider for how often it believes both lines meet.

    The observer is :class:`~spectral_tutorial.estimators.BayesianObserver`, fitted to the oracle's spectra: for each
    set of lines it says how likely the spectrum is and what the abundances would be. The page weighs these with the
    prior. At a belief of 0 it is the observer that was fitted to the training spectra.

    Parameters
    ----------
    experiment : Experiment
        Whose spectra and whose observer.
    star : int
        Which star of the test split is shown, counted from 0 in the list of the figure.
    belief : float
        Prior probability that both lines are there, from 0 (never) to 1 (always).
    """

    kind = "belief"
    star = traitlets.Int(0).tag(sync=True)
    belief = traitlets.Float(0.0).tag(sync=True)

    def __init__(self, experiment: Experiment, **values: Any) -> None:
        super().__init__(experiment, **{"payload": self._payload(experiment), **values})

    @staticmethod
    def _payload(experiment: Experiment) -> dict[str, Any]:
        observer = cast("BayesianObserver", experiment.estimator("observer_oracle"))
        test = experiment.data(analysis.OOD_SPLIT).take(slice(0, 256))
        (evidence, mean), both = observer.weigh(test.flux), observer.present_.all(axis=1)
        decades = (evidence[:, both] - evidence[:, ~both].max(axis=1, keepdims=True)) / np.log(10.0)
        rows = [int(np.abs(decades[:, 0] - wanted).argmin()) for wanted in DECADES]
        evidence -= evidence.max(axis=1, keepdims=True)
        trained = cast("BayesianObserver", experiment.estimator("observer"))
        return {
            "reported": describe_reported(experiment),
            "range": list(experiment.config.spectra.sampling.abundance.range),
            "present": observer.present_.tolist(),
            "frequency": _shares(observer.present_, trained).tolist(),
            "levels": belief_levels().tolist(),
            "stars": [
                {
                    "truth": test.of(*experiment.reported)[row].round(4).tolist(),
                    "noise": round(float(test.noise_level[row]), 4),
                    "evidence": evidence[row].round(6).tolist(),
                    "mean": mean[row].round(6).tolist(),
                }
                for row in rows
            ],
        }

    @traitlets.validate("star")
    def _known_star(self, proposal: Any) -> int:
        return int(min(max(proposal["value"], 0), len(DECADES) - 1))

    @traitlets.validate("belief")
    def _probability(self, proposal: Any) -> float:
        return float(min(max(proposal["value"], 0.0), 1.0))

    def prior(self) -> Array:
        """Prior probabilities of the sets of lines, in the order of the payload's ``present``."""
        both = np.array(self.payload["present"]).all(axis=1)
        return np.where(both, self.belief, (1.0 - self.belief) * np.array(self.payload["frequency"]))

    def posterior(self) -> Array:
        """Probabilities of the sets of lines after the shown star was seen."""
        with np.errstate(divide="ignore"):  # what is held impossible
            logs = np.log(self.prior()) + self.payload["stars"][self.star]["evidence"]
        return cast(Array, np.exp(logs - np.logaddexp.reduce(logs)))

    def predicted(self) -> Array:
        """Posterior mean abundances of the two reported components."""
        return self.posterior() @ np.array(self.payload["stars"][self.star]["mean"])

    @property
    def description(self) -> str:
        """The present state in words."""
        shown, (x, y) = self.payload["stars"][self.star], (line["phrase"] for line in self.payload["reported"])
        told = " and ".join(f"{value:.2f} of {name}" for value, name in zip(self.predicted(), (x, y), strict=True))
        truth = " and ".join(f"{value:.2f}" for value in shown["truth"])
        return (
            f"An ideal observer that believes beforehand with probability {self.belief:g} that {x} and {y} are both "
            f"there predicts {told}; the truth is {truth}. Beside it what it believes before and after seeing the star."
        )

    def picture(self) -> Figure:
        """Draw the present state for pages without JavaScript."""
        shown, names = self.payload["stars"][self.star], [line["name"] for line in self.payload["reported"]]
        held = [
            "no line" if not any(present) else "both lines" if all(present) else f"{names[present.index(True)]} alone"
            for present in self.payload["present"]
        ]
        return pictures.belief(shown["truth"], self.predicted(), held, self.prior(), self.posterior(), names)


def belief_levels() -> Array:
    """Beliefs that the slider offers: never, from 1e-12 to near 1 by quarters of a decade in the odds, always."""
    odds = 10.0 ** np.arange(-LEAST, 2.01, 0.25)
    return np.array([0.0, *(float(f"{value:.6g}") for value in odds / (1.0 + odds)), 1.0])


def _shares(present: NDArray[np.bool_], trained: BayesianObserver) -> Array:
    """How often each set occurs in training, 0 for those that never do."""
    known = {tuple(sets): float(share) for sets, share in zip(trained.present_, trained.frequency_, strict=True)}
    return np.array([known.get(tuple(sets), 0.0) for sets in present])
