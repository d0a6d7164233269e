"""The command line: the same recipe as the book, without the book.

::

    spectral-tutorial run META.yaml [--all]     everything the meta file asks for
    spectral-tutorial generate-data META.yaml   one stage, and what it needs
    spectral-tutorial validate META.yaml        look at the five files, try the code they name, write nothing
    spectral-tutorial sweep SWEEP.yaml          many experiments, on this machine or on a Dask cluster

Exit status: 0 done, 1 some cells of a sweep failed, 2 something the person can mend (one sentence says what), 130
interrupted.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

import numpy as np

import spectral_tutorial
from spectral_tutorial import methods, models, splits, sweep
from spectral_tutorial.config import Config, ConfigError
from spectral_tutorial.experiment import Experiment
from spectral_tutorial.reading import config_error, resolve_callable, show
from spectral_tutorial.sections import FunctionDistribution

log = logging.getLogger(__name__)

COMMANDS = {
    "run": "do everything the meta file asks for",
    "generate-data": "generate every split of every data seed",
    "train": "train the networks (and generate what they learn from)",
    "analyze": "measure the gap and write the tables (and train what is missing)",
    "plot": "draw every plot (and compute what is missing)",
    "validate": "check the five files, the code they name and the folder of the results; write nothing",
    "sweep": "compute every experiment of a grid, and one table of all (finished ones are not computed again)",
}


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="spectral-tutorial", description=__doc__.splitlines()[0])
    top.add_argument("--version", action="version", version=f"%(prog)s {spectral_tutorial.__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about)
        add = command.add_argument
        add("-q", "--quiet", action="store_true", help="only warnings")
        if name == "sweep":
            add("file", metavar="SWEEP.yaml", help="the sweep file: base experiment, grid and seeds")
            add_one = command.add_mutually_exclusive_group().add_argument
            add_one("--scheduler", metavar="ADDRESS", help="use the workers of this running Dask scheduler")
            add_one("--workers", type=int, metavar="N", help="processes here; 0: this one (default: by the cores)")
            add_one("--dry-run", action="store_true", help="name the cells and what they will take; compute nothing")
        else:
            add("file", metavar="META.yaml", help="the meta file")
            add("--exp-dir", metavar="DIR", help="folder of the results, instead of the meta file's")
            add("--overwrite", action="store_true", help="delete another configuration's results there")
            add("--all", action="store_true", help="everything that the book shows, not only the core")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING if given.quiet else logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return _sweep(given) if given.command == "sweep" else _experiment(given)
    except (ConfigError, OSError) as problem:
        log.error("%s", problem)
        return 2
    except KeyboardInterrupt:
        log.error("Interrupted; what was finished before is kept, and the same command goes on from there.")
        return 130


def _experiment(given: argparse.Namespace) -> int:
    experiment = Experiment.from_yaml(given.file, exp_dir=given.exp_dir, overwrite=given.overwrite)
    match given.command:
        case "run":
            experiment.run(everything=given.all)
        case "generate-data":
            experiment._generate_all()
        case "train":
            experiment._train_all(given.all)
        case "analyze":
            report = experiment._analyze_all(given.all)
            log.info("\n%s", report.to_string(index=False, float_format="{:.3g}".format))
        case "plot":
            experiment._plot_all()
        case "validate":
            _validate(experiment.config)
    log.info("%s: %s", given.command, "valid" if given.command == "validate" else experiment.directory)
    return 0


def _validate(base: Config) -> None:
    """Look at the variations, and try the code that is named; opening the experiment has looked at all else."""
    for variation in base.analysis.variations:
        methods.asked_in(base, variation)
    tried = set()
    for config in (base, *map(base.variation, base.analysis.variations)):
        for name, file, key in config.code:
            if (name, config.spectra, config.training) not in tried:
                _try_code(config, name, file, key)
                tried.add((name, config.spectra, config.training))


def _try_code(config: Config, name: str, file: str, key: str) -> None:
    """Say from where Python of one's own was imported, and use it once.

    ConfigError if a function draws no abundances, or a class makes no network for these spectra.
    """
    module = sys.modules[name.partition(":")[0]]
    log.info("%s: %s: %s was imported from %s", file, key, name, getattr(module, "__file__", "Python itself"))
    try:
        if key == "model_type":
            size = config.spectra.n_bins, config.spectra.n_components
            models.check(models.builder(resolve_callable(name, config.directory), *size, config.training)(), *size)
        else:
            function = FunctionDistribution(callable=name)
            splits.draw_abundance(function, config.spectra, 2, np.random.default_rng(0), config.directory)
    except (Exception, SystemExit) as problem:  # whatever somebody's code raises
        reason = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
        expected = "a torch module" if key == "model_type" else "a function (n, rng) that returns n abundances by label"
        raise config_error(file, key, f"{show(name)}, which does not fit ({reason})", expected) from problem


def _sweep(given: argparse.Namespace) -> int:
    found = sweep.load(given.file)
    if given.dry_run:
        log.info("%s", _outlook(found))
        return 0
    found.run(given.workers, given.scheduler)
    if failed := len(found.failures()):
        log.error("%d of %d cells failed; %s says why.", failed, len(found.plan), found.directory / sweep.FAILURES)
        return 1
    log.info("sweep: %s", found.table)
    return 0


def _outlook(found: sweep.Sweep) -> str:
    """Name the cells of a sweep, and say how long the unfinished ones will take."""
    cells = found.forecast()
    todo = cells[~cells["finished"]]
    time = "nothing to do"
    if len(todo) and todo["seconds"].isna().any():
        time = "their time is not known, as none was measured yet"
    elif len(todo):
        seconds = todo["seconds"].sum()
        time = (
            f"about {seconds:.0f} s one after another, {seconds / found.processes:.0f} s in {found.processes} processes"
        )
    shown = cells.to_string(index=False, na_rep="not known", float_format="{:.1f}".format)
    return f"{shown}\n{len(cells)} cells, {len(todo)} to compute: {time}"
