"""Which combinations of components a split may contain, and drawing abundances from it.

The whole question of this project is asked here: the *marginal* law of each component is the same in training and
test, only the *joint* law differs. A split's law is one of the laws of :mod:`spectral_tutorial.sections`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from spectral_tutorial.reading import ConfigError, resolve_callable, show
from spectral_tutorial.sections import (
    Combination,
    CombinationDistribution,
    Distribution,
    FunctionDistribution,
    MixtureDistribution,
    Sampled,
    SpectraConfig,
    Split,
)

Array = NDArray[np.float64]

LEARNED_FROM = ("train", "oracle_train")
"""Splits that methods learn from; they are evaluated on all others."""


def draw_uniform(low: float, high: float, kind: str, size: int | tuple[int, ...], rng: np.random.Generator) -> Array:
    """Draw from [low, high], uniformly (``uniform``) or with a uniform logarithm (``log_uniform``)."""
    if kind == "log_uniform":
        return np.exp(rng.uniform(np.log(low), np.log(high), size))
    return rng.uniform(low, high, size)


def draw_sampled(sampled: Sampled, n: int, rng: np.random.Generator) -> Array:
    """Draw `n` values of a quantity that the ``sampling`` section describes, shape ``(n,)``."""
    return draw_uniform(*sampled.range, sampled.distribution, n, rng)


def draw_abundance(
    law: Distribution, spectra: SpectraConfig, n: int, rng: np.random.Generator, directory: Path
) -> Array:
    """Draw the abundances of `n` spectra from a split's law.

    Parameters
    ----------
    law : CombinationDistribution, FunctionDistribution or MixtureDistribution
        What the split may contain.
    spectra : SpectraConfig
        Labels of the lines, and the range of an abundance that is present.
    n : int
        Number of spectra.
    rng : numpy.random.Generator
        The only source of randomness.
    directory : Path
        Folder of the meta file, where a ``module:function`` is looked for first.

    Returns
    -------
    array, shape (n, L)
        Zero where a component is absent.

    Raises
    ------
    ConfigError
        If a ``module:function`` cannot be called as ``(n, rng)``, or returns something that is no mapping of known
        labels to `n` finite numbers with which flux is neither negative nor infinite.
    """
    match law:
        case CombinationDistribution():
            return _draw_combinations(law, spectra, n, rng)
        case FunctionDistribution():
            return _draw_function(law, spectra, n, rng, directory)
        case MixtureDistribution():
            return _draw_mixture(law, spectra, n, rng, directory)
        case _:
            assert_never(law)


def _draw_combinations(law: CombinationDistribution, spectra: SpectraConfig, n: int, rng: np.random.Generator) -> Array:
    weights = np.array([combination.weight for combination in law.combinations])
    chosen = rng.choice(len(weights), size=n, p=weights / weights.sum())
    abundance = np.zeros((n, len(spectra.lines)))
    default = spectra.sampling.abundance
    for place, combination in enumerate(law.combinations):
        rows = np.flatnonzero(chosen == place)
        for label in combination.components:
            low, high = combination.ranges.get(label, default.range)
            values = draw_uniform(low, high, default.distribution, len(rows), rng)
            abundance[rows, spectra.labels.index(label)] = values
    return abundance


def _draw_function(
    law: FunctionDistribution, spectra: SpectraConfig, n: int, rng: np.random.Generator, directory: Path
) -> Array:
    abundance = np.zeros((n, len(spectra.lines)))
    if n == 0:  # a mixture without a draw from it: not every function can make nothing
        return abundance
    function = resolve_callable(law.callable, directory, key="callable")
    try:
        drawn = function(n, rng)
    except (Exception, SystemExit) as problem:  # whatever somebody's function raises
        reason = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise ConfigError(
            f"{law.callable} called with (n, rng) raised {reason}; expected a mapping of label to array."
        ) from problem
    if not isinstance(drawn, Mapping):
        raise ConfigError(f"{law.callable} returned {type(drawn).__name__}; expected a mapping of label to array.")
    for label, values in drawn.items():
        if label not in spectra.labels:
            raise ConfigError(
                f"{law.callable} returned the unknown label {show(label)}; expected one of the lines' labels."
            )
        if (found := _not_abundances(values, n)) is not None:
            raise ConfigError(
                f"{law.callable} returned for {label!r} {found}; expected {n} finite numbers, none negative."
            )
        column, line = np.asarray(values, float), spectra.lines[spectra.index(label)]
        if broken := spectra.check_flux(line, float(column.max())):
            raise ConfigError(
                f"{law.callable} returned for {label!r} the abundance {column.max():g}; expected {broken}."
            )
        abundance[:, spectra.index(label)] = column
    return abundance


def _not_abundances(values: object, n: int) -> str | None:
    """Say what makes values useless as abundances of `n` spectra."""
    if np.ma.is_masked(values):
        return "masked values"
    try:
        column = np.asarray(values)
    except Exception:  # ragged lists, tensors on another device
        return f"what is no array ({show(values)})"
    if column.shape != (n,):
        return f"an array of shape {column.shape}"
    if column.dtype.kind not in "biuf":  # not text, complex numbers or objects
        return f"an array of type {column.dtype}"
    if not np.isfinite(column).all() or (column < 0).any():
        return f"numbers such as {column[~(np.isfinite(column) & (column >= 0))][0]:g}"
    return None


def _draw_mixture(
    law: MixtureDistribution, spectra: SpectraConfig, n: int, rng: np.random.Generator, directory: Path
) -> Array:
    weights = np.array([weight for weight, _ in law.parts])
    counts = rng.multinomial(n, weights / weights.sum())
    parts = [
        draw_abundance(part, spectra, int(count), rng, directory)
        for count, (_, part) in zip(counts, law.parts, strict=True)
    ]
    return rng.permutation(np.concatenate(parts), axis=0)


def callables(distribution: Distribution) -> list[str]:
    """Names ``module:function`` of a person's own functions in a distribution."""
    if isinstance(distribution, MixtureDistribution):
        return [name for _, part in distribution.parts for name in callables(part)]
    return [distribution.callable] if isinstance(distribution, FunctionDistribution) else []


def with_combinations(train: Distribution, test: Distribution) -> Distribution:
    """The training law with the test's combinations added: what the oracle is allowed to see.

    Each combination of the test weighs, on average, as much as one of training. Laws that are functions cannot be
    taken apart; then half of the spectra come from each.
    """
    if not (isinstance(train, CombinationDistribution) and isinstance(test, CombinationDistribution)):
        return MixtureDistribution(parts=((0.5, train), (0.5, test)))
    scale = _mean_weight(train.combinations) / _mean_weight(test.combinations)
    added = tuple(c.model_copy(update={"weight": c.weight * scale}) for c in test.combinations)
    return CombinationDistribution(type="component_combinations", combinations=train.combinations + added)


def _mean_weight(combinations: tuple[Combination, ...]) -> float:
    return float(np.mean([combination.weight for combination in combinations]))


def complete(splits: Mapping[str, Split]) -> dict[str, Split]:
    """Add ``val`` and ``oracle_train`` where a file, like the original tutorial's, has only ``train`` and ``test``.

    ``val`` follows the training law and is as large as ``test``; ``oracle_train`` follows
    :func:`with_combinations` and is as large as ``train``.
    """
    train, test = splits["train"], splits["test"]
    added = {
        "val": Split(n_samples=test.n_samples, distribution=train.distribution),
        "oracle_train": Split(
            n_samples=train.n_samples, distribution=with_combinations(train.distribution, test.distribution)
        ),
    }
    standard = {name: splits.get(name) or added[name] for name in ("train", "val", "test", "oracle_train")}
    return standard | dict(splits)
