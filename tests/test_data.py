"""Spectra: bit for bit reproducible, each number from its own stream; and the scaling that networks read through."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units
from astropy.utils.masked import Masked
from helpers import REPOSITORY, combinations, shipped, small_experiment

from spectral_tutorial import data
from spectral_tutorial.data import InputTransform, Spectra
from spectral_tutorial.physics import World
from spectral_tutorial.reading import ConfigError
from spectral_tutorial.sections import Sampled, SpectraConfig, Split

WORLD = SpectraConfig.model_validate(small_experiment()["spectra"])
ALONE = combinations([], ["comp6"], ["comp4"])


def generate(n: int = 150, name: str = "train", seed: int = 42, distribution: Any = ALONE, **kwargs: Any) -> Spectra:
    split = Split.model_validate({"n_samples": n, "distribution": distribution})
    return data.generate(WORLD, split, name=name, seed=seed, **kwargs)


def normals(spectra: Spectra) -> Any:
    """The standard normal draws behind the noise."""
    mean = World.from_config(WORLD).mean_flux(spectra.temperature, spectra.abundance)
    return (spectra.flux / mean - 1) / spectra.noise_level[:, None]


def assert_equal(one: Spectra, other: Spectra) -> None:
    for name in data.ROW_ARRAYS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_reruns_are_bit_identical_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = generate()
    for threads in (1, 2, 7):
        monkeypatch.setattr(os, "cpu_count", lambda threads=threads: threads)
        assert_equal(generate(), reference)


def test_arrays_are_as_documented() -> None:
    spectra = generate()
    assert len(spectra) == 150
    assert spectra.labels == WORLD.labels
    assert spectra.flux.dtype == np.float32
    shapes = {"flux": (150, 64), "abundance": (150, 6), "temperature": (150,), "noise_level": (150,)}
    assert {name: getattr(spectra, name).shape for name in data.ROW_ARRAYS} == shapes
    assert spectra.wavelength[[0, -1]] == pytest.approx([300, 1200])
    assert 3000 <= spectra.temperature.min() < spectra.temperature.max() <= 7000
    assert 0.01 <= spectra.noise_level.min() < spectra.noise_level.max() <= 0.15
    assert normals(spectra).std() == pytest.approx(1, abs=0.03)


def test_given_arrays_are_filled_with_the_same_numbers() -> None:
    out: dict[str, Any] = {}

    def room(name: str, shape: tuple[int, ...], dtype: Any) -> Any:
        return out.setdefault(name, np.full(shape, np.nan, dtype))

    spectra = generate(room=room)
    assert all(getattr(spectra, name) is out[name] for name in data.ROW_ARRAYS)
    assert_equal(spectra, generate())


def test_more_spectra_leave_the_first_ones_temperature_noise_level_and_noise_alone() -> None:
    few, many = generate(100), generate(300)
    np.testing.assert_array_equal(many.temperature[:100], few.temperature)
    np.testing.assert_array_equal(many.noise_level[:100], few.noise_level)
    np.testing.assert_allclose(normals(many)[:100], normals(few), atol=1e-4)


def test_another_distribution_changes_nothing_but_abundance_and_what_follows_from_it() -> None:
    one, other = generate(), generate(distribution=combinations(["comp4", "comp6"]))
    np.testing.assert_array_equal(one.temperature, other.temperature)
    np.testing.assert_array_equal(one.noise_level, other.noise_level)
    np.testing.assert_allclose(normals(one), normals(other), atol=1e-4)
    assert (one.abundance != other.abundance).any()


@pytest.mark.parametrize("other", [{"name": "val"}, {"seed": 43}])
def test_splits_and_seeds_share_no_random_numbers(other: dict[str, Any]) -> None:
    """All of 150 x 64 noise draws differ and do not correlate; nor do temperatures and noise levels."""
    one, two = generate(), generate(**other)
    assert abs(np.corrcoef(normals(one).ravel(), normals(two).ravel())[0, 1]) < 0.05
    for name in ("temperature", "noise_level"):
        assert not np.isin(getattr(one, name), getattr(two, name)).any()
        assert abs(np.corrcoef(getattr(one, name), getattr(two, name))[0, 1]) < 0.35


def test_streams_of_one_split_are_independent_of_each_other() -> None:
    """No chunk of noise repeats another, and temperature, noise level and abundance do not follow each other."""
    noise = normals(generate(3 * data.CHUNK)).reshape(3, -1)
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.07
    spectra = generate(600, distribution=combinations(["comp4"]))
    rows = np.stack([spectra.temperature, spectra.noise_level, spectra.of("comp4")[:, 0]])
    assert np.abs(np.corrcoef(rows) - np.eye(3)).max() < 0.2


def test_chosen_rows_and_components() -> None:
    spectra = generate(20)
    for index in ([3, 5], np.arange(20) % 2 == 0, slice(4, 9)):
        some = spectra.take(index)
        np.testing.assert_array_equal(some.flux, spectra.flux[index])
        np.testing.assert_array_equal(some.temperature, spectra.temperature[index])
    np.testing.assert_array_equal(spectra.of("comp6", "comp1"), spectra.abundance[:, [5, 0]])
    with pytest.raises(ValueError, match="unknown component 'comp7'; expected one of comp1, "):
        spectra.of("comp7")


def test_arrays_of_ones_own() -> None:
    spectra = Spectra.from_arrays([1, 2, 3], np.ones((2, 3)), abundance=[[0.5], [0.6]], labels=("iron",))
    np.testing.assert_array_equal(spectra.of("iron")[:, 0], [0.5, 0.6])
    assert np.isnan(spectra.temperature).all()
    assert "2 spectra x 3 bins" in repr(spectra)
    for wrong, complaint in (
        ({"flux": np.ones((2, 4))}, r"flux has shape \(2, 4\); expected \(N, 3\)"),
        ({"abundance": [[1.0, 2.0]] * 2}, r"abundance has shape \(2, 2\); expected \(2, 1\)"),
        ({"temperature": 5000.0}, r"temperature has shape \(\); expected \(2,\)"),
        ({"nuisance": {"batch": ["a"]}}, r"nuisance batch has shape \(1,\); expected \(2,\)"),
        ({"nuisance": {"batch": [None, "a"]}}, "nuisance batch holds values of type object; expected numbers"),
    ):
        with pytest.raises(ValueError, match=complaint):
            Spectra.from_arrays(**{"wavelength": [1, 2, 3], "flux": np.ones((2, 3)), "labels": ("iron",)} | wrong)


@pytest.mark.parametrize("kind", ["standardize", "log_standardize"])
def test_standardized_training_has_mean_0_in_each_bin_and_overall_deviation_1(kind: str) -> None:
    flux = generate().flux
    inputs = InputTransform(kind).fit(flux).transform(flux).astype(float)
    assert np.abs(inputs.mean(axis=0)).max() < 1e-6
    assert inputs.std() == pytest.approx(1, abs=1e-6)
    assert inputs.std(axis=0).max() > 1.2 * inputs.std(axis=0).min(), "bins keep their own scale"


@pytest.mark.parametrize("kind", ["none", "log", "standardize", "log_standardize"])
def test_other_splits_are_scaled_by_training_alone_and_in_blocks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The formula, written out with the training split's mean and deviation; blocks of any size give the same."""
    train, test = generate().flux, generate(90, "test").flux
    read = (lambda x: np.log(x.astype(float))) if kind.startswith("log") else (lambda x: x.astype(float))
    mean, scale = (read(train).mean(axis=0), 1.0) if kind.endswith("standardize") else (0.0, 1.0)
    if kind.endswith("standardize"):
        scale = (read(train) - mean).std()
    whole = InputTransform(kind).fit(train).transform(test)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, (read(test) - mean) / scale, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(InputTransform, "BLOCK", 17)
    out = np.empty_like(whole)
    assert InputTransform(kind).fit(train).transform(test, out=out) is out
    np.testing.assert_allclose(out, whole, rtol=1e-6, atol=1e-6)


def test_a_small_scale_far_from_0_keeps_its_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass: a sum of squares about 0 would lose them, and blocks differ from each other."""
    monkeypatch.setattr(InputTransform, "BLOCK", 17)
    drift = np.linspace(0, 5, 100)[:, None]
    flux = (1e4 + drift + np.random.default_rng(0).normal(size=(100, 8))).astype(np.float32)
    transform, exact = InputTransform("standardize").fit(flux), flux.astype(float)
    np.testing.assert_allclose(transform.mean, exact.mean(axis=0), rtol=1e-14)
    assert transform.scale == pytest.approx((exact - exact.mean(axis=0)).std(), rel=1e-12)
    assert InputTransform("standardize").fit(np.full((40, 3), 0.7, np.float32)).scale == 1.0


def test_flux_that_is_not_positive_has_a_finite_logarithm() -> None:
    flux = np.array([[1.0, 0.0, -0.5]], np.float32)
    np.testing.assert_allclose(InputTransform("log").fit(flux).transform(flux), [[0, np.log(1e-6), np.log(1e-6)]])


def test_composed_spectra_hold_both_components_and_the_continuum_of_the_first() -> None:
    """Against the forward model itself: the product of two singles over a blank is a spectrum with both lines."""
    noiseless = Sampled(range=(1e-4, 1e-4), distribution="uniform")
    world = shipped().spectra
    world = world.model_copy(update={"sampling": world.sampling.model_copy(update={"noise": noiseless})})
    split = shipped().distribution.splits["train"].model_copy(update={"n_samples": 600})
    singles = data.generate(world, split, name="train", seed=42)
    made = data.compose(singles, "comp10", "comp4", 50, np.random.default_rng(0))
    assert len(made) == 50
    assert (made.of("comp10", "comp4") > 0).all()
    assert (np.count_nonzero(made.abundance, axis=1) == 2).all()
    error = np.log(made.flux / World.from_config(world).mean_flux(made.temperature, made.abundance))
    # The blank's temperature is only near that of the second spectrum, and smoothing rounds it off at its ends.
    assert np.median(np.abs(error)) < 0.03
    assert np.abs(np.diff(error, axis=1)).max() < 0.02


def test_no_composed_spectra_of_none() -> None:
    assert len(data.compose(generate(), "comp6", "comp4", 0, np.random.default_rng(0))) == 0


def test_lines_that_are_together_too_bright_for_single_precision_are_refused() -> None:
    """Three lines of optical depth -40 in one place make 1e52 times the continuum; two, 5e34."""
    lines = tuple(line.model_copy(update={"center": 600.0, "strength": 40.0}) for line in WORLD.lines)
    world = WORLD.model_copy(update={"lines": lines, "line_law": "beer_lambert"})
    for labels, refused in ((["comp1", "comp2"], False), (["comp1", "comp2", "comp3"], True)):
        distribution = combinations(labels)
        distribution["combinations"][0]["ranges"] = {label: [1, 1] for label in labels}
        split = Split.model_validate({"n_samples": 3, "distribution": distribution})
        with (
            pytest.raises(ConfigError, match="split x: the lines .* beyond single precision")
            if refused
            else nullcontext()
        ):
            assert np.isfinite(data.generate(world, split, name="x", seed=0).flux).all()


def test_replacing_the_last_spectra_keeps_the_number_and_the_rest() -> None:
    many, few = generate(100), generate(10, name="test", distribution=combinations(["comp6", "comp4"]))
    mixed = data.replace_last(many, few)
    assert_equal(mixed.take(slice(0, 90)), many.take(slice(0, 90)))
    assert_equal(mixed.take(slice(90, None)), few)


# --- spectra of one's own ---------------------------------------------------------------------------------------------


def test_spectra_are_sliced_like_a_list() -> None:
    spectra = generate(6)
    for index in (slice(3), slice(None, None, 2), [4, 1], np.arange(6) > 3):
        np.testing.assert_array_equal(spectra[index].flux, spectra.flux[index])
    np.testing.assert_array_equal(spectra[-1].flux, spectra.flux[-1:])
    assert [len(one) for one in spectra] == [1] * 6
    with pytest.raises(IndexError):
        spectra[6]


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True, None])
def test_a_data_seed_that_cannot_be_used_is_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"data seed: found .*; expected a whole number of at least 0"):
        data.stream(seed, "train", "noise")


def test_quantities_are_converted() -> None:
    mine = Spectra.from_arrays(
        [3000, 5000, 7000] * units.AA, np.ones((1, 3)) * 1e-17 * units.Unit("erg / (s cm2 AA)"),
        temperature=[5.5] * units.kK, noise_level=[3] * units.percent,
    )  # fmt: skip
    np.testing.assert_allclose(mine.wavelength, [300, 500, 700])
    np.testing.assert_allclose(mine.flux, np.full((1, 3), 1e-17))
    np.testing.assert_allclose([mine.temperature[0], mine.noise_level[0]], [5500, 0.03])
    listed = Spectra.from_arrays([300 * units.nm, 0.5 * units.um, 7000 * units.AA], np.ones((1, 3)))
    np.testing.assert_allclose(listed.wavelength, [300, 500, 700])


MASKED = np.ma.masked_greater([[1.0, 2.0, 3.0]], 2)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"flux": MASKED}, "flux has 1 masked values; expected none"),
        ({"flux": [MASKED[0], MASKED[0]]}, "flux has 2 masked values; expected none"),
        ({"flux": Masked([[1.0, 2.0, 3.0]] * units.Jy, mask=[[False, True, False]])}, "flux has 1 masked values"),
        ({"wavelength": np.ma.masked_less([1.0, 2.0, 3.0], 2)}, "wavelength has 1 masked values"),
        ({"wavelength": [5, 6, 7] * units.THz}, r"wavelength: .*; expected a unit that converts to nm"),
        ({"wavelength": [1.0, np.nan, 3.0]}, "expected .* finite numbers above 0, in nm"),
        ({"wavelength": [-1.0, 0.0, 1.0]}, "expected .* finite numbers above 0, in nm"),
        ({"noise_level": [1] * units.K}, r"noise_level: .*; expected no unit"),
        ({"flux": [[1.0, np.nan, 3.0]]}, "flux is not finite in 1 of 1 spectra, the first of them number 0"),
        ({"flux": [[1.0, np.inf, 3.0]]}, "flux is not finite in 1 of 1 spectra, the first of them number 0"),
        ({"flux": [[1e39, 1.0, 1.0]]}, r"flux is at most 1e\+39; expected a unit"),
        ({"flux": [[1e-40, 0.0, 0.0]]}, "flux is at most 1e-40; expected a unit"),
        ({"flux": [["1", "2", "3"]]}, "flux holds values of type <U1; expected numbers"),
        ({"flux": [[1.0, 2.0, 3j]]}, "flux holds values of type complex128; expected numbers"),
        ({"flux": [[1.0, 2.0, None]]}, "flux holds values of type object; expected numbers"),
    ],
)
def test_arrays_that_would_be_misread_are_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Spectra.from_arrays(**{"wavelength": [1.0, 2.0, 3.0], "flux": np.ones((1, 3)), **given})


def test_a_mask_that_masks_nothing_is_no_obstacle() -> None:
    mine = Spectra.from_arrays([1, 2, 3], np.ma.masked_greater([[1.0, 2.0, 3.0]], 5))
    np.testing.assert_array_equal(mine.flux, [[1, 2, 3]])


UNITS = pytest.mark.parametrize("unit", [1e-17, 1e-6, 3e4])


@UNITS
def test_composed_spectra_do_not_depend_on_the_unit_of_flux(unit: float) -> None:
    spectra = generate(60)
    mine = dataclasses.replace(spectra, flux=(spectra.flux * unit).astype(np.float32))
    plain, scaled = (data.compose(some, "comp6", "comp4", 8, np.random.default_rng(0)).flux for some in (spectra, mine))
    np.testing.assert_allclose(scaled / unit, plain, rtol=1e-5)


@UNITS
@pytest.mark.parametrize("kind", ["standardize", "log_standardize"])
def test_standardized_inputs_do_not_depend_on_the_unit_of_flux(kind: str, unit: float) -> None:
    flux = generate(60).flux
    scaled = (flux * unit).astype(np.float32)
    plain = InputTransform(kind).fit(flux).transform(flux)
    np.testing.assert_allclose(InputTransform(kind).fit(scaled).transform(scaled), plain, atol=2e-5)


def test_the_unit_of_flux() -> None:
    """1 for the worlds of the book, so that nothing of theirs changes; a power of two near any other brightness."""
    for name in ("train", "test"):
        split = Split.model_validate({"n_samples": 256, "distribution": ALONE})
        assert data.flux_unit(data.generate(WORLD, split, name=name, seed=42).flux) == 1
    assert data.flux_unit(np.full((3, 4), 1e-17)) == 2.0**-56
    assert data.flux_unit(np.zeros((3, 4))) == 1


def test_an_input_of_another_grid_is_refused() -> None:
    transform = InputTransform("log_standardize").fit(generate(20).flux)
    for width in (1, 63):
        with pytest.raises(ValueError, match=f"flux has {width} bins; expected 64, as in training"):
            transform.transform(np.ones((2, width), np.float32))


def test_spectra_of_another_grid_take_no_places() -> None:
    spectra = generate(6)
    with pytest.raises(ValueError, match="other wavelengths or labels"):
        data.replace_last(spectra, dataclasses.replace(spectra[:2], wavelength=spectra.wavelength + 1))


def test_what_else_is_known_of_spectra_goes_along_with_them() -> None:
    known = {"batch": np.array(["a", "b", "c"]), "pH": np.array([5.5, 6.0, 7.0])}
    mine = Spectra.from_arrays([1, 2], [[1, 2], [-3, 4], [5, 6]], nuisance=known)
    assert list(mine[1:].nuisance["batch"]) == ["b", "c"]
    assert list(data.replace_last(mine, mine[:1]).nuisance["pH"]) == [5.5, 6.0, 5.5]
    with pytest.raises(ValueError, match="other nuisances"):
        data.replace_last(mine, Spectra.from_arrays([1, 2], [[1, 2]]))


# --- a CSV file of one's own ------------------------------------------------------------------------------------------

LABELS, KNOWN = ("acid", "base"), ("temperature", "batch", "pH")
TABLE = """# two of them, with a comment
batch,temperature,acid,base,700,800.5,900,pH
"red, old",300,0.5,0,1,-2e-3,3,7

blue,310.15,1,0.25,4,5,6,6.5
"""


def test_a_table_becomes_spectra(tmp_path: Path) -> None:
    for name, text in {"plain": TABLE, "with a mark": "\ufeff" + TABLE, "windows": TABLE.replace("\n", "\r\n")}.items():
        (path := tmp_path / f"{name}.csv").write_text(text, encoding="utf-8", newline="")
        mine = Spectra.from_csv(path, LABELS, KNOWN)
        assert mine.labels == LABELS
        np.testing.assert_array_equal(mine.wavelength, [700, 800.5, 900])
        np.testing.assert_array_equal(mine.flux, np.float32([[1, -2e-3, 3], [4, 5, 6]]))
        np.testing.assert_array_equal(mine.abundance, [[0.5, 0], [1, 0.25]])
        np.testing.assert_array_equal(mine.temperature, [300, 310.15])
        assert {key: list(values) for key, values in mine.nuisance.items()} == {
            "batch": ["red, old", "blue"], "pH": [7, 6.5],
        }  # fmt: skip
        assert np.isnan(mine.noise_level).all()


def test_a_table_of_wavelengths_alone_and_one_spectrum(tmp_path: Path) -> None:
    (path := tmp_path / "mine.csv").write_text("1,2,3\n4,5,6\n")
    mine = Spectra.from_csv(str(path))
    assert (len(mine), mine.labels, mine.nuisance) == (1, (), {})


def test_a_table_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path / "many.csv").write_text("1,2,a\n" + "1,2,3\n" * 1000)
    original = Path.open
    monkeypatch.setattr(Path, "open", lambda self, **kwargs: opened.append(self) or original(self, **kwargs))
    opened: list[Path] = []
    assert len(Spectra.from_csv(path, ["a"])) == 1000
    assert opened == [path]


WRONG_TABLES = {
    "nothing": ("", "line 1: found no column 'acid'; expected a header with the names of columns"),
    "no header": (
        TABLE.split("\n", 2)[2],
        "line 1: found no column 'acid'; expected it to be one of red, old",
    ),
    "a label that is not there": (
        TABLE.replace("acid", "acids"),
        "line 2: found no column 'acid'; .* [(]did you mean acids[?][)]",
    ),
    "a column twice": (
        TABLE.replace("pH", "base"),
        "line 2: found the column 'base' a second time; expected each once",
    ),
    "no wavelengths": ("batch,temperature,acid,base,pH\na,1,1,1,1\n", "line 1: found no wavelengths"),
    "words for wavelengths": (
        TABLE.replace("800.5", "800.5 nm"),
        "line 2, column 6: found '800.5 nm'; expected a wavelength in nm above 700, or a column named as label",
    ),
    "a letter": (TABLE.replace("900", "9OO"), "line 2, column 7: found '9OO'; expected a wavelength in nm above 800.5"),
    "falling wavelengths": (TABLE.replace("900", "600"), "line 2, column 7: found '600'; .* above 800.5"),
    "wavelengths twice": (TABLE.replace("800.5", "700.0"), "line 2, column 6: found '700.0'; .* above 700,"),
    "a wavelength below 0": (TABLE.replace("700", "-700"), "line 2, column 5: found '-700'; .* above 0,"),
    "infinite wavelength": (TABLE.replace("900", "inf"), "line 2, column 7: found 'inf'; .* above 800.5,"),
    "one without a name": (TABLE.replace("800.5", ""), "line 2, column 6: found ''; expected a wavelength"),
    "text": (TABLE.replace("4,5,6,", "4,five,6,"), "line 5, column 800.5: found 'five'; expected a finite number"),
    "text for an amount": (
        TABLE.replace("0.25", "some"),
        "line 5, column base: found 'some'; expected a finite number",
    ),
    "text below numbers": (TABLE.replace("6.5", "sour"), "line 5, column pH: found 'sour'; expected a finite number"),
    "an empty cell": (TABLE.replace("4,5,6,", "4,,6,"), "line 5, column 800.5: found an empty cell; expected a value"),
    "an empty word": (TABLE.replace("blue", ""), "line 5, column batch: found an empty cell; expected a value"),
    "no number": (TABLE.replace("4,5,6,", "4,NaN,6,"), "line 5, column 800.5: found 'NaN'; expected a finite number"),
    "no end": (TABLE.replace("-2e-3", "-inf"), "line 3, column 800.5: found '-inf'; expected a finite number"),
    "an underscore": (TABLE.replace("4,5,6,", "4,1_0,6,"), "line 5, column 800.5: found '1_0'; expected a finite"),
    "too many digits for a number": (TABLE.replace("-2e-3", "1e999"), "found '1e999'; expected a finite number"),
    "too short a row": (
        TABLE.replace("4,5,6,", "4,5,"),
        "line 5: found 7 cells between commas; expected 8, one for each",
    ),
    "too long a row": (TABLE.replace("4,5,6,", "4,5,6,7,"), "line 5: found 9 cells between commas; expected 8"),
    "decimal commas": (TABLE.replace("0.25", "0,25"), "line 5: found 9 cells between commas; expected 8"),
    "quoted decimal commas": (
        TABLE.replace("0.25", '"0,25"'),
        "line 5, column base: found '0,25'; expected a finite number, with a point before its decimals",
    ),
    "Excel's semicolons": (
        TABLE.replace(",", ";").replace(".", ","),
        "line 2: found cells between semicolons or tabs; expected commas between them, and decimal points",
    ),
    "tabs": (TABLE.replace(",", "\t"), "line 2: found cells between semicolons or tabs"),
    "a header alone": (TABLE.split('"red')[0], "found no line below the header; expected one for each spectrum"),
    "an open quote": (
        TABLE.replace("blue", '"blue'),
        "what cannot be read (unexpected end of data); expected a CSV file",
    ),
    "a cell without end": (TABLE.replace("blue", "x" * 200_000), "what cannot be read (field larger than field limit"),
    "another script": (TABLE.replace("blue", "bläu").encode("latin-1"), "what cannot be read ('utf-8' codec can't"),
    "Excel's other text": (TABLE.encode("utf-16"), "what cannot be read ('utf-8' codec can't"),
    "a line break in a name": (TABLE.replace("pH", '"p\nH"'), "no column 'pH'; expected it to be one of"),
}


@pytest.mark.parametrize("name", WRONG_TABLES)
def test_a_table_that_would_be_misread_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    text, sentence = WRONG_TABLES[name]
    (path := tmp_path / "mine.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as refused:
        Spectra.from_csv(path, LABELS, KNOWN)
    message = str(refused.value)
    assert re.search(sentence if ".*" in sentence else re.escape(sentence), message), message
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def test_other_tables_that_are_refused(tmp_path: Path) -> None:
    for path, reason in (("gone.csv", "No such file"), (".", "(Is a directory|Permission denied)"), ("a\0b", "null")):
        with pytest.raises(ConfigError, match=rf"what cannot be read \(.*{reason}.*\); expected a CSV file in UTF-8"):
            Spectra.from_csv(tmp_path / path)
    (path := tmp_path / "mine.csv").write_text(TABLE)
    with pytest.raises(ConfigError, match="found the column 'acid' asked for twice; expected each once"):
        Spectra.from_csv(path, ["acid"], ["acid"])
    path.write_text(TABLE.replace("-2e-3", "1e39"))
    with pytest.raises(ValueError, match=r"mine.csv: flux is at most 1e\+39; expected a unit"):
        Spectra.from_csv(path, LABELS, KNOWN)


def test_the_measured_mixtures_are_those_of_their_source() -> None:
    """45 spectra of two liquids and 50 of all three, at five temperatures; a sum and a corner of the table."""
    labels = ("ethanol", "water", "2-propanol")
    mine = Spectra.from_csv(REPOSITORY / "book" / "mixtures" / "alcohol.csv", labels, ["temperature"])
    parts = np.count_nonzero(mine.abundance, axis=1)
    assert Counter(parts.tolist()) == {2: 45, 3: 50}
    assert Counter(mine.temperature.tolist()) == dict.fromkeys([303.15, 313.15, 323.15, 333.15, 343.15], 19)
    np.testing.assert_allclose(mine.abundance.sum(axis=1), 1, atol=2e-8)
    np.testing.assert_array_equal(mine.wavelength, np.arange(850, 1050))
    np.testing.assert_array_equal(mine.flux[0, :2], np.float32([-16.563094, -16.550814]))
    assert mine.flux.sum(dtype=float) == pytest.approx(407085.4388, rel=1e-6)
