"""Config + physics + splits -> spectra, and the scaling that a network sees them through.

Every number comes from a stream of its own, named by (data seed, split, what is drawn, chunk): adding a split or a
seed, or asking for more spectra, changes none of the others.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial import cores
from spectral_tutorial.arrays import checked_flux, numbers, read_table, words_or_numbers
from spectral_tutorial.physics import World, add_noise, single_precision
from spectral_tutorial.reading import ConfigError
from spectral_tutorial.sections import SpectraConfig, Split
from spectral_tutorial.splits import draw_abundance, draw_sampled

CHUNK = 64  #: spectra computed at a time: 64 x 1024 float64 values are half a megabyte and stay in a core's cache
SMOOTHING = 31
"""Bins averaged where only the continuum is wanted: much wider than a bin, much narrower than the continuum."""

LOG_FLOOR = 1e-6
"""Flux below this, in units of :func:`flux_unit`, counts as this before a logarithm is taken; the default world's
lowest mean flux is near 1e-3."""


class MissingSpectraError(ValueError):
    """The spectra at hand lack a kind that a method learns from."""


@dataclass(frozen=True)
class Spectra:
    """A set of spectra and, where it is known, the truth behind them."""

    wavelength: NDArray[np.float64]  #: ``(W,)``, in nm
    flux: NDArray[np.float32]  #: ``(N, W)``, noisy: 1 at the continuum's peak where made here, else in any unit
    abundance: NDArray[np.float64]  #: ``(N, L)``, the truth, dimensionless
    temperature: NDArray[np.float64]  #: ``(N,)``, the truth, in K
    noise_level: NDArray[np.float64]  #: ``(N,)``, relative standard deviation of each spectrum's noise, at flux 1
    labels: tuple[str, ...]  #: names of the L components
    #: ``(N,)`` by name: what else is known of each spectrum and changes it, numbers or words such as a batch
    nuisance: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.flux)

    def __repr__(self) -> str:
        return f"Spectra({len(self)} spectra x {self.flux.shape[1]} bins, {len(self.labels)} components)"

    def take(self, index: ArrayLike | slice) -> Self:
        """Return the spectra at `index` (whole numbers, a boolean mask or a slice), one of them too as spectra."""
        chosen: Any = index if isinstance(index, slice) else np.atleast_1d(np.asarray(index))
        rows: dict[str, Any] = {name: getattr(self, name)[chosen] for name in ROW_ARRAYS}
        return replace(self, **rows, nuisance={name: values[chosen] for name, values in self.nuisance.items()})

    __getitem__ = take

    def of(self, *labels: str) -> NDArray[np.float64]:
        """Return the true abundances of the named components, shape ``(N, len(labels))``."""
        for label in labels:
            if label not in self.labels:
                raise ValueError(f"unknown component {label!r}; expected one of {', '.join(self.labels)}")
        return self.abundance[:, [self.labels.index(label) for label in labels]]

    @classmethod
    def from_arrays(
        cls,
        wavelength: ArrayLike,
        flux: ArrayLike,
        *,
        abundance: ArrayLike | None = None,
        temperature: ArrayLike | None = None,
        noise_level: ArrayLike | None = None,
        labels: tuple[str, ...] = (),
        nuisance: Mapping[str, ArrayLike] | None = None,
    ) -> Self:
        """Wrap arrays of your own; unknown truth is NaN.

        Quantities of astropy are converted to nm, K and numbers without unit; flux and nuisances may have any unit, and
        keep it. Flux may be negative, as measured absorbance is; its logarithm then means nothing.

        ValueError if the shapes do not fit together, naming the expected shape; if something is masked, is no number or
        has a unit that cannot be converted; if a flux is not finite, or too large or too small for single precision.
        """
        grid, values = numbers(wavelength, "wavelength", "nm"), np.atleast_2d(numbers(flux, "flux"))
        n = len(values)
        expected: Mapping[str, tuple[ArrayLike | None, tuple[int, ...], str]] = {
            "abundance": (abundance, (n, len(labels)), ""),
            "temperature": (temperature, (n,), "K"),
            "noise_level": (noise_level, (n,), ""),
        }
        if grid.ndim != 1 or not (np.isfinite(grid) & (grid > 0)).all():
            raise ValueError(f"wavelength has shape {grid.shape}; expected (W,), finite numbers above 0, in nm")
        if values.shape != (n, grid.size):
            raise ValueError(f"flux has shape {values.shape}; expected (N, {grid.size}), wavelength bins last")
        truth = {}
        for name, (given, shape, unit) in expected.items():
            truth[name] = np.full(shape, np.nan) if given is None else numbers(given, name, unit)
            if truth[name].shape != shape:
                raise ValueError(f"{name} has shape {truth[name].shape}; expected {shape}")
        known = {name: words_or_numbers(given, name) for name, given in (nuisance or {}).items()}
        for name, one in known.items():
            if one.shape != (n,):
                raise ValueError(f"nuisance {name} has shape {one.shape}; expected ({n},)")
        return cls(grid, checked_flux(values), labels=labels, nuisance=known, **truth)

    @classmethod
    def from_csv(cls, path: str | Path, labels: Iterable[str] = (), nuisance: Iterable[str] = ()) -> Self:
        """Read spectra of your own from a CSV file in UTF-8: a spectrum a row, below a header.

        In the header are wavelengths in nm, rising, and the names of other columns, in any place: `labels`, those with
        the abundances of components, and `nuisance`, those with what else changes a spectrum, numbers or words. Of
        these, ``temperature`` (in K) and ``noise_level`` become the attributes of these names. Commas separate the
        cells and numbers have decimal points; lines that begin with ``#`` are comments.

        ConfigError if the file cannot be read, or is no such table: one sentence with its line and column. ValueError
        if a flux is too large or too small for single precision.
        """
        labels, nuisance = tuple(labels), tuple(nuisance)
        grid, flux, columns = read_table(path, labels, nuisance)
        own = {name: columns[name] for name in nuisance if name in ("temperature", "noise_level")}
        others = {name: columns[name] for name in nuisance if name not in own}
        abundance = np.stack([columns[label] for label in labels], axis=1) if labels else None
        try:
            return cls.from_arrays(grid, flux, abundance=abundance, labels=labels, nuisance=others, **own)
        except ValueError as problem:
            raise ValueError(f"{path}: {problem}") from None


def brightness(flux: NDArray[Any]) -> float:
    """How bright a typical one of spectra ``(N, W)`` is in its brightest bin; 1 where there is no light."""
    brightest = float(np.median(np.max(flux, axis=1))) if len(flux) else 0.0
    return brightest if brightest > 0 else 1.0


def flux_unit(flux: NDArray[Any]) -> float:
    """Power of two nearest to the :func:`brightness` of spectra ``(N, W)``.

    In this unit any flux is near 1, and to change to it is exact. It is 1 for the worlds of this book.
    """
    return float(2.0 ** np.round(np.log2(brightness(flux))))


def replace_last(spectra: Spectra, others: Spectra) -> Spectra:
    """Put `others` in the place of the last ones of `spectra`; the number stays the same."""
    if not np.array_equal(spectra.wavelength, others.wavelength) or spectra.labels != others.labels:
        raise ValueError("the spectra have other wavelengths or labels than those whose place they take")
    if spectra.nuisance.keys() != others.nuisance.keys():
        raise ValueError("the spectra have other nuisances than those whose place they take")
    kept = len(spectra) - len(others)
    rows: dict[str, Any] = {}
    for name in ROW_ARRAYS:
        rows[name] = np.concatenate([getattr(spectra, name)[:kept], getattr(others, name)])
    known = {name: np.concatenate([values[:kept], others.nuisance[name]]) for name, values in spectra.nuisance.items()}
    return replace(spectra, **rows, nuisance=known)


def compose(spectra: Spectra, first: str, second: str, count: int, rng: np.random.Generator) -> Spectra:
    r"""Make spectra with two components from spectra with one, by multiplication: no physics but that factors multiply.

    .. math:: y = y_i \, y_j / \tilde y_0

    with :math:`y_i` holding only `first`, :math:`y_j` only `second`, and :math:`\tilde y_0` a smoothed spectrum
    without lines whose continuum is that of :math:`y_j` as nearly as there is one. What is left is the continuum of
    :math:`y_i` with both lines, and the noise of both. Recombining examples is the idea of Andreas (2020).

    `rng` chooses the parts of each of `count` spectra. Temperature and noise level are called those of :math:`y_i`; the
    noise really is larger.

    MissingSpectraError if there is no blank spectrum, or none of a component alone.
    """
    # Imported here: both add filters to Python's warnings, which importing this package must not do.
    from scipy.ndimage import uniform_filter1d
    from sklearn.neighbors import NearestNeighbors

    if count == 0:  # a quarter of three spectra
        return spectra.take(slice(0, 0))
    unit = np.float32(flux_unit(spectra.flux))
    log_flux, present = np.log(np.maximum(spectra.flux / unit, LOG_FLOOR)), spectra.abundance > 0
    alone = [present[:, spectra.labels.index(label)] & (present.sum(axis=1) == 1) for label in (first, second)]
    blank = np.flatnonzero(~present.any(axis=1))
    if not (blank.size and all(mask.any() for mask in alone)):
        raise MissingSpectraError(
            f"the spectra lack a kind; expected some without lines, with only {first}, with only {second}"
        )
    i, j = (rng.choice(np.flatnonzero(mask), count) for mask in alone)
    # Smoothing leaves the continuum, by which spectra are compared, and takes away the noise of the blank.
    smooth = uniform_filter1d(log_flux, SMOOTHING, axis=1, mode="nearest")
    nearest = NearestNeighbors(n_neighbors=1).fit(smooth[blank, ::SMOOTHING])
    matched = blank[nearest.kneighbors(smooth[j, ::SMOOTHING], return_distance=False)[:, 0]]
    flux = np.exp(log_flux[i] + log_flux[j] - smooth[matched]) * unit
    return replace(spectra.take(i), flux=flux, abundance=spectra.abundance[i] + spectra.abundance[j])


ROW_ARRAYS = tuple(f.name for f in fields(Spectra) if f.name not in ("wavelength", "labels", "nuisance"))
"""The arrays of :class:`Spectra` that have one row a spectrum."""


def stream(seed: int, split: str, purpose: str, chunk: int = 0) -> np.random.Generator:
    """Return the generator of one (data seed, split, purpose, chunk), independent of all others.

    ValueError if the data seed is no whole number, or below 0.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"data seed: found {seed!r}; expected a whole number of at least 0")
    digest = hashlib.sha256(f"{split}/{purpose}".encode()).digest()
    key = (int.from_bytes(digest[:8], "big"), chunk)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


Room = Callable[[str, tuple[int, ...], Any], NDArray[Any]]
"""Makes room for an array: from its name, shape and type to an array that is to be filled, on disk say."""


def generate(
    config: SpectraConfig,
    split: Split,
    *,
    name: str,
    seed: int,
    directory: Path = Path(),
    world: World | None = None,
    room: Room = lambda _, *of: np.empty(*of),
) -> Spectra:
    """Draw one split. The same arguments give the same bits, on any number of threads.

    The split's `name` and the data `seed` name the random streams. In `directory` a ``module:function`` is looked for;
    `world` is the forward model of `config` where it is built already; `room` makes the arrays that are filled.

    ConfigError if a person's own function draws no abundances, or lines together exceed single precision.
    """
    world, n = world or World.from_config(config), split.n_samples
    flux = room("flux", (n, config.n_bins), np.float32)
    abundance = room("abundance", (n, len(config.lines)), np.float64)
    temperature, noise_level = (room(key, (n,), np.float64) for key in ("temperature", "noise_level"))
    abundance[:] = draw_abundance(split.distribution, config, n, stream(seed, name, "abundance"), directory)
    temperature[:] = draw_sampled(config.sampling.temperature, n, stream(seed, name, "temperature"))
    noise_level[:] = draw_sampled(config.sampling.noise, n, stream(seed, name, "noise_level"))

    def fill(rows: slice) -> None:
        mean = world.mean_flux(temperature[rows], abundance[rows])
        noise = stream(seed, name, "noise", rows.start // CHUNK)
        flux[rows] = noisy = single_precision(add_noise(mean, noise_level[rows], noise, world.noise_power))
        if not np.isfinite(noisy).all():
            raise ConfigError(
                f"split {name}: the lines of a spectrum together multiply its flux beyond single precision (3e38); "
                "expected weaker lines, or fewer in one place."
            )

    cores.parallel_map(fill, chunks(n, CHUNK))
    return Spectra(world.wavelength, flux, abundance, temperature, noise_level, world.labels)


def chunks(n: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` rows that cover `n` rows in order."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


class InputTransform:
    r"""What a network reads: flux, or its logarithm, raw or standardized.

    ``standardize`` takes away the training split's mean spectrum and divides by one overall standard deviation:
    one number for all bins, so that the relative depth of lines stays what it was.

    .. math:: x = \frac{\log\max(y, 10^{-6} u) - \bar m}{\sqrt{\langle (m - \bar m)^2 \rangle}}

    with u the unit of the first training spectra, see :func:`flux_unit`: what is standardized does not depend on the
    unit of flux. The kind is the ``input_transform`` of training.yaml.
    """

    BLOCK = 256  # what one of them needs in between stays in the cache

    def __init__(self, kind: str) -> None:
        self.log = kind.startswith("log")
        self.standardize = kind.endswith("standardize")
        self.mean: NDArray[np.float64] | float = 0.0
        self.scale = 1.0
        self.floor = LOG_FLOOR
        self.n_bins: int | None = None

    def fit(self, flux: NDArray[np.float32]) -> Self:
        """Measure mean ``(W,)`` and scale on the training split, ``(N, W)``, and on nothing else."""
        self.n_bins = flux.shape[1]
        self.floor = LOG_FLOOR * flux_unit(flux[: self.BLOCK])
        if self.standardize:
            # One pass in blocks, so that memory does not grow with N. What is off the first block's mean, near that of
            # all, keeps its digits when squares are summed (Chan, Golub and LeVeque 1983).
            near: Any = self._read(flux[: self.BLOCK]).mean(axis=0)
            sums, squares = np.zeros(flux.shape[1]), 0.0
            for rows in chunks(len(flux), self.BLOCK):
                off = self._read(flux[rows]) - near
                sums += off.sum(axis=0)
                squares += float(np.square(off).sum())
            beside = sums / len(flux)
            self.mean = near + beside
            self.scale = float(np.sqrt(max(squares / flux.size - np.square(beside).mean(), 0.0))) or 1.0
        return self

    def transform(self, flux: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the network's input, shape ``(N, W)``, float32 (written to `out` where one is given).

        ValueError if the flux has another number of bins than what it was fitted to.
        """
        if self.n_bins not in (None, flux.shape[-1]):
            raise ValueError(f"flux has {flux.shape[-1]} bins; expected {self.n_bins}, as in training")
        result = np.empty(flux.shape, np.float32) if out is None else out
        for rows in chunks(len(flux), self.BLOCK):
            result[rows] = (self._read(flux[rows]) - self.mean) / self.scale
        return result

    def _read(self, flux: NDArray[np.float32]) -> NDArray[np.float64]:
        values = flux.astype(np.float64)
        return np.log(np.maximum(values, self.floor)) if self.log else values
