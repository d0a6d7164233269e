"""What every estimator of this package asks of the spectra that it is given."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from spectral_tutorial.data import MissingSpectraError


def check_flux(estimator: BaseEstimator, X: ArrayLike, signed: bool = False) -> NDArray[Any]:
    """Return flux ``(N, W)`` to predict from, on the grid that the estimator was fitted to.

    Where it is `signed`, measured absorbance for instance, it may be negative.

    ValueError if the number of bins is another one, a value is not finite, or something is masked. MissingSpectraError
    if a spectrum has no flux above 0; where it is signed, if all of it is 0.
    """
    return _lit(validate_data(estimator, _unmasked(X), reset=False), signed)


def check_both(estimator: BaseEstimator, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return flux ``(N, W)`` and abundances ``(N, K)`` to fit to; the estimator learns its number of bins."""
    flux, truth = validate_data(estimator, _unmasked(X), _unmasked(y), multi_output=True, y_numeric=True)
    return _lit(flux), np.asarray(truth, float).reshape(len(truth), -1)


def check_several(flux: NDArray[Any]) -> None:
    """Refuse a single spectrum, which no regression can learn from."""
    if len(flux) < 2:
        raise MissingSpectraError(f"found n_samples = {len(flux)}; expected at least 2 spectra to learn from")


def _unmasked(values: ArrayLike) -> ArrayLike:
    mask = getattr(values, "mask", None)
    if mask is not None and not callable(mask) and np.any(mask):
        raise ValueError("found masked values; expected none: leave those bins or those spectra out")
    return values


def _lit(flux: NDArray[Any], signed: bool = False) -> NDArray[Any]:
    dark = np.flatnonzero(~(flux != 0 if signed else flux > 0).any(axis=1))
    if dark.size:
        raise MissingSpectraError(
            f"{dark.size} of {len(flux)} spectra have no flux above 0, the first of them number {dark[0]} counted from "
            "0; expected light in every spectrum: leave dead fibers out"
        )
    return flux
