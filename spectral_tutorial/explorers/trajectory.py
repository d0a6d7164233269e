"""TrajectoryPlayer: how the predictions for the test spectra move while a network learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectral_tutorial import analysis
from spectral_tutorial.explorers import pictures
from spectral_tutorial.explorers.base import Explorer, describe_reported
from spectral_tutorial.explorers.packing import pack_range
from spectral_tutorial.explorers.predictors import extreme_seeds

if TYPE_CHECKING:
    from spectral_tutorial.experiment import Experiment

SPECTRA = 200
"""Test spectra whose predictions are shown."""


class TrajectoryPlayer(Explorer):
    """Predictions for some test spectra, checkpoint by checkpoint, beside the path of the errors.

    Parameters
    ----------
    experiment : Experiment
        Trained on the way where it is not yet.
    seed : int
        Training seed; the one with the median last error if none is named.
    checkpoint : int
        Number of the checkpoint, counted from 0; the last one at first, and what lies beyond it means the last.
    playing : bool
        Whether the figure moves by itself.
    """

    kind = "trajectory"
    seed = traitlets.Int().tag(sync=True)
    checkpoint = traitlets.Int().tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)

    def __init__(self, experiment: Experiment, **values: Any) -> None:
        payload = self._payload(experiment)
        self._seeds = [entry["seed"] for entry in payload["seeds"]]
        self._last = len(payload["steps"]) - 1
        ranked = list(extreme_seeds(experiment))
        start = {"payload": payload, "seed": ranked[(len(ranked) - 1) // 2], "checkpoint": self._last}
        super().__init__(experiment, **{**start, **values})

    @staticmethod
    def _payload(experiment: Experiment) -> dict[str, Any]:
        predictions = experiment.predictions()
        rows = np.linspace(0, len(predictions.truth) - 1, min(SPECTRA, len(predictions.truth))).astype(int)
        truth, values = predictions.truth[rows], predictions.values[:, :, rows]
        both, first = (experiment.trajectories(), experiment.seed_status()), experiment.config.meta.data_seed[0]
        table, statuses = (part[part["data_seed"] == first] for part in both)
        ranks, status = extreme_seeds(experiment), statuses.set_index("training_seed")["status"].to_dict()
        seeds = [{"seed": seed, "note": _note(ranks.get(seed), status[seed])} for seed in predictions.training_seeds]
        one = table[table["training_seed"] == predictions.training_seeds[0]].drop_duplicates("step")
        low, high = _domain(truth, values)
        errors = {split: _errors(table, split, predictions) for split in (analysis.ID_SPLIT, analysis.OOD_SPLIT)}
        return {
            "reported": describe_reported(experiment),
            "seeds": seeds,
            "steps": [int(step) for step in predictions.steps],
            "epochs": [round(float(epoch), 3) for epoch in one["epoch"]],
            "truth": np.round(truth, 3).tolist(),
            "domain": [low, high],
            "predictions": pack_range(values, low, high),
            "mse": errors,
        }

    @traitlets.validate("seed")
    def _known_seed(self, proposal: Any) -> int:
        if proposal["value"] not in self._seeds:
            valid = ", ".join(map(str, self._seeds))
            raise traitlets.TraitError(f"seed: found {proposal['value']}; expected one of {valid}")
        return int(proposal["value"])

    @traitlets.validate("checkpoint")
    def _known_checkpoint(self, proposal: Any) -> int:
        return int(min(max(proposal["value"], 0), self._last))

    @property
    def _place(self) -> tuple[int, int]:
        return self._seeds.index(self.seed), self.checkpoint

    @property
    def description(self) -> str:
        """The present state in words."""
        x, y = (line["phrase"] for line in self.payload["reported"])
        seed, checkpoint = self._place
        step = self.payload["steps"][checkpoint]
        known, held = (self.payload["mse"][split][seed][checkpoint][1] for split in ("val", "test"))
        return (
            f"Predictions of seed {self.seed} for test spectra at step {step:,} in the plane of {x} and {y}, and the "
            f"path of its errors: in {y} {known:.4f} in distribution, {held:.4f} on the held-out combination."
        )

    def picture(self) -> Figure:
        """Draw the present state for pages without JavaScript."""
        seed, checkpoint = self._place
        paths = {split: np.array(points[seed][: checkpoint + 1]) for split, points in self.payload["mse"].items()}
        predictions = self.experiment.predictions()
        truth = np.array(self.payload["truth"])
        rows = np.linspace(0, len(predictions.truth) - 1, len(truth)).astype(int)
        names = [line["name"] for line in self.payload["reported"]]
        return pictures.trajectory(truth, predictions.values[seed, checkpoint, rows], paths, names)


def _note(rank: str | None, status: str) -> str:
    return (rank or "") if status == "ok" else status


def _domain(truth: NDArray[np.float64], values: NDArray[np.float32]) -> tuple[float, float]:
    """Ends of both axes: the truth, and nearly all predictions, but never more than the truth's range again."""
    size = float(truth.max() - truth.min()) or 1.0
    low, high = np.nanpercentile(values, [0.5, 99.5])
    ends = max(low, truth.min() - size / 2), min(high, truth.max() + size / 2)
    return round(min(ends[0], truth.min()) - 0.08 * size, 2), round(max(ends[1], truth.max()) + 0.08 * size, 2)


def _errors(table: Any, split: str, predictions: Any) -> list[list[list[float]]]:
    """Errors of both components at each checkpoint of each seed, ``(S, C, 2)``, four digits."""
    part = table[table["split"] == split].set_index(["training_seed", "component", "step"])["mse"].sort_index()
    return [
        [[float(f"{part[seed, name, step]:.4g}") for name in predictions.components] for step in predictions.steps]
        for seed in predictions.training_seeds
    ]
