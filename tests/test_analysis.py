"""Errors, bias, slopes, verdicts on seeds, and the report, against NumPy's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from spectral_tutorial import analysis
from spectral_tutorial.analysis import Moments


@pytest.fixture
def predictions() -> tuple[Any, Any]:
    """Truth ``(N, K)`` and predictions ``(S, N, K)``."""
    rng = np.random.default_rng(0)
    truth = rng.random((200, 2))
    return truth, 0.7 * truth + 0.1 + 0.05 * rng.normal(size=(3, 200, 2))


@pytest.mark.parametrize("block", [200, 64, 1])
def test_moments_in_blocks_of_any_size_equal_numpys(predictions: tuple[Any, Any], block: int) -> None:
    truth, predicted = predictions
    moments = Moments((3, 2))
    for start in range(0, 200, block):
        moments.add(truth[start : start + block], predicted[:, start : start + block])
    assert moments.n == 200
    np.testing.assert_allclose(moments.mse, ((predicted - truth) ** 2).mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(moments.bias, (predicted - truth).mean(axis=1), rtol=1e-10)
    np.testing.assert_allclose(moments.output_std, predicted.std(axis=1), rtol=1e-10)
    slopes = [[np.polyfit(truth[:, k], predicted[s, :, k], 1)[0] for k in range(2)] for s in range(3)]
    np.testing.assert_allclose(moments.slope, slopes, rtol=1e-9)


@pytest.mark.parametrize(
    ("predict", "slope"), [(lambda t: t, 1.0), (lambda t: 0 * t + 0.3, 0.0), (lambda t: 1 - t, -1.0)]
)
def test_slope_of_a_perfect_a_constant_and_a_contrary_prediction(predict: Any, slope: float) -> None:
    truth = np.linspace(0, 1, 11)[:, None]
    moments = Moments((1, 1))
    moments.add(truth, predict(truth)[None])
    assert moments.slope[0, 0] == pytest.approx(slope, abs=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, 0.3])
def test_slope_is_nan_where_the_truth_does_not_vary(constant: float) -> None:
    moments = Moments((1, 1))
    moments.add(np.full((7, 1), constant), np.linspace(0, 1, 7)[None, :, None])
    assert np.isnan(moments.slope[0, 0])


def test_predictions_that_overflow_are_counted_without_a_warning() -> None:
    moments = Moments((1, 1))
    moments.add(np.ones((3, 1)), np.array([1e200, np.inf, np.nan])[None, :, None])
    assert not np.isfinite(moments.mse).any()
    assert not np.isfinite(moments.output_std).all()


def predictor(seeds: list[Any], steps: list[int], epochs: list[int]) -> analysis.Predictor:
    return analysis.Predictor(seeds, steps, epochs, lambda flux: [], lambda val: [])


def test_trajectory_has_a_row_for_each_seed_checkpoint_and_component() -> None:
    rng = np.random.default_rng(1)
    truth, predicted = rng.random((10, 2)), rng.random((4, 3, 10, 2))  # (S, C, N, K)
    moments = [Moments((4, 2)) for _ in range(3)]
    for checkpoint, filled in enumerate(moments):
        filled.add(truth, predicted[:, checkpoint])
    table = analysis.trajectory_rows(
        moments, predictor([5, 6, 7, 8], [0, 10, 30], [0, 1, 3]), "test", ["comp10", "comp4"]
    )
    assert ["method", "data_seed", *table.columns] == analysis.TRAJECTORY_COLUMNS
    assert len(table) == 4 * 3 * 2
    row = table.set_index(["training_seed", "checkpoint", "component"]).loc[(7, 2, "comp4")]
    assert (row["step"], row["epoch"], row["split"]) == (30, 3, "test")
    assert row["mse"] == pytest.approx(((predicted[2, 2, :, 1] - truth[:, 1]) ** 2).mean())
    assert row["bias"] == pytest.approx((predicted[2, 2, :, 1] - truth[:, 1]).mean())


@pytest.mark.parametrize(
    ("std", "losses", "verdict"),
    [
        ([0.3, 0.3], [0.2, 0.01], "ok"),
        ([1e-4, 1e-4], [0.2, 0.1], "dead"),
        ([1e-4, 0.3], [0.2, 0.1], "ok"),  # ignoring one component is a finding, not a death
        ([0.3, 0.3], [0.2, 1.1], "diverged"),
        ([0.3, 0.3], [0.2, 0.3], "diverged"),  # worse than it began
        ([0.3, 0.3], [9.0, 0.1], "ok"),
        ([0.3, 0.3], [0.2, 0.2], "ok"),  # no step changed anything
        ([0.3, 0.3], [7.5, 3.5], "unfinished"),  # better than it began, and far from a constant
        ([1e-4, 1e-4], [7.5, 3.5], "dead"),
        ([0.3, 0.3], [7.5, 0.9], "ok"),
        ([0.3, 0.3], [0.2, np.nan], "diverged"),
        ([0.3, 0.3], [np.inf, 0.1], "diverged"),
        ([np.nan, np.nan], [0.2, np.inf], "diverged"),
        ([0.0, 0.0], [0.2, 50.0], "diverged"),
    ],
)
def test_verdict_on_a_seed(std: list[float], losses: list[float], verdict: str) -> None:
    assert analysis.classify([std], [losses], constant_loss=0.1) == [verdict]


def tables(status: dict[int, str], mse: dict[int, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A run a seed with two checkpoints of which the first is far better than the last."""
    rows = [
        ["network", 42, seed, place, step, step / 10, "test", "comp4", error * factor, 0.0, 1.0]
        for seed, error in mse.items()
        for place, (step, factor) in enumerate([(0, 0.001), (10, 1.0)])
    ]
    runs = [["network", 42, seed, word] for seed, word in status.items()]
    columns = ["method", "data_seed", "training_seed", "status"]
    return pd.DataFrame(rows, columns=analysis.TRAJECTORY_COLUMNS), pd.DataFrame(runs, columns=columns)


def report_of(trajectories: pd.DataFrame, status: pd.DataFrame) -> pd.DataFrame:
    errors = analysis.with_status(analysis.final(trajectories), status)
    return analysis.gap_report(errors, {(42, "test", "comp4"): 0.05})


def test_report_leaves_lost_seeds_out_of_medians_and_counts_them() -> None:
    status = {1: "ok", 2: "dead", 3: "unfinished", 4: "ok", 5: "diverged", 6: "dead"}
    mse = {1: 0.1, 2: 50.0, 3: 0.2, 4: 0.4, 5: np.inf, 6: 50.0}
    report = report_of(*tables(status, mse))
    assert list(report.columns) == analysis.REPORT_COLUMNS
    (row,) = report.to_dict("records")
    assert (row["method"], row["component"], row["split"]) == ("network", "comp4", "test")
    assert (row["n_data_seeds"], row["n_training_seeds"]) == (1, 6)
    assert (row["n_dead"], row["n_diverged"], row["n_unfinished"]) == (2, 1, 1)
    quartiles = [row["mse_low"], row["mse_median"], row["mse_high"]]
    assert quartiles == pytest.approx(list(np.quantile([0.1, 0.2, 0.4], [0.25, 0.5, 0.75])))
    assert row["ratio_to_crlb"] == pytest.approx(0.2 / 0.05)


def test_an_unfinished_run_has_an_error_and_a_median() -> None:
    report = report_of(*tables({1: "unfinished"}, {1: 0.4}))
    assert report[["mse_median", "n_unfinished", "n_diverged"]].iloc[0].tolist() == [0.4, 1, 0]


def test_ratios_to_bounds_of_zero_and_infinity() -> None:
    np.testing.assert_array_equal(analysis.over_bound([1.0, 1.0, 0.0], [0.0, np.inf, 0.0]), [np.inf, 0.0, np.nan])
    table = analysis.ratio_by_noise(np.ones((4, 2)), np.full((4, 2), [0.0, np.inf]), np.arange(4))
    assert (table.loc[0] == np.inf).all()
    assert (table.loc[1] == 0).all()


@pytest.mark.parametrize("count", [1, 2])
def test_ratio_by_noise_of_fewer_spectra_than_thirds(count: int) -> None:
    table = analysis.ratio_by_noise(np.ones((count, 2)), np.ones((count, 2)), np.arange(count))
    assert (table[["all", "quietest"]] == 1).all(axis=None)
    assert table["noisiest"].isna().all()


def test_quantiles_beside_infinity() -> None:
    values = pd.DataFrame({"one": [0.1, np.inf, 0.2], "none": np.nan, "all": np.inf})
    found = analysis.quantiles(values)
    np.testing.assert_allclose(found["one"], [0.15, 0.2, np.inf])
    assert found["none"].isna().all()
    assert (found["all"] == np.inf).all()


def test_report_where_no_seed_lives_has_no_median() -> None:
    report = report_of(*tables({1: "dead", 2: "diverged"}, {1: 0.1, 2: 0.2}))
    assert report[["mse_low", "mse_median", "mse_high", "ratio_to_crlb"]].isna().all(axis=None)
    assert report[["n_dead", "n_diverged"]].iloc[0].tolist() == [1, 1]


def test_the_last_checkpoint_is_reported_and_never_the_best() -> None:
    trajectories, status = tables({1: "ok", 2: "dead"}, {1: 0.1, 2: 0.2})
    last = analysis.final(trajectories)
    assert last["step"].tolist() == [10, 10]
    assert analysis.live(last, status)["mse"].tolist() == [0.1]
    assert "status" not in analysis.live(last, status)


def test_report_of_a_method_without_training_seeds_counts_data_seeds_and_averages_their_bounds() -> None:
    moments = analysis.Moments((1, 1))
    moments.add([[0.5], [0.7]], [[[0.6], [0.9]]])
    one = analysis.trajectory_rows([moments], predictor([pd.NA], [0], [0]), "test", ["comp4"])
    tables = [
        one.assign(method="decoder", data_seed=seed, mse=error) for seed, error in {42: 0.2, 43: 0.4, 44: 0.3}.items()
    ]
    status = pd.DataFrame({"method": "decoder", "data_seed": [42, 43, 44], "training_seed": pd.NA, "status": "ok"})
    errors = analysis.with_status(pd.concat(tables), status.astype({"training_seed": "Int64"}))
    report = analysis.gap_report(errors, {(seed, "test", "comp4"): seed / 1000 for seed in (42, 43, 44)})
    (row,) = report.to_dict("records")
    assert (row["n_data_seeds"], row["n_training_seeds"], row["n_dead"]) == (3, 0, 0)
    assert (row["mse_median"], row["crlb"]) == (0.3, pytest.approx(0.043))


def test_ratio_by_noise_is_one_for_errors_at_the_bound_and_shows_where_they_are_not() -> None:
    rng = np.random.default_rng(0)
    noise = rng.permutation(np.geomspace(0.01, 0.15, 3000))
    bound = np.stack([noise**2, 9 * noise**2], axis=1)
    table = analysis.ratio_by_noise(bound, bound, noise)
    np.testing.assert_allclose(table, np.ones((2, 4)))
    floor = analysis.ratio_by_noise(bound + 1e-4, bound, noise)
    assert (floor["quietest"] > floor["middle"]).all()
    assert (floor["middle"] > floor["noisiest"]).all()
    assert (floor["all"] < floor["middle"]).all()
    np.testing.assert_allclose(floor.loc[0, "quietest"], 1 + 1e-4 * (1 / np.sort(noise)[:1000] ** 2).mean())


def test_slope_by_other_abundance_find_a_gate() -> None:
    """A method that reads the second component only as far as the first leaves room."""
    truth = np.random.default_rng(0).random((4000, 2))
    open_share = 1 - np.floor(truth[:, 0] * 5) / 5
    predicted = np.stack([truth[:, 0], open_share * truth[:, 1]], axis=1)[None].repeat(3, axis=0)
    slopes = analysis.slope_by_other_abundance(truth, predicted)
    assert list(slopes.index) == ["0.0 to 0.2", "0.2 to 0.4", "0.4 to 0.6", "0.6 to 0.8", "0.8 to 1.0"]
    np.testing.assert_allclose(slopes, [1.0, 0.8, 0.6, 0.4, 0.2], atol=1e-12)
