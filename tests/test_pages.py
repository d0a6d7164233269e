"""The built pages in a browser: whole without a network, accessible, usable from the keyboard, and light.

Each page is opened twice: light and wide, then dark and narrow, and widened there; what was found is kept, and the
tests look at that. Width does not change colors, nor colors widths: of four combinations two show every fault.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
from accessibility import grave
from helpers import IDLE
from PIL import Image

pytestmark = pytest.mark.slow

WIDE, NARROW = 1280, 375
KNOWN_CONSOLE_NOISE = ("Identifier 'THEBE_JS_URL' has already been declared", "Got invalid theme mode")
OURS = ("book.css", "book.js", "questions.", "explorers/", "logo-", "favicon", "social-card")
WEIGHT = 500_000
PAINT = 1.5 if IDLE else 6  # seconds; a busy machine may take four times as long

READY = """async () => {
  await window.MathJax?.startup?.promise;
  const drawn = () => !document.querySelector(".spectral-explorer:not([data-mounted])");
  for (let i = 0; i < 2400 && !drawn(); i++) await new Promise((done) => setTimeout(done, 50));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return drawn();
}"""


# --- what is looked for on a page -------------------------------------------------------------------------------------

STATE = """() => {
  const all = (query) => [...document.querySelectorAll(query)];
  return {
    theme: document.documentElement.dataset.theme,
    overflow: document.documentElement.scrollWidth - window.innerWidth,
    bareMath: all(".math").filter((box) => !box.querySelector("mjx-container")).map((box) => box.textContent),
    mathErrors: all("mjx-merror").map((box) => box.textContent),
    emptyIcons: all("i[class*='fa-'], svg.svg-inline--fa:not(:has(path[d]))").map((icon) => icon.outerHTML),
    paint: performance.getEntriesByName("first-contentful-paint")[0].startTime / 1000,
  };
}"""

# What is unfolded fades in, a link under the pointer changes its color slowly; on the way there contrast is too low.
SETTLED = """() => Promise.allSettled(document.getAnimations()
  .filter((one) => one.effect.getComputedTiming().endTime < Infinity).map((one) => one.finished))"""

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

# Code that a reader has to scroll for: by how much, and the longest line. Code behind a bar of its own may be wider.
CUT = """() => [...document.querySelectorAll(".cell_input pre")].filter((box) => !box.closest("details.hide"))
  .map((box) => [box.scrollWidth - box.clientWidth, box.textContent.split("\\n")])
  .filter(([hidden]) => hidden > 0)
  .map(([hidden, lines]) => `${hidden} px: ${lines.sort((a, b) => b.length - a.length)[0]}`)"""

# What is lost on paper, and what is there although nobody can press it.
PAPER = """() => {
  const all = (query) => [...document.querySelectorAll(query)];
  const seen = (node) => node.checkVisibility() && node.getBoundingClientRect().height > 0;
  const text = ".solution > *, .sd-summary-content, .question-reply, .spectral-explorer > img";
  const bars = ".bd-sidebar, .bd-header, .bd-header-article, .prev-next-footer, main button, main input[type=range]";
  const wrong = [...all(text).filter((node) => !seen(node)), ...all(bars).filter(seen)];
  return wrong.map((node) => node.outerHTML.slice(0, 200));
}"""

FIGURE = ".cell_output figure > img"
# Figures that are not turned over for the dark page, or pictures that are although they should not.
UNTURNED = f"""(dark) => [...document.querySelectorAll("main img")].filter((picture) => picture.checkVisibility() &&
  getComputedStyle(picture).filter.includes("invert") !== (dark && picture.matches("{FIGURE}")))
  .map((picture) => picture.alt)"""
GROUND = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"

MISSED = """() => {
  const names = new Set([...window.visited].map((node) => node.name));
  const reached = ([node, group]) => window.visited.has(node) || (group !== null && names.has(group));
  return [...window.wanted].filter((one) => !reached(one)).map(([node]) => node.outerHTML.slice(0, 200));
}"""


def is_ours(path: str) -> bool:
    """Tell what the book adds from what the theme, Sphinx and MathJax bring along."""
    inside = path.partition("/_static/")[2]
    return not inside or inside.startswith(OURS)


def faults(state: dict[str, Any], scheme: str) -> list[str]:
    """Say what is wrong with a page that is drawn."""
    found = [f"{key}: {state[key]}" for key in ("bareMath", "mathErrors", "emptyIcons") if state[key]]
    found += [f"is {state['overflow']} px too wide"] * (state["overflow"] > 0)
    return found + [f"is {state['theme']}"] * (state["theme"] != scheme)


def unreachable(page: Any) -> list[str]:
    """Unfold all that is folded on a page, by Enter, walk through it by Tab, and return what was never reached."""
    while count := page.evaluate(f"({FOLDED})().length"):
        page.evaluate(f"({FOLDED})()[0].focus()")
        page.keyboard.press("Enter")
        if page.evaluate(f"({FOLDED})().length") == count:
            return [f"Enter does not unfold {page.evaluate(f'({FOLDED})()[0].outerHTML')}"]
    # some are reached that are not asked for, and the browser's own once between rounds
    for _ in range(page.evaluate(EXPECTED) + 30):
        page.keyboard.press("Tab")
    return list(page.evaluate(MISSED))


def grave_findings(page: Any, *rules: str) -> list[str]:
    """Return what axe calls serious or critical on a page, all unfolded and the pointer on a link."""
    page.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true; })")
    for link in page.locator("article p > a:visible, .prev-next-footer a:visible").all()[:1]:
        link.hover()
    page.evaluate(SETTLED)
    return [
        f"{finding['id']}: {node['html'][:200]}" for finding in grave(page, rules=rules) for node in finding["nodes"]
    ]


def off_ground(page: Any, dark: bool) -> list[str]:
    """Return the figures that were left as they are in the dark, or whose ground is not the page's."""
    found: list[str] = page.evaluate(UNTURNED, dark)
    for figure in page.locator(FIGURE).all()[:1]:
        with Image.open(BytesIO(figure.screenshot())) as shot:
            corner = shot.convert("RGB").getpixel((3, 3))
        ground = page.evaluate(GROUND)
        if max(abs(a - b) for a, b in zip(corner, ground, strict=False)) > 2:
            found.append(f"a figure's ground is {corner}, the page's {ground}")
    return found


def on_paper(page: Any) -> list[str]:
    """Return what a printed page lacks, and what it should leave out."""
    page.emulate_media(media="print")
    return list(page.evaluate(PAPER))


# --- one visit --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Visit:
    """What was found on a page: faults, what axe calls grave, what Tab missed, figures whose ground is not the page's,
    code that is cut off, what is wrong on paper, our bytes, seconds to first paint."""

    faults: list[str]
    axe: list[str]
    missed: list[str]
    figures: list[str]
    cut: list[str]
    paper: list[str]
    weight: int
    paint: float


def look(context: Any, path: Path, scheme: str) -> Visit:
    """Open a page from its folder without a network, and look for all that may be wrong with it."""
    found: list[str] = []
    loaded: set[str] = set()
    page = context.new_page()

    def asks(request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            found.append(f"asks for {request.url}")

    def hear(message: Any) -> None:
        if message.type == "error" and not any(noise in message.text for noise in KNOWN_CONSOLE_NOISE):
            found.append(f"logs {message.text}")

    page.on("request", asks)
    page.on("console", hear)
    page.on("pageerror", lambda error: found.append(f"throws {error}"))
    page.on("requestfailed", lambda request: found.append(f"misses {request.url}"))
    page.on("requestfinished", lambda request: loaded.add(request.url))
    page.goto(path.as_uri(), wait_until="load")
    if not page.evaluate(READY):
        found.append("does not draw an explorer")
    state = page.evaluate(STATE)
    found += faults(state, scheme)
    files = {unquote(urlparse(url).path) for url in loaded if url.startswith("file:")}
    weight = sum(Path(file).stat().st_size for file in files if is_ours(file))
    if scheme == "light":
        paper = on_paper(page)  # while all is folded
        page.emulate_media(media="screen")
        missed, figures = unreachable(page), off_ground(page, dark=False)
        axe, cut = grave_findings(page), page.evaluate(CUT)
    else:
        paper, missed, cut = [], unreachable(page), []
        page.set_viewport_size({"width": WIDE, "height": 800})
        figures = off_ground(page, dark=True)
        axe = grave_findings(page, "color-contrast")  # nothing else that axe looks at differs in the dark
    return Visit(found, axe, missed, figures, cut, paper, weight, state["paint"])


def pages_of(site: Path) -> dict[str, Path]:
    """Return the pages of a built site that are no mere redirection, by name."""
    found = {path.relative_to(site).with_suffix("").as_posix(): path for path in sorted(site.rglob("*.html"))}
    return {name: path for name, path in found.items() if "_static" not in name and name != "index"}


@contextmanager
def opened(browser: Any, scheme: str = "light", width: int = WIDE) -> Iterator[Any]:
    """A browser that has seen nothing yet, and has no network."""
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    try:
        yield context
    finally:
        context.close()


@pytest.fixture(scope="module")
def visits(browser: Any, built_book: Any) -> dict[str, Visit]:
    """All visits, by page and scheme."""
    found = {}
    for name, path in pages_of(built_book.html).items():
        for scheme, width in (("light", WIDE), ("dark", NARROW)):
            with opened(browser, scheme, width) as context:
                found[f"{name}, {scheme}, {width} px"] = look(context, path, scheme)
    return found


def of_all(visits: dict[str, Visit], what: str) -> str:
    """Return the findings of one kind, as JSON, nothing where there are none."""
    found = {name: getattr(visit, what) for name, visit in visits.items() if getattr(visit, what)}
    return json.dumps(found, indent=1)[:8000] if found else ""


def test_every_page_of_the_book_is_visited(visits: dict[str, Visit]) -> None:
    names = {name.partition(",")[0] for name in visits}
    assert {"search", "genindex", "py-modindex", "book/index", "book/reference/configuration"} <= names
    assert len(visits) == 2 * len(names) > 40


def test_every_page_is_whole_without_a_network(visits: dict[str, Visit]) -> None:
    assert of_all(visits, "faults") == ""


def test_axe_finds_nothing_serious_on_any_page(visits: dict[str, Visit]) -> None:
    assert of_all(visits, "axe") == ""


def test_everything_can_be_reached_from_the_keyboard(visits: dict[str, Visit]) -> None:
    assert of_all(visits, "missed") == ""


def test_figures_stand_on_the_ground_of_the_page(visits: dict[str, Visit]) -> None:
    assert of_all(visits, "figures") == ""


def test_no_line_of_code_is_cut_off(visits: dict[str, Visit]) -> None:
    assert of_all(visits, "cut") == ""


def test_paper_shows_what_is_folded_and_nothing_to_press(visits: dict[str, Visit]) -> None:
    assert of_all(visits, "paper") == ""


def test_without_javascript_every_state_answer_and_solution_can_be_seen(browser: Any, built_book: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    least = {".spectral-explorer": 7, ".question-reply": 90, ".solution > section": 20, ".sd-summary-content": 20}
    counts = dict.fromkeys(least, 0)
    for name, path in pages_of(built_book.html).items():
        page.goto(path.as_uri())
        for bar in page.query_selector_all("main details:not([open]) > summary"):
            bar.click()
        for query in least:
            found = page.locator(f"main {query}").all()
            shown = [one.locator("> img") for one in found] if query == ".spectral-explorer" else found
            assert all(one.is_visible() for one in shown), f"{name}: {query}"
            counts[query] += len(found)
    context.close()
    assert all(counts[query] >= number for query, number in least.items()), counts


def test_pages_without_explorers_are_light(
    built_book: Any, visits: dict[str, Visit], record_property: Callable[..., None]
) -> None:
    heavy = []
    for name, path in pages_of(built_book.html).items():
        explores = "spectral-explorer" in path.read_text(encoding="utf-8")
        size = max(visit.weight for place, visit in visits.items() if place.startswith(f"{name},"))
        print(f"{name}: {size / 1e3:.0f} kB{' with explorers' if explores else ''}")
        record_property(f"kilobytes_{name}", round(size / 1e3))
        assert size > path.stat().st_size, name  # the page itself and more: nothing was lost on the way
        heavy += [name] * (size > WEIGHT and not explores)
    assert not heavy


@pytest.mark.nightly
def test_the_first_content_appears_soon(visits: dict[str, Visit], record_property: Callable[..., None]) -> None:
    worst = max(visits, key=lambda name: visits[name].paint)
    seconds = visits[worst].paint
    print(f"first content after at most {seconds:.2f} s ({worst})")
    record_property("first_content_seconds", round(seconds, 2))
    assert seconds <= PAINT, worst


# --- the landing page -------------------------------------------------------------------------------------------------

PLACES = """() => {
  const box = (query) => document.querySelector(query).getBoundingClientRect();
  const buttons = document.querySelectorAll("main .sd-btn").length;
  return {top: box(".spectral-explorer").top, plane: box(".spectral-explorer .se-plane").bottom, buttons};
}"""


def places(browser: Any, path: Path, width: int) -> dict[str, float]:
    with opened(browser, width=width) as context:
        page = context.new_page()
        page.goto(path.as_uri(), wait_until="load")
        assert page.evaluate(READY)
        return page.evaluate(PLACES)


def test_the_landing_page_shows_its_explorer_first(browser: Any, built_book: Any) -> None:
    path = built_book.html / "book" / "index.html"
    wide = places(browser, path, WIDE)
    assert wide["top"] <= 300
    assert wide["plane"] <= 900
    assert wide["buttons"] == 1
    assert places(browser, path, NARROW)["top"] <= 450
