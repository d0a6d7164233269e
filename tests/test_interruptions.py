"""Kills, a full disk, damage and divergence: what was finished stays, the rest is made again, and nothing is silent."""

from __future__ import annotations

import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import NIGHTLY, REPOSITORY, assert_same_results, content, files_in, small_experiment, write_experiment

from spectral_tutorial import Experiment, cli, models, store, training
from spectral_tutorial.data import InputTransform
from spectral_tutorial.folder import open_folder
from spectral_tutorial.store import MissingError, StoreError

KILLS = 20 if NIGHTLY else 6  # at random moments, as many in each of six stages as in any other
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

# --- runs that end badly, in processes of their own


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Every case of killed.py: its kind, where it happened, and what went wrong (nothing)."""
    if os.name != "posix":
        pytest.skip("needs fork and signals")
    script, folder = REPOSITORY / "tests" / "killed.py", tmp_path_factory.mktemp("killed")
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(script.parent)])}
    command = [sys.executable, str(script), str(folder), str(KILLS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return pd.DataFrame(json.loads(line) for line in done.stdout.splitlines())


@pytest.mark.nightly if NIGHTLY else pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count"), [("killed", KILLS + 1), ("interrupted", 6), ("full disk", 3), ("twice at once", 1)]
)
def test_the_same_command_finishes_the_work_bit_for_bit(endings: pd.DataFrame, kind: str, count: int) -> None:
    """Kills at random moments of all stages, at night more, and one between two seeds that are trained together.

    Exit statuses, the one sentence of each, and that what was finished is not touched are looked at in killed.py.
    """
    cases = endings[endings["kind"] == kind]
    assert len(cases) == count
    wrong = cases[cases["wrong"] != ""]
    assert wrong.empty, "\n".join(f"{case.where}:\n{case.wrong}" for case in wrong.itertuples())


# --- several stages at once


def test_seeds_whose_folders_were_not_in_place_yet_are_trained_again_to_the_same_digits(
    tmp_path: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the renames of two seeds that were trained together: the other is then trained alone."""
    meta, replace = write_experiment(tmp_path), Path.replace

    def stopping(self: Path, target: Path) -> Path:
        if re.search(r"seed-123/data-42/\.network\.\d+\.partial$", self.as_posix()):
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopping)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a kill cleans nothing up
        with pytest.raises(KeyboardInterrupt):
            Experiment.from_yaml(meta).train()
    assert [(tmp_path / f"exp/runs/seed-{seed}/data-42/network").is_dir() for seed in (123, 124)] == [False, True]
    Experiment.from_yaml(meta).train()
    assert not list(tmp_path.rglob("*.partial"))
    for seed in (123, 124):
        run = Path(f"exp/runs/seed-{seed}/data-42/network")
        assert_same_results(tmp_path / run, small_run / run)


def test_what_killed_processes_left_is_cleared_by_whoever_writes_next(tmp_path: Path) -> None:
    leftovers = [".gap_report.csv.99.partial", "network/.data-42.99.old.partial/x", "network/.data-43.99.partial/x"]
    for name in leftovers:
        path = tmp_path / "analysis" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half", encoding="utf-8")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "versions.json").write_text("{}", encoding="utf-8")
    mine = open_folder(tmp_path, small_experiment(), False, "meta_config.yaml")
    mine.publish("plots/one.png", b"one")
    assert not list(tmp_path.rglob("*.partial"))
    for name in ("plots/.one.png.99.partial", "configs/.published.json.99.partial"):
        (tmp_path / name).write_text("half", encoding="utf-8")
    mine.publish("plots/two.png", b"two")
    assert not list(tmp_path.rglob("*.partial"))


# --- a full disk

posix = pytest.mark.skipif(os.name != "posix", reason="on Windows no space is reserved, and a file in use has a name")


def no_space(after: int) -> Callable[..., None]:
    """Let `after` reservations of space succeed, and no later one."""
    calls = iter(range(1000))

    def reserve(*_: Any) -> None:
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return reserve


@posix
def test_a_full_disk_is_one_sentence_and_what_was_finished_is_kept(
    tmp_path: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    meta = write_experiment(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_space(after=9), raising=False)
        assert cli.main(["generate-data", str(meta)]) == 2
    (error,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert error.startswith(f"{tmp_path}/exp/data/seed-42/test: cannot be written ([Errno 28] No space left on device)")
    assert "\n" not in error
    before = content(tmp_path / "exp" / "data" / "seed-42")
    assert {name.split("/")[0] for name in before} == {"train", "val", "metadata.json", "wavelength.npy"}
    assert cli.main(["generate-data", str(meta)]) == 0
    after = content(tmp_path / "exp" / "data" / "seed-42")
    assert {name: after[name] for name in before} == before
    for split in ("train", "val", "test", "oracle_train"):
        data = Path("exp") / "data" / "seed-42" / split
        assert_same_results(tmp_path / data, small_run / data)


@posix
def test_large_inputs_lie_in_a_file_without_a_name_and_train_the_same_networks(
    tmp_path: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = Experiment.from_yaml(write_experiment(tmp_path))
    experiment._generate_all()
    before, transform = files_in(tmp_path), InputTransform("none")
    monkeypatch.setattr(store, "IN_MEMORY", 1000)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_space(after=0), raising=False)
        with pytest.raises(StoreError, match=r"/exp: cannot be written \(\[Errno 28\] No space left"):
            experiment._tensors(transform, experiment.data("train"))
    inputs, _ = experiment._tensors(transform, experiment.data("train"))
    assert inputs.shape == (128, 64)
    assert files_in(tmp_path) == before
    experiment.train()
    for seed in (123, 124):
        run = Path("exp") / "runs" / f"seed-{seed}" / "data-42" / "network"
        assert_same_results(tmp_path / run, small_run / run)


# --- damage


class Touch:
    """What is unpickled makes a file: the harm that a foreign array or checkpoint could do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def as_object_array(path: Path, harmful: Touch) -> None:
    np.save(path, np.array([harmful], dtype=object), allow_pickle=True)
    if path.suffix != ".npy":
        path.with_name(f"{path.name}.npy").replace(path)


def as_pickle(path: Path, harmful: Touch) -> None:
    path.write_bytes(pickle.dumps(harmful))


ASKED: dict[str, Callable[[Experiment], Any]] = {
    "data/seed-42/train/flux.npy": lambda e: e.data("train"),
    "runs/seed-123/data-42/network/step-000008.safetensors": lambda e: e.weights("network", 8),
    "analysis/network/data-42/predictions-test.npy": lambda e: e.predictions(),
}


@pytest.mark.parametrize("spoil", [as_pickle, as_object_array])
@pytest.mark.parametrize("name", ASKED)
def test_no_array_and_no_checkpoint_can_run_code(
    tmp_path: Path, small_run: Path, name: str, spoil: Callable[[Path, Touch], None]
) -> None:
    """Even where the checksum was forged; without that, it is made again like any damaged file (test_stages.py)."""
    shutil.copytree(small_run, tmp_path, dirs_exist_ok=True)
    path, made = tmp_path / "exp" / name, tmp_path / "made by the pickle"
    spoil(path, Touch(made))
    status = json.loads((path.parent / store.STATUS).read_text())
    status["files"][path.name] = store.file_digest(path)
    (path.parent / store.STATUS).write_bytes(store.json_bytes(status))
    experiment = Experiment.from_yaml(tmp_path / "meta_config.yaml")
    with pytest.raises((StoreError, ValueError)) as refusal:
        ASKED[name](experiment)
    assert "\n" not in str(refusal.value)
    assert not made.exists()


def test_nothing_in_the_package_unpickles() -> None:
    for path in (REPOSITORY / "spectral_tutorial").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        found = re.search(
            r"import (c?pickle|joblib|dill|shelve)|(?<!safetensors\.)torch\.load|allow_pickle=True|read_pickle", source
        )
        assert found is None, f"{path}: {found}"


def test_damage_in_a_stage_that_is_switched_off_is_an_error_that_names_it(
    tmp_path: Path, small_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(small_run, tmp_path, dirs_exist_ok=True)
    files = small_experiment()
    files["meta"]["run_training"] = False
    meta = write_experiment(tmp_path, files)
    checkpoint = tmp_path / "exp" / "runs" / "seed-124" / "data-42" / "network" / "step-000008.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    before = content(tmp_path)
    with pytest.raises(MissingError, match=re.escape(f"nothing complete in {checkpoint.parent}; expected true")):
        Experiment.from_yaml(meta).train()
    assert f"{checkpoint} is missing or was altered" in caplog.text
    assert content(tmp_path) == before


# --- divergence


def test_an_absurd_learning_rate_is_diverged_named_counted_and_kept_out(tmp_path: Path, small_run: Path) -> None:
    """In a variation: its networks are lost, its method and the experiment around it stand."""
    files = small_experiment()
    changes = {"training.learning_rate": 1e6, "methods": ["network", "ridge_log"]}
    files["analysis"]["variations"] = {"hot": changes, "mild": {**changes, "training.learning_rate": 1e-3}}
    outer = Experiment.from_yaml(write_experiment(tmp_path, files))
    ratios = outer.variations_report().set_index(["variation", "method"])
    hot, mild = (outer.variation(name) for name in ("hot", "mild"))
    assert hot.seed_status()["training_seed"].tolist() == [123, 124]
    assert (hot.seed_status()["status"] == "diverged").all()
    report = hot.gap_report("network", "ridge_log").set_index("method")
    assert (report.loc["network", "n_diverged"] == 2).all()
    assert (report.loc["network", "n_dead"] == 0).all()
    assert report.loc["network", ["mse_median", "mse_low", "mse_high", "ratio_to_crlb"]].isna().all(axis=None)
    assert np.isfinite(report.loc["ridge_log", "mse_median"]).all()
    measures = ["all", "quietest", "middle", "noisiest"]
    assert ratios.loc[("hot", "network"), measures].isna().all(axis=None)
    pd.testing.assert_frame_equal(
        ratios.loc[[("hot", "ridge_log")], measures].reset_index(drop=True),
        ratios.loc[[("mild", "ridge_log")], measures].reset_index(drop=True),
    )
    for plot in ("training_curves", "mse_trajectory", "mse_time_series", "test_abundance_mse", "prediction_analysis"):
        assert hot.plot(plot).axes
    network = Path("analysis") / "network"
    assert_same_results(mild.directory / network, small_run / "exp" / network)


def test_one_run_that_diverges_is_named_and_the_others_stand(
    tmp_path: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = training.initial_state

    def poisoned_for_the_second_seed(build: models.Build, initialization: str, seeds: Sequence[int]) -> models.State:
        state = draw(build, initialization, seeds)
        state["0.weight"][list(seeds).index(124)] = 1e30
        return state

    monkeypatch.setattr(training, "initial_state", poisoned_for_the_second_seed)
    experiment = Experiment.from_yaml(write_experiment(tmp_path))
    report = experiment.gap_report("network")
    status = experiment.seed_status().set_index("training_seed")["status"]
    assert status.to_dict() == {123: "ok", 124: "diverged"}
    assert (report["n_diverged"] == 1).all()
    assert (report["n_training_seeds"] == 2).all()
    errors = experiment.final_errors("network", "test").query("training_seed == 123").set_index("component")["mse"]
    found = report.query("split == 'test'").set_index("component")
    for column in ("mse_median", "mse_low", "mse_high"):
        pd.testing.assert_series_equal(found[column], errors, check_names=False)
    run = Path("exp") / "runs" / "seed-123" / "data-42" / "network"
    assert_same_results(tmp_path / run, small_run / run)
