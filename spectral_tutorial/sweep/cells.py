"""One cell of a sweep: what it is, what its result depends on, and computing it."""

from __future__ import annotations

import importlib
import logging
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from threadpoolctl import threadpool_limits

from spectral_tutorial import cores, experiment, limits, store
from spectral_tutorial.config import Config
from spectral_tutorial.data import LackingError
from spectral_tutorial.experiment import Experiment
from spectral_tutorial.methods import Estimator, get_method
from spectral_tutorial.stages import Stages
from spectral_tutorial.store import Stage
from spectral_tutorial.sweep.description import SweepFile

log = logging.getLogger(__name__)

REPORT = "report.csv"

CODE = [store.source_digest(Path(str(module.__file__))) for module in (limits, experiment)]
"""Digests of the code that reports depend on beside the pipeline's stages; read on import, as theirs."""


@dataclass(frozen=True)
class Cell:
    """One experiment of a sweep.

    Attributes
    ----------
    values : mapping
        Its value on each axis of the grid.
    config : Config
        Its five files; ``exp_dir`` is where the experiment stays if it is kept.
    methods : tuple of str
        What it is asked for.
    fingerprint : str
        Of everything that its report depends on: configuration, code and libraries.
    folder : Path
        Where its report lies when it is finished, named by a digest of configuration and methods.
    threads, keep
        As in ``SWEEP.yaml``.
    """

    values: Mapping[str, Any]
    config: Config
    methods: tuple[str, ...]
    fingerprint: str
    folder: Path
    threads: int
    keep: bool

    @classmethod
    def make(cls, given: SweepFile, base: Config, values: Mapping[str, Any], folder: Path) -> Cell:
        """Make the cell of some values.

        Raises
        ------
        ConfigError
            If one of them cannot be used.
        """
        changes = {key: value for key, value in values.items() if key != "method"}
        config = base.with_changes({**given.shared, **changes})
        methods = (str(values["method"]),) if "method" in values else given.methods
        sections = config.as_dict()
        meta, _ = sections.pop("meta"), sections["analysis"].pop("variations")
        digest = store.fingerprint(sections, meta["data_seed"], meta["training_seed"], methods)[:16]
        stages = dict.fromkeys(("generate_data", "run_training", "run_analysis"), True)
        config = config.with_meta(exp_dir=str(folder / "experiments" / digest), **stages)
        made_of = fingerprint(config, methods)
        return cls(values, config, methods, made_of, folder / "cells" / digest, given.threads, given.keep)

    def __str__(self) -> str:
        return name_of(self.values)

    @property
    def digest(self) -> str:
        """What the cell is known by on disk."""
        return self.folder.name

    def report(self) -> str | None:
        """Return the cell's gap report as CSV, or None if it is not finished, or not any more."""
        stage = Stage(self.folder, self.fingerprint)
        if stage.current():
            return (self.folder / REPORT).read_text(encoding="utf-8")
        if self.folder.exists():
            other = (stage.status() or {}).get("fingerprint", self.fingerprint) != self.fingerprint
            why = "comes from other code or other libraries" if other else "was altered or is not complete"
            log.warning("%s: the result in cells/%s %s and is not used", self, self.digest, why)
        return None

    def finish(self, report: str) -> None:
        """Keep the report."""
        with Stage(self.folder, self.fingerprint).write() as folder:
            (folder / REPORT).write_text(report, encoding="utf-8", newline="\n")


def fingerprint(config: Config, methods: Iterable[str]) -> str:
    """Return the fingerprint of everything that the gap report of some methods depends on."""
    stages, parts = Stages(config), []
    for name in methods:
        try:
            parts.append([name, *(stage.fingerprint for stage in stages.prediction_stages(name).values())])
        except LackingError as lacking:  # computing the cell will fail in the same words
            parts.append([name, str(lacking)])
    return store.fingerprint(parts, CODE)


def name_of(values: Mapping[str, Any]) -> str:
    """Name a cell for messages."""
    return ", ".join(f"{key} {text(value)}" for key, value in values.items()) or "the only cell"


def text(value: Any) -> str:
    """Write a value for tables and messages: a pair as ``comp10 + comp4``."""
    if isinstance(value, list | tuple) and value and all(isinstance(part, str) for part in value):
        return " + ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- Computing


_TURN = threading.Lock()
"""Training borrows torch's global generator, and threads are counted by process: cells of one process take turns."""


def measure(cell: Cell, scratch: str | None = None) -> tuple[str, float]:
    """Compute a cell in this process.

    Parameters
    ----------
    cell : Cell
        The cell. Of its own folder nothing is read or written.
    scratch : str, optional
        Where its experiment may lie until it is done; by default where this machine has temporary files.

    Returns
    -------
    tuple of str and float
        The gap report as CSV, and the seconds that it took.
    """
    config = cell.config
    with _TURN, _conditions(cell), ExitStack() as stack:
        start = time.perf_counter()
        if not cell.keep:
            folder = tempfile.TemporaryDirectory(prefix="sweep-", dir=scratch, ignore_cleanup_errors=True)
            config = config.with_meta(exp_dir=str(Path(stack.enter_context(folder), "exp")))
        if fingerprint(config, cell.methods) != cell.fingerprint:
            raise RuntimeError("the worker has other code or other versions of libraries than the process that asks it")
        report = Experiment(config).gap_report(*cell.methods).to_csv(index=False, lineterminator="\n")
    return report, time.perf_counter() - start


@contextmanager
def _conditions(cell: Cell) -> Iterator[None]:
    """Give a cell its threads, and let it neither draw bars nor say anything below a warning; undone afterwards."""
    if any(isinstance(get_method(name), Estimator) for name in cell.methods):
        importlib.import_module("spectral_tutorial.estimators")  # whose libraries have threads of their own
    no_terminal = SimpleNamespace(write=sys.stderr.write, flush=sys.stderr.flush, isatty=lambda: False)
    with quiet("spectral_tutorial", logging.WARNING), redirect_stderr(cast(Any, no_terminal)):
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(cell.threads)
            with threadpool_limits(cell.threads), cores.limited(cell.threads):
                yield
        finally:
            torch.set_num_threads(threads)


@contextmanager
def quiet(name: str, level: int) -> Iterator[None]:
    """Let a library say nothing below a level of logging for a while."""
    logger = logging.getLogger(name)
    before = logger.level
    try:
        logger.setLevel(level)
        yield
    finally:
        logger.setLevel(before)
