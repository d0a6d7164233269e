"""What people bring: documents that grow, odd names, odd folders, NumPy's values, code of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import REPOSITORY, small_experiment, write_experiment

import spectral_tutorial
from spectral_tutorial import Experiment, cli, methods, splits, store
from spectral_tutorial.config import Config, ConfigError, load
from spectral_tutorial.reading import parse, plain, resolve_path, wrong_name
from spectral_tutorial.sections import RESERVED_SPLITS

BOMB = ", ".join(["a0: &a0 [1, 1]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))])


def changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Write the small experiment with a change and return the meta file's path."""
    files = small_experiment()
    change(files)
    return write_experiment(folder, files)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load(write_experiment(tmp_path))


# --- documents that grow


@pytest.mark.parametrize(
    "value", [f"{{{BOMB}}}", "&a [*a]", "&a {b: *a}", "[" * 60 + "]" * 60, "{a: " * 60 + "1" + "}" * 60]
)
def test_a_document_is_bounded_before_anything_is_made_of_it(value: str) -> None:
    with pytest.raises(ConfigError, match="x.yaml: found (more values|lists or mappings nested too deeply); expected"):
        parse(f"type: {value}\n".encode(), "x.yaml")


def test_aliases_that_do_not_grow_are_what_they_were() -> None:
    assert parse(b"a: &a [1, 2]\nb: [*a, *a]\nc: &a 3\nd: *a\n", "x") == {
        "a": [1, 2],
        "b": [[1, 2]] * 2,
        "c": 3,
        "d": 3,
    }


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_the_version_that_a_file_names_changes_no_number(version: str) -> None:
    text = f"%YAML {version}\n---\na: 1e-3\nb: 010\nc: 1:30\nd: yes\ne: 2024-01-01\n"
    assert parse(text.encode(), "x") == {"a": 1e-3, "b": "010", "c": "1:30", "d": True, "e": "2024-01-01"}


def test_json_nested_thousands_deep_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / store.STATUS
    for text in ("[" * 100_000, "[" * 200 + "]" * 200, '{"files": ' * 60 + "1" + "}" * 60, "{", "\xff"):
        path.write_text(text, encoding="latin-1")
        assert not store.Stage(tmp_path, "").intact()
    path.write_text(json.dumps({"files": {}}), encoding="utf-8")
    assert store.Stage(tmp_path, "").status() == {"files": {}}


@pytest.mark.parametrize("text", [f"lines: {{{BOMB}}}", "lines: " + "[" * 500, "n_bins: &a [*a]"])
def test_a_recorded_configuration_that_grows_cannot_be_read(tmp_path: Path, text: str) -> None:
    meta = write_experiment(tmp_path)
    Experiment.from_yaml(meta)._generate_all()
    (tmp_path / "exp" / "configs" / "synthetic_spectra.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(store.StoreError, match=r"synthetic_spectra.yaml cannot be read"):
        Experiment.from_yaml(meta)


def test_a_record_says_what_the_files_said(tmp_path: Path) -> None:
    """A label that looks like a number is recorded between quotes."""
    meta = write_experiment(tmp_path)
    spectra = tmp_path / "configs" / "synthetic_spectra.yaml"
    text = spectra.read_text(encoding="utf-8").replace("label: comp1", "label: '1e-3'").replace("comp2", "010")
    spectra.write_text(text, encoding="utf-8")
    Experiment.from_yaml(meta)._generate_all()
    Experiment.from_yaml(meta)._generate_all()
    assert load(tmp_path / "exp" / "configs" / "meta_config.yaml").spectra.labels[:2] == ("1e-3", "010")


# --- names


@pytest.mark.parametrize(
    "name", ["..", ".", "", "/abs", "a/b", "a\\b", "a.", "con", "NUL", "com1", "a" * 61, "é", 3, None]
)
def test_names_that_are_no_folder_everywhere(config: Config, name: Any) -> None:
    with pytest.raises(ConfigError, match=r"^variation: found .*; expected a name of at most 60 letters"):
        Experiment(config).variation(name, {"training.epochs": 1})
    assert not config.exp_dir.exists()


def test_names_that_differ_only_in_case() -> None:
    assert wrong_name("wide", ["wide", "Narrow"]) is None
    assert wrong_name("wide", ["wide", "Wide"]) == "a name that differs from Wide in more than capital letters"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        *(([name], f"splits.{name}: found '{name}'; expected another name than the") for name in RESERVED_SPLITS),
        (["Composed"], "splits.Composed: found 'Composed'; expected another name"),
        (["dark", "Dark"], "splits.dark: found 'dark'; expected a name that differs from Dark in more than capital"),
        (["con"], "splits.con: found 'con'; expected a name of .* that is no device on Windows"),
        (["a."], "splits.'a.': found 'a.'; expected a name of at most 60 letters"),
    ],
)  # fmt: skip
def test_names_of_splits_that_collide(tmp_path: Path, names: list[str], message: str) -> None:
    test = small_experiment()["distribution"]["splits"]["test"]
    meta = changed(tmp_path, lambda files: files["distribution"]["splits"].update(dict.fromkeys(names, test)))
    with pytest.raises(ConfigError, match=f"^configs/data_distribution.yaml: {message}"):
        load(meta)


def test_reserved_are_the_splits_that_the_package_adds(config: Config) -> None:
    added = splits.added(splits.complete(config.distribution.splits), config.spectra.labels, config.reported)
    assert {*added, methods.COMPOSED, methods.RECOMBINED} == set(RESERVED_SPLITS)


def test_names_of_variations_that_collide(tmp_path: Path) -> None:
    twins = {"wide": {"training.epochs": 1}, "Wide": {"training.epochs": 3}}
    meta = changed(tmp_path, lambda files: files["analysis"].update(variations=twins))
    with pytest.raises(ConfigError, match="variations.wide: found 'wide'; expected a name that differs from Wide"):
        load(meta)


def test_a_table_keeps_its_names(tmp_path: Path) -> None:
    names = ["NA", "None", "NaN", "null", "1", "1.0", "true", "-"]
    table = pd.DataFrame({"component": names, "axis": names, "mse": [np.nan, np.inf, *range(6)], "n": range(8)})
    table.to_csv(tmp_path / "a.csv", index=False)
    pd.testing.assert_frame_equal(store.read_table(tmp_path / "a.csv", ["axis"]), table)


def test_lines_that_are_called_nothing_stay_in_the_report(tmp_path: Path) -> None:
    """From the files of the stages to the report."""
    text = (
        json.dumps(small_experiment()).replace('"comp6"', '"NA"').replace('"comp4"', '"null"').replace('"comp1"', '"1"')
    )
    meta = write_experiment(tmp_path, json.loads(text))
    for _ in range(2):  # the second time everything is read back
        experiment = Experiment.from_yaml(meta)
        assert set(experiment.gap_report("network")["component"]) == {"NA", "null"}
        assert set(experiment.trajectories()["component"]) == {"NA", "null"}
    report = store.read_table(experiment.directory / "analysis" / "gap_report.csv")
    assert set(report["component"]) == {"NA", "null"}


# --- values from Python


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("training.epochs", np.int64(3), 3),
        ("training.learning_rate", np.float32(0.5), 0.5),
        ("training.hidden_dims", np.array([8, 4]), [8, 4]),
        ("training.hidden_dims", (np.int32(8), np.uint8(4)), [8, 4]),
        ("meta.run_training", np.bool_(False), False),
        ("meta.training_seed", np.arange(3), [0, 1, 2]),
        ("meta.data_seed", np.int64(7), 7),
        ("spectra.line_law", np.str_("beer_lambert"), "beer_lambert"),
        ("spectra.lines[0].width", np.array(60.0), 60.0),
        ("spectra.sampling.noise", {"range": np.array([0.1, 0.2])}, {"range": [0.1, 0.2]}),
        ("training.hidden_dims", torch.tensor([8, 4]), [8, 4]),
        ("pair", np.array(["comp1", "comp3"]), ["comp1", "comp3"]),
    ],
    ids=str,
)
def test_numpy_values_are_taken_for_what_they_are(config: Config, key: str, value: Any, same: Any) -> None:
    assert config.with_changes({key: value}) == config.with_changes({key: same})


def test_numpy_values_that_a_file_could_not_hold_either(config: Config) -> None:
    for changes in ({"training.epochs": np.float64(3)}, {"training.epochs": np.array([3])}, {"training.epochs": True}):
        with pytest.raises(ConfigError, match="training.yaml: epochs: found .*; expected a whole number"):
            config.with_changes(changes)
    itself: list[Any] = []
    itself.append(itself)
    for changes in ({"training.hidden_dims": itself}, {"pair": itself}, {3: 4}):  # type: ignore[dict-item]
        with pytest.raises(ConfigError, match="; expected "):
            config.with_changes(changes)
    assert plain({"a": (1, np.float64(2))}, "x") == {"a": [1, 2.0]}


# --- folders


@pytest.mark.parametrize("name", ["a\u3000b", "a\u00a0b", "\U0001f469\u200d\U0001f52c", "$HOME", "a~", "é"])
def test_an_experiment_may_lie_in_any_folder(tmp_path: Path, name: str) -> None:
    meta = changed(tmp_path / name, lambda files: files["meta"].update(exp_dir="own"))
    experiment = Experiment.from_yaml(meta, exp_dir=tmp_path / name / "exp")
    inner = experiment.variation("short", {"training.epochs": 1})
    inner.plot("spectral_lines")
    assert inner.directory == tmp_path / name / "exp" / "variations" / "short"
    assert (inner.directory / "plots" / "spectral_lines.png").is_file()
    assert Experiment.from_yaml(meta).directory == tmp_path / name / "own"


@pytest.mark.skipif(os.name == "nt", reason="paths are no bytes there")
def test_a_folder_that_the_locale_cannot_spell(tmp_path: Path) -> None:
    folder = tmp_path / "é\u3000名"
    meta = changed(folder, lambda files: files["meta"].update(exp_dir="résultats"))
    (folder / "configs").rename(folder / "cönfigs")
    text = meta.read_text(encoding="utf-8").replace("configs/", "cönfigs/")
    meta.write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "spectral_tutorial", "generate-data", str(meta)]
    done = subprocess.run(command, env=environment, capture_output=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "résultats" / "data" / "seed-42" / "test" / "flux.npy").is_file()


def test_home_and_variables_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USERPROFILE", "RESULTS"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("NOWHERE", raising=False)
    for text in ("~/exp", "$RESULTS/exp", "${RESULTS}/exp"):
        meta = changed(tmp_path, lambda files, text=text: files["meta"].update(exp_dir=text))
        assert load(meta).exp_dir == tmp_path / "home" / "exp"
        assert Experiment.from_yaml(meta, exp_dir=text).directory == tmp_path / "home" / "exp"
    before = sorted(tmp_path.rglob("*"))
    for text in ("~nobody-of-that-name/exp", "$NOWHERE/exp", "${NOWHERE}"):
        changed(tmp_path, lambda files, text=text: files["meta"].update(exp_dir=text))
        with pytest.raises(
            ConfigError, match="exp_dir: found .*; expected a path whose ~ and .NAME stand for something"
        ):
            load(meta)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_paths_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for text in ("loop", "loop/exp", "x" * 3000):
        with pytest.raises(
            ConfigError, match="f: k: found .*, where nothing can be .*; expected the path of a file"
        ) as caught:
            resolve_path(text, tmp_path, key="k", file="f")
        assert len(str(caught.value)) < 1500
        assert cli.main(["validate", str(write_experiment(tmp_path)), "--exp-dir", str(tmp_path / text)]) == 2


# --- code of one's own

OWN = """
import numpy as np
from torch import nn

def draw(n, rng):
    return {"comp1": rng.uniform(0, 1, n)}

def nothing(n, rng):
    return None

def wrong_length(n, rng):
    return {"comp1": np.zeros(n + 1)}

def without_arguments():
    return {}

def leaves(n, rng):
    raise SystemExit(0)

class Net(nn.Sequential):
    def __init__(self, n_bins, n_components, **_):
        super().__init__(nn.Linear(n_bins, n_components))

class Narrow(nn.Sequential):
    def __init__(self, n_bins, n_components, **_):
        super().__init__(nn.Linear(n_bins, 1))
"""


def with_code(folder: Path, function: str = "", network: str = "") -> Path:
    def change(files: dict[str, Any]) -> None:
        if function:
            files["distribution"]["splits"]["test"]["distribution"] = {"type": "function", "callable": function}
        if network:
            files["training"]["model_type"] = network

    meta = changed(folder, change)
    (folder / "own_code_of_a_person.py").write_text(OWN, encoding="utf-8")
    return meta


def test_validate_says_what_it_imported_and_from_where(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    meta = with_code(tmp_path, "own_code_of_a_person:draw", "own_code_of_a_person:Net")
    sys.modules.pop("own_code_of_a_person", None)
    assert cli.main(["validate", str(meta)]) == 0
    for name in ("draw", "Net"):
        said = f"own_code_of_a_person:{name} was imported from {tmp_path / 'own_code_of_a_person.py'}"
        assert sum(said in message for message in caplog.messages) == 1
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(
    ("function", "network", "says"),
    [
        ("os:system", "", "splits.test.distribution.callable: found 'os:system', which does not fit"),
        ("own_code_of_a_person:nothing", "", "nothing', which does not fit"),
        ("own_code_of_a_person:wrong_length", "", "wrong_length', which does not fit"),
        ("own_code_of_a_person:without_arguments", "", "which does not fit"),
        ("own_code_of_a_person:leaves", "", "leaves', which does not fit"),
        ("", "os:system", "model_type: found 'os:system', which does not fit"),
        ("", "json:JSONDecoder", "model_type: found 'json:JSONDecoder', which does not fit"),
        ("", "collections:OrderedDict", "(TypeError: OrderedDict, which is no torch module); expected a torch module"),
        ("", "own_code_of_a_person:Narrow", "which does not fit (TypeError: Narrow, which maps (2, 64) to (2, 1))"),
    ],
)  # fmt: skip
def test_validate_finds_code_that_does_not_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, function: str, network: str, says: str
) -> None:
    meta = with_code(tmp_path, function, network)
    sys.modules.pop("own_code_of_a_person", None)
    assert cli.main(["validate", str(meta), "--quiet"]) == 2
    (message,) = caplog.messages
    assert says in message
    assert message.isprintable()
    assert not (tmp_path / "exp").exists()


# --- what is asked at the prompt


def test_a_variation_that_there_is_not_says_what_to_do(config: Config) -> None:
    with pytest.raises(ConfigError, match="variations: found 'x'; expected .*changes beside a new name"):
        Experiment(config).variation("x")


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert f'version = "{spectral_tutorial.__version__}"' in (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"spectral-tutorial {spectral_tutorial.__version__}\n"


def calls_of_validate(folder: Path, lines: int) -> int:
    """How many functions ``validate`` calls for a world of so many lines."""
    listed = [{"label": f"comp{k}", "center": 300 + k / 2, "width": 3.0, "strength": 0.1} for k in range(1, lines + 1)]
    meta = changed(folder, lambda files: files["spectra"].update(lines=listed, n_components=lines))
    count = 0

    def called(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(called)
    try:
        assert cli.main(["validate", str(meta), "--quiet"]) == 0
    finally:
        sys.setprofile(None)
    return count


def test_validate_takes_time_in_proportion_to_the_lines(tmp_path: Path) -> None:
    assert calls_of_validate(tmp_path, 400) < 4.4 * calls_of_validate(tmp_path, 100)
