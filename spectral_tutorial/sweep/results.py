"""The folder of a sweep: its lock, and its tables as they grow."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import pandas as pd

from spectral_tutorial.analysis import REPORT_COLUMNS
from spectral_tutorial.config import ConfigError
from spectral_tutorial.data import LackingError
from spectral_tutorial.folder import held
from spectral_tutorial.store import StoreError, write_atomically
from spectral_tutorial.sweep.cells import Cell, text
from spectral_tutorial.sweep.workers import Outcome

log = logging.getLogger(__name__)

TABLE, FAILURES, SECONDS = "table.csv", "failures.csv", "seconds.csv"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the lock of a sweep's folder, waiting for whoever has it.

    Raises
    ------
    StoreError
        If the folder holds something else; nothing has been written then.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: found a file; expected a folder for the sweep.")
    visible = [path.name for path in folder.glob("[!.]*")]
    if visible and "cells" not in visible:
        raise StoreError(f"{folder}: found a folder that holds something else; expected an empty one or none.")
    (folder / "cells").mkdir(parents=True, exist_ok=True)
    with held(filelock.FileLock(folder / ".lock"), folder):
        yield


class Results:
    """What is known of a sweep's cells, written down with each one that arrives.

    Parameters
    ----------
    folder : Path
        The sweep's folder, whose lock is held.
    axes : sequence of str
        Keys of the grid.
    plan : sequence of Cell
        Every cell, in the order of the grid; two may be one and the same experiment.
    """

    def __init__(self, folder: Path, axes: Sequence[str], plan: Sequence[Cell]) -> None:
        self.folder, self.axes, self.plan = folder, axes, plan
        self.cells = {cell.digest: cell for cell in plan}
        found = {digest: cell.report() for digest, cell in self.cells.items()}
        self.reports = {digest: report for digest, report in found.items() if report is not None}
        self.failures: dict[str, Exception] = {}
        self.seconds = read_seconds(folder)
        self._publish()

    @property
    def unfinished(self) -> list[Cell]:
        """Cells to compute, without those that fail whenever they are tried."""
        hopeless = [digest for digest, problem in self.failures.items() if isinstance(problem, LackingError)]
        settled = {*self.reports, *hopeless}
        return [cell for digest, cell in self.cells.items() if digest not in settled]

    def take(self, cell: Cell, outcome: Outcome) -> bool:
        """Write down what came of a cell; says whether it is finished."""
        if isinstance(outcome, Exception):
            self.failures[cell.digest] = outcome
            log.warning("%s: failed: %s", cell, _sentence(outcome))
        else:
            report, self.seconds[cell.digest] = outcome
            cell.finish(report)
            self.reports[cell.digest] = report
            self.failures.pop(cell.digest, None)
            log.info("%s: %.1f s", cell, self.seconds[cell.digest])
        self._publish()
        return cell.digest in self.reports

    def _publish(self) -> None:
        failed = [
            [*map(text, cell.values.values()), text(cell.methods), _sentence(self.failures[cell.digest])]
            for cell in self.plan
            if cell.digest in self.failures
        ]
        seconds = [[digest, f"{took:.3f}"] for digest, took in sorted(self.seconds.items())]
        write_atomically(self.folder / TABLE, self._table().encode())
        write_atomically(self.folder / SECONDS, _csv([["cell", "seconds"], *seconds]).encode())
        if failed:
            content = _csv([[*self.axes, "methods", "error"], *failed])
            write_atomically(self.folder / FAILURES, content.encode())
        else:
            (self.folder / FAILURES).unlink(missing_ok=True)

    def _table(self) -> str:
        """Return the reports of all finished cells, each row behind the cell's values."""
        axes = [key for key in self.axes if key != "method"]  # the report has a column of that name
        lines = [_csv([[*axes, *REPORT_COLUMNS]])]
        for cell in self.plan:
            beginning = _csv([[*(text(cell.values[key]) for key in axes), ""]])[:-1]
            lines += [f"{beginning}{row}\n" for row in self.reports.get(cell.digest, "").splitlines()[1:]]
        return "".join(lines)


def read_seconds(folder: Path) -> dict[str, float]:
    """Return how long cells took that were computed for this sweep, by digest."""
    try:
        table = pd.read_csv(folder / SECONDS, dtype={"cell": str, "seconds": float})
        return dict(zip(table["cell"], table["seconds"], strict=True))
    except (OSError, ValueError, KeyError):
        return {}


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _sentence(problem: Exception) -> str:
    said = " ".join(str(problem).split())
    return said if isinstance(problem, ConfigError | LackingError) else f"{type(problem).__name__}: {said}"
