"""The five YAML files: what is accepted, what is refused, and in which words."""

import copy
import json
import pickle
import shutil
import sys
from pathlib import Path

import pydantic
import pytest
import yaml
from helpers import small_experiment, write_experiment

from spectral_tutorial.config import Config, load
from spectral_tutorial.reading import ConfigError, load_yaml, resolve_callable
from spectral_tutorial.sections import (
    CombinationDistribution,
    DistributionConfig,
    FunctionDistribution,
    MetaConfig,
    MixtureDistribution,
    Split,
)

ROOT = Path(__file__).parent
SHIPPED = ROOT.parent / "book" / "meta_config.yaml"
ORIGINAL = ROOT / "fixtures" / "original" / "meta_config.yaml"
META, SPECTRA, DISTRIBUTION, TRAINING, ANALYSIS = FILES = (
    "meta_config.yaml",
    "configs/synthetic_spectra.yaml",
    "configs/data_distribution.yaml",
    "configs/training.yaml",
    "configs/analysis.yaml",
)
LAST_OF_TRAIN = "        - {weight: 1.0, components: [comp4]}\n\n  # In-"
TEST_DISTRIBUTION = "        - {weight: 1.0, components: [comp10, comp4]}\n\n  # For"
FIRST_LINE = "{label: comp1,  center: 732,  width: 3.2,   strength: 0.8}"


def copy_files(meta: Path, folder: Path) -> Path:
    """Copy five files; what else lies beside the meta file, results for instance, stays where it is."""
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(meta.parent / name, folder / name)
    return folder / META


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    """The path of the meta file in a copy of the shipped files."""
    return copy_files(SHIPPED, tmp_path)


def edit(meta: Path, file: str, old: str, new: str) -> None:
    path = meta.parent / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def refused(meta: Path, *parts: str) -> str:
    """Load, expecting one sentence with these parts and an untouched folder."""
    before = sorted(meta.parent.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        load(meta)
    message = str(caught.value)
    for part in parts:
        assert part in message
    assert_one_sentence(message)
    assert sorted(meta.parent.rglob("*")) == before
    return message


def assert_one_sentence(message: str) -> None:
    assert message.isprintable()
    assert message.endswith(".")
    assert ": found " in message or " found " in message
    assert "; expected " in message
    assert len(message) < 1500


# --- what is accepted


def test_shipped_files() -> None:
    config = load(SHIPPED)
    assert config.reported == ("comp10", "comp4")
    assert config.directory == SHIPPED.parent.resolve()
    assert config.exp_dir == SHIPPED.parent.resolve() / "exp"
    assert config.meta.training_seed == tuple(range(123, 128))
    assert list(config.distribution.splits) == ["train", "val", "test", "oracle_train"]
    assert config.training.input_transform == "log_standardize"
    assert config.training.learning_rate == pytest.approx(1e-3)
    assert config.spectra.index("comp4") == 3
    assert config.spectra.lines[3].center == 891


def test_original_files() -> None:
    config, shipped = load(ORIGINAL), load(SHIPPED)
    assert config.reported == ("comp10", "comp4")
    assert config.spectra == shipped.spectra
    assert list(config.distribution.splits) == ["train", "test"]
    assert config.training.model_dump(include={"input_transform", "initialization", "checkpoint_by"}) == {
        "input_transform": "none",
        "initialization": "kaiming_normal",
        "checkpoint_by": "ratio",
    }
    assert config.training.num_workers == 4


def test_absent_keys_mean_what_they_meant_in_the_original(meta: Path) -> None:
    (meta.parent / TRAINING).write_text(
        "model_type: linear\nepochs: 6\nbatch_size: 64\nlearning_rate: 0.001\n", encoding="utf-8"
    )
    training = load(meta).training
    assert (training.input_transform, training.initialization) == ("none", "kaiming_normal")
    assert (training.checkpoint_by, training.checkpoint_ratio) == ("ratio", 0.05)
    assert (training.optimizer, training.loss_function, training.activation) == ("adamw", "mse", "relu")
    assert (training.device, training.checkpoint_every_n_step) == ("auto", 100)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (TRAINING, "learning_rate: 1e-3", "learning_rate: 1e6"),
        (TRAINING, "learning_rate: 1e-3", "learning_rate: 1"),
        (TRAINING, "optimizer: adamw", "optimizer: AdamW"),
        (TRAINING, "device: auto", "device: cuda:1"),
        (TRAINING, "model_type: mlp", "model_type: collections:OrderedDict"),
        (META, "data_seed: [42, 43, 44]", "data_seed: 42"),
        (META, "run_training: true", "run_training: no"),
        (META, "data_seed: [42, 43, 44]", "data_seed: [0, 4_294_967_295]"),
        (SPECTRA, "range: [0.01, 0.15]", "range: [1E-2, 1.5e-1]"),
        (SPECTRA, "range: [0.0, 1.0]", "range: [0.5, 0.5]"),
        (SPECTRA, "line_law: linear", "line_law: beer_lambert"),
        (SPECTRA, "label: comp1,", "label: '</script> 1.0 é',"),
        (ANALYSIS, "x_component: comp10", "x_component: 20"),
        (DISTRIBUTION, LAST_OF_TRAIN, LAST_OF_TRAIN.replace("]}", "], ranges: {comp4: [0.5, 2]}}", 1)),
    ],
)
def test_accepted(meta: Path, file: str, old: str, new: str) -> None:
    edit(meta, file, old, new)
    config = load(meta)
    assert json.loads(json.dumps(config.as_dict())) == config.as_dict()


def test_lines_without_a_name_are_called_by_their_label(meta: Path) -> None:
    config = load(meta)
    assert [config.names[f"comp{k}"] for k in (3, 4, 10)] == ["comp3", "narrow line", "broad line"]
    assert config.with_pair(("comp4", "comp7")).names == config.names
    edit(meta, ANALYSIS, "names: {", "# names: {")
    assert dict(load(meta).names) == {label: label for label in config.spectra.labels}


def test_whole_number_seed_is_a_list_of_one(meta: Path) -> None:
    edit(meta, META, "data_seed: [42, 43, 44]", "data_seed: 7")
    assert load(meta).meta.data_seed == (7,)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("+1.5e+2", 150.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("-3", -3),
        ("1_000", 1000),
        ("010", "010"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("2024-01-01", "2024-01-01"),
        ("2024-99-99", "2024-99-99"),
        ("e5", "e5"),
        ("true", True),
        ("~", None),
        ("<<", "<<"),
    ],
)
def test_scalars(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"key: {text}\n", encoding="utf-8")
    found = load_yaml(path)["key"]
    assert found == value
    assert type(found) is type(value)


# --- what is refused: each in one sentence, with file, key path, what was found and what would be valid

ONE_KEY = [
    # keys
    (TRAINING, "epochs:", "epoch:",
     ["training.yaml: epoch: found an unknown key", "batch_size", "mean epochs?"]),
    (TRAINING, "epochs: 20", "# no epochs",
     ["configs/training.yaml: epochs: found nothing; expected a value (passes"]),
    (TRAINING, "epochs: 20", "epochs: 20\nepochs: 30", ["training.yaml: line", "found duplicate key"]),
    (SPECTRA, "{label: comp1,", "{label: comp1, label: b,",
     ["synthetic_spectra.yaml: line 34", "found duplicate key"]),
    (SPECTRA, "center: 732", "centre: 732", ["lines[0].centre: found an unknown key", "mean center?"]),
    (SPECTRA, "n_bins: 1024", "n_bins: 1024\n1: 2", ["yaml: 1: found an unknown key; expected one of n_bins"]),
    (SPECTRA, "n_bins: 1024", "n_bins: 1024\n[a]: 2", ["found an unknown key; expected one of n_bins"]),
    (SPECTRA, "n_bins: 1024", "n_bins: 1024\n!!str {a: b}: 2", ["line", "text that is not plain YAML"]),
    (SPECTRA, "n_bins: 1024", "n_bins: &a {<<: *a}", ["found lists or mappings nested too deeply"]),
    (SPECTRA, "n_bins: 1024", "n_bins: {<<: {a: 1}}", ["n_bins: found {'<<': ", "expected a whole number"]),
    # the lines
    (SPECTRA, "label: comp2,", "label: comp1,", ["lines[1].label: found 'comp1'", "a label of its own"]),
    (SPECTRA, "label: comp2,", "label: '',", ["lines[1].label: found ''", "printable text"]),
    (SPECTRA, "label: comp2,", "label: 2,",
     ["lines[1].label: found 2; expected text (name of the component"]),
    (SPECTRA, "label: comp2,", 'label: "a\\nb",', ["lines[1].label: found 'a\\nb'"]),
    (SPECTRA, "label: comp2,", f"label: {'x' * 201},", ["lines[1].label", "at most 200 characters"]),
    (SPECTRA, "label: comp2,", 'label: "\\ud800",', ["lines[1].label: found '\\ud800'"]),
    (SPECTRA, "width: 3.2", "width: wide", ["lines[0].width: found 'wide'; expected a number", "in nm"]),
    (SPECTRA, "width: 3.2", "width: '3.2'", ["lines[0].width: found '3.2'; expected a number"]),
    (SPECTRA, "width: 3.2", "width: .nan", ["lines[0].width: found nan; expected a finite number"]),
    (SPECTRA, "width: 3.2", "width: true", ["lines[0].width: found true; expected a number"]),
    (SPECTRA, "width: 3.2", "width: -3.2",
     ["lines[0].width: found -3.2; expected a number of at least 0.001"]),
    (SPECTRA, "width: 3.2", f"width: {10**400}", ["lines[0].width: found 1000"]),
    (SPECTRA, "width: 3.2", f"width: {'9' * 5000}", ["synthetic_spectra.yaml: found what cannot be read"]),
    (SPECTRA, "strength: 0.8", "strength: -1.2", ["lines[0].strength: found -1.2", "from -1 to 50"]),
    (SPECTRA, FIRST_LINE, "comp1", ["lines[0]: found 'comp1'; expected keys with values"]),
    # the rest of the world
    (SPECTRA, "n_components: 20", "n_components: 19",
     ["n_components: found 19; expected 20, the number of lines"]),
    (SPECTRA, "n_bins: 1024", "n_bins: 1024.0", ["n_bins: found 1024.0; expected a whole number"]),
    (SPECTRA, "wavelength_min: 300", "wavelength_min: 1200",
     ["wavelength_max: found 1200", "above wavelength_min"]),
    (SPECTRA, "range: [3000, 7000]", "range: [7000, 3000]",
     ["sampling.temperature.range: found [7000, 3000]"]),
    (SPECTRA, "range: [3000, 7000]", "range: [0, 7000]",
     ["temperature.range: found [0.0, 7000.0]", "above 0 K"]),
    (SPECTRA, "range: [3000, 7000]", "range: [3000]", ["temperature.range[1]: found nothing", "[low, high]"]),
    (SPECTRA, "range: [3000, 7000]", "range: 3000", ["temperature.range: found 3000; expected a list"]),
    (SPECTRA, "range: [0.01, 0.15]", "range: [0, 0.15]",
     ["noise.range: found [0.0, 0.15]", "0 < low < high"]),
    (SPECTRA, "range: [0.0, 1.0]", "range: [-1.0, 1.0]",
     ["abundance.range: found [-1.0, 1.0]", "at least 0"]),
    (SPECTRA, "range: [0.0, 1.0]", "range: [0.0, 2.0]",
     ["lines[1].strength: found -0.6", "highest abundance 2"]),
    (SPECTRA, "distribution: log_uniform", "distribution: lognormal",
     ["distribution: found 'lognormal'; expected 'uniform' or 'log_uniform'"]),
    # the splits
    (DISTRIBUTION, "components: [comp10]", "components: [comp99]",
     ["splits.train.distribution.combinations[1].components[0]: found 'comp99'", "one of comp1, comp2",
     "did you mean"]),
    (DISTRIBUTION, "components: [comp10]", "components: [comp10, comp10]",
     ["splits.train.distribution.combinations[1].components[1]: found 'comp10' a second time"]),
    (DISTRIBUTION, "components: [comp10]", "components: comp10",
     ["combinations[1].components: found 'comp10'"]),
    (DISTRIBUTION, "weight: 1.0", "weight: -1.0", ["combinations[0].weight: found -1.0", "at least 0"]),
    (DISTRIBUTION, TEST_DISTRIBUTION, TEST_DISTRIBUTION.replace("1.0", "0"),
     ["splits.test.distribution.combinations: found weights that sum to 0; expected weights"]),
    (DISTRIBUTION, TEST_DISTRIBUTION, TEST_DISTRIBUTION.replace("]}", "], ranges: {comp4: [1, 0.5]}}"),
     ["ranges.comp4: found [1, 0.5]"]),
    (DISTRIBUTION, TEST_DISTRIBUTION, TEST_DISTRIBUTION.replace("]}", "], ranges: {comp4: [-1, 1]}}"),
     ["ranges.comp4: found [-1.0, 1.0]"]),
    (DISTRIBUTION, TEST_DISTRIBUTION, TEST_DISTRIBUTION.replace("]}", "], ranges: {comp4: [0, 9]}}"),
     ["ranges.comp4", "abundance 9"]),
    (DISTRIBUTION, TEST_DISTRIBUTION, TEST_DISTRIBUTION.replace("]}", "], ranges: {comp5: [0, 1]}}"),
     ["ranges.comp5", "comp10, comp4"]),
    (DISTRIBUTION, "  test:", "  exam:", ["splits.test: found nothing; expected the splits train and test"]),
    (DISTRIBUTION, "  test:", "  ../test:", ["splits.'../test'", "letters, digits"]),
    (DISTRIBUTION, "type: component_combinations", "type: sampling_code",
     ["splits.train.distribution.type: found sampling_code",
     "type: function", 'callable: "module:function"']),
    (DISTRIBUTION, "type: component_combinations", "type: combinations",
     ["splits.train.distribution.type: found 'combinations'", "component_combinations, function"]),
    (DISTRIBUTION, "type: component_combinations", "type: mixture", ["distribution.type: found 'mixture'"]),
    (DISTRIBUTION, "type: component_combinations", "kind: x", ["distribution.type: found nothing"]),
    (DISTRIBUTION, "type: component_combinations", "type: function",
     ["distribution.combinations: found an unknown key"]),
    # training
    (TRAINING, "learning_rate: 1e-3", "learning_rate: abc",
     ["learning_rate: found 'abc'; expected a number (step size of the optimizer, greater than 0)."]),
    (TRAINING, "learning_rate: 1e-3", "learning_rate: 0",
     ["learning_rate: found 0; expected a number greater than 0"]),
    (TRAINING, "dropout_rate: 0.0", "dropout_rate: 1",
     ["dropout_rate: found 1; expected a number less than 1"]),
    (TRAINING, "epochs: 20", "epochs: 0\nseed: -1", ["epochs: found 0", "(and 1 more)."]),
    (TRAINING, "epochs: 20", "epochs: 20\nn_bins: 512",
     ["n_bins: found 512; expected 1024 as in configs/synth"]),
    (TRAINING, "epochs: 20", "epochs: 20\nn_components: 2",
     ["n_components: found 2; expected 20 as in configs/synth"]),
    (TRAINING, "hidden_dims: [128, 64]", "hidden_dims: []", ["hidden_dims: found nothing", "for mlp"]),
    (TRAINING, "model_type: mlp", "model_type: rnn",
     ["model_type: found 'rnn'; expected mlp, averaging_mlp, cnn, linear or"]),
    (TRAINING, "model_type: mlp", "model_type: 'collections:No'",
     ["model_type: found 'collections:No', which is not"]),
    (TRAINING, "model_type: mlp", "model_type: 'no_such:No'",
     ["model_type: found 'no_such:No'", "ModuleNotFound"]),
    (TRAINING, "device: auto", "device: gpu",
     ["device: found 'gpu'; expected auto, cpu, cuda, cuda:N or mps"]),
    # analysis
    (ANALYSIS, "x_component: comp10", "x_component: comp99",
     ["plot_config.x_component: found 'comp99'", "1 to 20"]),
    (ANALYSIS, "x_component: comp10", "x_component: 21", ["plot_config.x_component: found 21", "1 to 20"]),
    (ANALYSIS, "x_component: comp10", "x_component: 0",
     ["plot_config.x_component: found 0; expected the label"]),
    (ANALYSIS, "x_component: comp10", "x_component: 4",
     ["plot_config.y_component: found 'comp4'", "other than"]),
    (ANALYSIS, "{comp10: broad", "{comp99: broad",
     ["plot_config.names.comp99: found an unknown label; expected one of comp1, "]),
    (ANALYSIS, "comp4: narrow line", "comp4: broad line",
     ["plot_config.names.comp10: found 'broad line' for two lines; expected a name of its own"]),
    (ANALYSIS, "comp4: narrow line", "comp4: comp7",
     ["plot_config.names.comp4: found 'comp7', the label of another line; expected a name of its own"]),
    (ANALYSIS, "comp4: narrow line", "comp4: ' '", ["plot_config.names.comp4: found ' '; expected printable text"]),
    (ANALYSIS, "{comp10: broad line, comp4: narrow line}", "[broad, narrow]",
     ["plot_config.names: found ['broad', 'narrow']; expected keys with values"]),
    # meta
    (META, "data_seed: [42, 43, 44]", "data_seed: []", ["data_seed: found []; expected at least 1 in the list"]),
    (META, "data_seed: [42, 43, 44]", "data_seed: true",
     ["data_seed: found true; expected a list (one whole number"]),
    (META, "data_seed: [42, 43, 44]", "data_seed: [true]", ["data_seed[0]: found true; expected a whole number"]),
    (META, "data_seed: [42, 43, 44]", "data_seed: [4294967296]", ["data_seed[0]", "at most 4294967295"]),
    (META, "data_seed: [42, 43, 44]", "data_seed: [1, 2, 1]", ["data_seed[2]: found 1 a second time"]),
    (META, "data_seed: [42, 43, 44]", "data_seed:", ["data_seed: found nothing; expected a list"]),
    (META, "run_training: true", "run_training: 1", ["run_training: found 1; expected true or false"]),
    (META, "exp_dir: exp ", "exp_dir: '' ", ["exp_dir: found ''; expected printable text"]),
    (META, "exp_dir: exp ", 'exp_dir: "a\\0b" ', ["exp_dir: found 'a\\x00b'; expected printable text"]),
    (META, "configs/training.yaml ", "configs/nowhere.yaml ",
     ["training_config_path: found 'configs/nowhere.yaml', where there is no file",
     "relative to this one"]),
    (META, "configs/training.yaml ", "configs ",
     ["training_config_path: found 'configs', where there is no file"]),
    (META, "configs/training.yaml ", "x" * 3000, ["training_config_path: found 'xxx"]),
    (META, "analysis_config_path:", "# analysis", ["meta_config.yaml: analysis_config_path: found nothing"]),
    (META, "configs/training.yaml ", "configs/analysis.yaml ",
     ["configs/analysis.yaml: plot_config: found an unknown key"]),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "parts"), ONE_KEY, ids=[case[2].strip()[:40] for case in ONE_KEY])
def test_refused(meta: Path, file: str, old: str, new: str, parts: list[str]) -> None:
    edit(meta, file, old, new)
    message = refused(meta, *parts)
    if not new.startswith("configs/analysis"):
        assert message.startswith(str(meta) if file == META else file)


@pytest.mark.parametrize("file", [META, TRAINING])
@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "found nothing; expected a YAML file with keys and values"),
        (b"# only a comment\n", "found nothing"),
        (b"just some text", "found 'just some text'"),
        (b"[1, 2]", "found [1, 2]"),
        (b"a: [1, 2", "found text that is not plain YAML"),
        (b"a: 1\n---\nb: 2\n", "found text that is not plain YAML"),
        (b"a: b: c", "line 1: found text that is not plain YAML (mapping values are not allowed here)"),
        (b"\xff\xfe\x00a", "found what cannot be read"),
        (b"a: \x07", "found what cannot be read"),
        (b"PK\x03\x04 binary", "found what cannot be read"),
        (
            b"a: !!python/object/apply:os.system ['exit 1']",
            "the tag 'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
        (b"a: !!python/name:os.system", "for the tag"),
        (b"a: !!set {b, c}", "for the tag 'tag:yaml.org,2002:set'"),
        (
            b"a: !mine 1",
            "line 1: found text that is not plain YAML (could not determine a constructor for the tag '!mine')",
        ),
        (b"a: !!int x", "found what cannot be read"),
        (b"a: !!bool x", "found what cannot be read"),
        (b"a: !!int ''", "found what cannot be read"),
        (b"a: !!map [b]", "found text that is not plain YAML"),
        (b"a: *nowhere", "found text that is not plain YAML"),
        (b"a: " + b"[" * 60 + b"]" * 60, "found lists or mappings nested too deeply"),
        (b"a: " + b"[" * 500, "found what cannot be read (maximum recursion depth exceeded"),
        (b"&a {a: *a}", "found "),
    ],
)
def test_refused_documents(meta: Path, file: str, content: bytes, part: str) -> None:
    (meta.parent / file).write_bytes(content)
    assert refused(meta, part).startswith(str(meta) if file == META else file)


@pytest.mark.parametrize("file", FILES)
def test_missing_file(meta: Path, file: str) -> None:
    (meta.parent / file).unlink()
    message = refused(meta, file)
    if file != META:
        assert f"{meta}: " in message
        assert "_config_path: found" in message


def test_python_tags_run_nothing(meta: Path, tmp_path: Path) -> None:
    (meta.parent / ANALYSIS).write_text(
        f"a: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'made'}]", encoding="utf-8"
    )
    refused(meta, "could not determine a constructor for the tag")
    assert not (tmp_path / "made").exists()


# --- the models afterwards


def test_nothing_can_be_changed() -> None:
    config = load(SHIPPED)
    distribution = config.distribution.splits["train"].distribution
    assert isinstance(distribution, CombinationDistribution)
    assert isinstance(distribution.combinations, tuple)
    assert isinstance(config.spectra.lines, tuple)
    with pytest.raises(AttributeError):
        config.directory = Path()  # type: ignore[misc]
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        config.training.epochs = 3  # type: ignore[misc]
    for mapping in (config.distribution.splits, distribution.combinations[0].ranges):
        with pytest.raises(TypeError):
            mapping["new"] = None  # type: ignore[index]


def test_copies_are_equal() -> None:
    config = load(ORIGINAL)
    assert copy.deepcopy(config) == config
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize("path", [SHIPPED, ORIGINAL])
def test_as_dict_can_be_written_and_read_again(path: Path, tmp_path: Path) -> None:
    config = load(path)
    sections = config.as_dict()
    assert str(config.directory) not in json.dumps(sections)
    meta = tmp_path / META
    (tmp_path / "configs").mkdir()
    for file, section in zip(FILES, sections.values(), strict=True):
        (tmp_path / file).write_text(yaml.safe_dump(section), encoding="utf-8")
    assert load(meta).as_dict() == sections


def test_with_training_is_validated() -> None:
    config = load(SHIPPED)
    changed = config.with_training(epochs=2, hidden_dims=[8])
    assert (changed.training.epochs, changed.training.hidden_dims) == (2, (8,))
    assert changed.spectra is config.spectra
    assert config.training.epochs == 20
    for change, part in (
        ({"epoch": 2}, "epoch: found"),
        ({"epochs": 0}, "epochs: found"),
        ({"n_bins": 3}, "n_bins"),
    ):
        with pytest.raises(ConfigError, match=f"^configs/training.yaml: {part}"):
            config.with_training(**change)


def test_exp_dir_is_relative_to_the_meta_file(meta: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path.parent)
    config = load(meta.relative_to(tmp_path.parent))
    assert config.exp_dir == (tmp_path / "exp").resolve()
    assert config.with_changes({"meta.exp_dir": str(tmp_path / "b")}).exp_dir == (tmp_path / "b").resolve()


def test_a_mixture_is_for_the_program_only() -> None:
    config = load(SHIPPED)
    distribution = config.distribution.splits["train"].distribution
    mixture = MixtureDistribution(parts=((0.5, distribution), (0.5, FunctionDistribution(callable="a:b"))))
    split = Split(n_samples=3, distribution=mixture)
    assert split.distribution == mixture
    assert json.dumps(split.model_dump(mode="json"))
    splits = DistributionConfig(splits={**config.distribution.splits, "mixed": split})
    assert splits.splits["mixed"].distribution == mixture
    with pytest.raises(pydantic.ValidationError, match="component_combinations"):
        Split.model_validate(split.model_dump())


def described(model: type[pydantic.BaseModel]) -> list[str]:
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return [key for part in parts for key, field in part["properties"].items() if not field.get("description")]


def test_every_field_has_a_description() -> None:
    sections = [
        MetaConfig,
        *(type(getattr(load(SHIPPED), name)) for name in ("spectra", "training", "analysis")),
    ]
    for model in (*sections, DistributionConfig):
        assert described(model) == []


# --- other values at dotted keys


def test_changes_reach_every_file_and_leave_the_original_alone() -> None:
    config = load(SHIPPED)
    changed = config.with_changes(
        {
            "training.epochs": 3,
            "spectra.lines[3].width": 12.0,
            "spectra.line_law": "beer_lambert",
            "distribution.splits.test.n_samples": 10,
            "meta.training_seed": [5],
            "analysis.plot_config.x_component": 3,
        }
    )
    assert changed.training.epochs == 3
    assert [line.width for line in changed.spectra.lines[2:5]] == [6.4, 12.0, 12.7]
    assert changed.spectra.line_law == "beer_lambert"
    assert changed.distribution.splits["test"].n_samples == 10
    assert changed.distribution.splits["train"] == config.distribution.splits["train"]
    assert changed.meta.training_seed == (5,)
    assert changed.reported == ("comp3", "comp4")
    assert config == load(SHIPPED)
    assert config.with_changes({}) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.epochs": 0}, "configs/training.yaml: epochs: found 0; expected a number of at least 1"),
        (
            {"training.epoch": 3},
            "configs/training.yaml: epoch: found an unknown key; expected .*did you mean epochs",
        ),
        ({"trainig.epochs": 3}, "changes: found 'trainig.epochs'; expected SECTION.KEY with a section"),
        ({"epochs": 3}, "changes: found 'epochs'; expected SECTION.KEY"),
        ({"training": {}}, "changes: found 'training'; expected SECTION.KEY with a section and a key"),
        ({"": 1}, "changes: found ''; expected SECTION.KEY"),
        ({"spectra.lines[20].width": 1.0}, r"changes: found 'spectra.lines\[20\].width'; expected SECTION.KEY"),
        ({"spectra.lines.width": 1.0}, "changes: found 'spectra.lines.width'; expected SECTION.KEY"),
        ({"training.epochs.more": 1}, "changes: found 'training.epochs.more'; expected SECTION.KEY"),
        ({"pair": "comp1"}, "pair: found 'comp1'; expected a list of two labels"),
        ({"pair": ["comp1", "comp1"]}, "found 'comp1' a second time; expected each of the list once"),
        ({"pair": ["comp1", "comp99"]}, "found 'comp99'; expected one of"),
    ],
    ids=str,
)
def test_changes_that_cannot_be_used_are_one_sentence(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load(SHIPPED).with_changes(changes)
    assert "\n" not in str(caught.value)


def present(config: Config, split: str) -> list[tuple[str, ...]]:
    distribution = config.distribution.splits[split].distribution
    assert isinstance(distribution, CombinationDistribution)
    return [combination.components for combination in distribution.combinations]


@pytest.mark.parametrize("pair", [("comp1", "comp2"), ("comp4", "comp10"), ("comp10", "comp1"), ("comp4", "comp7")])
def test_another_pair_takes_the_place_of_the_reported_one(pair: tuple[str, str]) -> None:
    changed = load(SHIPPED).with_pair(pair)
    assert changed.reported == pair
    x, y = pair
    assert present(changed, "train") == present(changed, "val") == [(), (x,), (y,)]
    assert present(changed, "test") == [(x, y)]
    assert present(changed, "oracle_train") == [(), (x,), (y,), (x, y)]
    assert changed.with_pair(("comp10", "comp4")) == load(SHIPPED).with_pair(("comp10", "comp4"))


def test_a_pair_takes_its_ranges_along_and_third_components_make_room(meta: Path) -> None:
    edit(
        meta,
        DISTRIBUTION,
        TEST_DISTRIBUTION,
        TEST_DISTRIBUTION.replace("comp4]", "comp4, comp7], ranges: {comp4: [0.5, 1.0]}"),
    )
    distribution = load(meta).with_pair(("comp7", "comp1")).distribution.splits["test"].distribution
    assert isinstance(distribution, CombinationDistribution)
    assert distribution.combinations[0].components == ("comp7", "comp1", "comp10")
    assert dict(distribution.combinations[0].ranges) == {"comp1": (0.5, 1.0)}


def test_a_function_of_ones_own_has_no_pair_to_exchange(meta: Path) -> None:
    (meta.parent / "own.py").write_text("def distribution(n, rng):\n    return {}\n", encoding="utf-8")
    own = '{type: function, callable: "own:distribution"}'
    edit(
        meta,
        DISTRIBUTION,
        f"      type: component_combinations\n      combinations:\n{TEST_DISTRIBUTION[:-7]}",
        f"      {own}\n",
    )
    with pytest.raises(ConfigError, match="pair: found the split test with a function of its own; expected splits"):
        load(meta).with_pair(("comp1", "comp2"))


def test_variations_are_read_from_the_analysis_file(meta: Path) -> None:
    config = load(meta)
    assert set(config.analysis.variations) >= {"comp12-comp20", "beer_lambert"}
    for name in config.analysis.variations:
        assert not config.variation(name).analysis.variations
    assert config.variation("comp12-comp20").reported == ("comp12", "comp20")
    assert config.variation("beer_lambert").spectra.line_law == "beer_lambert"
    edit(meta, ANALYSIS, "spectra.line_law: beer_lambert", "spectra.line_law: beer")
    with pytest.raises(ConfigError, match="analysis.yaml: variations.beer_lambert: .*line_law: found 'beer'; expected"):
        load(meta).variation("beer_lambert")


# --- functions of one's own


def test_a_function_beside_the_meta_file(meta: Path) -> None:
    module = meta.parent / "my_abundances.py"
    module.write_text("def draw(n, rng):\n    return {}\n\nfixed = 3\n", encoding="utf-8")
    old = "      type: component_combinations\n      combinations:\n" + TEST_DISTRIBUTION
    edit(meta, DISTRIBUTION, old, "      type: function\n      callable: my_abundances:draw\n\n  # For")
    before = list(sys.path)
    distribution = load(meta).distribution.splits["test"].distribution
    assert distribution == FunctionDistribution(callable="my_abundances:draw")
    assert sys.path == before
    assert resolve_callable("my_abundances:draw", meta.parent)(1, None) == {}
    edit(meta, DISTRIBUTION, ":draw", ":fixed")
    with pytest.raises(ConfigError, match=r"splits\.test\.distribution\.callable: found .*cannot be called"):
        load(meta)


@pytest.mark.parametrize("body", ["1 / 0", "raise SystemExit(3)", "def (", "import no_such_module_at_all"])
def test_failing_import_is_one_sentence(tmp_path: Path, body: str) -> None:
    (tmp_path / "failing_module.py").write_text(body + "\n", encoding="utf-8")
    before = list(sys.path)
    with pytest.raises(ConfigError, match="^a.yaml: b: found 'failing_module:f', whose import fails") as caught:
        resolve_callable("failing_module:f", tmp_path, key="b", file="a.yaml")
    assert_one_sentence(str(caught.value))
    assert sys.path == before


def test_module_name_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("def dumps():\n    return 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="another module of that name .* expected another name for json.py"):
        resolve_callable("json:dumps", tmp_path)


def test_ranges_from_0_of_abundances_with_a_uniform_logarithm_are_refused(tmp_path: Path) -> None:
    files = small_experiment()
    files["spectra"]["sampling"]["abundance"] = {"range": [0.1, 1.0], "distribution": "log_uniform"}
    load(write_experiment(tmp_path, files))
    files["distribution"]["splits"]["test"]["distribution"]["combinations"][0]["ranges"] = {"comp4": [0, 1]}
    refused = r"ranges.comp4: found \[0.0, 1.0\]; expected numbers above 0, as abundances are log_uniform"
    with pytest.raises(ConfigError, match=refused):
        load(write_experiment(tmp_path, files))


def test_an_optical_depth_that_no_single_precision_holds_twice_is_refused(tmp_path: Path) -> None:
    files = small_experiment()
    files["spectra"]["line_law"] = "beer_lambert"
    for strength in (-40, 40):
        files["spectra"]["lines"][0]["strength"] = strength
        load(write_experiment(tmp_path, files))
    for strength in (-41, 41):
        files["spectra"]["lines"][0]["strength"] = strength
        with pytest.raises(ConfigError, match="from -40 to 40, also at the highest abundance 1"):
            load(write_experiment(tmp_path, files))
