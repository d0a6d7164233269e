"""How long each page took to run in this build: ``{run-times}`` becomes a table when all pages were executed."""

from __future__ import annotations

import posixpath

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective


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
        """Return a table of pages and seconds, with their sum."""
        rows = [self.row(self.link(page), f"{value:.1f}") for page, value in seconds.items()]
        rows.append(self.row(nodes.strong("", "together"), f"{sum(seconds.values()):.1f}"))
        group = nodes.tgroup("", nodes.colspec(colwidth=4), nodes.colspec(colwidth=1), cols=2)
        group += nodes.thead("", self.row(nodes.Text("Page"), "Seconds"))
        group += nodes.tbody("", *rows)
        return nodes.table("", group, classes=["run-times"])

    def row(self, first: nodes.Node, second: str) -> nodes.row:
        """Return a row of two entries."""
        texts = (nodes.paragraph("", "", first), nodes.paragraph("", second))
        return nodes.row("", *(nodes.entry("", text) for text in texts))

    def link(self, page: str) -> nodes.Node:
        """Return the title of a page, as a link."""
        target = posixpath.relpath(page, posixpath.dirname(self.env.docname))
        options = {"refdoc": self.env.docname, "refdomain": "std", "reftype": "doc", "reftarget": target}
        return addnodes.pending_xref("", nodes.inline("", self.env.titles[page].astext()), refexplicit=False, **options)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive; Sphinx calls this."""
    app.add_node(RunTimesNode)
    app.add_directive("run-times", RunTimes)
    app.add_post_transform(FillRunTimes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
