"""Small books in the place of the whole one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml
from explorers.small import EVIL, shrink
from helpers import REPOSITORY
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

HOME, SITE = "https://github.com/somebody/a-book", "https://somebody.github.io/a-book"
PUBLISHED = {"BOOK_REPOSITORY_URL": HOME, "BOOK_REPOSITORY_BRANCH": "spring", "BOOK_SITE_URL": SITE}
"""What a build is told about where its pages come from."""
INDEX = """---
file_format: mystnb
kernelspec: {name: python3, display_name: Python 3}
---
# Index

First & last words.

```{code-cell}
1 + 1
```
"""
HEAD = """import spectral_tutorial as st
from spectral_tutorial import explorers
exp = st.Experiment.from_yaml("meta_config.yaml")"""
NUMBERS = """print("flux", float(exp.data("train").flux.mean()))
print("loss", float(exp.train().val_loss.iloc[-1]))"""
FIGURES = {
    "one": ["explorers.SpectrumExplorer(exp)", "explorers.GapExplorer(exp)"],
    "two": ["explorers.GapExplorer(exp, ask=True)", "explorers.TrajectoryPlayer(exp)"],
    "three": ["explorers.SpectrumExplorer(exp)"] * 2 + ["explorers.TrainPanel(exp, epochs=1)"],
    "four": ["explorers.ErrorMap(exp)", "explorers.BeliefExplorer(exp)"],
}
"""Pages with explorers, and what they show."""
EDITS = {"physics.py": ("1.438776877e7", "1.45e7"), "explorers/gap.js": ('"New noise"', '"Other noise"')}


def write_notebook(path: Path, cells: Sequence[Any]) -> None:
    """Write a notebook that runs with this Python."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(new_notebook(cells=list(cells), metadata={"kernelspec": kernel}), path)


def write_book(folder: Path, pages: Mapping[str, Sequence[Any]], index: str = "# Index\n") -> None:
    """Put an index and notebooks of some cells in the place of the chapters."""
    chapters = [{"file": f"book/{name}"} for name in pages]
    toc = {"format": "jb-book", "root": "book/index", "options": {"numbered": True}, "chapters": chapters}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    (folder / "book" / "index.md").write_text(index, encoding="utf-8")
    for name, cells in pages.items():
        write_notebook(folder / "book" / f"{name}.ipynb", cells)


def write_explorers_book(folder: Path) -> None:
    """Write a book of a small experiment: an index that is executed, a page of two numbers, four with explorers."""
    shrink(folder / "book", EVIL)
    pages = {"stub": [new_markdown_cell("# Stub\n\nSome words."), new_code_cell(HEAD), new_code_cell(NUMBERS)]}
    for name, sources in FIGURES.items():
        shown = [figure(source, f"fig-{name}-{i}") for i, source in enumerate(sources)]
        pages[name] = [new_markdown_cell(f"# {name.title()}"), new_code_cell(HEAD), *shown]
    landing = (REPOSITORY / "book" / "index.md").read_text(encoding="utf-8")
    write_book(folder, pages, INDEX + "".join(re.findall(r"^```\{only\} published\n.*?^```$", landing, re.M | re.S)))


def figure(source: str, name: str) -> Any:
    """Return a cell whose output is a numbered figure."""
    alt = {"alt": "A picture of the explorer in its first state"}
    return new_code_cell(
        source, metadata={"mystnb": {"figure": {"name": name, "caption": "An explorer."}, "image": alt}}
    )


def edit_package(folder: Path) -> None:
    """Change a constant of the physics, and a word of an explorer's script."""
    for name, (old, new) in EDITS.items():
        path = folder / "spectral_tutorial" / name
        source = path.read_text(encoding="utf-8")
        assert old in source, name
        path.write_text(source.replace(old, new), encoding="utf-8")
