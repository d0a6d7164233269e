"""Linear estimators: ridge regression on all bins, and a window around each line."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, validate_data

from spectral_tutorial.data import LOG_FLOOR, MissingSpectraError, brightness, flux_unit
from spectral_tutorial.estimators.checking import check_both, check_flux, check_several
from spectral_tutorial.estimators.inversion import Array

PENALTIES = tuple(10.0**power for power in np.arange(-2.0, 3.5, 0.5))  #: ridge penalties to choose from
DEGREE = 2  #: of a window's local continuum
REACH = 5.0  #: half a window, in widths of its line
CORE = 2.5  #: half of what counts as the line, in its widths: the rest of the window is continuum


def ridge(log: bool, rank: int | None = None) -> Pipeline:
    r"""Ridge regression of the abundances on flux, or on its logarithm.

    .. math:: \min_{w, b} \sum_n |a_n - w \cdot x_n - b|^2 + \alpha |w|^2, \qquad x = y \text{ or } \log y

    The penalty is the one, of ``PENALTIES``, with the smallest leave-one-out error over the training spectra (Hoerl &
    Kennard 1970). A linear map cannot say "the one is there, so the other is not"; on log flux, where lines add, it
    need not. With `rank`, it regresses on so many leading principal components only: a few hundred of a thousand bins
    read as well in distribution as all of them, since what is left out is noise, and are found four times faster.
    """
    steps = [("read", Flux(log)), ("ridge", RidgeCV(PENALTIES, gcv_mode="svd"))]
    if rank is not None:
        steps.insert(1, ("components", PCA(rank, svd_solver="covariance_eigh")))
    return Pipeline(steps)


class Flux(TransformerMixin, BaseEstimator):
    """Flux in units of the training spectra's, or its logarithm: penalties then mean the same for any unit of flux.

    Logarithms are taken of flux floored at ``data.LOG_FLOOR`` in that unit; without them flux may be negative, as
    absorbance is. The unit is the training spectra's :func:`~spectral_tutorial.data.brightness`; before a logarithm,
    where a factor is no more than a constant, the power of two next to it, see
    :func:`~spectral_tutorial.data.flux_unit`.
    """

    def __init__(self, log: bool) -> None:
        self.log = log

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn the unit and the number of bins from flux ``(N, W)``."""
        flux = validate_data(self, X)
        check_several(flux)
        self.unit_ = flux_unit(flux) if self.log else brightness(flux)
        return self

    def transform(self, X: ArrayLike) -> Array:
        """Flux or its logarithm, float64, shape ``(N, W)``."""
        check_is_fitted(self)
        flux = np.asarray(check_flux(self, X, signed=not self.log), np.float64) / self.unit_
        return _log(flux) if self.log else flux


def _log(flux: Array) -> Array:
    return np.log(np.maximum(flux, LOG_FLOOR))


class WindowedRidge(RegressorMixin, BaseEstimator):
    r"""Read each component from a window around its line, with the local continuum taken out.

    Within ``REACH`` widths of the line's center, a polynomial is fitted to log flux outside of the line's core and
    taken away; ridge regression on what is left, its penalty chosen by leave-one-out error, gives the abundance. It
    needs to know the place and width of each line, not the shape, the strength or the temperature, and it is good for
    lines that are narrow beside whatever else changes the window.

    Parameters
    ----------
    wavelength : array, shape (W,)
        Wavelengths in nm.
    center, width : sequence of float, length K
        Place and Gaussian sigma of each component's line in nm.

    Notes
    -----
    Reading each element from its own windows is how surveys do it; a network with such windows: Leung & Bovy 2019.
    """

    def __init__(self, wavelength: ArrayLike, center: ArrayLike, width: ArrayLike) -> None:
        self.wavelength = wavelength
        self.center = center
        self.width = width

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from flux ``(N, W)`` and abundances ``(N, K)``.

        MissingSpectraError if there is a single spectrum, or a line around which there are no bins.
        """
        flux, truth = check_both(self, X, y)
        n_lines = len(np.atleast_1d(np.asarray(self.center)))
        if (flux.shape[1], truth.shape[1]) != (np.size(self.wavelength), n_lines):
            raise ValueError(
                f"flux and abundances have shapes {flux.shape} and {truth.shape}; "
                f"expected (N, {np.size(self.wavelength)}) and (N, {n_lines})"
            )
        check_several(flux)
        self.flux_unit_ = flux_unit(flux)
        self.maps_ = [
            RidgeCV(PENALTIES, gcv_mode="svd").fit(self._window(flux, k), column) for k, column in enumerate(truth.T)
        ]
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Abundances, shape ``(N, K)``."""
        check_is_fitted(self, "maps_")
        flux = check_flux(self, X)
        return np.column_stack([read.predict(self._window(flux, k)) for k, read in enumerate(self.maps_)])

    def _window(self, flux: Array, k: int) -> Array:
        """Log flux around line k over its local continuum, shape ``(N, bins in the window)``."""
        center, width = np.atleast_1d(np.asarray(self.center))[k], np.atleast_1d(np.asarray(self.width))[k]
        distance = (np.asarray(self.wavelength, float) - center) / width
        inside = np.abs(distance) <= REACH
        if not inside.any():
            raise MissingSpectraError(f"no bin lies within {REACH:g} widths of the line at {center:g} nm")
        window, place = _log(np.asarray(flux[:, inside], float) / self.flux_unit_), distance[inside] / REACH
        beside = np.abs(distance[inside]) > CORE
        powers = np.vander(place, DEGREE + 1)
        # One matrix for all spectra: from the bins beside the line to the continuum in all of the window's bins.
        bridge = powers @ np.linalg.pinv(powers[beside])
        return window - window[:, beside] @ bridge.T
