"""How long each page took to run in this build, and how much memory: ``{run-times}`` becomes a table of both."""

from __future__ import annotations

import posixpath
import threading
from contextlib import suppress

import psutil
from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

INTERVAL = 0.2
"""Seconds between two looks at the memory."""


class Memory(threading.Thread):
    """Notes how much memory in bytes a page's kernel and its processes hold together, at most.

    What processes share counts once, where the system (Linux) says how many share it; elsewhere it does not count.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.done = threading.Event()

    def run(self) -> None:
        """Look until the page is read."""
        while not self.done.wait(INTERVAL):
            held = 0
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it may just have ended
                    memory = process.memory_full_info()
                    held += getattr(memory, "pss", memory.uss)
            self.peak = max(self.peak, held)


def begin(app: Sphinx, page: str, source: list[str]) -> None:
    """Start to look."""
    app.page_memory = Memory()  # type: ignore[attr-defined]
    app.page_memory.start()  # type: ignore[attr-defined]


def end(app: Sphinx, doctree: nodes.document) -> None:
    """Keep what was found where the table finds it."""
    memory: Memory = app.page_memory  # type: ignore[attr-defined]
    memory.done.set()
    app.env.metadata[app.env.docname]["memory"] = memory.peak


class RunTimesNode(nodes.General, nodes.Element):
    """Stands where the table will be."""


class RunTimes(SphinxDirective):
    """Marks the place."""

    def run(self) -> list[nodes.Node]:
        """Leave a mark."""
        return [RunTimesNode()]


def run_times(env: BuildEnvironment) -> dict[str, float]:
    """Return the seconds that each executed page took, by its name, in the order of the book."""
    data = {page: found.get("exec_data") for page, found in NbMetadataCollector.get_doc_data(env).items()}
    order = {page: place for place, page in enumerate(env.toctree_includes.get(env.config.root_doc, []))}
    executed = sorted((page for page in data if data[page]), key=lambda page: (order.get(page, -1), page))
    return {page: data[page]["runtime"] for page in executed}


class FillRunTimes(SphinxPostTransform):
    """Puts the table in the place of its mark."""

    default_priority = 8  # before references are resolved: the first column links to the pages

    def run(self, **kwargs: object) -> None:
        """Make the table."""
        for mark in list(self.document.findall(RunTimesNode)):
            mark.replace_self(self.table(run_times(self.env)))

    def table(self, seconds: dict[str, float]) -> nodes.table:
        """Return a table of pages, seconds and megabytes; the seconds add up, of the memory the most counts."""
        held = {page: self.env.metadata[page]["memory"] / 1e6 for page in seconds}
        rows = [self.row(self.link(page), f"{value:.1f}", f"{held[page]:.0f}") for page, value in seconds.items()]
        total = f"{sum(seconds.values()):.1f}"
        rows.append(self.row(nodes.strong("", "together"), total, f"at most {max(held.values(), default=0):.0f}"))
        columns = [nodes.colspec(colwidth=width) for width in (4, 1, 1)]
        group = nodes.tgroup("", *columns, cols=len(columns))
        group += nodes.thead("", self.row(nodes.Text("Page"), "Seconds", "Megabytes"))
        group += nodes.tbody("", *rows)
        return nodes.table("", group, classes=["run-times"])

    def row(self, first: nodes.Node, *others: str) -> nodes.row:
        """Return a row of entries."""
        texts = (nodes.paragraph("", "", first), *(nodes.paragraph("", other) for other in others))
        return nodes.row("", *(nodes.entry("", text) for text in texts))

    def link(self, page: str) -> nodes.Node:
        """Return the title of a page, as a link."""
        target = posixpath.relpath(page, posixpath.dirname(self.env.docname))
        options = {"refdoc": self.env.docname, "refdomain": "std", "reftype": "doc", "reftarget": target}
        return addnodes.pending_xref("", nodes.inline("", self.env.titles[page].astext()), refexplicit=False, **options)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive, and look at the memory; Sphinx calls this."""
    app.connect("source-read", begin)
    app.connect("doctree-read", end)
    app.add_node(RunTimesNode)
    app.add_directive("run-times", RunTimes)
    app.add_post_transform(FillRunTimes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
