"""Choosing an estimator's settings on held-out spectra of the training distribution, never on the test."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import ParameterGrid

from spectral_tutorial import cores
from spectral_tutorial.estimators.decoder import LogAdditiveDecoder
from spectral_tutorial.estimators.inversion import Array, solve
from spectral_tutorial.physics import light_of

DECODER_SETTINGS: tuple[Mapping[str, Sequence[int]], ...] = (
    {"n_continuum": (1,), "continuum_degree": (2,), "degree": (3, 4, 5)},
    {"n_continuum": (3,), "continuum_degree": (1,), "degree": (3,)},
)
"""Grids of the decoder's settings: a curved line of continua, or a flat space of three dimensions."""

SLACK = 0.01  #: a degree is enough where its misreading is above the least by no more than this share of it


def choose_decoder(
    X: ArrayLike,
    y: ArrayLike,
    X_val: ArrayLike,
    y_val: ArrayLike,
    settings: Any = DECODER_SETTINGS,
    noise_power: float = 1.0,
) -> tuple[LogAdditiveDecoder, list[dict[str, Any]]]:
    r"""Fit a decoder with each of some settings and keep one that held-out spectra speak for.

    The continua are those of the setting with the largest mean :meth:`~LogAdditiveDecoder.log_likelihood`, the
    *reference*. For the degree the likelihood is a poor judge: it counts the noise of the learned shapes in all bins,
    but what is wrong with them matters only as far as it looks like an abundance. Nor is the error of the abundances
    one: where one of two components is always absent, a decoder that overfits reads it as exactly 0, looks better than
    the Cramér-Rao bound, and pays for it on combinations. So degrees are compared by their *misreading*, the squared
    error that the residuals r of known spectra would lead to, in the directions J that the reference reads (slopes of
    log flux times :math:`\mu^{1 - p}`),

    .. math:: \frac{1}{K} \Big\langle \frac{1}{\sigma^2} \, r^T J^T (J J^T)^{-1} J \, r \Big\rangle ,

    over each spectrum's own noise :math:`\sigma^2`, so that quiet spectra count as much as others: about 1 where noise
    is all that is wrong. The lowest degree within ``SLACK`` of the least is chosen.

    From training spectra ``(N, W)`` and abundances ``(N, K)``, and held-out ones of the same distribution. `settings`
    is a grid, or several, as :class:`sklearn.model_selection.ParameterGrid` takes them, `noise_power` the decoder's p.
    Returns the chosen decoder, fitted to the training spectra only, and every setting with its ``log_likelihood`` and
    ``misreading``, the chosen one first; the latter is NaN where more than the degree differs from the reference.
    """

    def judged(chosen: Mapping[str, int]) -> tuple[LogAdditiveDecoder, tuple[Array, Array], float]:
        decoder = LogAdditiveDecoder(noise_power=noise_power, **chosen).fit(X, y)
        explained = decoder.explain(X_val, y_val)
        return decoder, explained, float(decoder.log_likelihood(*explained).mean())

    tried = list(ParameterGrid(settings))
    fitted, explained, likelihoods = zip(*cores.parallel_map(judged, tried), strict=True)
    likeliest = int(np.argmax(likelihoods))
    reference, other = fitted[likeliest], [{**chosen, "degree": 0} for chosen in tried]
    theta, noise = explained[likeliest]
    light = light_of(reference.model_.flux(theta), noise_power)

    def misread(residual: Array) -> float:
        pulled, gram = reference.model_.pull(theta, light * residual, np.square(light))
        squared = (pulled * solve(gram, pulled[:, :, None])[:, :, 0]).sum(axis=1)
        return float((squared / np.square(noise).mean(axis=1)).mean() / len(reference.model_.top))

    alike = [place for place in range(len(tried)) if other[place] == other[likeliest]]
    misreading = np.full(len(tried), np.nan)
    misreading[alike] = cores.parallel_map(misread, [explained[place][1] for place in alike])
    enough = [place for place in alike if misreading[place] <= (1 + SLACK) * np.nanmin(misreading)]
    best = min(enough, key=lambda place: fitted[place].degree)
    judgements = zip(tried, likelihoods, misreading.tolist(), strict=True)
    table = [{**chosen, "log_likelihood": ll, "misreading": wrong} for chosen, ll, wrong in judgements]
    return fitted[best], [table.pop(best), *sorted(table, key=lambda row: -row["log_likelihood"])]
