"""The forward model against closed forms, a plain loop, astropy and finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.constants
from helpers import shipped

from spectral_tutorial import physics
from spectral_tutorial.physics import World

LAWS = pytest.mark.parametrize("law", ["linear", "beer_lambert"])
SPECTRA = shipped().spectra
GRID = np.linspace(300, 1200, 1024)


def world(law: str) -> World:
    return World.from_config(SPECTRA.model_copy(update={"line_law": law}))


def draw(n: int, seed: int = 0) -> tuple[Any, Any]:
    """Temperatures, and abundances of all twenty lines at once with a quarter of them absent."""
    rng = np.random.default_rng(seed)
    return rng.uniform(3000, 7000, n), rng.uniform(0, 1, (n, 20)) * (rng.random((n, 20)) > 0.25)


def plain_flux(temperature: Any, abundance: Any, law: str) -> Any:
    """The formula at the head of physics.py, spectrum by spectrum, bin by bin, line by line."""
    flux = np.empty((len(temperature), SPECTRA.n_bins))
    step = (SPECTRA.wavelength_max - SPECTRA.wavelength_min) / (SPECTRA.n_bins - 1)
    for n, t in enumerate(temperature):
        peak = physics.WIEN_X**5 / (math.exp(physics.WIEN_X) - 1)
        for w in range(SPECTRA.n_bins):
            wavelength = SPECTRA.wavelength_min + w * step
            x = physics.HC_OVER_K / (wavelength * t)
            value = x**5 / (math.exp(x) - 1) / peak
            for k, line in enumerate(SPECTRA.lines):
                profile = math.exp(-((wavelength - line.center) ** 2) / (2 * line.width**2))
                depth = line.strength * abundance[n, k] * profile
                value *= 1 + depth if law == "linear" else math.exp(depth)
            flux[n, w] = value
    return flux


def test_constants_are_those_of_codata() -> None:
    constants = scipy.constants
    assert pytest.approx(constants.h * constants.c / constants.k * 1e9, rel=1e-9) == physics.HC_OVER_K
    assert pytest.approx(constants.Wien * 1e9, rel=1e-9) == physics.WIEN_NM_K


@pytest.mark.parametrize("temperature", [3000, 4000, 5777, 7000])
def test_continuum_has_the_shape_of_astropys_black_body(temperature: float) -> None:
    models = pytest.importorskip("astropy.modeling.models")
    units = pytest.importorskip("astropy.units")
    per_wavelength = units.erg / units.s / units.cm**2 / units.nm / units.sr
    planck = models.BlackBody(temperature * units.K, scale=1.0 * per_wavelength)(GRID * units.nm).value
    ratio = physics.continuum(GRID, temperature)[0] / planck
    assert ratio == pytest.approx(ratio[0], rel=1e-6)


@pytest.mark.parametrize("temperature", [3000, 5000, 7000])
def test_continuum_peaks_at_one_where_wien_says(temperature: float) -> None:
    peak = scipy.constants.Wien * 1e9 / temperature
    fine = np.linspace(0.9 * peak, 1.1 * peak, 20001)
    values = physics.continuum(fine, temperature)[0]
    assert fine[values.argmax()] == pytest.approx(peak, rel=1e-4)
    assert values.max() == pytest.approx(1, abs=1e-8)
    assert np.exp(physics.log_continuum(fine, temperature)[0]) == pytest.approx(values, rel=1e-12)


def test_continuum_far_in_the_ultraviolet_is_zero_and_its_logarithm_finite() -> None:
    assert physics.continuum(1.0, 3000.0) == 0
    assert np.isfinite(physics.log_continuum(1.0, 3000.0)).all()


@pytest.mark.parametrize("width", [3.2, 9.0, 71.8])
def test_line_is_one_at_its_center_and_has_the_area_of_a_gaussian(width: float) -> None:
    wavelength = np.linspace(900 - 12 * width, 900 + 12 * width, 4001)
    profile = physics.gaussian_profiles(wavelength, 900.0, width)[0]
    assert profile[2000] == 1
    assert np.trapezoid(profile, wavelength) == pytest.approx(math.sqrt(2 * math.pi) * width, rel=1e-10)


@LAWS
def test_mean_flux_equals_a_plain_loop(law: str) -> None:
    temperature, abundance = draw(8)
    expected = plain_flux(temperature, abundance, law)
    np.testing.assert_allclose(world(law).mean_flux(temperature, abundance), expected, rtol=1e-12)


@LAWS
def test_composition_multiplies_flux_and_adds_log_flux(law: str) -> None:
    """Two lines together do what each does alone, one after the other: f(a, b) f(0, 0) = f(a, 0) f(0, b)."""
    model, temperature = world(law), np.full(4, 5000.0)
    abundance = np.zeros((4, 20))
    abundance[[0, 1], 9], abundance[[0, 2], 3] = 0.8, 0.6  # both, comp10 alone, comp4 alone, none
    both, first, second, none = model.mean_flux(temperature, abundance)
    np.testing.assert_allclose(both * none, first * second, rtol=1e-13)
    imprint = model.line_log_factors(abundance)
    assert imprint.shape == (4, 20, 1024)
    np.testing.assert_allclose(np.log(both / none), imprint[0].sum(axis=0), atol=1e-13)
    np.testing.assert_allclose(imprint[0], imprint[1] + imprint[2], atol=1e-13)


@LAWS
def test_log_jacobian_agrees_with_finite_differences(law: str) -> None:
    model, free = world(law), [9, 3, 19]
    temperature, abundance = draw(5, seed=1)
    jacobian = model.log_jacobian(temperature, abundance, free)

    def central(place: int | None, step: float) -> Any:
        shift = np.zeros(20) if place is None else np.eye(20)[place] * step
        kelvin = step if place is None else 0.0
        up, down = (np.log(model.mean_flux(temperature + s * kelvin, abundance + s * shift)) for s in (1, -1))
        return (up - down) / (2 * step)

    for row, place in enumerate(free):
        np.testing.assert_allclose(jacobian[:, row], central(place, 1e-5), atol=1e-6 * np.abs(jacobian[:, row]).max())
    slope = jacobian[:, -1]
    np.testing.assert_allclose(slope, central(None, 0.1), rtol=1e-6, atol=1e-6 * np.abs(slope).max())


@pytest.mark.parametrize(("power", "spread"), [(1.0, [1.0, 1.0]), (0.5, [1.0, 0.2**-0.5])])
def test_noise_is_in_proportion_to_a_power_of_flux(power: float, spread: list[float]) -> None:
    """Over 400,000 draws: mean, standard deviation, shape (kurtosis), and no bin knows its neighbor."""
    level = np.array([0.01, 0.15])
    flux = np.outer([1.0, 0.2], np.ones(200_000))
    relative = physics.add_noise(flux, level, np.random.default_rng(3), power) / flux - 1
    normal = relative / (level * spread)[:, None]
    assert np.abs(normal.mean(axis=1)).max() < 5 / math.sqrt(200_000)
    assert normal.std(axis=1) == pytest.approx(1, abs=0.01)
    assert (normal**4).mean(axis=1) == pytest.approx(3, abs=0.1)
    assert np.abs((normal[:, 1:] * normal[:, :-1]).mean(axis=1)).max() < 0.012
    assert abs((normal[0] * normal[1]).mean()) < 0.012


def test_unknown_label_and_wrong_shape_are_refused() -> None:
    model = world("linear")
    assert model.index(["comp10", "comp4"]) == [9, 3]
    with pytest.raises(ValueError, match="unknown line 'comp21'; expected one of comp1, "):
        model.index(["comp21"])
    with pytest.raises(ValueError, match=r"\(2, 19\); expected \(N, 20\)"):
        model.mean_flux([5000.0, 5000.0], np.zeros((2, 19)))
