"""The readers that are no networks, as an experiment uses them: what each learns from, and what it may know.

What they are is written in :mod:`spectral_tutorial.estimators`. They have no training seeds: fitted to the same spectra
they answer the same. So their errors are measured over several data seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spectral_tutorial.data import Spectra
from spectral_tutorial.physics import World
from spectral_tutorial.sections import SpectraConfig

RANK = 256
"""Principal components that the linear readers look at; fixed, not chosen."""


class Reader(Protocol):
    """What is asked of a fitted estimator."""

    def predict(self, flux: NDArray[np.float32]) -> NDArray[np.float64]:
        """Abundances, shape ``(N, K)``."""
        ...


@dataclass(frozen=True)
class Task:
    """What a method is given to learn from.

    Attributes
    ----------
    config : SpectraConfig
        Lines and ranges; only methods that know some physics look at it.
    labels : tuple of str
        The K components to read, the two reported ones first.
    train, val : Spectra
        The split that it learns from, and held-out spectra of the training law, for choosing settings.
    """

    config: SpectraConfig
    labels: tuple[str, ...]
    train: Spectra
    val: Spectra

    @property
    def world(self) -> World:
        """The forward model."""
        return World.from_config(self.config)

    def fit(self, estimator: Any) -> Reader:
        """Fit an estimator to the training split."""
        fitted: Reader = estimator.fit(self.train.flux, self.train.of(*self.labels))
        return fitted


@dataclass(frozen=True)
class Method:
    """One reader without training seeds.

    Attributes
    ----------
    fit : callable (Task, **settings) -> Reader
        Makes it.
    split : str
        The split it learns from.
    choose : callable (Task) -> list of dict, optional
        Tries settings on ``val``: an entry a setting, the best first; all keys but the last are settings. Done once, on
        the first data seed.
    combinations, physics : str
        What it was allowed to know, in a word or two for tables: of held-out combinations, and of physics.
    """

    fit: Callable[..., Reader]
    split: str = "train"
    choose: Callable[[Task], list[dict[str, Any]]] | None = None
    combinations: str = "none"
    physics: str = "none"


# The estimators are imported where they are used: they bring scikit-learn along, which adds filters to warnings.


def _ridge(task: Task, log: bool) -> Reader:
    from spectral_tutorial.estimators import ridge

    return task.fit(ridge(log, rank=min(RANK, *task.train.flux.shape)))


def _local(task: Task) -> Reader:
    from spectral_tutorial.estimators import LocalReader

    lines = [task.config.lines[task.config.index(label)] for label in task.labels]
    centers, widths = [line.center for line in lines], [line.width for line in lines]
    return task.fit(LocalReader(task.world.wavelength, centers, widths))


def _observer(task: Task) -> Reader:
    from spectral_tutorial.estimators import BayesianObserver

    return task.fit(BayesianObserver(task.world, task.labels, task.config.sampling.abundance.range))


def _synthesis(task: Task) -> Reader:
    from spectral_tutorial.estimators import AnalysisBySynthesis

    return task.fit(AnalysisBySynthesis(task.world, task.labels))


def _decoder(task: Task, **settings: int) -> Reader:
    from spectral_tutorial.estimators import LogAdditiveDecoder

    return task.fit(LogAdditiveDecoder(**settings))


def _flat_decoder(task: Task) -> Reader:
    """Fit one whose continua are what principal component analysis would give: a flat family."""
    return _decoder(task, n_continuum=3, continuum_degree=1, degree=3)


def _choose_decoder(task: Task) -> list[dict[str, Any]]:
    from spectral_tutorial.estimators import choose_decoder

    train, val = (split.of(*task.labels) for split in (task.train, task.val))
    _, tried = choose_decoder(task.train.flux, train, task.val.flux, val)
    return sorted(tried, key=lambda row: -float(row["log_likelihood"]))


METHODS: Mapping[str, Method] = {
    "ridge_flux": Method(partial(_ridge, log=False)),
    "ridge_log": Method(partial(_ridge, log=True)),
    "local": Method(_local, physics="where lines are"),
    "observer": Method(_observer, physics="all of it"),
    "observer_oracle": Method(_observer, split="oracle_train", combinations="that they occur", physics="all of it"),
    "synthesis": Method(_synthesis, physics="all of it"),
    "decoder": Method(_decoder, choose=_choose_decoder, physics="logarithms add"),
    "decoder_flat": Method(_flat_decoder, physics="logarithms add"),
}
"""``ridge_flux`` and ``ridge_log`` are linear; ``local`` looks at a window around each line; ``observer`` knows the
physics and believes the training law, ``observer_oracle`` the law with the combination; ``synthesis`` fits the true
forward model; ``decoder`` learns a forward model from single lines, with settings chosen on ``val``, and
``decoder_flat`` one whose continua are a mean and three components."""

ASKED_IN_VARIATIONS = ("ridge_log", "synthesis", "decoder")
"""What is asked in a variation that does not name its own methods."""
