"""The built site asks no other site for anything: its own MathJax, and no scripts for remote kernels."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

MATHJAX_PACKAGE = "sphinx-mathjax-offline"
# The whole package is 24 MB; the entry script, the TeX extensions that it loads on demand and the fonts 2 MB.
MATHJAX_PARTS = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")


def mathjax_source() -> Path:
    """Return the folder of MathJax files inside the installed package (its name is no Python identifier)."""
    spec = importlib.util.find_spec(MATHJAX_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ExtensionError(f"{MATHJAX_PACKAGE} is not installed: pip install -r requirements-book.txt")
    return Path(spec.submodule_search_locations[0]) / "static" / "mathjax"


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Copy what `MATHJAX_PARTS` names into the built site.

    At the end of the build, not through a folder `_static`: Jupyter Book loads every script in one.
    """
    if exception is not None or app.builder.format != "html":
        return
    source, target = mathjax_source(), Path(app.outdir) / "_static" / "mathjax"
    for part in MATHJAX_PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / part, target / part)


def _belongs_to_thebe(script: Any) -> bool:
    body = getattr(script, "attributes", {}).get("body") or ""
    return "thebe" in str(getattr(script, "filename", "") or "") or "THEBE_JS_URL" in body


def drop_thebe(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Take thebe's scripts out of a page: the book starts no remote kernel, and they log an error."""
    context["script_files"] = [script for script in context["script_files"] if not _belongs_to_thebe(script)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the hooks; Sphinx calls this."""
    # a page may hold math in its outputs alone, which Sphinx does not see
    app.set_html_assets_policy("always")
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
