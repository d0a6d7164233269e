"""Readers that know the physics: analysis by synthesis, and the observer that believes the training law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, logsumexp
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from spectral_tutorial.estimators.checking import check_both, check_flux
from spectral_tutorial.estimators.inversion import Array, Inversion, invert
from spectral_tutorial.physics import World

TEMPERATURES = (1000.0, 20000.0)
"""Temperatures in K that a search may try: far wider than any that is drawn."""

START_TEMPERATURES = np.geomspace(2500.0, 10000.0, 8)
"""Temperatures in K where a search may start."""

ABUNDANCES = (-1.0, 2.0)
"""Abundances that a search may try: negative ones too, or the noise of an absent line would only ever add."""

DARKEST = 0.02
"""No abundance is tried with which a line would leave less than this part of the continuum."""


class WorldModel:
    """The true forward model as a function of theta = (abundances of the free lines, temperature).

    See :class:`~spectral_tutorial.estimators.inversion.ForwardModel`. Lines that are not free are absent.
    """

    def __init__(self, world: World, free: Sequence[int]) -> None:
        self.world, self.free = world, list(free)
        low, high = (np.full(len(self.free), edge) for edge in ABUNDANCES)
        if world.law == "linear":
            strength = world.strength[self.free]
            edge = (1.0 - DARKEST) / np.maximum(np.abs(strength), 1e-9)
            low = np.where(strength > 0, np.maximum(low, -edge), low)
            high = np.where(strength < 0, np.minimum(high, edge), high)
        self.lower, self.upper = [*low, TEMPERATURES[0]], [*high, TEMPERATURES[1]]

    def flux(self, theta: Array) -> Array:
        """Noise-free flux, shape ``(N, W)``."""
        return self.world.mean_flux(theta[:, -1], self._abundance(theta))

    def pull(self, theta: Array, score: Array) -> tuple[Array, Array]:
        """Return J score and J J^T, shapes ``(N, P)`` and ``(N, P, P)``."""
        jacobian = self.world.log_jacobian(theta[:, -1], self._abundance(theta), self.free)
        return (jacobian @ score[:, :, None])[:, :, 0], jacobian @ jacobian.transpose(0, 2, 1)

    def invert(self, flux: ArrayLike) -> Inversion:
        """Most likely abundances and temperature of each spectrum."""
        starts = np.full((len(START_TEMPERATURES), len(self.free) + 1), 0.5)
        starts[:, -1] = START_TEMPERATURES
        return invert(self, flux, starts, self.lower, self.upper)

    def _abundance(self, theta: Array) -> Array:
        abundance = np.zeros((len(theta), len(self.world.labels)))
        abundance[:, self.free] = theta[:, :-1]
        return abundance


class AnalysisBySynthesis(RegressorMixin, BaseEstimator):
    """Find the abundances and the temperature whose spectrum, by the true forward model, fits best.

    Maximum likelihood, see :func:`~spectral_tutorial.estimators.inversion.invert`. Knows the physics and which lines
    may be present, and nothing of which occur together: for it, a combination is nothing new. It learns nothing either.

    Parameters
    ----------
    world : World
        The forward model.
    labels : sequence of str
        The K components to report.
    free : sequence of str, optional
        All lines that may be present, the reported ones among them; only those if not given.

    Notes
    -----
    Fitting a synthetic spectrum for many labels at once: Ting, Conroy, Rix & Cargile 2019 (*The Payne*).
    """

    def __init__(self, world: World, labels: Sequence[str], free: Sequence[str] | None = None) -> None:
        self.world = world
        self.labels = labels
        self.free = free

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Check the shapes of flux ``(N, W)`` and abundances ``(N, K)``; there is nothing to learn."""
        _check_columns(self, X, y)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Most likely abundances, shape ``(N, K)``; not clipped, so noise can make them negative or above 1."""
        return self.invert(X).theta[:, : len(self.labels)]

    def invert(self, X: ArrayLike) -> Inversion:
        """Most likely abundances (reported lines first, then the other free ones) and, last, the temperature."""
        check_is_fitted(self, "n_features_in_")
        others = [label for label in self.free or () if label not in self.labels]
        free = self.world.index([*self.labels, *others])
        return WorldModel(self.world, free).invert(check_flux(self, X))


class BayesianObserver(RegressorMixin, BaseEstimator):
    r"""Know the physics, believe the training law, and answer with the posterior mean.

    The law that it believes is the one that it was fitted to: which sets h of components occur, how often, each
    abundance uniform in a range. Temperature (uniform) and noise level (uniform in its logarithm) are unknown and
    integrated out.

    .. math:: p(h \mid y) \propto p(h) \int e^{\ell_h(a, T)} \, da \, dT, \qquad
              \hat a_k = \sum_h p(h \mid y) \, \langle a_k \rangle_h

    The noise level integrates out exactly, see :func:`~spectral_tutorial.estimators.inversion.invert`; in (a, T)
    :math:`\ell_h` is taken as quadratic around its top (Laplace's approximation) and cut off, one abundance at a time,
    at the ends of the range.

    Fitted to single components, it gives a combination the probability zero before it has seen the spectrum, and no
    spectrum can change that: it is the best reader there is in distribution, and wrong on the combination.

    Parameters
    ----------
    world : World
        The forward model.
    labels : sequence of str
        The K components.
    abundance_range : pair of float
        Lowest and highest abundance of a component that is present.

    Attributes
    ----------
    present_ : array of bool, shape (H, K)
        The sets of components that occur in training.
    frequency_ : array, shape (H,)
        How often.

    Notes
    -----
    Laplace's approximation of a model's evidence: MacKay 2003.
    """

    def __init__(self, world: World, labels: Sequence[str], abundance_range: tuple[float, float] = (0.0, 1.0)) -> None:
        self.world = world
        self.labels = labels
        self.abundance_range = abundance_range

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from abundances ``(N, K)`` which components occur together, and how often; flux is only checked."""
        truth = _check_columns(self, X, y)
        self.present_, counts = np.unique(truth != 0, axis=0, return_counts=True)
        self.frequency_ = counts / counts.sum()
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Posterior mean abundances, shape ``(N, K)``."""
        probability, mean = self._posterior(X)
        return np.einsum("nh,nhk->nk", probability, mean)

    def predict_proba(self, X: ArrayLike) -> Array:
        """Posterior probabilities of the sets ``present_``, shape ``(N, H)``."""
        return self._posterior(X)[0]

    def _posterior(self, X: ArrayLike) -> tuple[Array, Array]:
        check_is_fitted(self, "present_")
        flux, lines = check_flux(self, X), np.array(self.world.index(self.labels))
        evidence = np.empty((len(flux), len(self.present_)))
        mean = np.zeros((*evidence.shape, len(self.labels)))
        for h, present in enumerate(self.present_):
            top = WorldModel(self.world, lines[present].tolist()).invert(flux)
            evidence[:, h], mean[:, h, present] = self._integrate(top)
        evidence += np.log(self.frequency_)
        return np.exp(evidence - logsumexp(evidence, axis=1, keepdims=True)), mean

    def _integrate(self, top: Inversion) -> tuple[Array, Array]:
        """Log of the integral over (a, T), and the mean abundances."""
        low, high = self.abundance_range
        size = top.theta.shape[1]
        covariance = np.linalg.inv(top.information)
        volume = 0.5 * (size * np.log(2.0 * np.pi) + np.linalg.slogdet(covariance)[1])
        a, spread = top.theta[:, :-1], np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)[:, :-1])
        log_mass, mean = _truncated_normal(a, spread, low, high)
        inside = (log_mass - np.log(high - low)).sum(axis=1)
        return top.log_likelihood + volume + inside, mean


def _truncated_normal(center: Array, spread: Array, low: float, high: float) -> tuple[Array, Array]:
    """Log of a normal law's mass between two ends, and its mean there."""
    left, right = (low - center) / spread, (high - center) / spread
    # On the far side of 0 both cumulative probabilities round to 1: mirror those to the other tail.
    mirrored = left > 0
    lower, upper = np.where(mirrored, -right, left), np.where(mirrored, -left, right)
    log_mass = log_ndtr(upper) + np.log1p(-np.exp(np.minimum(log_ndtr(lower) - log_ndtr(upper), -1e-12)))
    log_density = -0.5 * np.log(2.0 * np.pi)
    pull = np.exp(log_density - 0.5 * left**2 - log_mass) - np.exp(log_density - 0.5 * right**2 - log_mass)
    return log_mass, np.clip(center + spread * pull, low, high)


def _check_columns(estimator: AnalysisBySynthesis | BayesianObserver, X: ArrayLike, y: ArrayLike) -> Array:
    """Abundances as ``(N, K)``; refuses flux or abundances of other widths."""
    flux, truth = check_both(estimator, X, y)
    expected = estimator.world.wavelength.size, len(estimator.labels)
    if (flux.shape[1], truth.shape[1]) != expected:
        raise ValueError(
            f"flux and abundances have shapes {flux.shape} and {truth.shape}; "
            f"expected (N, {expected[0]}) and (N, {expected[1]})"
        )
    return truth
