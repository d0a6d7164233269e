"""The plots that a run leaves behind: which arrays and tables of an experiment each figure shows."""

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.figure
import numpy as np
from numpy.typing import NDArray

from spectral_tutorial import analysis, figures
from spectral_tutorial.data import Spectra, stream
from spectral_tutorial.physics import add_noise, single_precision
from spectral_tutorial.splits import draw_sampled


def _diverse(experiment: Any) -> Spectra:
    """Draw six spectra that share out all lines, to show what the forward model can do; nothing learns from them."""
    world, sampling, n = experiment.world, experiment.config.spectra.sampling, 6
    rng = stream(experiment.config.meta.data_seed[0], "diverse", "everything")
    share = np.arange(len(world.labels)) % n == np.arange(n)[:, None]
    abundance = share * draw_sampled(sampling.abundance, share.size, rng).reshape(share.shape)
    temperature, noise_level = (draw_sampled(sampled, n, rng) for sampled in (sampling.temperature, sampling.noise))
    flux = single_precision(add_noise(world.mean_flux(temperature, abundance), noise_level, rng, world.noise_power))
    flux = np.nan_to_num(flux)  # many lines in one place, of which no split may have so many: off the figure
    return Spectra(world.wavelength, flux, abundance, temperature, noise_level, world.labels)


def _live_errors(experiment: Any) -> NDArray[np.float64]:
    """Squared error of each test spectrum, the median over live seeds, shape ``(N, K)``."""
    predictions = experiment.predictions()
    alive = analysis.alive(experiment.seed_status(), experiment.config.meta.data_seed[0])
    errors = np.square(predictions.last[alive] - predictions.truth)
    return np.median(errors, axis=0) if alive.any() else np.full(predictions.truth.shape, np.nan)


def _predicted(experiment: Any) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float32]]]:
    both = {split: experiment.predictions(split=split) for split in (analysis.ID_SPLIT, analysis.OOD_SPLIT)}
    return {split: (predictions.truth, predictions.last) for split, predictions in both.items()}


PLOTS: Mapping[str, Callable[[Any], matplotlib.figure.Figure]] = {
    "spectral_lines": lambda e: figures.spectral_lines(e.world, e.reported, e.names),
    "diverse_samples": lambda e: figures.diverse_samples(_diverse(e), e.world, e.reported, e.names),
    "train_samples": lambda e: figures.samples(e.data("train"), "train", e.world, e.reported, e.names),
    "test_samples": lambda e: figures.samples(e.data("test"), "test", e.world, e.reported, e.names),
    "abundance_scatter": lambda e: figures.abundance_scatter(
        {name: e.data(name) for name in e.splits}, e.reported, e.names
    ),
    "training_curves": lambda e: figures.training_curves(e.train(), e.seed_status()),
    "prediction_analysis": lambda e: figures.prediction_analysis(_predicted(e), e.reported, e.names),
    "mse_trajectory": lambda e: figures.mse_trajectory(
        e.trajectories(), e.reference_points, reported=e.reported, status=e.seed_status(), names=e.names
    ),
    "mse_time_series": lambda e: figures.mse_time_series(e.trajectories(), e.reported, e.seed_status(), e.names),
    "test_abundance_mse": lambda e: figures.test_abundance_mse(
        e.predictions().truth, _live_errors(e), e.reported, e.names
    ),
}
"""Every plot that a run leaves behind, by the name of its file."""
