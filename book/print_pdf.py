"""The whole book on paper: every page of a finished build, printed by Chromium and bound in the order of the contents.

``python book/print_pdf.py`` writes ``_build/html/book.pdf``. Links between pages become jumps, headings bookmarks.
Needs Chromium or Chrome, and of ``requirements.txt`` playwright and pypdf.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlparse

from playwright.sync_api import Page, sync_playwright
from pypdf import PageObject, PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, Fit, NameObject, NullObject
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SMALLEST_LINK = 2
"""Height in points; what is lower was not made for a finger."""
OPTIONS = {
    "format": "A4",
    "margin": {"top": "18mm", "bottom": "18mm", "left": "18mm", "right": "18mm"},
    "print_background": True,
    "tagged": True,
    "scale": 0.8,
    "display_header_footer": True,
    "header_template": "<span></span>",
    "footer_template": '<p style="font-size: 8px; margin: auto"><span class="title"></span>, page '
    '<span class="pageNumber"></span> of <span class="totalPages"></span></p>',
}
# Once all is drawn: a link to every place that has a name, since Chromium writes down only places that are linked to.
DRAWN = """async () => {
  await window.MathJax?.startup?.promise;
  for (const picture of document.images) picture.loading = "eager";
  await Promise.all([...document.images].map((picture) => picture.decode().catch(() => null)));
  const links = document.body.appendChild(document.createElement("nav"));
  links.style = "position: absolute; top: 0; left: 0; font-size: 1px; line-height: 1px; color: transparent";
  for (const place of document.querySelectorAll("main [id]:not(svg *, mjx-container *)")) {
    links.append(Object.assign(document.createElement("a"), {href: `#${place.id}`, textContent: "."}));
  }
}"""
# The title of a page, and the names and titles of its sections.
HEADINGS = """() => {
  const text = (heading) => [...heading.childNodes]
    .filter((part) => !part.classList?.contains("headerlink")).map((part) => part.textContent).join("");
  const sections = [...document.querySelectorAll("article h2")];
  return [text(document.querySelector("article h1")), sections.map((one) => [one.parentElement.id, text(one)])];
}"""


@dataclass(frozen=True)
class Printed:
    """A printed page: its file, its sheets, its title, and names and titles of its sections."""

    path: Path
    sheets: PdfReader
    title: str
    sections: list[tuple[str, str]]


def printed(page: Page, path: Path) -> Printed:
    """Print a built page."""
    page.goto(path.as_uri(), wait_until="load")
    page.evaluate(DRAWN)
    return Printed(path, PdfReader(BytesIO(page.pdf(**OPTIONS))), *page.evaluate(HEADINGS))


def bind(pages: Sequence[Printed]) -> PdfWriter:
    """Put printed pages behind each other, give them bookmarks, and turn links between them into jumps."""
    writer, places, owners = PdfWriter(), {}, []
    for one in pages:
        first = len(owners)
        places[one.path, ""] = first, None
        for name, place in one.sheets.named_destinations.items():
            number = one.sheets.get_destination_page_number(place)
            places[one.path, name.removeprefix("/")] = first + number, place.top
        owners += [one.path] * len(one.sheets.pages)
        writer.append(one.sheets, import_outline=False)
        chapter = writer.add_outline_item(title=one.title, page_number=first)
        for name, title in one.sections:
            number, top = places[one.path, name]
            writer.add_outline_item(title=title, page_number=number, parent=chapter, fit=Fit.xyz(top=top))
    for path, sheet in zip(owners, writer.pages, strict=True):
        mend_links(writer, sheet, path, places)
    return writer


def mend_links(writer: PdfWriter, sheet: PageObject, here: Path, places: Mapping[tuple[Path, str], Any]) -> None:
    """Let the links of a sheet lead to places of the bound book, and drop those that only made places known."""
    kept = ArrayObject()
    for mark in sheet.get("/Annots", []):
        link = mark.get_object()
        path, anchor = aim(link, here)
        number, top = places.get((path, anchor)) or places.get((path, "")) or (None, None)
        if number is not None:
            link.pop("/A", None)
            target = writer.pages[number].indirect_reference
            link[NameObject("/Dest")] = ArrayObject(
                [target, NameObject("/XYZ"), NullObject(), NullObject() if top is None else top, NullObject()]
            )
        if abs(link["/Rect"][3] - link["/Rect"][1]) > SMALLEST_LINK:
            kept.append(mark)
    sheet[NameObject("/Annots")] = kept


def aim(link: DictionaryObject, here: Path) -> tuple[Path | None, str]:
    """Return the file that a link leads to, and the place in it; None where it leads out of this machine."""
    if "/Dest" in link:
        return here, str(link["/Dest"]).removeprefix("/")
    address, anchor = urldefrag(str(link.get("/A", {}).get("/URI", "")))
    parts = urlparse(address)
    return (Path(unquote(parts.path)) if parts.scheme == "file" else None), unquote(anchor)


def main() -> None:
    """Print all pages and bind them."""
    site = ROOT / "_build" / "html"
    paths = [site / f"{name}.html" for name in parse_toc_yaml(ROOT / "_toc.yml")]
    for path in paths:
        if not path.is_file():
            sys.exit(f"{path}: not found; build the book first: jupyter-book build .")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page()
        writer = bind([printed(page, path) for path in paths])
        chromium.close()
    writer.add_metadata({"/Title": "Compositional Generalization in Spectra"})
    writer.compress_identical_objects()
    writer.write(site / "book.pdf")
    print(f"{site / 'book.pdf'}: {len(writer.pages)} pages")


if __name__ == "__main__":
    main()
