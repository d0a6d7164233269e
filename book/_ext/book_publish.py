"""Links to the repository, launch buttons and addresses: from the environment of the build that publishes the book.

A local build knows neither its repository nor its site, and shows nothing rather than links that lead nowhere. The
workflow that publishes the book says both, in variables of the book's own: that a build runs somewhere in a
repository's automation does not mean that its pages will be seen there.
"""

from __future__ import annotations

import os
import re
from html import escape
from pathlib import Path
from typing import Any

from book_emblem import CARD
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError

REPOSITORY, BRANCH, SITE = "BOOK_REPOSITORY_URL", "BOOK_REPOSITORY_BRANCH", "BOOK_SITE_URL"
LAUNCH = {
    "notebook_interface": "jupyterlab",
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
}
PUBLISHED = "published"
"""The tag of a build that knows its site: what a page says in `only` with it is left out of others."""
SHOWN_IN_A_FEED = r'<link rel="canonical"[^>]*>|<meta (?:property="og:|name="(?:description|twitter:))[^>]*>'
PDF = "book.pdf"
BUTTONS = ("use_repository_button", "use_edit_page_button", "use_issues_button")


def address(variable: str, pattern: str, example: str) -> str:
    """Return the address in an environment variable without a slash at its end, or "" where it is not set."""
    value = os.environ.get(variable, "").rstrip("/")
    if value and not re.fullmatch(pattern, value):
        raise ExtensionError(f"{variable}: found {value!r}; expected an address such as {example}")
    return value


def fill_in(app: Sphinx, config: Config) -> None:
    """Put what the environment says into the theme's options."""
    repository = address(REPOSITORY, r"https://[\w.-]+/[\w.-]+/[\w.-]+", "https://github.com/OWNER/NAME")
    if repository:
        config.html_theme_options |= {
            "repository_url": repository,
            "repository_branch": os.environ.get(BRANCH) or "main",
            "path_to_docs": "",
            "launch_buttons": LAUNCH,
            **dict.fromkeys(BUTTONS, True),
        }
    config.html_baseurl = address(SITE, r"https?://\S+", "https://OWNER.github.io/NAME")
    if config.html_baseurl:
        app.tags.add(PUBLISHED)


def keep_what_can_be_launched(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Take the launch buttons from pages that are no notebook files: nobody could open them there."""
    if context.get("page_source_suffix") != ".ipynb":
        kept = [button for button in context["header_buttons"] if button.get("label") != "launch-buttons"]
        context["header_buttons"] = kept


def offer_the_whole(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Add the book as one PDF, which `print_pdf.py` prints, to the download menu of a published page."""
    for button in context["header_buttons"] if app.config.html_baseurl else []:
        if button.get("label") == "download-buttons":
            whole = {"type": "link", "url": context["pathto"](PDF, 1), "text": "whole book, .pdf"}
            whole |= {"tooltip": "The whole book, to print", "icon": "fas fa-book", "label": "download-book-button"}
            button["buttons"].append(whole)


def first_words(doctree: nodes.document, length: int = 200) -> str:
    """Return a page's first paragraph outside of boxes, cut between words."""
    for paragraph in doctree.findall(nodes.paragraph):
        if isinstance(paragraph.parent, nodes.section):
            text = " ".join(paragraph.astext().split())
            return text if len(text) <= length else text[:length].rpartition(" ")[0] + " …"
    return ""


def describe(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Say in a page's head what a feed shows of it: https://ogp.me."""
    if doctree is None:
        return
    site, words = app.config.html_baseurl, first_words(doctree)
    tags = {"og:type": "article", "og:site_name": app.config.html_title, "og:title": app.env.titles[pagename].astext()}
    tags |= {"og:description": words, "description": words} if words else {}
    if site:  # both must be absolute
        tags |= {
            "og:url": f"{site}/{pagename}.html",
            "og:image": f"{site}/_static/{CARD}",
            "twitter:card": "summary_large_image",
        }
    for name, content in tags.items():
        key = "property" if name.startswith("og:") else "name"
        context["metatags"] += f'\n<meta {key}="{name}" content="{escape(content)}" />'


def open_the_door(app: Sphinx, exception: Exception | None) -> None:
    """Let the site's own address, which is what people share, lead to the first page and show that page's card."""
    if exception or app.builder.format != "html":
        return
    first = app.builder.get_relative_uri("index", app.config.root_doc)
    page = Path(app.outdir, first).read_text(encoding="utf-8")
    head = re.findall(rf"<title>.*?</title>|{SHOWN_IN_A_FEED}", page, re.DOTALL)
    lines = ["<!DOCTYPE html>", '<html lang="en">', '<meta charset="utf-8">', *head]
    lines += [f'<meta http-equiv="refresh" content="0; url={first}">', f'<a href="{first}">{app.config.html_title}</a>']
    Path(app.outdir, "index.html").write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the hooks; Sphinx calls this."""
    app.connect("config-inited", fill_in)
    app.connect("html-page-context", describe)
    # after the theme has made its buttons (501)
    app.connect("html-page-context", keep_what_can_be_launched, priority=600)
    app.connect("html-page-context", offer_the_whole, priority=600)
    # before the table of contents' extension (500), which writes a bare page where there is none
    app.connect("build-finished", open_the_door, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
