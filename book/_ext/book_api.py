"""The reference of the package, from its docstrings: what they call a thing by is found wherever it is documented."""

from __future__ import annotations

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

PACKAGE = "spectral_tutorial"


def find(names: set[str], target: str) -> str | None:
    """Return the shortest documented name that ends in what a docstring says (``Config.with_changes``), if any does."""
    found = {name for name in names if name == target or name.endswith(f".{target}")}
    return min(found, key=len) if found else None


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.Node | None:
    """Turn a reference that Python's own rules did not resolve into a link.

    A docstring names what its module imports, so neither the module nor the class around it leads there.
    """
    if node.get("refdomain") != "py":
        return None
    objects = env.get_domain("py").objects
    name = find({name for name in objects if name.startswith(PACKAGE)}, node["reftarget"].removeprefix(f"{PACKAGE}."))
    if name is None:
        return None
    place = objects[name]
    return make_refnode(app.builder, node["refdoc"], place.docname, place.node_id, content, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the hook; Sphinx calls this."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
