"""The ways of training that the book compares: what each learns from, and with which settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from spectral_tutorial.config import Config
from spectral_tutorial.methods import METHODS
from spectral_tutorial.sections import Combination, CombinationDistribution, Split, TrainingConfig

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
    "checkpoint_by": "ratio",
    "checkpoint_ratio": 0.25,  # the original kept twenty; these runs are looked at for where they end
}
"""Training settings of the tutorial that this one descends from."""


COMPOSED = "composed"
"""Stands for spectra that :func:`spectral_tutorial.data.compose` makes from the training split itself."""


@dataclass(frozen=True)
class Shown:
    """Spectra that take the place of the last ones of the training split, so that its size stays the same.

    Attributes
    ----------
    split : str
        One of :func:`added_splits`, or ``COMPOSED``.
    count : int, optional
        How many; a quarter of the training split if not given.
    """

    split: str
    count: int | None = None


@dataclass(frozen=True)
class Variant:
    """One way of training the network.

    Attributes
    ----------
    split : str
        The split it learns from.
    training : mapping, optional
        Settings that stand in for those of training.yaml, all of them.
    changes : mapping
        Settings that differ from those of training.yaml.
    shown : Shown, optional
        Spectra that it learns from besides.
    n_seeds : int, optional
        This many consecutive training seeds from the first configured one, instead of the configured ones.
    core : bool
        Whether a plain ``run`` computes it, or only ``run --all`` and the chapter that shows it.
    combinations, physics : str
        What it was allowed to know, in a word or two for tables: of held-out combinations, and of physics.
    """

    split: str = "train"
    training: Mapping[str, Any] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    shown: Shown | None = None
    n_seeds: int | None = None
    core: bool = True
    combinations: str = "none"
    physics: str = "none"

    def seeds(self, config: Config) -> tuple[int, ...]:
        """Training seeds of this variant."""
        configured = config.meta.training_seed
        return configured if self.n_seeds is None else tuple(range(configured[0], configured[0] + self.n_seeds))

    def settings(self, config: Config) -> TrainingConfig:
        """Training settings of this variant."""
        if self.training is not None:
            return TrainingConfig.model_validate(dict(self.training))
        return config.with_training(**self.changes).training if self.changes else config.training


ENDS: Mapping[str, Any] = {"checkpoint_by": "ratio", "checkpoint_ratio": 1.0}
"""Interventions are looked at where they begin and where they end."""


def _intervention(
    shown: Shown | None = None, combinations: str = "none", physics: str = "none", **changes: Any
) -> Variant:
    return Variant(
        shown=shown, changes={**changes, **ENDS}, n_seeds=5, core=False, combinations=combinations, physics=physics
    )


VARIANTS: Mapping[str, Variant] = {
    "network": Variant(),
    "oracle": Variant(split="oracle_train", combinations="1 in 4"),
    "fooled": Variant(training=ORIGINAL_TRAINING, n_seeds=32, core=False),
    "network_flux": _intervention(input_transform="standardize"),
    "dropout": _intervention(dropout_rate=0.1),
    "some_pairs": _intervention(Shown("some_pairs"), "other pairs"),
    "all_pairs": _intervention(Shown("all_pairs"), "other pairs"),
    "shown_4": _intervention(Shown("combinations", 4), "4"),
    "shown_16": _intervention(Shown("combinations", 16), "16"),
    "shown_64": _intervention(Shown("combinations", 64), "64"),
    "shown_256": _intervention(Shown("combinations", 256), "256"),
    "composed": _intervention(Shown(COMPOSED), physics="factors multiply"),
}
"""``network`` is the configured one; ``oracle`` the same with the held-out combination among its training spectra;
``fooled`` has the original's settings over 32 consecutive seeds, enough to meet dead ones. The others are
interventions, each with one thing changed: ``network_flux`` reads flux and not its logarithm; ``dropout`` switches
units off; ``some_pairs`` and ``all_pairs`` learn from pairs of lines that are not the held-out one, ``shown_N`` from N
spectra with the held-out combination, ``composed`` from products of its own training spectra."""


def added_splits(config: Config, splits: Mapping[str, Split]) -> dict[str, Split]:
    """Splits that only interventions learn from: the held-out combination, and pairs of lines that are not it."""
    labels, quarter = config.spectra.labels, max(1, splits["train"].n_samples // 4)
    held_out = set(config.reported)
    pairs = [pair for pair in combinations(labels, 2) if set(pair) != held_out]
    some = pairs[:: max(1, len(pairs) // 10)][:10]  # evenly spaced, so that every kind of line is among them

    def law(chosen: list[tuple[str, str]]) -> CombinationDistribution:
        held = tuple(Combination(components=pair) for pair in chosen)
        return CombinationDistribution(type="component_combinations", combinations=held)

    added = {"combinations": Split(n_samples=splits["train"].n_samples, distribution=splits["test"].distribution)}
    if pairs:  # a world of two lines has no other
        added["some_pairs"] = Split(n_samples=quarter, distribution=law(some))
        added["all_pairs"] = Split(n_samples=quarter, distribution=law(pairs))
    return added


def named(name: str) -> Variant:
    """Return the variant of that name; ValueError naming those there are if there is none.

    Beside those of ``VARIANTS``, ``network+N`` is the configured network with N spectra of the held-out combination in
    the place of its last training spectra.
    """
    if found := re.fullmatch(r"network\+([1-9]\d{0,7})", name):
        return Variant(shown=Shown("combinations", int(found[1])), core=False, combinations=found[1])
    if name not in VARIANTS:
        raise ValueError(f"no variant {name!r}; expected one of {', '.join([*VARIANTS, *METHODS])}")
    return VARIANTS[name]


def is_known(name: str) -> bool:
    """Whether there is a variant or a method of that name."""
    try:
        return name in METHODS or bool(named(name))
    except ValueError:
        return False


def knowledge(name: str) -> tuple[str, str]:
    """Return what a variant or a method was allowed to know, in a word or two: of combinations, and of physics."""
    known = METHODS[name] if name in METHODS else named(name)
    return known.combinations, known.physics


def chosen(everything: bool) -> list[str]:
    """Names of the core variants, or of all."""
    return [name for name, variant in VARIANTS.items() if variant.core or everything]
