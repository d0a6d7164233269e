"""The command line: the same recipe as the book, without the book.

::

    spectral-tutorial run META.yaml [--all]     everything the meta file asks for
    spectral-tutorial generate-data META.yaml   one stage, and what it needs
    spectral-tutorial validate META.yaml        look at the five files and write nothing

Exit status: 0 done, 2 something the person can mend (one sentence says what), 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from spectral_tutorial.config import ConfigError
from spectral_tutorial.experiment import Experiment
from spectral_tutorial.variants import chosen

log = logging.getLogger(__name__)


def _run(experiment: Experiment, everything: bool) -> None:
    experiment.run(everything=everything)


def _generate(experiment: Experiment, everything: bool) -> None:
    experiment.generate_data()


def _train(experiment: Experiment, everything: bool) -> None:
    for variant in chosen(everything):
        experiment.train(variant)


def _analyze(experiment: Experiment, everything: bool) -> None:
    report = experiment.gap_report(*chosen(everything))
    log.info("\n%s", report.to_string(index=False, float_format="{:.3g}".format))


def _plot(experiment: Experiment, everything: bool) -> None:
    experiment.draw()


def _validate(experiment: Experiment, everything: bool) -> None:
    """Opening the experiment has already looked at everything."""


COMMANDS: dict[str, tuple[Callable[[Experiment, bool], None], str]] = {
    "run": (_run, "do everything the meta file asks for"),
    "generate-data": (_generate, "generate every split of every data seed"),
    "train": (_train, "train the networks (and generate what they learn from)"),
    "analyze": (_analyze, "measure the gap and write the tables (and train what is missing)"),
    "plot": (_plot, "draw every plot (and compute what is missing)"),
    "validate": (_validate, "check the five files and the folder of the results; write nothing"),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="spectral-tutorial", description=__doc__.splitlines()[0])
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, about) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("meta", metavar="META.yaml", help="the meta file")
        command.add_argument("--exp-dir", metavar="DIR", help="folder of the results, instead of the meta file's")
        command.add_argument("--overwrite", action="store_true", help="delete another configuration's results there")
        command.add_argument("--all", action="store_true", help="every variant of the book, not only the core ones")
        command.add_argument("-q", "--quiet", action="store_true", help="only warnings")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING if given.quiet else logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
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
