"""Publishing: what a build says about where it comes from, its emblem, the workflow, and chapters opened in Colab."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest
import yaml
from accessibility import grave
from bs4 import BeautifulSoup
from helpers import REPOSITORY
from PIL import Image
from stubs import HOME, SITE

CHAPTERS = sorted((REPOSITORY / "book").glob("0*.ipynb"))
WORKFLOW = REPOSITORY / ".github" / "workflows" / "book.yml"


# --- links from the environment ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sites(stub_books: Any) -> dict[str, dict[str, BeautifulSoup]]:
    """Pages of a small book, built as on a laptop that knows nothing, and then as by the workflow."""
    return {
        place: {
            name: BeautifulSoup((done.html / f"{path}.html").read_text(encoding="utf-8"), "html.parser")
            for name, path in (("door", "index"), ("index", "book/index"), ("stub", "book/stub"))
        }
        for place, done in (("laptop", stub_books.local), ("workflow", stub_books.published))
    }


def outside(soup: BeautifulSoup) -> set[str]:
    """Return the addresses of other sites that a page links to."""
    return {str(link["href"]) for link in soup.select("a[href], link[href]") if str(link["href"]).startswith("http")}


def meta(soup: BeautifulSoup) -> dict[str, str]:
    tags = soup.select("meta[property], meta[name]")
    return {str(tag.get("property") or tag["name"]): str(tag.get("content")) for tag in tags}


@pytest.mark.slow
def test_a_local_build_links_to_no_repository_and_no_service(sites: dict[str, dict[str, BeautifulSoup]]) -> None:
    for name in ("index", "stub"):
        soup = sites["laptop"][name]
        assert outside(soup) == set()
        assert not soup.select(".dropdown-source-buttons, .dropdown-launch-buttons")
        assert not soup.select("a[href$='book.pdf']")
        assert not {"og:url", "og:image"} & set(meta(soup))
        assert soup.select_one(".btn-download-source-button") is not None


@pytest.mark.slow
def test_a_published_build_links_to_where_it_comes_from(sites: dict[str, dict[str, BeautifulSoup]]) -> None:
    links = {name: outside(soup) for name, soup in sites["workflow"].items()}
    for name, file in (("index", "book/index.md"), ("stub", "book/stub.ipynb")):
        assert HOME in links[name]
        assert f"{HOME}/edit/spring/{file}" in links[name]
        assert f"{SITE}/book/{name}.html" in links[name]  # canonical
        (issue,) = (link for link in links[name] if "/issues/" in link)
        assert issue.startswith(f"{HOME}/issues/new?")
    launches = {
        "https://mybinder.org/v2/gh/somebody/a-book/spring?urlpath=lab/tree/book/stub.ipynb",
        "https://colab.research.google.com/github/somebody/a-book/blob/spring/book/stub.ipynb",
    }
    assert launches <= links["stub"]
    assert not [link for link in links["index"] if "binder" in link or "colab" in link]  # it is no notebook file
    pictures = {str(picture["src"]) for picture in sites["workflow"]["stub"].select(".dropdown-launch-buttons img")}
    assert pictures == {"../_static/images/logo_binder.svg", "../_static/images/logo_colab.png"}
    for name, places in (("index", 2), ("stub", 1)):  # in the menu of each page, and in the text of the landing page
        offered = [str(link["href"]) for link in sites["workflow"][name].select("a[href$='book.pdf']")]
        assert offered == ["../book.pdf"] * places


@pytest.mark.slow
def test_the_address_of_the_site_leads_to_the_first_page_and_shows_its_card(sites: Any) -> None:
    door = sites["workflow"]["door"]
    said, first = meta(door), meta(sites["workflow"]["index"])
    shown = {name for name in first if name.startswith(("og:", "twitter:"))} | {"description"}
    assert {"og:title", "og:url", "og:image"} <= shown <= set(said)
    assert {name: said[name] for name in shown} == {name: first[name] for name in shown}
    (refresh,) = door.select("meta[http-equiv=refresh]")
    assert refresh["content"] == "0; url=book/index.html"
    assert door.title is not None
    assert door.title.text == sites["workflow"]["index"].title.text


BLANK = """() => [...document.querySelectorAll("i[class*='fa-'], svg.svg-inline--fa:not(:has(path[d])), img")]
  .filter((node) => node.tagName !== "IMG" || !node.complete || node.naturalWidth === 0)
  .map((node) => node.outerHTML)"""


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_button_of_a_published_build_has_its_icon_and_a_name(browser: Any, stub_books: Any, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto((stub_books.published.html / "book" / "stub.html").as_uri(), wait_until="load")
    page.wait_for_selector("svg.svg-inline--fa", state="attached")
    assert page.evaluate(BLANK) == []
    for group in page.locator(".article-header-buttons .dropdown > button").all():
        group.click()
    found = grave(page)
    context.close()
    assert not found


@pytest.mark.slow
def test_feeds_get_a_title_words_and_a_picture(sites: dict[str, dict[str, BeautifulSoup]]) -> None:
    said = meta(sites["workflow"]["index"])
    assert said["og:title"] == "Index"
    assert said["og:description"] == said["description"] == "First & last words."
    assert said["og:url"] == f"{SITE}/book/index.html"
    assert said["og:image"] == f"{SITE}/_static/social-card.png"


@pytest.mark.parametrize("value", ["github.com/somebody/a-book", "https://github.com/somebody", "https://a b/c/d"])
def test_an_address_that_is_none_is_refused_in_one_sentence(
    extension: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    publish = extension("book_publish")
    monkeypatch.setenv(publish.REPOSITORY, value)
    with pytest.raises(Exception, match="BOOK_REPOSITORY_URL: found .*; expected an address such as"):
        publish.fill_in(None, type("Config", (), {"html_theme_options": {}}))


# --- the emblem -------------------------------------------------------------------------------------------------------


def test_the_emblem_shows_both_lines_in_their_colors(extension: Callable[[str], ModuleType], tmp_path: Path) -> None:
    emblem = extension("book_emblem")
    described = emblem.draw(REPOSITORY, tmp_path)
    assert "comp4" in described
    assert "comp10" in described
    for name in (*emblem.LOGOS.values(), emblem.ICON):
        root = ElementTree.parse(tmp_path / name).getroot()
        fills = [shape.get("fill") for shape in root.iter("{http://www.w3.org/2000/svg}path")]
        assert fills[:2] == list(emblem.figures.COMPONENT_COLORS)
        assert root.findtext("{http://www.w3.org/2000/svg}title") == described
    light, dark = ((tmp_path / name).read_text(encoding="utf-8") for name in emblem.LOGOS.values())
    assert light != dark
    with Image.open(tmp_path / emblem.CARD) as card:
        assert card.size == (1200, 630)
    assert (tmp_path / emblem.CARD).stat().st_size < 100_000


def test_the_emblem_is_drawn_from_the_physics(extension: Callable[[str], ModuleType], tmp_path: Path) -> None:
    emblem = extension("book_emblem")
    world, lines = emblem.shipped_world(REPOSITORY)
    other = lines[0], "comp2"
    assert emblem.logo(world, lines, "#000") == emblem.logo(world, lines, "#000")
    shapes = [re.findall(r'd="(.*?)"', emblem.logo(world, pair, "#000")) for pair in (lines, other)]
    assert shapes[0] != shapes[1]


def test_a_label_cannot_break_out_of_the_emblem(extension: Callable[[str], ModuleType]) -> None:
    emblem = extension("book_emblem")
    described = emblem.alt_text(("comp10", '"><script>'))
    assert not set('"<>') & set(described)


# --- the workflow -----------------------------------------------------------------------------------------------------


def test_the_workflow_is_valid() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_runs_what_the_readme_says_and_may_do_little() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    book, tests = (
        [step.partition(".venv/bin/")[2] for step in line.split(" && ")[1:]]
        for line in re.findall(r"^python -m venv .*$", readme, re.M)
    )
    printing = re.findall(r"^\.venv/bin/(python book/.*)$", readme, re.M)
    assert len(printing) == 1
    assert commands["site"] == [*book[:-1], f"{book[-1]} 2>&1 | tee build.log", tests[0], *printing]
    report = next(step["with"]["path"] for step in jobs["site"]["steps"] if step.get("if") == "failure()")
    assert report == "build.log"
    assert commands["tests"] == tests
    assert commands["package"] == [*tests[:-1], 'pytest -m "not slow"']
    assert commands["nightly"] == [*tests[:-1], "pytest -m nightly"]
    assert {name: job.get("permissions") for name, job in jobs.items()} == {
        "package": None,
        "tests": None,
        "nightly": None,
        "tables": None,
        "colab": None,
        "site": {"contents": "read", "pages": "read"},
        "deploy": {"pages": "write", "id-token": "write"},
        "release": {"actions": "read", "contents": "write"},
    }
    assert workflow["permissions"] == {"contents": "read"}
    for name in ("deploy", "release"):
        assert set(jobs[name]["needs"]) == set(jobs) - {"deploy", "release", "nightly", "tables", "colab"}


def test_the_actions_are_named_by_their_commits() -> None:
    """A tag can be moved to other code, a commit cannot; the version stands beside it, for people."""
    uses = re.findall(r"uses: (.*)", WORKFLOW.read_text(encoding="utf-8"))
    assert uses
    for action in uses:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


GH = """#!/bin/bash
printf '%s\\n' "$@" > "$PWD/asked"
if [ "$1" = run ]; then mkdir -p "${@: -1}/book"; touch "${@: -1}/index.html" "${@: -1}/book.pdf"; fi
"""


@pytest.mark.skipif(sys.platform != "linux", reason="runs where the workflow does")
@pytest.mark.parametrize(("dated", "made"), [("(2026-12-24)", True), ("(not yet released)", False)])
def test_the_tag_of_a_dated_version_releases_site_pdf_and_locks(tmp_path: Path, dated: str, made: bool) -> None:
    steps = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["release"]["steps"]
    gh = tmp_path / "tools" / "gh"
    gh.parent.mkdir()
    gh.write_text(GH, encoding="utf-8")
    gh.chmod(0o755)
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## 1.2.3 {dated}\n", encoding="utf-8")
    path = f"{gh.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "GITHUB_REF_NAME": "v1.2.3", "GITHUB_RUN_ID": "7"}
    script = "\n".join(step["run"] for step in steps if "run" in step)
    done = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode == 0) == made, done.stderr
    if made:
        asked = (tmp_path / "asked").read_text(encoding="utf-8").splitlines()
        attached = ["book-html.zip", "book-html/book.pdf", "requirements-book.txt", "requirements.txt"]
        assert asked[:7] == ["release", "create", "v1.2.3", *attached]
        assert "--verify-tag" in asked
        assert all((tmp_path / name).is_file() or (REPOSITORY / name).is_file() for name in attached)
        with zipfile.ZipFile(tmp_path / "book-html.zip") as site:
            assert "book-html/index.html" in site.namelist()


# --- Colab ------------------------------------------------------------------------------------------------------------


def colab_cell(path: Path) -> str:
    """Return the source of the cell that brings the package in Colab; it is the first that holds code."""
    first = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    assert set(first.metadata["tags"]) == {"colab", "remove-cell"}, path.name
    return str(first.source)


def test_every_chapter_begins_with_the_same_cell_for_colab() -> None:
    assert len(CHAPTERS) == 9
    (cell,) = {colab_cell(path) for path in CHAPTERS}
    for path in (REPOSITORY / "book" / "appendix").glob("*.ipynb"):  # in a folder of their own
        assert colab_cell(path) == cell.replace("/content/home/book", "/content/home/book/appendix")


def test_the_workflow_tries_what_the_cell_installs() -> None:
    steps = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["colab"]["steps"]
    install, execute = [step["run"] for step in steps if "run" in step]
    assert install == 'pip install ".[chapters]"'
    assert '!pip install -q "/content/home[chapters]"' in colab_cell(CHAPTERS[0])
    listed = subprocess.run(["bash", "-c", f"echo {execute}"], cwd=REPOSITORY, capture_output=True, text=True)
    named = [path.relative_to(REPOSITORY).as_posix() for path in (*CHAPTERS[:4], *CHAPTERS[-2:])]
    assert listed.stdout.split() == ["jupyter", "execute", *named]


TOOLS = ("curl", "git", "pip", "hostname")
RUN = """
import sys
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
{before}
result = shell.run_cell(Path("cell.py").read_text(encoding="utf-8"))
result.raise_error()
print(Path.cwd())
"""
COLAB = """
import types
sys.modules["google.colab"] = types.ModuleType("google.colab")
shell.user_ns["input"] = lambda prompt: "asked/book"
"""


def run_cell(folder: Path, before: str, sessions: str) -> tuple[str, str]:
    """Run the cell where the tools that it calls only write down their arguments; return where it ends, and those."""
    tools, calls = folder / "tools", folder / "calls"
    tools.mkdir()
    calls.touch()
    for name in TOOLS:
        answer = {"curl": f"echo '{sessions}'", "hostname": "echo 127.0.0.1", "git": 'mkdir -p "${@: -1}/book"'}
        note = "" if name == "hostname" else f'echo "{name} $*" >> "{calls}"\n'
        (tools / name).write_text(f"#!/bin/bash\n{note}{answer.get(name, '')}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    source = colab_cell(CHAPTERS[0]).replace("/content", str(folder))
    (folder / "cell.py").write_text(source, encoding="utf-8")
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "IPYTHONDIR": str(folder)}
    program = [sys.executable, "-c", RUN.format(before=before)]
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip().splitlines()[-1], calls.read_text(encoding="utf-8")


def test_outside_of_colab_the_cell_does_nothing(tmp_path: Path) -> None:
    assert run_cell(tmp_path, "", "") == (str(tmp_path.resolve()), "")


@pytest.mark.skipif(sys.platform != "linux", reason="Colab is Linux")
@pytest.mark.parametrize(
    ("path", "repository"),
    [
        ("fileId=https%3A%2F%2Fgithub.com%2Fsome-body%2Fa.book%2Fblob%2Fmain%2Fbook%2F01.ipynb", "some-body/a.book"),
        ("fileId=https%3A//github.com/some-body/a.book/blob/main/book/01.ipynb", "some-body/a.book"),
        ("fileId=1aBcD", "asked/book"),  # opened from a drive: the reader is asked
    ],
)
def test_in_colab_the_cell_fetches_the_book_that_it_was_opened_from(tmp_path: Path, path: str, repository: str) -> None:
    place, calls = run_cell(tmp_path, COLAB, f'[{{"kernel": {{}}, "name": "01.ipynb", "path": "{path}"}}]')
    home = tmp_path / "home"
    assert f"git clone -q --depth 1 https://github.com/{repository} {home}\n" in calls
    assert f"pip install -q {home}[chapters]\n" in calls
    assert place == f"{tmp_path}/home/book"
