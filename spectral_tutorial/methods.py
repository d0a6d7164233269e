"""One table of methods: what each is fitted to, how, and what it may know.

A *method* is fitted to spectra and then predicts abundances. A :class:`Network` is trained once for each training seed.
An :class:`Estimator` (written in :mod:`spectral_tutorial.estimators`) has none: fitted to the same spectra it predicts
the same, so its errors are measured over several data seeds.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spectral_tutorial.config import Config
from spectral_tutorial.data import MissingSpectraError, Spectra, stream
from spectral_tutorial.physics import World
from spectral_tutorial.reading import config_error, one_of, show
from spectral_tutorial.sections import CombinationDistribution, TrainingConfig
from spectral_tutorial.splits import LEARNED_FROM, complete, draw_abundance, many

ENDS: Mapping[str, Any] = {"checkpoint_by": "ratio", "checkpoint_ratio": 1.0}
"""Settings of a network that is looked at where its training begins and where it ends."""

ORIGINAL_TRAINING: Mapping[str, Any] = {
    "model_type": "mlp",
    "hidden_dims": [128, 64],
    "dropout_rate": 0.1,
    "activation": "relu",
    "input_transform": "none",
    "initialization": "kaiming_normal",
    "epochs": 6,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    **ENDS,  # the original kept twenty checkpoints
}
"""Training settings of the tutorial that this one descends from."""

WITHOUT_EFFECT = {
    "device", "n_bins", "n_components", "seed", "num_workers", "log_every_n_step", "test_every", "test_every_n_step",
    "test_ratio",
}  # fmt: skip
"""Keys of training.yaml that do not change what is trained."""

COMPOSED, RECOMBINED = "composed", "recombined"
"""Stand for spectra made from the training split itself: :func:`spectral_tutorial.data.compose`, :func:`recombined`."""

LIMIT_TRAINING: Mapping[str, Any] = {
    "model_type": "averaging_mlp",
    "activation": "gelu",
    "epochs": 32,
    "batch_size": 256,
    "weight_decay": 0.3,
    "schedule": "linear",
    "loss_weights": "inverse_error",
}
"""What a network at the limit has in the place of training.yaml; chosen on recombined spectra that were held out."""

DRAWS = 4096  #: abundances that are drawn from a person's own function to see how far they go
TOLD = SINGLE, PAIRS, COMBINATION, RULE, PHYSICS = (
    "single lines only", "other pairs of lines", "the combination too", "one rule of physics", "all of the physics",
)  # fmt: skip
"""What a method may have been allowed to know: the groups of a figure, in their order."""

FLAT: Mapping[str, Any] = {"n_continuum": 3, "continuum_degree": 1, "degree": 3}
"""Settings of a decoder whose continua are what principal component analysis would give: a flat family."""

RANK = 256  #: principal components that the linear estimators look at; fixed, not chosen


@dataclass(frozen=True)
class Shown:
    """Spectra that take the place of the last ones of the training split, so that its size stays the same."""

    split: str  #: one of :func:`spectral_tutorial.splits.added`, or ``COMPOSED``
    count: int | None = None  #: how many; a quarter of the training split if not given


@dataclass(frozen=True, kw_only=True)
class Method:
    """What networks and estimators have in common."""

    split: str = "train"  #: the split that it learns from
    shown: Shown | None = None  #: spectra that it learns from besides
    core: bool = False  #: whether a plain ``run`` computes it, or only ``run --all`` and the chapter that shows it
    title: str = ""  #: what it is called in a figure
    told: str = SINGLE  #: what it was allowed to know, one of ``TOLD``


@dataclass(frozen=True, kw_only=True)
class Network(Method):
    """One way of training the network."""

    training: Mapping[str, Any] | None = None  #: settings in the place of all of training.yaml
    changes: Mapping[str, Any] = field(default_factory=dict)  #: settings that differ from those of training.yaml
    n_seeds: int | None = None  #: so many training seeds from the first configured one on, in place of all
    n_data_seeds: int | None = None  #: at most this many of the configured data seeds, the first ones

    def data_seeds(self, config: Config) -> tuple[int, ...]:
        """Data seeds over which it is measured."""
        return config.meta.data_seed[: self.n_data_seeds]

    def training_seeds(self, config: Config) -> tuple[int, ...]:
        """Training seeds over which it is measured."""
        configured = config.meta.training_seed
        return configured if self.n_seeds is None else tuple(range(configured[0], configured[0] + self.n_seeds))

    def settings(self, config: Config) -> TrainingConfig:
        """Training settings."""
        if self.training is not None:
            return TrainingConfig.model_validate(dict(self.training))
        return config.with_training(**self.changes).training if self.changes else config.training


class Fitted(Protocol):
    """What is asked of a fitted estimator."""

    def predict(self, flux: NDArray[np.float32]) -> NDArray[np.float64]:
        """Abundances, shape ``(N, K)``."""
        ...


@dataclass(frozen=True)
class Task:
    """What an estimator is given to learn from."""

    config: Config  #: lines and ranges; only estimators that know some physics look at it
    labels: tuple[str, ...]  #: the K components to predict, the two reported ones first
    train: Spectra  #: the split that it learns from
    val: Spectra  #: held-out spectra of the training distribution, for choosing settings

    @property
    def world(self) -> World:
        """The forward model."""
        return World.from_config(self.config.spectra)

    @property
    def abundance_range(self) -> tuple[float, float]:
        """Lowest and highest abundance of a component that is present, in all splits that are predicted."""
        spectra, directory = self.config.spectra, self.config.directory
        ranges = [spectra.sampling.abundance.range]
        for name, split in complete(self.config.distribution.splits).items():
            if name in LEARNED_FROM:
                continue
            if isinstance(split.distribution, CombinationDistribution):
                ranges += [limits for one in split.distribution.combinations for limits in one.ranges.values()]
            else:  # a function says what it draws by drawing; these draws are nobody's spectra
                drawn = draw_abundance(split.distribution, spectra, DRAWS, stream(0, name, "range"), directory)
                ranges += [(drawn[drawn > 0].min(initial=np.inf), drawn.max())]
        lows, highs = zip(*ranges, strict=True)
        return float(min(lows)), float(max(highs))

    def fit(self, estimator: Any) -> Fitted:
        """Fit an estimator to the training split."""
        fitted: Fitted = estimator.fit(self.train.flux, self.train.of(*self.labels))
        return fitted


def recombined(task: Task, decoder: Any, rng: np.random.Generator) -> Spectra:
    """Make spectra of all combinations with a decoder fitted to `task`; nobody knows their temperatures."""
    train, places = task.train, [task.train.labels.index(label) for label in task.labels]
    flux, found, noise = decoder.recombine(train.flux, train.of(*task.labels), many(len(train)), rng)
    abundance = np.zeros((len(flux), len(train.labels)))
    abundance[:, places] = found
    return Spectra(train.wavelength, flux, abundance, np.full(len(flux), np.nan), noise, train.labels)


@dataclass(frozen=True, kw_only=True)
class Estimator(Method):
    """One method without training seeds."""

    fit: Callable[..., Fitted]  #: called with a task and settings: makes it and fits it
    #: tries settings on ``val``, once, on the first data seed: an entry a setting, the chosen one first; whole numbers
    #: are settings, others what they were judged by
    choose: Callable[[Task], list[dict[str, Any]]] | None = None

    def data_seeds(self, config: Config) -> tuple[int, ...]:
        """Data seeds over which it is measured: those configured, and as many as the analysis asks for."""
        seeds = config.meta.data_seed
        return tuple(sorted({*seeds, *range(seeds[0], seeds[0] + config.analysis.n_data_seeds)}))

    def training_seeds(self, config: Config) -> tuple[int, ...]:
        """None."""
        return ()


# The estimators are imported where they are used: they bring scikit-learn along, which adds filters to warnings.


def _ridge(task: Task, log: bool) -> Fitted:
    from spectral_tutorial.estimators import ridge

    return task.fit(ridge(log, rank=min(RANK, *task.train.flux.shape)))


def _local(task: Task) -> Fitted:
    from spectral_tutorial.estimators import WindowedRidge

    spectra = task.config.spectra
    lines = [spectra.lines[spectra.index(label)] for label in task.labels]
    if measured := [line.label for line in lines if line.profile]:
        raise MissingSpectraError(f"the line {measured[0]} has a measured profile; expected a center and a width")
    center, width = np.array([[line.center, line.width] for line in lines], float).T
    return task.fit(WindowedRidge(task.world.wavelength, center, width))


def _observer(task: Task) -> Fitted:
    from spectral_tutorial.estimators import BayesianObserver

    abundance, temperature = task.config.spectra.sampling.abundance, task.config.spectra.sampling.temperature
    log_uniform = abundance.distribution == "log_uniform"
    return task.fit(BayesianObserver(task.world, task.labels, abundance.range, temperature.range, log_uniform))


def _synthesis(task: Task) -> Fitted:
    from spectral_tutorial.estimators import AnalysisBySynthesis

    temperatures = task.config.spectra.sampling.temperature.range
    return task.fit(AnalysisBySynthesis(task.world, task.labels, task.abundance_range, temperatures))


def _decoder(task: Task, **settings: int) -> Fitted:
    from spectral_tutorial.estimators import LogAdditiveDecoder

    power = task.world.noise_power
    return task.fit(LogAdditiveDecoder(highest=task.abundance_range[1], noise_power=power, **settings))


def _choose_decoder(task: Task) -> list[dict[str, Any]]:
    from spectral_tutorial.estimators import choose_decoder

    train, val = (split.of(*task.labels) for split in (task.train, task.val))
    return choose_decoder(task.train.flux, train, task.val.flux, val, noise_power=task.world.noise_power)[1]


def _intervention(title: str, changes: Mapping[str, Any] = ENDS, **given: Any) -> Network:
    """Make a network of which only beginning and end are looked at."""
    return Network(changes={**changes, **ENDS}, n_seeds=5, title=title, **given)


METHODS: Mapping[str, Network | Estimator] = {
    "network": Network(core=True, title="network"),
    "oracle": Network(
        split="oracle_train", changes=ENDS, core=True, title="network, 1 in 4 (oracle)", told=COMBINATION
    ),
    "fooled": Network(training=ORIGINAL_TRAINING, n_seeds=32, n_data_seeds=1, title="network, careless"),
    "network_flux": _intervention("network on flux", {"input_transform": "standardize"}, n_data_seeds=1),
    "dropout": _intervention("network with dropout", {"dropout_rate": 0.1}, n_data_seeds=1),
    "some_pairs": _intervention("network, 10 other pairs", shown=Shown("some_pairs"), told=PAIRS, n_data_seeds=1),
    "all_pairs": _intervention("network, all other pairs", shown=Shown("all_pairs"), told=PAIRS, n_data_seeds=1),
    **{
        f"shown_{n}": _intervention(
            f"network, {n} shown", shown=Shown("combinations", n), told=COMBINATION, n_data_seeds=1
        )
        for n in (4, 16, 64, 256)
    },
    "composed": _intervention("network, composed stars", shown=Shown(COMPOSED), told=RULE),
    "limit": _intervention("network at the limit", LIMIT_TRAINING, split=RECOMBINED, told=RULE, n_data_seeds=1),
    "limit_oracle": _intervention(
        "its oracle", LIMIT_TRAINING, split="many_combinations", told=COMBINATION, n_data_seeds=1
    ),
    "ridge_flux": Estimator(fit=partial(_ridge, log=False), title="linear, flux"),
    "ridge_log": Estimator(fit=partial(_ridge, log=True), title="linear, log flux"),
    "local": Estimator(fit=_local, title="windows at the lines", told=RULE),
    "observer": Estimator(fit=_observer, title="ideal observer", told=PHYSICS),
    "observer_oracle": Estimator(fit=_observer, split="oracle_train", title="observer, true belief", told=PHYSICS),
    "synthesis": Estimator(fit=_synthesis, title="synthesis", told=PHYSICS),
    "decoder": Estimator(fit=_decoder, choose=_choose_decoder, title="decoder", told=RULE),
    "decoder_flat": Estimator(fit=partial(_decoder, **FLAT), title="decoder, flat continua", told=RULE),
}
"""Networks first. ``network`` is the configured one; ``oracle`` the same with the held-out combination among its
training spectra; ``fooled`` has the original's settings over 32 consecutive seeds, enough to meet dead ones. Then
interventions, each with one thing changed: ``network_flux`` reads flux and not its logarithm; ``dropout`` switches
units off; ``some_pairs`` and ``all_pairs`` learn from pairs of lines that are not the held-out one, ``shown_N`` from N
spectra with the held-out combination, ``composed`` from products of its own training spectra. With more spectra and a
better schedule, ``limit`` learns from what the decoder recombines, ``limit_oracle`` from as many true spectra.

Of the estimators, ``ridge_flux`` and ``ridge_log`` are linear; ``local`` looks at a window around each line;
``observer`` knows the physics and believes the training distribution, ``observer_oracle`` the one with the combination;
``synthesis`` fits the true forward model; ``decoder`` learns a forward model from single lines, with settings chosen on
``val``, and ``decoder_flat`` one whose continua are a mean and three components."""


def get_method(name: str) -> Network | Estimator:
    """Return the method of that name; ValueError naming those there are if there is none.

    Beside those of ``METHODS``, ``network+N`` is the configured network with N spectra of the held-out combination in
    the place of its last training spectra.
    """
    if found := re.fullmatch(r"network\+([1-9]\d{0,7})", name):
        return Network(shown=Shown("combinations", int(found[1])), told=COMBINATION)
    if name not in METHODS:
        raise ValueError(f"no method {name!r}; expected one of {', '.join(METHODS)}, or network+N")
    return METHODS[name]


def get_network(name: str) -> Network:
    """Return the network of that name; ValueError naming those there are if it is none."""
    found = get_method(name)
    if not isinstance(found, Network):
        raise ValueError(f"{name!r} has no training; expected one of {', '.join(names_of(Network))}, or network+N")
    return found


def get_estimator(name: str) -> Estimator:
    """Return the estimator of that name; ValueError naming those there are if it is none."""
    found = get_method(name)
    if not isinstance(found, Estimator):
        raise ValueError(f"{name!r} is a network; expected one of {', '.join(names_of(Estimator))}")
    return found


def names_of(kind: type[Method], core: bool = False) -> list[str]:
    """Names of all methods of a kind, or of those that a plain ``run`` computes."""
    return [name for name, method in METHODS.items() if isinstance(method, kind) and (method.core or not core)]


def is_known(name: str) -> bool:
    """Whether there is a method of that name."""
    try:
        return bool(get_method(name))
    except ValueError:
        return False


def asked_in(config: Config, variation: str) -> list[str]:
    """Return the methods that a variation of analysis.yaml is about.

    ConfigError if the variation cannot be used, or there is a method among them that is not known.
    """
    config.variation(variation)
    asked = config.analysis.variations[variation].get("methods", ("ridge_log", "synthesis", "decoder"))
    file, key = config.meta.analysis_config_path, f"variations.{variation}.methods"
    if not isinstance(asked, list | tuple) or not asked:
        raise config_error(file, key, show(asked), "a list of methods")
    for name in asked:
        if not is_known(str(name)):
            raise config_error(file, key, show(name), one_of(METHODS, name))
    return [str(name) for name in asked]
