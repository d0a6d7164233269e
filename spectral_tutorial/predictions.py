"""What fitted methods predict on the evaluation splits: one form for networks and estimators.

Axes: ``S`` seeds, ``C`` checkpoints, ``N`` spectra, ``K`` reported components.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial.analysis import ID_SPLIT, Moments, trajectory_rows
from spectral_tutorial.data import Spectra, chunks


@dataclass(frozen=True)
class Predictor:
    """A method that was fitted: S networks at C checkpoints, or an estimator, where both are 1.

    Attributes
    ----------
    training_seeds : sequence
        The S seeds; one ``pandas.NA`` for an estimator.
    steps, epochs : array, shape (C,)
        Checkpoints.
    predict : callable
        From flux ``(n, W)`` to predictions ``(S, n, K)`` for each checkpoint in turn; outputs beyond the first K, the
        reported ones, are not looked at.
    status : callable
        From the last checkpoint's moments over ``val`` to what became of each seed.
    """

    training_seeds: Sequence[Any]
    steps: ArrayLike
    epochs: ArrayLike
    predict: Callable[[NDArray[np.float32]], Iterable[NDArray[Any]]]
    status: Callable[[Moments], list[str]]


def one_seed(predict: Callable[[NDArray[np.float32]], NDArray[Any]]) -> Predictor:
    """Give an estimator, from flux ``(n, W)`` to abundances ``(n, L)``, the axes of networks."""
    return Predictor([pd.NA], [0], [0], lambda flux: [predict(flux)[None]], lambda val: ["ok"])


@dataclass(frozen=True)
class Evaluation:
    """What a method predicted on some splits, and how wrong that is.

    Attributes
    ----------
    trajectory : DataFrame
        Columns ``TRAJECTORY_COLUMNS``.
    seed_status : DataFrame
        What became of each training seed.
    predictions : dict of str to array, shape (S, C, n, K)
        Of the first n spectra of each split, float32.
    """

    trajectory: pd.DataFrame
    seed_status: pd.DataFrame
    predictions: dict[str, NDArray[np.float32]]


def evaluate(
    fitted: Predictor, splits: Mapping[str, Spectra], reported: Sequence[str], kept: int, name: str, data_seed: int
) -> Evaluation:
    """Let a method read some splits, ``val`` among them, and keep the predictions of the first `kept` spectra."""
    moments, predictions, tables = {}, {}, []
    for split, spectra in splits.items():
        moments[split], predictions[split] = _read(fitted, spectra, reported, kept)
        rows = trajectory_rows(
            moments[split],
            split=split,
            method=name,
            data_seed=data_seed,
            training_seeds=fitted.training_seeds,
            steps=fitted.steps,
            epochs=fitted.epochs,
            components=reported,
        )
        tables.append(rows)
    status = fitted.status(moments[ID_SPLIT][-1])
    seeds = {"method": name, "data_seed": data_seed, "training_seed": list(fitted.training_seeds), "status": status}
    return Evaluation(pd.concat(tables), pd.DataFrame(seeds), predictions)


def _read(
    fitted: Predictor, spectra: Spectra, reported: Sequence[str], kept: int
) -> tuple[list[Moments], NDArray[np.float32]]:
    truth, n_seeds, n_steps = spectra.of(*reported), len(fitted.training_seeds), np.size(fitted.steps)
    values = np.empty((n_seeds, n_steps, min(len(spectra), kept), len(reported)), np.float32)
    moments = [Moments((n_seeds, len(reported))) for _ in range(n_steps)]
    for rows in chunks(len(spectra), kept):
        for place, predicted in enumerate(fitted.predict(spectra.flux[rows])):
            moments[place].add(truth[rows], predicted[..., : len(reported)])
            if rows.start == 0:
                values[:, place] = predicted[..., : len(reported)]
    return moments, values


@dataclass(frozen=True)
class Predictions:
    """What a method predicted.

    Attributes
    ----------
    training_seeds : tuple of int
        The S seeds; none for an estimator, where S is 1.
    steps : array, shape (C,)
        Optimizer steps at the checkpoints.
    truth : array, shape (N, K)
        True abundances of the reported components.
    values : array, shape (S, C, N, K)
        Predicted abundances, float32.
    components : tuple of str
        Labels of the K reported components.
    """

    training_seeds: tuple[int, ...]
    steps: NDArray[np.int64]
    truth: NDArray[np.float64]
    values: NDArray[np.float32]
    components: tuple[str, ...]

    @property
    def last(self) -> NDArray[np.float32]:
        """Predictions at the last checkpoint, shape ``(S, N, K)``."""
        return self.values[:, -1]
