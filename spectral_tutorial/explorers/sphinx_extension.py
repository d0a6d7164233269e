"""The explorers in a built site: pages that show one load its script, and nothing else does.

While the book is built, kernels find the folder named by the environment variable ``SPECTRAL_TUTORIAL_BOOK``: an
explorer shows itself as HTML then, and leaves in that folder what its page must load. This extension turns both into
classic scripts under ``_static/explorers``, with names that do not change.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from spectral_tutorial.explorers.base import BOOK_VARIABLE, CSS, HERE, module_text
from spectral_tutorial.store import write_atomically

KINDS = ("spectrum", "gap", "trajectory", "error_map", "belief")
USED = re.compile(r'class="spectral-explorer" data-explorer="(\w+)" data-payload="([\w-]*)"')


def script_text(kind: str) -> str:
    """Return a page's script for one kind of explorer: the host, called with the module and its style."""
    host = (HERE / "host.js").read_text(encoding="utf-8").strip()
    return f"{host}({', '.join(map(json.dumps, (kind, module_text(kind), CSS)))});\n"


def payload_text(key: str, payload: str) -> str:
    """Return the script that leaves a payload, given as JSON, where the host looks for it."""
    return f"(window.spectralExplorers ??= {{}})[{json.dumps(key)}] = {payload};\n"


def digest() -> str:
    """Return a fingerprint of all scripts: when it changes, Sphinx writes every page again."""
    return hashlib.sha256("".join(map(script_text, KINDS)).encode()).hexdigest()


def payload_folder(app: Sphinx) -> Path:
    """Return the folder in which kernels leave payloads; it outlives a build, as the cached pages do."""
    return Path(app.doctreedir) / "explorers"


def tell_kernels(app: Sphinx) -> None:
    """Let the kernels of this build know that they serve a book."""
    os.environ[BOOK_VARIABLE] = str(payload_folder(app))


def forget(app: Sphinx, exception: Exception | None) -> None:
    """Leave the environment as it was."""
    os.environ.pop(BOOK_VARIABLE, None)


def explorers_on(doctree: nodes.document | None) -> list[tuple[str, str]]:
    """Return kind and payload key of each explorer on a page."""
    raw = doctree.findall(nodes.raw) if doctree is not None else ()
    return [found.groups() for node in raw if (found := USED.search(node.astext()))]  # type: ignore[misc]


def add_scripts(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Write the scripts that a page needs and let it load them, each once, payloads first."""
    found = explorers_on(doctree)
    scripts = {f"explorers/{key}.js": (key, "") for _, key in found if key}
    scripts |= {f"explorers/{kind}.js": ("", kind) for kind, _ in found}
    for name, (key, kind) in scripts.items():
        if key:
            text = payload_text(key, (payload_folder(app) / f"{key}.json").read_text(encoding="utf-8"))
        else:
            text = script_text(kind)
        write_atomically(Path(app.outdir) / "_static" / name, text.encode())
        app.add_js_file(name, loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the hooks; Sphinx calls this."""
    app.add_config_value("explorers_digest", digest(), "html", [str])
    app.connect("builder-inited", tell_kernels)
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", forget)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
