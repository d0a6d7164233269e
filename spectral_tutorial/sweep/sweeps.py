"""A sweep: reading its file, running it, and saying beforehand what that will take."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from spectral_tutorial.config import ConfigError, load_yaml
from spectral_tutorial.config import load as load_experiment
from spectral_tutorial.reading import config_error, is_file, show, validate
from spectral_tutorial.sweep.cells import Cell, name_of, text
from spectral_tutorial.sweep.description import SweepFile
from spectral_tutorial.sweep.results import FAILURES, TABLE, Results, claimed, read_seconds
from spectral_tutorial.sweep.workers import computer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sweep:
    """A grid of experiments, and the folder of its results.

    Attributes
    ----------
    file : str
        ``SWEEP.yaml`` as its user named it, for messages.
    directory : Path
        Absolute folder of the results.
    axes : mapping of str to sequence
        The grid: values by key.
    plan : tuple of Cell
        Every combination of the axes' values, the last axis fastest.
    retries : int
        How often a failed cell is tried again.
    """

    file: str
    directory: Path
    axes: Mapping[str, Sequence[Any]]
    plan: tuple[Cell, ...]
    retries: int

    @property
    def cells(self) -> list[dict[str, Any]]:
        """Value on each axis, for every cell."""
        return [dict(cell.values) for cell in self.plan]

    @property
    def table(self) -> Path:
        """The file with everything that is finished."""
        return self.directory / TABLE

    def run(
        self,
        workers: int | None = 0,
        scheduler: str | None = None,
        *,
        progress: Callable[[int, int], None] = lambda finished, total: None,
    ) -> pd.DataFrame:
        """Compute what is not finished, and return the table.

        Parameters
        ----------
        workers : int or None
            Number of processes on this machine, through Dask. 0 computes one cell after another in this process; None
            takes as many processes as the cores allow, and this one where Dask is not installed.
        scheduler : str, optional
            Address of a running Dask scheduler, whose workers are used instead.
        progress : callable
            Called with the number of finished cells and of all, at the start and with each that is finished.

        Raises
        ------
        StoreError
            If the folder of the results holds something else, or the scheduler goes away.
        ConfigError
            If the scheduler does not answer, or Dask is asked for and not installed.
        """
        with claimed(self.directory), ExitStack() as stack:
            results = Results(self.directory, list(self.axes), self.plan)
            done, total = len(results.reports), len(results.cells)
            log.info("%s: %d cells, %d of them finished", self.file, total, done)
            bar = stack.enter_context(tqdm(desc="sweep", initial=done, total=total, unit="cell", disable=None))
            stack.enter_context(logging_redirect_tqdm())
            progress(done, total)
            compute = stack.enter_context(computer(workers, scheduler, results.unfinished))
            for _ in range(1 + self.retries):
                for cell, outcome in compute(results.unfinished):
                    if results.take(cell, outcome):
                        bar.update()
                        progress(len(results.reports), total)
        return pd.read_csv(self.table)

    def failures(self) -> pd.DataFrame:
        """Return the cells that failed in the last run: their values, ``methods`` and ``error``."""
        path = self.directory / FAILURES
        return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=[*self.axes, "methods", "error"])

    def forecast(self) -> pd.DataFrame:
        """Say of every cell whether it is finished and how long it takes; computes and writes nothing.

        Returns
        -------
        DataFrame
            The axes, ``methods``, ``finished`` and ``seconds``: measured for a finished cell, for another the median of
            the finished ones with the same methods, or of all; NaN where there is none.
        """
        finished = {cell.digest: cell for cell in self.plan if cell.report() is not None}
        took = {digest: seconds for digest, seconds in read_seconds(self.directory).items() if digest in finished}
        alike: dict[tuple[str, ...], list[float]] = {}
        for digest, seconds in took.items():
            alike.setdefault(finished[digest].methods, []).append(seconds)
        rows = []
        for cell in self.plan:
            guess = median(alike.get(cell.methods, took.values())) if took else math.nan
            about = [cell.digest in finished, took.get(cell.digest, guess)]
            rows.append([*map(text, cell.values.values()), text(cell.methods), *about])
        return pd.DataFrame(rows, columns=[*self.axes, "methods", "finished", "seconds"])


def load(path: str | Path) -> Sweep:
    """Read ``SWEEP.yaml`` and make every cell.

    Raises
    ------
    ConfigError
        When the file, its base experiment or a cell cannot be used. Nothing has been written then.
    """
    file, directory = str(path), Path(path).resolve().parent
    given = validate(SweepFile, load_yaml(path), file)
    if not is_file(directory / given.base):
        expected = "the path of a meta file, relative to this file"
        raise config_error(file, "base", f"{show(given.base)}, where there is no file", expected)
    base, folder = load_experiment(Path(path).parent / given.base), (directory / given.sweep_dir).resolve()
    plan = []
    for combination in product(*given.grid.values()):
        values = dict(zip(given.grid, combination, strict=True))
        try:
            plan.append(Cell.make(given, base, values, folder))
        except ConfigError as problem:
            raise ConfigError(f"{file}: {name_of(values)}: {problem}") from None
    return Sweep(file, folder, given.grid, tuple(plan), given.retries)
