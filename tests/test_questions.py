"""Questions and exercises: the directive, grading and folds in a browser, and what each chapter has of both."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from accessibility import violations
from bs4 import BeautifulSoup

BOOK = Path(__file__).resolve().parents[1] / "book"
CHAPTERS = sorted(BOOK.glob("0*.ipynb"))
chapters = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)

CONF = f"""
import sys
sys.path.insert(0, {str(BOOK / "_ext")!r})
extensions = ["myst_parser", "sphinx.ext.mathjax", "sphinx_togglebutton", "questions", "book_solutions"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
mathjax_path = "none.js"
html_theme = "sphinx_book_theme"
html_context = {{"default_mode": "auto"}}
html_static_path = [{str(BOOK / "assets")!r}]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
"""
INDEX = """# Index

{ref}`question-boil`

```{toctree}
two
```
"""
TWO = """# Two

:::{question}
:name: question-boil

At which temperature does water boil at height $h$?

```python
height = 8000
```

- (x) Below $100$ °C.

  The air presses less.

- ( ) `At 100 °C`.

  That holds at sea level.

- ( ) $100 + h$

  Think of what keeps a bubble small.
:::

```{question}
Which of these are **prime**?

- (x) 2

  Even, and prime.
- (x) 3

  Prime.
- ( ) 4

  Two times two.
```
"""
# An opened box is narrower inside than a closed one: some of these lines fit into the one and not into the other.
LINES = "\n\n".join(f"```python\n{'x' * length}\n```" for length in range(24, 48))
SOLVED = """
:::{{exercise}} Title {letter} of some length with $x^2$ in it
:label: exercise-{letter}

Do it.
:::

::::{{solution}} exercise-{letter}
:class: dropdown

Done {letter}.

{lines}
::::
"""
EXERCISES = SOLVED.format(letter="a", lines=LINES) + SOLVED.format(letter="b", lines="")
FAULTS = {
    "no list": (":::{question}\nOnly a prompt.\n:::", "one bullet list"),
    "no prompt": (":::{question}\n- (x) a\n\n  s\n- ( ) b\n\n  s\n:::", "paragraph of prompt"),
    "text after the list": (":::{question}\nWhy?\n\n- (x) a\n\n  s\n- ( ) b\n\n  s\n\nMore.\n:::", "one bullet list"),
    "no right answer": (":::{question}\nWho is it?\n\n- ( ) a\n\n  s\n- ( ) b\n\n  s\n:::", "“Who is it? ...” needs"),
    "one answer": (":::{question}\nWhy?\n\n- (x) a\n\n  s\n:::", "two answers or more"),
    "no sentence": (":::{question}\nWhy?\n\n- (x) a\n\n  s\n- ( ) b\n:::", "lacks the sentence for the answer '( ) b'"),
    "no mark": (":::{question}\nWhy?\n\n- (x) a\n\n  s\n- b\n\n  s\n:::", "does not begin with ( ) or (x): 'b'"),
}


def sphinx(folder: Path, builder: str, **pages: str) -> Any:
    """Build a small project in a process of its own, as strictly as the book."""
    folder.mkdir(exist_ok=True)
    (folder / "conf.py").write_text(CONF, encoding="utf-8")
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", "-b", builder, ".", builder]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("questions")
    done = sphinx(folder, "html", index=INDEX, two=TWO + EXERCISES)
    assert done.returncode == 0, done.stderr
    return folder


def soup(project: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((project / "html" / f"{name}.html").read_text(encoding="utf-8"), "html.parser")


# --- the directive ----------------------------------------------------------------------------------------------------


def test_a_question_is_a_group_of_native_buttons_with_labels(project: Path) -> None:
    boil, prime = soup(project, "two").select("fieldset.question")
    assert boil["id"] == "question-boil"
    assert boil.legend.get_text().startswith("Question 1. At which temperature")
    assert prime.legend.strong.get_text() == "Question 2."
    assert "height = 8000" in boil.select_one(".highlight").get_text()
    assert [button["type"] for button in boil.select("input")] == ["radio"] * 3
    assert [button["type"] for button in prime.select("input")] == ["checkbox"] * 3
    for group in (boil, prime):
        assert len({button["name"] for button in group.select("input")}) == 1
        labels = [group.select_one(f"label[for={button['id']}]").get_text() for button in group.select("input")]
        assert [label[:3] for label in labels] == ["A. ", "B. ", "C. "]
        replies = group.select("details .question-reply")  # behind a fold where there is no script
        assert [reply["data-answer"] for reply in replies] == ["A", "B", "C"]
    assert [reply["data-right"] for reply in prime.select(".question-reply")] == ["true", "true", "false"]
    assert "A. Right. The air presses less." in boil.details.get_text()
    assert "B. Not so. That holds at sea level." in boil.details.get_text()


def test_a_question_can_be_referred_to(project: Path) -> None:
    link = soup(project, "index").select_one("a.reference.internal[href='two.html#question-boil']")
    assert link.get_text() == "Question 1"


def test_only_pages_with_questions_load_their_script(project: Path) -> None:
    for name, expected in (("two", 1), ("index", 0)):
        assert len(soup(project, name).select("script[src*='questions.js']")) == expected
        assert len(soup(project, name).select("link[href*='questions.css']")) == expected
    assert 'type="module"' not in str(soup(project, "two").select("script[src*='questions.js']"))


@pytest.mark.parametrize("builder", ["text", "latex"])
def test_builders_without_forms_write_the_words(tmp_path: Path, builder: str) -> None:
    done = sphinx(tmp_path, builder, index=INDEX, two=TWO)
    assert done.returncode == 0, done.stderr
    written = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob(f"{builder}/*.t*"))
    for words in ("At which temperature", "B. ", "Not so.", "That holds at sea level."):
        assert words in written


def test_a_question_that_lacks_something_fails_the_build(tmp_path: Path) -> None:
    pages = {
        f"page{number}": f"---\norphan: true\n---\n\n# Page\n\n{text}\n"
        for number, (text, _) in enumerate(FAULTS.values())
    }
    done = sphinx(tmp_path, "html", index="# Index\n", **pages)
    assert done.returncode != 0
    for number, (name, (_, message)) in enumerate(FAULTS.items()):
        found = [line for line in done.stderr.splitlines() if f"page{number}.md:7: ERROR" in line]
        assert len(found) == 1, f"{name}:\n{done.stderr}"
        assert message in found[0], name
    assert "Traceback" not in done.stderr


def test_two_questions_cannot_share_a_name(tmp_path: Path) -> None:
    one = TWO.split("```{question}")[0]
    done = sphinx(tmp_path, "html", index=one + one.replace("# Two", "## Again"))
    assert done.returncode != 0
    assert "another question of this page is named 'question-boil'" in done.stderr


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def visit(browser: Any, project: Path) -> Iterator[Callable[..., Any]]:
    contexts = []

    def open_page(**settings: Any) -> Any:
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.goto((project / "html" / "two.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def answer(page: Any, name: str, *letters: str) -> str:
    """Choose answers, check them, and return what the question says then."""
    question = page.locator(f"#{name}")
    for letter in letters:
        question.get_by_label(f"{letter}. ").check()
    question.get_by_role("button", name="Check").click()
    return said(page, name)


def said(page: Any, name: str) -> str:
    return " ".join(page.locator(f"#{name}").get_by_role("status").inner_text().split())


@pytest.mark.slow
def test_one_right_answer_is_graded(visit: Callable[..., Any]) -> None:
    page = visit()
    assert said(page, "question-boil") == ""
    assert answer(page, "question-boil") == "Choose an answer first."
    assert answer(page, "question-boil", "B") == (
        "Not yet: read why, and choose again. B. Not so. That holds at sea level."
    )
    page.locator("#question-boil").get_by_label("A. ").check()
    assert said(page, "question-boil") == ""  # a verdict belongs to the choice that it was given for
    assert answer(page, "question-boil") == "Well predicted. A. Right. The air presses less."


@pytest.mark.slow
def test_several_right_answers_are_graded_and_questions_do_not_disturb_each_other(visit: Callable[..., Any]) -> None:
    page = visit()
    answer(page, "question-boil", "B")
    before = said(page, "question-boil")
    assert answer(page, "question-2") == "Choose at least one answer first."
    assert answer(page, "question-2", "A") == "Not yet: 1 of the 2 right answers chosen. A. Right. Even, and prime."
    assert answer(page, "question-2", "C").startswith("Not yet: 1 of the 2 right answers chosen, and 1 wrong.")
    assert answer(page, "question-2", "B").startswith("Not yet: 2 of the 2 right answers chosen, and 1 wrong.")
    page.locator("#question-2").get_by_label("C. ").uncheck()
    assert answer(page, "question-2") == "All right. A. Right. Even, and prime. B. Right. Prime."
    assert said(page, "question-boil") == before


@pytest.mark.slow
def test_the_keyboard_is_enough_and_the_focus_is_seen(visit: Callable[..., Any]) -> None:
    page = visit()
    page.locator("#question-boil-a").focus()
    for key in ("ArrowDown", "Tab"):  # to the second answer, then to the button
        page.keyboard.press(key)
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", key
    assert page.locator("#question-boil-b").is_checked()
    page.keyboard.press("Enter")
    assert "B. Not so." in said(page, "question-boil")
    page.locator("#question-2-a").focus()
    for key in ("Space", "Tab", "Space", "Tab", "Tab", "Space"):
        page.keyboard.press(key)
    assert said(page, "question-2").startswith("All right.")


@pytest.mark.slow
def test_without_javascript_the_answers_can_be_read(visit: Callable[..., Any]) -> None:
    page = visit(java_script_enabled=False)
    question = page.locator("#question-boil")
    assert question.get_by_role("button").count() == 0
    assert not question.get_by_text("That holds at sea level.").is_visible()
    question.get_by_text("Answers", exact=True).click()
    assert question.get_by_text("That holds at sea level.").is_visible()
    assert question.get_by_text("The air presses less.").is_visible()


WIDE = """[...document.querySelectorAll(".solution pre")].some((box) => box.scrollWidth > box.clientWidth)"""
UNREACHED = """[...document.querySelectorAll(".solution pre")]
  .filter((box) => box.scrollWidth > box.clientWidth && box.tabIndex < 0).length"""


@pytest.mark.slow
def test_what_was_folded_can_be_scrolled_by_keyboard(visit: Callable[..., Any]) -> None:
    page = visit(viewport={"width": 375, "height": 800})
    page.wait_for_timeout(1000)  # the theme has looked by then
    assert page.evaluate(UNREACHED) == 0
    page.get_by_text("Solution to Exercise 1").click()
    page.wait_for_function(WIDE)
    page.wait_for_function(f"{UNREACHED} === 0")  # the theme looks again once the window was still for a moment


def test_a_solution_is_one_control(project: Path) -> None:
    folds = soup(project, "two").select("details.solution")
    assert len(folds) == 2
    for fold in folds:
        assert not fold.has_attr("open")
        assert fold["class"] == ["solution", "admonition"]  # with "dropdown" the theme's script would add its button
        assert re.match(r"Solution to Exercise \d \(Title [ab] of some length", fold.summary.get_text())
        assert not fold.summary.select("a, button, input")


@pytest.mark.slow
@pytest.mark.parametrize("scripts", [True, False])
def test_the_bar_of_a_solution_opens_and_closes_its_own(visit: Callable[..., Any], scripts: bool) -> None:
    page = visit(has_touch=True, java_script_enabled=scripts)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    first, second = page.locator("details.solution").all()
    titles = [fold.get_by_text("Solution to Exercise") for fold in (first, second)]
    seen = [page.get_by_text(f"Done {letter}.") for letter in "ab"]
    place = page.url
    titles[0].click()
    titles[1].tap()
    assert [one.is_visible() for one in seen] == [True, True]
    bar = second.locator("summary").bounding_box()
    page.mouse.click(bar["x"] + bar["width"] - 5, bar["y"] + bar["height"] / 2)  # its empty end
    assert [one.is_visible() for one in seen] == [True, False]
    for key, expected in (("Enter", True), ("Space", False)):
        second.locator("summary").press(key)
        assert [one.is_visible() for one in seen] == [True, expected]
    assert page.url == place
    assert faults == []


@pytest.mark.slow
def test_answers_outlast_the_page_until_they_are_cleared(visit: Callable[..., Any]) -> None:
    page = visit()
    boil, prime = page.locator("#question-boil"), page.locator("#question-2")
    invitation = boil.get_by_text("before you read on")
    assert invitation.is_visible()
    answer(page, "question-boil", "A")
    answer(page, "question-2", "A", "C")
    assert not invitation.is_visible()
    page.reload()
    assert said(page, "question-boil") == "Well predicted. A. Right. The air presses less."
    assert "and 1 wrong" in said(page, "question-2")
    assert not invitation.is_visible()
    boil.get_by_role("button", name="Clear my answer").click()
    assert said(page, "question-boil") == ""
    page.reload()
    assert invitation.is_visible()
    assert boil.locator("input:checked").count() == 0
    assert prime.locator("input:checked").count() == 2


REFUSE = """for (const name of ["getItem", "setItem", "removeItem"]) {
  const own = Storage.prototype[name];
  Storage.prototype[name] = function (key, ...rest) {
    if (key.startsWith("answer:")) throw new DOMException("no storage here");
    return own.call(this, key, ...rest);
  };
}"""


@pytest.mark.slow
def test_a_browser_without_storage_grades_all_the_same(visit: Callable[..., Any]) -> None:
    page = visit()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.add_init_script(REFUSE)
    page.reload()
    assert answer(page, "question-boil", "A").startswith("Well predicted.")
    page.locator("#question-boil").get_by_role("button", name="Clear my answer").click()
    assert said(page, "question-boil") == ""
    assert faults == []


TARGETS = """[...document.querySelectorAll(".question :is(input, .question-check button)")]
  .map((target) => target.getBoundingClientRect()).filter((box) => box.width < 24 || box.height < 24).length"""


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 375)])
def test_a_graded_question_is_accessible(visit: Callable[..., Any], scheme: str, width: int) -> None:
    page = visit(color_scheme=scheme, viewport={"width": width, "height": 800})
    answer(page, "question-boil", "B")
    answer(page, "question-2", "A", "C")
    found = violations(page, ".question")
    assert found == [], json.dumps(found, indent=1)[:4000]
    assert page.evaluate(TARGETS) == 0
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0


# --- the chapters -----------------------------------------------------------------------------------------------------


def cells(path: Path) -> list[Any]:
    return nbformat.read(path, as_version=4).cells


def fences(path: Path, directive: str) -> list[str]:
    """Return the bodies of all colon fences of a kind, in order."""
    text = "\n\n".join(cell.source for cell in cells(path) if cell.cell_type == "markdown")
    return re.findall(rf"^:::\{{{directive}\}}(.*?)^:::$", text, re.MULTILINE | re.DOTALL)


@chapters
def test_a_chapter_asks_three_questions_before_it_shows_the_answer(path: Path) -> None:
    assert len(fences(path, "question")) >= 3
    places = [number for number, cell in enumerate(cells(path)) if ":::{question}" in cell.source]
    exercises = min(number for number, cell in enumerate(cells(path)) if "## Exercises" in cell.source)
    assert len(set(places)) >= 3  # not all in one place
    for number in places:
        prediction = cells(path)[number]
        rest = prediction.source.rpartition("\n:::")[2]
        following = cells(path)[number + 1]
        assert number < exercises
        assert following.cell_type == "code" or rest.strip(), "nothing follows that could answer the question"


def test_every_question_has_a_name_of_its_own() -> None:
    names = Counter(
        name for path in CHAPTERS for body in fences(path, "question") for name in re.findall(r":name: (.*)", body)
    )
    assert len(names) == sum(len(fences(path, "question")) for path in CHAPTERS)
    assert set(names.values()) == {1}
    assert all(name.startswith("question-") for name in names)


@chapters
def test_a_chapter_has_three_exercises_each_with_a_hint_and_a_solution_that_runs(path: Path) -> None:
    exercises = fences(path, "exercise")
    labels = [re.search(r":label: (\S+)", body)[1] for body in exercises]  # type: ignore[index]
    assert len(labels) == len(set(labels)) >= 3
    for body in exercises:
        assert re.search(r"^```\{dropdown\} Hint\n.+?\n```", body, re.MULTILINE | re.DOTALL), body
    solved, inside = [], ""
    for cell in cells(path):
        if cell.cell_type == "markdown":
            for start, _ in re.findall(
                r"^:::\{(?:solution-start\} (\S+)\n:class: dropdown|(solution-end)\})$", cell.source, re.MULTILINE
            ):
                assert bool(start) != bool(inside), "solutions open and close by turns"
                inside = start
        else:
            assert ("solution" in cell.metadata.get("tags", [])) == bool(inside), cell.source
            if inside:
                solved.append(inside)
                assert re.search(r"^assert ", cell.source, re.MULTILINE), f"{inside} asserts nothing"
    assert inside == ""
    assert solved == labels


@pytest.mark.parametrize("chapter", ["04", "05", "06", "07", "08", "09"])
def test_a_chapter_that_claims_a_cause_says_what_would_refute_it(chapter: str) -> None:
    (path,) = BOOK.glob(f"{chapter}*.ipynb")
    assert sum("What would change my mind?" in cell.source for cell in cells(path)) == 1
