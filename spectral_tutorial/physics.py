"""The forward model: what a spectrum is made of.

One formula, everywhere in this project::

    flux = B(wavelength, T) / B(Wien's peak, T)  x  prod over lines of f_k  x  (1 + noise x standard normal)

    f_k = 1 + strength_k abundance_k G_k      (line_law: linear)
    f_k = exp(strength_k abundance_k G_k)     (line_law: beer_lambert)
    G_k = exp(-(wavelength - center_k)^2 / (2 width_k^2)), or a measured profile

Its logarithm is a sum, and that is why the chapters keep taking logarithms. Where photons are counted (``noise_law:
photon``) the noise is in proportion to the root of the mean flux mu: flux = mu + noise x mu^(1/2) x standard normal.

Axes: ``N`` spectra, ``L`` lines, ``W`` wavelength bins (always last). Wavelengths and widths are in nm,
temperatures in K; flux, abundance and strength are dimensionless. All arithmetic is float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial.sections import Line, SpectraConfig

Array = NDArray[np.float64]

HC_OVER_K = 1.438776877e7  #: second radiation constant h c / k in nm K (exact SI values of h, c and k, 2019)
WIEN_X = 4.965114231744276  #: root of x = 5 (1 - exp(-x)): the dimensionless place h c / (lambda k T) of Planck's peak
WIEN_NM_K = HC_OVER_K / WIEN_X  #: Wien's displacement constant in nm K: the continuum peaks at ``WIEN_NM_K / T``
DARK = float(np.finfo(np.float32).tiny)
"""Flux below this, the smallest normal number in single precision, shows nothing."""

NOISE_POWERS = {"relative": 1.0, "photon": 0.5}
"""By ``noise_law``, the power p of the mean flux to which the noise is in proportion: what flickers, or is counted."""


def _planck_exponent(wavelength: ArrayLike, temperature: ArrayLike) -> Array:
    """H c / (lambda k T), dimensionless, shape ``(N, W)``."""
    wavelength = np.asarray(wavelength, float)
    temperature = np.atleast_1d(np.asarray(temperature, float))
    return HC_OVER_K / (wavelength * temperature[:, None])


def log_continuum(wavelength: ArrayLike, temperature: ArrayLike) -> Array:
    r"""Logarithm of the black-body continuum, 0 at its peak.

    .. math:: \log \frac{B(\lambda, T)}{B(\lambda_{\rm peak}, T)}
              = 5 \log \frac{x}{x_W} - \log\frac{e^{x} - 1}{e^{x_W} - 1}, \qquad x = \frac{hc}{\lambda k T}

    with :math:`x_W` the place of Wien's peak. Dividing by the analytic peak, and not by the largest value on the
    grid, keeps the continuum smooth in temperature.

    Of wavelengths ``(W,)`` in nm and temperatures ``(N,)`` in K; dimensionless, at most 0, shape ``(N, W)``.
    """
    x = _planck_exponent(wavelength, temperature)
    # log(e^x - 1) = x + log(1 - e^-x) cannot overflow, however short the wavelength.
    log_expm1 = x + np.log(-np.expm1(-x))
    return 5.0 * np.log(x / WIEN_X) - log_expm1 + np.log(np.expm1(WIEN_X))


def continuum(wavelength: ArrayLike, temperature: ArrayLike) -> Array:
    r"""Black-body continuum with its peak at 1, shape ``(N, W)``; same arguments as :func:`log_continuum`.

    .. math:: \frac{B(\lambda, T)}{B(\lambda_{\rm peak}, T)}
              = \left(\frac{x}{x_W}\right)^5 \frac{e^{x_W} - 1}{e^{x} - 1}
    """
    x = _planck_exponent(wavelength, temperature)
    shape = (x / WIEN_X) ** 2
    shape *= shape
    shape *= x / WIEN_X  # the fifth power by products: no call of pow for every bin
    with np.errstate(over="ignore"):  # so far into the ultraviolet the right answer is 0
        shape /= np.expm1(x, out=x)
    shape *= np.expm1(WIEN_X)
    return shape


def gaussian_profiles(wavelength: ArrayLike, center: ArrayLike, width: ArrayLike) -> Array:
    """Line profiles exp(-(wavelength - center)^2 / (2 width^2)), 1 at the center, shape ``(L, W)``.

    On wavelengths ``(W,)``, with centers and Gaussian sigmas ``(L,)``, all in nm. A line's area is sqrt(2 pi) x width.
    """
    center = np.atleast_1d(np.asarray(center, float))[:, None]
    width = np.atleast_1d(np.asarray(width, float))[:, None]
    return np.exp(-0.5 * ((np.asarray(wavelength, float) - center) / width) ** 2)


def _profile(wavelength: Array, line: Line) -> Array:
    if line.profile is not None:
        return np.interp(wavelength, line.profile.wavelength, line.profile.values)
    center, width = np.array([line.center, line.width], float)
    return gaussian_profiles(wavelength, center, width)[0]


@dataclass(frozen=True)
class World:
    """The part of the forward model that is the same for every spectrum."""

    wavelength: Array  #: ``(W,)``, in nm
    profiles: Array  #: ``(L, W)``, line profiles G, dimensionless, from 0 to 1, which is at the line center
    strength: Array  #: ``(L,)``, negative for absorption, positive for emission
    labels: tuple[str, ...]  #: the name of each line
    law: str = "linear"  #: or "beer_lambert": how an abundance becomes a factor on the flux
    noise_power: float = 1.0  #: p, one of ``NOISE_POWERS``

    @classmethod
    def from_config(cls, config: SpectraConfig) -> Self:
        """Build the world that ``synthetic_spectra.yaml`` describes.

        A measured profile goes in straight lines from point to point. It is divided by its largest value on the grid,
        and the strength multiplied by it: so a profile is never above 1, and the strength is what happens at its top.
        """
        wavelength = np.linspace(config.wavelength_min, config.wavelength_max, config.n_bins)
        profiles = np.array([_profile(wavelength, line) for line in config.lines])
        top = np.array(
            [row.max() or 1.0 if line.profile else 1.0 for row, line in zip(profiles, config.lines, strict=True)]
        )
        strength = np.array([line.strength for line in config.lines]) * top
        power = NOISE_POWERS[config.noise_law]
        return cls(wavelength, profiles / top[:, None], strength, config.labels, config.line_law, power)

    def index(self, labels: Sequence[str]) -> list[int]:
        """Places of `labels` among the lines; raises ValueError naming the valid labels."""
        unknown = [label for label in labels if label not in self.labels]
        if unknown:
            raise ValueError(f"unknown line {unknown[0]!r}; expected one of {', '.join(self.labels)}")
        return [self.labels.index(label) for label in labels]

    def line_log_factors(self, abundance: ArrayLike) -> Array:
        """Each line's own imprint on log flux, log f_k, shape ``(N, L, W)``; `abundance` is ``(N, L)``."""
        depth = (self._check(abundance) * self.strength)[:, :, None] * self.profiles
        return depth if self.law == "beer_lambert" else np.log1p(depth)

    def factors(self, abundance: ArrayLike) -> Array:
        """Product of all lines' factors, shape ``(N, W)``: what the lines do to the continuum.

        A line whose abundance is zero in every spectrum costs nothing, and each line is multiplied in only where it
        is present: most spectra here hold none or one of twenty.
        """
        depth = self._check(abundance) * self.strength
        if self.law == "beer_lambert":
            present = np.flatnonzero(depth.any(axis=0))
            return np.exp(depth[:, present] @ self.profiles[present])
        product = np.ones((len(depth), self.wavelength.size))
        for k in np.flatnonzero(depth.any(axis=0)):
            rows = np.flatnonzero(depth[:, k])
            product[rows] *= 1.0 + depth[rows, k, None] * self.profiles[k]
        return product

    def mean_flux(self, temperature: ArrayLike, abundance: ArrayLike) -> Array:
        """Noise-free flux, shape ``(N, W)``: continuum of temperatures ``(N,)`` in K times :meth:`factors`."""
        # Too many strong lines in one place: infinite, and no number where there is no light. The caller sees it.
        with np.errstate(over="ignore", invalid="ignore"):
            flux = self.factors(abundance)
            flux *= continuum(self.wavelength, temperature)
        return flux

    def log_jacobian(self, temperature: ArrayLike, abundance: ArrayLike, free: Sequence[int]) -> Array:
        r"""Derivatives of log mean flux with respect to the abundances `free` and, last, the temperature.

        .. math:: \frac{\partial \log \mu}{\partial a_k} = \frac{s_k G_k}{1 + s_k a_k G_k}
                  \;\text{(linear)}, \quad s_k G_k \;\text{(Beer-Lambert)}, \qquad
                  \frac{\partial \log \mu}{\partial T} = \frac{1}{T}\left(\frac{x}{1 - e^{-x}} - 5\right)

        Per unit abundance, the last row per K, shape ``(N, len(free) + 1, W)``. Infinite where a line leaves no flux.
        """
        abundance, free = self._check(abundance), list(free)
        temperature = np.atleast_1d(np.asarray(temperature, float))
        jacobian = np.empty((len(abundance), len(free) + 1, self.wavelength.size))
        slope = self.strength[free, None] * self.profiles[free]
        jacobian[:, :-1] = slope
        if self.law == "linear":
            with np.errstate(divide="ignore"):  # a line that leaves no flux: the logarithm falls without end
                jacobian[:, :-1] /= 1.0 + abundance[:, free, None] * slope
        x = _planck_exponent(self.wavelength, temperature)
        jacobian[:, -1] = (x / -np.expm1(-x) - 5.0) / temperature[:, None]
        return jacobian

    def _check(self, abundance: ArrayLike) -> Array:
        abundance = np.atleast_2d(np.asarray(abundance, float))
        if abundance.shape[-1] != len(self.labels):
            raise ValueError(f"abundance has shape {abundance.shape}; expected (N, {len(self.labels)})")
        return abundance


def add_noise(flux: Array, noise_level: ArrayLike, rng: np.random.Generator, power: float = 1.0) -> Array:
    """Add noise, noise_level x flux^power x standard normal, one draw from `rng` a bin.

    To noise-free flux ``(N, W)``. A spectrum's noise level ``(N,)`` is the relative standard deviation where flux is 1;
    for a power of 1 it is so everywhere. One of 1/2 is what counting photons does, as long as they are many: the level
    is then one over the root of how many a bin at flux 1 gets, and a dark bin's flux can come out below 0.
    """
    # Single-precision draws: 1e-7 of a noise level is far below anything the flux, kept as float32, could show.
    normal = rng.standard_normal(flux.shape, dtype=np.float32)
    level = np.atleast_1d(noise_level)[:, None]
    return flux * (1.0 + level * normal) if power == 1.0 else flux + level * flux**power * normal


def light_of(flux: Array, power: float) -> Array:
    """How much a bin's relative deviation counts where noise has this power p: flux^(1 - p) ``(N, W)``.

    0 where there is no flux; for p = 1 all bins count alike, a one ``(1, 1)``.
    """
    return np.ones((1, 1)) if power == 1.0 else np.maximum(flux, 0.0) ** (1.0 - power)


def single_precision(flux: NDArray[np.float64]) -> NDArray[np.float32]:
    """Flux as it is stored; infinite where it is too large for that."""
    with np.errstate(over="ignore"):
        return flux.astype(np.float32)
