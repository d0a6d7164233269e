"""The first stage, data; and what all stages share."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from spectral_tutorial import data, physics, splits, store
from spectral_tutorial.config import Config
from spectral_tutorial.data import LackingError, Spectra
from spectral_tutorial.pipeline.sources import digests, libraries
from spectral_tutorial.reading import resolve_callable
from spectral_tutorial.sections import RESERVED_SPLITS, FunctionDistribution, MixtureDistribution, Split
from spectral_tutorial.store import Stage
from spectral_tutorial.variants import COMPOSED, added_splits

log = logging.getLogger(__name__)

LEARNED_FROM = ("train", "oracle_train")
"""Splits that readers learn from; all others are judged."""


class SpectraStages:
    """The spectra of every split and data seed, made when they are asked for and found again."""

    def __init__(self, config: Config, overwrite: bool = False) -> None:
        self.config = config
        self.folder = store.ExperimentFolder(config.exp_dir, config.as_dict(), overwrite)
        self.splits = splits.complete(config.distribution.splits)
        self.added = RESERVED_SPLITS
        self._seen: set[tuple[Path, str]] = set()
        self._described: set[int] = set()
        self._stages: dict[tuple[str, int, tuple[str, ...]], Stage] = {}

    @cached_property
    def world(self) -> physics.World:
        """The forward model."""
        return physics.World.from_config(self.config.spectra)

    @cached_property
    def _laws(self) -> dict[str, Split]:
        """Every split, those of interventions too, which of many lines are so large that they wait to be asked for."""
        return added_splits(self.config, self.splits) | self.splits

    @property
    def judged(self) -> list[str]:
        """Splits that nothing is learned from."""
        return [name for name in self.splits if name not in LEARNED_FROM]

    def finished(self, stages: Iterable[Stage]) -> bool:
        """Whether all stages are current; each is checked, byte for byte, once in the life of this object."""
        for stage in stages:
            if (stage.directory, stage.fingerprint) not in self._seen:
                if not stage.current():
                    return False
                self._seen.add((stage.directory, stage.fingerprint))
        return True

    def produce(self, stages: Iterable[Stage], flag: str, make: Callable[[], None]) -> None:
        """See to it that all `stages` can be used, calling `make` if they cannot and the meta file's `flag` is on."""
        stages = list(stages)
        if self.finished(stages):
            return
        if not getattr(self.config.meta, flag):
            self._accept_as_found(stages, flag)
            return
        with self.folder.claimed():
            # Another process may have made them while this one waited, or been killed in the last moment.
            todo = [stage for stage in stages if not self.finished([stage])]
            if todo and not store.recovered(todo):
                make()
        self._seen |= {(stage.directory, stage.fingerprint) for stage in stages}

    def _accept_as_found(self, stages: list[Stage], flag: str) -> None:
        for stage in stages:
            if not stage.intact():
                raise store.MissingError(
                    f"{self.config.file}: {flag}: found false, with nothing complete in {stage.directory}; "
                    f"expected true, or an experiment where this stage is finished."
                )
            if not stage.current():
                log.warning(
                    "%s was made by another version of the code; used as it is (%s: false)", stage.directory, flag
                )

    def data(self, split: str, seed: int) -> Spectra:
        """Return a split's spectra, mapped from their files."""
        stage = self.data_stage(split, seed)
        self.produce([stage], "generate_data", partial(self._generate, stage, split, seed))
        if self.config.meta.generate_data and seed not in self._described:
            self._describe(seed)
        arrays = {name: store.open_array(stage.directory / f"{name}.npy") for name in data.ROW_ARRAYS}
        return Spectra(wavelength=self.world.wavelength, labels=self.world.labels, **arrays)

    def _law(self, split: str) -> Split:
        if split not in self._laws:
            raise LackingError(f"no split {split}: there is no pair of lines but the reported one")
        return self._laws[split]

    def data_stage(self, split: str, seed: int) -> Stage:
        """Return the stage with a split's spectra."""
        if split == COMPOSED:
            made = store.fingerprint(
                self.data_stage("train", seed).fingerprint, self.config.reported, libraries(), digests(data)
            )
            return Stage(self.folder.path / f"data/seed-{seed}" / split, made)
        law = self._law(split)
        # A table over all data seeds asks for each a hundred times; only a person's own code may change meanwhile.
        own = tuple(store.code_digest(function) for function in self._functions(law.distribution))
        if (split, seed, own) not in self._stages:
            made_of = [
                self.config.spectra.model_dump(mode="json"),
                law.model_dump(mode="json"),
                [split, seed, np.__version__],
                digests(physics, splits, data),
                list(own),
            ]
            found = Stage(self.folder.path / f"data/seed-{seed}" / split, store.fingerprint(*made_of))
            self._stages[split, seed, own] = found
        return self._stages[split, seed, own]

    def _functions(self, law: Any) -> list[Callable[..., Any]]:
        """Return the person's own functions in a law."""
        if isinstance(law, MixtureDistribution):
            return [function for _, part in law.parts for function in self._functions(part)]
        return [self.resolve(law.callable, "callable")] if isinstance(law, FunctionDistribution) else []

    def answers_stage(self, name: str, data_seed: int, made_of: Iterable[Any]) -> Stage:
        """Return the stage that holds what a variant or a method answered."""
        return Stage(self.folder.path / "analysis" / name / f"data-{data_seed}", store.fingerprint(*made_of))

    def resolve(self, name: str, key: str) -> Callable[..., Any]:
        """Return the function or class that a ``module:name`` of the configuration means."""
        return resolve_callable(name, self.config.directory, key=key, file=self.config.file)

    def _generate(self, stage: Stage, split: str, seed: int) -> None:
        if split == COMPOSED:
            self._compose(stage, seed)
            return
        log.info("data seed %d: generating %s, %d spectra", seed, split, self._law(split).n_samples)
        with stage.write() as folder:
            self._fill(folder, split, seed)

    def _fill(self, folder: Path, split: str, seed: int) -> None:
        """Generate a split into files of a folder, which are closed when this returns: Windows renames no others."""
        law, spectra = self._law(split), self.config.spectra
        shapes = data.array_shapes(spectra, law)
        out = {name: store.create_array(folder / f"{name}.npy", *shape) for name, shape in shapes.items()}
        data.generate(spectra, law, name=split, seed=seed, directory=self.config.directory, out=out)

    def _compose(self, stage: Stage, seed: int) -> None:
        """Make a quarter as many spectra as there are to learn from, each a product of some of them."""
        train, rng = self.data("train", seed), data.stream(seed, "train", COMPOSED)
        log.info("data seed %d: composing %d spectra", seed, len(train) // 4)
        composed = data.compose(train, *self.config.reported, len(train) // 4, rng)
        with stage.write() as folder:
            for name in data.ROW_ARRAYS:
                np.save(folder / f"{name}.npy", getattr(composed, name))

    def _describe(self, seed: int) -> None:
        """Write what all splits of a data seed share, where it is not there already."""
        described = {
            "data_seed": seed,
            "spectra": self.config.spectra.model_dump(mode="json"),
            "splits": {name: law.model_dump(mode="json") for name, law in self.splits.items()},
        }
        self.folder.publish(f"data/seed-{seed}/metadata.json", store.json_bytes(described))
        self.folder.publish(f"data/seed-{seed}/wavelength.npy", store.array_bytes(self.world.wavelength))
        self._described.add(seed)
