"""The command line: the same recipe as the book, without the book.

::

    spectral-tutorial run META.yaml [--all]     everything the meta file asks for
    spectral-tutorial generate-data META.yaml   one stage, and what it needs
    spectral-tutorial validate META.yaml        look at the five files, try the code they name, write nothing
    spectral-tutorial sweep SWEEP.yaml          many experiments, on this machine or on a Dask cluster

Exit status: 0 done, 1 some cells of a sweep failed, 2 something the person can mend (one sentence says what), 130
interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

import numpy as np

import spectral_tutorial
from spectral_tutorial import cores, models, splits, sweep
from spectral_tutorial.config import Config, ConfigError
from spectral_tutorial.experiment import Experiment
from spectral_tutorial.reading import config_error, resolve_callable, show
from spectral_tutorial.sections import FunctionDistribution

log = logging.getLogger(__name__)


def _run(experiment: Experiment, everything: bool) -> None:
    experiment.run(everything=everything)


def _generate(experiment: Experiment, everything: bool) -> None:
    experiment._generate_all()


def _train(experiment: Experiment, everything: bool) -> None:
    experiment._train_all(everything)


def _analyze(experiment: Experiment, everything: bool) -> None:
    report = experiment._analyze_all(everything)
    log.info("\n%s", report.to_string(index=False, float_format="{:.3g}".format))


def _plot(experiment: Experiment, everything: bool) -> None:
    experiment._plot_all()


def _validate(experiment: Experiment, everything: bool) -> None:
    experiment._variations()  # opening the experiment has already looked at everything else
    base, tried = experiment.config, set()
    for config in (base, *map(base.variation, base.analysis.variations)):
        for name, file, key in config.code:
            if (name, config.spectra, config.training) not in tried:
                _try_code(config, name, file, key)
                tried.add((name, config.spectra, config.training))


def _try_code(config: Config, name: str, file: str, key: str) -> None:
    """Say from where Python of one's own was imported, and use it once.

    Raises
    ------
    ConfigError
        If a function draws no abundances, or a class makes no network for these spectra.
    """
    module = sys.modules[name.partition(":")[0]]
    log.info("%s: %s: %s was imported from %s", file, key, name, getattr(module, "__file__", "Python itself"))
    try:
        if key == "model_type":
            build = models.builder(resolve_callable(name, config.directory), config.spectra, config.training)
            models.check(build(), config.spectra.n_bins, config.spectra.n_components)
        else:
            function = FunctionDistribution(callable=name)
            splits.draw_abundance(function, config.spectra, 2, np.random.default_rng(0), config.directory)
    except (Exception, SystemExit) as problem:  # whatever somebody's code raises
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
        expected = "a torch module" if key == "model_type" else "a function (n, rng) that returns n abundances by label"
        raise config_error(file, key, f"{show(name)}, which does not fit ({reason})", expected) from problem


COMMANDS: dict[str, tuple[Callable[[Experiment, bool], None], str]] = {
    "run": (_run, "do everything the meta file asks for"),
    "generate-data": (_generate, "generate every split of every data seed"),
    "train": (_train, "train the networks (and generate what they learn from)"),
    "analyze": (_analyze, "measure the gap and write the tables (and train what is missing)"),
    "plot": (_plot, "draw every plot (and compute what is missing)"),
    "validate": (
        _validate,
        "check the five files, the code they name and the folder of the results; write nothing",
    ),
}


def _sweep(given: argparse.Namespace) -> int:
    found = sweep.load(given.sweep)
    if given.dry_run:
        log.info("%s", _outlook(found))
        return 0
    found.run(given.workers, given.scheduler)
    if failed := len(found.failures()):
        log.error("%d of %d cells failed; %s says why.", failed, len(found.plan), found.directory / "failures.csv")
        return 1
    log.info("sweep: %s", found.table)
    return 0


def _outlook(found: sweep.Sweep) -> str:
    """Name the cells of a sweep, and say how long the unfinished ones will take."""
    cells = found.forecast()
    todo, workers = cells[~cells["finished"]], max(1, cores.count() // found.plan[0].threads)
    seconds = todo["seconds"].sum(skipna=False)
    time = "their time is not known, as none was measured yet"
    if seconds == seconds:
        time = f"about {seconds:.0f} s one after another, {seconds / workers:.0f} s in {workers} processes"
    shown = cells.to_string(index=False, na_rep="not known", float_format="{:.1f}".format)
    return f"{shown}\n{len(cells)} cells, {len(todo)} to compute: {time if len(todo) else 'nothing to do'}"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="spectral-tutorial", description=__doc__.splitlines()[0])
    top.add_argument("--version", action="version", version=f"%(prog)s {spectral_tutorial.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, about) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("meta", metavar="META.yaml", help="the meta file")
        command.add_argument("--exp-dir", metavar="DIR", help="folder of the results, instead of the meta file's")
        command.add_argument("--overwrite", action="store_true", help="delete another configuration's results there")
        command.add_argument("--all", action="store_true", help="everything that the book shows, not only the core")
        command.add_argument("-q", "--quiet", action="store_true", help="only warnings")
    about = "compute every experiment of a grid, and one table of all (finished ones are not computed again)"
    command = commands.add_parser("sweep", help=about, description=about)
    command.add_argument("sweep", metavar="SWEEP.yaml", help="the sweep file: base experiment, grid and seeds")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--scheduler", metavar="ADDRESS", help="use the workers of this running Dask scheduler")
    where.add_argument("--workers", type=int, metavar="N", help="processes here; 0: this one (default: by the cores)")
    where.add_argument("--dry-run", action="store_true", help="name the cells and what they will take; compute nothing")
    command.add_argument("-q", "--quiet", action="store_true", help="only warnings")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING if given.quiet else logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if given.command == "sweep":
            return _sweep(given)
        experiment = Experiment.from_yaml(given.meta, exp_dir=given.exp_dir, overwrite=given.overwrite)
        COMMANDS[given.command][0](experiment, given.all)
    except (ConfigError, OSError) as problem:
        log.error("%s", problem)
        return 2
    except KeyboardInterrupt:
        log.error("Interrupted; what was finished before is kept, and the same command goes on from there.")
        return 130
    log.info("%s: %s", given.command, "valid" if given.command == "validate" else experiment.directory)
    return 0
