"""The reference of the package, from its docstrings.

Docstrings are NumPy's kind, with types in words ("array, shape (N, W)"): nothing in them is looked up but what they
mark as a name. Such a name is found wherever it is documented, and has to exist where it is not.
"""

from __future__ import annotations

import re
import sys
from functools import reduce
from types import GenericAlias
from typing import Any, get_origin

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config, NumpyDocstring
from sphinx.util.nodes import make_refnode

PACKAGE = "spectral_tutorial"
LONGEST_VALUE = 60
"""Letters of a constant's value; a longer one says less than its docstring."""

SECTIONS = Config(
    napoleon_use_param=False, napoleon_use_rtype=False, napoleon_custom_sections=[("Attributes", "params_style")]
)


def read_sections(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn the sections of a docstring into markup."""
    # of an attribute, napoleon would take what stands before a colon for a type
    kind = "method" if what in ("attribute", "data", "property") else what
    lines[:] = NumpyDocstring(list(lines), SECTIONS, app, kind, name, obj, options).lines()


def skip(app: Sphinx, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out abbreviations for types, and the methods that scikit-learn makes for routing metadata."""
    alias = isinstance(obj, GenericAlias) or (get_origin(obj) is not None and not isinstance(obj, type))
    return True if alias or re.fullmatch(r"set_\w+_request", name) else None


def drop_long_values(app: Sphinx, domain: str, objtype: str, content: nodes.Element) -> None:
    """Take the value out of a constant's description where it is a whole table."""
    for part in list(content.parent.findall(addnodes.desc_annotation)):
        if part.astext().startswith(" = ") and len(part.astext()) > LONGEST_VALUE:
            part.parent.remove(part)


def find(names: set[str], target: str) -> str | None:
    """Return the shortest documented name that ends in what a docstring says (``Config.with_changes``), if any does."""
    found = {name for name in names if name == target or name.endswith(f".{target}")}
    return min(found, key=len) if found else None


def exists(target: str) -> bool:
    """Whether some module of the package, or the module itself, goes by this name."""
    for name, module in list(sys.modules.items()):  # looking may import
        if name.startswith(PACKAGE):
            try:
                reduce(getattr, target.removeprefix(f"{name}.").split("."), module)
            except AttributeError:
                if name == target:
                    return True
            else:
                return True
    return False


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Element
) -> nodes.Node | None:
    """Turn a reference that Python's own rules did not resolve into a link.

    A docstring names what its module imports, so neither the module nor the class around it leads there. What is not on
    the page, but in the package, stays without a link.
    """
    if node.get("refdomain") != "py":
        return None
    objects, target = env.get_domain("py").objects, node["reftarget"]
    name = find({name for name in objects if name.startswith(PACKAGE)}, target.removeprefix(f"{PACKAGE}."))
    if name is None:
        return content if exists(target) else None
    place = objects[name]
    return make_refnode(app.builder, node["refdoc"], place.docname, place.node_id, content, name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the hooks; Sphinx calls this."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", read_sections)
    app.connect("autodoc-skip-member", skip)
    app.connect("object-description-transform", drop_long_values)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
