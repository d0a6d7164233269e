"""Which combinations of components a split may contain, and drawing abundances from it.

The whole question of this project is asked here: the *marginal* distribution of each component is the same in training
and test, only the *joint* distribution differs.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

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

LEARNED_FROM = ("train", "oracle_train")  #: splits that methods learn from; they are evaluated on all others


def draw_uniform(low: float, high: float, kind: str, size: int | tuple[int, ...], rng: np.random.Generator) -> Array:
    """Draw from [low, high], uniformly (``uniform``) or with a uniform logarithm (``log_uniform``)."""
    if kind == "log_uniform":
        return np.exp(rng.uniform(np.log(low), np.log(high), size))
    return rng.uniform(low, high, size)


def draw_sampled(sampled: Sampled, n: int, rng: np.random.Generator) -> Array:
    """Draw `n` values of a quantity that the ``sampling`` section describes, shape ``(n,)``."""
    return draw_uniform(*sampled.range, sampled.distribution, n, rng)


def draw_abundance(
    distribution: Distribution, spectra: SpectraConfig, n: int, rng: np.random.Generator, directory: Path
) -> Array:
    """Draw the abundances of `n` spectra, shape ``(n, L)``, zero where a component is absent.

    `rng` is the only source of randomness. `directory` is the folder of the meta file, where a ``module:function`` is
    looked for first.

    ConfigError if a ``module:function`` cannot be called as ``(n, rng)``, or returns something that is no mapping of
    known labels to `n` finite numbers with which flux is neither negative nor infinite.
    """
    if isinstance(distribution, CombinationDistribution):
        return _draw_combinations(distribution, spectra, n, rng)
    if isinstance(distribution, FunctionDistribution):
        function = resolve_callable(distribution.callable, directory)
        return _draw_function(function, distribution.callable, spectra, n, rng)
    weights = np.array([weight for weight, _ in distribution.parts])
    counts = rng.multinomial(n, weights / weights.sum())
    drawn = [
        draw_abundance(part, spectra, int(count), rng, directory)
        for count, (_, part) in zip(counts, distribution.parts, strict=True)
        if count  # not every function can make nothing
    ]
    return rng.permutation(np.concatenate(drawn), axis=0)


def _draw_combinations(
    distribution: CombinationDistribution, spectra: SpectraConfig, n: int, rng: np.random.Generator
) -> Array:
    weights = np.array([combination.weight for combination in distribution.combinations])
    chosen = rng.choice(len(weights), size=n, p=weights / weights.sum())
    abundance = np.zeros((n, len(spectra.lines)))
    default = spectra.sampling.abundance
    for place, combination in enumerate(distribution.combinations):
        rows = np.flatnonzero(chosen == place)
        for label in combination.components:
            low, high = combination.ranges.get(label, default.range)
            abundance[rows, spectra.labels.index(label)] = draw_uniform(low, high, default.distribution, len(rows), rng)
    return abundance


def _draw_function(
    function: Callable[..., Any], name: str, spectra: SpectraConfig, n: int, rng: np.random.Generator
) -> Array:
    try:
        drawn = function(n, rng)
    except (Exception, SystemExit) as problem:  # whatever somebody's function raises
        reason = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise ConfigError(
            f"{name} called with (n, rng) raised {reason}; expected a mapping of label to array."
        ) from problem
    if not isinstance(drawn, Mapping):
        raise ConfigError(f"{name} returned {type(drawn).__name__}; expected a mapping of label to array.")
    abundance = np.zeros((n, len(spectra.lines)))
    for label, values in drawn.items():
        if label not in spectra.labels:
            raise ConfigError(f"{name} returned the unknown label {show(label)}; expected one of the lines' labels.")
        if found := _not_abundances(values, n):
            raise ConfigError(f"{name} returned for {label!r} {found}; expected {n} finite numbers, none negative.")
        place, column = spectra.index(label), np.asarray(values, float)
        if broken := spectra.check_flux(spectra.lines[place], float(column.max())):
            raise ConfigError(f"{name} returned for {label!r} the abundance {column.max():g}; expected {broken}.")
        abundance[:, place] = column
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
    if (wrong := column[~(np.isfinite(column) & (column >= 0))]).size:
        return f"numbers such as {wrong[0]:g}"
    return None


def callables(distribution: Distribution) -> list[str]:
    """Names ``module:function`` of a person's own functions in a distribution."""
    if isinstance(distribution, MixtureDistribution):
        return [name for _, part in distribution.parts for name in callables(part)]
    return [distribution.callable] if isinstance(distribution, FunctionDistribution) else []


def with_combinations(train: Distribution, test: Distribution) -> Distribution:
    """The training distribution with the test's combinations added: what the oracle is allowed to see.

    Each combination of the test weighs, on average, as much as one of training. Functions cannot be taken apart; then
    half of the spectra come from each.
    """
    if not (isinstance(train, CombinationDistribution) and isinstance(test, CombinationDistribution)):
        return MixtureDistribution(parts=((0.5, train), (0.5, test)))
    seen, new = (float(np.mean([c.weight for c in part.combinations])) for part in (train, test))
    added = tuple(c.model_copy(update={"weight": c.weight * (seen / new)}) for c in test.combinations)
    return CombinationDistribution(combinations=train.combinations + added)


def complete(splits: Mapping[str, Split]) -> dict[str, Split]:
    """Add ``val`` and ``oracle_train`` where a file, like the original tutorial's, has only ``train`` and ``test``.

    ``val`` has the training distribution and is as large as ``test``; ``oracle_train`` has that of
    :func:`with_combinations` and is as large as ``train``.
    """
    train, test = splits["train"], splits["test"]
    shown = with_combinations(train.distribution, test.distribution)
    added = {
        "val": Split(n_samples=test.n_samples, distribution=train.distribution),
        "oracle_train": Split(n_samples=train.n_samples, distribution=shown),
    }
    standard = {name: splits.get(name) or added[name] for name in ("train", "val", "test", "oracle_train")}
    return standard | dict(splits)


def many(n: int) -> int:
    """Return how many spectra a network at the limit is shown in the place of n: four times as many, up to 16,384."""
    return max(n, min(4 * n, 16_384))


def added(splits: Mapping[str, Split], labels: Sequence[str], held_out: tuple[str, str]) -> dict[str, Split]:
    """Splits that only some methods learn from, beside those that :func:`complete` returns.

    The held-out combination; as much of ``oracle_train`` as :func:`many` says; pairs of lines that are not held out.
    """
    train, oracle = splits["train"], splits["oracle_train"]
    pairs = [pair for pair in combinations(labels, 2) if set(pair) != set(held_out)]
    some = pairs[:: max(1, len(pairs) // 10)][:10]  # evenly spaced, so that every kind of line is among them

    def equally(chosen: Sequence[tuple[str, str]]) -> Split:
        held = tuple(Combination(components=pair) for pair in chosen)
        distribution = CombinationDistribution(type="component_combinations", combinations=held)
        return Split(n_samples=max(1, train.n_samples // 4), distribution=distribution)

    found = {
        "combinations": Split(n_samples=train.n_samples, distribution=splits["test"].distribution),
        "many_combinations": Split(n_samples=many(train.n_samples), distribution=oracle.distribution),
    }
    if pairs:  # a world of two lines has no other
        found |= {"some_pairs": equally(some), "all_pairs": equally(pairs)}
    return found
