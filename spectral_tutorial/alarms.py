"""How unusual a spectrum looks to a reader, and what rings for it: a reader that is wrong need not be unaware of it.

A *score* is one number a spectrum, the larger the more unusual. An *alarm* rings where the score is above what a
small share of known spectra exceed; it knows nothing of what else there might be.

Axes: ``S`` runs (seeds of data or of training), ``N`` spectra, ``W`` bins, ``H`` features.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial.analysis import quantiles

Array = NDArray[np.float64]

FALSE_ALARMS = 0.01  #: share of known spectra for which an alarm may ring


def autocorrelation(residual: ArrayLike) -> Array:
    r"""Correlation of residuals ``(..., W)`` with themselves one bin further, shape ``(...)``.

    .. math:: \rho = \frac{\sum_b r_b \, r_{b+1}}{\sum_b r_b^2}

    Noise that is independent from bin to bin has 0 with a standard deviation of :math:`1 / \sqrt W`, whatever its
    level; what a model cannot explain is smoother than that, and raises it. :math:`2 (1 - \rho)` is the ratio of von
    Neumann (1941) but for the ends; for residuals of a regression, Durbin and Watson (1950).
    """
    r = np.asarray(residual, float)
    return np.einsum("...b,...b->...", r[..., 1:], r[..., :-1]) / np.einsum("...b,...b->...", r, r)


def mahalanobis(train: ArrayLike, kind: ArrayLike, features: ArrayLike) -> Array:
    r"""Distance of features ``(N, H)`` to the nearest kind of training spectrum, squared, shape ``(N,)``.

    .. math:: \min_c \, (f - \bar f_c)^\top \Sigma^{-1} (f - \bar f_c)

    with the mean of each kind c and one covariance for all kinds, both from the features `train` ``(M, H)`` of
    spectra of kinds `kind` ``(M,)``: Lee, Lee, Lee & Shin 2018. Directions in which training does not vary, those of
    dead units say, do not count.
    """
    known, f = np.asarray(train, float), np.asarray(features, float)
    kinds, which = np.unique(np.asarray(kind), return_inverse=True)
    means = np.stack([known[which == c].mean(axis=0) for c in range(len(kinds))])
    inside = known - means[which]
    precision = np.linalg.pinv(inside.T @ inside / len(known), hermitian=True)
    away = f[:, None] - means
    return np.asarray(np.einsum("nch,hg,ncg->nc", away, precision, away, optimize=True).min(axis=1))


def ring(known: ArrayLike, new: ArrayLike, false_alarms: float = FALSE_ALARMS) -> tuple[NDArray[np.bool_], ...]:
    """Set an alarm by every second known spectrum, and say for which of the others, and of the new ones, it rings.

    From scores ``(..., N)`` of spectra of the training distribution, and of those that might be something else: false
    alarms ``(..., N / 2)`` and what is caught, ``(..., N)``. Each run has an alarm of its own. Its level is the
    quantile of known spectra at 1 less the share that may exceed it; ValueError if that is less than one of them.
    """
    usual, scores = np.asarray(known, float), np.asarray(new, float)
    setting = usual[..., ::2]
    if setting.shape[-1] * false_alarms < 1:
        raise ValueError(
            f"{setting.shape[-1]} known spectra set the alarm; expected at least {1 / false_alarms:.0f}, "
            f"for a share of {false_alarms:g} false alarms"
        )
    level = np.quantile(setting, 1.0 - false_alarms, axis=-1, keepdims=True)
    return usual[..., 1::2] > level, scores > level


def share_by(caught: ArrayLike, values: ArrayLike, edges: Sequence[float] | None = None) -> pd.DataFrame:
    """Share of spectra for which the alarms ring, by a quantity of each spectrum: median and quartiles over runs.

    `caught` ``(S, N)`` is what :func:`ring` says, `values` the quantity, ``(N,)`` or ``(S, N)``, and `edges` the
    borders of its ranges; its lowest, middle and highest third if not given. Columns low, median, high; a row a range,
    NaN where no spectrum is.
    """
    rang = np.asarray(caught, bool)
    measured = np.broadcast_to(np.asarray(values, float), rang.shape)
    if edges is None:
        names = ["lowest", "middle", "highest"]
        places = 3 * measured.argsort(axis=1, kind="stable").argsort(axis=1) // rang.shape[1]
    else:
        names = [f"{low:.1f} to {high:.1f}" for low, high in pairwise(edges)]
        places = np.searchsorted(edges, measured, side="right") - 1
    runs = pd.DataFrame([pd.Series(one).groupby(at).mean() for one, at in zip(rang, places, strict=True)])
    table = quantiles(runs.reindex(columns=range(len(names)))).T
    return table.set_axis(["low", "median", "high"], axis=1).set_axis(names)
