"""Questions that readers answer before they read on, and that grade themselves in the page.

A question is a fence with a prompt and, last, one bullet list of answers. Each item begins with ``(x)`` if it is right
and with ``( )`` if it is not; its first paragraph is the answer, the rest is what the reader is told who chooses it::

    :::{question}
    :name: question-boil

    At which temperature does water boil on a high mountain?

    - (x) Below 100 °C.

      The air presses less, so bubbles form sooner.
    - ( ) At 100 °C, as everywhere.

      That holds at sea level. Think of what keeps a bubble from growing.
    :::

One right answer makes radio buttons, several make checkboxes. With ``name`` a question can be referred to as
``{ref}`question-boil```. ``questions.js`` does the grading; without it each answer's sentence waits behind a fold, and
on paper all of them are shown. Builders that know no forms write the same words one after another.
"""

from __future__ import annotations

import re
from string import ascii_uppercase
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.writers.html5 import HTML5Translator

MARK = re.compile(r"\((?P<right>[x ])\)\s*")
INVITATION = {
    "radio": "Choose one before you read on.",
    "checkbox": "Choose all that are right before you read on.",
}
WORDS = {True: "Right.", False: "Not so."}


# A writer without a method for one of these takes that of the class it derives from.
class question(nodes.container):
    """The whole: legend, rest of the prompt, answers, and what there is to say about each."""


class question_legend(nodes.paragraph):
    """Number and first paragraph of the prompt."""


class question_answer(nodes.paragraph):
    """One answer: the label of a radio button or checkbox."""


class question_replies(nodes.container):
    """What there is to say about each answer."""


class question_reply(nodes.container):
    """What there is to say about one answer."""


class Question(SphinxDirective):
    """The directive; see the head of this module."""

    has_content = True
    option_spec = {"name": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Read the prompt and the answers into a tree; a question that lacks something is an error."""
        number = self.env.new_serialno("question") + 1
        opening, *rest, listed = self.parse()
        self.opening = " ".join(opening.astext().split()[:6])
        answers = [self.read(item) for item in listed]
        rights = [right for right, _, _ in answers]
        if len(rights) < 2 or not any(rights):
            raise self.fault("needs two answers or more, a right one among them, marked (x)")
        tree = question(ids=[self.label(number)], kind="checkbox" if sum(rights) > 1 else "radio")
        self.set_source_info(tree)
        tree += question_legend("", "", nodes.strong("", f"Question {number}."), nodes.Text(" "), *opening.children)
        tree += rest
        replies = question_replies()
        for letter, (right, answer, reply) in zip(ascii_uppercase, answers, strict=False):
            tree += question_answer("", "", nodes.Text(f"{letter}. "), *answer.children, letter=letter)
            reply[0][:0] = [nodes.strong("", f"{letter}. {WORDS[right]}"), nodes.Text(" ")]
            replies += question_reply("", *reply, letter=letter, right=right)
        tree += replies
        return [tree]

    def parse(self) -> list[nodes.Element]:
        """Return what the fence holds: first a paragraph, last the list of answers."""
        parsed = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, parsed)
        kinds = [type(node) for node in (*parsed.children[:1], *parsed.children[1:][-1:])]
        if kinds != [nodes.paragraph, nodes.bullet_list]:
            raise self.error("a question is a paragraph of prompt and, last, one bullet list of answers")
        return parsed.children

    def label(self, number: int) -> str:
        """Return the question's id, and let ``ref`` find it if it has a name."""
        name = self.options.get("name", f"question-{number}")
        if "name" in self.options:
            standard = self.env.get_domain("std")
            if standard.labels.get(name, ("",))[0] == self.env.docname:
                raise self.error(f"another question of this page is named {name!r}")
            standard.note_hyperlink_target(name, self.env.docname, nodes.make_id(name), f"Question {number}")
        return nodes.make_id(name)

    def fault(self, what: str) -> Exception:
        """Return the error that the question lacks something."""
        return self.error(f"the question “{self.opening} ...” {what}")

    def read(self, item: nodes.list_item) -> tuple[bool, nodes.paragraph, list[nodes.Node]]:
        """Take an item apart: whether it is right, the answer, and what to say to whoever chooses it."""
        answer, *reply = item.children or [nodes.paragraph()]
        text = next(iter(answer.children), None)
        mark = MARK.match(text) if isinstance(text, nodes.Text) else None
        if mark is None or not isinstance(answer, nodes.paragraph):
            raise self.fault(f"has an answer that does not begin with ( ) or (x): {answer.astext()!r}")
        if not (reply and isinstance(reply[0], nodes.paragraph)):
            raise self.fault(f"lacks the sentence for the answer {answer.astext()!r}")
        answer.replace(text, nodes.Text(text[mark.end() :]))
        return mark["right"] == "x", answer, reply


def visit_question(self: HTML5Translator, node: question) -> None:
    """Open the group of answers; its legend names it."""
    self.body.append(self.starttag(node, "fieldset", CLASS=f"question question-{node['kind']}"))


def depart_question(self: HTML5Translator, node: question) -> None:
    """Close the group."""
    self.body.append("</fieldset>\n")


def visit_legend(self: HTML5Translator, node: question_legend) -> None:
    """Open the legend."""
    self.body.append("<legend>")


def depart_legend(self: HTML5Translator, node: question_legend) -> None:
    """Close the legend."""
    self.body.append("</legend>\n")


def visit_answer(self: HTML5Translator, node: question_answer) -> None:
    """Write the button and open its label."""
    kind, group = node.parent["kind"], node.parent["ids"][0]
    key = f"{group}-{node['letter'].lower()}"
    self.body.append(
        f'<div class="question-answer"><input type="{kind}" id="{key}" name="{group}" value="{node["letter"]}" '
        f'autocomplete="off"><label for="{key}">'
    )


def depart_answer(self: HTML5Translator, node: question_answer) -> None:
    """Close the label."""
    self.body.append("</label></div>\n")


def visit_replies(self: HTML5Translator, node: question_replies) -> None:
    """Write what grades, and open the fold that needs no script; it is the place of the verdict too."""
    self.body.append(
        '<p class="question-check"><button type="button" name="check">Check</button> '
        '<button type="button" name="clear">Clear my answer</button> '
        f"<span>{INVITATION[node.parent['kind']]}</span></p>\n"
        '<div class="question-verdict" role="status"><p></p>\n<details><summary>Answers</summary>\n'
    )


def depart_replies(self: HTML5Translator, node: question_replies) -> None:
    """Close the fold."""
    self.body.append("</details></div>\n")


def visit_reply(self: HTML5Translator, node: question_reply) -> None:
    """Open what there is to say about an answer."""
    right = str(node["right"]).lower()
    self.body.append(f'<div class="question-reply" data-answer="{node["letter"]}" data-right="{right}">')


def depart_reply(self: HTML5Translator, node: question_reply) -> None:
    """Close it."""
    self.body.append("</div>\n")


def load_assets(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Let pages with questions load script and style, and no others."""
    if doctree is not None and any(doctree.findall(question)):
        app.add_js_file("questions.js")
        app.add_css_file("questions.css")


def setup(app: Sphinx) -> dict[str, bool]:
    """Add nodes and directive; Sphinx calls this."""
    app.add_node(question, html=(visit_question, depart_question))
    app.add_node(question_legend, html=(visit_legend, depart_legend))
    app.add_node(question_answer, html=(visit_answer, depart_answer))
    app.add_node(question_replies, html=(visit_replies, depart_replies))
    app.add_node(question_reply, html=(visit_reply, depart_reply))
    app.add_directive("question", Question)
    app.connect("html-page-context", load_assets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
