"""Read, and so execute, every page on every build; on Linux two at a time.

Sphinx skips a page whose file has not changed since the last build, whatever MyST-NB is told about execution.
The pages show what the package computes, and Sphinx does not see the package change.
"""

from __future__ import annotations

import os
import sys

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxParallelError

from spectral_tutorial import cores

AT_ONCE = 2
"""Pages that are read at a time, with half of torch's threads each; each takes up to 1.4 GB of memory."""

QUIET = ("sphinx_multitoc_numbering", "sphinx_jupyterbook_latex")
"""Extensions that keep nothing outside of a page's own tree while it is read, and do not say so."""

TURNS = """
01 03 06 07 reproducibility notation glossary migration sweeps troubleshooting
09 api 08 many_lines other_pairs it_could index 02 configuration
04 05 teaching bibliography
"""
"""Beginnings of the pages' names. Of neighbors in this list Sphinx gives ten to a process: in the first line are those
that train, one after the other, what others read; in the second what is read beside them."""


def every_page(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Return all pages as outdated."""
    return sorted(env.found_docs)


def at_once(app: Sphinx, config: Config) -> None:
    """Let Sphinx read pages in processes of their own, where it may fork while libraries have threads: on Linux."""
    if sys.platform != "linux":
        return
    app.parallel = AT_ONCE
    # two trainings with as many threads as there are cores, each, take 3.5 times as long as with one thread each
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores.count() // AT_ONCE)))
    for name in QUIET:
        if name in app.extensions:
            app.extensions[name].parallel_read_safe = True
    # jupyter-book shows an error's text alone; which cell failed, and how, is in the traceback of the reading process
    SphinxParallelError.__str__ = lambda problem: f"{problem.message}\n{problem.traceback}"  # type: ignore[method-assign]


def in_turn(app: Sphinx, env: BuildEnvironment, pages: list[str]) -> None:
    """Put the pages into the order in which Sphinx hands them out; those that have no turn come last."""
    turns = TURNS.split()

    def turn(page: str) -> int:
        return next((i for i, name in enumerate(turns) if page.split("/")[-1].startswith(name)), len(turns))

    pages.sort(key=turn)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the hooks; Sphinx calls this."""
    app.connect("env-get-outdated", every_page)
    app.connect("config-inited", at_once)
    app.connect("env-before-read-docs", in_turn)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
