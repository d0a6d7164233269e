"""Finding the parameters of a spectrum: maximum likelihood for many spectra at once, the noise level unknown.

An estimator that has a forward model, given or learned, predicts by inverting it: which parameters make the model's
spectrum look like this one? All such estimators of this package share the search in this module.

Axes: ``N`` spectra, ``P`` parameters, ``W`` bins.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial import cores
from spectral_tutorial.data import LOG_FLOOR, chunks
from spectral_tutorial.physics import DARK, light_of

Array = NDArray[np.float64]

BLOCK = 256  #: spectra inverted together: enough that threads work on arrays and do not queue for the interpreter
MAX_STEPS = 60
TOLERANCE = 1e-4
"""A search is over when its next step promises less than this much log likelihood: a hundredth of an error bar."""

START_TOLERANCE = 1.0  #: the same for the first, rough search
LEAST_VARIANCE = 1e-13
"""Noise variance of a spectrum that fits exactly: what is left is the rounding of float32."""


class ForwardModel(Protocol):
    """What the search needs to know of a model of the noise-free spectrum."""

    @property
    def noise_power(self) -> float:
        """p: a bin's noise has the standard deviation sigma x flux^p."""
        ...

    def flux(self, theta: Array) -> Array:
        """Noise-free flux, shape ``(N, W)``, for parameters ``(N, P)``; a spectrum that is not positive is refused."""
        ...

    def pull(self, theta: Array, score: Array, weight: Array) -> tuple[Array, Array]:
        """Return J score and J w J^T, shapes ``(N, P)`` and ``(N, P, P)``, with J = d log flux / d theta.

        The weights w are ``(N, W)``, or ``(N, 1)`` where all bins count alike.
        """
        ...


Goal = Callable[[Array, Array, float], tuple[Array, Array, Array]]
"""Observed and modeled flux, and the noise's power -> objective ``(N,)``, its slope per log flux ``(N, W)``, and its
curvature ``(N, W)``, or ``(N, 1)`` where all bins have the same."""


@dataclass(frozen=True)
class Inversion:
    """What the search found."""

    theta: Array  #: ``(N, P)``, most likely parameters
    log_likelihood: Array  #: ``(N,)``, there, with the noise level at its best, up to a constant that all models share
    information: Array  #: ``(N, P, P)``, Fisher information about theta at that noise level


def bin_scatter(steady: Array) -> Array:
    r"""Noise level of each spectrum as its own bins tell it, shape ``(N,)``.

    `steady` is a function of flux whose noise is the same in all bins: its logarithm, or twice its root where photons
    are counted. Second differences, :math:`\ell_{b-1} - 2 \ell_b + \ell_{b+1}`, remove whatever is smooth over three
    bins and have :math:`\sqrt 6` times the noise; their median absolute value is not impressed by the few bins of a
    narrow line.
    """
    second = np.diff(steady, n=2, axis=1)
    normal_median = 0.6744897501960817  # of |standard normal|
    return np.median(np.abs(second), axis=1) / (normal_median * np.sqrt(6.0))


def noise_of(observed: Array, mean: Array, power: float) -> Array:
    """Noise of each bin in units of its noise level, (y - mean) / mean^p."""
    relative: Array = observed / mean
    relative -= 1.0
    return relative if power == 1.0 else relative * mean ** (1.0 - power)


def gram(jacobian: Array, weight: Array) -> Array:
    """J w J^T of Jacobians ``(N, P, W)``, with weights ``(N, W)`` or ``(N, 1)``."""
    turned = jacobian.transpose(0, 2, 1)
    if weight.shape[1] == 1:
        return weight[:, :, None] * (jacobian @ turned)
    return (jacobian * weight[:, None, :]) @ turned


def solve(matrix: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Solution of symmetric systems, the shortest one where there are many: a line that shows nowhere, say."""
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(matrix, hermitian=True) @ right


def invert(
    model: ForwardModel, flux: ArrayLike, starts: ArrayLike, lower: Sequence[float], upper: Sequence[float]
) -> Inversion:
    r"""Most likely parameters of each spectrum.

    With :math:`r = (y - \mu) / \mu^p` and noise :math:`\sigma \mu^p` of unknown size, the log likelihood at the best
    noise level, :math:`\hat\sigma^2 = \langle r^2 \rangle`, is

    .. math:: \ell(\theta) = -\frac{W}{2} \log \langle r^2 \rangle - p \sum_\lambda \log \mu .

    The second term is there because a brighter model also claims more noise; without it every estimate would be biased
    toward bright models. Up to a constant, :math:`\ell` is also what is left when :math:`\sigma` is integrated out with
    a uniform prior on its logarithm. The search is Fisher scoring with Levenberg's damping,

    .. math:: J w J^T \delta = J \Big(\frac{r (\mu^{1-p} + p \, r)}{\hat\sigma^2} - p\Big), \qquad
              w = \frac{\mu^{2-2p}}{\hat\sigma^2} + 2 p^2,

    begun with a rough search that compares logarithms, whose hills are wide, from the start that fits best.

    `model` gives the noise-free flux and its derivatives, `flux` ``(N, W)`` are noisy spectra, and a search may start
    at each of `starts` ``(S, P)``. The box from `lower` to `upper` is wide, and only there to keep the model's flux
    positive.
    """
    observed, box = np.asarray(flux), (np.asarray(lower, float), np.asarray(upper, float))
    begin = np.asarray(starts, float)
    log_starts = np.log(np.maximum(model.flux(begin), DARK))

    def search(rows: slice) -> Inversion:
        block = observed[rows].astype(np.float64)
        log_ratio = np.log(np.maximum(block, DARK))[:, None] - log_starts
        misfit = np.square(light_of(block, model.noise_power)[:, None] * np.maximum(log_ratio, np.log(LOG_FLOOR)))
        theta = begin[misfit.sum(axis=2).argmin(axis=1)]
        rough = _climb(model, block, theta, box, _log_fit, START_TOLERANCE)
        return _climb(model, block, rough.theta, box, _likelihood, TOLERANCE)

    found = cores.parallel_map(search, chunks(len(observed), BLOCK))
    return Inversion(
        np.concatenate([part.theta for part in found]),
        np.concatenate([part.log_likelihood for part in found]),
        np.concatenate([part.information for part in found]),
    )


def unexplained(flux: Array, explanations: Iterable[tuple[ForwardModel, Array, Array]]) -> Array:
    """What is left of each spectrum by the model that explains it best, see :func:`noise_of`, ``(N, W)``.

    An explanation is a model, its parameters ``(N, P)`` and how well it explains each spectrum, ``(N,)``.
    """
    most, left = np.full(len(flux), -np.inf), np.empty(flux.shape)
    for model, theta, weight in explanations:
        best = weight > most
        left[best] = noise_of(flux[best], model.flux(theta[best]), model.noise_power)
        most = np.maximum(most, weight)
    return left


def _likelihood(observed: Array, mean: Array, power: float) -> tuple[Array, Array, Array]:
    residual, light = noise_of(observed, mean, power), light_of(mean, power)
    variance = _mean_square(residual)
    objective = -0.5 * observed.shape[1] * np.log(variance[:, 0]) - power * np.log(mean).sum(axis=1)
    score = power * residual
    score += light
    score *= residual
    score /= variance
    score -= power
    return objective, score, np.square(light) / variance + 2.0 * power**2


def _log_fit(observed: Array, mean: Array, power: float) -> tuple[Array, Array, Array]:
    light = light_of(observed, power)
    residual = light * np.log(np.maximum(observed / mean, LOG_FLOOR))
    variance = _mean_square(residual)
    return -0.5 * observed.shape[1] * np.log(variance[:, 0]), light * residual / variance, np.square(light) / variance


def _mean_square(residual: Array) -> Array:
    """Mean over bins, shape ``(N, 1)``."""
    mean = np.einsum("nw,nw->n", residual, residual) / residual.shape[1]
    return np.maximum(mean, LEAST_VARIANCE)[:, None]


def _climb(
    model: ForwardModel, observed: Array, theta: Array, box: tuple[Array, Array], goal: Goal, tolerance: float
) -> Inversion:
    """Climb to the top of `goal`, each spectrum with a damping of its own, until no step promises anything."""
    n, size = theta.shape
    theta, damping = theta.copy(), np.full(n, 1e-3)
    objective, score, weight = _judge(model, observed, theta, goal)
    information = np.zeros((n, size, size))
    active = np.arange(n)
    for _ in range(MAX_STEPS):
        gradient, information[active] = model.pull(theta[active], score[active], weight[active])
        step, gain = _step(information[active], gradient, damping[active])
        going = (gain > tolerance) & (damping[active] < 1e8)
        active, step = active[going], step[going]
        if not active.size:
            break
        trial = np.clip(theta[active] + step, *box)
        tried = _judge(model, observed[active], trial, goal)
        better = tried[0] > objective[active]
        damping[active] *= np.where(better, 0.1, 10.0)
        rows = active[better]
        theta[rows] = trial[better]
        objective[rows], score[rows], weight[rows] = (new[better] for new in tried)
    return Inversion(theta, objective, information)


def _judge(model: ForwardModel, observed: Array, theta: Array, goal: Goal) -> tuple[Array, Array, Array]:
    mean = model.flux(theta)
    impossible = ~((mean > 0) & (mean < np.inf)).all(axis=1)
    mean[impossible] = 1.0
    objective, score, weight = goal(observed, mean, model.noise_power)
    objective[impossible] = -np.inf
    return objective, score, weight


def _step(information: Array, gradient: Array, damping: Array) -> tuple[Array, Array]:
    """Return the damped step and what the undamped one promises to gain."""
    # Kelvin and abundance differ by orders of magnitude: bring every parameter to its own error bar.
    scale = np.sqrt(np.maximum(np.diagonal(information, axis1=1, axis2=2), np.finfo(float).tiny))
    unit = information / (scale[:, :, None] * scale[:, None, :])
    slope = (gradient / scale)[:, :, None]
    identity = np.eye(gradient.shape[1])
    gain = 0.5 * (slope * solve(unit + 1e-12 * identity, slope)).sum(axis=(1, 2))
    step = solve(unit + damping[:, None, None] * identity, slope)[:, :, 0]
    return step / scale, gain
