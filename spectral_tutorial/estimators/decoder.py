"""An estimator that learns a forward model from spectra of single lines, and inverts it."""

from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter1d
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.extmath import randomized_svd
from sklearn.utils.validation import check_is_fitted

from spectral_tutorial.data import LOG_FLOOR, SMOOTHING, MissingSpectraError, chunks, flux_unit
from spectral_tutorial.estimators import inversion
from spectral_tutorial.estimators.checking import check_both, check_flux
from spectral_tutorial.estimators.inversion import BLOCK, LEAST_VARIANCE, Array, Inversion, bin_scatter, invert, solve
from spectral_tutorial.physics import add_noise, light_of

FREEDOM = 0.5  #: how far beyond the training range a search may go, in units of that range
N_STARTS = 10  #: continua, spread over those seen in training, where a search may start
SETTLED = 1e-4  #: the turns are over when coordinates of spread 1 move by less than this
MOMENTUM = 0.8
"""Each turn goes on by this share of the one before (Nesterov 1983): a coordinate that was mistaken for a part of an
abundance comes right in tens of turns and not in hundreds."""

BRIGHTEST = 50.0  #: largest absolute log flux of a model: keeps the exponential finite while a search looks around


@dataclass(frozen=True)
class LogAdditiveModel:
    r"""A forward model whose logarithm is a sum of a continuum and of what each component adds.

    .. math:: \log \mu = \sum_m z^m C_m(\lambda) + \sum_k \sum_{d=1}^{D} a_k^d B_{kd}(\lambda)

    with :math:`z^m` all monomials of the continuum coordinates z up to a degree, and a shape of its own for every power
    of every abundance. Beyond the training range the powers of an abundance go on along their tangents, because a
    polynomial cannot be trusted there.
    """

    exponents: NDArray[np.int64]  #: ``(M, Q)``, powers of the Q continuum coordinates in each of the M monomials
    degree: int  #: D, the highest power of an abundance
    top: Array  #: ``(K,)``, largest abundance of each component in training
    templates: Array  #: ``(M + K D, W)``, C above B
    noise_power: float  #: p: a bin's noise has the standard deviation sigma x flux^p
    light: Array  #: trust in each bin's log flux, ``(1, W)``: mean flux in training to the power 2 - 2p

    @property
    def n_continuum(self) -> int:
        """Q, the number of continuum coordinates: the first entries of theta, before the K abundances."""
        return self.exponents.shape[1]

    @property
    def continua(self) -> Array:
        """Templates C of the continuum, shape ``(M, W)``."""
        return self.templates[: len(self.exponents)]

    def only(self, present: NDArray[np.bool_]) -> Self:
        """Return the model in which all components but those of a mask ``(K,)`` are absent."""
        kept = np.append(np.ones(len(self.exponents), bool), np.repeat(present, self.degree))
        return replace(self, top=self.top[present], templates=self.templates[kept])

    def features(self, theta: Array) -> Array:
        """Factors of the templates, shape ``(N, M + K D)``."""
        z, a = theta[:, : self.n_continuum], theta[:, self.n_continuum :]
        powers, slopes, beyond = self._powers(a)
        lines = powers + slopes * beyond[:, :, None]
        return np.concatenate([_monomials(z, self.exponents), lines.reshape(len(a), -1)], axis=1)

    def slopes(self, theta: Array) -> Array:
        """Derivatives of :meth:`features` with respect to theta, shape ``(N, Q + K, M + K D)``."""
        (m, q), a = self.exponents.shape, theta[:, self.n_continuum :]
        slopes = np.zeros((len(theta), theta.shape[1], m + a.shape[1] * self.degree))
        slopes[:, :q, :m] = self.continuum_slopes(theta[:, :q])
        for k, slope in enumerate(np.moveaxis(self._powers(a)[1], 1, 0)):
            slopes[:, q + k, m + k * self.degree : m + (k + 1) * self.degree] = slope
        return slopes

    def continuum_slopes(self, z: Array) -> Array:
        """Derivatives of the continuum's monomials with respect to z, shape ``(N, Q, M)``."""
        slopes = np.empty((len(z), *self.exponents.T.shape))
        for j, power in enumerate(self.exponents.T):
            lowered = self.exponents.copy()
            lowered[:, j] = np.maximum(power - 1, 0)
            slopes[:, j] = power * _monomials(z, lowered)
        return slopes

    def _powers(self, a: Array) -> tuple[Array, Array, Array]:
        """Powers of the abundances within the training range, their derivatives, and what lies beyond the range."""
        inside = np.clip(a, 0.0, self.top)
        d = np.arange(1, self.degree + 1)
        below = inside[:, :, None] ** (d - 1)
        return below * inside[:, :, None], d * below, a - inside

    def flux(self, theta: Array) -> Array:
        """Noise-free flux, shape ``(N, W)``."""
        return np.exp(np.clip(self.features(theta) @ self.templates, -BRIGHTEST, BRIGHTEST))

    def pull(self, theta: Array, score: Array, weight: Array) -> tuple[Array, Array]:
        """Return J score and J w J^T; see :class:`~spectral_tutorial.estimators.inversion.ForwardModel`."""
        slopes = self.slopes(theta)
        pulled = (slopes @ (score @ self.templates.T)[:, :, None])[:, :, 0]
        if weight.shape[1] > 1:
            return pulled, inversion.gram(slopes @ self.templates, weight)
        # Spectra are combinations of few templates, so products over bins shrink to products over templates.
        alike = slopes @ (self.templates @ self.templates.T) @ slopes.transpose(0, 2, 1)
        return pulled, weight[:, :, None] * alike


def _all_exponents(size: int, degree: int) -> NDArray[np.int64]:
    """Exponents of all monomials in `size` variables up to a degree, the constant first, shape ``(M, size)``."""
    chosen = [c for d in range(degree + 1) for c in combinations_with_replacement(range(size), d)]
    return np.array([[c.count(j) for j in range(size)] for c in chosen], dtype=np.int64)


def _monomials(z: Array, exponents: NDArray[np.int64]) -> Array:
    powers = np.stack([z**power for power in range(exponents.max() + 1)])
    factors = [powers[exponents[:, j], :, j].T for j in range(z.shape[1])]
    return np.asarray(np.prod(factors, axis=0), np.float64)


class LogAdditiveDecoder(RegressorMixin, BaseEstimator):
    r"""Learn how one component at a time changes log flux; read a spectrum by explaining it with all of them.

    The model is :class:`LogAdditiveModel`. It is fitted to spectra that hold at most one component, by turns: given
    each spectrum's continuum coordinates the templates follow from weighted least squares, given the templates each
    spectrum's coordinates follow from a Gauss-Newton step; weights are one over the square of the noise level that a
    spectrum's own bins show, and each turn goes on a little in the direction of the one before. A new spectrum is read
    by maximum likelihood for (z, all abundances), see :func:`~spectral_tutorial.estimators.inversion.invert`.

    Built in: which components may be present, that logarithms add, to which power of flux noise is in proportion, that
    an absent component changes nothing, and that continua form a family of few dimensions. Learned: everything else. No
    spectrum with two components, no line profile, no place of a line, no Planck curve, no temperature, no noise level.

    Parameters
    ----------
    n_continuum : int
        Q, dimensions of the family of continua.
    continuum_degree : int
        Degree of the polynomial in z: 1 makes the family flat (the first Q principal components of the blank spectra,
        if Q is large enough to hold it), 2 and more let it curve.
    degree : int
        D, degree of the polynomial in each abundance.
    n_iter : int
        Largest number of turns; fewer if the coordinates settle before.
    highest : float, optional
        The highest abundance that is looked for, where that is more than training shows; the search goes beyond it by
        half, as it goes beyond training.
    noise_power : float
        p: a bin's noise has the standard deviation sigma x flux^p; 1/2 where photons are counted. There should be many
        in nearly every bin, about ten and more: it is logarithms that are compared while it learns.

    Attributes
    ----------
    model_ : LogAdditiveModel
        The learned forward model.
    flux_unit_ : float
        The unit in which the model's flux is, see :func:`~spectral_tutorial.data.flux_unit`: what is learned does not
        depend on the unit of the flux that it is given.

    Notes
    -----
    Spectral models learned from labeled spectra and then inverted: Ness, Hogg, Rix, Ho & Zasowski 2015 (*The Cannon*),
    with labels instead of coordinates for everything that varies. Theorems on additive decoders (Lachapelle et al.
    2023; Wiedemer et al. 2024) say when factors discovered without labels are the true ones, and when the generator is
    right on new combinations of them: under conditions on the support of the training distribution. They do not cover
    this decoder: it is given the abundances, and it learns from the axes alone, a support that has no interior. What it
    does on combinations is measured, not proved.
    """

    def __init__(
        self,
        n_continuum: int = 1,
        continuum_degree: int = 2,
        degree: int = 3,
        n_iter: int = 40,
        highest: float | None = None,
        noise_power: float = 1.0,
    ) -> None:
        self.n_continuum = n_continuum
        self.continuum_degree = continuum_degree
        self.degree = degree
        self.n_iter = n_iter
        self.highest = highest
        self.noise_power = noise_power

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from flux ``(N, W)`` and abundances ``(N, K)``; rows with more than one component are left out.

        MissingSpectraError if there are too few blank spectra or bins, or no spectrum of some component alone.
        """
        flux, a = check_both(self, X, y)
        if flux.shape[1] < 3:
            raise MissingSpectraError(
                f"the spectra have {flux.shape[1]} bins; expected at least 3, to tell noise from flux"
            )
        single = (a != 0).sum(axis=1) <= 1
        flux, a = flux[single], a[single]
        if a.any(axis=1).all() or not a.any(axis=0).all():
            raise MissingSpectraError(
                "the training spectra lack a kind; expected blank ones, and each component on its own"
            )
        if (found := min(np.count_nonzero(~a.any(axis=1)), flux.shape[1])) < self.n_continuum:
            expected = f"at least {self.n_continuum}, to find as many coordinates of continua"
            raise MissingSpectraError(f"there are {found} blank spectra, or bins; expected {expected}")
        self.flux_unit_ = flux_unit(flux)
        log_flux, weight = _straight_log(flux / flux.dtype.type(self.flux_unit_), self.noise_power)
        light = light_of(flux.mean(axis=0, keepdims=True) / self.flux_unit_, self.noise_power)
        z = self._start(log_flux * light, weight, a)
        rough = log_flux.astype(np.float32)  # enough for the coordinates, and half as much to read in every turn
        exponents = _all_exponents(self.n_continuum, self.continuum_degree)
        none = np.empty((0, flux.shape[1]))
        model = LogAdditiveModel(exponents, self.degree, a.max(axis=0), none, self.noise_power, np.square(light))
        before = z
        for _ in range(self.n_iter):
            model = _learn(model, rough, weight, z + MOMENTUM * (z - before), a)
            before, z = z, _locate(model, rough, z, a)
            z = (z - z.mean(axis=0)) / _spread(z)  # the coordinate's unit is free
            if np.square(z - before).mean() < SETTLED**2:
                break
        self.model_ = _learn(model, log_flux, weight, z, a)
        self._z_range = z.min(axis=0), z.max(axis=0)
        self._z_starts = z[np.argsort(z[:, 0])][np.linspace(0, len(z) - 1, N_STARTS).astype(int)]
        return self

    def lines(self, abundance: float = 1.0) -> Array:
        """Learned change of log flux by each component on its own, shape ``(K, W)``."""
        check_is_fitted(self)
        n_lines = len(self.model_.top)
        alone = np.hstack([np.zeros((n_lines, self.n_continuum)), abundance * np.eye(n_lines)])
        features = self.model_.features(alone)[:, len(self.model_.exponents) :]
        return features @ self.model_.templates[len(self.model_.exponents) :]

    def predict(self, X: ArrayLike) -> Array:
        """Most likely abundances, shape ``(N, K)``; not clipped, so noise can make them negative or above 1."""
        return self.invert(X).theta[:, self.n_continuum :]

    def invert(self, X: ArrayLike, present: NDArray[np.bool_] | None = None) -> Inversion:
        """Most likely continuum coordinates and abundances of each spectrum, with their information.

        With `present`, a mask ``(K,)``, the other components are known to be absent, and none of the unknowns.
        """
        check_is_fitted(self)
        model, (low, high) = self.model_ if present is None else self.model_.only(present), self._z_range
        reach, edge = FREEDOM * (high - low), FREEDOM * model.top
        highest = self.highest or 0.0
        top = np.where(highest > model.top + edge, (1.0 + FREEDOM) * highest, model.top + edge)
        halves = np.tile(0.5 * model.top, (N_STARTS, 1))
        lower, upper = [*(low - reach), *-edge], [*(high + reach), *top]
        return invert(model, self._in_unit(X), np.hstack([self._z_starts, halves]), lower, upper)

    def residual(self, X: ArrayLike, sets: ArrayLike | None = None) -> Array:
        r"""What the best explanation of each spectrum leaves unexplained, :math:`(y - \mu) / \mu^p`, shape ``(N, W)``.

        With `sets`, shape ``(H, K)``, only components that one of these masks holds may be present together; all may
        if not given.
        """
        check_is_fitted(self)
        masks = np.ones((1, len(self.model_.top)), bool) if sets is None else np.asarray(sets, bool)
        found = ((self.model_.only(present), self.invert(X, present)) for present in masks)
        return inversion.unexplained(self._in_unit(X), ((model, top.theta, top.log_likelihood) for model, top in found))

    def log_likelihood(self, theta: Array, residual: Array) -> Array:
        """How well the model foretells spectra from their true abundances, see :meth:`explain`; shape ``(N,)``.

        Log likelihood of the flux, up to a constant, with each spectrum's noise level and continuum coordinates at
        their best, less one for each coordinate that was free to adapt (Akaike's correction).
        """
        variance, mean = np.square(residual).mean(axis=1), self.model_.flux(theta)
        spread = self.noise_power * np.log(mean).sum(axis=1)
        return -0.5 * mean.shape[1] * np.log(variance) - spread - self.n_continuum

    def explain(self, X: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
        """Explain spectra by their true abundances ``(N, K)``, their continuum coordinates at their best.

        Returns coordinates and abundances, ``(N, Q + K)``, and what is left, as :meth:`residual` has it, ``(N, W)``.
        """
        check_is_fitted(self)
        flux = self._in_unit(X)
        log_flux, _ = _straight_log(flux, self.noise_power)
        a, z = np.asarray(y, float).reshape(len(log_flux), -1), self.invert(X).theta[:, : self.n_continuum]
        for _ in range(3):
            z = np.clip(_locate(self.model_, log_flux, z, a), *self._z_range)
        theta = np.hstack([z, a])
        return theta, inversion.noise_of(flux, self.model_.flux(theta), self.noise_power)

    def recombine(
        self, X: ArrayLike, y: ArrayLike, count: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], Array, Array]:
        """Make spectra with any components together, out of what the learned forward model finds in given ones.

        Each has the continuum coordinates of one spectrum and the noise level of another, both drawn by `rng`; every
        component is there or not by the toss of a coin, whatever the others do, with the abundance of a spectrum that
        holds it. The noise is drawn anew. Returns flux ``(count, W)``, abundances ``(count, K)`` and noise levels
        ``(count,)``.
        """
        theta, residual = self.explain(X, y)
        z, a = np.split(theta, [self.n_continuum], axis=1)
        noise = np.sqrt(np.square(residual).mean(axis=1))
        continuum, noise = z[rng.integers(len(z), size=count)], noise[rng.integers(len(z), size=count)]
        abundance = np.stack([rng.choice(column[column != 0], count) for column in a.T], axis=1)
        abundance *= rng.integers(0, 2, abundance.shape)
        made = np.empty((count, residual.shape[1]), np.float32)
        for rows in chunks(count, BLOCK):
            exact = self.model_.flux(np.hstack([continuum[rows], abundance[rows]]))
            made[rows] = add_noise(exact, noise[rows], rng, self.noise_power) * self.flux_unit_
        return made, abundance, noise * self.flux_unit_ ** (1.0 - self.noise_power)

    def _in_unit(self, X: ArrayLike) -> NDArray:
        flux = check_flux(self, X)
        flux = flux / flux.dtype.type(self.flux_unit_)
        # as in training; counted photons are compared with the model as they are
        return np.maximum(flux, flux.dtype.type(LOG_FLOOR)) if self.noise_power == 1.0 else flux

    def _start(self, log_flux: Array, weight: Array, a: Array) -> Array:
        """Coordinates along the blank spectra's principal components, cleared of what goes with an abundance."""
        blank = ~a.any(axis=1)
        mean = weight[blank] @ log_flux[blank] / weight[blank].sum()
        weighted = (log_flux[blank] - mean) * np.sqrt(weight[blank])[:, None]
        z = (log_flux - mean) @ randomized_svd(weighted, self.n_continuum, random_state=0)[2].T
        center = z[blank].mean(axis=0)
        for k in range(a.shape[1]):
            rows = a[:, k] != 0
            powers = np.vander(a[rows, k], self.degree + 1)
            z[rows] += center - powers @ np.linalg.lstsq(powers, z[rows], rcond=None)[0]
        return (z - center) / _spread(z)


def _spread(z: Array) -> Array:
    """Standard deviation of each coordinate, or 1 where all continua are the same."""
    spread = z.std(axis=0)
    return np.where(spread > 0, spread, 1.0)


def _straight_log(flux: NDArray, power: float) -> tuple[Array, Array]:
    """Log flux without the bias of the logarithm, and one over its variance at flux 1 as the bins tell it."""
    lit = np.maximum(flux.astype(np.float64), LOG_FLOOR)
    log_flux = np.log(lit)
    steady = log_flux if power == 1.0 else lit ** (1.0 - power) / (1.0 - power)
    variance = np.maximum(np.square(bin_scatter(steady)), LEAST_VARIANCE)[:, None]
    spread = variance if power == 1.0 else variance * uniform_filter1d(lit, SMOOTHING, axis=1) ** (2.0 * power - 2.0)
    log_flux += 0.5 * np.minimum(spread, 1.0)  # the mean of log(1 + noise) is -variance / 2 where that is small
    return log_flux, 1.0 / variance[:, 0]


def _learn(model: LogAdditiveModel, log_flux: NDArray, weight: Array, z: Array, a: Array) -> LogAdditiveModel:
    """Templates by weighted least squares: one small system, the same for all bins."""
    features = model.features(np.hstack([z, a]))
    weighted = features * weight[:, None]
    normal = weighted.T @ features
    normal[np.diag_indices_from(normal)] *= 1.0 + 1e-12
    moments = weighted.T.astype(log_flux.dtype) @ log_flux
    return replace(model, templates=np.asarray(solve(normal, moments), np.float64))


def _locate(model: LogAdditiveModel, log_flux: NDArray, z: Array, a: Array) -> Array:
    """Continuum coordinates after one Gauss-Newton step, the abundances known."""
    slopes, continua = model.continuum_slopes(z), model.continua
    trusted = (continua * model.light).T
    explained = model.features(np.hstack([z, a])) @ (model.templates @ trusted)
    gradient = slopes @ (log_flux @ trusted.astype(log_flux.dtype) - explained)[:, :, None]
    return z + solve(slopes @ (continua @ trusted) @ slopes.transpose(0, 2, 1), gradient)[:, :, 0]
