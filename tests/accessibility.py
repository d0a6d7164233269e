"""What axe-core finds on a page that is open in a browser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from axe_playwright_python.base import AXE_SCRIPT

SETTLED = """Promise.allSettled(document.getAnimations()
    .filter((one) => one.effect.getComputedTiming().endTime < Infinity).map((one) => one.finished))"""
"""Waits for what comes and goes, such as the theme's tooltips: half transparent, nothing has the contrast it is made
for. What never ends is not waited for."""


def violations(page: Any, within: str | None = None, rules: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return all findings on a page, or inside what a selector finds; of some rules only, if they are named."""
    page.add_script_tag(content=AXE_SCRIPT)
    page.evaluate(SETTLED)
    scope = "document" if within is None else f"{{include: ['{within}']}}"
    # without preloading: over file:// the style sheets cannot be read again; what passes need not be described
    options = json.dumps({"preload": False, "resultTypes": ["violations"]} | ({"runOnly": [*rules]} if rules else {}))
    found: list[dict[str, Any]] = page.evaluate(f"axe.run({scope}, {options})")["violations"]
    return found


def grave(page: Any, within: str | None = None, rules: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the serious and the critical ones."""
    return [finding for finding in violations(page, within, rules) if finding["impact"] in ("serious", "critical")]
