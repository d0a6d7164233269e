"""The estimators that are no networks: what they reach, what they may see, and scikit-learn's conventions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import combinations, shipped, small_experiment, write_experiment
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from spectral_tutorial import Experiment, alarms, cores, data, limits, physics
from spectral_tutorial.data import MissingSpectraError, Spectra, generate
from spectral_tutorial.estimators import (
    AnalysisBySynthesis,
    BayesianObserver,
    LogAdditiveDecoder,
    WindowedRidge,
    choose_decoder,
    decoder,
    inversion,
    linear,
    physical,
    ridge,
)
from spectral_tutorial.methods import Estimator, names_of
from spectral_tutorial.physics import World

CONFIG = shipped()
PAIR = ("comp10", "comp4")
PAIRS = [PAIR, ("comp13", "comp2"), ("comp5", "comp14"), ("comp9", "comp3"), ("comp12", "comp20")]
PARALLEL = ("comp12", "comp20")


@cache
def world(law: str = "linear") -> World:
    return World.from_config(CONFIG.spectra.model_copy(update={"line_law": law}))


@cache
def spectra(name: str, pair: tuple[str, str] = PAIR, seed: int = 42, law: str = "linear", n: int = 0) -> Spectra:
    """A split of the default world, for any pair of components."""
    x, y = pair
    singles = ([], [x], [y])
    kinds: Mapping[str, Sequence[list[str]]] = {
        "train": singles,
        "val": singles,
        "test": [[x, y]],
        "oracle_train": (*singles, [x, y]),
    }
    template = CONFIG.distribution.splits["train"]
    size = n or (4096 if "train" in name else 1024)
    split = type(template).model_validate({"n_samples": size, "distribution": combinations(*kinds[name])})
    config = CONFIG.spectra.model_copy(update={"line_law": law})
    return generate(config, split, name=name, seed=seed)


@cache
def counted(name: str, n: int = 0) -> Spectra:
    """The same where photons are counted, at most 40,000 in a bin."""
    some = spectra(name, n=n)
    level, rng = np.full(len(some), 0.005), np.random.default_rng(1)
    flux = physics.add_noise(world().mean_flux(some.temperature, some.abundance), level, rng, 0.5)
    return replace(some, flux=flux.astype(np.float32), noise_level=level)


def bound(some: Spectra, pair: tuple[str, str] = PAIR, law: str = "linear") -> Any:
    truth = some.temperature, some.abundance, some.noise_level
    return limits.cramer_rao(world(law), *truth, world(law).index(pair))


def fitted(estimator: Any, pair: tuple[str, str] = PAIR, split: str = "train", **where: Any) -> Any:
    train = spectra(split, pair, **where)
    return estimator.fit(train.flux, train.of(*pair))


def squared(estimator: Any, some: Spectra, pair: tuple[str, str] = PAIR) -> Any:
    return np.square(estimator.predict(some.flux) - some.of(*pair))


def ratio(estimator: Any, some: Spectra, pair: tuple[str, str] = PAIR, law: str = "linear") -> Any:
    """Mean squared error over mean bound, by component."""
    return squared(estimator, some, pair).mean(axis=0) / bound(some, pair, law).mean(axis=0)


def estimators(model: World, pair: tuple[str, str], lines: Any) -> dict[str, Any]:
    of_pair = [next(line for line in lines if line.label == label) for label in pair]
    return {
        "ridge on flux": ridge(log=False),
        "ridge on log flux": ridge(log=True),
        "local": WindowedRidge(model.wavelength, [line.center for line in of_pair], [line.width for line in of_pair]),
        "observer": BayesianObserver(model, pair),
        "analysis by synthesis": AnalysisBySynthesis(model, pair),
        "decoder": LogAdditiveDecoder(n_iter=10),
    }


ALL = estimators(world(), PAIR, CONFIG.spectra.lines)
every_estimator = pytest.mark.parametrize("estimator", list(ALL.values()), ids=list(ALL))


# --- the bound is reached ---------------------------------------------------------------------------------------------


def test_analysis_by_synthesis_has_the_bound_as_its_variance() -> None:
    """At low noise, 2000 draws of each of five spectra: variance within a tenth of the bound, and no bias."""
    rng, model = np.random.default_rng(3), world()
    estimator = fitted(AnalysisBySynthesis(model, PAIR), n=128)
    for temperature, x, y in [
        (3000, 0.1, 0.9),
        (4000, 0.9, 0.1),
        (5000, 0.5, 0.5),
        (6000, 1.0, 1.0),
        (7000, 0.05, 0.05),
    ]:
        abundance = np.zeros((1, 20))
        abundance[0, model.index(PAIR)] = x, y
        mean = np.repeat(model.mean_flux([temperature], abundance), 2000, axis=0)
        predicted = estimator.predict(physics.add_noise(mean, np.full(2000, 0.01), rng).astype(np.float32))
        best = limits.cramer_rao(model, [temperature], abundance, [0.01], model.index(PAIR))[0]
        np.testing.assert_allclose(predicted.var(axis=0) / best, 1, atol=0.1)
        assert (np.abs(predicted.mean(axis=0) - (x, y)) < 4.5 * np.sqrt(best / 2000)).all()


def test_where_photons_are_counted_the_bound_is_reached_too() -> None:
    """By synthesis, and by a decoder that learns from single lines only."""
    law = World.from_config(CONFIG.spectra.model_copy(update={"noise_law": "photon"}))
    train, val, test = (counted(name) for name in ("train", "val", "test"))
    best = limits.cramer_rao(law, test.temperature, test.abundance, test.noise_level, law.index(PAIR)).mean(axis=0)
    seen = [part for some in (train, val) for part in (some.flux, some.of(*PAIR))]
    chosen, table = choose_decoder(*seen, {"degree": (3, 5)}, noise_power=0.5)
    assert chosen.degree == 5
    assert 0.9 < table[0]["misreading"] < 1.3
    np.testing.assert_allclose(chosen.residual(val.flux).std(axis=1), 0.005, rtol=0.12)
    for estimator in (chosen, AnalysisBySynthesis(law, PAIR).fit(*seen[:2])):
        ratio = squared(estimator, test).mean(axis=0) / best
        np.testing.assert_allclose(ratio, 1, atol=0.2)


@pytest.mark.parametrize("pair", PAIRS, ids="/".join)
def test_the_search_ends_no_lower_than_the_truth(pair: tuple[str, str]) -> None:
    """A search that stops at a lesser hill would find less likelihood than the true parameters have."""
    test = spectra("test", pair, seed=1, n=256)
    model = physical.WorldModel(world(), world().index(pair))
    truth = np.column_stack([test.of(*pair), test.temperature])
    residual = test.flux / model.flux(truth) - 1
    at_truth = -512 * np.log(np.square(residual).mean(axis=1)) - np.log(model.flux(truth)).sum(axis=1)
    assert (model.invert(test.flux).log_likelihood >= at_truth - 1e-3).all()


def test_learned_lines_are_the_true_ones() -> None:
    """At abundance 1 and at a half, within the noise of the templates."""
    estimator, model = fitted(LogAdditiveDecoder()), world()
    for abundance in (0.5, 1.0):
        true = np.log1p(abundance * (model.strength[:, None] * model.profiles)[model.index(PAIR)])
        np.testing.assert_allclose(estimator.lines(abundance), true, atol=0.02)


@pytest.mark.slow
def test_a_flat_family_of_continua_fails_for_parallel_profiles_as_the_bound_foretells() -> None:
    """Two open directions of the continuum already cost an estimator that knows all else a factor of 10 and 23."""
    test = spectra("test", PARALLEL)
    directions = limits.continuum_directions(test.wavelength, np.linspace(3000, 7000, 200), 2)
    truth = test.temperature, test.abundance, test.noise_level
    foretold = limits.cramer_rao(world(), *truth, world().index(PARALLEL), directions)
    foretold = foretold.mean(axis=0) / bound(test, PARALLEL).mean(axis=0)
    flat = ratio(fitted(LogAdditiveDecoder(n_continuum=3, continuum_degree=1), PARALLEL), test, PARALLEL)
    assert (foretold > [5, 10]).all()
    np.testing.assert_allclose(flat / foretold, 1, atol=0.4)


@pytest.mark.slow
def test_choosing_by_the_error_on_singles_would_be_fooled() -> None:
    """High degrees read absent components as 0: better than the bound in distribution, worse on combinations."""
    val, test = spectra("val", PARALLEL), spectra("test", PARALLEL)
    modest, wild = (fitted(LogAdditiveDecoder(degree=degree), PARALLEL) for degree in (3, 6))
    assert (ratio(wild, val, PARALLEL) < 0.7).all()
    assert (ratio(wild, val, PARALLEL) < ratio(modest, val, PARALLEL)).all()
    assert (ratio(wild, test, PARALLEL) > ratio(modest, test, PARALLEL)).all()
    known = val.flux, val.of(*PARALLEL)
    likelihood = [estimator.log_likelihood(*estimator.explain(*known)).mean() for estimator in (modest, wild)]
    assert likelihood[0] > likelihood[1]


@pytest.mark.slow
def test_optical_depths_that_add_need_only_one_degree() -> None:
    """Beer-Lambert: log flux is exactly linear in each abundance, so the straight decoder is the right one."""
    test = spectra("test", law="beer_lambert")
    straight = ratio(fitted(LogAdditiveDecoder(degree=1), law="beer_lambert"), test, law="beer_lambert")
    assert (straight <= 1.3).all()
    assert (ratio(fitted(LogAdditiveDecoder(degree=1)), spectra("test")) > [20, 1.5]).all(), (
        "and not where lines are linear"
    )


def test_clipping_to_possible_abundances_goes_below_the_bound() -> None:
    """Which is allowed: the bound binds unbiased estimators, and a clipped one is biased at the ends."""
    val = spectra("val")
    predicted = fitted(AnalysisBySynthesis(world(), PAIR), n=128).predict(val.flux)
    clipped = np.square(np.clip(predicted, 0, 1) - val.of(*PAIR)).mean(axis=0) / bound(val).mean(axis=0)
    assert (clipped < 0.8).all()


def test_all_twenty_lines_free() -> None:
    test = spectra("test", n=64)
    free = [*PAIR, *(label for label in world().labels if label not in PAIR)]
    estimator = AnalysisBySynthesis(world(), free).fit(test.flux, test.of(*free))
    truth = test.temperature, test.abundance, test.noise_level
    standard = limits.cramer_rao(world(), *truth, world().index(free))[:, :2]
    error = np.square(estimator.predict(test.flux)[:, :2] - test.of(*PAIR))
    assert (error / standard).mean(axis=0) == pytest.approx(1, abs=0.6)
    assert estimator.invert(test.flux).theta.shape == (64, 21)


def in_world(folder: Path, change: Callable[[dict[str, Any]], None]) -> Experiment:
    """The small experiment with another world; `change` is given its five files."""
    files = small_experiment()
    change(files)
    return Experiment.from_yaml(write_experiment(folder, files))


def abundances_to_50(files: dict[str, Any]) -> None:
    files["spectra"]["sampling"]["abundance"]["range"] = [0, 50]
    for line in files["spectra"]["lines"]:
        line["strength"] /= 50


def emission_50_times_the_continuum(files: dict[str, Any]) -> None:
    files["spectra"]["sampling"]["abundance"]["range"] = [0, 50]
    for line in files["spectra"]["lines"]:
        line["strength"] = abs(line["strength"])


def optical_depths_to_35(files: dict[str, Any]) -> None:
    files["spectra"]["line_law"] = "beer_lambert"
    abundances_to_50(files)
    for line in files["spectra"]["lines"]:
        line["strength"] *= 50


def strong_lines_of_small_abundances(files: dict[str, Any]) -> None:
    files["spectra"]["sampling"]["abundance"]["range"] = [0, 0.001]
    for line in files["spectra"]["lines"]:
        line["strength"] *= 1000


def ranges_of_their_own(files: dict[str, Any]) -> None:
    """Abundances of the test that the world's range does not hold."""
    lines, test = files["spectra"]["lines"], files["distribution"]["splits"]["test"]["distribution"]
    lines[5]["strength"], lines[3]["strength"] = -0.02, 0.3
    test["combinations"][0]["ranges"] = {"comp6": [0, 50], "comp4": [0, 20]}


def hot_stars(files: dict[str, Any]) -> None:
    files["spectra"]["sampling"]["temperature"]["range"] = [25000, 35000]


def brown_dwarfs(files: dict[str, Any]) -> None:
    """Whose flux at one end of the grid is a billionth of what it is at the other."""
    files["spectra"]["sampling"]["temperature"]["range"] = [700, 1000]


@pytest.mark.parametrize(
    "change",
    [
        abundances_to_50,
        emission_50_times_the_continuum,
        optical_depths_to_35,
        strong_lines_of_small_abundances,
        ranges_of_their_own,
        hot_stars,
        brown_dwarfs,
    ],
)
def test_the_search_follows_the_world(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    """Analysis by synthesis reaches the bound in any world; a box of abundances below 2 and 20,000 K would not."""
    exp = in_world(tmp_path, change)
    test = exp.data("test")
    error = np.square(exp.estimator("synthesis").predict(test.flux)[:, :2] - test.of(*exp.reported))
    assert (error.mean(axis=0) < 1.6 * exp.bound().mean(axis=0)).all()
    if change is not ranges_of_their_own:  # an observer believes in what training shows
        error = np.square(exp.estimator("observer_oracle").predict(test.flux)[:, :2] - test.of(*exp.reported))
        assert (error.mean(axis=0) < 1.6 * exp.bound().mean(axis=0)).all()


def test_spectra_too_dark_for_single_precision_are_refused_where_their_darkness_counts(tmp_path: Path) -> None:
    def cold(files: dict[str, Any]) -> None:
        files["spectra"]["sampling"]["temperature"]["range"] = [300, 900]

    exp = in_world(tmp_path, cold)
    for name in ("synthesis", "observer"):
        with pytest.raises(MissingSpectraError, match="12 of 64 spectra have bins too dark for single precision"):
            exp.estimator(name).predict(exp.data("test").flux)


SAYS_LITTLE: dict[str, tuple[str, Any]] = {
    "one abundance": ("sampling.abundance.range", [0.5, 0.5]),
    "one temperature": ("sampling.temperature.range", [5000, 5000]),
    "no noise": ("sampling.noise", {"range": [0, 0]}),
    "a line outside of the grid": ("lines.5.center", 100_000),
    "a line without strength": ("lines.5.strength", 0.0),
    "lines of one shape": ("lines.5", {"label": "comp6", "center": 891, "width": 30, "strength": -0.4}),
    "two bins": ("n_bins", 2),
    "three bins": ("n_bins", 3),
}


@pytest.mark.parametrize(
    "flat",
    [pytest.param(False, id="temperatures"), pytest.param(True, id="one, no noise", marks=pytest.mark.nightly)],
)
@pytest.mark.parametrize("world", list(SAYS_LITTLE))
def test_worlds_that_say_little_have_finite_predictions(world: str, flat: bool, tmp_path: Path) -> None:
    """No warning, no singular matrix; an observer keeps to what may be; what cannot be fitted says so."""

    def change(files: dict[str, Any]) -> None:
        changes = [SAYS_LITTLE[world]]
        changes += [SAYS_LITTLE["one temperature"], SAYS_LITTLE["no noise"]] if flat else []
        for key, value in changes:
            *steps, last = [int(step) if step.isdigit() else step for step in key.split(".")]
            place: Any = files["spectra"]
            for step in steps:
                place = place[step]
            place[last] = value

    exp = in_world(tmp_path, change)
    lacking = set()
    for name in names_of(Estimator):
        try:
            found = exp.estimator(name).predict(exp.data("test").flux)
        except MissingSpectraError:
            lacking.add(name)
            continue
        assert np.isfinite(found).all(), name
        if name.startswith("observer"):
            assert ((found >= 0) & (found <= 1)).all(), name
    assert lacking == {
        "a line outside of the grid": {"local"},
        "two bins": {"local", "decoder", "decoder_flat"},
    }.get(world, set())


def test_an_observer_that_knows_an_abundance_beforehand_predicts_it(tmp_path: Path) -> None:
    def change(files: dict[str, Any]) -> None:
        files["spectra"]["sampling"]["abundance"]["range"] = [0.5, 0.5]

    exp = in_world(tmp_path, change)
    found = exp.estimator("observer_oracle").predict(exp.data("test").flux)
    assert np.median(np.abs(found - 0.5)) < 1e-6


def test_spectra_without_noise_are_read_exactly() -> None:
    test = spectra("test", n=32)
    clean = world().mean_flux(test.temperature, test.abundance)
    predicted = fitted(AnalysisBySynthesis(world(), PAIR), n=128).predict(clean)
    np.testing.assert_allclose(predicted, test.of(*PAIR), atol=1e-4)


@pytest.mark.nightly
def test_speed() -> None:
    """1,024 spectra: the decoder in 2 s, analysis by synthesis in 4 s, the observer in 6 s; the better of two runs."""
    test = spectra("test")
    for name, limit in (("decoder", 2), ("analysis by synthesis", 4), ("observer", 6)):
        estimator, taken = fitted(clone(ALL[name])), []
        for _ in range(2):
            start = time.perf_counter()
            estimator.predict(test.flux)
            taken.append(time.perf_counter() - start)
        assert min(taken) < limit, name


# --- what an estimator was allowed to see -----------------------------------------------------------------------------


def test_the_decoder_sees_spectra_of_single_components_only() -> None:
    """Combinations among the training spectra, true ones or nonsense, change not one bit of what it learns."""
    train, test = spectra("train", n=600), spectra("test", n=200)
    alone = LogAdditiveDecoder(n_iter=5).fit(train.flux, train.of(*PAIR))
    nonsense = np.random.default_rng(0).uniform(0.1, 3, test.flux.shape).astype(np.float32)
    for flux in (test.flux, nonsense):
        both = np.concatenate([train.flux, flux]), np.concatenate([train.of(*PAIR), test.of(*PAIR)])
        order = np.sort(np.random.default_rng(1).permutation(len(both[0])))
        mixed = LogAdditiveDecoder(n_iter=5).fit(both[0][order], both[1][order])
        np.testing.assert_array_equal(mixed.model_.templates, alone.model_.templates)
        np.testing.assert_array_equal(mixed.predict(test.flux[:8]), alone.predict(test.flux[:8]))


def test_the_decoder_says_which_kind_of_spectrum_is_missing() -> None:
    train = spectra("train", n=256)
    y = train.of(*PAIR)
    for rows in (y.any(axis=1), y[:, 1] == 0):
        with pytest.raises(ValueError, match="blank ones, and each component on its own"):
            LogAdditiveDecoder().fit(train.flux[rows], y[rows])


@pytest.mark.parametrize("power", [1.0, 0.5], ids=["relative", "photon"])
@pytest.mark.parametrize("unit", [1.0, 1e-12])
def test_what_a_decoder_recombines_is_what_it_learned(unit: float, power: float) -> None:
    """Read again, the made spectra show the abundances they were made of, both lines together among them."""
    train = spectra("train", n=1024) if power == 1 else counted("train", n=1024)
    flux, y = (train.flux * unit).astype(np.float32), train.of(*PAIR)
    decoder = LogAdditiveDecoder(degree=3 if power == 1 else 5, noise_power=power).fit(flux, y)
    made, abundance, noise = decoder.recombine(flux, y, 600, np.random.default_rng(5))
    again = decoder.recombine(flux, y, 600, np.random.default_rng(5))
    assert all(np.array_equal(a, b) for a, b in zip((made, abundance, noise), again, strict=True))
    assert made.dtype == np.float32
    assert made.shape == (600, 1024)
    both = (abundance > 0).all(axis=1)
    assert 0.18 < both.mean() < 0.32
    assert {*abundance[:, 0]} <= {*y[:, 0]}
    found = decoder.invert(made).theta
    exact = decoder.model_.flux(np.hstack([found[:, :1], abundance])) * decoder.flux_unit_
    np.testing.assert_allclose(((made - exact) / exact**power).std(axis=1), noise, rtol=0.15)
    noise = noise / unit ** (1 - power)  # at flux 1 of the world
    assert np.median(noise) == pytest.approx(np.median(train.noise_level), rel=0.1)
    quiet = noise < 0.03
    np.testing.assert_allclose(found[quiet, 1:], abundance[quiet], atol=0.12)
    more = decoder.recombine(flux, y, 40_000, np.random.default_rng(6))[2] / unit ** (1 - power)
    assert {*np.round(noise, 12)} <= {*np.round(more, 12)}


def test_a_choice_depends_on_train_and_val_and_on_nothing_of_the_test() -> None:
    """Whatever labels the test has, and in whatever order its spectra come, each is read as before."""
    train, val, test = spectra("train", n=600), spectra("val", n=256), spectra("test", n=128)
    chosen, table = choose_decoder(
        train.flux, train.of(*PAIR), val.flux, val.of(*PAIR), {"degree": (1, 3), "n_iter": (5,)}
    )
    assert chosen.degree == 3
    best = max(table, key=lambda row: row["log_likelihood"])
    assert chosen.log_likelihood(*chosen.explain(val.flux, val.of(*PAIR))).mean() == best["log_likelihood"]
    order = np.random.default_rng(0).permutation(len(test))
    for estimator in (
        chosen,
        ridge(log=True).fit(train.flux, train.of(*PAIR)),
        fitted(ALL["analysis by synthesis"], n=256),
    ):
        np.testing.assert_allclose(estimator.predict(test.flux[order]), estimator.predict(test.flux)[order], atol=1e-5)


@pytest.mark.parametrize("power", [1.0, 0.5], ids=["relative", "photon"])
def test_the_misreading_is_the_error_that_residuals_would_lead_to(power: float) -> None:
    """Spectrum by spectrum, a least-squares fit of the residual by the slopes of the likeliest model's log flux."""
    train, val = (spectra if power == 1 else counted)("train", n=600), (spectra if power == 1 else counted)("val", n=64)
    seen = [part for some in (train, val) for part in (some.flux, some.of(*PAIR))]
    _, table = choose_decoder(*seen, {"degree": (1, 2), "n_iter": (5,)}, power)
    with cores.one_blas_thread():  # as when settings are tried: the same digits
        fits = {d: LogAdditiveDecoder(degree=d, n_iter=5, noise_power=power).fit(*seen[:2]) for d in (1, 2)}
        explained = {d: fit.explain(*seen[2:]) for d, fit in fits.items()}
    likeliest = max(table, key=lambda row: row["log_likelihood"])["degree"]
    (theta, noise), model = explained[likeliest], fits[likeliest].model_
    slopes = model.slopes(theta) @ model.templates * model.flux(theta)[:, None] ** (1 - power)
    for row in table:
        _, residual = explained[row["degree"]]
        read = [np.linalg.lstsq(j.T, r, rcond=None)[0] @ j for j, r in zip(slopes, residual, strict=True)]
        expected = np.square(read).sum(axis=1) / np.square(noise).mean(axis=1) / len(PAIR)
        assert row["misreading"] == pytest.approx(expected.mean(), rel=1e-6)


@pytest.mark.slow
def test_the_degree_is_chosen_for_quiet_spectra_too() -> None:
    """The likelihood would take a degree too low, at twice the bound there; on spectra that no chapter looks at."""
    train, val, test = (spectra(name, seed=100) for name in ("train", "val", "test"))
    chosen, table = choose_decoder(train.flux, train.of(*PAIR), val.flux, val.of(*PAIR))
    likeliest = max(table, key=lambda row: row["log_likelihood"])
    assert (likeliest["n_continuum"], likeliest["degree"]) == (1, 3)
    assert chosen.degree == 4
    assert table[0]["misreading"] == pytest.approx(1, abs=0.1)
    assert [row["n_continuum"] for row in table if np.isnan(row["misreading"])] == [3]
    quiet = np.argsort(test.noise_level)[: len(test) // 3]
    of = {d: squared(fitted(LogAdditiveDecoder(degree=d), seed=100), test) / bound(test) for d in (3, 4)}
    assert of[4][quiet].mean(axis=0).max() < 1.5 < of[3][quiet].mean(axis=0).max()


@every_estimator
def test_no_estimator_is_told_noise_or_temperature(estimator: Any) -> None:
    """An estimator gets flux and, to learn from, abundances; its settings name no noise level and no temperature."""
    assert not {"noise", "noise_level", "sigma", "temperature"} & set(estimator.get_params())


def test_ridge_chooses_its_penalty_from_the_training_spectra() -> None:
    train = spectra("train", n=384)
    for log in (False, True):
        estimator = ridge(log).fit(train.flux, train.of(*PAIR))
        penalty = estimator[-1].alpha_
        assert min(linear.PENALTIES) < penalty < max(linear.PENALTIES)
        x = np.log(train.flux.astype(float)) if log else train.flux.astype(float) / data.brightness(train.flux)
        x = x - x.mean(axis=0)
        y = train.of(*PAIR) - train.of(*PAIR).mean(axis=0)
        weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
        np.testing.assert_allclose(estimator[-1].coef_, weights.T, atol=1e-6)
        np.testing.assert_allclose(
            estimator.predict(train.flux.astype(np.float64)), estimator.predict(train.flux), atol=1e-9
        )


# --- the observer that believes the training distribution -------------------------------------------------------------


def test_the_observer_is_right_in_distribution_and_wrong_on_the_combination() -> None:
    val, test, observer = spectra("val", n=400), spectra("test", n=400), fitted(BayesianObserver(world(), PAIR))
    assert (ratio(observer, val) < 0.5).all(), "a right prior goes below the bound"
    assert squared(observer, test).mean(axis=0)[1] > 0.2
    np.testing.assert_array_equal(observer.present_, [[False, False], [False, True], [True, False]])
    # The reason: it knows of no combination, so it takes nine in ten for comp10 alone, the rest for comp4 alone.
    assert (observer.predict_proba(test.flux).argmax(axis=1) == 2).mean() == pytest.approx(0.88, abs=0.05)
    assert np.median(observer.predict_proba(test.flux)[:, 2]) > 0.999
    taught = fitted(BayesianObserver(world(), PAIR), split="oracle_train")
    assert (ratio(taught, test) < 1.3).all(), "shown combinations, the same observer reads them"


@pytest.mark.nightly
def test_the_observer_against_brute_integration() -> None:
    """Laplace's approximation: probabilities within 0.02 and means within 0.005 of sums over a grid of (a, T)."""
    val = spectra("val", seed=5, n=48)
    doubtful = val.take(np.argsort(val.of(*PAIR).sum(axis=1))[12:20])  # blank, or next to nothing of one component
    observer = fitted(BayesianObserver(world(), PAIR))
    found, means = observer.predict_proba(doubtful.flux), observer.predict(doubtful.flux)
    for n, flux in enumerate(doubtful.flux.astype(float)):
        evidence, average = [], []
        for present in observer.present_:
            lines = np.array(world().index(PAIR))[present]
            top = physical.WorldModel(world(), lines.tolist()).invert(flux[None])
            spread = np.sqrt(np.diagonal(np.linalg.inv(top.information[0])))
            center = top.theta[0]
            axes = [np.linspace(c - 7 * s, c + 7 * s, 31) for c, s in zip(center, spread, strict=True)]
            if len(lines):
                axes[0] = np.linspace(0, min(1, max(center[0], 0) + 7 * spread[0]), 101)[:-1]
                axes[0] += np.diff(axes[0])[0] / 2
            grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
            abundance = np.zeros((len(grid), 20))
            abundance[:, lines] = grid[:, :-1]
            mean = world().mean_flux(grid[:, -1], abundance)
            likelihood = -512 * np.log(np.square(flux / mean - 1).mean(axis=1)) - np.log(mean).sum(axis=1)
            cell = np.prod([np.diff(axis)[0] for axis in axes])
            weight = np.exp(likelihood - top.log_likelihood)
            evidence.append(np.log(weight.sum() * cell) + top.log_likelihood[0])
            average.append((weight[:, None] * abundance[:, world().index(PAIR)]).sum(axis=0) / weight.sum())
        probability = observer.frequency_ * np.exp(np.array(evidence) - max(evidence))
        probability /= probability.sum()
        np.testing.assert_allclose(found[n], probability, atol=0.02)
        np.testing.assert_allclose(means[n], probability @ np.array(average), atol=0.005)


def test_evidence_and_residual_in_a_tiny_world_against_brute_force() -> None:
    """One line, 24 bins: the evidence of each set from a sum over a grid, and what the better one leaves over."""
    grid = np.linspace(400.0, 900.0, 24)
    tiny = World(grid, physics.gaussian_profiles(grid, [650], [40]), np.array([-0.6]), ("a",))
    rng, amount = np.random.default_rng(8), np.array([[0.0], [0.05], [0.12], [0.5]])
    flux = physics.add_noise(tiny.mean_flux(np.full(4, 5000.0), amount), np.full(4, 0.02), rng).astype(np.float32)
    observer = BayesianObserver(tiny, ["a"]).fit(flux, amount)
    found, _ = observer.weigh(flux)
    a, t = (np.arange(400) + 0.5) / 400, np.linspace(4000.0, 6200.0, 400)
    cells = np.stack(np.meshgrid(a, t, indexing="ij"), axis=-1).reshape(-1, 2)
    present, absent = tiny.mean_flux(cells[:, 1], cells[:, :1]), tiny.mean_flux(t, np.zeros((400, 1)))
    left = observer.residual(flux)
    for n, seen in enumerate(flux.astype(float)):
        logs = []
        for mean, cell in ((absent, t[1] - t[0]), (present, (t[1] - t[0]) / 400)):
            likelihood = -12 * np.log(np.square(seen / mean - 1).mean(axis=1)) - np.log(mean).sum(axis=1)
            logs.append(np.log(np.exp(likelihood - likelihood.max()).sum() * cell) + likelihood.max())
            best = mean[likelihood.argmax()]
            if len(logs) - 1 == (found[n] + np.log(observer.frequency_)).argmax():
                np.testing.assert_allclose(left[n], seen / best - 1, atol=0.004)
        np.testing.assert_allclose(found[n], logs, atol=0.2)  # Laplace's approximation, with 24 bins only


def test_residuals_are_noise_where_the_explanation_is_right_and_remember_where_it_is_not() -> None:
    val, test = spectra("val", n=600), spectra("test", n=300)
    observer, learned = fitted(BayesianObserver(world(), PAIR)), fitted(LogAdditiveDecoder())
    single = observer.present_
    readers = [observer.residual, lambda flux: learned.residual(flux, single), learned.residual]
    scores = [[alarms.autocorrelation(read(some.flux)) for some in (val, test)] for read in readers]
    for known, new in scores:
        assert np.quantile(known, 0.5) == pytest.approx(0, abs=0.01)
        assert known.std() == pytest.approx(1 / 32, rel=0.15)
        false, _ = alarms.ring(known, new)
        assert false.sum() <= 12  # of 300; four standard deviations of the level and of the count
    told, decoded, both = (alarms.ring(known, new)[1].mean() for known, new in scores)
    assert 0.6 < told < 0.8
    assert decoded == pytest.approx(told, abs=0.03)
    assert both < 0.05


def test_a_decoder_that_is_told_what_is_absent_finds_only_the_rest() -> None:
    test, learned = spectra("test", n=64), fitted(LogAdditiveDecoder(n_iter=10))
    everything = learned.invert(test.flux)
    same = learned.invert(test.flux, np.array([True, True]))
    np.testing.assert_array_equal(everything.theta, same.theta)
    alone = learned.invert(test.flux, np.array([True, False]))
    assert alone.theta.shape == (64, learned.n_continuum + 1)
    assert (alone.log_likelihood <= everything.log_likelihood + 0.01).all()
    model = learned.model_.only(np.array([True, False]))
    theta = np.insert(alone.theta, 2, 0.0, axis=1)
    np.testing.assert_allclose(model.flux(alone.theta), learned.model_.flux(theta), rtol=1e-12)


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("law", "n_weights"), [("linear", 1), ("beer_lambert", 1024)])
def test_forward_models_know_their_slopes(law: str, n_weights: int) -> None:
    """J score and J w J^T against finite differences of log flux, within the training range and beyond it."""
    rng = np.random.default_rng(0)
    learned = fitted(LogAdditiveDecoder(n_continuum=2, n_iter=3), law=law, n=512).model_
    cases = [
        (physical.WorldModel(world(law), [9, 3]), np.array([[0.3, 0.7, 4000], [1.1, -0.2, 6500]]), [1e-6, 1e-6, 0.05]),
        (learned, np.array([[0.3, -1, 0.4, 0.6], [-0.5, 1, -0.2, 1.2]]), [1e-6] * 4),
    ]
    for model, theta, steps in cases:
        jacobian = np.stack(
            [
                (np.log(model.flux(theta + step)) - np.log(model.flux(theta - step))) / (2 * step.sum())
                for step in np.diag(steps)
            ],
            axis=1,
        )
        score = rng.standard_normal((2, 1024))
        weight = rng.uniform(0.5, 2.0, (2, n_weights))
        gradient, gram = model.pull(theta, score, weight)
        scale = np.sqrt(np.square(jacobian).sum(axis=2))
        np.testing.assert_allclose(gradient / scale, np.einsum("npw,nw->np", jacobian, score) / scale, atol=1e-5)
        expected = (jacobian * weight[:, None]) @ jacobian.transpose(0, 2, 1)
        np.testing.assert_allclose(
            gram / (scale[:, :, None] * scale[:, None]), expected / (scale[:, :, None] * scale[:, None]), atol=1e-5
        )


def test_the_noise_level_from_neighboring_bins() -> None:
    test = spectra("test")
    log_flux = np.log(test.flux.astype(float))
    np.testing.assert_allclose(inversion.bin_scatter(log_flux) / test.noise_level, 1, atol=0.25)
    assert (inversion.bin_scatter(log_flux) / test.noise_level).mean() == pytest.approx(1, abs=0.02)
    photons = counted("test")
    steady = 2 * np.sqrt(np.maximum(photons.flux, 0).astype(float))
    np.testing.assert_allclose(inversion.bin_scatter(steady) / photons.noise_level, 1, atol=0.25)


def test_a_search_with_photons_starts_where_there_is_light() -> None:
    """In the far ultraviolet a cold start has no flux at all, and a hot star bins below 0."""
    grid = np.linspace(6.0, 60.0, 64)
    hot = World(grid, physics.gaussian_profiles(grid, [30], [5]), np.array([-0.6]), ("a",), noise_power=0.5)
    truth = np.linspace(0.1, 0.9, 8)[:, None]
    flux = physics.add_noise(
        hot.mean_flux(np.full(8, 40_000.0), truth), np.full(8, 1e-3), np.random.default_rng(0), 0.5
    )
    assert (flux < 0).any()
    found = physical.WorldModel(hot, [0], temperature_range=(2500.0, 50_000.0)).invert(flux.astype(np.float32))
    np.testing.assert_allclose(found.theta[:, 0], truth[:, 0], atol=0.05)


def test_monomials() -> None:
    assert decoder._all_exponents(2, 2).tolist() == [[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]]
    assert decoder._all_exponents(1, 3).tolist() == [[0], [1], [2], [3]]


def test_truncated_normal_far_out_and_near() -> None:
    from scipy.stats import truncnorm

    center, spread = np.array([[-3.0], [-0.2], [0.4], [1.1], [5.0]]), np.array([[0.1], [0.1], [0.3], [0.1], [0.1]])
    log_mass, mean = physical._truncated_normal(center, spread, 0.0, 1.0)
    expected = truncnorm((0 - center) / spread, (1 - center) / spread, center, spread)
    np.testing.assert_allclose(mean, expected.mean(), atol=1e-6)
    # Where the mass is no underflow: the untruncated distribution's mass in [0, 1].
    from scipy.stats import norm

    whole = norm(center, spread)
    np.testing.assert_allclose(np.exp(log_mass[1:4]), (whole.cdf(1) - whole.cdf(0))[1:4], rtol=1e-6)


def test_a_normal_distribution_over_log_uniform_values_near_and_far_out() -> None:
    """Mass and mean against adaptive integration, also where next to nothing is inside."""
    from scipy.integrate import quad
    from scipy.stats import norm

    low, high = 0.01, 1.0
    center, spread = np.array([[-0.1], [0.02], [0.3], [0.5], [1.2]]), np.array([[0.1], [0.1], [0.001], [2.0], [0.1]])
    log_mass, mean = physical._log_uniform_normal(center, spread, np.array([low]), np.array([high]))
    for found, average, c, s in zip(log_mass[:, 0], mean[:, 0], center[:, 0], spread[:, 0], strict=True):
        ends = max(low, c - 8 * s), min(high, c + 8 * s)
        moments = [quad(lambda a, p=p, c=c, s=s: a ** (p - 1) * norm.pdf(a, c, s), *ends)[0] for p in (0, 1)]
        assert found == pytest.approx(np.log(moments[0] / np.log(high / low)), abs=1e-3)
        assert average == pytest.approx(moments[1] / moments[0], rel=1e-3)


def test_the_observer_believes_abundances_that_are_log_uniform(tmp_path: Path) -> None:
    """In the distribution that it was fitted to, no other belief is right as often."""
    files = small_experiment()
    files["spectra"]["sampling"]["abundance"] = {"range": [0.001, 1.0], "distribution": "log_uniform"}
    for split in files["distribution"]["splits"].values():
        split["n_samples"] = 4096
    exp = Experiment.from_yaml(write_experiment(tmp_path, files))
    train, val = exp.data("train"), exp.data("val")
    right = exp.estimator("observer")
    uniform = clone(right).set_params(log_uniform=False).fit(train.flux, train.of(*exp.reported))
    error, other = (squared(observer, val, exp.reported).mean(axis=0) for observer in (right, uniform))
    assert (error < other).all()
    assert error[1] < 0.85 * other[1]


@pytest.mark.parametrize("kind", ["function", "ranges"])
def test_abundances_beyond_the_configured_range_are_found(kind: str, tmp_path: Path) -> None:
    """A test split with up to four times as much as the world's range names, in its own words or by a function."""
    files = small_experiment()
    files["spectra"] |= {"line_law": "beer_lambert", "n_bins": 256}
    far = combinations(["comp6", "comp4"])
    far["combinations"][0]["ranges"] = {"comp6": [2, 4], "comp4": [2, 4]}
    if kind == "function":
        source = "def far(n, rng):\n    return {label: rng.uniform(2, 4, n) for label in ('comp6', 'comp4')}\n"
        (tmp_path / "far_beyond.py").write_text(source, encoding="utf-8")
        far = {"type": "function", "callable": "far_beyond:far"}
    files["distribution"]["splits"]["test"]["distribution"] = far
    files["distribution"]["splits"]["train"]["n_samples"] = 512  # of fewer, no slope is known well enough to go so far
    exp = Experiment.from_yaml(write_experiment(tmp_path, files))
    predicted = exp.predictions("synthesis")
    error = np.square(predicted.last[0] - predicted.truth).mean(axis=0)
    assert (error < 1.5 * exp.bound().mean(axis=0)).all()
    assert exp.predictions("decoder").last.max(axis=(0, 1)).min() > 2.5, "it stopped at 1.5, where its search ended"


def test_the_local_estimator_does_not_mind_the_continuum() -> None:
    """Any parabola in log flux, and anything outside of the windows, leaves its prediction as it was."""
    estimator, test = fitted(ALL["local"], n=512), spectra("test", n=16)
    x = np.linspace(-1, 1, 1024)
    bent = test.flux.astype(float) * np.exp(0.3 * x**2 - 0.5 * x + 0.1)
    np.testing.assert_allclose(estimator.predict(bent), estimator.predict(test.flux.astype(float)), atol=1e-6)
    elsewhere = test.flux.astype(float) * np.where(np.abs(test.wavelength - 891) > 46, 2.0, 1.0)
    np.testing.assert_allclose(
        estimator.predict(elsewhere)[:, 1], estimator.predict(test.flux.astype(float))[:, 1], atol=1e-6
    )


# --- scikit-learn's conventions ---------------------------------------------------------------------------------------


@every_estimator
def test_conventions(estimator: Any) -> None:
    train = spectra("train", n=256)
    x, y = train.flux, train.of(*PAIR)
    copy = clone(estimator)
    assert set(copy.get_params()) == set(estimator.get_params())
    with pytest.raises(NotFittedError):
        copy.predict(x)
    before = x.copy(), y.copy()
    assert copy.fit(x, y) is copy
    predicted = copy.predict(x[:5])
    assert predicted.shape == (5, 2)
    assert np.isfinite(predicted).all()
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])
    np.testing.assert_array_equal(clone(estimator).fit(x, y).predict(x[:5]), predicted, "fitting twice gives the same")
    piped = Pipeline([("same", FunctionTransformer()), ("read", clone(estimator))]).fit(x, y)
    np.testing.assert_array_equal(piped.predict(x[:5]), predicted)
    assert copy.score(x, y) > -1


@pytest.mark.parametrize("name", ["local", "observer", "analysis by synthesis"])
def test_wrong_shapes_are_refused(name: str) -> None:
    train = spectra("train", n=256)
    with pytest.raises(ValueError, match=r"expected \(N, 1024\) and \(N, 2\)"):
        clone(ALL[name]).fit(train.flux[:, :100], train.of(*PAIR))
    with pytest.raises(ValueError, match=r"expected \(N, 1024\) and \(N, 2\)"):
        clone(ALL[name]).fit(train.flux, train.of("comp10"))


# --- spectra of one's own ---------------------------------------------------------------------------------------------

LEARNED = [name for name in ALL if name not in ("observer", "analysis by synthesis")]
"""Those that know no physics, and with it no unit of flux."""


@pytest.mark.parametrize("unit", [1e-17, 3e4])
@pytest.mark.parametrize("name", LEARNED)
def test_predictions_do_not_depend_on_the_unit_of_flux(name: str, unit: float) -> None:
    train, test = spectra("train", n=256), spectra("test", n=16)
    plain = clone(ALL[name]).fit(train.flux, train.of(*PAIR)).predict(test.flux)
    scaled = clone(ALL[name]).fit(train.flux * np.float32(unit), train.of(*PAIR)).predict(test.flux * np.float32(unit))
    np.testing.assert_allclose(scaled, plain, atol=1e-4)


def test_absorbance_below_0_is_read_where_no_logarithm_is_taken() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((40, 2))
    absorbance = truth @ rng.random((2, 30)) - 1.5
    fit = ridge(log=False).set_params(ridge__alphas=[1e-6]).fit(absorbance, truth)
    np.testing.assert_allclose(fit.predict(absorbance), truth, atol=1e-4)
    with pytest.raises(MissingSpectraError, match="of 40 spectra have no flux above 0"):
        ridge(log=True).fit(absorbance, truth)


@every_estimator
def test_another_grid_and_spectra_without_light_are_refused(estimator: Any) -> None:
    train = spectra("train", n=256)
    fit = clone(estimator).fit(train.flux, train.of(*PAIR))
    for width in (1, 1000):
        with pytest.raises(ValueError, match=rf"X has {width} features, but \w+ is expecting 1024 features"):
            fit.predict(train.flux[:2, :width])
    dead = train.flux.copy()
    dead[[7, 9]] = 0
    sentence = "2 of 256 spectra have no flux above 0, the first of them number 7 counted from 0"
    with pytest.raises(MissingSpectraError, match=sentence):
        fit.predict(dead)
    with pytest.raises(MissingSpectraError, match=sentence):
        clone(estimator).fit(dead, train.of(*PAIR))
    masked = np.ma.masked_less(train.flux, 0.1)
    with pytest.raises(ValueError, match="found masked values; expected none"):
        fit.predict(masked)
    dead[7, 5] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        fit.predict(dead)
