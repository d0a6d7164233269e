"""An experiment, and the recipe that computes all of it.

An :class:`Experiment` is a configuration and a folder. Asking it for something computes what is missing on the way,
leaves it in the folder, and finds it there the next time, whoever asks: a notebook, the command line, a test.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.figure
import pandas as pd

from spectral_tutorial import figures, store
from spectral_tutorial.config import load
from spectral_tutorial.data import LackingError
from spectral_tutorial.methods import ASKED_IN_VARIATIONS, METHODS
from spectral_tutorial.plots import PLOTS
from spectral_tutorial.reading import check_name, config_error, one_of, show
from spectral_tutorial.results import Results
from spectral_tutorial.variants import VARIANTS, chosen, is_known

log = logging.getLogger(__name__)


class Experiment(Results):
    """A configuration, the folder of its results, everything that can be asked of them, and the recipe for it."""

    @classmethod
    def from_yaml(cls, path: str | Path, *, exp_dir: str | Path | None = None, overwrite: bool = False) -> Experiment:
        """Open the experiment of a meta file; `exp_dir` stands in for the one that the file names.

        Raises
        ------
        ConfigError
            If one of the five files cannot be used; nothing has been written then.
        """
        config = load(path)
        if exp_dir is not None:
            config = config.in_folder(exp_dir)
        return cls(config, overwrite=overwrite)

    def variation(self, name: str, changes: Mapping[str, Any] | None = None) -> Experiment:
        """Open an experiment that differs from this one in some keys, in the folder ``variations/NAME`` of this one.

        Parameters
        ----------
        name : str
            One of the ``variations`` of analysis.yaml, or a new name if `changes` are given.
        changes : mapping, optional
            New values by dotted key, see :meth:`Config.with_changes`.

        Raises
        ------
        ConfigError
            If there is no such variation, or a value cannot be used.
        StoreError
            If the folder holds a variation with other changes.
        """
        config = self.config.variation(name) if changes is None else self.config.with_changes(changes)
        check_name(name, partial(config_error, "variation", ""), self.config.analysis.variations)
        with self._pipeline.folder.claimed():  # the outer experiment is written down before anything lies in it
            inner = config.in_folder(self.directory / "variations" / name)
        return Experiment(inner, overwrite=self._overwrite)

    def __repr__(self) -> str:
        return f"Experiment({self.config.file!r} -> {self.directory})"

    def plot(self, name: str) -> matplotlib.figure.Figure:
        """Draw one of ``PLOTS``, leave it as ``plots/NAME.png`` and return it."""
        if name not in PLOTS:
            raise ValueError(f"no plot {name!r}; expected one of {', '.join(PLOTS)}")
        figure = PLOTS[name](self)
        self._pipeline.folder.publish(f"plots/{name}.png", figures.png(figure))
        return figure

    def generate_data(self) -> None:
        """Generate every split of every data seed."""
        for seed in self.config.meta.data_seed:
            for split in self.splits:
                self._pipeline.data(split, seed)

    def draw(self) -> None:
        """Draw every plot whose ingredients are there or may be made."""
        for name in PLOTS:
            try:
                self.plot(name)
            except store.MissingError as missing:
                log.warning("no plot %s: %s", name, missing)

    def train_all(self, *, everything: bool = False) -> list[str]:
        """Train the core variants or, if asked, `everything`; returns those that this experiment has spectra for."""
        return self._possible(chosen(everything), self.train)

    def measure_all(self, *, everything: bool = False) -> pd.DataFrame:
        """Return the gap report of the core variants or, if asked, of `everything`, the variations included."""
        variations = self.config.analysis.variations if everything else ()
        if variations:  # those that cannot be used are refused before anything is computed
            self.check_variations()
        names = chosen(everything) + (list(METHODS) if everything else [])
        report = self.gap_report(*self._possible(names, self.trajectories))
        if variations:
            self.variations_report()
        return report

    def check_variations(self) -> None:
        """Look at every variation of analysis.yaml without computing anything.

        Raises
        ------
        ConfigError
            If a value of one cannot be used, or it asks for a method that there is not.
        """
        for name in self.config.analysis.variations:
            self.config.variation(name)
            self._asked_in(name)

    def variations_report(self) -> pd.DataFrame:
        """Error over the Cramér-Rao bound in every variation of analysis.yaml, for the methods asked there.

        Leaves each variation's own tables in its folder.

        Returns
        -------
        DataFrame
            Columns variation, method, component, all, low, high, quietest, middle, noisiest, see
            :meth:`ratio_by_noise`; and place, whether the component is the first or the second of its pair.
        """
        tables = []
        for name in self.config.analysis.variations:
            inner = self.variation(name)
            done = inner._possible(self._asked_in(name), inner.trajectories)
            inner.gap_report(*done)
            place = dict(zip(inner.reported, ("first of the pair", "second of the pair"), strict=True))
            table = inner.ratio_by_noise(*done)
            table.insert(0, "variation", name)
            tables.append(table.assign(place=table["component"].map(place)))
        return pd.concat(tables, ignore_index=True)

    def _asked_in(self, variation: str) -> list[str]:
        """Variants and methods that a variation of analysis.yaml is about."""
        asked = self.config.analysis.variations[variation].get("methods", ASKED_IN_VARIATIONS)
        file, key = self.config.meta.analysis_config_path, f"variations.{variation}.methods"
        if not isinstance(asked, list | tuple) or not asked:
            raise config_error(file, key, show(asked), "a list of variants and methods")
        for name in asked:
            if not is_known(str(name)):
                raise config_error(file, key, show(name), one_of([*VARIANTS, *METHODS], name))
        return [str(name) for name in asked]

    def _possible(self, names: Iterable[str], compute: Callable[[str], Any]) -> list[str]:
        """Compute what can be; a method that misses a kind of spectrum here is named and left out."""
        done = []
        for name in names:
            try:
                compute(name)
                done.append(name)
            except LackingError as lacking:
                log.warning("%s is left out: %s", name, lacking)
        return done

    def run(self, *, everything: bool = False) -> None:
        """Do what the flags of the meta file ask for, with the core variants or, if asked, `everything`."""
        flags = self.config.meta
        if flags.generate_data:
            self.generate_data()
        if flags.run_training:
            self.train_all(everything=everything)
        if flags.run_analysis:
            self.measure_all(everything=everything)
        self.draw()
