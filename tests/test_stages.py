"""Stages: computed once, found again by what they depend on, mended when damaged, in whatever order they are asked."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    assert_same_results,
    combinations,
    content,
    files_in,
    shrink_fooled,
    small_experiment,
    write_experiment,
)

from spectral_tutorial import Experiment, analysis, data, digests, methods, stages, training
from spectral_tutorial.config import load
from spectral_tutorial.methods import METHODS, Network, names_of
from spectral_tutorial.stages import Stages
from spectral_tutorial.store import MissingError

SPLITS = ("train", "val", "test", "oracle_train")


@pytest.fixture(autouse=True)
def few_fooled_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_fooled(monkeypatch)


@pytest.fixture
def finished(small_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished small experiment: its meta file."""
    shutil.copytree(small_run, tmp_path, dirs_exist_ok=True)
    return tmp_path / "meta_config.yaml"


def changed(**sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The small experiment with some keys replaced."""
    files = copy.deepcopy(small_experiment())
    for name, keys in sections.items():
        files[name] |= keys
    return files


def compute(meta: Path, *names: str, **kwargs: Any) -> Experiment:
    """Everything but the plots."""
    experiment = Experiment.from_yaml(meta, **kwargs)
    experiment._generate_all()
    for name in names or METHODS:
        if isinstance(METHODS[name], Network):
            experiment.train(name)
    experiment.gap_report(*(names or METHODS))
    return experiment


def forbid(monkeypatch: pytest.MonkeyPatch, *stages: str) -> None:
    """Let a stage that is made again fail the test."""
    places = {"runs": (training, "train"), "analysis": (Stages, "_predict")}
    for stage in stages:

        def refuse(*_: Any, stage: str = stage, **__: Any) -> None:
            pytest.fail(f"{stage} was made again")

        monkeypatch.setattr(*places[stage], refuse)


# --- what a stage depends on


def prints(meta: Path) -> dict[str, str]:
    """Fingerprint of each kind of stage."""
    pipe = Stages(load(meta))
    found = {split: pipe._spectra_stage(split, 42).fingerprint for split in SPLITS}
    found |= {method: pipe._run_stages(method, 42)[123].fingerprint for method in ("network", "oracle", "fooled")}
    return found | {"analysis": pipe._prediction_stages("network")[42].fingerprint}


ALL = {*SPLITS, "network", "oracle", "fooled", "analysis"}
TEST_SPLIT = {"test": {"n_samples": 64, "distribution": combinations(["comp6", "comp1"])}}
TRAIN_SPLIT = {"train": {"n_samples": 120, "distribution": combinations([], ["comp6"], ["comp4"])}}


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({}, set()),
        ({"spectra": {"line_law": "beer_lambert"}}, ALL),
        ({"distribution": TEST_SPLIT}, {"test", "analysis"}),
        ({"distribution": TRAIN_SPLIT}, {"train", "network", "fooled", "analysis"}),
        ({"training": {"epochs": 3}}, {"network", "oracle", "analysis"}),
        ({"training": {"input_transform": "log"}}, {"network", "oracle", "analysis"}),
        ({"training": {"device": "cpu", "num_workers": 4, "log_every_n_step": 9}}, set()),
        (
            {"analysis": {"plot_config": {"x_component": 6, "y_component": 4, "names": {"comp6": "the $broad one"}}}},
            set(),
        ),
        ({"analysis": {"plot_config": {"x_component": 6, "y_component": 1}}}, {"analysis"}),
        ({"meta": {"training_seed": [123, 124, 125]}}, {"analysis"}),
        ({"meta": {"data_seed": [42, 43]}}, set()),
    ],
)
def test_a_change_of_the_configuration_makes_only_what_depends_on_it_stale(
    tmp_path: Path, changes: dict[str, Any], stale: set[str]
) -> None:
    reference = prints(write_experiment(tmp_path / "reference"))
    files = changed(**{name: keys for name, keys in changes.items() if name != "distribution"})
    files["distribution"]["splits"] |= changes.get("distribution", {})
    found = prints(write_experiment(tmp_path / "changed", files))
    assert {name for name in ALL if found[name] != reference[name]} == stale


@pytest.mark.parametrize(
    ("module", "stale"),
    [
        ("physics", ALL),
        ("data", ALL),
        ("models", {"network", "oracle", "fooled", "analysis"}),
        ("training", {"network", "oracle", "fooled", "analysis"}),
        ("analysis", {"analysis"}),
    ],
)
def test_an_edit_of_the_code_makes_only_what_depends_on_it_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, stale: set[str]
) -> None:
    meta = write_experiment(tmp_path)
    reference = prints(meta)
    name = f"spectral_tutorial.{module}"
    roots = {"spectra": [data], "networks": [data, training], "estimators": [methods], "predictions": [analysis]}
    for kind, modules in roots.items():
        assert digests.closure_digest(*modules) == stages.CODE[kind]
        if name in digests.import_closure(*modules):
            monkeypatch.setitem(stages.CODE, kind, "edited")
    found = prints(meta)
    assert {name for name in ALL if found[name] != reference[name]} == stale


def test_versions_of_numpy_and_torch_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = write_experiment(tmp_path)
    reference = prints(meta)
    monkeypatch.setattr(torch, "__version__", "99")
    assert {name for name in ALL if prints(meta)[name] != reference[name]} == ALL - set(SPLITS)
    monkeypatch.setattr(np, "__version__", "99")
    assert all(prints(meta)[name] != reference[name] for name in ALL)


def test_an_edited_function_of_ones_own_makes_its_split_stale(tmp_path: Path) -> None:
    files = small_experiment()
    files["distribution"]["splits"]["test"]["distribution"] = {"type": "function", "callable": "draws_of_mine:f"}
    source = "def f(n, rng):\n    return {'comp4': rng.random(n)}\n"
    found = []
    for text in (source, source + "# a remark\n", source.replace("comp4", "comp6")):
        (tmp_path / "draws_of_mine.py").write_text(text, encoding="utf-8")
        found.append(prints(write_experiment(tmp_path, files)))
    assert found[0] == found[1]
    assert {name for name in ALL if found[0][name] != found[2][name]} == {"test", "analysis"}


# --- computed once


def test_a_second_run_computes_nothing_and_writes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(finished.parent)
    forbid(monkeypatch, "runs", "analysis")
    compute(finished)
    assert content(finished.parent) == before


@pytest.mark.parametrize(
    "name",
    [
        "data/seed-42/train/flux.npy",
        "data/seed-42/test/abundance.npy",
        "runs/seed-123/data-42/network/step-000000.safetensors",
        "runs/seed-124/data-42/oracle/history.csv",
        "analysis/fooled/data-42/predictions-val.npy",
        "analysis/network/data-42/trajectory.csv",
    ],
)
def test_what_was_damaged_is_made_again_with_a_warning(
    finished: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the damage: test_store.py."""
    path = finished.parent / "exp" / name
    good = path.read_bytes()
    path.write_bytes(good[:-5] + b"wrong")
    compute(finished)
    assert path.read_bytes() == good
    assert [record for record in caplog.records if record.levelname == "WARNING" and str(path) in record.message]


@pytest.mark.parametrize(
    "name", ["data/seed-42/wavelength.npy", "data/seed-42/metadata.json", "analysis/gap_report.csv"]
)
def test_what_is_cheap_is_simply_written_again(finished: Path, name: str) -> None:
    path = finished.parent / "exp" / name
    good = path.read_bytes()
    path.unlink()
    compute(finished)
    assert path.read_bytes() == good


def test_an_interrupted_run_goes_on_with_what_is_missing(
    tmp_path: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the middle of the oracle, and again from another object: the network is not trained twice."""
    meta = write_experiment(tmp_path)
    train, calls = training.train, []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            kwargs["on_step"] = lambda step, total: (_ for _ in ()).throw(KeyboardInterrupt) if step == 3 else None
        return train(*args, **kwargs)

    monkeypatch.setattr(training, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compute(meta)
    assert not list((tmp_path / "exp").rglob("*.partial"))
    assert not (tmp_path / "exp" / "runs" / "seed-123" / "data-42" / "oracle").exists()
    compute(meta)
    assert len(calls) == len(names_of(Network)) + 1, "the oracle twice, all others once"
    runs = Path("exp") / "runs"
    assert_same_results(tmp_path / runs, small_run / runs)


def test_an_added_seed_or_split_leaves_what_was_there(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exp = finished.parent / "exp"
    before = {part: content(exp / part) for part in ("data/seed-42", "runs")}
    files = small_experiment()
    files["meta"]["training_seed"] = [124, 123, 200]
    files["distribution"]["splits"]["extra"] = {"n_samples": 10, "distribution": combinations(["comp1"])}
    trained: list[list[int]] = []
    train = training.train
    monkeypatch.setattr(training, "train", lambda *a, **k: (trained.append(k["seeds"]), train(*a, **k))[1])
    experiment = compute(write_experiment(finished.parent, files), "network")
    assert trained == [[200]]
    for part, old in before.items():
        now = content(exp / part)
        assert {name: now[name] for name in old if name != "metadata.json"} == {
            name: kept for name, kept in old.items() if name != "metadata.json"
        }
    assert len(experiment.data("extra")) == 10
    assert set(experiment.trajectories()["split"]) == {"val", "test", "extra"}
    assert experiment.predictions().training_seeds == (124, 123, 200)


def test_an_added_split_or_seed_changes_no_other_data(tmp_path: Path, small_run: Path) -> None:
    """Drawn from nothing, after what was added; for weights, batches and masks see test_training.py."""
    files = small_experiment()
    extra = {"extra": {"n_samples": 10, "distribution": combinations(["comp1"])}}
    files["distribution"]["splits"] = extra | files["distribution"]["splits"]
    files["meta"]["data_seed"] = [41, 42]
    Experiment.from_yaml(write_experiment(tmp_path, files))._generate_all()
    for split in small_experiment()["distribution"]["splits"]:
        place = Path("exp") / "data" / "seed-42" / split
        assert (small_run / place).is_dir()
        assert_same_results(tmp_path / place, small_run / place)


def test_another_test_split_trains_the_same_networks(tmp_path: Path, small_run: Path) -> None:
    files = small_experiment()
    files["distribution"]["splits"] |= TEST_SPLIT
    compute(write_experiment(tmp_path, files), "network", "oracle")
    for seed in (123, 124):
        for method in ("network", "oracle"):
            run = Path("exp") / "runs" / f"seed-{seed}" / "data-42" / method
            assert_same_results(tmp_path / run, small_run / run)


def test_permuting_the_test_labels_changes_no_prediction(
    tmp_path: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is chosen on the test split: weights, histories, verdicts and predictions stay; only errors change."""
    generate = data.generate

    def mislabeled(*args: Any, **kwargs: Any) -> data.Spectra:
        spectra = generate(*args, **kwargs)
        if kwargs["name"] == "test":
            spectra.abundance[:] = spectra.abundance[np.random.default_rng(0).permutation(len(spectra))]
        return spectra

    monkeypatch.setattr(data, "generate", mislabeled)
    mislabeled_run = compute(write_experiment(tmp_path))
    monkeypatch.undo()
    shrink_fooled(monkeypatch)
    honest_run = Experiment.from_yaml(small_run / "meta_config.yaml")
    assert_same_results(tmp_path / "exp" / "runs", small_run / "exp" / "runs")
    for method in METHODS:
        for split in ("val", "test"):
            one, other = (run.predictions(method, split) for run in (mislabeled_run, honest_run))
            np.testing.assert_array_equal(one.values, other.values)
            assert (one.truth != other.truth).any() == (split == "test")
        assert mislabeled_run.seed_status(method).equals(honest_run.seed_status(method))
        errors = [run.final_errors(method, "test")["mse"] for run in (mislabeled_run, honest_run)]
        assert not errors[0].equals(errors[1])


# --- two runs, and any order


def early_plot(meta: Path) -> None:
    Experiment.from_yaml(meta).plot("mse_trajectory")


def chapter_3(meta: Path) -> None:
    experiment = Experiment.from_yaml(meta)
    experiment.train()
    experiment.final_errors("fooled")
    experiment.gap_report("fooled")


def chapter_4(meta: Path) -> None:
    experiment = Experiment.from_yaml(meta)
    experiment.predictions("oracle", "val")
    experiment.gap_report()


def everything(meta: Path) -> None:
    Experiment.from_yaml(meta).run(everything=True)


@pytest.mark.parametrize(
    "order",
    [[early_plot, chapter_4, chapter_3, everything], [chapter_3, chapter_4]],
    ids=["plot first", "chapters only"],
)
def test_every_order_of_asking_leaves_the_same_files(
    tmp_path: Path, small_run: Path, order: list[Callable[[Path], None]]
) -> None:
    """Also: two runs into two empty folders give byte-identical data, histories, checkpoints and tables."""
    meta = write_experiment(tmp_path)
    for ask in order:
        ask(meta)
    if everything in order:
        assert_same_results(tmp_path / "exp", small_run / "exp")
    else:
        for method in ("network", "oracle", "fooled"):
            for part in (f"analysis/{method}", f"runs/seed-123/data-42/{method}"):
                assert_same_results(tmp_path / "exp" / part, small_run / "exp" / part)


# --- stages that are switched off


def with_flags(meta: Path, **flags: bool) -> Path:
    return write_experiment(meta.parent, changed(meta=flags))


def test_stages_that_are_off_use_what_is_there(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {part: content(finished.parent / "exp" / part) for part in ("data", "runs", "analysis")}
    forbid(monkeypatch, "runs", "analysis")
    with_flags(finished, generate_data=False, run_training=False, run_analysis=False)
    experiment = Experiment.from_yaml(finished)
    assert len(experiment.data("train")) == 128
    assert experiment.train("fooled")["training_seed"].nunique() == 3
    experiment.gap_report(*METHODS)
    assert {part: content(finished.parent / "exp" / part) for part in before} == before


@pytest.mark.parametrize(
    ("flag", "ask", "place"),
    [
        ("generate_data", lambda e: e.data("val"), "data/seed-42/val"),
        ("generate_data", lambda e: e.train(), "data/seed-42/train"),
        ("run_training", lambda e: e.gap_report(), "runs/seed-123/data-42/network"),
        ("run_analysis", lambda e: e.trajectories(), "analysis/network/data-42"),
    ],
)
def test_a_stage_that_is_off_says_what_is_missing(tmp_path: Path, flag: str, ask: Any, place: str) -> None:
    meta = with_flags(tmp_path / "meta_config.yaml", **{flag: False})
    said = re.escape(f"{flag}: found false, with nothing complete in {tmp_path / 'exp' / place}; expected true")
    with pytest.raises(MissingError, match=said):
        ask(Experiment.from_yaml(meta))
    assert not (tmp_path / "exp" / place).exists()


def test_a_network_that_learns_from_a_decoder_is_trained_where_nothing_is_analyzed(tmp_path: Path) -> None:
    meta = with_flags(tmp_path / "meta_config.yaml", run_analysis=False)
    assert Experiment.from_yaml(meta).train("limit")["val_loss"].notna().all()


def test_a_stage_that_is_off_is_used_after_an_edit_of_the_code_with_a_warning(
    finished: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_flags(finished, run_training=False)
    forbid(monkeypatch, "runs")
    monkeypatch.setitem(stages.CODE, "networks", "edited")
    Experiment.from_yaml(finished).train()
    assert "was made by another version of the code; used as it is (run_training: false)" in caplog.text


def test_an_edit_of_the_code_makes_everything_behind_it_again(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exp = finished.parent / "exp"
    before = content(exp)
    monkeypatch.setitem(stages.CODE, "networks", "edited")
    compute(finished, "network")
    after = content(exp)
    made = {name for name in before if after[name] != before[name]}
    assert {name.split("/")[0] for name in made} == {"runs", "analysis"}
    assert "runs/seed-123/data-42/network/status.json" in made
    assert files_in(exp) == set(before)
