"""What networks and methods answer on the judged splits, and the files that keep it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial import analysis, data, store
from spectral_tutorial.analysis import Moments
from spectral_tutorial.data import Spectra

KEPT_SPECTRA = 4096
"""Spectra of a split whose predictions are kept; errors are measured on all of them."""

Read = Callable[[NDArray[np.float32]], Iterable[NDArray[Any]]]
"""From flux ``(n, W)`` to an answer ``(S, n, K)`` for each checkpoint in turn."""


@dataclass(frozen=True)
class Respondent:
    """Who answers: the networks of a variant at all their checkpoints, or a method.

    Attributes
    ----------
    name : str
        The variant or the method.
    data_seed : int
        Of the spectra that it learned from, and of those that it reads.
    training_seeds : sequence
        The S seeds; one ``pandas.NA`` for a method.
    steps, epochs : array, shape (C,)
        Checkpoints; one for a method.
    components : tuple of str
        Labels of the K components that are asked for.
    read : Read
        Gives the answers.
    status : callable
        From the last checkpoint's moments over ``val`` to what became of each seed.
    """

    name: str
    data_seed: int
    training_seeds: Sequence[Any]
    steps: ArrayLike
    epochs: ArrayLike
    components: tuple[str, ...]
    read: Read
    status: Callable[[Moments], list[str]]

    def write(self, folder: Path, splits: Mapping[str, Spectra]) -> None:
        """Read the splits; leave ``trajectory.csv``, ``seed_status.csv`` and ``predictions-SPLIT.npy`` in `folder`."""
        moments = {name: self._answer(spectra, folder / f"predictions-{name}.npy") for name, spectra in splits.items()}
        tables = [
            analysis.trajectory_rows(
                found,
                split=split,
                variant=self.name,
                data_seed=self.data_seed,
                training_seeds=self.training_seeds,
                steps=self.steps,
                epochs=self.epochs,
                components=self.components,
            )
            for split, found in moments.items()
        ]
        pd.concat(tables).to_csv(folder / "trajectory.csv", index=False)
        seeds = {"variant": self.name, "data_seed": self.data_seed, "training_seed": list(self.training_seeds)}
        status = self.status(moments[analysis.ID_SPLIT][-1])
        pd.DataFrame({**seeds, "status": status}).to_csv(folder / "seed_status.csv", index=False)

    def _answer(self, spectra: Spectra, kept: Path) -> list[Moments]:
        """Read a split; return moments, an entry a checkpoint, and keep the first answers in a file."""
        truth, n_seeds, n_steps = spectra.of(*self.components), len(self.training_seeds), np.size(self.steps)
        shape = (n_seeds, n_steps, min(len(spectra), KEPT_SPECTRA), len(self.components))
        values = store.create_array(kept, shape, np.dtype(np.float32))
        moments = [Moments((n_seeds, len(self.components))) for _ in range(n_steps)]
        for rows in data.chunks(len(spectra), KEPT_SPECTRA):
            for place, predicted in enumerate(self.read(spectra.flux[rows])):
                moments[place].add(truth[rows], predicted)
                if rows.start == 0:
                    values[:, place] = predicted
        return moments
