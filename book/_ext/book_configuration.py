"""The keys of a configuration file, as its reader looks them up: made from the models that check the file.

``{config-keys} MODEL`` lists every key of a model and of the models inside it; ``{config-defaults} MODEL`` tabulates
the keys whose absence means something else than what the file of this book says (option ``:file:``, relative to the
page).
"""

from __future__ import annotations

import importlib
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from docutils import nodes
from docutils.parsers.rst import directives
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from spectral_tutorial.reading import Unit, Valid, load_yaml
from spectral_tutorial.sections import MixtureDistribution

NOT_IN_FILES = (MixtureDistribution,)
"""Models that the program makes and no file may hold."""

NOTHING = "nothing"
"""What stands for a key that is absent and has no other value then."""

NO_NAME = ("", "dimensionless")
"""Units that are not written after "in"."""

CODE = re.compile(r"`[^`]+`|[a-z]+(?:_[a-z]+)+(?:/[a-z]+|\.yaml)?|[a-z]+\.yaml|SECTION\.KEY")
"""What is code in a description: values, keys and files are known by their underscores, or stand between backticks."""

NOUNS = {bool: "true or false", int: "whole number", float: "number", str: "text", Any: "value"}


@dataclass(frozen=True)
class Key:
    """One key: its path in the file, what it may hold and means, and its value where it is absent (None: required).

    `when` is the kind of model, of several in one place, that has the key.
    """

    path: str
    valid: str
    unit: str
    default: str | None
    meaning: str
    when: str = ""


def keys(model: type[BaseModel], above: str = "", unit: str = "", kind: str = "") -> Iterator[Key]:
    """Yield the keys of a model and of the models in it, in the order of a file.

    `kind` names the key that tells several models in one place apart: it has to be there, whatever its default.
    """
    for name, field in model.model_fields.items():
        path, own = above + name, _first(Unit, field.metadata) or unit
        inner, steps = _models_in(field.annotation)
        default = None if field.is_required() or name == kind else in_yaml(field.get_default(call_default_factory=True))
        shown = "" if inner or not _takes_unit(field) else own
        yield Key(path, words(field.annotation, field.metadata), shown, default, str(field.description))
        found: dict[str, Key] = {}
        for part in inner:
            for key in keys(part, f"{path}{steps}.", own, str(field.discriminator or "")):
                if before := found.get(key.path):
                    found[key.path] = replace(key, valid=f"{before.valid} or {key.valid}", when="")
                else:
                    found[key.path] = replace(key, when=key.when or _kind(part, field.discriminator))
        yield from found.values()


def words(annotation: Any, metadata: Any = ()) -> str:
    """Say what may stand in a place: its kind and its limits."""
    if valid := _first(Valid, metadata):
        return valid
    parts, origin = get_args(annotation), get_origin(annotation)
    if origin is Annotated:
        inner = [part for extra in parts[1:] for part in (extra.metadata if isinstance(extra, FieldInfo) else [extra])]
        return words(parts[0], [*inner, *metadata])
    if origin is Literal:
        return " or ".join(", ".join(f"`{part}`" for part in parts).rsplit(", ", 1))
    if inner := _models_in(annotation)[0]:
        return {tuple: "list of keys with values", Mapping: "keys with values, by name"}.get(_holder(origin), "keys")
    if origin in (Union, types.UnionType):
        return " or ".join(words(part, metadata) for part in parts if part is not type(None))
    if origin is tuple:
        return f"list of {_count(metadata)}{_plural(words(parts[0]))}"
    if origin is not None and issubclass(origin, Mapping):
        return f"{_plural(words(parts[1]))} by name"
    return f"{NOUNS[annotation]} {_limits(metadata)}".strip()


def in_yaml(value: Any) -> str:
    """Write a value as a file would."""
    if value is None:
        return NOTHING
    plain = dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def value_at(content: Any, path: str) -> str | None:
    """Return what a file holds at a path, as it would write it; None where there is nothing, or more than one value."""
    for step in path.split("."):
        if not isinstance(content, Mapping) or step not in content:
            return None
        content = content[step]
    return None if isinstance(content, Mapping) or "[{" in in_yaml(content) else in_yaml(content)


def _first(kind: type[Unit] | type[Valid], metadata: Any) -> str:
    return next((astuple(part)[0] for part in metadata if isinstance(part, kind)), "")


def _kind(model: type[BaseModel], discriminator: Any) -> str:
    """Say which of several models this is, as a file does."""
    return f"{discriminator}: {model.model_fields[discriminator].default}" if discriminator else ""


def _takes_unit(field: FieldInfo) -> bool:
    """Whether the values are numbers: a unit of a whole model is passed down to these."""
    return "float" in repr(field.annotation)


def _holder(origin: Any) -> Any:
    return Mapping if isinstance(origin, type) and issubclass(origin, Mapping) else origin


def _models_in(annotation: Any) -> tuple[list[type[BaseModel]], str]:
    """Return the models that may stand in a place, and the steps that lead to them through lists and names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation] if annotation not in NOT_IN_FILES else [], ""
    step = {tuple: "[N]", Mapping: ".NAME"}.get(_holder(get_origin(annotation)), "")
    found = [_models_in(part) for part in get_args(annotation)]
    models = [model for inner, _ in found for model in inner]
    return models, step + next((steps for inner, steps in found if inner), "")


def _number(value: float) -> str:
    short = f"{value:g}"
    return short.replace("e+0", "e") if float(short) == value else f"{value:,}"


def _limits(metadata: Any) -> str:
    """Say the limits of a number; where two of a kind are given, the first is the field's own."""
    lower, upper = (
        next((part for part in metadata if isinstance(part, kinds)), None) for kinds in ((Gt, Ge), (Lt, Le))
    )
    low = lower and _number(astuple(lower)[0])
    high = upper and _number(astuple(upper)[0])
    if isinstance(lower, Ge) and isinstance(upper, Le):
        return f"from {low} to {high}"
    said = [low and ("above " if isinstance(lower, Gt) else "at least ") + low]
    said += [high and ("below " if isinstance(upper, Lt) else "at most ") + high]
    return ", ".join(filter(None, said))


def _count(metadata: Any) -> str:
    least = next((f"at least {part.min_length} " for part in metadata if isinstance(part, MinLen)), "")
    return least or next((f"at most {part.max_length} " for part in metadata if isinstance(part, MaxLen)), "")


def _plural(noun: str) -> str:
    return re.sub(r"^list\b", "lists", re.sub(r"\b(number|value|text)\b", r"\1s", noun, count=1))


def with_code(text: str) -> str:
    """Put backticks around the code in a description."""
    return CODE.sub(lambda found: f"`{found[0].strip('`')}`", text)


def marked(text: str) -> list[nodes.Node]:
    """Turn text with `code` in it into nodes."""
    pieces = enumerate(text.split("`"))
    return [nodes.literal("", piece) if place % 2 else nodes.Text(piece) for place, piece in pieces if piece]


class _ConfigDirective(SphinxDirective):
    """What both directives take: a model by its name (``MODULE.NAME`` inside the package), and a file of the book."""

    required_arguments = 1
    option_spec = {"file": directives.unchanged}  # noqa: RUF012

    def read(self) -> tuple[list[Key], Any]:
        """Return the model's keys and the content of the file."""
        module, name = self.arguments[0].rsplit(".", 1)
        model = getattr(importlib.import_module(f"spectral_tutorial.{module}"), name)
        path = self.options.get("file")
        return list(keys(model)), load_yaml(Path(self.env.relfn2path(path)[1])) if path else {}


class ConfigKeys(_ConfigDirective):
    """A definition list: a key and what it may hold, what it means, and what holds where it is absent."""

    def run(self) -> list[nodes.Node]:
        """Make the list."""
        found, content = self.read()
        listed = nodes.definition_list(classes=["config-keys"])
        listed += [self.item(key, value_at(content, key.path)) for key in found]
        return [listed]

    def item(self, key: Key, here: str | None) -> nodes.definition_list_item:
        """Make one entry."""
        target = nodes.make_id(f"{self.arguments[0].rsplit('.', 1)[1]}-{key.path}")
        term = nodes.term("", "", nodes.literal("", key.path), ids=[target])
        kind = nodes.classifier("", "", *marked(key.valid + (f", in {key.unit}" if key.unit not in NO_NAME else "")))
        if key.unit == "dimensionless":
            kind += nodes.Text(", dimensionless")
        needed = "Required" + (f" with `{key.when}`" if key.when else "")
        said = needed if key.default is None else f"If absent: `{key.default}`"
        said = "May be absent" if key.default == NOTHING else said
        said += "" if here in (None, key.default) else f". In this book: `{here}`"
        meaning = with_code(f"{key.meaning[0].upper()}{key.meaning[1:]}. ")
        body = nodes.paragraph(
            "", "", *marked(meaning), nodes.inline("", "", *marked(f"{said}."), classes=["config-default"])
        )
        entry = nodes.definition_list_item("", term, kind, nodes.definition("", body))
        self.set_source_info(entry)
        return entry


class ConfigDefaults(_ConfigDirective):
    """A table of the keys that may be absent and that the file of this book sets to something else."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        found, content = self.read()
        rows = [(key, value_at(content, key.path)) for key in found if key.default is not None]
        rows = [(key, here) for key, here in rows if here not in (None, key.default)]
        head = ["Key", "If absent", "In this book", "What it is"]
        body = [[f"`{key.path}`", f"`{key.default}`", f"`{here}`", with_code(key.meaning)] for key, here in rows]
        return [table(head, body)]


def table(head: list[str], body: list[list[str]]) -> nodes.table:
    """Make a table of texts with `code` in them."""

    def row(texts: list[str]) -> nodes.row:
        entries = [nodes.entry("", nodes.paragraph("", "", *marked(text))) for text in texts]
        return nodes.row("", *entries)

    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    group += [nodes.thead("", row(head)), nodes.tbody("", *map(row, body))]
    return nodes.table("", group, classes=["names"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives; Sphinx calls this."""
    app.add_directive("config-keys", ConfigKeys)
    app.add_directive("config-defaults", ConfigDefaults)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
