"""The Cramér-Rao bound against the noise's own Fisher information, and the landmarks against closed forms."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
from helpers import shipped, small_experiment

from spectral_tutorial import limits, physics
from spectral_tutorial.physics import World
from spectral_tutorial.sections import SpectraConfig

SPECTRA = shipped().spectra
LAWS = pytest.mark.parametrize("law", ["linear", "beer_lambert"])
POWERS = pytest.mark.parametrize("power", [1.0, 0.5], ids=["relative", "photon"])
FREE = [9, 3]


def world(law: str = "linear") -> World:
    return World.from_config(SPECTRA.model_copy(update={"line_law": law}))


def draw(n: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Temperatures, abundances of comp10 and comp4 together, and noise levels."""
    rng = np.random.default_rng(seed)
    abundance = np.zeros((n, 20))
    abundance[:, FREE] = rng.uniform(0, 1, (n, 2))
    return rng.uniform(3000, 7000, n), abundance, np.exp(rng.uniform(np.log(0.01), np.log(0.15), n))


def direct_fisher(model: World, temperature: float, abundance: Any, noise: float) -> Any:
    """Kay (1993), eq. 3.31, for independent normal bins, mean mu and variance (noise mu^p)^2: central differences."""
    p = model.noise_power

    def mean(theta: Any) -> Any:
        full = abundance.copy()
        full[FREE] = theta[:2]
        return model.mean_flux([theta[2]], full[None])[0]

    theta, steps = np.array([*abundance[FREE], temperature]), np.array([1e-5, 1e-5, 0.05])
    slopes, variance_slopes = [], []
    for place, step in enumerate(steps):
        up, down = (mean(theta + sign * step * np.eye(3)[place]) for sign in (1, -1))
        slopes.append((up - down) / (2 * step))
        variance_slopes.append(((noise * up**p) ** 2 - (noise * down**p) ** 2) / (2 * step))
    variance = (noise * mean(theta) ** p) ** 2
    fisher = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            about_mean = (slopes[i] * slopes[j] / variance).sum()
            fisher[i, j] = about_mean + 0.5 * (variance_slopes[i] * variance_slopes[j] / variance**2).sum()
    return fisher


@LAWS
@POWERS
@pytest.mark.parametrize("noise", [0.01, 0.15, 0.7])
def test_fisher_information_of_mean_and_variance_both(law: str, power: float, noise: float) -> None:
    (temperature,), (abundance,), _ = draw(1)
    model = dataclasses.replace(world(law), noise_power=power)
    found = limits.fisher_information(model, [temperature], abundance[None], [noise], FREE)[0]
    expected = direct_fisher(model, temperature, abundance, noise)
    scale = np.sqrt(np.diagonal(expected))
    np.testing.assert_allclose(found / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-6)
    bound = limits.cramer_rao(model, temperature, abundance, noise, FREE)[0]
    inverse = np.linalg.inv(expected / np.outer(scale, scale)) / np.outer(scale, scale)
    np.testing.assert_allclose(bound, np.diagonal(inverse)[:2], rtol=1e-5)


@POWERS
def test_the_score_has_the_fisher_information_as_its_variance(power: float) -> None:
    """Over 4000 noisy draws of one spectrum: the gradient of the log-likelihood has mean 0 and covariance F."""
    model, noise = dataclasses.replace(world(), noise_power=power), 0.1
    temperature, abundance, _ = draw(1)
    mean = model.mean_flux(temperature, abundance)
    flux = physics.add_noise(np.repeat(mean, 4000, axis=0), np.full(4000, noise), np.random.default_rng(5), power)
    z = (flux - mean) / (noise * mean**power)
    slope = model.log_jacobian(temperature, abundance, FREE)[0]
    # d/dtheta of -log(noise mu^p) - (flux - mu)^2 / (2 noise^2 mu^2p)
    score = (power * (z**2 - 1) + z * mean ** (1 - power) / noise) @ slope.T
    expected = limits.fisher_information(model, temperature, abundance, [noise], FREE)[0]
    scale = np.sqrt(np.diagonal(expected))
    assert np.abs(score.mean(axis=0) / scale).max() < 5 / np.sqrt(4000)
    np.testing.assert_allclose(np.cov(score.T) / np.outer(scale, scale), expected / np.outer(scale, scale), atol=0.1)


def test_counted_photons_give_a_bound_where_no_spectrum_is_possible_too() -> None:
    """A flux below 0, or beyond what can be stored: as for relative noise, a number and no error."""
    temperature, abundance, noise = draw(2)
    abundance[0, 9], abundance[1, 0] = 3.0, 1e300
    with np.errstate(over="ignore", invalid="ignore"):
        bound = limits.cramer_rao(dataclasses.replace(world(), noise_power=0.5), temperature, abundance, noise, FREE)
    assert (bound > 0).all()


def test_the_bound_in_blocks_equals_the_bound_of_each_spectrum(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = draw(23)
    whole = limits.cramer_rao(world(), *truth, FREE)
    assert whole.shape == (23, 2)
    assert (whole > 0).all()
    alone = np.concatenate([limits.cramer_rao(world(), *(part[n] for part in truth), FREE) for n in range(23)])
    np.testing.assert_allclose(whole, alone, rtol=1e-10)
    monkeypatch.setattr(limits, "BLOCK", 5)
    np.testing.assert_allclose(limits.cramer_rao(world(), *truth, FREE), whole, rtol=1e-10)


def test_more_unknowns_more_noise_and_fewer_bins_make_the_bound_larger() -> None:
    temperature, abundance, noise = draw(20)
    both = limits.cramer_rao(world(), temperature, abundance, noise, FREE)
    assert (limits.cramer_rao(world(), temperature, abundance, noise, [3])[:, 0] < both[:, 1]).all()
    assert (limits.cramer_rao(world(), temperature, abundance, 2 * noise, FREE) > both).all()
    coarse = World.from_config(SPECTRA.model_copy(update={"n_bins": 128}))
    ratio = limits.cramer_rao(coarse, temperature, abundance, noise, FREE) / both
    assert ratio == pytest.approx(8, rel=0.1), "an eighth of the bins is an eighth of the information"


def test_landmarks_of_predictions_that_do_not_look() -> None:
    """Uniform abundances, present in a third of training: 0 errs by 1/3, the training mean 7/36, the best 1/12."""
    rng = np.random.default_rng(0)
    present = rng.integers(0, 3, 400_000)[:, None] == [0, 1]
    train, test = rng.random((400_000, 2)) * present, rng.random((400_000, 2))
    found = limits.reference_points(train, test)
    expected = {"predict nothing": 1 / 3, "training mean": 7 / 36, "best constant": 1 / 12}
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=0.002)


def test_a_direction_of_the_continuum_in_place_of_the_temperature() -> None:
    """The one direction in which the temperature moves log flux gives the same bound; a second one costs."""
    temperature, abundance, noise = draw(1)
    truth = temperature, abundance, noise
    slope = world().log_jacobian(temperature, abundance, [])[0]
    same = limits.cramer_rao(world(), *truth, FREE, slope * 1000)
    np.testing.assert_allclose(same, limits.cramer_rao(world(), *truth, FREE), rtol=1e-8)
    tilted = np.vstack([slope * 1000, np.linspace(-1, 1, 1024)])
    assert limits.fisher_information(world(), *truth, FREE, tilted).shape == (1, 4, 4)
    assert (limits.cramer_rao(world(), *truth, FREE, tilted) > same).all()


def test_overlap_is_the_cosine_of_two_lines() -> None:
    """0 for lines far apart, 1 for a line and its copy, in closed form for two weak Gaussians."""
    config = shipped().spectra
    world = World.from_config(config)
    assert limits.overlap(world, "comp14", "comp2") < 1e-6
    assert limits.overlap(world, "comp12", "comp20") > 0.9
    assert limits.overlap(world, "comp4", "comp10") == pytest.approx(limits.overlap(world, "comp10", "comp4"))
    weak = [line.model_copy(update={"strength": 1e-6}) for line in config.lines]
    weak[1] = weak[0].model_copy(update={"label": "comp2"})
    weak[2] = weak[0].model_copy(update={"label": "comp3", "center": weak[0].center + 8.0, "width": weak[0].width})
    faint = World.from_config(config.model_copy(update={"lines": tuple(weak), "n_bins": 4096}))
    assert limits.overlap(faint, "comp1", "comp2") == pytest.approx(1)
    assert limits.overlap(faint, "comp1", "comp3") == pytest.approx(
        np.exp(-(8.0**2) / (4 * weak[0].width ** 2)), rel=1e-3
    )


def test_continuum_directions_hold_the_continua() -> None:
    grid, hot = np.linspace(300, 1200, 64), np.linspace(3000, 7000, 50)
    directions = limits.continuum_directions(grid, hot, 4)
    np.testing.assert_allclose(directions @ directions.T, np.eye(4), atol=1e-12)
    curves = physics.log_continuum(grid, hot)
    centered = curves - curves.mean(axis=0)
    assert np.abs(centered - centered @ directions.T @ directions).max() < 0.01 * np.abs(centered).max()


def test_exact_landmarks_against_simulation() -> None:
    """Nothing, the one or the other, equally often, and then both: abundances uniform in [0, 1]."""
    rng = np.random.default_rng(1)
    present = rng.integers(0, 3, 400_000)[:, None] == [0, 1]
    train, test = rng.random((400_000, 2)) * present, rng.random((400_000, 2))
    exact = {"predict nothing": (1 / 9, 1 / 3), "training mean": (1 / 12, 7 / 36), "best constant": (1 / 12, 1 / 12)}
    for judged, place in ((train, 0), (test, 1)):
        found = limits.reference_points(train, judged)
        assert set(found) == set(exact)
        for name, values in exact.items():
            assert found[name] == pytest.approx(values[place], abs=0.002), name


# --- worlds in which something cannot be seen, or not be told apart ---------------------------------------------------


def small_world(**changes: Any) -> World:
    """200 bins and seven lines; `changes` by key, those of comp4 under `comp4`."""
    spectra = copy.deepcopy(small_experiment()["spectra"])
    spectra["lines"].append({"label": "comp7", "center": 700.0, "width": 20.0, "strength": -0.3})
    spectra["lines"][3] |= changes.pop("comp4", {})
    return World.from_config(SpectraConfig.model_validate(spectra | {"n_bins": 200, "n_components": 7} | changes))


def bound_of(model: World, noise: float = 0.05, temperature: float = 5000.0, amount: float = 0.5) -> list[float]:
    """Bounds of comp4 and comp6 in one spectrum that holds both."""
    abundance = amount * np.isin(model.labels, ["comp4", "comp6"])
    return limits.cramer_rao(model, temperature, abundance, noise, model.index(["comp4", "comp6"]))[0].tolist()


def alone(model: World, label: str) -> float:
    """Bound of a line where the other of the two is known."""
    abundance = 0.5 * np.isin(model.labels, ["comp4", "comp6"])
    return float(limits.cramer_rao(model, 5000.0, abundance, 0.05, model.index([label]))[0, 0])


TWIN = {"center": 956.0, "width": 120.0, "strength": -0.7}


@pytest.mark.parametrize(
    "unseen", [{"center": 9000.0}, {"strength": 0.0}, {"width": 0.01}], ids=["outside", "strength 0", "between bins"]
)
@LAWS
def test_a_line_that_leaves_no_trace_is_unbounded_and_the_other_as_if_it_were_not_there(unseen: Any, law: str) -> None:
    model = small_world(comp4=unseen, line_law=law)
    assert bound_of(model) == [np.inf, pytest.approx(alone(model, "comp6"), rel=1e-9)]
    assert np.isnan(limits.overlap(model, "comp4", "comp6"))


@pytest.mark.parametrize(("law", "ratio"), [("linear", 1.0), ("beer_lambert", 1.0), ("beer_lambert", -0.3)])
def test_lines_of_one_shape_cannot_be_told_apart_and_a_third_can(law: str, ratio: float) -> None:
    model = small_world(comp4=TWIN | {"strength": -0.7 * ratio}, line_law=law)
    assert bound_of(model) == [np.inf, np.inf]
    abundance = 0.5 * np.isin(model.labels, ["comp4", "comp6"])
    three = limits.cramer_rao(model, 5000.0, abundance, 0.05, model.index(["comp4", "comp6", "comp1"]))[0]
    assert three[:2].tolist() == [np.inf, np.inf]
    two = limits.cramer_rao(model, 5000.0, abundance, 0.05, model.index(["comp6", "comp1"]))[0]
    assert three[2] == pytest.approx(two[1], rel=1e-9), "the twins together can do what one of them can"
    assert limits.overlap(model, "comp4", "comp6") == pytest.approx(1)


def test_three_unknowns_need_three_bins() -> None:
    assert bound_of(small_world(n_bins=2)) == [np.inf, np.inf]
    assert np.isfinite(bound_of(small_world(n_bins=3))).all()


def test_nearly_equal_lines_have_the_bound_of_exact_arithmetic() -> None:
    """Two lines a millionth of a width apart: the difference of their slopes is known in closed form."""
    shift = 1e-6
    model = small_world(comp4=TWIN | {"center": 956.0 + 120.0 * shift}, line_law="beer_lambert")
    grid, temperature = model.wavelength, model.log_jacobian(5000.0, np.zeros(7), [])[0, 0]
    twin = -0.7 * model.profiles[5]
    slope = twin * (grid - 956.0) / 120.0 * shift
    known = np.linalg.qr(np.stack([twin, temperature], axis=1))[0]
    rest = slope - known @ (known.T @ slope)
    expected = 0.05**2 / (1 + 2 * 0.05**2) / (rest @ rest)
    assert bound_of(model) == pytest.approx([expected, expected], rel=1e-4)


def test_without_noise_the_bound_is_zero_unless_something_is_missing() -> None:
    assert bound_of(small_world(), noise=0.0) == [0.0, 0.0]
    assert bound_of(small_world(comp4={"strength": 0.0}), noise=0.0) == [np.inf, 0.0]
    assert np.isinf(limits.fisher_information(small_world(), 5000.0, np.zeros(7), [0.0], [3, 5])).any()


def test_a_world_without_flux_informs_about_nothing() -> None:
    assert bound_of(small_world(), temperature=5.0) == [np.inf, np.inf]
    assert not limits.fisher_information(small_world(), 5.0, np.zeros(7), [0.1], [3, 5]).any()


def test_bins_that_a_line_leaves_without_flux_show_nothing() -> None:
    """A line that absorbs all of the light in one bin: as if the bin were not there."""
    grid = small_world().wavelength
    model = small_world(comp4={"center": grid[100], "strength": -1.0})
    others = np.arange(200) != 100
    without = dataclasses.replace(model, wavelength=grid[others], profiles=model.profiles[:, others])
    assert bound_of(model, amount=1.0) == pytest.approx(bound_of(without, amount=1.0), rel=1e-9)


def test_a_bound_of_what_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature is not known \(NaN\)"):
        limits.cramer_rao(small_world(), [np.nan], np.zeros((1, 7)), [0.1], [3])


def test_projection_and_inverse_agree_where_both_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = draw(5)
    inverse = limits.cramer_rao(world(), *truth, FREE)
    monkeypatch.setattr(limits, "PLAIN", np.inf)
    np.testing.assert_allclose(limits.cramer_rao(world(), *truth, FREE), inverse, rtol=1e-11)
