"""Hundreds of spoiled configurations: each is accepted or refused in one sentence, and none leaves a file behind."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import cases, small_experiment, write_experiment
from hypothesis import given
from hypothesis import strategies as st

from spectral_tutorial import Experiment, methods
from spectral_tutorial.config import Config, ConfigError, load
from spectral_tutorial.store import StoreError

pytestmark = pytest.mark.slow
NAMES = ("meta", "spectra", "distribution", "training", "analysis")
VARIATIONS: dict[str, dict[str, Any]] = {
    "exponential": {"spectra.line_law": "beer_lambert", "methods": ["synthesis", "network+16"]},
    "other": {"pair": ["comp1", "comp3"], "training.epochs": 1},
    "wide": {"spectra.lines[0].width": 60.0, "distribution.splits.test.n_samples": 8},
}


def files() -> dict[str, Any]:
    """The small experiment's five files, with variations and with every kind of value somewhere."""
    found = copy.deepcopy(small_experiment())
    found["analysis"]["variations"] = copy.deepcopy(VARIATIONS)
    found["distribution"]["splits"]["test"]["distribution"]["combinations"][0]["ranges"] = {"comp4": [0.5, 1.0]}
    found["training"] |= {"optimizer": "adamw", "device": "cpu", "n_bins": 64, "seed": None, "dropout_rate": 0.1}
    return found


# --- what the values and keys are spoiled with

WORDS = [
    "comp1", "comp6", "comp99", "train", "val", "test", "mlp", "cnn", "log", "auto", "none", "uniform", "log_uniform",
    "component_combinations", "function", "mixture", "sampling_code", "json:dumps", "no_such:thing", "a:b:c", ":", "..",
    "../exp", "/dev/null", "/", "~", ".", "configs", "configs/training.yaml", "a\0b", "1e6", "1e-3", "0x10", "010", "",
    " ", "\n", "\t", "null", "true", "yes", "<<", "{x}", "%s", "{0.__class__}", "é", "名", "\u202e", "\ud800",
    "\U0001f600", "a" * 300, "network", "network+0", "decoder", "pair",
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 6, 7, 64, 2**31, 2**32, 2**63, 10**30, -(10**400), 0.5, -0.0, 1e-320, 1e308, float("nan"),
           float("inf"), -float("inf")]  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.integers(), st.floats(), st.sampled_from(WORDS),
    st.text(max_size=6), st.binary(max_size=3), st.dates(),
)  # fmt: skip
KEYS = st.sampled_from([*WORDS, "epochs", "lines", "splits", "range", "ranges", "type"]) | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS | st.integers(), v, max_size=3), max_leaves=6
)
SECTION_KEYS = [
    "meta.exp_dir", "meta.data_seed", "meta.training_seed[0]", "meta.run_training", "meta.spectra_config_path",
    "spectra.n_bins", "spectra.lines", "spectra.lines[0]", "spectra.lines[0].width", "spectra.lines[5].label",
    "spectra.lines[6].width", "spectra.lines[-1].width", "spectra.line_law", "spectra.sampling.noise.range[1]",
    "distribution.splits", "distribution.splits.train", "distribution.splits.new", "distribution.splits.test.n_samples",
    "distribution.splits.test.distribution.combinations[0].components", "distribution.splits.test.distribution",
    "distribution.splits.test.distribution.combinations[0].ranges.comp4", "training.epochs", "training.hidden_dims",
    "training.hidden_dims[0]", "training.model_type", "training.learning_rate", "training.n_bins",
    "analysis.plot_config", "analysis.plot_config.x_component", "analysis.plot_config.names", "analysis.n_data_seeds",
    "analysis.variations", "analysis.variations.other", "analysis", "training.",
    ".training", "training..epochs", "training.epochs[0]", "spectra.lines[", "spectra.lines[99999999999999999999]",
    "spectra.lines.[0].width", "pair", "methods", "analysis.variations.other.pair",
]  # fmt: skip
DOTTED = st.sampled_from(SECTION_KEYS) | KEYS | st.tuples(st.sampled_from(NAMES), KEYS).map(".".join)
LABELS = st.sampled_from([f"comp{number}" for number in range(1, 8)])
PAIRS = st.lists(LABELS | SCALARS, max_size=3)
NEARLY_RIGHT = st.fixed_dictionaries(
    {},
    optional={
        "pair": st.lists(LABELS, min_size=2, max_size=2),
        "methods": st.lists(st.sampled_from(["network", "network+16", "decoder", "observer", "ridge"]), max_size=2),
        "meta.training_seed": st.lists(st.integers(-1, 3), max_size=3),
        "spectra.n_bins": st.integers(1, 70),
        "spectra.line_law": st.sampled_from(["linear", "beer_lambert"]),
        "spectra.noise_law": st.sampled_from(["relative", "photon"]),
        "spectra.lines[1].strength": st.floats(-2, 60),
        "spectra.sampling.abundance.range": st.lists(st.floats(-0.5, 60), min_size=2, max_size=2).map(sorted),
        "distribution.splits.val.n_samples": st.integers(0, 9),
        "distribution.splits.test.distribution.combinations[0].components": st.lists(LABELS, max_size=3),
        "distribution.splits.test.distribution.combinations[0].weight": st.floats(0, 2),
        "training.hidden_dims": st.lists(st.integers(0, 3), max_size=2),
        "training.model_type": st.sampled_from(["mlp", "cnn", "linear", "json:JSONDecoder"]),
        "training.n_bins": st.none() | st.integers(63, 65),
        "analysis.plot_config.x_component": LABELS | st.integers(0, 7),
    },
)  # fmt: skip
CHANGES = st.dictionaries(DOTTED, VALUES | PAIRS, max_size=3) | NEARLY_RIGHT


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths of all values in nested lists and mappings."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [p for key, inner in items for p in [(*path, key), *places(inner, (*path, key))]]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def spoil(data: st.DataObject, document: dict[str, Any]) -> None:
    """Change one key, value, type or nesting somewhere in a document."""
    known = places(document)
    if not known:
        document[data.draw(KEYS)] = data.draw(VALUES)
        return
    *path, last = data.draw(st.sampled_from(known))
    parent = at(document, tuple(path))
    match data.draw(st.sampled_from(["replace", "remove", "add", "rename", "wrap", "swap", "retype"])):
        case "remove":
            del parent[last]
        case "add" if isinstance(parent, dict):
            parent[data.draw(KEYS)] = data.draw(VALUES)
        case "add" if isinstance(parent, list):
            parent.append(data.draw(VALUES) if data.draw(st.booleans()) else copy.deepcopy(parent[last]))
        case "rename" if isinstance(parent, dict):
            parent[data.draw(KEYS)] = parent.pop(last)
        case "wrap":
            parent[last] = [parent[last]] if data.draw(st.booleans()) else {data.draw(KEYS): parent[last]}
        case "swap":
            parent[last] = copy.deepcopy(at(document, data.draw(st.sampled_from(known))))
        case "retype":
            parent[last] = data.draw(st.sampled_from([str, bool, repr, lambda v: [v, v]]))(parent[last])
        case _:
            parent[last] = data.draw(VALUES)


# --- what is expected of every case


def assert_one_sentence(message: str) -> None:
    assert message.isprintable()
    assert message.endswith(".")
    assert "found " in message
    assert "; expected " in message
    assert len(message) < 1500


def assert_accepted_or_one_sentence(act: Callable[[], object]) -> None:
    try:
        act()
    except ConfigError as refusal:
        assert_one_sentence(str(refusal))


def use(meta: Path) -> None:
    """Read, open and look at every variation, as far as ``run --all`` gets before it computes."""
    config = load(meta)
    try:
        Experiment(config)
    except StoreError as refusal:
        assert_one_sentence(str(refusal))
        return
    for name in config.analysis.variations:
        assert isinstance(config.variation(name), Config)
        assert methods.asked_in(config, name)


@pytest.fixture(scope="module")
def meta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The meta file of the small experiment, which every case spoils and puts back."""
    return write_experiment(tmp_path_factory.mktemp("fuzz"), files())


def check(meta: Path, written: dict[str, bytes]) -> None:
    """Put some of the five files in place, use them, and look whether anything was left behind."""
    paths = {name: meta.parent / files()["meta"][f"{name}_config_path"] for name in NAMES[1:]} | {"meta": meta}
    good = {path: path.read_bytes() for path in paths.values()}
    before, here = sorted(meta.parent.rglob("*")), sorted(os.listdir())
    for name, content in written.items():
        paths[name].write_bytes(content)
    try:
        assert_accepted_or_one_sentence(lambda: use(meta))
        assert sorted(meta.parent.rglob("*")) == before
        assert sorted(os.listdir()) == here
    finally:
        for path, content in good.items():
            path.write_bytes(content)


@cases(100, at_night=1000)
@given(data=st.data())
def test_spoiled_keys_values_types_and_nesting(meta: Path, data: st.DataObject) -> None:
    documents, names = files(), data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3))
    for name in names:
        spoil(data, documents[name])
    dumped = {name: yaml.dump(documents[name], allow_unicode=data.draw(st.booleans())) for name in names}
    check(meta, {name: text.encode("utf-8", "replace") for name, text in dumped.items()})


FRAGMENTS = [
    b"[", b"]", b"{", b"}", b": ", b":", b"- ", b"\t", b"\n", b"\r", b"\0", b"&a ", b"*a", b"!!", b"!!python/name:os ",
    b"'", b'"', b"|\n", b">\n", b"#", b"---\n", b"...\n", b"%YAML 1.1\n", b"<<: *a", b"? ", b"\xff", b"\xef\xbb\xbf",
    b"\xed\xa0\x80", b"\xe2\x80\xa8", b"e", b".", b"_", b"0", b"9" * 40, b"  ", b"[" * 400,
]  # fmt: skip
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037"]


@cases(60, at_night=500)
@given(data=st.data())
def test_spoiled_text_and_encodings(meta: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    text = yaml.safe_dump(files()[name], sort_keys=False, default_flow_style=data.draw(st.sampled_from([None, True])))
    content = text.encode(data.draw(st.sampled_from(ENCODINGS)))
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(len(content), start + 30)))
        patch = data.draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=4) | st.just(content[start:stop] * 2))
        content = content[:start] + patch + content[stop:]
    check(meta, {name: content})


@cases(40, at_night=400)
@given(variations=st.dictionaries(KEYS | st.sampled_from(["other", "a-b"]), CHANGES | VALUES, max_size=2))
def test_spoiled_variations(meta: Path, variations: dict[str, Any]) -> None:
    analysis = files()["analysis"]
    analysis["variations"] |= variations
    check(meta, {"analysis": yaml.dump(analysis).encode("utf-8", "replace")})


@cases(20, at_night=200)
@given(data=st.data())
def test_variations_with_one_thing_spoiled(meta: Path, data: st.DataObject) -> None:
    analysis = files()["analysis"]
    spoil(data, analysis["variations"])
    check(meta, {"analysis": yaml.dump(analysis).encode("utf-8", "replace")})


@pytest.fixture(scope="module")
def config(meta: Path) -> Config:
    return load(meta)


# ten million values once it is unfolded: many seconds and a gigabyte, where nobody counts
BOMB = ", ".join(["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 8))])


@pytest.mark.parametrize(
    "value",
    ["&a [*a]", "&a {b: *a}", "[" * 300 + "]" * 300, f"{{{BOMB}}}", r'"\ud800"', r'[{"\ud800": 1}]', "[1, [2, [3]]]"],
    ids=["holds itself", "mapping that holds itself", "deep", "aliases of aliases", "surrogate", "in a key", "plain"],
)
@pytest.mark.parametrize("key", ["training.epochs", "pair", "methods"])
def test_values_of_variations_that_grow_or_that_no_file_can_hold(meta: Path, key: str, value: str) -> None:
    analysis = {name: part for name, part in files()["analysis"].items() if name != "variations"}
    check(meta, {"analysis": f"{yaml.safe_dump(analysis)}variations: {{x: {{{key}: {value}}}}}\n".encode()})


@cases(80, at_night=800)
@given(changes=CHANGES)
def test_changes_by_dotted_keys(config: Config, changes: dict[Any, Any]) -> None:
    before = config.as_dict()
    assert_accepted_or_one_sentence(lambda: config.with_changes(changes).as_dict())
    assert config.as_dict() == before
