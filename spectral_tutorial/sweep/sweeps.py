"""A sweep: its file, its folder, and the tables that grow in it."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from spectral_tutorial import cores
from spectral_tutorial.analysis import REPORT_COLUMNS
from spectral_tutorial.config import ConfigError, load_yaml
from spectral_tutorial.config import load as load_experiment
from spectral_tutorial.folder import versions
from spectral_tutorial.reading import config_error, is_file, show, validate
from spectral_tutorial.store import StoreError, locked, read_table, write_atomically
from spectral_tutorial.sweep.cells import Cell, Outcome, SweepFile, measure, name_of, sentence, text
from spectral_tutorial.sweep.executors import Processes, dask, on_dask, unordered

log = logging.getLogger(__name__)

TABLE, FAILURES, SECONDS, RECORD = "table.csv", "failures.csv", "seconds.csv", "spectral-tutorial-sweep.json"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the lock of a sweep's folder, waiting for whoever has it.

    Raises
    ------
    StoreError
        If it holds something that no sweep wrote; nothing has been written then.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: found a file; expected a folder for the sweep.")
    # before there were records, a sweep's folder always had these columns; entries first: the record is older than they
    if any(folder.glob("[!.]*")) and not ((folder / RECORD).is_file() or _begins(folder / TABLE, REPORT_COLUMNS[:3])):
        raise StoreError(f"{folder}: found a folder that holds something else; expected an empty one or none.")
    if (folder / FAILURES).exists() and not _begins(folder / FAILURES, ["methods", "error"]):
        raise StoreError(f"{folder / FAILURES}: found a file that no sweep wrote; expected none of that name.")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(filelock.FileLock(folder / ".lock"), folder):
        write_atomically(folder / RECORD, versions())
        yield


def _begins(path: Path, columns: Sequence[str]) -> bool:
    """Whether a file is a table with these columns, one after the other."""
    with suppress(OSError), path.open(encoding="utf-8", errors="replace") as stream:
        return ",".join(columns) in stream.readline(100_000)
    return False


class Tables:
    """What is known of a sweep's cells, written down with each one that arrives; the folder's lock is held."""

    def __init__(self, folder: Path, axes: Iterable[str], plan: Sequence[Cell]) -> None:
        self.folder, self.axes, self.plan = folder, list(axes), plan
        self.cells = {cell.digest: cell for cell in plan}  # two of the plan may be one and the same experiment
        found = {digest: cell.report() for digest, cell in self.cells.items()}
        self.reports = {digest: report for digest, report in found.items() if report is not None}
        self.failed: dict[str, Outcome] = {}
        self.seconds = read_seconds(folder)
        self._publish()

    @property
    def unfinished(self) -> list[Cell]:
        """Cells to compute, without those that fail whenever they are tried."""
        settled = {*self.reports, *(digest for digest, outcome in self.failed.items() if outcome.always)}
        return [cell for digest, cell in self.cells.items() if digest not in settled]

    def take(self, cell: Cell, outcome: Outcome | Exception) -> bool:
        """Write down what came of a cell; says whether it is finished."""
        if isinstance(outcome, Exception):  # the executor's own, as when its workers were killed
            outcome = Outcome(error=sentence(outcome))
        if outcome.error:
            self.failed[cell.digest] = outcome
            log.warning("%s: failed: %s", cell, outcome.error)
        else:
            cell.finish(outcome.report)
            self.reports[cell.digest], self.seconds[cell.digest] = outcome.report, outcome.seconds
            self.failed.pop(cell.digest, None)
            log.info("%s: %.1f s", cell, outcome.seconds)
        self._publish()
        return not outcome.error

    def _publish(self) -> None:
        axes = [key for key in self.axes if key != "method"]  # the report has a column of that name
        table, failures = [_csv([*axes, *REPORT_COLUMNS])], [_csv([*self.axes, "methods", "error"])]
        for cell in self.plan:
            beginning = _csv([*(text(cell.values[key]) for key in axes), ""])[:-1]
            table += [f"{beginning}{row}\n" for row in self.reports.get(cell.digest, "").splitlines()[1:]]
            if failed := self.failed.get(cell.digest):
                failures.append(_csv([*map(text, cell.values.values()), text(cell.methods), failed.error]))
        seconds = [_csv([digest, f"{took:.3f}"]) for digest, took in sorted(self.seconds.items())]
        for name, lines in ((TABLE, table), (SECONDS, ["cell,seconds\n", *seconds]), (FAILURES, failures)):
            if name == FAILURES and not self.failed:
                (self.folder / FAILURES).unlink(missing_ok=True)
            else:
                write_atomically(self.folder / name, "".join(lines).encode())


def _csv(row: Iterable[Any]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow(row)
    return stream.getvalue()


def read_seconds(folder: Path) -> dict[str, float]:
    """Return how long cells took that were computed for this sweep, by digest."""
    try:
        table = pd.read_csv(folder / SECONDS, dtype={"cell": str, "seconds": float})
        return dict(zip(table["cell"], table["seconds"], strict=True))
    except (OSError, ValueError, KeyError):
        return {}


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
    def _names(self) -> list[str]:
        """Axes whose values are names, which stay text in tables that are read back."""
        return [key for key, values in self.axes.items() if any(isinstance(value, str | list) for value in values)]

    @property
    def table(self) -> Path:
        """The file with everything that is finished."""
        return self.directory / TABLE

    def run(
        self,
        workers: int | None = 0,
        scheduler: str | None = None,
        *,
        executor: Executor | None = None,
        progress: Callable[[int, int], None] = lambda finished, total: None,
    ) -> pd.DataFrame:
        """Compute what is not finished, and return the table.

        Parameters
        ----------
        workers : int or None
            Number of processes on this machine. 0 computes one cell after another in this process; None takes as many
            processes as the cores allow.
        scheduler : str, optional
            Address of a running Dask scheduler, whose workers are used instead.
        executor : Executor, optional
            Anything else that ``concurrent.futures`` calls so; it is not shut down.
        progress : callable
            Called with the number of finished cells and of all, at the start and with each that is finished.

        Raises
        ------
        StoreError
            If the folder of the results holds something else.
        ConnectionError
            If the scheduler goes away.
        ConfigError
            If the scheduler does not answer, or Dask is not installed.
        """
        with claimed(self.directory), ExitStack() as stack:
            tables = Tables(self.directory, self.axes, self.plan)
            done, total = len(tables.reports), len(tables.cells)
            log.info("%s: %d cells, %d of them finished", self.file, total, done)
            bar = stack.enter_context(tqdm(desc="sweep", initial=done, total=total, unit="cell", disable=None))
            stack.enter_context(logging_redirect_tqdm())
            progress(done, total)
            work = measure if scheduler is None else partial(on_dask, measure)
            if executor is None and tables.unfinished:
                executor = stack.enter_context(self._chosen(workers, scheduler, len(tables.unfinished)))
            for _ in range(1 + self.retries):
                for cell, outcome in unordered(executor, work, tables.unfinished):
                    if tables.take(cell, outcome):
                        bar.update()
                        progress(len(tables.reports), total)
        return read_table(self.table, self._names)

    def _chosen(
        self, workers: int | None, scheduler: str | None, n_cells: int
    ) -> AbstractContextManager[Executor | None]:
        if scheduler is not None:
            return dask(scheduler)
        if workers is None:
            workers = max(1, cores.count() // self.plan[0].threads)
        if workers < 0:
            raise config_error("workers", "", show(workers), "a whole number of at least 0")
        return Processes(min(workers, n_cells)) if workers else nullcontext()

    def failures(self) -> pd.DataFrame:
        """Return the cells that failed in the last run: their values, ``methods`` and ``error``."""
        path = self.directory / FAILURES
        return (
            read_table(path, self._names) if path.is_file() else pd.DataFrame(columns=[*self.axes, "methods", "error"])
        )

    def forecast(self) -> pd.DataFrame:
        """Say of every cell whether it is finished and how long it takes; computes and writes nothing.

        Returns
        -------
        DataFrame
            The axes, ``methods``, ``finished`` and ``seconds``: measured for a finished cell, for another the median of
            the finished ones with the same methods, or of all; NaN where there is none.
        """
        measured = read_seconds(self.directory)
        rows = []
        for cell in self.plan:
            finished = cell.report() is not None
            took = measured.get(cell.digest, math.nan) if finished else math.nan
            rows.append([*map(text, cell.values.values()), text(cell.methods), finished, took])
        table = pd.DataFrame(rows, columns=[*self.axes, "methods", "finished", "seconds"])
        alike = table.groupby("methods")["seconds"].transform("median")
        return table.assign(seconds=table["seconds"].fillna(alike).fillna(table["seconds"].median()))


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
