"""What can be asked of an experiment, what a run leaves behind, and the claims of the shipped configuration."""

from __future__ import annotations

import importlib
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import filelock
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import (
    ORIGINAL,
    PLOTS,
    SHIPPED,
    combinations,
    content,
    files_in,
    shrink_fooled,
    small_experiment,
    write_experiment,
)
from threadpoolctl import threadpool_info, threadpool_limits

from spectral_tutorial import Experiment, analysis, limits, models, training
from spectral_tutorial.config import ConfigError, load
from spectral_tutorial.estimators import LogAdditiveDecoder
from spectral_tutorial.methods import METHODS, Estimator, Network, asked_in, get_network, names_of
from spectral_tutorial.plots import PLOTS as DRAWN
from spectral_tutorial.store import LOCK, StoreError

OWN_NETWORK = """
from torch import nn

class Own(nn.Sequential):
    def __init__(self, n_bins, n_components, hidden_dims, dropout_rate, activation):
        first, last = nn.Linear(n_bins, 8), nn.Linear(8, n_components)
        super().__init__(first, nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), last)
"""


@pytest.fixture
def small(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """The finished small experiment: reading it writes nothing."""
    shrink_fooled(monkeypatch)
    return Experiment.from_yaml(small_run / "meta_config.yaml")


INTERVENTIONS = [name for name in names_of(Network) if not METHODS[name].core and name != "fooled"]


def expected_files(
    splits: tuple[str, ...],
    steps: dict[str, list[int]],
    n_seeds: int = 2,
    n_fooled: int = 3,
    data_seeds: tuple[int, ...] = (42,),
) -> set[str]:
    """What a run with everything leaves, as DESIGN and the reference page list it."""
    arrays = ("flux.npy", "abundance.npy", "temperature.npy", "noise_level.npy", "status.json")
    configs = ("meta_config", "synthetic_spectra", "data_distribution", "training", "analysis")
    tables = ("trajectory.csv", "seed_status.csv", "status.json", "predictions-val.npy", "predictions-test.npy")
    files = {f"configs/{name}.yaml" for name in configs} | {"configs/versions.json", "configs/published.json"}
    files |= {f"analysis/{name}.csv" for name in ("trajectory_data", "seed_status", "gap_report", "ratio_by_noise")}
    files |= {f"plots/{name}.png" for name in PLOTS} | {
        f"analysis/decoder/choice/{f}" for f in ("choice.csv", "status.json")
    }
    for seed in data_seeds:
        files |= {f"data/seed-{seed}/{name}" for name in ("wavelength.npy", "metadata.json")}
        # the large splits are not written down
        shown = ("composed", *(("combinations", "some_pairs", "all_pairs") if seed == 42 else ()))
        files |= {f"data/seed-{seed}/{split}/{name}" for split in (*splits, *shown) for name in arrays}
    for seed in range(42, 47):  # estimators are measured over five data seeds, whose spectra are not kept
        files |= {f"analysis/{method}/data-{seed}/{name}" for method in names_of(Estimator) for name in tables}
    for method, checkpoints in steps.items():
        network = get_network(method)
        measured = data_seeds[: network.n_data_seeds]
        files |= {f"analysis/{method}/data-{seed}/{name}" for seed in measured for name in tables}
        kept = ("history.csv", "status.json", *(f"step-{step:06d}.safetensors" for step in checkpoints))
        trained = n_fooled if method == "fooled" else 5 if method in INTERVENTIONS else n_seeds
        folders = [f"runs/seed-{123 + i}/data-{seed}/{method}" for i in range(trained) for seed in measured]
        files |= {f"{folder}/{name}" for folder in folders for name in kept}
    return files


def test_a_run_leaves_exactly_the_documented_files(small_run: Path) -> None:
    """128 spectra in batches of 32 over 2 epochs: 8 steps; the fooled method's 2 batches of 64 over 6: 12 steps."""
    exp = small_run / "exp"
    names = files_in(exp)
    left = {int(name[-18:-12]) for name in names if name.startswith("runs/seed-123/data-42/network/step-")}
    assert {0, 1, 8} <= left <= set(range(9))
    steps = {"network": sorted(left), "oracle": [0, 8], "fooled": [0, 12]}
    steps |= {name: [0, 64 if name.startswith("limit") else 8] for name in INTERVENTIONS}
    assert names == expected_files(("train", "val", "test", "oracle_train"), steps)
    assert set(DRAWN) == PLOTS
    assert all((exp / f"plots/{name}.png").stat().st_size > 5000 for name in PLOTS)


def test_the_record_can_itself_be_run(small: Experiment, small_run: Path) -> None:
    record = load(small_run / "exp" / "configs" / "meta_config.yaml")
    assert record.exp_dir == small.directory
    assert record.spectra == small.config.spectra
    assert record.training == small.config.training
    assert record.distribution == small.config.distribution


def test_histories_have_a_row_for_each_checkpoint_of_each_run(small: Experiment) -> None:
    history = small.train()
    assert list(history) == ["method", "data_seed", "training_seed", "step", "epoch", "train_loss", "val_loss"]
    assert history["training_seed"].unique().tolist() == [123, 124]
    assert not history.duplicated(["training_seed", "step"]).any()
    last = history[history["step"] == 8]
    assert (last["epoch"] == 2).all()
    assert last["val_loss"].notna().all()


def test_predictions_are_those_of_the_kept_checkpoints_and_errors_those_of_the_predictions(small: Experiment) -> None:
    predictions = small.predictions("fooled", "test")
    assert predictions.training_seeds == (123, 124, 125)
    assert predictions.components == ("comp6", "comp4")
    assert predictions.values.shape == (3, 2, 64, 2)
    assert predictions.steps.tolist() == [0, 12]
    np.testing.assert_array_equal(predictions.truth, small.data("test").of("comp6", "comp4"))
    np.testing.assert_array_equal(predictions.last, predictions.values[:, -1])
    mse = ((predictions.last - predictions.truth) ** 2).mean(axis=1)
    table = small.final_errors("fooled", "test").set_index(["training_seed", "component"])["mse"]
    for place, seed in enumerate(predictions.training_seeds):
        for column, component in enumerate(predictions.components):
            assert table[seed, component] == pytest.approx(mse[place, column], rel=1e-6)


def test_validation_loss_is_the_mean_of_all_outputs_errors(small: Experiment) -> None:
    """Six outputs: the loss times 6 is at least the two reported components' errors."""
    loss = small.train().groupby("training_seed")["val_loss"].last()
    reported = small.final_errors().groupby("training_seed")["mse"].sum()
    assert (loss * 6 >= reported * (1 - 1e-6)).all()


def test_report_on_disk_is_the_report(small: Experiment) -> None:
    everything = list(METHODS)
    report = small.gap_report(*everything)
    pd.testing.assert_frame_equal(report, pd.read_csv(small.directory / "analysis" / "gap_report.csv"))
    assert list(report) == analysis.REPORT_COLUMNS
    cases = {(method, component, split) for method, component, split, *_ in report.to_numpy()}
    assert len(cases) == len(report) == len(everything) * 2 * 2
    assert set(report["method"]) == set(everything)
    without_seeds = report[report["method"].isin(names_of(Estimator))]
    assert (without_seeds["n_training_seeds"] == 0).all()
    assert (without_seeds["n_data_seeds"] == 5).all()
    assert report["ratio_to_crlb"].notna().all()
    assert small.gap_report("synthesis", "oracle")["method"].unique().tolist() == ["synthesis", "oracle"]
    pd.testing.assert_frame_equal(report, pd.read_csv(small.directory / "analysis" / "gap_report.csv"))


def test_bound_is_the_mean_over_the_split(small: Experiment) -> None:
    for split in ("val", "test"):
        s = small.data(split)
        variance = limits.cramer_rao(small.world, s.temperature, s.abundance, s.noise_level, [5, 3]).mean(axis=0)
        assert small.bound(split).mean(axis=0) == pytest.approx(variance)
        report = small.gap_report("network").query("split == @split").set_index("component")["crlb"]
        assert report[["comp6", "comp4"]].tolist() == pytest.approx(variance.tolist())
    assert set(small.reference_points) == {"predict nothing", "training mean", "best constant"}


def test_lines_that_training_shows_besides_are_unknown_to_the_bound_too(small: Experiment, tmp_path: Path) -> None:
    files = small_experiment()
    files["distribution"]["splits"]["train"]["distribution"] = combinations([], ["comp6"], ["comp4"], ["comp3"])
    third = Experiment.from_yaml(write_experiment(tmp_path, files))
    test = third.data("test")
    star = test.temperature, test.abundance, test.noise_level
    expected = limits.cramer_rao(third.world, *star, [5, 3, 2])[:, :2]
    np.testing.assert_allclose(third.bound(), expected)
    assert (third.bound() > small.bound()).all()


def test_hidden_outputs_are_what_the_last_layer_reads(small: Experiment) -> None:
    flux, state = small.data("val").flux, small.weights()
    hidden = torch.from_numpy(small.outputs(flux, hidden=True))
    assert hidden.shape == (2, 64, 8)
    answer = torch.baddbmm(state["4.bias"][:, None], hidden, state["4.weight"].mT)
    np.testing.assert_allclose(answer.numpy(), small.outputs(flux), atol=1e-6)


def test_a_method_predicts_as_its_fitted_estimator_does(small: Experiment) -> None:
    for method in ("ridge_log", "decoder"):
        for seed in (42, 45):
            test = small.data("test", data_seed=seed)
            predictions = small.predictions(method, data_seed=seed)
            assert predictions.training_seeds == ()
            expected = small.estimator(method, data_seed=seed).predict(test.flux)
            np.testing.assert_allclose(predictions.last[0], expected, atol=1e-5)
            row = small.final_errors(method, "test").query("data_seed == @seed").set_index("component")["mse"]
            assert row["comp4"] == pytest.approx(
                np.square(expected - test.of("comp6", "comp4")).mean(axis=0)[1], rel=1e-4
            )


def test_a_choice_names_what_was_tried_and_the_estimator_uses_the_first(small: Experiment) -> None:
    tried = small.choice("decoder")
    assert tried is not None
    assert tried["log_likelihood"][1:].is_monotonic_decreasing
    best = tried.iloc[0]
    estimator = small.estimator("decoder")
    assert (estimator.degree, estimator.n_continuum) == (best["degree"], best["n_continuum"])  # type: ignore[attr-defined]
    assert small.choice("ridge_log") is None


def test_interventions_differ_in_what_they_say(small: Experiment) -> None:
    quarter = 128 // 4
    both = small.world.index(small.reported)
    shown = {"shown_4": 4, "shown_16": 16, "shown_256": 128, "network+7": 7, "composed": quarter, "network": 0}
    for name, count in shown.items():
        learned = small._learned_from(name, 42)
        assert len(learned) == 128
        assert ((learned.abundance[:, both] > 0).all(axis=1)).sum() == count
    for name in ("some_pairs", "all_pairs"):
        present = small._learned_from(name, 42).abundance > 0
        assert (present.sum(axis=1) == 2).sum() == quarter
        assert not present[:, both].all(axis=1).any()
    ten, all_of_them = (small._added[name].distribution.combinations for name in ("some_pairs", "all_pairs"))  # type: ignore[union-attr]
    assert (len(ten), len(all_of_them)) == (10, 14)
    assert METHODS["dropout"].settings(small.config).dropout_rate == 0.1
    assert METHODS["network_flux"].settings(small.config).input_transform == "standardize"


def test_networks_at_the_limit_learn_from_all_combinations_equally_often(small: Experiment) -> None:
    """One from true spectra, one from what a decoder makes of single lines: abundances, noise and continua of train."""
    train, both = small.data("train"), small.world.index(small.reported)
    for name in ("limit", "limit_oracle"):
        learned = small._learned_from(name, 42)
        assert len(learned) == 4 * len(train)
        present = learned.abundance > 0
        assert not np.delete(present, both, axis=1).any()
        kinds = np.bincount(present[:, both] @ [1, 2], minlength=4)
        assert (np.abs(kinds / len(learned) - 0.25) < 0.08).all()
    made = small.data("recombined")
    assert np.isnan(made.temperature).all()
    for column in both:
        assert set(made.abundance[:, column]) <= set(train.abundance[:, column])
    levels = [np.quantile(spectra.noise_level, [0.1, 0.5, 0.9]) for spectra in (made, train)]
    np.testing.assert_allclose(*levels, rtol=0.3)  # of so few spectra a decoder learns some noise by heart
    brightness = [np.sort(spectra.flux.mean(axis=1)) for spectra in (made, train)]
    assert 0.8 < np.median(brightness[0]) / np.median(brightness[1]) < 1.2
    assert not (small.directory / "data" / "seed-42" / "recombined").exists()


def test_a_network_at_the_limit_is_trained_where_nothing_of_the_combination_is_to_be_had(
    small: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, own = [], Experiment._spectra

    def spectra(self: Experiment, split: str, data_seed: int) -> Any:
        asked.append(split)
        return own(self, split, data_seed)

    monkeypatch.setattr(Experiment, "_spectra", spectra)
    alone = Experiment.from_yaml(write_experiment(tmp_path))
    history = alone.train("limit")
    assert set(asked) == {"train", "val", "recombined"}
    pd.testing.assert_frame_equal(history, small.train("limit"))


def test_what_an_experiment_has_no_spectra_for_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without blank spectra nothing can be composed, no decoder learned; a world of two lines has no other pair."""
    shrink_fooled(monkeypatch)
    files = small_experiment()
    files["spectra"] |= {"n_components": 2, "lines": [files["spectra"]["lines"][3], files["spectra"]["lines"][5]]}
    seen = combinations(["comp6"], ["comp4"])
    for name in ("train", "val"):
        files["distribution"]["splits"][name]["distribution"] = seen
    experiment = Experiment.from_yaml(write_experiment(tmp_path, files))
    report = experiment._analyze_all(everything=True)
    missing = set(METHODS) - set(report["method"])
    assert missing == {"composed", "decoder", "decoder_flat", "limit", "some_pairs", "all_pairs"}
    assert all(f"{name} is left out: " in caplog.text for name in missing)


def test_no_fit_depends_on_the_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The spectra of ``limit`` did: chapters are built with other threads than the command line has."""
    used, fit = [], LogAdditiveDecoder.fit

    def watched(self: LogAdditiveDecoder, *data: Any) -> LogAdditiveDecoder:
        used.append({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
        return fit(self, *data)

    monkeypatch.setattr(LogAdditiveDecoder, "fit", watched)
    experiment = Experiment.from_yaml(write_experiment(tmp_path))
    with threadpool_limits(2, user_api="blas"):
        experiment.choice("decoder")
        experiment.data("recombined")
        experiment.estimator("decoder")
    assert len(used) >= 2
    assert all(threads <= {1} for threads in used)


@pytest.mark.parametrize("first", ["by its name", "by its changes"])
def test_a_variation_is_one_experiment_however_it_is_opened(first: str, tmp_path: Path) -> None:
    """Chapters open some by their changes, others by their names in analysis.yaml, in any order."""
    files, pair = small_experiment(), {"pair": ["comp1", "comp3"]}
    files["analysis"]["variations"] = {"other": pair, "more": {"training.epochs": 1}}
    meta = write_experiment(tmp_path, files)
    ways: list[dict[str, Any]] = [{"name": "other"}, {"name": "other", "changes": pair}]
    records = []
    for way in ways if first == "by its name" else reversed(ways):
        inner = Experiment.from_yaml(meta).variation(**way)
        inner.plot("spectral_lines")
        records.append(content(inner.directory / "configs"))
    assert records[0] == records[1]
    del files["analysis"]["variations"]["more"]
    Experiment.from_yaml(write_experiment(tmp_path, files)).variation("other").plot("spectral_lines")


def test_a_variation_is_an_experiment_of_its_own_within_the_outer_folder(tmp_path: Path) -> None:
    files = small_experiment()
    files["analysis"]["variations"] = {"other": {"pair": ["comp1", "comp3"], "spectra.line_law": "beer_lambert"}}
    outer = Experiment.from_yaml(write_experiment(tmp_path, files))
    inner = outer.variation("other")
    assert inner.directory == outer.directory / "variations" / "other"
    assert inner.reported == ("comp1", "comp3")
    assert inner.world.law == "beer_lambert"
    assert (inner.data("test").of("comp1", "comp3") > 0).all()
    assert not inner.data("test").of("comp6", "comp4").any()
    again = Experiment.from_yaml(tmp_path / "meta_config.yaml")  # the folder is still known as ours
    with filelock.FileLock(outer.directory / LOCK):  # as when another process trains: nothing to wait for
        assert again.variation("other").directory == inner.directory
    own = again.variation("short", {"training.epochs": 1})
    assert own.config.training.epochs == 1
    assert own.train()["epoch"].max() == 1
    files["analysis"]["variations"]["other"]["methods"] = ["decoder", "decodr"]
    odd = Experiment.from_yaml(write_experiment(tmp_path / "odd", files))
    with pytest.raises(
        ConfigError, match="variations.other.methods: found 'decodr'; expected one of .*did you mean dec"
    ):
        odd._analyze_all(everything=True)
    assert not odd.directory.exists()
    with pytest.raises(ConfigError, match="variations: found 'othr'; expected one of other \\(did you mean other"):
        again.variation("othr")
    with pytest.raises(StoreError, match="found the experiment of another configuration"):
        again.variation("short", {"training.epochs": 2})


def test_what_does_not_exist_is_named(small: Experiment) -> None:
    with pytest.raises(ValueError, match="no split 'tset'; expected one of .*train"):
        small.data("tset")
    with pytest.raises(ValueError, match="no plot 'pie'; expected one of spectral_lines"):
        small.plot("pie")
    with pytest.raises(ValueError, match="'network' is a network; expected one of ridge_flux, .*decoder"):
        small.estimator("network")
    with pytest.raises(ValueError, match="'decoder' has no training; expected one of network, oracle"):
        small.train("decoder")
    with pytest.raises(ValueError, match="no method 'decodr'; expected one of network, .*decoder"):
        small.gap_report("decodr")
    with pytest.raises(ValueError, match="no split 'nope'; expected one of train"):
        small.bound("nope")
    with pytest.raises(ValueError, match="no predictions for 'nope'; expected one of val, test"):
        small.final_errors("network", "nope")
    with pytest.raises(ValueError, match="no predictions of network for data seed 43; expected one of 42"):
        small.predictions(data_seed=43)
    for wrong in (-1, 1.5, True, "42"):
        with pytest.raises(ValueError, match="data_seed: found .*; expected a whole number from 0"):
            small.data("train", data_seed=wrong)
    with pytest.raises(ConfigError, match=r"found 'meta.yaml'; .* a file is opened by Experiment.from_yaml\(PATH\)"):
        Experiment("meta.yaml")  # type: ignore[arg-type]
    assert small.choice("network") is None
    assert small.ratio_by_noise()["method"].unique().tolist() == ["network", "oracle"]
    assert str(small.directory) in repr(small)


def test_every_data_seed_meets_every_training_seed(tmp_path: Path) -> None:
    files = small_experiment()
    files["meta"] |= {"data_seed": [42, 7], "training_seed": [5, 6]}
    experiment = Experiment.from_yaml(write_experiment(tmp_path, files))
    assert experiment.seed_status("dropout")["data_seed"].unique().tolist() == [42], "one draw is enough for it"
    report = experiment.gap_report("network")
    assert (report["n_data_seeds"] == 2).all()
    assert (report["n_training_seeds"] == 2).all()
    runs = experiment.final_errors()[["data_seed", "training_seed"]].drop_duplicates().to_numpy().tolist()
    assert sorted(runs) == [[7, 5], [7, 6], [42, 5], [42, 6]]
    assert (experiment.data("test", data_seed=7).temperature != experiment.data("test").temperature).all()
    assert not np.array_equal(experiment.predictions().values, experiment.predictions(data_seed=7).values)


def test_a_network_of_ones_own_that_cannot_be_stacked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With BatchNorm and torch's dropout: trained in turn, each seed read with its own weights and statistics."""
    (tmp_path / "own_network.py").write_text(OWN_NETWORK, encoding="utf-8")
    files = small_experiment()
    files["training"] |= {"model_type": "own_network:Own"}
    caplog.set_level("INFO", models.__name__)
    experiment = Experiment.from_yaml(write_experiment(tmp_path, files))
    errors = experiment.final_errors()
    assert "one after another" in caplog.text
    assert errors["mse"].nunique() == 4, "two seeds, two components"
    losses = experiment.train().groupby("training_seed")["val_loss"].last() * 6
    assert (errors.groupby("training_seed")["mse"].sum() <= losses * (1 + 1e-6)).all()


def test_running_leaves_the_callers_state_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def state() -> list[Any]:
        name, key, *rest = np.random.get_state()
        generators = [random.getstate(), name, key.tolist(), rest, torch.get_rng_state().tolist()]
        return [*generators, dict(mpl.rcParams), list(warnings.filters), torch.get_num_threads(), np.geterr()]

    shrink_fooled(monkeypatch)
    for module in ("scipy.special", "scipy.sparse"):  # set filters for warnings of their own
        importlib.import_module(module)
    before = state()
    experiment = Experiment.from_yaml(write_experiment(tmp_path))
    experiment.run()
    assert state() == before
    experiment.gap_report("fooled", *names_of(Estimator))
    assert state() == before


@pytest.mark.slow
def test_the_five_files_of_the_original_tutorial_run_unchanged(tmp_path: Path) -> None:
    """No val, no oracle, components by number, twenty checkpoints by ratio: and everything is there afterwards."""
    shutil.copytree(ORIGINAL, tmp_path / "mine")
    experiment = Experiment.from_yaml(tmp_path / "mine" / "meta_config.yaml")
    experiment.run()
    assert experiment.reported == ("comp10", "comp4")
    assert [len(experiment.data(name)) for name in ("train", "val", "test", "oracle_train")] == [4000, 1000, 1000, 4000]
    report = experiment.gap_report()
    assert set(report["method"]) == {"network", "oracle"}
    assert set(report["split"]) == {"val", "test"}
    assert (report["n_training_seeds"] == 5).all()
    assert experiment.trajectories()["checkpoint"].max() == 21  # 378 steps, every 18th
    assert {path.stem for path in (experiment.directory / "plots").iterdir()} == PLOTS


# --- the shipped experiment


@pytest.mark.slow
class TestShipped:
    """The claims about the shipped configuration, measured by ``run --all`` from nothing."""

    @pytest.fixture
    def exp(self, shipped_run: Any) -> Experiment:
        return Experiment.from_yaml(SHIPPED, exp_dir=shipped_run.exp)

    @pytest.fixture
    def mse(self, exp: Experiment) -> Any:
        report = pd.read_csv(exp.directory / "analysis" / "gap_report.csv")
        return report.set_index(["method", "split", "component"])["mse_median"]

    def test_the_network_reads_what_it_knows(self, mse: Any) -> None:
        assert mse["network", "val", "comp10"] <= 0.001
        assert mse["network", "val", "comp4"] <= 0.002

    def test_the_gap_is_there_and_the_oracle_closes_it(self, mse: Any) -> None:
        assert mse["network", "test", "comp4"] >= 30 * mse["network", "val", "comp4"]
        assert mse["oracle", "test", "comp4"] <= 0.006

    def test_no_network_is_dead_and_there_are_fifteen(self, exp: Experiment) -> None:
        for method in ("network", "oracle"):
            status = exp.seed_status(method)
            assert status.groupby("data_seed").size().tolist() == [5, 5, 5]
            assert (status["status"] == "ok").all()

    def test_fooled_seeds_die_and_the_living_hardly_learn_comp4(self, exp: Experiment, mse: Any) -> None:
        status = exp.seed_status("fooled").set_index("training_seed")["status"]
        dead = status.index[status == "dead"].tolist()
        assert len(status) == 32
        assert 1 <= len(dead) <= 8
        predictions = exp.predictions("fooled", "val")
        silent = predictions.last.std(axis=1).max(axis=1) < 1e-3
        assert dead == [seed for seed, still in zip(predictions.training_seeds, silent, strict=True) if still]
        assert mse["fooled", "val", "comp4"] >= 1 / 24

    def test_no_method_is_far_below_the_bound_on_the_held_out_combination(self, exp: Experiment) -> None:
        """In distribution one may be: it knows that what is absent is exactly 0, which an unbiased one does not."""
        report = pd.read_csv(exp.directory / "analysis" / "gap_report.csv")
        assert (report.loc[report["split"] == "test", "ratio_to_crlb"] > 0.9).all()  # 5 x 1024 spectra: one in 30 off

    @pytest.fixture
    def ratio(self, exp: Experiment) -> Any:
        """Error over bound on the combination, pooled over five data seeds."""
        table = pd.read_csv(exp.directory / "analysis" / "ratio_by_noise.csv")
        return table.set_index(["method", "component"])

    def test_the_estimators_reach_the_bound(self, mse: Any, ratio: Any) -> None:
        assert (ratio["all"]["synthesis"] <= 1.15).all()
        assert (ratio["all"]["decoder"] <= 1.2).all()
        assert mse["ridge_log", "test", "comp4"] <= 0.004

    def test_the_interval_is_that_of_single_runs(self, exp: Experiment, ratio: Any) -> None:
        for name, (low, high) in ratio[["low", "high"]].iterrows():
            method, component = name
            rows = exp.final_errors(method, "test").query("component == @component and status == 'ok'")
            errors = rows.set_index("data_seed")["mse"]
            bounds = {seed: exp.bound("test", data_seed=seed).mean(axis=0) for seed in set(errors.index)}
            place = exp.reported.index(component)
            alone = [mse / bounds[seed][place] for seed, mse in errors.items()]
            assert (low, high) == pytest.approx(tuple(np.quantile(alone, [0.25, 0.75])), rel=1e-4), name

    def test_the_decoder_is_further_from_the_bound_where_it_is_quiet(self, ratio: Any) -> None:
        thirds = ratio.loc["decoder"]
        assert (thirds["quietest"] > thirds["noisiest"]).all()
        assert thirds["quietest"].max() < 1.5

    def test_the_likelihood_prefers_continua_that_curve(self, exp: Experiment) -> None:
        """In our world and where the flat family fails."""
        for world in (exp, exp.variation("comp12-comp20")):
            chosen = world.choice("decoder")
            assert chosen is not None
            assert tuple(chosen.loc[0, ["n_continuum", "continuum_degree"]]) == (1, 2)

    def test_what_closes_the_gap_and_what_does_not(self, exp: Experiment, mse: Any) -> None:
        ood = {name: mse[name, "test", "comp4"] for name in METHODS}
        assert ood["network"] > 0.05
        assert min(ood["dropout"], ood["some_pairs"], ood["all_pairs"], ood["network_flux"]) > 0.05
        assert ood["network"] > ood["shown_4"] > ood["shown_16"] > ood["shown_64"] > ood["shown_256"]
        assert ood["shown_16"] < 0.05
        assert ood["composed"] < 2 * ood["oracle"] < 0.01
        assert ood["observer"] > 0.2 > 100 * ood["observer_oracle"]
        assert ood["ridge_flux"] > 10 * ood["ridge_log"]
        status = pd.concat([exp.seed_status(name) for name in INTERVENTIONS])
        fine = status.groupby("method")["status"].apply(lambda words: (words == "ok").sum())
        assert (fine == [5 if get_network(name).n_data_seeds == 1 else 15 for name in fine.index]).all()

    def test_other_pairs_and_another_line_law_reach_the_bound_too(self, exp: Experiment) -> None:
        worlds = [name for name in exp.config.analysis.variations if "synthesis" in asked_in(exp.config, name)]
        assert len(worlds) >= 3
        for name in worlds:
            table = pd.read_csv(exp.directory / "variations" / name / "analysis" / "ratio_by_noise.csv")
            ratio = table.groupby("method")["all"].max()
            assert ratio["synthesis"] <= 1.15, name
            assert ratio["decoder"] <= 1.25, name
            report = pd.read_csv(exp.directory / "variations" / name / "analysis" / "gap_report.csv")
            assert (report["n_data_seeds"] >= 5).all(), name
        far = pd.read_csv(exp.directory / "variations" / "comp13-comp2" / "analysis" / "ratio_by_noise.csv")
        assert (far.loc[far["method"] == "observer", "all"] > 20).all()

    def test_the_run_left_every_plot_and_every_variant(self, exp: Experiment) -> None:
        steps = training.checkpoint_steps(exp.config.training, 1280)
        kept = {"network": steps, "oracle": [0, 1280], "fooled": [0, 384]}
        kept |= {name: [0, 2048 if name.startswith("limit") else 1280] for name in INTERVENTIONS}
        files = {name for name in files_in(exp.directory) if not name.startswith("variations/")}
        splits, seeds = ("train", "val", "test", "oracle_train"), exp.config.meta.data_seed
        assert files == expected_files(splits, kept, n_seeds=5, n_fooled=32, data_seeds=seeds)

    @pytest.mark.nightly
    def test_it_took_minutes(self, shipped_run: Any) -> None:
        assert shipped_run.seconds < 900  # 170 on two idle cores
        assert "Traceback" not in shipped_run.log
