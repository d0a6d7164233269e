"""Many experiments from one file: a base experiment, a grid of changes, and one table that grows as results arrive.

:func:`load` turns ``SWEEP.yaml`` into a :class:`Sweep`, with every cell of the grid checked before anything is
computed. :meth:`Sweep.run` computes those that are not finished; ``book/reference/sweeps.md`` says what it leaves.
"""

import csv
import importlib
import io
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Self

import filelock
import pandas as pd
from pydantic import AfterValidator, Field
from pydantic import model_validator as validator
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from spectral_tutorial import config, cores, digests, experiment, reading, store
from spectral_tutorial.analysis import REPORT_COLUMNS
from spectral_tutorial.config import Config, ConfigError
from spectral_tutorial.data import MissingSpectraError
from spectral_tutorial.executors import Processes, conditions, dask, on_dask, unordered
from spectral_tutorial.experiment import Experiment
from spectral_tutorial.folder import versions
from spectral_tutorial.methods import METHODS, is_known
from spectral_tutorial.reading import Valid, config_error, existing_file, load_yaml, one_of, refusal, resolve_path, show
from spectral_tutorial.reading import validate as validated
from spectral_tutorial.sections import FilePath, Label, Plain, Seeds
from spectral_tutorial.stages import Stages
from spectral_tutorial.store import Stage, StoreError, read_table, write_atomically

log = logging.getLogger(__name__)

TABLE, FAILURES, SECONDS, RECORD = "table.csv", "failures.csv", "seconds.csv", "spectral-tutorial-sweep.json"
MOST_CELLS = 100_000

CODE = digests.closure_digest(experiment)  #: digest of the code that reports depend on, taken on import
_CHANGES = "SECTION.KEY, or pair, as in the variations of analysis.yaml"
_listed = (Field(strict=False, min_length=1), AfterValidator(reading.check_twice))


class SweepFile(reading.Part):
    """``SWEEP.yaml``: which experiments, and what is asked of each; paths are relative to this file."""

    base: FilePath = Field(description="meta file of the experiment that the cells are changes of")
    sweep_dir: FilePath = Field(description="directory of the table and of the finished cells")
    data_seed: Seeds | None = Field(default=None, description="data seeds of every cell; by default the base's")
    training_seed: Seeds | None = Field(default=None, description="training seeds of every cell; by default the base's")
    methods: Annotated[tuple[Label, ...], *_listed, Valid("list of names")] = Field(
        default=("network",), description="methods that every cell is asked for"
    )
    fixed: Annotated[Mapping[str, Plain], Valid("values, by key")] = Field(
        default={}, description=f"changes that all cells share: {_CHANGES}"
    )
    grid: Annotated[Mapping[str, Annotated[tuple[Plain, ...], *_listed]], Valid("lists of values, by key")] = Field(
        default={}, description=f"a list of values by key: {_CHANGES}, or method; every combination is a cell"
    )
    threads: Annotated[int, Field(ge=1, le=1024)] = Field(default=1, description="processor threads of one cell")
    retries: Annotated[int, Field(ge=0, le=100)] = Field(1, description="how often a failed cell is tried again")
    keep: bool = Field(default=False, description="whether the cells' experiments stay in sweep_dir/experiments")

    @property
    def shared(self) -> dict[str, Any]:
        """Changes that all cells share, the seeds included."""
        seeds = {"meta.data_seed": self.data_seed, "meta.training_seed": self.training_seed}
        return {**self.fixed, **{key: value for key, value in seeds.items() if value is not None}}

    @validator(mode="after")
    def _check(self) -> Self:
        for place in ("fixed", "grid"):
            for key in getattr(self, place):
                if key.startswith("meta.") and key not in ("meta.data_seed", "meta.training_seed"):
                    expected = "of the meta file only meta.data_seed and meta.training_seed"
                    raise refusal(expected, place, key, found="a key that a sweep sets itself")
        if both := [key for key in self.grid if key in self.shared]:
            raise refusal("one value for all cells, or a list in the grid", "grid", both[0], found="both")
        if "method" in self.grid and "methods" in self.model_fields_set:
            raise refusal("no methods beside a grid with method", "methods", found=show(self.methods))
        names, at = (self.grid["method"], ("grid", "method")) if "method" in self.grid else (self.methods, ("methods",))
        for index, name in enumerate(names):
            if not is_known(str(name)):
                raise refusal(f"network+N, or {one_of(METHODS, name)}", *at, index, found=show(name))
        if (cells := math.prod(map(len, self.grid.values()))) > MOST_CELLS:
            raise refusal(f"at most {MOST_CELLS}", "grid", found=f"{cells} cells")
        return self


@dataclass(frozen=True)
class Cell:
    """One experiment of a sweep, with its value on each axis of the grid, and the stage that its report becomes."""

    values: Mapping[str, Any]
    config: Config
    methods: tuple[str, ...]
    threads: int
    keep: bool
    stage: Stage

    @classmethod
    def make(cls, given: SweepFile, base: Config, values: Mapping[str, Any], folder: Path) -> Self:
        """Make the cell of some values; ConfigError if one of them cannot be used."""
        changes = {key: value for key, value in values.items() if key != "method"}
        changes |= dict.fromkeys(("meta.generate_data", "meta.run_training", "meta.run_analysis"), True)
        changed = base.with_changes({**given.shared, **changes})
        methods = (str(values["method"]),) if "method" in values else given.methods
        sections = changed.as_dict()
        meta, analysis = sections.pop("meta"), sections["analysis"]
        del analysis["variations"], analysis["plot_config"]["names"]
        digest = store.fingerprint(sections, meta["data_seed"], meta["training_seed"], methods)[:16]
        changed = changed.in_folder(folder / "experiments" / digest)
        stage = Stage(folder / "cells" / digest, fingerprint(changed, methods))
        return cls(values, changed, methods, given.threads, given.keep, stage)

    def __str__(self) -> str:
        return _name(self.values)

    @property
    def digest(self) -> str:
        """What the cell is known by on disk."""
        return self.stage.directory.name

    def report(self) -> str | None:
        """Return the cell's gap report as CSV, or None if it is not finished, or not any more."""
        if self.stage.current():
            return (self.stage.directory / "report.csv").read_text(encoding="utf-8")
        if self.stage.directory.exists():
            other = (self.stage.status() or {}).get("fingerprint", self.stage.fingerprint) != self.stage.fingerprint
            why = "comes from other code or other libraries" if other else "was altered or is not complete"
            log.warning("%s: the result in cells/%s %s and is not used", self, self.digest, why)
        return None


@dataclass(frozen=True)
class Outcome:
    """What came of computing a cell: its gap report as CSV, or what went wrong and whether it always would."""

    report: str = ""
    seconds: float = math.nan
    error: str = ""
    always: bool = False


def measure(cell: Cell) -> Outcome:
    """Compute a cell in this process, in a temporary folder; its own is neither read nor written."""
    start = time.perf_counter()
    importlib.import_module("spectral_tutorial.estimators")  # whose libraries have threads of their own
    scratch = tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True)
    with conditions(cell.threads), scratch as folder:
        try:
            inner = cell.config if cell.keep else cell.config.in_folder(Path(folder, "exp"))
            if fingerprint(inner, cell.methods) != cell.stage.fingerprint:
                return Outcome(error="the worker has other code or other versions of libraries than who asks it")
            report = Experiment(inner, keep_spectra=cell.keep).gap_report(*cell.methods)
        except (Exception, SystemExit) as problem:  # of any kind: the other cells go on
            return Outcome(error=_sentence(problem), always=isinstance(problem, MissingSpectraError))
    return Outcome(report.to_csv(index=False, lineterminator="\n"), time.perf_counter() - start)


def fingerprint(configuration: Config, methods: Iterable[str]) -> str:
    """Return the fingerprint of everything that the gap report of some methods depends on."""
    stages, parts = Stages(configuration), []
    for name in methods:
        try:
            parts.append([name, *(stage.fingerprint for stage in stages._prediction_stages(name).values())])
        except MissingSpectraError as lacking:  # computing the cell will fail in the same words
            parts.append([name, str(lacking)])
    return store.fingerprint(parts, CODE)


def _name(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_text(value)}" for key, value in values.items()) or "the only cell"


def _text(value: Any) -> str:
    """Write a value for tables and messages: a pair as ``comp10 + comp4``."""
    if isinstance(value, list | tuple) and value and all(isinstance(part, str) for part in value):
        return " + ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sentence(problem: BaseException) -> str:
    """Write an error on one line, with its type unless the project's own words say all."""
    said = " ".join(str(problem).split())
    return said if isinstance(problem, ConfigError | MissingSpectraError) else f"{type(problem).__name__}: {said}"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the lock of a sweep's folder, waiting for whoever has it; StoreError if no sweep wrote what is in there."""
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: found a file; expected a folder for the sweep.")
    # before there were records, a sweep's folder always had these columns; entries first: the record is older than they
    if any(folder.glob("[!.]*")) and not ((folder / RECORD).is_file() or _begins(folder / TABLE, REPORT_COLUMNS[:3])):
        raise StoreError(f"{folder}: found a folder that holds something else; expected an empty one or none.")
    if (folder / FAILURES).exists() and not _begins(folder / FAILURES, ["methods", "error"]):
        raise StoreError(f"{folder / FAILURES}: found a file that no sweep wrote; expected none of that name.")
    folder.mkdir(parents=True, exist_ok=True)
    with store.locked(filelock.FileLock(folder / ".lock"), folder):
        write_atomically(folder / RECORD, versions())
        yield


def _begins(path: Path, columns: Sequence[str]) -> bool:
    """Whether a file is a table with these columns, one after the other."""
    with suppress(OSError), path.open(encoding="utf-8", errors="replace") as stream:
        return ",".join(columns) in stream.readline(100_000)
    return False


def _write_csv(path: Path, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([columns, *rows])
    write_atomically(path, stream.getvalue().encode())


class Tables:
    """What is known of a sweep's cells, written down with each one that arrives; the folder's lock is held."""

    def __init__(self, sweep: "Sweep", asked: Iterable[Cell]) -> None:
        self.sweep, self.asked = sweep, {cell.digest for cell in asked}
        self.cells = {cell.digest: cell for cell in sweep.plan}  # two of the plan may be one and the same experiment
        self.reports = {digest: report for digest, cell in self.cells.items() if (report := cell.report()) is not None}
        self.failed: dict[str, Outcome] = {}
        self.seconds = sweep.seconds()
        self.write()

    @property
    def unfinished(self) -> list[Cell]:
        """Cells to compute, without those that fail whenever they are tried."""
        settled = {*self.reports, *(digest for digest, outcome in self.failed.items() if outcome.always)}
        return [cell for digest, cell in self.cells.items() if digest in self.asked - settled]

    def take(self, cell: Cell, outcome: Outcome | Exception) -> bool:
        """Write down what came of a cell; says whether it is finished."""
        if isinstance(outcome, Exception):  # the executor's own, as when its workers were killed
            outcome = Outcome(error=_sentence(outcome))
        if outcome.error:
            self.failed[cell.digest] = outcome
            log.warning("%s: failed: %s", cell, outcome.error)
        else:
            with cell.stage.write() as folder:
                (folder / "report.csv").write_text(outcome.report, encoding="utf-8", newline="\n")
            self.reports[cell.digest], self.seconds[cell.digest] = outcome.report, outcome.seconds
            self.failed.pop(cell.digest, None)
            log.info("%s: %.1f s", cell, outcome.seconds)
        self.write()
        return not outcome.error

    def write(self) -> None:
        """Write the three files, each in the order of the grid."""
        folder, table, failures = self.sweep.directory, [], []
        axes = [key for key in self.sweep.axes if key != "method"]  # the report has a column of that name
        for cell in self.sweep.plan:
            _, *rows = csv.reader(self.reports.get(cell.digest, "header").splitlines())
            table += [[*(_text(cell.values[key]) for key in axes), *row] for row in rows]
            if failed := self.failed.get(cell.digest):
                failures.append([*map(_text, cell.values.values()), _text(cell.methods), failed.error])
        _write_csv(folder / TABLE, [*axes, *REPORT_COLUMNS], table)
        _write_csv(folder / SECONDS, ["cell", "seconds"], ([d, f"{s:.3f}"] for d, s in sorted(self.seconds.items())))
        if failures:
            _write_csv(folder / FAILURES, [*self.sweep.axes, "methods", "error"], failures)
        else:
            (folder / FAILURES).unlink(missing_ok=True)


@dataclass(frozen=True)
class Sweep:
    """A grid of experiments, and the folder of its results.

    `file` is ``SWEEP.yaml`` as its user named it, `axes` the grid, and `plan` has a cell for every combination of its
    values, those of the last axis changing fastest.
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
        executor: Executor | None = None,
        only: Sequence[int] | None = None,
        progress: Callable[[int, int], None] = lambda finished, total: None,
    ) -> pd.DataFrame:
        """Compute what is not finished, and return the table; ConfigError, StoreError or ConnectionError say why not.

        The work is done by `workers` processes of this machine (0: one cell after another in this one; None: as many as
        the cores allow), by the workers of a running Dask `scheduler`, of which this is the address, or by any other
        `executor` of ``concurrent.futures``, which is not shut down. `only` are places in `cells` of those to compute;
        the table holds whatever is finished, these and others. `progress` is called with the number of finished cells
        and of all, at the start and with each that is finished.
        """
        if (wanted := self.processes if workers is None else workers) < 0:
            raise config_error("workers", "", show(wanted), "a whole number of at least 0")
        with claimed(self.directory), ExitStack() as stack:
            tables = Tables(self, self.plan if only is None else [self.plan[place] for place in only])
            done, total = len(tables.reports), len(tables.cells)
            log.info("%s: %d cells, %d of them finished", self.file, total, done)
            bar = stack.enter_context(tqdm(desc="sweep", initial=done, total=total, unit="cell", disable=None))
            stack.enter_context(logging_redirect_tqdm())
            progress(done, total)
            work = measure if scheduler is None else partial(on_dask, measure)
            if scheduler is not None and tables.unfinished:
                executor = stack.enter_context(dask(scheduler))
            elif executor is None and wanted and tables.unfinished:
                executor = stack.enter_context(Processes(min(wanted, len(tables.unfinished))))
            for _ in range(1 + self.retries):
                for cell, outcome in unordered(executor, work, tables.unfinished):
                    if tables.take(cell, outcome):
                        bar.update()
                        progress(len(tables.reports), total)
        return self._read(TABLE)

    @property
    def processes(self) -> int:
        """How many processes the cores allow."""
        return max(1, cores.count() // self.plan[0].threads)

    def failures(self) -> pd.DataFrame:
        """Return the cells that failed in the last run: their values, ``methods`` and ``error``."""
        if (self.directory / FAILURES).is_file():
            return self._read(FAILURES)
        return pd.DataFrame(columns=[*self.axes, "methods", "error"])

    def _read(self, name: str) -> pd.DataFrame:
        names = [key for key, values in self.axes.items() if any(isinstance(value, str | list) for value in values)]
        return read_table(self.directory / name, names)

    def seconds(self) -> dict[str, float]:
        """Return how long cells took that were computed for this sweep, by digest."""
        with suppress(OSError, ValueError, KeyError):
            table = pd.read_csv(self.directory / SECONDS, dtype={"cell": str, "seconds": float})
            return dict(zip(table["cell"], table["seconds"], strict=True))
        return {}

    def forecast(self) -> pd.DataFrame:
        """Say of every cell whether it is ``finished`` and how many ``seconds`` it takes; computes and writes nothing.

        They are measured for a finished cell, and for another the median of those with the same methods, or of all.
        """
        named = [[*map(_text, cell.values.values()), _text(cell.methods)] for cell in self.plan]
        table = pd.DataFrame(named, columns=[*self.axes, "methods"])
        table["finished"] = [cell.report() is not None for cell in self.plan]
        measured = pd.Series([cell.digest for cell in self.plan]).map(self.seconds()).where(table["finished"])
        alike = measured.groupby(table["methods"]).transform("median")
        return table.assign(seconds=measured.fillna(alike).fillna(measured.median()))


def load(path: str | Path) -> Sweep:
    """Read ``SWEEP.yaml`` and make every cell; ConfigError, and nothing written, if one of them cannot be used."""
    file, directory = str(path), Path(path).resolve().parent
    given = validated(SweepFile, load_yaml(path), file)
    base = config.load(existing_file(given.base, directory, key="base", file=file))
    folder = resolve_path(given.sweep_dir, directory, key="sweep_dir", file=file)
    plan = []
    for combination in product(*given.grid.values()):
        values = dict(zip(given.grid, combination, strict=True))
        try:
            plan.append(Cell.make(given, base, values, folder))
        except ConfigError as problem:
            raise ConfigError(f"{file}: {_name(values)}: {problem}") from None
    return Sweep(file, folder, given.grid, tuple(plan), given.retries)
