"""What the best estimator could do: the Cramér-Rao bound, and what is reached without a look at the spectrum."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial.data import Spectra
from spectral_tutorial.physics import DARK, World, light_of, log_continuum

Array = NDArray[np.float64]

BLOCK = 512  #: spectra whose Jacobians are held at a time
UNSEEN = 1e-100  #: an abundance whose slopes of log flux are no longer than this leaves no trace, however large it is
PLAIN = 1e-6
"""An inverse loses as many digits as the smallest eigenvalue of the scaled information has zeros: six at most."""

SAME = 1e-8
"""Slopes that differ from a mixture of others by no more than this, relative, cannot be told from it: the square root
of the rounding error, where rounding and the true difference are equally large."""


def fisher_information(
    world: World,
    temperature: ArrayLike,
    abundance: ArrayLike,
    noise_level: ArrayLike,
    free: Sequence[int],
    continuum: ArrayLike | None = None,
) -> Array:
    r"""Fisher information of one spectrum about the abundances `free` and, last, the temperature.

    Flux is normal with mean :math:`\mu` and standard deviation :math:`\sigma\mu^p`, so its mean and its variance both
    depend on the parameters, and both inform about them (Kay 1993, ch. 3):

    .. math:: F_{ij} = \sum_{\lambda} \left(\frac{\mu^{2 - 2p}}{\sigma^2} + 2 p^2\right)
              \frac{\partial \log\mu}{\partial\theta_i} \frac{\partial \log\mu}{\partial\theta_j}

    with p the world's ``noise_power``: for noise in proportion to flux (p = 1) the sum has the same factor everywhere.

    At true temperatures ``(N,)`` in K, abundances ``(N, L)`` and noise levels ``(N,)``, with only the abundances of the
    lines in the places `free` unknown; shape ``(N, len(free) + 1, len(free) + 1)``. Directions `continuum` ``(Q, W)``
    of log flux are unknown in the place of the temperature, and Q takes the place of 1.
    """
    jacobian = _slopes(world, temperature, abundance, noise_level, free, continuum)
    gram = jacobian @ jacobian.transpose(0, 2, 1)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        precision = 1.0 / np.square(np.atleast_1d(np.asarray(noise_level, float)))
        fisher: Array = np.where(gram == 0, 0.0, precision[:, None, None] * gram)
    return fisher


def _slopes(
    world: World,
    temperature: ArrayLike,
    abundance: ArrayLike,
    noise_level: ArrayLike,
    free: Sequence[int],
    continuum: ArrayLike | None,
) -> Array:
    """Slopes of log flux along all unknowns, ``(N, P, W)``, each bin weighed so that J J^T is F at noise level 1.

    0 in bins without flux, which show nothing.
    """
    jacobian = world.log_jacobian(temperature, abundance, free)
    if continuum is not None:
        shape = (len(jacobian), *np.shape(continuum))
        jacobian = np.concatenate([jacobian[:, :-1], np.broadcast_to(np.asarray(continuum, float), shape)], axis=1)
    temperature, abundance = np.atleast_1d(np.asarray(temperature, float)), np.atleast_2d(np.asarray(abundance, float))
    # The continuum is faintest at an end of the grid, and no line takes more than at its center: most spectra are
    # bright for certain, without a look at all of their bins.
    ends = log_continuum([world.wavelength.min(), world.wavelength.max()], temperature).min(axis=1)
    depth = np.minimum(abundance * world.strength, 0.0)
    with np.errstate(divide="ignore"):
        lines = depth if world.law == "beer_lambert" else np.log1p(np.maximum(depth, -1.0))
    for n in np.flatnonzero(ends + lines.sum(axis=1) < np.log(DARK)):
        jacobian[n, :, world.mean_flux(temperature[n], abundance[n])[0] < DARK] = 0.0
    power, noise = world.noise_power, np.atleast_1d(np.asarray(noise_level, float))[:, None]
    mean = np.ones((1, 1)) if power == 1.0 else np.nan_to_num(world.mean_flux(temperature, abundance))
    light = light_of(np.minimum(mean, np.finfo(np.float32).max), power)  # more than can be stored is no spectrum's
    jacobian *= np.sqrt(np.square(light) + 2.0 * np.square(power * noise))[:, None, :]
    return jacobian


def cramer_rao(
    world: World,
    temperature: ArrayLike,
    abundance: ArrayLike,
    noise_level: ArrayLike,
    free: Sequence[int],
    continuum: ArrayLike | None = None,
) -> Array:
    r"""Smallest variance that an unbiased estimator can have from one spectrum, shape ``(N, len(free))``.

    The diagonal of the inverse of :func:`fisher_information`, with the temperature unknown too; arguments as there. For
    an estimator that does not know how a temperature shapes the continuum, `continuum` ``(Q, W)`` are directions of log
    flux that are unknown instead. It binds unbiased estimators: one with a prior, or clipped to the possible range, can
    go below it.

    Where information is missing there is no inverse, but there is a bound. It is found from what an abundance does to
    log flux and the other unknowns together cannot do,

    .. math:: \left(F^{-1}\right)_{kk} = \frac{\sigma^2}{|j_k^\perp|^2}

    with :math:`j_k` the slopes of log flux along unknown k times :math:`(\mu^{2-2p} + 2 p^2 \sigma^2)^{1/2}`, and
    :math:`j_k^\perp` what is left of them after projecting out those of all other unknowns. Where nothing is left,
    because the line shows nowhere or others imitate it, the bound is infinite; without noise any other bound is 0.

    ValueError if a temperature, an abundance or a noise level is not known (NaN).
    """
    temperature, noise_level = (np.atleast_1d(np.asarray(v, float)) for v in (temperature, noise_level))
    abundance = np.atleast_2d(np.asarray(abundance, float))
    for name, values in (("temperature", temperature), ("abundance", abundance), ("noise_level", noise_level)):
        if np.isnan(values).any():
            raise ValueError(f"{name} is not known (NaN); expected the truth behind every spectrum")
    variance = np.square(noise_level)
    bound = np.empty((len(abundance), len(free)))
    for start in range(0, len(abundance), BLOCK):
        rows = slice(start, start + BLOCK)
        jacobian = _slopes(world, temperature[rows], abundance[rows], noise_level[rows], free, continuum)
        diagonal = _inverse_diagonal(jacobian, len(free))
        bound[rows] = diagonal * np.where(np.isinf(diagonal), 1.0, variance[rows, None])  # inf x 0 is no number
    return bound


def _inverse_diagonal(jacobian: Array, count: int) -> Array:
    """First entries on the diagonal of (J J^T)^-1 of each spectrum, infinite where there is no inverse."""
    gram = jacobian @ jacobian.transpose(0, 2, 1)
    length = np.sqrt(np.diagonal(gram, axis1=1, axis2=2))
    # Kelvin and abundance differ by orders of magnitude; unit lengths make all tolerances relative.
    length = np.where(length > UNSEEN, length, 1.0)
    gram /= length[:, :, None] * length[:, None, :]
    plain = np.linalg.eigvalsh(gram)[:, 0] > PLAIN
    diagonal = np.empty((len(jacobian), count))
    diagonal[plain] = np.diagonal(np.linalg.inv(gram[plain]), axis1=1, axis2=2)[:, :count]
    diagonal[~plain] = _by_projection(jacobian[~plain] / length[~plain, :, None], count)
    return diagonal / np.square(length[:, :count])


def _by_projection(unit: Array, count: int) -> Array:
    """One over the squared length of what is left of a row after projecting out all others, infinite if nothing is.

    Slower than an inverse, and right where there is none: rounding errors are not squared.
    """
    triangle: Any = np.linalg.qr(unit.transpose(0, 2, 1), mode="r")  # the same lengths and angles in few dimensions
    left = np.empty((len(unit), count))
    for k in range(count):
        axes, lengths, _ = np.linalg.svd(np.delete(triangle, k, axis=2), full_matrices=False)
        axes *= (lengths > SAME)[:, None]
        own = triangle[:, :, k : k + 1]
        left[:, k] = np.square(own - axes @ (axes.transpose(0, 2, 1) @ own)).sum(axis=(1, 2))
    return np.where(left > SAME**2, 1.0 / np.maximum(left, SAME**2), np.inf)


def share(abundance: ArrayLike) -> Array:
    """Share of the first of two components in both, a_1 / (a_1 + a_2), along the last axis.

    Of hemoglobin with and without oxygen it is the oxygen saturation of blood.
    """
    pair = np.asarray(abundance, float)
    return pair[..., 0] / pair.sum(axis=-1)


def share_bound(world: World, spectra: Spectra, pair: Sequence[int]) -> Array:
    r"""Smallest variance with which the :func:`share` of two lines can be known without bias, shape ``(N,)``.

    That of any function s of the unknowns follows from its gradient (Kay 1993, ch. 3):

    .. math:: \mathrm{Var}[\hat s] \ge \nabla s^T F^{-1} \nabla s, \qquad
              \nabla s = \frac{(a_2, \, -a_1, \, 0)}{(a_1 + a_2)^2}

    with F the :func:`fisher_information` of each of `spectra`, whose truth is known, about the lines in the two places
    of `pair` and the temperature. It has to have an inverse.
    """
    fisher = fisher_information(world, spectra.temperature, spectra.abundance, spectra.noise_level, pair)
    first, second = spectra.abundance[:, list(pair)].T
    gradient = np.stack([second, -first, np.zeros_like(first)], axis=1) / np.square(first + second)[:, None]
    # Kelvin and abundance differ by orders of magnitude: each unknown in its own error bar.
    size = 1.0 / np.sqrt(np.diagonal(fisher, axis1=1, axis2=2))
    unit, slope = fisher * size[:, :, None] * size[:, None, :], (gradient * size)[:, :, None]
    return (slope * np.linalg.solve(unit, slope)).sum(axis=(1, 2))


def continuum_directions(wavelength: ArrayLike, temperatures: ArrayLike, count: int) -> Array:
    """Leading principal components of log continua, shape ``(count, W)``: what a flat family of continua leaves open.

    Of the continua of `temperatures` in K, on a grid of wavelengths ``(W,)`` in nm.
    """
    log_continua = log_continuum(np.asarray(wavelength, float), np.asarray(temperatures, float))
    components: Array = np.linalg.svd(log_continua - log_continua.mean(axis=0), full_matrices=False)[2][:count]
    return components


def overlap(world: World, first: str, second: str) -> float:
    r"""How much two lines look alike: the cosine between what they do to log flux at abundance 1.

    .. math:: \frac{|p_1 \cdot p_2|}{|p_1| \, |p_2|}, \qquad p_k(\lambda) = \log f_k(\lambda)

    with :math:`f_k` the factor of line k. 0 for lines that share no bin, 1 for lines of one shape, NaN where a line
    shows in no bin. A line that would leave no flux at abundance 1 is taken at the abundance that leaves a hundredth.
    """
    places = world.index([first, second])
    deepest = 0.99 if world.law == "linear" else np.inf
    alone = np.zeros((2, len(world.labels)))
    alone[[0, 1], places] = 1.0 / np.maximum(1.0, -world.strength[places] / deepest)
    shapes = world.line_log_factors(alone)[[0, 1], places]
    largest = np.abs(shapes).max(axis=1, keepdims=True)
    p, q = shapes / np.where(largest > 0, largest, np.nan)
    return float(abs(p @ q) / (np.linalg.norm(p) * np.linalg.norm(q)))


def reference_points(train: ArrayLike, test: ArrayLike) -> dict[str, Array]:
    """Mean squared errors ``(K,)`` of methods that do not look at the spectrum, by name.

    From true abundances ``(N, K)`` in the training and in the judged split: ``predict nothing`` is 0, ``training mean``
    what was usual in training, ``best constant`` the judged split's own mean, which nobody could know. For abundances
    uniform in [0, 1] and present in a third of training these are 1/3, 7/36 and 1/12.
    """
    train, test = np.asarray(train, float), np.asarray(test, float)
    constants = {
        "predict nothing": np.zeros(test.shape[1]),
        "training mean": train.mean(axis=0),
        "best constant": test.mean(axis=0),
    }
    return {name: np.square(test - constant).mean(axis=0) for name, constant in constants.items()}
