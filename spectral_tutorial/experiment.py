"""What can be asked of an experiment, and the recipe that answers all of it.

An :class:`Experiment` is a configuration and a folder. Asking it for something computes what is missing on the way,
leaves it in the folder, and finds it there the next time, whoever asks: a notebook, the command line, a test.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectral_tutorial import analysis, figures, limits, store
from spectral_tutorial.config import Config, load
from spectral_tutorial.data import Spectra, stream
from spectral_tutorial.physics import World, add_noise
from spectral_tutorial.pipeline import KEPT_SPECTRA, Pipeline
from spectral_tutorial.splits import draw_sampled
from spectral_tutorial.variants import VARIANTS, chosen, named

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """What the networks of a variant answered.

    Attributes
    ----------
    training_seeds : tuple of int
        The S seeds.
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


class Experiment:
    """A configuration, the folder of its results, and everything that can be asked of them.

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
        self._pipeline = Pipeline(config, overwrite)

    @classmethod
    def from_yaml(cls, path: str | Path, *, exp_dir: str | Path | None = None, overwrite: bool = False) -> Experiment:
        """Open the experiment of a meta file; `exp_dir` stands in for the one that the file names.

        Raises
        ------
        ConfigError
            If one of the five files cannot be used; nothing has been written then.
        """
        config = load(path)
        if exp_dir is not None:
            config = config.with_meta(exp_dir=str(Path(exp_dir).resolve()))
        return cls(config, overwrite=overwrite)

    def __repr__(self) -> str:
        return f"Experiment({self.config.file!r} -> {self.directory})"

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
        if split not in self.splits:
            raise ValueError(f"no split {split!r}; expected one of {', '.join(self.splits)}")
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
        """Which runs are ok, dead or diverged: variant, data_seed, training_seed, status."""
        return self._table(variant, "seed_status")

    def final_errors(self, variant: str = "network", split: str = analysis.ID_SPLIT) -> pd.DataFrame:
        """Each run's row at its last checkpoint, for one split, with its status."""
        last = analysis.with_status(analysis.final(self.trajectories(variant)), self.seed_status(variant))
        return last[last["split"] == split].reset_index(drop=True)

    def _table(self, variant: str, name: str) -> pd.DataFrame:
        folders = [self._pipeline.measured(variant, seed) for seed in self.config.meta.data_seed]
        return pd.concat([pd.read_csv(folder / f"{name}.csv") for folder in folders], ignore_index=True)

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
        values = np.load(self._pipeline.measured(variant, seed) / f"predictions-{split}.npy", mmap_mode="r")
        truth = self._pipeline.data(split, seed).of(*self.reported)[: values.shape[2]]
        steps = self.trajectories(variant)["step"].unique()
        return Predictions(named(variant).seeds(self.config), steps, truth, values, self.reported)

    def gap_report(self, *variants: str) -> pd.DataFrame:
        """Median error of each method over live runs beside the Cramér-Rao bound.

        Writes ``analysis/*.csv`` too; the files hold every variant that is finished, whatever is asked for here.

        Parameters
        ----------
        *variants : str
            Which to compute and return; the core ones if none is named.
        """
        shown = list(variants) or chosen(everything=False)
        for variant in shown:
            self.trajectories(variant)
        finished = [name for name in VARIANTS if name in shown or self._is_finished(name)]
        tables = {
            "trajectory_data": pd.concat([self.trajectories(name) for name in finished], ignore_index=True),
            "seed_status": pd.concat([self.seed_status(name) for name in finished], ignore_index=True),
        }
        report = analysis.gap_report(tables["trajectory_data"], tables["seed_status"], self.bound)
        for name, table in (tables | {"gap_report": report}).items():
            self._pipeline.folder.publish(f"analysis/{name}.csv", table.to_csv(index=False).encode())
        return report[report["method"].isin(shown)].reset_index(drop=True)

    def _is_finished(self, variant: str) -> bool:
        return all(self._pipeline.is_measured(variant, seed) for seed in self.config.meta.data_seed)

    @cached_property
    def bound(self) -> dict[tuple[str, str], float]:
        """Mean Cramér-Rao bound by (split, component): both reported abundances and the temperature are unknown."""
        free = self.world.index(self.reported)
        mean: dict[tuple[str, str], float] = {}
        for split in self._pipeline.judged:
            variances = []
            for seed in self.config.meta.data_seed:
                some = self._pipeline.data(split, seed).take(slice(0, KEPT_SPECTRA))
                variances.append(
                    limits.cramer_rao(self.world, some.temperature, some.abundance, some.noise_level, free)
                )
            values = np.concatenate(variances).mean(axis=0)
            mean |= {(split, label): float(value) for label, value in zip(self.reported, values, strict=True)}
        return mean

    @property
    def reference_points(self) -> dict[str, NDArray[np.float64]]:
        """Landmarks of the error plane: readers that do not look at the spectrum, judged on ``test``."""
        return limits.reference_points(
            *(self.data(split).of(*self.reported) for split in ("train", analysis.OOD_SPLIT))
        )

    # --- the whole --------------------------------------------------------------------------------------------------

    def plot(self, name: str) -> matplotlib.figure.Figure:
        """Draw one of ``PLOTS``, leave it as ``plots/NAME.png`` and return it."""
        if name not in PLOTS:
            raise ValueError(f"no plot {name!r}; expected one of {', '.join(PLOTS)}")
        figure = PLOTS[name](self)
        self._pipeline.folder.publish(f"plots/{name}.png", figures.png(figure))
        return figure

    def generate_data(self) -> None:
        """Generate every split of every data seed."""
        for seed in self.config.meta.data_seed:
            for split in self.splits:
                self._pipeline.data(split, seed)

    def draw(self) -> None:
        """Draw every plot whose ingredients are there or may be made."""
        for name in PLOTS:
            try:
                self.plot(name)
            except store.MissingError as missing:
                log.warning("no plot %s: %s", name, missing)

    def run(self, *, everything: bool = False) -> None:
        """Do what the flags of the meta file ask for, with the core variants or, if asked, `everything`."""
        flags = self.config.meta
        if flags.generate_data:
            self.generate_data()
        if flags.run_training:
            for variant in chosen(everything):
                self.train(variant)
        if flags.run_analysis:
            self.gap_report(*chosen(everything))
        self.draw()

    def _seed(self, data_seed: int | None) -> int:
        return self.config.meta.data_seed[0] if data_seed is None else data_seed


def _diverse(experiment: Experiment) -> Spectra:
    """Draw six spectra that share out all lines, to show what the forward model can do; nothing learns from them."""
    world, sampling, n = experiment.world, experiment.config.spectra.sampling, 6
    rng = stream(experiment.config.meta.data_seed[0], "diverse", "everything")
    share = np.arange(len(world.labels)) % n == np.arange(n)[:, None]
    abundance = share * draw_sampled(sampling.abundance, share.size, rng).reshape(share.shape)
    temperature, noise_level = (draw_sampled(sampled, n, rng) for sampled in (sampling.temperature, sampling.noise))
    flux = add_noise(world.mean_flux(temperature, abundance), noise_level, rng)
    truth = {"abundance": abundance, "temperature": temperature, "noise_level": noise_level}
    return Spectra.from_arrays(world.wavelength, flux, labels=world.labels, **truth)


def _live_errors(experiment: Experiment) -> NDArray[np.float64]:
    """Squared error of each test spectrum, the median over live seeds, shape ``(N, K)``."""
    predictions = experiment.predictions()
    status = experiment.seed_status()
    alive = (status[status["data_seed"] == experiment.config.meta.data_seed[0]]["status"] == "ok").to_numpy()
    errors = np.square(predictions.last[alive] - predictions.truth)
    return np.median(errors, axis=0) if alive.any() else np.full(predictions.truth.shape, np.nan)


def _answers(experiment: Experiment) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float32]]]:
    both = {split: experiment.predictions(split=split) for split in (analysis.ID_SPLIT, analysis.OOD_SPLIT)}
    return {split: (predictions.truth, predictions.last) for split, predictions in both.items()}


PLOTS: Mapping[str, Callable[[Experiment], matplotlib.figure.Figure]] = {
    "spectral_lines": lambda e: figures.spectral_lines(e.world, e.reported),
    "diverse_samples": lambda e: figures.diverse_samples(_diverse(e), e.world, e.reported),
    "train_samples": lambda e: figures.train_samples(e.data("train"), e.world, e.reported),
    "test_samples": lambda e: figures.test_samples(e.data("test"), e.world, e.reported),
    "abundance_scatter": lambda e: figures.abundance_scatter({name: e.data(name) for name in e.splits}, e.reported),
    "training_curves": lambda e: figures.training_curves(e.train(), e.seed_status()),
    "prediction_analysis": lambda e: figures.prediction_analysis(_answers(e), e.reported),
    "mse_trajectory": lambda e: figures.mse_trajectory(
        e.trajectories(), e.reference_points, reported=e.reported, status=e.seed_status()
    ),
    "mse_time_series": lambda e: figures.mse_time_series(e.trajectories(), e.reported, e.seed_status()),
    "test_abundance_mse": lambda e: figures.test_abundance_mse(e.predictions().truth, _live_errors(e), e.reported),
}
"""Every plot that a run leaves behind, by the name of its file."""
