"""Leave only the icons that the book shows in the theme's icon script: 0.1 MB instead of 1.5 MB."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

SCRIPT = Path("scripts") / "fontawesome.js"
# "magnifying-glass":[512,512,[128269,"search"],"f002","M416..."]: size, aliases, code point, 1 or 2 outlines
ICON = re.compile(
    r'(?P<quote>"?)(?P<name>[a-z0-9-]+)(?P=quote):'
    r'\[\d+,\d+,\[(?P<aliases>[^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\[(?:"[^"]*",?)+\])\],?'
)
USED = re.compile(r"\bfa-([a-z0-9-]+)")


def theme_static() -> Path:
    """Return the static folder of pydata-sphinx-theme, which holds the complete script."""
    spec = importlib.util.find_spec("pydata_sphinx_theme")
    if spec is None or spec.origin is None:
        raise ExtensionError("pydata-sphinx-theme is not installed: pip install -r requirements-book.txt")
    return Path(spec.origin).parent / "theme" / "pydata_sphinx_theme" / "static"


def used_icons(site: Path) -> set[str]:
    """Return the icon names in the site's pages and in the scripts that the theme adds icons from."""
    pages = [*site.rglob("*.html"), *site.glob("_static/scripts/*theme.js")]
    return {name for page in pages for name in USED.findall(page.read_text(encoding="utf-8"))}


def trim(script: str, used: set[str]) -> str:
    """Return the icon script without the outlines of icons whose name and aliases are not in `used`."""

    def keep(icon: re.Match[str]) -> str:
        names = {icon["name"], *re.findall(r'"([^"]+)"', icon["aliases"])}
        return icon[0] if names & used else ""

    return ICON.sub(keep, script)


def trim_icons(app: Sphinx, exception: Exception | None) -> None:
    """Write the trimmed script over the complete one in the built site."""
    if exception is not None or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    script = (theme_static() / SCRIPT).read_text(encoding="utf-8")
    script = re.sub(r"\n//# sourceMappingURL=.*", "", script)
    (static / SCRIPT).write_text(trim(script, used_icons(Path(app.outdir))), encoding="utf-8")
    (static / SCRIPT).with_suffix(".js.map").unlink(missing_ok=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect the hook; Sphinx calls this."""
    app.connect("build-finished", trim_icons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
