"""Choosing an estimator's settings on held-out spectra of the training distribution, never on the test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import ParameterGrid

from spectral_tutorial import cores
from spectral_tutorial.estimators.decoder import LogAdditiveDecoder

DECODER_SETTINGS: tuple[Mapping[str, Sequence[int]], ...] = (
    {"n_continuum": (1,), "continuum_degree": (2,), "degree": (2, 3, 4)},
    {"n_continuum": (3,), "continuum_degree": (1,), "degree": (3,)},
)
"""Grids of the decoder's settings: a curved line of continua, or a flat space of three dimensions."""


def choose_decoder(
    X: ArrayLike,
    y: ArrayLike,
    X_val: ArrayLike,
    y_val: ArrayLike,
    settings: Any = DECODER_SETTINGS,
) -> tuple[LogAdditiveDecoder, list[dict[str, Any]]]:
    """Fit a decoder with each of some settings and keep the one that best foretells the held-out spectra.

    Parameters
    ----------
    X, y : array, shapes (N, W) and (N, K)
        Training spectra and abundances.
    X_val, y_val : array, shapes (N', W) and (N', K)
        Held-out spectra of the same distribution.
    settings : mapping or sequence of mappings
        Grids, in the form of :class:`sklearn.model_selection.ParameterGrid`.

    Returns
    -------
    LogAdditiveDecoder
        The one with the largest mean :meth:`~LogAdditiveDecoder.log_likelihood`, fitted to the training spectra only.
    list of dict
        Every setting with that mean, ``log_likelihood``.
    """

    def judged(chosen: Mapping[str, int]) -> tuple[LogAdditiveDecoder, float]:
        decoder = LogAdditiveDecoder(**chosen).fit(X, y)
        return decoder, float(decoder.log_likelihood(X_val, y_val).mean())

    tried = list(ParameterGrid(settings))
    fitted, likelihoods = zip(*cores.parallel_map(judged, tried), strict=True)
    table = [{**chosen, "log_likelihood": likelihood} for chosen, likelihood in zip(tried, likelihoods, strict=True)]
    return fitted[int(np.argmax(likelihoods))], table
