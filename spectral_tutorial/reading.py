"""Reading YAML strictly, and saying in one sentence what cannot be used.

Knows no key of this project: :mod:`spectral_tutorial.config` has the models that are validated here.
"""

from __future__ import annotations

import difflib
import importlib
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

Section = TypeVar("Section", bound=BaseModel)

# --- What the models say of a value beside its type and limits


@dataclass(frozen=True)
class Unit:
    """The unit of a number, for messages and the reference page."""

    name: str


@dataclass(frozen=True)
class Valid:
    """What a validator accepts, in words for the reference page."""

    words: str


# --- Errors: one sentence each


class ConfigError(ValueError):
    """A configuration that cannot be used; the message reads ``FILE: key.path: found X; expected Y``."""


def config_error(file: str | Path, key: str, found: str, expected: str) -> ConfigError:
    """Make the sentence; `key` may be empty or name a line. Whatever was found, it stays on one line."""
    sentence = f"{file}: {key}{': ' if key else ''}found {found}; expected {expected}."
    return ConfigError(" ".join("".join(c if c.isprintable() else " " for c in sentence).split()))


def show(value: object) -> str:
    """Represent a value as its file would write it, shortened."""
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    short = reprlib.Repr()
    short.maxstring, short.maxother, short.maxlevel = 60, 60, 2
    return short.repr(list(value) if isinstance(value, tuple) else value)


def one_of(valid: Iterable[str], found: object) -> str:
    """Name what would be valid, shortened, and the nearest match to what was found."""
    words = list(valid)
    shown = words if len(words) <= 24 else [*words[:20], "...", words[-1]]
    near = difflib.get_close_matches(str(found), words, n=1)
    return f"one of {', '.join(shown) or 'none'}" + (f" (did you mean {near[0]}?)" if near else "")


def refusal(expected: str, *at: str | int, found: str | None = None) -> PydanticCustomError:
    """Make a validator's error: `at` leads from the validated value to the culprit, `found` is ready text."""
    return PydanticCustomError("refused", "{expected}", {"expected": expected, "at": at, "found": found})


def check_plain(value: Any) -> Any:
    """Refuse what no file should hold: values that hold themselves, grow by aliases without end, or are not plain."""
    stack, seen = [(value, 0)], 0
    while stack:
        (item, depth), seen = stack.pop(), seen + 1
        if seen > 10_000 or depth > 20:
            raise refusal("at most 10,000 values, nested at most 20 deep", found="more")
        if isinstance(item, Mapping):
            stack += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list | tuple):
            stack += [(part, depth + 1) for part in item]
        elif isinstance(item, str):
            if any("\ud800" <= letter <= "\udfff" for letter in item):
                raise refusal("text that a file can hold", found="half a character")
        elif not (item is None or isinstance(item, bool | int) or (isinstance(item, float) and isfinite(item))):
            raise refusal("finite numbers, text, lists and keys with values", found=show(item))
    return value


# pydantic's error types in our words; what is not here keeps pydantic's own sentence
_EXPECTED = {
    "missing": "a value",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "greater_than": "a number greater than {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number less than {lt}",
    "less_than_equal": "a number of at most {le}",
    "literal_error": "{expected}",
    "too_short": "at least {min_length} in the list",
    "too_long": "at most {max_length} in the list",
    "string_too_long": "at most {max_length} characters",
    **dict.fromkeys(("dict_type", "mapping_type"), "keys with values"),
    **dict.fromkeys(("model_type", "model_attributes_type"), "keys with values"),
}


def validate(model: type[Section], data: object, file: str) -> Section:
    """Validate one file; the first error becomes a :class:`ConfigError` in the words of the file."""
    try:
        return model.model_validate(data)
    except ValidationError as problem:
        first, *others = problem.errors(include_url=False)
    context: dict[str, Any] = {**first.get("ctx", {})}
    for name in ("gt", "ge", "lt", "le"):
        context[name] = f"{float(context.get(name, 0)):.10g}"
    key, description = _locate(model, (*first["loc"], *context.get("at", ())))
    found = context.get("found") or ("nothing" if first["type"] == "missing" else show(first["input"]))
    expected = _EXPECTED.get(first["type"], "{expected}").format(**{"expected": first["msg"], **context})
    if first["type"] != "refused" and description:
        expected += f" ({description})"
    raise config_error(file, key, found, expected + (f" (and {len(others)} more)" if others else ""))


def _locate(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, str | None]:
    """Write pydantic's error location as ``lines[3].width`` and find the description of that field."""
    models, path, description = [model], "", None
    for step in location:
        kinds = {m.model_fields["type"].default for m in models if "type" in m.model_fields}
        if step == "[key]" or step in kinds:
            continue  # pydantic's own marks: an error in a key, the member of a union
        if isinstance(step, int):
            path += f"[{step}]"
            continue
        path += ("." if path else "") + (step if re.fullmatch(r"[\w-]{1,60}", step) else show(step))
        field = next((m.model_fields[step] for m in models if step in m.model_fields), None)
        if field is not None:
            models, description = list(_models_in(field.annotation)), field.description
            units = [part.name for part in field.metadata if isinstance(part, Unit) and part.name != "dimensionless"]
            description = f"{description}, in {units[0]}" if description and units else description
    return path, description


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


# --- YAML, read strictly


class _Refused(yaml.MarkedYAMLError):
    """A document that is YAML but not the plain kind that is read here."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, stricter: no duplicate keys, text as keys, no tags; numbers as in YAML 1.2.

    YAML 1.1 takes ``1e-3`` for text, ``010`` for 8, ``1:30`` for 90 and ``2024-01-01`` for a date.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.tag != "tag:yaml.org,2002:str" or not isinstance(key, yaml.ScalarNode):
                raise _Refused(problem="found a key that is not text; expected text", problem_mark=key.start_mark)
            if key.value in seen:
                problem = f"found the key {show(key.value)} twice; expected each key once"
                raise _Refused(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        # not SafeLoader's own: that one merges `<<`, which can grow a small file without bounds
        return yaml.constructor.BaseConstructor.construct_mapping(self, node, deep=deep)

    def refuse_tag(self, node: yaml.Node) -> NoReturn:
        problem = f"found the tag {show(node.tag)}; expected plain YAML without tags"
        raise _Refused(problem=problem, problem_mark=node.start_mark)


_NULL, _BOOL, _INT, _FLOAT, *_REST = (
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")
)
_DECIMAL = r"[-+]?([0-9][0-9_]*(\.[0-9_]*|(?=[eE]))|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?$"
_Loader.yaml_constructors = {
    tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (_NULL, _BOOL, _INT, _FLOAT, *_REST)
}
_Loader.add_constructor(None, _Loader.refuse_tag)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in (_NULL, _BOOL)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(_FLOAT, re.compile(_DECIMAL), list("-+0123456789."))
_Loader.add_implicit_resolver(_FLOAT, re.compile(r"[-+]?\.(inf|Inf|INF|nan|NaN|NAN)$"), list("-+."))


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have, or a closed folder, is a no."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def load_yaml(path: str | Path, file: str | None = None) -> dict[str, Any]:
    """Read a YAML file that holds one mapping, without Python objects and with numbers as numbers.

    Parameters
    ----------
    path : str or Path
        The file.
    file : str, optional
        How messages name it; by default as `path`.

    Raises
    ------
    ConfigError
        When the file cannot be read, is not plain YAML, repeats a key or holds anything but a mapping.
    """
    file, expected = file or str(path), "a YAML file with keys and values"
    if not is_file(Path(path)):
        raise config_error(file, "", "no such file", expected)
    try:
        data = yaml.load(Path(path).read_bytes().decode("utf-8-sig"), Loader=_Loader)
    except yaml.MarkedYAMLError as problem:
        line = f"line {problem.problem_mark.line + 1}" if problem.problem_mark else ""
        if isinstance(problem, _Refused) and problem.problem:
            found, _, expected = problem.problem.removeprefix("found ").rpartition("; expected ")
            raise config_error(file, line, found, expected) from None
        raise config_error(file, line, f"text that is not YAML ({problem.problem})", expected) from None
    except RecursionError:
        raise config_error(file, "", "lists or mappings nested too deeply", expected) from None
    except (OSError, yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as problem:
        raise config_error(file, "", f"what cannot be read ({problem})", expected) from None
    if not isinstance(data, dict):
        raise config_error(file, "", show(data), expected)
    return data


def resolve_callable(
    name: str, directory: str | Path, *, key: str = "callable", file: str = "configuration"
) -> Callable[..., Any]:
    """Import ``module:function`` or ``module:Class``; `directory` can be imported from meanwhile.

    Parameters
    ----------
    name : str
        Module and attribute, separated by a colon.
    directory : str or Path
        Folder that is searched first, that of the meta file.
    key, file : str
        Where the name was written, for the message.

    Raises
    ------
    ConfigError
        When the import fails, or what it gives is missing or cannot be called.
    """
    module, _, attribute = name.partition(":")
    expected = '"module:function" or "module:Class" that can be imported'
    path_before = list(sys.path)
    sys.path.insert(0, str(directory))
    try:
        importlib.invalidate_caches()
        found = getattr(importlib.import_module(module), attribute, None)
    except (Exception, SystemExit) as problem:  # whatever somebody's module raises on import
        reason = f"{type(problem).__name__}: {str(problem)[:200]}"
        raise config_error(file, key, f"{show(name)}, whose import fails ({reason})", expected) from problem
    finally:
        sys.path[:] = path_before
    own, loaded = Path(directory, *module.split(".")).with_suffix(".py"), getattr(sys.modules[module], "__file__", None)
    if is_file(own) and loaded and Path(loaded).resolve() != own.resolve():
        reason = f"{show(name)}, where another module of that name is in use already"
        raise config_error(file, key, reason, f"another name for {own.name}")
    if not callable(found):
        raise config_error(file, key, f"{show(name)}, which is not there or cannot be called", expected)
    return found
