"""The stages of methods without training seeds: their settings, and their answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectral_tutorial import analysis, cores, store
from spectral_tutorial.methods import METHODS, Reader, Task
from spectral_tutorial.pipeline import answers
from spectral_tutorial.pipeline.answers import KEPT_SPECTRA, Respondent
from spectral_tutorial.pipeline.sources import digests, of_methods
from spectral_tutorial.pipeline.spectra import SpectraStages
from spectral_tutorial.store import Stage

log = logging.getLogger(__name__)


class ReaderStages(SpectraStages):
    """The settings and the answers of every method of ``methods.METHODS``."""

    @property
    def method_seeds(self) -> tuple[int, ...]:
        """Data seeds over which a method is measured: those configured, and as many as the analysis asks for."""
        seeds = self.config.meta.data_seed
        return tuple(sorted({*seeds, *range(seeds[0], seeds[0] + self.config.analysis.n_data_seeds)}))

    def asked(self, method: str, data_seed: int) -> Path:
        """Return the folder with ``trajectory.csv``, ``seed_status.csv`` and ``predictions-SPLIT.npy``."""
        stages = {seed: self.method_stage(method, seed) for seed in self.method_seeds}
        self.produce(stages.values(), "run_analysis", partial(self._ask, method, stages))
        return stages[data_seed].directory

    def task(self, method: str, data_seed: int) -> Task:
        """Return what a method is given to learn from."""
        train, val = self.data(METHODS[method].split, data_seed), self.data(analysis.ID_SPLIT, data_seed)
        present = np.asarray(train.labels)[(train.abundance != 0).any(axis=0)].tolist()
        labels = dict.fromkeys([*self.config.reported, *present])  # one that is there and not read would mislead
        return Task(self.config.spectra, tuple(labels), train, val)

    def reader(self, method: str, data_seed: int) -> Reader:
        """Return the fitted estimator of a method."""
        return METHODS[method].fit(self.task(method, data_seed), **self._settings(method))

    def _settings(self, method: str) -> dict[str, int]:
        table = self.choice(method)
        return {} if table is None else {str(name): int(value) for name, value in table.iloc[0, :-1].items()}

    def choice(self, method: str) -> pd.DataFrame | None:
        """Return the settings that were tried on ``val``, the chosen ones first; None where nothing is chosen."""
        choose = METHODS[method].choose
        if choose is None:
            return None
        stage = self._choice_stage(method)

        def make() -> None:
            log.info("choosing the settings of %s", method)
            tried = choose(self.task(method, self.config.meta.data_seed[0]))
            with stage.write() as folder:
                pd.DataFrame(tried).to_csv(folder / "choice.csv", index=False)

        self.produce([stage], "run_analysis", make)
        return pd.read_csv(stage.directory / "choice.csv")

    def _choice_stage(self, method: str) -> Stage:
        first = self.config.meta.data_seed[0]
        made_of = [
            [self.data_stage(split, first).fingerprint for split in (METHODS[method].split, analysis.ID_SPLIT)],
            [method, list(self.config.reported)],
            of_methods(),
        ]
        return Stage(self.folder.path / "analysis" / method / "choice", store.fingerprint(*made_of))

    def method_stage(self, method: str, data_seed: int) -> Stage:
        """Return the stage with a method's answers."""
        used = dict.fromkeys([METHODS[method].split, *self.judged])
        made_of = [
            [self.data_stage(split, data_seed).fingerprint for split in used],
            [self._choice_stage(method).fingerprint] if METHODS[method].choose else [],
            [method, list(self.config.reported), KEPT_SPECTRA],
            [of_methods(), digests(analysis, answers)],
        ]
        return self.answers_stage(method, data_seed, made_of)

    def _ask(self, method: str, stages: Mapping[int, Stage]) -> None:
        """Fit a method on each data seed, a core each, and let it read the judged splits."""
        todo = [seed for seed, stage in stages.items() if not self.finished([stage])]
        # What they need is made first: only the thread that holds the experiment's lock may make anything.
        fit = partial(METHODS[method].fit, **self._settings(method))
        tasks = {seed: self.task(method, seed) for seed in todo}
        judged = {seed: {split: self.data(split, seed) for split in self.judged} for seed in todo}

        def answer(data_seed: int) -> None:
            log.info("data seed %d: asking %s", data_seed, method)
            alone = self._respondent(method, data_seed, fit(tasks[data_seed]))
            with stages[data_seed].write() as folder:
                alone.write(folder, judged[data_seed])

        cores.parallel_map(answer, todo)

    def _respondent(self, method: str, data_seed: int, reader: Reader) -> Respondent:
        reported = self.config.reported

        def read(flux: NDArray[np.float32]) -> list[NDArray[np.float64]]:
            return [reader.predict(flux)[None, :, : len(reported)]]

        return Respondent(method, data_seed, [pd.NA], [0], [0], reported, read, lambda val: ["ok"])
