"""The solution of an exercise as a native fold: one bar, which opens and closes it, with or without a script.

The theme's own fold is a script over a box, whose bar holds a link to the exercise and a button: two controls of
which a reader wants neither. Here the whole bar is the ``<summary>`` of a ``<details>``.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.writers.html5 import HTML5Translator
from sphinx_exercise.nodes import solution_node


class solution_fold(nodes.container):
    """The whole."""


class solution_bar(nodes.paragraph):
    """The line that is seen while it is closed."""


class FoldSolutions(SphinxPostTransform):
    """Puts a fold in the place of every solution, its title without the link in the bar."""

    default_priority = 30  # after sphinx-exercise has written the titles
    formats = ("html",)

    def run(self, **kwargs: object) -> None:
        """Replace them."""
        for solution in list(self.document.findall(solution_node)):
            title, *content = solution.children
            for link in list(title.findall(nodes.reference)):
                link.replace_self(link.children)
            fold = solution_fold("", solution_bar("", "", *title.children), *content, ids=solution["ids"])
            # not `replace_self`, which would hand the class on that the theme's script looks for
            solution.parent.replace(solution, fold)


def visit_fold(self: HTML5Translator, node: solution_fold) -> None:
    """Open the fold."""
    self.body.append(self.starttag(node, "details", CLASS="solution admonition"))


def depart_fold(self: HTML5Translator, node: solution_fold) -> None:
    """Close it."""
    self.body.append("</details>\n")


def visit_bar(self: HTML5Translator, node: solution_bar) -> None:
    """Open the bar."""
    self.body.append('<summary class="admonition-title">')


def depart_bar(self: HTML5Translator, node: solution_bar) -> None:
    """Close it."""
    self.body.append("</summary>\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the nodes and what makes them; Sphinx calls this."""
    app.setup_extension("sphinx_exercise")
    app.add_node(solution_fold, html=(visit_fold, depart_fold))
    app.add_node(solution_bar, html=(visit_bar, depart_bar))
    app.add_post_transform(FoldSolutions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
