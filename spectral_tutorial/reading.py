"""Reading YAML strictly, and saying in one sentence, a :class:`ConfigError`, what cannot be used.

Knows no key of this project: :mod:`spectral_tutorial.config` has the models that are validated here.
"""

import copyreg
import difflib
import importlib
import json
import os
import re
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic import model_validator as validator
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import Node
from ruamel.yaml.resolver import Resolver

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
    words = re.split(r"[ \t\r\n\f\v]+", sentence)
    return ConfigError("".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(words)))


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
    if not words:
        return "none, as there is nothing to choose from"
    shown = words if len(words) <= 24 else [*words[:20], "...", words[-1]]
    near = difflib.get_close_matches(found, words, n=1) if isinstance(found, str) else []
    return f"one of {', '.join(shown)}" + (f" (did you mean {near[0]}?)" if near else "")


def refusal(expected: str, *at: str | int, found: str | None = None) -> PydanticCustomError:
    """Make a validator's error: `at` leads from the validated value to the culprit, `found` is ready text."""
    return PydanticCustomError("refused", "{expected}", {"expected": expected, "at": at, "found": found})


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
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "keys with values"),
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


# --- What models are made of


class Part(BaseModel):
    """A mapping in a file: strict types, no unknown keys, no change after validation."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    @validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        for key in value if isinstance(value, Mapping) else ():
            if key not in cls.model_fields:
                raise refusal(one_of(cls.model_fields, key), str(key), found="an unknown key")
        return value


def read_only(items: Mapping[str, Any]) -> MappingProxyType[str, Any]:
    """Return a mapping that cannot be changed."""
    return MappingProxyType(dict(items))


copyreg.pickle(MappingProxyType, lambda mapping: (read_only, (dict(mapping),)))  # so that processes can exchange them


def check_text(text: str) -> str:
    """Refuse, in a validator, text that cannot be shown or is empty."""
    letters = re.sub("[\u00a0\u200d\u3000]", "", text)  # spaces and what joins emoji: names on disk may have them
    if not text.strip() or not letters.isprintable():
        raise refusal("printable text that is not empty")
    return text


def matching(pattern: str, expected: str) -> tuple[AfterValidator, Valid]:
    """Return a validator of text that matches a pattern, and what it says on the reference page."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise refusal(expected)
        return text

    return AfterValidator(check), Valid(expected)


def check_twice(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse, in a validator, a list that holds a value twice."""
    seen: set[str] = set()
    for index, value in enumerate(values):
        if repr(value) in seen:  # a value may be a list, which no set takes
            raise refusal("each of the list once", index, found=f"{show(value)} a second time")
        seen.add(repr(value))
    return values


# --- Values: plain ones, and not too many

MOST_VALUES, DEEPEST = 250_000, 50
"""How many values may be read at once, aliases followed, and how deep they may be nested."""


def plain(value: Any, file: str) -> Any:
    """Return a value as `file` would hold it, NumPy's numbers and arrays as numbers and lists.

    One that holds itself, is nested too deep or grows by aliases is refused.
    """
    seen = 0

    def copy(part: Any, depth: int) -> Any:
        nonlocal seen
        seen += 1
        if depth > DEEPEST:
            raise config_error(file, "", "lists or mappings nested too deeply", f"at most {DEEPEST}, one in the other")
        if seen > MOST_VALUES:
            expected = f"at most {MOST_VALUES:,}, those behind aliases counted each time"
            raise config_error(file, "", "more values", expected)
        if isinstance(part, Mapping):
            return {key: copy(inner, depth + 1) for key, inner in part.items()}
        if isinstance(part, list | tuple):
            return [copy(inner, depth + 1) for inner in part]
        return part.tolist() if hasattr(part, "tolist") else part

    return copy(value, 0)


def check_plain(value: Any) -> Any:
    """Refuse, in a validator, what no file should hold."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError):  # something else, NaN, half a character
        raise refusal("finite numbers, text that a file can hold, lists and keys with values") from None
    return value


# --- YAML and JSON, read strictly


class _Resolver(Resolver):
    """Numbers as in YAML 1.2 whatever version a file names, ``yes`` and ``no`` as in 1.1; dates are text."""

    processing_version = (1, 2)
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in known if tag.endswith((":null", ":bool", ":float"))]
        for first, known in Resolver.yaml_implicit_resolvers.items()
    }

    def __init__(self, version: Any = None, loader: Any = None) -> None:
        super().__init__(loader)


_YES_OR_NO = re.compile("(yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$")
_WHOLE = re.compile("[-+]?(0|[1-9][0-9_]*)$")  # 010 is 8 in YAML 1.1 and 10 in 1.2: text, which no number may be
_Resolver.add_implicit_resolver_base("tag:yaml.org,2002:bool", _YES_OR_NO, list("yYnNoO"))
_Resolver.add_implicit_resolver_base("tag:yaml.org,2002:int", _WHOLE, list("-+0123456789"))


class _Constructor(SafeConstructor):
    """Numbers, text, lists and mappings; any other tag is unknown."""

    yaml_constructors = {  # noqa: RUF012
        tag: make
        for tag, make in SafeConstructor.yaml_constructors.items()
        if tag is None or tag.endswith((":null", ":bool", ":int", ":float", ":str", ":seq", ":map"))
    }

    def flatten_mapping(self, node: Node) -> None:
        """Leave ``<<`` alone: merging can grow a small file without bounds."""


def parse(content: bytes, file: str) -> Any:
    """Return what a YAML document holds, in bounds (see :func:`plain`); ConfigError names `file` if it is not plain."""
    expected = "a YAML file with keys and values"
    yaml = YAML(typ="safe", pure=True)
    yaml.Resolver, yaml.Constructor = _Resolver, _Constructor
    yaml.composer.warn_double_anchors = False
    try:
        data = yaml.load(content.decode("utf-8-sig"))
    except MarkedYAMLError as problem:
        line = f"line {problem.problem_mark.line + 1}" if problem.problem_mark else ""
        found = f"text that is not plain YAML ({str(problem.problem)[:200]})"
        raise config_error(file, line, found, expected) from None
    except Exception as problem:  # the library assumes that a tag fits its value, that an escape is a character...
        raise config_error(file, "", f"what cannot be read ({problem})", expected) from None
    return plain(data, file)


def load_yaml(path: str | Path, file: str | None = None) -> dict[str, Any]:
    """Read a YAML file that holds one mapping; `file` is how messages name it."""
    file, expected = file or str(path), "a YAML file with keys and values"
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise config_error(file, "", f"what cannot be read ({reason})", expected) from None
    data = parse(content, file)
    if not isinstance(data, dict):
        raise config_error(file, "", show(data), expected)
    return data


# --- Names, paths and code that a file points to


def wrong_name(name: object, others: Iterable[str] = ()) -> str | None:
    """Say what would be a name that can be a folder's on every system, beside `others`; None where this one is."""
    expected = "a name of at most 60 letters, digits, _ and -"
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name):
        return expected
    if re.fullmatch(r"con|prn|aux|nul|(com|lpt)\d", name.lower()):
        return f"{expected} that is no device on Windows"
    twin = next((other for other in others if other != name and other.lower() == name.lower()), None)
    return f"a name that differs from {twin} in more than capital letters" if twin else None


def check_folders(named: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse, in a validator, a name that cannot be a folder's."""
    for name in named:
        if expected := wrong_name(name, named):
            raise refusal(expected, name, found=show(name))
    return named


def resolve_path(path: str | Path, directory: Path, *, key: str, file: str) -> Path:
    """Return where a path leads, absolute: ``~`` and ``$NAME`` are expanded, the rest is relative to `directory`.

    In a Path, which the program may have made, ``$`` is a character like any other; `key` and `file` say where text
    was written.
    """
    text = os.path.expanduser(os.path.expandvars(path) if isinstance(path, str) else path)
    if str(text).startswith("~") or (isinstance(path, str) and re.search(r"\$(\w|\{)", str(text))):
        raise config_error(file, key, show(str(path)), "a path whose ~ and $NAME stand for something here")
    try:
        # what is written here is UTF-8, whatever the locale takes the names on disk for
        found = (directory / os.fsdecode(str(text).encode("utf-8", "surrogateescape"))).resolve()
        if found.is_symlink():  # it still is one: a loop
            raise OSError("a link that leads back to itself")
        found.exists()  # raises where the name is too long, or a folder closed
    except (OSError, RuntimeError, ValueError) as problem:
        reason = f"{show(str(path))}, where nothing can be ({str(problem)[:200]})"
        raise config_error(file, key, reason, "the path of a file or folder") from None
    return found


def existing_file(
    path: str, directory: Path, *, key: str, file: str, kind: str = "YAML file, relative to this one"
) -> Path:
    """Return where a path leads, see :func:`resolve_path`; ConfigError if there is no file."""
    found = resolve_path(path, directory, key=key, file=file)
    if not found.is_file():
        expected = f"the path of a {kind}"
        raise config_error(file, key, f"{show(path)}, where there is no file", expected)
    return found


def resolve_callable(
    name: str, directory: str | Path, *, key: str = "callable", file: str = "configuration"
) -> Callable[..., Any]:
    """Import ``module:function`` or ``module:Class``, from `directory` first; `key` and `file` say who named it."""
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
    if own.is_file() and loaded and Path(loaded).resolve() != own.resolve():
        reason = f"{show(name)}, where another module of that name is in use already"
        raise config_error(file, key, reason, f"another name for {own.name}")
    if not callable(found):
        raise config_error(file, key, f"{show(name)}, which is not there or cannot be called", expected)
    return found
