"""The book: its sources, the built pages, the build as a gate, and the results that it shares with the command line."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from helpers import IDLE, OF_THE_BOOK, assert_same_results, stamps
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_markdown_cell
from sphinx.util.parallel import make_chunks
from sphinx_external_toc.parsing import parse_toc_yaml
from stubs import write_book

from spectral_tutorial.plots import PLOTS

BOOK = Path(__file__).resolve().parents[1] / "book"
NOTEBOOKS = sorted(BOOK.rglob("[!.]*.ipynb"))
COLD_SECONDS, WARM_SECONDS = 420, 140  # what the book may take on two idle cores
SWEEP_SECONDS = 15  # and of it what chapter 8 computes of its sweep
BINDER = 2000 - 200  # megabytes, without those of Jupyter's server
PATIENCE = 1 if IDLE else 4  # for other work on the same cores

notebooks = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list[Any]:
    """Return a notebook's cells of one kind."""
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def lines(cell: Any) -> int:
    """Count the lines of a cell that are not blank."""
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def tags(cell: Any) -> set[str]:
    return set(cell.metadata.get("tags", []))


def meaningful(alt: str) -> bool:
    """Tell whether an alt text says something: five words, and no file name."""
    return len(alt.split()) >= 5 and not re.search(r"\.(png|svg|jpe?g)\b", alt)


@notebooks
def test_notebook_is_stored_clean_and_cannot_hide_an_error(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "allow_errors" not in str(notebook.metadata)
    assert "execution_mode" not in str(notebook.metadata)
    assert "widgets" not in notebook.metadata
    for cell in cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert not tags(cell) & {"raises-exception", "skip-execution"}


@pytest.mark.parametrize("path", sorted(BOOK.rglob("[!_.]*.md")), ids=lambda path: path.stem)
def test_page_of_text_cannot_hide_an_error(path: Path) -> None:
    """Some of these have cells, too."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"^[^`\n]*(allow_errors|execution_mode|raises-exception|skip-execution)", text, re.MULTILINE)


@notebooks
def test_chapter_keeps_to_its_budget(path: Path) -> None:
    code = [cell for cell in cells(path) if not tags(cell) & {"solution", "colab"}]
    prose = sum(map(lines, cells(path, "markdown")))
    total = sum(map(lines, code))
    assert len(code) <= 15
    assert max(map(lines, code)) <= 12
    assert total <= 60
    assert prose >= total
    to_python = TransformerManager().transform_cell
    nodes = [node for cell in code for node in ast.walk(ast.parse(to_python(cell.source)))]
    assert not any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for node in nodes)


def prose(path: Path) -> str:
    """Return what a chapter tells: without questions, exercises, formulas and code; numbers and names are one word."""
    text = "\n\n".join(cell.source for cell in cells(path, "markdown"))
    text = re.sub(r"^:::\{solution-start\}.*?^:::\{solution-end\}\n:::$", "", text, flags=re.M | re.S)
    text = re.sub(r"^(:::|```)\{(question|exercise|math)\}.*?^\1$", "", text, flags=re.M | re.S)
    text = re.sub(r"^```(text|sh)?\n.*?^```$", "", text, flags=re.M | re.S)
    text = re.sub(r"^(:::|```).*$|^:\w+:.*$", "", text, flags=re.M)  # fences and options
    text = re.sub(r"\{glue:text\}`[^`]*`", "1", text)
    text = re.sub(r"\{(?:term|doc)\}`([^`<]*)[^`]*`", r"\1", text)
    return re.sub(r"(\{[\w:]+\})?`[^`]*`|\$[^$]*\$|\]\([^)]*\)", " x ", text)  # other roles, code, formulas, targets


@notebooks
def test_chapter_is_light_to_read(path: Path) -> None:
    """Captions do not count: they are read with their figures."""
    text = prose(path)
    paragraphs = re.split(r"\n\s*\n|\n(?=- |\d\. |: )", text)
    assert len(re.findall(r"[\w'-]*\w[\w'-]*", text)) <= 1500
    assert max(len(paragraph.split()) for paragraph in paragraphs) <= 90
    assert len(re.findall(r"(?<!\w)\d[\d.,/]*", text)) <= 60


@notebooks
def test_code_that_is_shown_fits_the_page(path: Path) -> None:
    shown = [cell for cell in cells(path) if not tags(cell) & {"colab", "remove-cell"}]
    assert [line for cell in shown for line in cell.source.splitlines() if len(line) > 79] == []


@notebooks
def test_folded_code_says_what_it_holds(path: Path) -> None:
    for cell in cells(path):
        if "hide-input" in tags(cell):
            assert cell.metadata["mystnb"]["code_prompt_show"].startswith("Show how")


def test_every_figure_has_a_name_a_caption_and_an_alt_text() -> None:
    names: Counter[str] = Counter()
    for path in NOTEBOOKS:
        for cell in (cell for cell in cells(path) if "mystnb" in cell.metadata):
            settings = cell.metadata["mystnb"]
            if "figure" in settings or "image" in settings:
                names[settings["figure"]["name"]] += 1
                assert settings["figure"]["caption"].strip(), f"{path.name}: {cell.source}"
                assert meaningful(settings["image"]["alt"]), f"{path.name}: {cell.source}"
    assert max(names.values(), default=1) == 1, names


def pages(folder: Path) -> dict[str, Path]:
    """Return the built page of each entry in the table of contents."""
    return {name: folder / "_build" / "html" / f"{name}.html" for name in parse_toc_yaml(folder / "_toc.yml")}


@pytest.fixture(scope="module")
def soups(built_book: Any) -> dict[str, BeautifulSoup]:
    return {
        name: BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
        for name, page in pages(built_book.folder).items()
    }


def executed(build: Any) -> dict[str, float]:
    """Seconds that each page's cells took, by the page's number or name."""
    found = re.findall(r"/(\d\d|[a-z]+)(?:_\w+)?\.(?:ipynb|md): Executed notebook in ([\d.]+) seconds", build.log)
    return {name: float(seconds) for name, seconds in found}


def test_every_page_has_its_turn_when_two_are_read_at_once(extension: Callable[[str], Any]) -> None:
    fresh, written = extension("book_fresh"), sorted(pages(BOOK.parent))
    turns = list(written)
    fresh.in_turn(None, None, turns)
    assert turns[0] == "book/01_spectral_lines"
    assert sorted(turns) == written
    assert all(any(Path(page).name.startswith(name) for page in written) for name in fresh.TURNS.split())
    given = [line.split() for line in fresh.TURNS.split("\n") if line]
    for chunk, names in zip(make_chunks(turns, fresh.AT_ONCE), given, strict=True):
        assert all(Path(page).name.startswith(tuple(names)) for page in chunk), (chunk, names)
    more = ["book/new", *turns]
    fresh.in_turn(None, None, more)
    assert more == [*turns, "book/new"]


@pytest.mark.slow
def test_every_notebook_is_executed(built_book: Any) -> None:
    assert {re.match(r"\d\d|[a-z]+", path.stem)[0] for path in NOTEBOOKS} <= executed(built_book).keys()  # type: ignore[index]


@pytest.mark.slow
def test_every_page_of_the_contents_is_built(soups: dict[str, BeautifulSoup]) -> None:
    assert {f"book/{path.relative_to(BOOK).with_suffix('').as_posix()}" for path in NOTEBOOKS} <= set(soups)
    for name, soup in soups.items():
        assert soup.select_one("article h1"), name


@pytest.mark.slow
def test_no_page_shows_an_error_or_a_warning(soups: dict[str, BeautifulSoup]) -> None:
    for name, soup in soups.items():
        assert "Traceback (most recent call last)" not in soup.get_text(), name
        assert not soup.select(".output.traceback, .output.stderr, .problematic, .system-message"), name


@pytest.mark.slow
def test_each_page_says_how_long_it_took_and_fits_into_the_memory_of_binder(soups: dict[str, BeautifulSoup]) -> None:
    table = soups["book/reference/reproducibility"].select_one("table.run-times")
    rows = [[entry.get_text() for entry in row.select("td")] for row in table.select("tbody tr")]  # type: ignore[union-attr]
    assert len(rows) > len(NOTEBOOKS)
    assert all(float(seconds) > 0 and 50 < float(megabytes.split()[-1]) < BINDER for _, seconds, megabytes in rows), (
        rows
    )


@pytest.mark.slow
def test_every_picture_says_what_it_shows(soups: dict[str, BeautifulSoup]) -> None:
    for name, soup in soups.items():
        for picture in soup.select("main img"):
            assert meaningful(str(picture.get("alt", ""))), f"{name}: {picture}"
        for picture in soup.select("div.cell_output img"):
            figure = picture.find_parent("figure")
            assert figure is not None, f"{name}: a picture without a caption: {picture}"
            assert figure.select_one("figcaption .caption-number"), f"{name}: no number: {picture}"


@pytest.mark.slow
def test_the_icon_script_holds_the_icons_of_the_pages_and_few_more(built_book: Any) -> None:
    script = (built_book.html / "_static" / "scripts" / "fontawesome.js").read_text(encoding="utf-8")
    assert len(script) < 200_000
    assert '"magnifying-glass":[' in script
    assert '"magnifying-glass-chart":[' not in script


@pytest.mark.nightly
def test_a_chapter_runs_by_nbconvert_from_another_folder(shipped_run: Any, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir", str(tmp_path)]
    chapter = shipped_run.folder / "book" / "01_spectral_lines.ipynb"
    environment = {**os.environ, "PYTHONPATH": str(shipped_run.folder)}
    done = subprocess.run([*program, chapter], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    outputs = [output for cell in cells(tmp_path / chapter.name) for output in cell.outputs]
    shown = [output.data for output in outputs if "data" in output]
    widgets = [data for data in shown if "application/vnd.jupyter.widget-view+json" in data]
    assert widgets
    for data in widgets:  # what an editor shows that draws none
        assert data["image/png"]
        assert re.match(r"SpectrumExplorer\(abundance=", data["text/plain"])


@pytest.mark.nightly
def test_a_chapter_goes_on_after_a_restart_once_the_cells_above_ran_again(shipped_run: Any) -> None:
    chapter = shipped_run.folder / "book" / "04_gap_analysis.ipynb"
    code, before = cells(chapter), stamps(shipped_run.exp)
    client = NotebookClient(nbformat.from_dict({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    environment = {**os.environ, "PYTHONPATH": str(shipped_run.folder)}
    with client.setup_kernel(cwd=str(chapter.parent), env=environment):
        half = len(code) // 2
        for place in range(half):
            client.execute_cell(code[place], place)
        run_sync(client.km.restart_kernel)(now=True)
        run_sync(client.kc.wait_for_ready)()
        with pytest.raises(CellExecutionError, match="NameError"):
            client.execute_cell(code[half], half)
        for place, cell in enumerate(code):  # no claim fails
            client.execute_cell(cell, place)
    after = stamps(shipped_run.exp)
    assert {name: after.get(name) for name in before} == before


BROKEN = """# Stub

:::{exercise} One
:label: exercise-one
Do it.
:::

:::{solution-start} exercise-one
:class: dropdown
:::"""


@pytest.mark.slow
def test_a_raising_cell_fails_every_build_in_a_solution_too(
    copy_project: Callable[[], Path], build: Callable[[Path], Any]
) -> None:
    folder = copy_project()
    raising = new_code_cell("assert 1 == 2, 'the claim does not hold'", metadata={"tags": ["solution"]})
    pages = {
        f"more-{i}": [new_markdown_cell(f"# {i}")] for i in range(5)
    }  # enough to be read in processes of their own
    pages["stub"] = [new_markdown_cell(BROKEN), raising, new_markdown_cell(":::{solution-end}\n:::")]
    write_book(folder, pages)
    for attempt in ("first", "second"):
        result = build(folder)
        assert result.returncode != 0, f"{attempt} build:\n{result.log[-4000:]}"
        plain = re.sub(r"\x1b\[[\d;]*m", "", result.log)  # what the workflow keeps of a failure
        assert re.search(r"stub\.ipynb.*-+> 1 +assert 1 == 2", plain, re.DOTALL), plain[-4000:]
        assert "AssertionError: the claim does not hold" in plain


@pytest.mark.slow
def test_after_an_edit_of_the_physics_a_warm_build_shows_other_numbers(stub_books: Any) -> None:
    numbers = []
    for done in (stub_books.local, stub_books.published):
        page = BeautifulSoup((done.html / "book" / "stub.html").read_text(encoding="utf-8"), "html.parser")
        printed = "".join(out.get_text() for out in page.select(".cell_output"))
        numbers.append(re.findall(r"(?:flux|loss) (\S+)", printed))
    assert [len(found) for found in numbers] == [2, 2]
    assert all(new != old for old, new in zip(*numbers, strict=True))


# --- the book and the command line


def test_the_book_draws_every_plot_that_the_command_line_draws() -> None:
    sources = "".join(cell.source for path in NOTEBOOKS for cell in cells(path))
    sources += (BOOK / "reference" / "reproducibility.md").read_text(encoding="utf-8")
    assert set(re.findall(r'exp\.plot\("(\w+)"\)', sources)) == set(PLOTS)


@pytest.mark.slow
def test_the_book_finds_what_the_command_line_left_and_adds_its_exercises(built_book: Any) -> None:
    after = stamps(built_book.exp)
    assert {name for name, stamp in built_book.before.items() if after.get(name) != stamp} == set()
    added = after.keys() - built_book.before.keys()
    assert added
    assert {name for name in added if not name.startswith(OF_THE_BOOK)} == set()


@pytest.mark.nightly
def test_the_book_from_nothing_and_the_command_line_leave_the_same_files(cold_book: Any, shipped_run: Any) -> None:
    assert_same_results(cold_book.exp, shipped_run.exp)


@pytest.mark.nightly
def test_no_page_of_a_book_from_nothing_shows_what_went_to_stderr(cold_book: Any) -> None:
    for page in pages(cold_book.folder).values():
        assert not BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser").select(".output.stderr"), page


@pytest.mark.nightly
def test_the_book_builds_from_nothing_in_time(
    cold_book: Any, record_property: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    record_property("cold_build_seconds", round(cold_book.seconds, 1))
    taken, sweep = executed(cold_book), pd.read_csv(cold_book.folder / "book" / "sweep" / "seconds.csv")
    with capsys.disabled():
        print(f"\ncold build: {cold_book.seconds:.0f} s, of it {taken}, the sweep {sweep['seconds'].sum():.0f} s")
    assert cold_book.seconds <= PATIENCE * COLD_SECONDS
    assert sweep["seconds"].sum() <= PATIENCE * SWEEP_SECONDS


@pytest.mark.nightly
def test_a_second_build_is_clean_and_quick(
    cold_book: Any,
    build: Callable[[Path], Any],
    record_property: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    warm = build(cold_book.folder)
    record_property("warm_build_seconds", round(warm.seconds, 1))
    taken = executed(warm)
    with capsys.disabled():
        print(f"\nwarm build: {warm.seconds:.0f} s, of it {taken}")
    assert warm.returncode == 0, warm.log[-8000:]
    assert taken.keys() == executed(cold_book).keys()
    assert warm.seconds <= PATIENCE * WARM_SECONDS
