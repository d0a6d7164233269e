"""Readers that know the physics: analysis by synthesis, and the observer that believes the training distribution."""

import math
from collections.abc import Iterator, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import log_ndtr, logsumexp
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from spectral_tutorial.data import LOG_FLOOR, MissingSpectraError
from spectral_tutorial.estimators.checking import check_both, check_flux
from spectral_tutorial.estimators.inversion import Array, Inversion, gram, invert, unexplained
from spectral_tutorial.physics import DARK, World

Pair = tuple[float, float]

STARS: Pair = (3000.0, 7000.0)  #: temperatures in K that are drawn in the world of the book
TEMPERATURES = (1000.0, 20000.0)
"""Temperatures in K that any search may try, and twice or half of what a world may draw besides."""

START_TEMPERATURES = (2500.0, 10000.0)
"""Temperatures in K between which any search may start, and between those that a world may draw."""

MOST_STARTS = 32

ABUNDANCES = (-1.0, 2.0)
"""Abundances that any search may try, and the width of a world's range below and above that range besides: negative
ones too, or the noise of an absent line would only ever add."""

DARKEST = 0.02
"""No abundance is tried with which a line would leave less than this part of the continuum, unless a world draws it."""

DEEPEST = 100.0  #: no strength x abundance is tried that is larger: no world has more than half of it
POINT = 1e-4  #: a range narrower than this part of an error bar is a single value for all that can be seen

REACH, NODES = 8.0, 400
"""An integral over a normal distribution is taken over this many error bars to each side, at this many places."""

UNSEEN = 1e-100  #: a parameter about which the root of the information is less leaves no trace
SINGULAR = 1e-12  #: smallest eigenvalue of a scaled information that can be inverted; what is below it counts as this


class WorldModel:
    """The true forward model as a function of theta = (abundances of the free lines, temperature).

    See :class:`~spectral_tutorial.estimators.inversion.ForwardModel`. Lines in other places than `free` are absent. The
    ranges are what may be drawn, temperatures in K: a search looks there, and beyond.
    """

    def __init__(
        self, world: World, free: Sequence[int], abundance_range: Pair = (0.0, 1.0), temperature_range: Pair = STARS
    ) -> None:
        self.world, self.free = world, list(free)
        self.abundance_range, self.temperature_range = abundance_range, temperature_range
        (least, most), (cold, hot) = abundance_range, temperature_range
        size = np.maximum(np.abs(world.strength[self.free]), 1e-9)
        low = np.maximum(min(ABUNDANCES[0], 2.0 * least - most), -DEEPEST / size)
        high = np.minimum(max(ABUNDANCES[1], 2.0 * most - least), DEEPEST / size)
        if world.law == "linear":
            strength = world.strength[self.free]
            darkest = np.clip(0.5 * (1.0 - size * most), LOG_FLOOR, DARKEST)
            low = np.where(strength > 0, np.maximum(low, -(1.0 - DARKEST) / size), low)
            high = np.where(strength < 0, np.minimum(high, (1.0 - darkest) / size), high)
        self.lower = [*low, min(TEMPERATURES[0], 0.5 * cold)]
        self.upper = [*high, max(TEMPERATURES[1], 2.0 * hot)]

    @property
    def noise_power(self) -> float:
        """The world's."""
        return self.world.noise_power

    def flux(self, theta: Array) -> Array:
        """Noise-free flux, shape ``(N, W)``."""
        return self.world.mean_flux(theta[:, -1], self._abundance(theta))

    def pull(self, theta: Array, score: Array, weight: Array) -> tuple[Array, Array]:
        """Return J score and J w J^T, shapes ``(N, P)`` and ``(N, P, P)``."""
        jacobian = self.world.log_jacobian(theta[:, -1], self._abundance(theta), self.free)
        return (jacobian @ score[:, :, None])[:, :, 0], gram(jacobian, weight)

    def invert(self, flux: ArrayLike) -> Inversion:
        """Most likely abundances and temperature of each spectrum.

        MissingSpectraError if a spectrum has a bin without flux: how dark it is, single precision cannot say.
        """
        if dark := np.count_nonzero((np.abs(np.asarray(flux)) < DARK).any(axis=1)):
            raise MissingSpectraError(
                f"{dark} of {len(np.asarray(flux))} spectra have bins too dark for single precision"
            )
        cold = min(START_TEMPERATURES[0], self.temperature_range[0])
        hot = max(START_TEMPERATURES[1], self.temperature_range[1])
        temperatures = np.geomspace(cold, hot, min(MOST_STARTS, 1 + math.ceil(3.5 * math.log2(hot / cold))))
        starts = np.full((len(temperatures), len(self.free) + 1), 0.5 * sum(self.abundance_range))
        starts[:, -1] = temperatures
        starts = np.clip(starts, self.lower, self.upper)
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
        The K components that may be present.
    abundance_range, temperature_range : pair of float
        What may be drawn; temperatures in K. The search looks there, and as far again beyond.

    Notes
    -----
    Fitting a synthetic spectrum for many labels at once: Ting, Conroy, Rix & Cargile 2019 (*The Payne*).
    """

    def __init__(
        self,
        world: World,
        labels: Sequence[str],
        abundance_range: Pair = (0.0, 1.0),
        temperature_range: Pair = STARS,
    ) -> None:
        self.world = world
        self.labels = labels
        self.abundance_range = abundance_range
        self.temperature_range = temperature_range

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Check the shapes of flux ``(N, W)`` and abundances ``(N, K)``; there is nothing to learn."""
        _check_columns(self, X, y)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Most likely abundances, shape ``(N, K)``; not clipped, so noise can make them negative or above 1."""
        return self.invert(X).theta[:, :-1]

    def invert(self, X: ArrayLike) -> Inversion:
        """Most likely abundances and, last, temperature of each spectrum, with their information."""
        check_is_fitted(self, "n_features_in_")
        model = WorldModel(self.world, self.world.index(self.labels), self.abundance_range, self.temperature_range)
        return model.invert(check_flux(self, X))


class BayesianObserver(RegressorMixin, BaseEstimator):
    r"""Know the physics, believe the training distribution, and predict the posterior mean.

    The distribution that it believes is the one that it was fitted to: which sets h of components occur, how often, and
    each abundance, or its logarithm, uniform in a range. Temperature (uniform) and noise level (uniform in its
    logarithm) are unknown and integrated out.

    .. math:: p(h \mid y) \propto p(h) \int e^{\ell_h(a, T)} \, da \, dT, \qquad
              \hat a_k = \sum_h p(h \mid y) \, \langle a_k \rangle_h

    The noise level integrates out exactly, see :func:`~spectral_tutorial.estimators.inversion.invert`; in (a, T)
    :math:`\ell_h` is taken as quadratic around its top (Laplace's approximation) and cut off, one abundance at a time,
    at the ends of the range.

    Fitted to single components, it gives a combination the probability zero before it has seen the spectrum, and no
    spectrum can change that: no estimator is better in distribution, and it is wrong on the combination.

    Parameters
    ----------
    world : World
        The forward model.
    labels : sequence of str
        The K components.
    abundance_range : pair of float
        Lowest and highest abundance of a component that is present; more, where training shows more.
    temperature_range : pair of float
        Lowest and highest temperature in K: the search looks there, and beyond.
    log_uniform : bool
        Whether abundances are uniform in their logarithm.

    Attributes
    ----------
    present_ : array of bool, shape (H, K)
        The sets of components that occur in training.
    frequency_ : array, shape (H,)
        How often.
    low_, high_ : array, shape (K,)
        Lowest and highest abundance of each component, where it is present.

    Notes
    -----
    Laplace's approximation of a model's evidence: MacKay 2003.
    """

    def __init__(
        self,
        world: World,
        labels: Sequence[str],
        abundance_range: Pair = (0.0, 1.0),
        temperature_range: Pair = STARS,
        log_uniform: bool = False,
    ) -> None:
        self.world = world
        self.labels = labels
        self.abundance_range = abundance_range
        self.temperature_range = temperature_range
        self.log_uniform = log_uniform

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from abundances ``(N, K)`` which components occur together, and how often; flux is only checked."""
        truth = _check_columns(self, X, y)
        self.present_, counts = np.unique(truth != 0, axis=0, return_counts=True)
        self.frequency_ = counts / counts.sum()
        low, high = self.abundance_range
        self.low_ = np.where(truth != 0, truth, low).min(axis=0, initial=low)
        self.high_ = truth.max(axis=0, initial=high)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Posterior mean abundances, shape ``(N, K)``."""
        probability, mean = self._posterior(X)
        return np.einsum("nh,nhk->nk", probability, mean)

    def predict_proba(self, X: ArrayLike) -> Array:
        """Posterior probabilities of the sets ``present_``, shape ``(N, H)``."""
        return self._posterior(X)[0]

    def weigh(self, X: ArrayLike) -> tuple[Array, Array]:
        """How well each set h of ``present_`` explains each spectrum, and the abundances that it would mean.

        Returns the logarithm of p(y | h), but for a constant of the spectrum, ``(N, H)``, and mean abundances given h,
        0 for components that are not in it, ``(N, H, K)``.
        """
        check_is_fitted(self, "present_")
        flux = check_flux(self, X)
        evidence = np.empty((len(flux), len(self.present_)))
        mean = np.zeros((*evidence.shape, len(self.labels)))
        for h, (present, _, top) in enumerate(self._explained(flux)):
            evidence[:, h], mean[:, h, present] = self._integrate(top, present)
        return evidence, mean

    def residual(self, X: ArrayLike) -> Array:
        r"""What the set of ``present_`` with the largest posterior leaves unexplained, shape ``(N, W)``.

        :math:`r = (y - \mu) / \mu^p` at the most likely abundances and temperature: noise, if the set is right.
        """
        check_is_fitted(self, "present_")
        flux = check_flux(self, X)
        explained = zip(self._explained(flux), np.log(self.frequency_), strict=True)
        return unexplained(
            flux, ((model, top.theta, self._integrate(top, held)[0] + prior) for (held, model, top), prior in explained)
        )

    def _explained(self, flux: ArrayLike) -> Iterator[tuple[Array, WorldModel, Inversion]]:
        """Yield each set of ``present_``, its forward model, and what that finds most likely."""
        lines, widest = np.array(self.world.index(self.labels)), (float(self.low_.min()), float(self.high_.max()))
        for present in self.present_:
            model = WorldModel(self.world, lines[present].tolist(), widest, self.temperature_range)
            yield present, model, model.invert(flux)

    def _integrate(self, top: Inversion, present: Array) -> tuple[Array, Array]:
        return _integrate(top, self.low_[present], self.high_[present], self.log_uniform)

    def _posterior(self, X: ArrayLike) -> tuple[Array, Array]:
        evidence, mean = self.weigh(X)
        evidence += np.log(self.frequency_)
        return np.exp(evidence - logsumexp(evidence, axis=1, keepdims=True)), mean


def _integrate(top: Inversion, low: Array, high: Array, log_uniform: bool) -> tuple[Array, Array]:
    """Log of the integral over (a, T), and the mean abundances, each or its logarithm uniform between two ends."""
    size = top.theta.shape[1]
    covariance = _inverse(top.information)
    volume = 0.5 * (size * np.log(2.0 * np.pi) + np.linalg.slogdet(covariance)[1])
    a, spread = top.theta[:, :-1], np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)[:, :-1])
    if log_uniform and (low < high).all():
        log_mass, mean = _log_uniform_normal(a, spread, low, high)
        return top.log_likelihood + volume + log_mass.sum(axis=1), mean
    # A range much narrower than the error bar, or a single value: no mass is left to see, but its density is.
    middle, half = 0.5 * (low + high), np.maximum(0.5 * (high - low), POINT * spread)
    log_mass, mean = _truncated_normal(a, spread, middle - half, middle + half)
    inside = (log_mass - np.log(2.0 * half)).sum(axis=1)
    return top.log_likelihood + volume + inside, np.clip(mean, low, high)


def _inverse(information: Array) -> Array:
    """Inverse of each matrix; a direction about which nothing is known gets a very large variance."""
    scale = np.sqrt(np.diagonal(information, axis1=1, axis2=2))
    scale = np.where(scale > UNSEEN, scale, 1.0)
    scale = scale[:, :, None] * scale[:, None, :]
    values, axes = np.linalg.eigh(information / scale)
    plain = values[:, 0] > SINGULAR
    inverse = np.empty_like(information)
    inverse[plain] = np.linalg.inv(information[plain])
    axes, values = axes[~plain], np.maximum(values[~plain], SINGULAR)
    inverse[~plain] = (axes / values[:, None, :]) @ axes.transpose(0, 2, 1) / scale[~plain]
    return inverse


def _truncated_normal(center: Array, spread: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Log of a normal distribution's mass between two ends, and its mean there."""
    left, right = (low - center) / spread, (high - center) / spread
    # On the far side of 0 both cumulative probabilities round to 1: mirror those to the other tail.
    mirrored = left > 0
    lower, upper = np.where(mirrored, -right, left), np.where(mirrored, -left, right)
    log_mass = log_ndtr(upper) + np.log1p(-np.exp(np.minimum(log_ndtr(lower) - log_ndtr(upper), -1e-12)))
    log_density = -0.5 * np.log(2.0 * np.pi)
    pull = np.exp(log_density - 0.5 * left**2 - log_mass) - np.exp(log_density - 0.5 * right**2 - log_mass)
    return log_mass, np.clip(center + spread * pull, low, high)


def _log_uniform_normal(center: Array, spread: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Log of the mean of a normal density over values that are log-uniform between two ends, and its mean there."""
    # All that counts lies within some error bars of the center or, where that is outside, of the nearer end.
    left = np.clip(center - REACH * spread, low, np.maximum(high - REACH * spread, low))
    right = np.clip(center + REACH * spread, np.minimum(low + REACH * spread, high), high)
    step = (np.log(right) - np.log(left)) / NODES
    nodes = np.exp(np.log(left)[..., None] + step[..., None] * (np.arange(NODES) + 0.5))
    z = (nodes - center[..., None]) / spread[..., None]
    log_density = -0.5 * np.square(z) - np.log(np.sqrt(2.0 * np.pi) * spread)[..., None]
    log_sum = logsumexp(log_density, axis=-1)
    mean = (np.exp(log_density - log_sum[..., None]) * nodes).sum(axis=-1)
    return log_sum + np.log(step) - np.log(np.log(high) - np.log(low)), mean


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
