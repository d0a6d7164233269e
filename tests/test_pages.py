"""The built pages in a browser: accessible, usable from the keyboard, light, and quick to appear."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from accessibility import grave

pytestmark = pytest.mark.slow

OURS = ("book.css", "book.js", "questions.", "explorers/", "logo-", "favicon", "social-card")
WEIGHT = 500_000
PAINT = 1.5
PATIENCE = 4  # how much slower than the aim a busy machine may be

READY = """async () => {
  await window.MathJax?.startup?.promise;
  const drawn = () => !document.querySelector(".spectral-explorer:not([data-mounted])");
  for (let i = 0; i < 1200 && !drawn(); i++) await new Promise((done) => setTimeout(done, 50));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return drawn();
}"""


def pages_of(site: Path) -> dict[str, Path]:
    """Return the pages of a built site that are no mere redirection, by name."""
    found = {path.relative_to(site).with_suffix("").as_posix(): path for path in sorted(site.rglob("*.html"))}
    return {name: path for name, path in found.items() if "_static" not in name and name != "index"}


@contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """Open a page, wait until its mathematics and explorers are drawn, and close it again."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    try:
        page = context.new_page()
        page.goto(address, wait_until="load")
        assert page.evaluate(READY), f"{address}: an explorer was not drawn"
        yield page
    finally:
        context.close()


# --- accessible -------------------------------------------------------------------------------------------------------


# What is unfolded fades in, a link under the pointer changes its color slowly; on the way there contrast is too low.
SETTLED = """() => Promise.allSettled(document.getAnimations()
  .filter((one) => one.effect.getComputedTiming().endTime < Infinity).map((one) => one.finished))"""


def grave_findings(browser: Any, path: Path, scheme: str) -> list[str]:
    """Return what axe calls serious or critical on a page, all unfolded and the pointer on a link."""
    with opened(browser, path.as_uri(), color_scheme=scheme) as page:
        page.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true; })")
        for link in page.locator("article p > a:visible, .prev-next-footer a:visible").all()[:1]:
            link.hover()
        page.evaluate(SETTLED)
        found = grave(page)
    return [f"{finding['id']}: {node['html'][:200]}" for finding in found for node in finding["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_on_any_page(browser: Any, built_book: Any, scheme: str) -> None:
    found = {name: grave_findings(browser, path, scheme) for name, path in pages_of(built_book.html).items()}
    assert not any(found.values()), json.dumps({name: what for name, what in found.items() if what}, indent=1)[:8000]


# --- from the keyboard ------------------------------------------------------------------------------------------------

FOLDED = "() => [...document.querySelectorAll('main details:not([open]) > summary')].filter((s) => s.checkVisibility())"

# What must be reachable: controls that can be seen, one of each group of radio buttons, and whatever scrolls sideways.
EXPECTED = """() => {
  const seen = (node) => node.checkVisibility({visibilityProperty: true}) && node.getClientRects().length > 0;
  const controls = "a[href], button, input, select, textarea, summary, [tabindex='0']";
  const wanted = [...document.querySelectorAll(controls)].filter(
    (node) => seen(node) && !node.disabled && node.tabIndex >= 0 && !node.closest("[inert]"));
  const scrolls = [...document.querySelectorAll("main *")].filter((node) =>
    seen(node) && node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 0 &&
    ["auto", "scroll"].includes(getComputedStyle(node).overflowX) && !node.querySelector(controls));
  const groups = new Set();
  const once = (node) => node.type !== "radio" || (!groups.has(node.name) && groups.add(node.name));
  const all = [...new Set([...wanted.filter(once), ...scrolls])];
  window.wanted = new Map(all.map((node) => [node, node.type === "radio" ? node.name : null]));
  window.visited = new Set();
  document.addEventListener("focusin", ({target}) => window.visited.add(target));
  document.activeElement?.blur();
  return all.length;
}"""

MISSED = """() => {
  const names = new Set([...window.visited].map((node) => node.name));
  const reached = ([node, group]) => window.visited.has(node) || (group !== null && names.has(group));
  return [...window.wanted].filter((one) => !reached(one)).map(([node]) => node.outerHTML.slice(0, 200));
}"""


def unreachable(browser: Any, path: Path, width: int = 1280) -> list[str]:
    """Unfold all that is folded on a page, by Enter, walk through it by Tab, and return what was never reached."""
    with opened(browser, path.as_uri(), viewport={"width": width, "height": 800}) as page:
        while page.evaluate(f"({FOLDED})().length"):
            before = page.evaluate(f"({FOLDED})().length")
            page.evaluate(f"({FOLDED})()[0].focus()")
            page.keyboard.press("Enter")
            assert page.evaluate(f"({FOLDED})().length") != before, f"{path.name}: Enter does not unfold"
        count = page.evaluate(EXPECTED)
        for _ in range(
            count + 30
        ):  # some are reached that are not asked for, and the browser's own once between rounds
            page.keyboard.press("Tab")
        return list(page.evaluate(MISSED))


@pytest.mark.parametrize("width", [1280, 375])
def test_everything_can_be_reached_from_the_keyboard(browser: Any, built_book: Any, width: int) -> None:
    found = {name: unreachable(browser, path, width) for name, path in pages_of(built_book.html).items()}
    assert not any(found.values()), json.dumps({name: what for name, what in found.items() if what}, indent=1)[:8000]


# --- light and quick --------------------------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Keep the requests out of the tests' output."""


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A page that is closed leaves some of its requests unanswered."""


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve a folder on this machine and give its address."""
    server = Server(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def is_ours(path: str) -> bool:
    """Tell what the book adds from what the theme, Sphinx and MathJax bring along."""
    inside = path.partition("/_static/")[2]
    return not inside or inside.startswith(OURS)


def load(browser: Any, address: str) -> tuple[int, float]:
    """Load a page with an empty cache: bytes that the book adds (uncompressed), and seconds to the first content."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page, finished = context.new_page(), []
    page.on("requestfinished", lambda request: finished.append(request))
    page.goto(address, wait_until="load")
    page.evaluate(READY)
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
    ours = [request for request in finished if request.url.startswith("http") and is_ours(request.url)]
    size = sum(sum(request.sizes()[part] for part in ("responseBodySize", "responseHeadersSize")) for request in ours)
    context.close()
    return size, painted


@pytest.fixture(scope="module")
def loads(browser: Any, built_book: Any) -> dict[str, tuple[int, float]]:
    """Bytes and seconds of every page, the larger and the quicker of two loads."""
    with served(built_book.html) as address:
        addresses = {name: f"{address}/{name}.html" for name in pages_of(built_book.html)}
        twice = {name: (load(browser, page), load(browser, page)) for name, page in addresses.items()}
    return {name: (max(a[0], b[0]), min(a[1], b[1])) for name, (a, b) in twice.items()}


def test_pages_without_explorers_are_light(
    built_book: Any, loads: dict[str, tuple[int, float]], record_property: Callable[..., None]
) -> None:
    heavy = []
    for name, path in pages_of(built_book.html).items():
        explores, size = "spectral-explorer" in path.read_text(encoding="utf-8"), loads[name][0]
        print(f"{name}: {size / 1e3:.0f} kB{' with explorers' if explores else ''}")
        record_property(f"kilobytes_{name}", round(size / 1e3))
        heavy += [name] * (size > WEIGHT and not explores)
    assert not heavy


def test_the_first_content_appears_soon(
    loads: dict[str, tuple[int, float]], record_property: Callable[..., None]
) -> None:
    worst = max(loads, key=lambda name: loads[name][1])
    seconds = loads[worst][1]
    print(f"first content after at most {seconds:.2f} s ({worst}); the aim is {PAINT} s")
    record_property("first_content_seconds", round(seconds, 2))
    assert seconds <= PATIENCE * PAINT, f"{worst}: {seconds:.2f} s; the aim is {PAINT} s on an idle machine"


# --- the landing page -------------------------------------------------------------------------------------------------

PLACES = """() => {
  const box = (query) => document.querySelector(query).getBoundingClientRect();
  const {bottom, top} = box(".spectral-explorer .se-plane");
  const buttons = document.querySelectorAll("main .sd-btn").length;
  return {top, bottom, table: box(".spectral-explorer table").bottom, buttons};
}"""


def test_the_landing_page_shows_its_explorer_first(browser: Any, built_book: Any) -> None:
    address = (built_book.html / "book" / "index.html").as_uri()
    with opened(browser, address) as page:
        wide = page.evaluate(PLACES)
    assert max(wide["bottom"], wide["table"]) <= 800
    assert wide["buttons"] == 1
    with opened(browser, address, viewport={"width": 375, "height": 800}) as page:
        assert page.evaluate(PLACES)["top"] <= 450
