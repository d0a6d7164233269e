"""Read, and so execute, every page on every build.

Sphinx skips a page whose file has not changed since the last build, whatever MyST-NB is told about execution.
The pages show what the package computes, and Sphinx does not see the package change.
"""

from __future__ import annotations

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def every_page(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Return all pages as outdated."""
    return sorted(env.found_docs)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the hook; Sphinx calls this."""
    app.connect("env-get-outdated", every_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
