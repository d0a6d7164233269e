"""A book and an experiment of seconds, whose y component has a label that tries to break out of everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell
from stubs import write_notebook

EVIL = "</script><img src=x onerror=alert(1)>"
SEEDS = [123, 124, 125, 126]
FILES = ("spectra_config_path", "distribution_config_path", "training_config_path", "analysis_config_path")


def edit(path: Path, **changes: Any) -> None:
    """Set keys of a YAML file."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False), encoding="utf-8")


def shrink(book: Path, label: str = "comp4") -> Path:
    """Make the configuration in `book` small, comp4 called `label`, and return its meta file."""
    meta = book / "meta_config.yaml"
    edit(meta, training_seed=SEEDS)
    spectra, laws, training, analysis = (book / yaml.safe_load(meta.read_text())[key] for key in FILES)
    for path in (spectra, laws, analysis):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(_renamed(content, label), sort_keys=False), encoding="utf-8")
    splits = yaml.safe_load(laws.read_text(encoding="utf-8"))["splits"]
    edit(laws, splits={name: {**split, "n_samples": 256} for name, split in splits.items()})
    edit(training, epochs=4)
    return meta


def _renamed(value: Any, label: str) -> Any:
    if isinstance(value, dict):
        return {_renamed(key, label): _renamed(entry, label) for key, entry in value.items()}
    if isinstance(value, list):
        return [_renamed(entry, label) for entry in value]
    return label if value == "comp4" else value


HEAD = """
import spectral_tutorial as st
from spectral_tutorial import explorers
exp = st.Experiment.from_yaml("meta_config.yaml")
"""


def figure(source: str, name: str) -> Any:
    """Return a cell whose output is a numbered figure."""
    cell = new_code_cell(source)
    alt = {"alt": "A picture of the explorer in its first state"}
    cell.metadata["mystnb"] = {"figure": {"name": name, "caption": "An explorer."}, "image": alt}
    return cell


def write_stub_book(folder: Path, pages: dict[str, list[str]]) -> None:
    """Put an index without explorers and small notebooks in the place of the chapters."""
    chapters = [{"file": f"book/{name}"} for name in pages]
    toc = {"format": "jb-book", "root": "book/index", "options": {"numbered": True}, "chapters": chapters}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    for path in (folder / "book").glob("*.[im]*"):
        if path.suffix in (".ipynb", ".md"):
            path.unlink()
    (folder / "book" / "index.md").write_text("# Index\n", encoding="utf-8")
    for name, sources in pages.items():
        figures = [figure(source, f"fig-{name}-{i}") for i, source in enumerate(sources)]
        cells = [new_markdown_cell(f"# {name.title()}"), new_code_cell(HEAD.strip()), *figures]
        write_notebook(folder / "book" / f"{name}.ipynb", cells)
