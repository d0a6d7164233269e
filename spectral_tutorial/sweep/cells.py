"""``SWEEP.yaml`` as a frozen model, and one cell of its grid: what its result depends on, and computing it."""

from __future__ import annotations

import importlib
import logging
import math
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic import model_validator as validator

from spectral_tutorial import experiment, store
from spectral_tutorial.config import Config, ConfigError
from spectral_tutorial.data import LackingError
from spectral_tutorial.experiment import Experiment
from spectral_tutorial.methods import METHODS, is_known
from spectral_tutorial.reading import Valid, one_of, refusal, show
from spectral_tutorial.sections import FilePath, Label, Part, Plain, Seeds
from spectral_tutorial.stages import Stages
from spectral_tutorial.store import Stage
from spectral_tutorial.sweep.executors import conditions

log = logging.getLogger(__name__)

MOST_CELLS = 100_000

CODE = store.closure_digest(experiment)
"""Digest of the code that reports depend on, taken on import."""

_CHANGES = "SECTION.KEY, or pair, as in the variations of analysis.yaml"
_Methods = Annotated[tuple[Label, ...], Field(strict=False, min_length=1), Valid("list of names")]
_Axis = Annotated[tuple[Plain, ...], Field(strict=False, min_length=1)]


class SweepFile(Part):
    """``SWEEP.yaml``: which experiments, and what is asked of each; paths are relative to this file."""

    base: FilePath = Field(description="meta file of the experiment that the cells are changes of")
    sweep_dir: FilePath = Field(description="directory of the table and of the finished cells")
    data_seed: Seeds | None = Field(default=None, description="data seeds of every cell; by default the base's")
    training_seed: Seeds | None = Field(default=None, description="training seeds of every cell; by default the base's")
    methods: _Methods = Field(default=("network",), description="methods that every cell is asked for")
    fixed: Annotated[Mapping[str, Plain], Valid("values, by key")] = Field(
        default={}, description=f"changes that all cells share: {_CHANGES}"
    )
    grid: Annotated[Mapping[str, _Axis], Valid("lists of values, by key")] = Field(
        default={}, description=f"a list of values by key: {_CHANGES}, or method; every combination is a cell"
    )
    threads: Annotated[int, Field(ge=1, le=1024)] = Field(default=1, description="processor threads of one cell")
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        default=1, description="how often a failed cell is tried again"
    )
    keep: bool = Field(default=False, description="whether the cells' experiments stay in sweep_dir/experiments")

    @property
    def shared(self) -> dict[str, Any]:
        """Changes that all cells share, the seeds included."""
        seeds = {"meta.data_seed": self.data_seed, "meta.training_seed": self.training_seed}
        return {**self.fixed, **{key: list(value) for key, value in seeds.items() if value is not None}}

    @validator(mode="after")
    def _check(self) -> SweepFile:
        for place, keys in (("fixed", self.fixed), ("grid", self.grid)):
            for key in keys:
                if key.startswith("meta.") and key not in ("meta.data_seed", "meta.training_seed"):
                    expected = "of the meta file only meta.data_seed and meta.training_seed"
                    raise refusal(expected, place, key, found="a key that a sweep sets itself")
        if "method" in self.fixed:
            raise refusal("the key methods, outside of fixed", "fixed", "method", found="a key that is none")
        if "method" in self.grid and "methods" in self.model_fields_set:
            raise refusal("no methods beside a grid with method", "methods", found=show(self.methods))
        for index, name in enumerate(self.methods):
            self._check_value(name, self.methods[:index], "methods", index)
        for key, values in self.grid.items():
            if key in self.shared:
                raise refusal("one value for all cells, or a list in the grid", "grid", key, found="both")
            for index, value in enumerate(values):
                self._check_value(value, values[:index], "grid", key, index)
        if (cells := math.prod(map(len, self.grid.values()))) > MOST_CELLS:
            raise refusal(f"at most {MOST_CELLS}", "grid", found=f"{cells} cells")
        return self

    @staticmethod
    def _check_value(value: Any, before: Sequence[Any], *at: str | int) -> None:
        if at[-2] in ("methods", "method") and not is_known(str(value)):
            raise refusal(f"network+N, or {one_of(METHODS, value)}", *at, found=show(value))
        if value in before:
            raise refusal("each value once", *at, found=f"{show(value)} a second time")


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
    threads, keep
        As in ``SWEEP.yaml``.
    folder : Path
        Where its report lies when it is finished, named by a digest of configuration and methods.
    fingerprint : str
        Of everything that its report depends on: configuration, code and libraries.
    """

    values: Mapping[str, Any]
    config: Config
    methods: tuple[str, ...]
    threads: int
    keep: bool
    folder: Path
    fingerprint: str

    @classmethod
    def make(cls, given: SweepFile, base: Config, values: Mapping[str, Any], folder: Path) -> Cell:
        """Make the cell of some values; ConfigError if one of them cannot be used."""
        changes = {key: value for key, value in values.items() if key != "method"}
        config = base.with_changes({**given.shared, **changes})
        methods = (str(values["method"]),) if "method" in values else given.methods
        sections = config.as_dict()
        meta, _ = sections.pop("meta"), sections["analysis"].pop("variations")
        sections["analysis"]["plot_config"].pop("names")
        digest = store.fingerprint(sections, meta["data_seed"], meta["training_seed"], methods)[:16]
        stages = dict.fromkeys(("generate_data", "run_training", "run_analysis"), True)
        config = config.with_meta(**stages).in_folder(folder / "experiments" / digest)
        made_of = fingerprint(config, methods)
        return cls(values, config, methods, given.threads, given.keep, folder / "cells" / digest, made_of)

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
            return (self.folder / "report.csv").read_text(encoding="utf-8")
        if self.folder.exists():
            other = (stage.status() or {}).get("fingerprint", self.fingerprint) != self.fingerprint
            why = "comes from other code or other libraries" if other else "was altered or is not complete"
            log.warning("%s: the result in cells/%s %s and is not used", self, self.digest, why)
        return None

    def finish(self, report: str) -> None:
        """Keep the report."""
        with Stage(self.folder, self.fingerprint).write() as folder:
            (folder / "report.csv").write_text(report, encoding="utf-8", newline="\n")


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
    with conditions(cell.threads), ExitStack() as stack:
        try:
            config = cell.config
            if not cell.keep:
                folder = tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True)
                config = config.in_folder(Path(stack.enter_context(folder), "exp"))
            if fingerprint(config, cell.methods) != cell.fingerprint:
                return Outcome(error="the worker has other code or other versions of libraries than who asks it")
            asked = Experiment(config, keep_spectra=cell.keep)
            report = asked.gap_report(*cell.methods).to_csv(index=False, lineterminator="\n")
        except (Exception, SystemExit) as problem:  # of any kind: the other cells go on
            return Outcome(error=sentence(problem), always=isinstance(problem, LackingError))
    return Outcome(report, time.perf_counter() - start)


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


def sentence(problem: BaseException) -> str:
    """Write an error on one line, with its type unless the project's own words say all."""
    said = " ".join(str(problem).split())
    return said if isinstance(problem, ConfigError | LackingError) else f"{type(problem).__name__}: {said}"


def text(value: Any) -> str:
    """Write a value for tables and messages: a pair as ``comp10 + comp4``."""
    if isinstance(value, list | tuple) and value and all(isinstance(part, str) for part in value):
        return " + ".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
