"""Linear readers: ridge regression on all bins, and a window around each line."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_array, check_is_fitted, check_X_y

from spectral_tutorial.data import LOG_FLOOR
from spectral_tutorial.estimators.inversion import Array

PENALTIES = tuple(10.0**power for power in np.arange(-2.0, 3.5, 0.5))
"""Ridge penalties to choose from."""

REACH = 5.0
"""Half a window, in widths of its line."""

CORE = 2.5
"""Half of what counts as the line, in its widths: the rest of the window is continuum."""


def ridge(log: bool, rank: int | None = None) -> Pipeline:
    r"""Ridge regression of the abundances on flux, or on its logarithm.

    .. math:: \min_{w, b} \sum_n |a_n - w \cdot x_n - b|^2 + \alpha |w|^2, \qquad x = y \text{ or } \log y

    The penalty is the one, of ``PENALTIES``, with the smallest leave-one-out error over the training spectra (Hoerl &
    Kennard 1970). Linear, the reader cannot say "the one is there, so the other is not"; on log flux, where lines add,
    it need not.

    Parameters
    ----------
    log : bool
        Whether to take logarithms, of flux floored at ``data.LOG_FLOOR``.
    rank : int, optional
        Regress on this many leading principal components only. A few hundred of a thousand bins read as well in
        distribution as all of them, since what is left out is noise, and are found four times faster.
    """
    read = FunctionTransformer(_log if log else _double)
    steps = [("read", read), ("ridge", RidgeCV(PENALTIES, gcv_mode="svd"))]
    if rank is not None:
        steps.insert(1, ("components", PCA(rank, svd_solver="covariance_eigh")))
    return Pipeline(steps)


def _double(flux: ArrayLike) -> Array:
    return np.asarray(flux, dtype=np.float64)


def _log(flux: ArrayLike) -> Array:
    return np.log(np.maximum(_double(flux), LOG_FLOOR))


class LocalReader(RegressorMixin, BaseEstimator):
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
    degree : int
        Degree of the local continuum.

    Notes
    -----
    Reading each element from its own windows is how surveys do it; a network with such windows: Leung & Bovy 2019.
    """

    def __init__(self, wavelength: ArrayLike, center: ArrayLike, width: ArrayLike, degree: int = 2) -> None:
        self.wavelength = wavelength
        self.center = center
        self.width = width
        self.degree = degree

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from flux ``(N, W)`` and abundances ``(N, K)``."""
        flux, truth = check_X_y(X, y, multi_output=True, y_numeric=True)
        truth = np.asarray(truth, float).reshape(len(truth), -1)
        n_lines = len(np.atleast_1d(np.asarray(self.center)))
        if (flux.shape[1], truth.shape[1]) != (np.size(self.wavelength), n_lines):
            raise ValueError(
                f"flux and abundances have shapes {flux.shape} and {truth.shape}; "
                f"expected (N, {np.size(self.wavelength)}) and (N, {n_lines})"
            )
        self.maps_ = [
            RidgeCV(PENALTIES, gcv_mode="svd").fit(self._window(flux, k), column) for k, column in enumerate(truth.T)
        ]
        self.n_features_in_ = flux.shape[1]
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Abundances, shape ``(N, K)``."""
        check_is_fitted(self, "maps_")
        flux = check_array(X)
        return np.column_stack([read.predict(self._window(flux, k)) for k, read in enumerate(self.maps_)])

    def _window(self, flux: Array, k: int) -> Array:
        """Log flux around line k over its local continuum, shape ``(N, bins in the window)``."""
        center, width = np.atleast_1d(np.asarray(self.center))[k], np.atleast_1d(np.asarray(self.width))[k]
        distance = (np.asarray(self.wavelength, float) - center) / width
        inside = np.abs(distance) <= REACH
        window, place = _log(flux[:, inside]), distance[inside] / REACH
        beside = np.abs(distance[inside]) > CORE
        powers = np.vander(place, self.degree + 1)
        # One matrix for all spectra: from the bins beside the line to the continuum in all of the window's bins.
        bridge = powers @ np.linalg.pinv(powers[beside])
        return window - window[:, beside] @ bridge.T
