"""What axe-core finds on a page that is open in a browser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT


def violations(page: Any, within: str | None = None, rules: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return all findings on a page, or inside what a selector finds; of some rules only, if they are named."""
    page.add_script_tag(content=AXE_SCRIPT)
    # a tooltip of the theme is half transparent while it comes and goes, under a mouse that happens to be there
    scope = "{exclude: ['.tooltip']}" if within is None else f"{{include: ['{within}'], exclude: ['.tooltip']}}"
    # without preloading: over file:// the style sheets cannot be read again; what passes need not be described
    options = json.dumps({"preload": False, "resultTypes": ["violations"]} | ({"runOnly": [*rules]} if rules else {}))
    found: list[dict[str, Any]] = page.evaluate(f"axe.run({scope}, {options})")["violations"]
    return found


def grave(page: Any, within: str | None = None, rules: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the serious and the critical ones."""
    return [finding for finding in violations(page, within, rules) if finding["impact"] in ("serious", "critical")]
