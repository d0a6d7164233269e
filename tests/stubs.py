"""Small books in the place of the whole one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat.v4 import new_notebook


def write_notebook(path: Path, cells: Sequence[Any]) -> None:
    """Write a notebook that runs with this Python."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    nbformat.write(new_notebook(cells=list(cells), metadata={"kernelspec": kernel}), path)


def write_stub(folder: Path, cells: Sequence[Any], index: str = "# Index\n") -> None:
    """Put a book of an index and one notebook in the place of the chapters."""
    toc = {"format": "jb-book", "root": "book/index", "chapters": [{"file": "book/stub"}]}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    (folder / "book" / "index.md").write_text(index, encoding="utf-8")
    write_notebook(folder / "book" / "stub.ipynb", cells)
