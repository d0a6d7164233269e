"""Predictions in, tidy tables out: the only place where an error is defined.

Everything is reported for each component on its own (a mean over twenty outputs, eighteen of them always zero, would
make every error look ten times smaller) and over seeds by median and quartiles. Runs that are dead or diverged are
named and counted, and kept out of medians; those that are unfinished are named and counted, and take part.

Axes: ``S`` seeds, ``C`` checkpoints, ``N`` spectra, ``K`` reported components.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial.data import Spectra, chunks

Array = NDArray[np.float64]

ID_SPLIT, OOD_SPLIT = "val", "test"
"""The split that follows the training distribution (in-distribution), and the one that does not."""

DEAD_STD = 1e-3
"""A network whose outputs for all reported components vary less than this over ``val`` answers with a constant."""

UNFINISHED_FACTOR = 10.0  #: a run whose final loss is above this many times that of a constant has learned little yet
LIVE = ("ok", "unfinished")  #: what may become of a run whose predictions say something: only these enter medians
THIRDS = ("quietest", "middle", "noisiest")  #: of the noise level, see :func:`ratio_by_noise`
TRAJECTORY_COLUMNS = [
    "method", "data_seed", "training_seed", "checkpoint", "step", "epoch", "split", "component",
    "mse", "bias", "slope",
]  # fmt: skip
REPORT_COLUMNS = [
    "method", "component", "split", "n_data_seeds", "n_training_seeds", "n_dead", "n_diverged", "n_unfinished",
    "mse_median", "mse_low", "mse_high", "crlb", "ratio_to_crlb", *THIRDS,
]  # fmt: skip


FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  #: borders of five equal ranges of abundance


class Moments:
    """Sums over spectra from which error, bias and slope follow, so that spectra can come in blocks.

    Its shape is that of predictions without the axis of spectra, ``(S, K)`` say.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.n = 0
        self.error, self.square, self.cross, self.output, self.output_square = (np.zeros(shape) for _ in range(5))
        self.truth, self.truth_square = np.zeros(shape[-1]), np.zeros(shape[-1])

    def add(self, truth: ArrayLike, predicted: ArrayLike) -> None:
        """Take in a block: `truth` ``(n, K)`` and `predicted` ``(..., n, K)``."""
        truth, predicted = np.asarray(truth, float), np.asarray(predicted, float)
        # Runs that diverge may overflow here; their infinities are the finding, not a mistake.
        with np.errstate(over="ignore", invalid="ignore"):
            error = predicted - truth
            self.error += error.sum(axis=-2)
            self.square += np.square(error).sum(axis=-2)
            self.cross += (predicted * truth).sum(axis=-2)
            self.output += predicted.sum(axis=-2)
            self.output_square += np.square(predicted).sum(axis=-2)
        self.truth += truth.sum(axis=0)
        self.truth_square += np.square(truth).sum(axis=0)
        self.n += len(truth)

    @property
    def mse(self) -> Array:
        """Mean squared error: the mean of (predicted - true)^2."""
        return self.square / self.n

    @property
    def bias(self) -> Array:
        """Mean of predicted - true."""
        return self.error / self.n

    @property
    def slope(self) -> Array:
        """Slope of the least-squares line of predicted on true: 1 is right, 0 ignores the component.

        The covariance of predicted and true over the variance of true; NaN where the truth does not vary.
        """
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            covariance = self.cross / self.n - self.output / self.n * (self.truth / self.n)
            variance = self.truth_square / self.n - np.square(self.truth / self.n)
            varies = variance > 1e-12 * self.truth_square / self.n  # below that it is rounding
            slope: Array = covariance / np.where(varies, variance, np.nan)
        return slope

    @property
    def output_std(self) -> Array:
        """Standard deviation of the predictions over spectra."""
        with np.errstate(over="ignore", invalid="ignore"):
            variance = self.output_square / self.n - np.square(self.output / self.n)
        # Rounding can leave a constant output with a variance of -1e-17.
        return np.sqrt(np.maximum(variance, 0.0))


@dataclass(frozen=True)
class Predictor:
    """A method that was fitted: S networks at C checkpoints, or an estimator, where both are 1."""

    training_seeds: Sequence[Any]  #: the S seeds; one ``pandas.NA`` for an estimator
    steps: ArrayLike  #: ``(C,)``, of the checkpoints
    epochs: ArrayLike  #: ``(C,)``
    #: from flux ``(n, W)`` to ``(S, n, K)`` for each checkpoint in turn; what follows the K reported is not looked at
    predict: Callable[[NDArray[np.float32]], Iterable[NDArray[Any]]]
    status: Callable[[Moments], list[str]]  #: from the last checkpoint's moments over ``val`` to each seed's status


def one_seed(predict: Callable[[NDArray[np.float32]], NDArray[Any]]) -> Predictor:
    """Give an estimator, from flux ``(n, W)`` to abundances ``(n, L)``, the axes of networks."""
    return Predictor([pd.NA], [0], [0], lambda flux: [predict(flux)[None]], lambda val: ["ok"])


def evaluate(
    fitted: Predictor, splits: Mapping[str, Spectra], reported: Sequence[str], kept: int, method: str, data_seed: int
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, NDArray[np.float32]]]:
    """Let a method read some splits, ``val`` among them, in blocks of `kept` spectra.

    Returns a table of :func:`trajectory_rows`, one of what became of each training seed, and the predictions
    ``(S, C, n, K)`` of the first n = `kept` spectra of each split.
    """
    n_seeds, n_steps, n_reported = len(fitted.training_seeds), np.size(fitted.steps), len(reported)
    tables, predictions = [], {}
    for split, spectra in splits.items():
        truth, flux = spectra.of(*reported), spectra.flux
        moments = [Moments((n_seeds, n_reported)) for _ in range(n_steps)]
        predictions[split] = np.empty((n_seeds, n_steps, min(len(flux), kept), n_reported), np.float32)
        for rows in chunks(len(flux), kept):
            for checkpoint, predicted in enumerate(fitted.predict(flux[rows])):
                moments[checkpoint].add(truth[rows], predicted[..., :n_reported])
                if rows.start == 0:
                    predictions[split][:, checkpoint] = predicted[..., :n_reported]
        tables.append(trajectory_rows(moments, fitted, split, reported))
        if split == ID_SPLIT:
            status = pd.DataFrame({"training_seed": list(fitted.training_seeds), "status": fitted.status(moments[-1])})
    trajectory = pd.concat(tables)
    for table in (trajectory, status):
        table.insert(0, "data_seed", data_seed)
        table.insert(0, "method", method)
    return trajectory, status, predictions


def trajectory_rows(
    moments: Sequence[Moments], fitted: Predictor, split: str, components: Sequence[str]
) -> pd.DataFrame:
    """Error, bias and slope at every checkpoint of every seed, a row each, all ``TRAJECTORY_COLUMNS`` but two.

    `moments` holds one entry a checkpoint, with axes ``(S, K)``.
    """
    measured = {name: np.stack([getattr(m, name) for m in moments], axis=1) for name in ("mse", "bias", "slope")}
    s, c, k = np.indices(measured["mse"].shape).reshape(3, -1)
    return pd.DataFrame(
        {
            "training_seed": pd.array(list(fitted.training_seeds), dtype="Int64")[s],
            "checkpoint": c,
            "step": np.asarray(fitted.steps)[c],
            "epoch": np.asarray(fitted.epochs)[c],
            "split": split,
            "component": np.asarray(components, dtype=object)[k],
            **{name: values.ravel() for name, values in measured.items()},
        }
    )


@dataclass(frozen=True)
class Predictions:
    """What a method predicted."""

    training_seeds: tuple[int, ...]  #: the S seeds; none for an estimator, where S is 1
    steps: NDArray[np.int64]  #: ``(C,)``, optimizer steps at the checkpoints
    truth: NDArray[np.float64]  #: ``(N, K)``, true abundances of the reported components
    values: NDArray[np.float32]  #: ``(S, C, N, K)``, predicted abundances
    components: tuple[str, ...]  #: labels of the K reported components

    @property
    def last(self) -> NDArray[np.float32]:
        """Predictions at the last checkpoint, shape ``(S, N, K)``."""
        return self.values[:, -1]


def slope_by_other_abundance(truth: ArrayLike, predicted: ArrayLike, edges: Sequence[float] = FIFTHS) -> pd.Series:
    """Slope of predicted on true abundance of the second component, by how much there is of the first.

    From true abundances ``(N, 2)`` and predictions ``(S, N, 2)``: the median over seeds in each range of the first
    component's abundance, named by its borders.
    """
    truth, predicted, slopes = np.asarray(truth, float), np.asarray(predicted, float), {}
    for low, high in pairwise(edges):
        rows = (truth[:, 0] >= low) & (truth[:, 0] < high)
        moments = Moments((len(predicted), 1))
        moments.add(truth[rows, 1:], predicted[:, rows, 1:])
        slopes[f"{low:.1f} to {high:.1f}"] = float(np.median(moments.slope))
    return pd.Series(slopes, name="slope")


def classify(output_std: ArrayLike, val_loss: ArrayLike, constant_loss: float) -> list[str]:
    """Say of each seed whether it is ``ok``, ``dead``, ``diverged`` or ``unfinished``.

    A run has diverged if a loss is not finite, or the last one is larger than the first: it ended worse than it began.
    It is dead if it answers with a constant, and unfinished if it got better and is still far from a constant's loss.
    Judged on ``val``: by the standard deviation ``(S, K)`` of the final predictions, the loss ``(S, C)`` at the
    checkpoints, the first of them before any step, and the loss of always predicting the training mean.
    """
    dead = (np.asarray(output_std, float) < DEAD_STD).all(axis=1)
    losses = np.asarray(val_loss, float)
    diverged = ~np.isfinite(losses).all(axis=1) | (losses[:, -1] > losses[:, 0])
    unfinished = losses[:, -1] > UNFINISHED_FACTOR * constant_loss
    return np.select([diverged, dead, unfinished], ["diverged", "dead", "unfinished"], "ok").tolist()


def final(trajectories: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of each run's last checkpoint: the one that is reported, never the best."""
    last = trajectories.groupby(["method", "data_seed"])["step"].transform("max")
    return trajectories[trajectories["step"] == last].reset_index(drop=True)


def with_status(trajectories: pd.DataFrame, seed_status: pd.DataFrame) -> pd.DataFrame:
    """Add the column ``status`` of each run; methods without training seeds match each other by having none."""
    return trajectories.merge(seed_status, on=["method", "data_seed", "training_seed"], validate="many_to_one")


def alive(status: pd.DataFrame, data_seed: int) -> NDArray[np.bool_]:
    """Which training seeds of a data seed are neither dead nor diverged, shape ``(S,)``."""
    return status.loc[status["data_seed"] == data_seed, "status"].isin(LIVE).to_numpy()


def live(trajectories: pd.DataFrame, seed_status: pd.DataFrame) -> pd.DataFrame:
    """Keep the rows of runs whose status is one of ``LIVE``: neither dead nor diverged."""
    runs = with_status(trajectories, seed_status)
    return runs[runs["status"].isin(LIVE)].drop(columns="status").reset_index(drop=True)


def gap_report(
    errors: pd.DataFrame, bound: Mapping[tuple[int, str, str], float], by_noise: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Final error of each method, component and split: median and quartiles over live runs, beside the bound.

    `errors` has the rows of last checkpoints, see :func:`final`, with the runs' status; `bound` the mean Cramér-Rao
    bound by data seed, split and component; `by_noise` the ratios on ``test`` by method and component, see
    :func:`pooled_ratio_by_noise`. The columns are ``REPORT_COLUMNS``; medians are NaN where no run lived, and the
    thirds on splits other than ``test``.
    """
    rows = []
    for (method, component, split), group in errors.groupby(["method", "component", "split"], sort=False):
        low, median, high = quantiles(group.loc[group["status"].isin(LIVE), "mse"])
        data_seeds = group["data_seed"].unique()
        crlb = np.mean([bound.get((seed, str(split), str(component)), np.nan) for seed in data_seeds])
        counts = [len(data_seeds), group["training_seed"].nunique()]
        named = [int((group["status"] == kind).sum()) for kind in ("dead", "diverged", "unfinished")]
        rows.append([method, component, split, *counts, *named, median, low, high, crlb, over_bound(median, crlb)])
    report = pd.DataFrame(rows, columns=[name for name in REPORT_COLUMNS if name not in THIRDS])
    if by_noise is not None:
        thirds = by_noise[["method", "component", *THIRDS]].assign(split=OOD_SPLIT)
        report = report.merge(thirds, "left", ["method", "component", "split"])
    return report.reindex(columns=REPORT_COLUMNS)


def quantiles(values: Any, shares: Sequence[float] = (0.25, 0.5, 0.75)) -> Any:
    """Quantiles of a Series, or of each column of a DataFrame; infinite at and below infinite values."""
    with np.errstate(invalid="ignore"):  # pandas subtracts one infinity from another
        between, above = values.quantile([*shares]), values.quantile([*shares], interpolation="higher")
    return between.where(~np.isinf(above), np.inf).fillna(above)


def over_bound(error: ArrayLike, bound: ArrayLike) -> Array:
    """Error over the Cramér-Rao bound: 0 where the bound is infinite, infinite where it is 0, NaN where both are 0."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.asarray(error, float) / np.asarray(bound, float)


def ratio_by_noise(squared_error: ArrayLike, bound: ArrayLike, noise_level: ArrayLike) -> pd.DataFrame:
    """Squared error over the Cramér-Rao bound, both ``(N, K)``, by thirds of the true noise level ``(N,)``.

    The ratio of the two means, ``all``, is ruled by the noisiest spectra, where both are largest; so the mean of the
    ratios stands beside it for each third. A row for each of the K; columns all, quietest, middle, noisiest, NaN where
    fewer than three spectra leave a third empty.
    """
    squared_error, bound = np.asarray(squared_error, float), np.asarray(bound, float)
    thirds = np.array_split(np.argsort(np.asarray(noise_level, float), kind="stable"), 3)
    ratio = {"all": over_bound(squared_error.mean(axis=0), bound.mean(axis=0))}
    for name, rows in zip(THIRDS, thirds, strict=True):
        none = np.full(bound.shape[1], np.nan)
        ratio[name] = over_bound(squared_error[rows], bound[rows]).mean(axis=0) if rows.size else none
    return pd.DataFrame(ratio)


def pooled_ratio_by_noise(parts: Sequence[tuple[Array, Array, Array]]) -> pd.DataFrame:
    """Pool :func:`ratio_by_noise` over data seeds, errors averaged over training seeds first.

    Of squared error ``(S, N, K)``, bound ``(N, K)`` and noise level ``(N,)`` of each data seed, S live runs or none.
    The columns low and high are quartiles of what ``all`` is for each live run by itself.
    """
    means = [error.mean(axis=0) if len(error) else np.full(bound.shape, np.nan) for error, bound, _ in parts]
    bounds, noise = (np.concatenate([part[place] for part in parts]) for place in (1, 2))
    table = ratio_by_noise(np.concatenate(means), bounds, noise)
    alone = np.concatenate([over_bound(error.mean(axis=1), bound.mean(axis=0)) for error, bound, _ in parts])
    low, high = quantiles(pd.DataFrame(alone), (0.25, 0.75)).to_numpy()
    table.insert(1, "low", low)
    table.insert(2, "high", high)
    return table
