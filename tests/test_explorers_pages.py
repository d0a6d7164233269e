"""Explorers in a browser: in built pages without a network, and in JupyterLab with a kernel."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from accessibility import grave
from bs4 import BeautifulSoup
from explorers.small import EVIL, shrink
from nbformat.v4 import new_code_cell
from stubs import FIGURES, HEAD, write_notebook

import spectral_tutorial as st
from spectral_tutorial import explorers
from spectral_tutorial.explorers import base, sphinx_extension

pytestmark = pytest.mark.slow

NOISE = ("Identifier 'THEBE_JS_URL' has already been declared", "Got invalid theme mode")
COUNT = {"one": 2, "two": 2, "three": 2, "four": 2}
KINDS = {
    "one": {"spectrum", "gap"},
    "two": {"gap", "trajectory"},
    "three": {"spectrum"},
    "four": {"error_map", "belief"},
}
every_page = pytest.mark.parametrize("name", list(FIGURES))


@pytest.fixture(scope="module")
def site(stub_books: Any) -> Any:
    return stub_books.local


@pytest.fixture(scope="module")
def exp(site: Any) -> st.Experiment:
    return st.Experiment.from_yaml(site.folder / "book" / "meta_config.yaml")


class Visit:
    """A page opened without a network, and what went wrong on it."""

    def __init__(self, context: Any, path: Path) -> None:
        self.page, self.faults = context.new_page(), []
        self.page.on("request", self._look)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(f"throws {error}"))
        self.page.on("dialog", lambda dialog: self.faults.append(f"says {dialog.message}") or dialog.dismiss())
        self.page.goto(path.as_uri(), wait_until="load")

    def _look(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.faults.append(f"asks for {request.url}")

    def _hear(self, message: Any) -> None:
        if message.type == "error" and not any(noise in message.text for noise in NOISE):
            self.faults.append(f"logs {message.text}")

    def figure(self, kind: str, which: int = 0) -> Any:
        return self.page.locator(f'[data-explorer="{kind}"][data-mounted]').nth(which)

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.fixture
def visit(browser: Any, site: Any) -> Iterator[Callable[..., Visit]]:
    contexts = []

    def opened(name: str, **options: Any) -> Visit:
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "offline": True, **options}))
        found = Visit(contexts[-1], site.html / "book" / f"{name}.html")
        if name in COUNT and options.get("java_script_enabled", True):
            found.page.wait_for_function(f"document.querySelectorAll('[data-mounted]').length === {COUNT[name]}")
            found.settle()
        return found

    yield opened
    for context in contexts:
        context.close()


# --- the page ---------------------------------------------------------------------------------------------------------

TARGETS = """() => [...document.querySelectorAll(".se-root :is(input, select, button)")]
  .map((node) => [node.outerHTML, Math.min(...["width", "height"].map((side) => node.getBoundingClientRect()[side]))])
  .filter(([, size]) => size < 24)"""


@every_page
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 375)])
def test_every_explorer_is_whole_and_accessible_without_a_network(
    visit: Callable[..., Visit], name: str, scheme: str, width: int
) -> None:
    opened = visit(name, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = opened.page
    found = grave(page, ".se-root")
    assert not found, json.dumps(found, indent=1)[:4000]
    assert page.evaluate(TARGETS) == []
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert page.locator("html").get_attribute("data-theme") == scheme
    assert page.locator('img[src="x"]').count() == 0
    assert EVIL in page.locator(".se-root").first.inner_text()
    assert opened.faults == []


@every_page
def test_a_page_loads_what_it_shows_and_no_more(site: Any, name: str, record_property: Callable[..., None]) -> None:
    path = site.html / "book" / f"{name}.html"
    soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
    scripts = [str(tag["src"]).partition("?")[0] for tag in soup.select('script[src*="/explorers/"]')]
    assert {Path(src).stem.partition("-")[0] for src in scripts} == KINDS[name]
    contents = [path.read_bytes(), *((path.parent / src).read_bytes() for src in scripts)]
    raw, packed = sum(map(len, contents)), sum(len(gzip.compress(content)) for content in contents)
    print(f"{name}: {raw / 1e3:.0f} kB, gzipped {packed / 1e3:.0f} kB")
    record_property("page_kilobytes", round(raw / 1e3))
    assert raw <= 1_500_000
    assert packed <= 900_000


def test_a_page_without_explorers_loads_nothing_of_theirs(site: Any) -> None:
    for name in ("book/index", "search", "genindex"):
        assert "explorers/" not in (site.html / f"{name}.html").read_text(encoding="utf-8"), name


def test_the_page_has_the_module_text_of_the_notebook(site: Any, exp: st.Experiment) -> None:
    for figure in (explorers.SpectrumExplorer, explorers.GapExplorer, explorers.TrajectoryPlayer, explorers.ErrorMap):
        script = (site.html / "_static" / "explorers" / f"{figure.kind}.js").read_text(encoding="utf-8")
        assert json.dumps(figure(exp)._esm) in script
    notebook = (site.html / "_sources" / "book" / "one.ipynb").read_text(encoding="utf-8")
    assert "widget-state" not in notebook


@every_page
def test_without_scripts_there_is_a_picture(visit: Callable[..., Visit], name: str) -> None:
    opened = visit(name, java_script_enabled=False)
    pictures = opened.page.locator(".spectral-explorer > img")
    assert pictures.count() == COUNT[name]
    assert all(picture.bounding_box()["width"] > 300 for picture in pictures.all())
    assert opened.faults == []


def value(slider: Any) -> float:
    return float(slider.input_value())


ENDS = """(root) => {
  const broken = [];
  for (const input of root.querySelectorAll("input[type=range]")) {
    for (const end of [input.min, input.max]) {
      input.value = end;
      input.dispatchEvent(new Event("input", { bubbles: true }));
      if (input.value !== end) broken.push(`${input.outerHTML} is at ${input.value}`);
      if (/NaN|Infinity|undefined/.test(root.innerHTML)) broken.push(`${input.outerHTML} breaks at ${end}`);
    }
  }
  for (const select of root.querySelectorAll("select")) {
    for (const option of [...select.options].map((choice) => choice.value)) {
      select.value = option;
      select.dispatchEvent(new Event("change", { bubbles: true }));
      if (/NaN|Infinity|undefined/.test(root.innerHTML)) broken.push(`${select.outerHTML} breaks at ${option}`);
    }
  }
  for (const button of root.querySelectorAll("button")) button.click();
  return broken;
}"""


@every_page
def test_every_control_works_at_both_ends_of_its_range(visit: Callable[..., Visit], name: str) -> None:
    opened = visit(name)
    for root in opened.page.locator("[data-mounted]").all():
        assert root.locator("input[type=range]").count() > 0
        assert root.evaluate(ENDS) == []
    opened.settle()
    assert opened.faults == []


OUTSIDE = """async (root) => {
  // curves that leave their frame, with the sliders at every combination of their ends
  const inputs = [...root.querySelectorAll("input[type=range]")];
  const outside = [];
  for (let which = 0; which < 2 ** inputs.length; which++) {
    inputs.forEach((input, i) => {
      input.value = (which >> i) & 1 ? input.max : input.min;
      input.dispatchEvent(new Event("input", { bubbles: true }));
    });
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    for (const chart of root.querySelectorAll("svg.se-chart")) {
      const frame = chart.querySelector("clipPath rect").getBBox();
      for (const path of chart.querySelectorAll("g[clip-path] path")) {
        if (!path.getAttribute("d")) continue;
        const { x, y, width, height } = path.getBBox();
        const off = [frame.x - x, frame.y - y, x + width - frame.x - frame.width, y + height - frame.y - frame.height];
        if (Math.max(...off) > 0.2) outside.push([path.getAttribute("class"), inputs.map(({ value }) => value), off]);
      }
    }
  }
  return outside;
}"""


@every_page
def test_no_curve_leaves_its_frame(visit: Callable[..., Visit], name: str) -> None:
    for root in visit(name).page.locator("[data-mounted]").all():
        assert root.evaluate(OUTSIDE) == []


TOGETHER = """(root) => {
  const parts = [...root.querySelectorAll("input[type=range], select, .se-chart, .se-strip")];
  const boxes = parts.map((node) => node.getBoundingClientRect());
  return Math.max(...boxes.map((box) => box.bottom)) - Math.min(...boxes.map((box) => box.top));
}"""


@every_page
def test_on_a_phone_sliders_and_what_they_move_are_on_the_screen_together(
    visit: Callable[..., Visit], name: str
) -> None:
    for root in visit(name, viewport={"width": 375, "height": 667}).page.locator("[data-mounted]").all():
        assert 200 < root.evaluate(TOGETHER) <= 667


@every_page
def test_whatever_has_the_focus_shows_it(visit: Callable[..., Visit], name: str) -> None:
    page = visit(name).page
    controls = page.locator("[data-mounted] :is(input, select, button, [tabindex='0'])").all()
    assert controls
    for control in controls:
        page.keyboard.press("Tab")  # the browser shows the focus of whoever uses the keyboard
        control.focus()
        look = control.evaluate("(node) => [getComputedStyle(node).outlineStyle, getComputedStyle(node).outlineWidth]")
        assert look[0] != "none", control.evaluate("(node) => node.outerHTML")
        assert look[1] != "0px", control.evaluate("(node) => node.outerHTML")


def test_sliders_answer_to_mouse_and_keys_and_leave_others_alone(visit: Callable[..., Visit]) -> None:
    opened = visit("three")
    first, second = opened.figure("spectrum", 0), opened.figure("spectrum", 1)
    untouched = second.inner_html()
    slider = first.get_by_label("Temperature")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    opened.page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
    opened.settle()
    assert 6400 < value(slider) < 6800
    assert f"{value(slider):,.0f} K" in first.inner_text()
    before = value(slider)
    opened.page.keyboard.press("ArrowLeft")
    opened.settle()
    assert value(slider) == before - 10
    assert slider.get_attribute("aria-valuetext") == f"{before - 10:,.0f} K"
    first.get_by_label("First line").select_option("comp7")
    opened.settle()
    assert first.get_by_label("Abundance of comp7").count() == 1
    first.get_by_label("Second line").select_option("comp7")
    opened.settle()
    assert first.get_by_label("First line").input_value() == EVIL  # the two changed places
    assert "comp7" in first.get_by_role("status").evaluate(
        "(node) => new Promise((done) => setTimeout(() => done(node.textContent), 1200))"
    )
    assert second.inner_html() == untouched
    assert opened.faults == []


def test_sliders_and_the_plane_answer_to_touch(visit: Callable[..., Visit]) -> None:
    opened = visit("one", viewport={"width": 375, "height": 800}, has_touch=True, is_mobile=True)
    slider = opened.figure("spectrum").get_by_label("Noise")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    opened.page.touchscreen.tap(box["x"] + 0.5 * box["width"], box["y"] + box["height"] / 2)
    opened.settle()
    assert 0.06 < value(slider) < 0.09
    plane = opened.figure("gap").locator(".se-plane")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    opened.page.touchscreen.tap(box["x"] + 0.5 * box["width"], box["y"] + 0.3 * box["height"])
    opened.settle()
    x = value(opened.figure("gap").get_by_label("Abundance of comp10"))
    assert 0.3 < x < 0.6
    assert opened.faults == []


def rows(figure: Any) -> dict[str, list[float]]:
    """Return what the table of predictions says, by network."""
    found = {}
    for row in figure.locator("tbody tr").all():
        cells = [text.replace("\N{MINUS SIGN}", "-") for text in row.locator("td").all_inner_texts()]
        found[row.locator("th").inner_text().split("\n")[0].strip()] = [float(text) for text in cells if text]
    return found


def test_the_plane_answers_with_what_the_trained_networks_say(visit: Callable[..., Visit], exp: st.Experiment) -> None:
    opened = visit("one")
    figure = opened.figure("gap")
    plane = figure.locator(".se-plane")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    opened.page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.4 * box["height"])
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"], steps=5)
    opened.page.mouse.up()
    plane.press("ArrowRight")
    plane.press("Shift+ArrowDown")
    opened.settle()
    sliders = [figure.get_by_label(f"Abundance of {label}") for label in exp.reported]
    state = {"abundance": list(map(value, sliders)), "temperature": value(figure.get_by_label("Temperature"))}
    before = explorers.GapExplorer(exp, **state)
    table = rows(figure)
    trained = exp.outputs(before.spectrum().flux)[:, 0, exp.world.index(exp.reported)]
    for name in before.shown:
        answer = trained[exp.config.meta.training_seed.index(int(name.split()[1]))]
        shown = next(numbers for row, numbers in table.items() if row.startswith(name))
        assert shown[:2] == pytest.approx(answer.tolist(), abs=0.0052 + 2e-3)
    assert opened.figure("spectrum").get_by_label("Abundance of comp10").input_value() == "0.6"
    assert opened.faults == []


def test_lines_noise_and_networks_answer(visit: Callable[..., Visit]) -> None:
    opened = visit("one")
    figure = opened.figure("gap")
    first = rows(figure)
    assert first["truth"] == [0.6, 0]
    for name, truth in ((f"Add {EVIL}", [0.6, 0.6]), ("Remove comp10", [0, 0.6]), (f"Remove {EVIL}", [0, 0])):
        figure.get_by_role("button", name=name, exact=True).click()
        opened.settle()
        assert rows(figure)["truth"] == truth
    first = rows(figure)
    figure.get_by_role("button", name="New noise").click()
    opened.settle()
    assert rows(figure) != first
    box = figure.get_by_role("checkbox").first
    box.uncheck()
    opened.settle()
    assert [] in rows(figure).values()
    for other in figure.get_by_role("checkbox").all():
        other.uncheck()
    opened.settle()
    assert "No network is shown." in figure.inner_text()
    assert opened.faults == []


def test_a_question_comes_first_and_its_answer_adds_the_line(visit: Callable[..., Visit], exp: st.Experiment) -> None:
    opened = visit("two")
    figure = opened.figure("gap")
    assert rows(figure)["truth"] == [0.6, 0]
    question = figure.get_by_role("group", name="A question before you begin")
    guess = question.get_by_role("button", name="Clearly more")
    guess.focus()
    opened.page.keyboard.press("Enter")
    opened.settle()
    assert guess.get_attribute("aria-pressed") == "true"
    assert rows(figure)["truth"] == [0.6, 0.6]
    explorer = explorers.GapExplorer(exp, abundance=[0.6, 0.6])
    name = explorer.payload["middle"]
    shown = round(float(explorer.predicted()[name][1]), 2)
    said = figure.locator(".se-said").inner_text()
    assert said.startswith("Yes." if shown > 0.7 else "No.")
    assert f"{name} predicts {shown:.2f}".replace("-", "\N{MINUS SIGN}") in said
    assert f"{abs(shown - 0.6):.2f} too {'high' if shown > 0.6 else 'low'}" in said
    figure.get_by_role("button", name=f"Remove {EVIL}").click()
    opened.settle()
    assert figure.locator(".se-said").inner_text() == said  # what was answered stays
    assert opened.faults == []


def test_the_map_shows_the_run_that_is_chosen(visit: Callable[..., Visit], exp: st.Experiment) -> None:
    opened = visit("four")
    figure = opened.figure("error_map")
    picture = figure.locator("image")
    before = picture.get_attribute("href")
    figure.get_by_role("slider").focus()
    for _ in range(2):
        opened.page.keyboard.press("ArrowRight")
    figure.get_by_label("Error of").select_option("comp10")
    opened.settle()
    assert picture.get_attribute("href") != before
    assert figure.locator(".se-shown").get_attribute("d").count("M") == 16
    known, held = explorers.ErrorMap(exp, run=2, component="comp10").errors()
    said = figure.locator(".se-verdict").inner_text()
    numbers = re.findall(r"is (\d\.\d+) on .* and (\d\.\d+) on .*: ([\d.]+) times", said)
    assert [float(text) for text in numbers[0]] == pytest.approx([known, held, held / known], rel=0.06)
    assert "16 of 256" in said
    assert opened.faults == []


def test_the_belief_moves_the_prediction(visit: Callable[..., Visit], exp: st.Experiment) -> None:
    opened = visit("four")
    figure, explorer = opened.figure("belief"), explorers.BeliefExplorer(exp, star=1)
    figure.get_by_label("Star").select_option("1")
    said = []
    for key, belief in (("Home", 0.0), ("End", 1.0)):
        figure.get_by_role("slider").press(key)
        opened.settle()
        explorer.belief = belief
        said.append(figure.locator(".se-verdict").inner_text().replace("\N{MINUS SIGN}", "-"))
        numbers = re.findall(r"predicts (-?\d\.\d+) and (-?\d\.\d+):", said[-1])
        assert [float(text) for text in numbers[0]] == pytest.approx(explorer.predicted().tolist(), abs=0.0051)
    assert "“never”" in said[0]
    assert "“always”" in said[1]
    assert said[0] != said[1]
    both = figure.get_by_role("row", name="both lines")
    assert both.locator("td").all_inner_texts() == ["100 %", "100 %"]
    assert opened.faults == []


def test_the_player_says_what_the_tables_say(visit: Callable[..., Visit], exp: st.Experiment) -> None:
    opened = visit("two")
    figure = opened.figure("trajectory")
    figure.get_by_label("Network").select_option("125")
    scrub = figure.get_by_role("slider", name="Checkpoint")
    scrub.focus()
    opened.page.keyboard.press("Home")
    opened.page.keyboard.press("ArrowRight")
    opened.page.keyboard.press("ArrowRight")
    opened.settle()
    step = exp.predictions().steps[2]
    table = (
        exp.trajectories().query("data_seed == 42").set_index(["training_seed", "step", "split", "component"])["mse"]
    )
    known, held = (table[125, step, split, exp.reported[1]] for split in ("val", "test"))
    said = figure.locator(".se-verdict").inner_text()
    numbers = re.findall(r"is (\d\.\d+) on .* and (\d\.\d+) on", said)
    assert [float(text) for text in numbers[0]] == pytest.approx([known, held], abs=1e-4)
    assert opened.faults == []


def test_the_player_plays_and_pauses(visit: Callable[..., Visit]) -> None:
    opened = visit("two", reduced_motion="no-preference")
    figure = opened.figure("trajectory")
    scrub, play = figure.get_by_role("slider", name="Checkpoint"), figure.locator(".se-play")
    scrub.focus()
    opened.page.keyboard.press("Home")
    play.click()
    opened.page.wait_for_function("document.querySelector('.se-player input').value >= 2")
    assert play.inner_text() == "Pause"
    play.click()
    at = value(scrub)
    opened.page.wait_for_timeout(500)
    assert value(scrub) == at
    play.click()
    opened.page.emulate_media(reduced_motion="reduce")
    opened.page.wait_for_function("document.querySelector('.se-play').textContent !== 'Pause'")
    at = value(scrub)
    opened.page.wait_for_timeout(500)
    assert value(scrub) == at
    play.click()
    opened.page.wait_for_timeout(500)
    assert value(scrub) == at + 1
    assert opened.faults == []


MOVES = """async ([kind, label]) => {
  // what a move costs: its event and the frame that it asks for, without the browser's own painting
  let spent = 0;
  const later = window.requestAnimationFrame;
  window.requestAnimationFrame = (call) => later((now) => {
    const start = performance.now();
    call(now);
    spent += performance.now() - start;
  });
  const figure = document.querySelector(`[data-explorer="${kind}"]`);
  const labels = [...figure.querySelectorAll("label")];
  const slider = labels.find((node) => node.textContent.startsWith(label)).querySelector("input");
  const costs = [];
  for (let i = 0; i < 200; i++) {
    spent = 0;
    const start = performance.now();
    slider.value = Number(slider.min) + (((61 * i) % 97) / 97) * (slider.max - slider.min); // never twice the same
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    spent += performance.now() - start;
    await new Promise((done) => later(() => later(done)));
    costs.push(spent);
  }
  window.requestAnimationFrame = later;
  return costs;
}"""


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "kind", "label"),
    [
        ("one", "spectrum", "Temperature"),
        ("one", "gap", "Abundance of comp10"),
        ("two", "trajectory", "Checkpoint"),
        ("four", "error_map", "Combinations"),
        ("four", "belief", "Believed"),
    ],
)
def test_a_move_costs_little(
    visit: Callable[..., Visit], name: str, kind: str, label: str, record_property: Callable[..., None]
) -> None:
    costs = visit(name).page.evaluate(MOVES, [kind, label])
    print(f"{kind}: median {median(costs):.2f} ms, worst {max(costs):.2f} ms")
    record_property(f"{kind}_move_ms", round(median(costs), 2))
    assert len(costs) == 200
    assert median(costs) <= 5.0


def test_a_change_of_the_script_or_of_the_weights_reaches_the_page(stub_books: Any, browser: Any) -> None:
    weights = []
    for html in (stub_books.local.html, stub_books.published.html):
        (script,) = (html / "_static" / "explorers").glob("gap-*.js")
        weights.append(script.read_text(encoding="utf-8"))
    assert weights[0] != weights[1]
    context = browser.new_context()
    page = context.new_page()
    page.goto((stub_books.published.html / "book" / "one.html").as_uri(), wait_until="load")
    page.get_by_role("button", name="Other noise").wait_for()
    context.close()


# --- JupyterLab -------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, copy_project: Callable[[], Path]) -> Iterator[tuple[str, Path]]:
    """A JupyterLab server over a small book; gives its address and the folder."""
    pytest.importorskip("jupyterlab")
    folder = copy_project() / "book"
    shrink(folder)
    cells = [HEAD, "spectrum = explorers.SpectrumExplorer(exp)\nspectrum"]
    cells += ["gap = explorers.GapExplorer(exp)\ngap", "panel = explorers.TrainPanel(exp, epochs=1)\npanel"]
    cells += ["play = explorers.Playground(settings={'steps': 250, 'seeds': 1, 'spectra': 1024})\nplay"]
    write_notebook(folder / "live.ipynb", list(map(new_code_cell, cells)))
    port, home = free_port(), tmp_path_factory.mktemp("jupyter")
    own = {"JUPYTER_CONFIG_DIR": str(home), "JUPYTER_DATA_DIR": str(home), "JUPYTER_RUNTIME_DIR": str(home)}
    environment = {**os.environ, **own, "PYTHONPATH": str(folder.parent)}
    environment.pop(base.BOOK_VARIABLE, None)
    options = ["--no-browser", f"--port={port}", "--ServerApp.port_retries=0", "--allow-root"]
    options += ["--IdentityProvider.token=", "--expose-app-in-browser", "--LabApp.news_url=None"]
    options += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command = [sys.executable, "-m", "jupyterlab", *options, "--ServerApp.disable_check_xsrf=True"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status").status == 200)
            yield f"http://127.0.0.1:{port}", home
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(60)
            server.kill()


def wait_for(ready: Callable[[], Any], seconds: float = 300.0) -> Any:
    """Call until there is an answer."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := ready():
                return found
        except OSError:
            pass
        assert time.monotonic() < end, f"nothing after {seconds} s"
        time.sleep(0.2)


class Python:
    """The notebook's own kernel, asked from outside."""

    def __init__(self, address: str, runtime: Path) -> None:
        from jupyter_client import BlockingKernelClient

        (session,) = wait_for(lambda: json.load(urllib.request.urlopen(f"{address}/api/sessions")))
        file = runtime / f"kernel-{session['kernel']['id']}.json"
        self.client = BlockingKernelClient(connection_file=str(file))
        self.client.load_connection_file()
        self.client.start_channels()

    def __call__(self, expression: str, statement: str = "") -> Any:
        reply = self.client.execute(
            statement, user_expressions={"it": f"__import__('json').dumps({expression})"}, reply=True, timeout=300
        )
        return json.loads(eval(reply["content"]["user_expressions"]["it"]["data"]["text/plain"]))


def test_in_jupyterlab_values_go_both_ways(lab: tuple[str, Path], browser: Any) -> None:
    address, runtime = lab
    context = browser.new_context(viewport={"width": 1280, "height": 1600})
    page = context.new_page()
    page.goto(f"{address}/lab/tree/live.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    python = Python(address, runtime)
    wait_for(lambda: page.evaluate("window.jupyterapp?.commands.hasCommand('notebook:run-all-cells')"))
    # Before the notebook has its kernel the command does nothing, and says nothing: ask until a cell has run.
    ran = r"[...document.querySelectorAll('.jp-InputArea-prompt')].some((p) => /\[(\*|\d+)\]/.test(p.textContent))"
    run = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
    wait_for(lambda: page.evaluate(f"{run}.then(() => {ran})"))
    roots = page.locator(".jp-OutputArea .se-root")
    page.wait_for_function("document.querySelectorAll('.jp-OutputArea .se-root svg').length > 3")
    slider = roots.first.get_by_label("Temperature")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + box["height"] / 2)
    wait_for(lambda: python("spectrum.temperature") == float(slider.input_value()) != 5000)
    before = python("spectrum.temperature")
    page.keyboard.press("ArrowRight")
    wait_for(lambda: python("spectrum.temperature") == before + 10)
    page.keyboard.press("ArrowUp")
    wait_for(lambda: python("spectrum.temperature") == before + 20)
    python("1", "spectrum.temperature = 6100.0; spectrum.lines = ['comp1', 'comp2']")
    wait_for(lambda: slider.input_value() == "6100")
    wait_for(lambda: roots.first.get_by_label("First line").input_value() == "comp1")
    slider.evaluate(
        """(node) => { for (let i = 1; i <= 100; i++) {
          node.value = 3000 + 10 * i;
          node.dispatchEvent(new Event("input", { bubbles: true }));
        } }"""
    )
    wait_for(lambda: python("spectrum.temperature") == 4000)
    plane = roots.nth(1).locator(".se-plane")
    plane.scroll_into_view_if_needed()
    plane.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    wait_for(lambda: python("gap.abundance") == pytest.approx([0.61, 0.1]))
    assert python("len(gap.predicted())") == 3
    text = sphinx_extension.module_text("spectrum")
    assert python("spectrum._esm") == text
    page.locator("button.jupyter-button", has_text="Train").click()
    wait_for(lambda: python("panel.progress is not None and panel.error is None"))
    page.get_by_text("steps the error in").wait_for()
    playground = page.locator(".se-playground")
    python("1", "play.support = explorers.playground.PRESETS['far quarter']")
    wait_for(lambda: playground.locator(".sp-on").count() == 17 + 16)
    playground.get_by_role("button", name="Train", exact=True).click()
    wait_for(lambda: python("[len(play.error_map), (play.history or {'step': [0]})['step'][-1:]]") == [16, [250]])
    context.close()
