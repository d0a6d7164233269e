"""What can be asked of the stages behind an experiment: spectra, losses, predictions and tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectral_tutorial import analysis, limits, store
from spectral_tutorial.config import Config
from spectral_tutorial.data import Spectra
from spectral_tutorial.methods import METHODS, Reader
from spectral_tutorial.physics import World
from spectral_tutorial.pipeline import KEPT_SPECTRA, Pipeline
from spectral_tutorial.variants import VARIANTS, chosen, named


@dataclass(frozen=True)
class Predictions:
    """What the networks of a variant, or a method, answered.

    Attributes
    ----------
    training_seeds : tuple of int
        The S seeds; none for a method that has no training seeds, where S is 1.
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


class Results:
    """Answers of one configuration's pipeline; what is missing is computed on the way.

    Parameters
    ----------
    config : Config
        The five files.
    overwrite : bool
        Whether an earlier experiment in the same folder may be deleted.

    Raises
    ------
    StoreError
        If the folder holds something else, or another experiment and `overwrite` is false.
    """

    def __init__(self, config: Config, *, overwrite: bool = False) -> None:
        self.config = config
        self._overwrite = overwrite
        self._pipeline = Pipeline(config, overwrite)
        self._bounds: dict[tuple[str, int], NDArray[np.float64]] = {}
        self._tables: dict[tuple[str, str], pd.DataFrame] = {}

    @property
    def directory(self) -> Path:
        """The folder of the results."""
        return self.config.exp_dir

    @property
    def reported(self) -> tuple[str, str]:
        """Labels of the two reported components, x first."""
        return self.config.reported

    @property
    def world(self) -> World:
        """The forward model."""
        return self._pipeline.world

    @property
    def pipeline(self) -> Pipeline:
        """The stages behind it, for what is not asked of an experiment every day: weights, transforms, builders."""
        return self._pipeline

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of all splits, ``val`` and ``oracle_train`` included where the file has none."""
        return tuple(self._pipeline.splits)

    # --- data and training ------------------------------------------------------------------------------------------

    def data(self, split: str, *, data_seed: int | None = None) -> Spectra:
        """Return a split's spectra, for the first data seed unless another is named.

        Raises
        ------
        ValueError
            If there is no such split, naming those there are.
        """
        if split not in (valid := (*self.splits, *self._pipeline.added)):
            raise ValueError(f"no split {split!r}; expected one of {', '.join(valid)}")
        return self._pipeline.data(split, self._seed(data_seed))

    def train(self, variant: str = "network") -> pd.DataFrame:
        """Train what is not trained yet and return the loss histories.

        Returns
        -------
        DataFrame
            A row a checkpoint of each run: variant, data_seed, training_seed, step, epoch, train_loss, val_loss.
            Losses are averaged over all L outputs.
        """
        histories = []
        for data_seed in self.config.meta.data_seed:
            for training_seed, folder in self._pipeline.runs(variant, data_seed).items():
                history = pd.read_csv(folder / "history.csv")
                for name, value in (("training_seed", training_seed), ("data_seed", data_seed), ("variant", variant)):
                    history.insert(0, name, value)
                histories.append(history)
        return pd.concat(histories, ignore_index=True)

    # --- analysis ---------------------------------------------------------------------------------------------------

    def trajectories(self, variant: str = "network") -> pd.DataFrame:
        """Error, bias and slope at every checkpoint of every run (columns ``analysis.TRAJECTORY_COLUMNS``)."""
        return self._table(variant, "trajectory")

    def seed_status(self, variant: str = "network") -> pd.DataFrame:
        """Which runs are ok, dead, diverged or unfinished: variant, data_seed, training_seed, status."""
        return self._table(variant, "seed_status")

    def final_errors(self, variant: str = "network", split: str = analysis.ID_SPLIT) -> pd.DataFrame:
        """Each run's row at its last checkpoint, for one split, with its status."""
        last = analysis.with_status(analysis.final(self.trajectories(variant)), self.seed_status(variant))
        return last[last["split"] == split].reset_index(drop=True)

    def _table(self, name: str, table: str) -> pd.DataFrame:
        folders = [self._pipeline.measured(name, seed) for seed in self._pipeline.data_seeds(name)]
        if (name, table) not in self._tables:
            parts = [pd.read_csv(folder / f"{table}.csv") for folder in folders]
            self._tables[name, table] = pd.concat(parts, ignore_index=True)
        return self._tables[name, table].copy()

    def reader(self, method: str, *, data_seed: int | None = None) -> Reader:
        """Return a method's fitted estimator, an object in scikit-learn's form."""
        return self._pipeline.reader(method, self._seed(data_seed))

    def choice(self, method: str) -> pd.DataFrame | None:
        """Return the settings that were tried for a method, the chosen ones first; None where nothing is chosen.

        Chosen on the splits train and val of the first data seed, and used for all.
        """
        return self._pipeline.choice(method)

    def predictions(
        self, variant: str = "network", split: str = analysis.OOD_SPLIT, *, data_seed: int | None = None
    ) -> Predictions:
        """Return what every seed answered at every checkpoint, for the first spectra of a split.

        Raises
        ------
        ValueError
            If networks learn from the split, or there is none of that name, naming those that are judged.
        """
        if split not in self._pipeline.judged:
            raise ValueError(f"no predictions for {split!r}; expected one of {', '.join(self._pipeline.judged)}")
        seed = self._seed(data_seed)
        values = store.open_array(self._pipeline.measured(variant, seed) / f"predictions-{split}.npy")
        truth = self._pipeline.data(split, seed).of(*self.reported)[: values.shape[2]]
        steps = self.trajectories(variant)["step"].unique()
        seeds = () if variant in METHODS else named(variant).seeds(self.config)
        return Predictions(seeds, steps, truth, values, self.reported)

    def gap_report(self, *names: str) -> pd.DataFrame:
        """Median error of each method over live runs beside the Cramér-Rao bound.

        Writes ``analysis/*.csv`` too; the files hold everything that is finished, whatever is asked for here.

        Parameters
        ----------
        *names : str
            Variants of the network and methods, to compute and return; the core variants if none is named.
        """
        shown = list(names) or chosen(everything=False)
        for name in shown:
            self.trajectories(name)
        known = dict.fromkeys([*VARIANTS, *METHODS, *shown])
        finished = [name for name in known if name in shown or self._pipeline.is_measured(name)]
        networks = [name for name in finished if name not in METHODS]
        tables = (
            {
                "trajectory_data": pd.concat([self.trajectories(name) for name in networks], ignore_index=True),
                "seed_status": pd.concat([self.seed_status(name) for name in networks], ignore_index=True),
            }
            if networks
            else {}
        )
        last = [
            analysis.with_status(analysis.final(self.trajectories(name)), self.seed_status(name)) for name in finished
        ]
        errors = pd.concat([table.astype({"training_seed": "Int64"}) for table in last], ignore_index=True)
        tables["gap_report"] = analysis.gap_report(errors, self._mean_bounds(errors["data_seed"].unique().tolist()))
        tables["ratio_by_noise"] = self.ratio_by_noise(*finished)
        for name, table in tables.items():
            self._pipeline.folder.publish(f"analysis/{name}.csv", table.to_csv(index=False).encode())
        report = tables["gap_report"]
        return pd.concat([report[report["method"] == name] for name in shown], ignore_index=True)

    def ratio_by_noise(self, *names: str) -> pd.DataFrame:
        """Squared error over the Cramér-Rao bound on ``test``, all together and by thirds of the noise level.

        Returns
        -------
        DataFrame
            Columns method, component, all, quietest, middle, noisiest, see :func:`analysis.ratio_by_noise`, pooled over
            data seeds, errors averaged over live training seeds first; low and high, quartiles of what ``all`` is for
            each live run by itself.
        """
        tables = [self._ratio_by_noise(name) for name in names]
        return pd.concat(tables, ignore_index=True)

    def _ratio_by_noise(self, name: str) -> pd.DataFrame:
        split, pooled, alone = analysis.OOD_SPLIT, [], []
        for seed in self._pipeline.data_seeds(name):
            answers, status = self.predictions(name, data_seed=seed), self.seed_status(name)
            alive = status.loc[status["data_seed"] == seed, "status"].isin(analysis.LIVE).to_numpy()
            error = np.square(answers.last[alive] - answers.truth)
            mean = error.mean(axis=0) if alive.any() else np.full(answers.truth.shape, np.nan)
            noise = self._pipeline.data(split, seed).noise_level[: len(mean)]
            bound = self.bound(split, data_seed=seed)
            pooled.append((mean, bound, noise))
            alone.append(analysis.over_bound(error.mean(axis=1), bound.mean(axis=0)))
        table = analysis.ratio_by_noise(*(np.concatenate(part) for part in zip(*pooled, strict=True)))
        low, high = analysis.quantiles(pd.DataFrame(np.concatenate(alone)), (0.25, 0.75)).to_numpy()
        table.insert(1, "low", low)
        table.insert(2, "high", high)
        table.insert(0, "component", self.reported)
        table.insert(0, "method", name)
        return table

    def bound(
        self,
        split: str = analysis.OOD_SPLIT,
        *,
        data_seed: int | None = None,
        continuum: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Cramér-Rao bound of the first spectra of a split: the reported abundances and the temperature are unknown.

        With `continuum`, directions of log flux ``(Q, W)`` are unknown instead of the temperature, see
        :func:`limits.fisher_information`.

        Returns
        -------
        array, shape (N, K)
        """
        seed = self._seed(data_seed)
        if (split, seed) in self._bounds and continuum is None:
            return self._bounds[split, seed]
        some = self._pipeline.data(split, seed).take(slice(0, KEPT_SPECTRA))
        star = (some.temperature, some.abundance, some.noise_level)
        bound = limits.cramer_rao(self.world, *star, self.world.index(self.reported), continuum)
        if continuum is None:
            self._bounds[split, seed] = bound
        return bound

    def _mean_bounds(self, data_seeds: Iterable[int]) -> dict[tuple[int, str, str], float]:
        return {
            (seed, split, label): float(value)
            for seed in data_seeds
            for split in self._pipeline.judged
            for label, value in zip(self.reported, self.bound(split, data_seed=seed).mean(axis=0), strict=True)
        }

    @property
    def reference_points(self) -> dict[str, NDArray[np.float64]]:
        """Landmarks of the error plane: readers that do not look at the spectrum, judged on ``test``."""
        return limits.reference_points(
            *(self.data(split).of(*self.reported) for split in ("train", analysis.OOD_SPLIT))
        )

    def _seed(self, data_seed: int | None) -> int:
        return self.config.meta.data_seed[0] if data_seed is None else data_seed
