"""Alarms: scores and levels on known numbers, and silence where nothing is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from spectral_tutorial import alarms


def test_autocorrelation_of_known_residuals() -> None:
    found = alarms.autocorrelation([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0], [3.0, 0.0, 0.0, 4.0]])
    np.testing.assert_allclose(found, [0.75, -0.75, 0.0])


def test_white_noise_remembers_nothing_whatever_its_level() -> None:
    """Mean 0 and standard deviation 1 / sqrt(W), each within four of its own errors."""
    noise = np.random.default_rng(1).normal(size=(4000, 256)) * np.geomspace(0.001, 10, 4000)[:, None]
    found = alarms.autocorrelation(noise)
    assert abs(found.mean()) < 4 / np.sqrt(256 * 4000)
    assert found.std() * 16 == pytest.approx(1, abs=4 / np.sqrt(2 * 4000))


def test_a_line_that_was_denied_is_remembered() -> None:
    rng, bins = np.random.default_rng(2), np.arange(256)
    line = -0.1 * np.exp(-0.5 * np.square((bins - 128) / 10))
    found = alarms.autocorrelation(line + 0.02 * rng.normal(size=(500, 256)))
    signal, noise = np.square(line).sum(), 256 * 0.02**2
    assert found.mean() == pytest.approx(signal / (signal + noise), abs=0.02)


def test_the_alarm_level_is_a_quantile_of_every_second_known_spectrum() -> None:
    known = np.stack([np.arange(200.0), np.arange(200.0)[::-1]])  # 0, 2, ... 198 set the first, 1, 3, ... 199 the other
    new = np.array([[196.0, 196.1, 500.0], [196.9, 197.1, -1.0]])
    false, caught = alarms.ring(known, new, 0.01)
    assert false.shape == (2, 100)
    assert false.sum(axis=1).tolist() == [2, 1]  # 197 and 199 are above 196.02; 198 above 197.02
    assert caught.tolist() == [[False, True, True], [False, True, False]]


def test_the_alarm_rings_in_distribution_as_often_as_it_was_set_to() -> None:
    """For 0.05 of spectra like those that set it, within four binomial errors of level and count together."""
    known = np.random.default_rng(3).standard_exponential((20, 4000))
    new = np.random.default_rng(4).standard_exponential((20, 2000))
    for rang in alarms.ring(known, new, 0.05):
        assert rang.mean() == pytest.approx(0.05, abs=4 * np.sqrt(2 * 0.05 * 0.95 / rang.size))


def test_too_few_known_spectra_set_no_alarm() -> None:
    with pytest.raises(ValueError, match="^99 known spectra set the alarm; expected at least 100, for a share of 0.01"):
        alarms.ring(np.zeros(198), np.zeros(3))
    alarms.ring(np.zeros(199), np.zeros(3))


def test_mahalanobis_in_units_of_the_scatter_around_the_nearest_kind() -> None:
    cloud = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    train = np.concatenate([cloud, cloud + [10.0, 0.0]])
    kind = ["a"] * 4 + ["b"] * 4
    found = alarms.mahalanobis(train, kind, [[0.0, 0.0], [10.0, 2.0], [4.0, 0.0], [13.0, 4.0]])
    np.testing.assert_allclose(found, [0, 4 / 2, 16 / 0.5, 9 / 0.5 + 16 / 2])  # variances are 0.5 and 2


def test_units_that_are_dead_in_training_do_not_count() -> None:
    rng = np.random.default_rng(5)
    train, kind = np.pad(rng.normal(size=(300, 2)), ((0, 0), (0, 1))), rng.integers(2, size=300)
    away = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 7.0]])
    found = alarms.mahalanobis(train, kind, away)
    assert found[0] == pytest.approx(found[1])


def test_shares_by_ranges_and_by_thirds_are_medians_over_runs() -> None:
    caught = np.array([[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], bool)
    values = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
    ranges = alarms.share_by(caught, values, (0.0, 0.5, 1.0, 1.5))
    assert list(ranges.index) == ["0.0 to 0.5", "0.5 to 1.0", "1.0 to 1.5"]
    np.testing.assert_allclose(ranges, [[1 / 3, 2 / 3, 5 / 6], [0, 0, 0], [np.nan] * 3])
    thirds = alarms.share_by(caught, values)
    assert list(thirds.index) == ["lowest", "middle", "highest"]
    np.testing.assert_allclose(thirds["median"], [1, 0, 0])
    own = alarms.share_by(caught, np.stack([values, values[::-1], values]))  # each run has spectra of its own
    np.testing.assert_allclose(own["median"], [0, 0, 0])
    np.testing.assert_allclose(own["high"], [0.5, 0.25, 0.5])
