"""The book as one PDF: what folds is open, links lead to places inside, bookmarks follow the contents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers import REPOSITORY
from pypdf import PdfReader

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def print_pdf(browser: Any) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "book")
        import print_pdf  # type: ignore[import-not-found]

        yield print_pdf


def test_the_pages_are_those_of_the_contents_in_their_order(print_pdf: ModuleType) -> None:
    text = (REPOSITORY / "_toc.yml").read_text(encoding="utf-8")
    assert list(print_pdf.parse_toc_yaml(REPOSITORY / "_toc.yml")) == re.findall(r"(?:root|file): (\S+)", text)


def jumps(bound: PdfReader) -> list[tuple[int, int, float]]:
    """Return from which sheet each link inside the book leads to which, and to what height."""
    number = {sheet.indirect_reference.idnum: place for place, sheet in enumerate(bound.pages)}
    marks = ((place, mark.get_object()) for place, sheet in enumerate(bound.pages) for mark in sheet["/Annots"])
    return [(place, number[mark["/Dest"][0].idnum], mark["/Dest"][3]) for place, mark in marks if "/Dest" in mark]


def test_the_bound_book_shows_solutions_and_answers_and_its_links_stay_inside(
    browser: Any, built_book: Any, print_pdf: ModuleType
) -> None:
    names = ("index", "04_gap_analysis", "reference/glossary")
    paths = [built_book.html / "book" / f"{name}.html" for name in names]
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    printed = [print_pdf.printed(page, path) for path in paths]
    context.close()
    content = BytesIO()
    print_pdf.bind(printed).write(content)
    bound = PdfReader(content)
    starts = [sum(len(one.sheets.pages) for one in printed[:place]) for place in range(4)]
    assert starts[-1] == len(bound.pages)

    chapters = [item for item in bound.outline if not isinstance(item, list)]
    assert [item.title for item in chapters] == [one.title for one in printed]
    assert [bound.get_destination_page_number(item) for item in chapters] == starts[:3]
    sections = [[one.title for one in item] for item in bound.outline if isinstance(item, list)]
    assert sections == [[title for _, title in one.sections] for one in printed if one.sections]

    chapter = " ".join(" ".join(sheet.extract_text() for sheet in bound.pages[starts[1] : starts[2]]).split())
    assert chapter.count("Not so.") >= 3
    assert chapter.count("Solution to Exercise") == len(re.findall("<details class=.solution", paths[1].read_text()))
    assert "Show code cell source" not in chapter

    found = jumps(bound)
    assert [target for place, target, _ in found if starts[1] <= place < starts[2] <= target]  # terms of the glossary
    assert [target for place, target, _ in found if place < starts[1] <= target < starts[2]]  # chapters of the contents
    assert {round(top) for place, target, top in found if target >= starts[2] and top is not None}
    inside = {str(Path(path).as_uri()) for path in paths}
    for sheet in bound.pages:
        for mark in sheet["/Annots"]:
            address = str(mark.get_object().get("/A", {}).get("/URI", ""))
            assert address.partition("#")[0] not in inside, address
