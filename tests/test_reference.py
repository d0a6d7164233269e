"""The reference pages: made from the models and docstrings, complete, and true of the code; figures and equations."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterator
from functools import reduce
from typing import Any

import check_jsonschema.builtin_schemas
import jsonschema
import nbformat
import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup
from helpers import REPOSITORY, SHIPPED
from pydantic import BaseModel

import spectral_tutorial
from spectral_tutorial import config, sections
from spectral_tutorial.reading import load_yaml
from spectral_tutorial.sweep import SweepFile

BOOK = REPOSITORY / "book"
REFERENCE = BOOK / "reference"
NOTEBOOKS = [*BOOK.glob("*.ipynb"), *(BOOK / "appendix").glob("*.ipynb")]
FILES = {"MetaConfig": sections.MetaConfig, **{m.__name__: m for m in config.SECTIONS.values()}, "SweepFile": SweepFile}
PHYSICAL = {
    "wavelength_min": "nm",
    "wavelength_max": "nm",
    "lines[N].center": "nm",
    "lines[N].width": "nm",
    "lines[N].profile.wavelength": "nm",
    "lines[N].strength": "dimensionless",
    "sampling.temperature.range": "K",
    "sampling.noise.range": "dimensionless",
    "sampling.abundance.range": "dimensionless",
    "splits.NAME.distribution.combinations[N].ranges": "dimensionless",
}

files = pytest.mark.parametrize("model", FILES.values(), ids=list(FILES))


@pytest.fixture(scope="module")
def extension(extension: Any) -> Any:
    """The one that makes the page of the configuration."""
    return extension("book_configuration")


def sources() -> Iterator[tuple[str, str]]:
    """Yield name and prose of each page; of a page that is executed from Markdown, the settings of its cells too."""
    for path in sorted([*NOTEBOOKS, *BOOK.glob("*.md"), *REFERENCE.glob("*.md")]):
        if path.suffix == ".ipynb":
            cells = nbformat.read(path, as_version=4).cells
            yield path.stem, "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        else:
            yield path.stem, path.read_text(encoding="utf-8")


PROSE = dict(sources())


def inside(schema: Any) -> Iterator[str]:
    """Yield the names of all keys anywhere in a model's JSON schema, those of models that no file may hold left out."""
    for name, part in schema.get("$defs", {}).items():
        if name != "MixtureDistribution":
            yield from part.get("properties", ())
    yield from schema.get("properties", ())


# --- configuration


@files
def test_every_key_of_every_model_is_listed_with_its_meaning(model: type[BaseModel], extension: Any) -> None:
    found = list(extension.keys(model))
    assert {key.path.split(".")[-1] for key in found} == set(inside(model.model_json_schema()))
    assert len({key.path for key in found}) == len(found)
    assert all(key.meaning.strip() and key.valid.strip() for key in found)


def test_physical_quantities_have_their_units_and_nothing_else_has_one(extension: Any) -> None:
    found = [key for model in FILES.values() for key in extension.keys(model)]
    assert {key.path: key.unit for key in found if key.unit} == PHYSICAL


@pytest.mark.parametrize(
    ("model", "path", "valid", "default"),
    [
        ("MetaConfig", "data_seed", "whole number, or list of them", "[42]"),
        ("SpectraConfig", "n_bins", "whole number from 2 to 1e6", None),
        ("SpectraConfig", "lines[N].width", "number from 0.001 to 1e9", "nothing"),
        ("SpectraConfig", "line_law", "`linear` or `beer_lambert`", "linear"),
        ("SpectraConfig", "noise_law", "`relative` or `photon`", "relative"),
        ("DistributionConfig", "splits.NAME.distribution.type", "`component_combinations` or `function`", None),
        ("TrainingConfig", "dropout_rate", "number at least 0, below 1", "0.0"),
        ("TrainingConfig", "hidden_dims", "list of at most 64 whole numbers from 1 to 65536", "[]"),
        ("TrainingConfig", "learning_rate", "number above 0, at most 1e9", None),
        ("TrainingConfig", "seed", "whole number from 0 to 4,294,967,295", "nothing"),
        ("AnalysisConfig", "plot_config.names", "name, by label", "{}"),
        ("AnalysisConfig", "variations", "changes, by name", "{}"),
    ],
)
def test_what_a_key_may_hold_is_said_in_words(
    model: str, path: str, valid: str, default: str | None, extension: Any
) -> None:
    (key,) = (key for key in extension.keys(FILES[model]) if key.path == path)
    assert (key.valid, key.default) == (valid, default)


@pytest.mark.parametrize(("low", "high"), [(2, 10**6)])
def test_the_limits_in_words_are_those_that_are_checked(low: int, high: int, extension: Any) -> None:
    plain = load_yaml(BOOK / "configs" / "synthetic_spectra.yaml")
    for n_bins in (low, high):
        sections.SpectraConfig.model_validate(plain | {"n_bins": n_bins})
    for n_bins in (low - 1, high + 1):
        with pytest.raises(ValueError, match="n_bins"):
            sections.SpectraConfig.model_validate(plain | {"n_bins": n_bins})


def test_what_is_required_is_what_a_file_may_not_lack(extension: Any) -> None:
    plain = load_yaml(BOOK / "configs" / "training.yaml")
    required = {key.path for key in extension.keys(sections.TrainingConfig) if key.default is None}
    for name in plain:
        without = {key: value for key, value in plain.items() if key != name}
        if name in required:
            with pytest.raises(ValueError, match=name):
                sections.TrainingConfig.model_validate(without)
        elif name != "hidden_dims":  # needed by the kind of network that the file asks for
            sections.TrainingConfig.model_validate(without)


def test_the_page_asks_for_every_model() -> None:
    asked = re.findall(r"\{config-keys\} [\w.]*?(\w+)$", PROSE["configuration"], re.M)
    assert asked == list(FILES)


@pytest.mark.slow
def test_every_key_stands_on_the_built_page(built_book: Any, extension: Any) -> None:
    html = (built_book.html / "book" / "reference" / "configuration.html").read_text(encoding="utf-8")
    lists = BeautifulSoup(html, "html.parser").select("dl.config-keys")
    assert len(lists) == len(FILES)
    for found, model in zip(lists, FILES.values(), strict=True):
        terms = {term.code.get_text(): term.find_next("dd").get_text() for term in found.select("dt")}
        assert terms.keys() == {key.path for key in extension.keys(model)}
        assert all(len(meaning.split()) > 2 for meaning in terms.values())


# --- API


def test_no_reference_is_waved_through() -> None:
    """Names that lead nowhere are warnings, and warnings fail the build: nothing may be exempted wholesale."""
    settings = yaml.safe_load((REPOSITORY / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"]
    for _, pattern in settings.get("nitpick_ignore_regex", []):
        assert re.match(r"(?!spectral)\w+(\\\.|$)", pattern), pattern


@pytest.mark.slow
@pytest.mark.parametrize("module", ["physics", "splits", "data", "training", "methods", "limits", "analysis"])
def test_what_is_public_stands_on_the_pages_of_the_package(module: str, built_book: Any) -> None:
    pages = (built_book.html / "book" / "reference" / f"{name}.html" for name in ("api", "api_estimators"))
    page = BeautifulSoup("".join(page.read_text(encoding="utf-8") for page in pages), "html.parser")
    found = importlib.import_module(f"spectral_tutorial.{module}")
    names = [n for n, v in vars(found).items() if getattr(v, "__module__", "") == found.__name__ and n[0] != "_"]
    documented = [name for name in names if callable(getattr(found, name)) and getattr(found, name).__doc__]
    assert documented
    for name in documented:
        if isinstance(getattr(found, name), type) or hasattr(getattr(found, name), "__code__"):
            assert page.find(id=f"spectral_tutorial.{module}.{name}"), name
    assert not page.select(".problematic, .system-message")


# --- notation and glossary


def look_up(name: str) -> Any:
    """Return what a name of the notation table stands for: ``MODULE.NAME``, ``MODULE.CLASS.ATTRIBUTE`` or a field."""
    parts = re.sub(r"^decoder\.", "estimators.decoder.", name).split(".")
    modules = next(n for n in range(len(parts), 0, -1) if is_module(".".join(parts[:n])))
    place = importlib.import_module(f"spectral_tutorial.{'.'.join(parts[:modules])}")
    return reduce(member, parts[modules:], place)


def is_module(name: str) -> bool:
    try:
        return bool(importlib.import_module(f"spectral_tutorial.{name}"))
    except ModuleNotFoundError:
        return False


def member(place: Any, name: str) -> Any:
    """Return an attribute, or a field of a dataclass, a named tuple or a model."""
    for fields in ("__dataclass_fields__", "model_fields"):
        if name in getattr(place, fields, ()):
            return getattr(place, fields)[name]
    return getattr(place, name)


def names_in(text: str) -> list[str]:
    """Names of the code in the rows of the tables."""
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| symbol")]
    return [name for row in rows for name in re.findall(r"(?<!\})`([\w.]+)`", row)]


NAMES = names_in(PROSE["notation"])


def test_every_row_of_the_notation_table_has_a_name() -> None:
    rows = [line for line in PROSE["notation"].splitlines() if line.startswith("| ") and "symbol" not in line]
    assert len(rows) == len(NAMES) > 30


@pytest.mark.parametrize("name", NAMES)
def test_every_name_in_the_notation_table_is_one_of_the_code(name: str) -> None:
    assert look_up(name) is not None


def test_shapes_in_the_notation_table_are_those_of_the_arrays() -> None:
    """For what a world and two spectra are enough to make."""
    world = spectral_tutorial.World.from_config(config.load(SHIPPED).spectra)
    temperature, abundance, noise = np.array([4000.0, 5000.0]), np.full((2, 20), 0.1), np.full(2, 0.1)
    free = world.index(["comp10", "comp4"])
    made = {
        "physics.World.profiles": world.profiles,
        "physics.World.strength": world.strength,
        "physics.World.wavelength": world.wavelength,
        "physics.World.factors": world.factors(abundance),
        "physics.World.line_log_factors": world.line_log_factors(abundance),
        "physics.World.mean_flux": world.mean_flux(temperature, abundance),
        "physics.World.log_jacobian": world.log_jacobian(temperature, abundance, free),
        "limits.fisher_information": spectral_tutorial.limits.fisher_information(
            world, temperature, abundance, noise, free
        ),
        "limits.cramer_rao": spectral_tutorial.limits.cramer_rao(world, temperature, abundance, noise, free),
    }
    sizes = {"N": 2, "L": 20, "W": world.wavelength.size, "K": 2, "K + 1": 3}
    for name, array in made.items():
        (row,) = (line for line in PROSE["notation"].splitlines() if f"`{name}`" in line)
        axes = re.search(r"\$\(([^)]*)\)\$", row.split(f"`{name}`")[1])[1]  # type: ignore[index]
        assert array.shape == tuple(sizes[axis.strip()] for axis in axes.split(",") if axis.strip()), name


def entries() -> dict[str, str]:
    """Terms of the glossary and what is said of them."""
    body = PROSE["glossary"].split("```{glossary}\n:sorted:\n")[1].split("```")[0]
    blocks = [block.splitlines() for block in body.strip().split("\n\n")]
    return {
        line: " ".join(text.strip() for text in block if text.startswith(" "))
        for block in blocks
        for line in block
        if not line.startswith(" ")
    }


TERMS = entries()


def test_no_term_is_explained_twice_or_at_length() -> None:
    assert len(TERMS) > 40
    for term, text in TERMS.items():
        sentences = [part for part in re.split(r"(?<=[.])\s", text) if part]
        assert 1 <= len(sentences) <= 2, term
        assert text.endswith("."), term
        assert not re.search(rf"\b{re.escape(term)}\b", sentences[0], re.IGNORECASE), f"{term} explains itself"


@pytest.mark.parametrize("page", PROSE)
def test_terms_that_pages_link_to_are_in_the_glossary(page: str) -> None:
    linked = re.findall(r"\{term\}`(?:[^`<]*<)?([^`<>]+)>?`", PROSE[page])
    assert {term.lower() for term in linked} <= {term.lower() for term in TERMS}


# --- citation


def test_the_citation_file_is_valid() -> None:
    cff = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    schema = check_jsonschema.builtin_schemas.get_builtin_schema("vendor.citation-file-format")
    jsonschema.validate(cff, schema)
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{cff["version"]}"' in project
    assert f'license = "{cff["license"]}"' in project
    assert f'name = "{cff["authors"][0]["name"]}"' in project


def test_every_reference_is_cited_on_a_page() -> None:
    entries = re.findall(r"^@\w+\{([^,]+),", (BOOK / "references.bib").read_text(encoding="utf-8"), re.M)
    cited = {
        name
        for text in PROSE.values()
        for group in re.findall(r"\{cite:\w+\}`([^`]*)`", text)
        for name in group.split(",")
    }
    assert set(entries) == cited


# --- figures and equations


def figure_names() -> list[str]:
    """Names of all figures of the book, from cells of notebooks and of executed Markdown."""
    names = []
    for path in NOTEBOOKS:
        settings = [cell.metadata.get("mystnb", {}) for cell in nbformat.read(path, as_version=4).cells]
        names += [found["figure"]["name"] for found in settings if "figure" in found]
    for text in PROSE.values():
        names += re.findall(r"^\s*:?name: (fig-[\w-]+)$", text, re.M)
    return names


def uses(role: str) -> set[str]:
    """What the prose refers to with a role, with text of its own or without."""
    return {name for text in PROSE.values() for name in re.findall(rf"\{{{role}\}}`(?:[^`<]*<)?([\w-]+)>?`", text)}


def equations(text: str) -> list[str | None]:
    """Labels of the display equations of a page, None for one without."""
    blocks = re.findall(r"^```\{math\}\n(.*?)^```", text, re.M | re.S)
    labels = [re.match(r":label: (\S+)\n", block) for block in blocks]
    bare = re.findall(r"^\$\$|^\\begin\{", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    return [label and label[1] for label in labels] + [None] * len(bare)


def test_every_figure_has_one_name_and_the_text_speaks_of_it() -> None:
    names = Counter(figure_names())
    assert max(names.values()) == 1, names
    assert set(names) - uses("numref") == set(), "figures that no page refers to"
    assert {name for name in uses("numref") if name.startswith("fig-")} <= set(names)


def test_every_display_equation_is_numbered_and_the_text_speaks_of_it() -> None:
    labels = Counter(label for text in PROSE.values() for label in equations(text))
    assert None not in labels, "a display equation without a label"
    assert max(labels.values()) == 1, labels
    assert set(labels) == uses("eq")


def test_words_for_figures_and_equations_are_references() -> None:
    """Not "the figure above" or "Figure 3": a number that was typed would be wrong one day."""
    for page, text in PROSE.items():
        typed = re.findall(r"\b(?:[Ff]igure|[Ee]quation|Fig\.|Eq\.) ?(?:\(?\d|above|below)", text)
        assert not typed, f"{page}: {typed}"
