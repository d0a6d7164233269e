"""Lines whose profile is read from a table: what is accepted and refused, what follows the numbers, and blood."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import REPOSITORY, files_in, small_experiment, write_experiment

from spectral_tutorial import Experiment, World, cli, explorers, limits, sweep
from spectral_tutorial.config import Config, load
from spectral_tutorial.data import Spectra
from spectral_tutorial.explorers import base
from spectral_tutorial.reading import ConfigError

BLOOD = REPOSITORY / "book" / "blood.yaml"
TABLE = REPOSITORY / "book" / "mixtures" / "hemoglobin.csv"
BUMPS = "# two bumps\nnm,one,other\n300,0,1\n500,2,0\n\n700,0.5,0.25\n1200,0,4\n"


def tabulated(folder: Path, table: str | bytes = BUMPS, law: str = "linear", **changes: Any) -> Path:
    """The small experiment, its reported lines (comp6 and comp4) with the profiles of a table."""
    files = small_experiment()
    files["spectra"]["line_law"] = law
    for place, column in ((5, "one"), (3, "other")):
        line = files["spectra"]["lines"][place]
        profile = {"file": "tables/bumps.csv", "column": column} | changes
        files["spectra"]["lines"][place] = {"label": line["label"], "strength": -0.2, "profile": profile}
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "bumps.csv").write_bytes(table.encode() if isinstance(table, str) else table)
    return write_experiment(folder, files)


# --- what a table means


def test_a_profile_goes_in_straight_lines_and_its_top_belongs_to_the_strength(tmp_path: Path) -> None:
    world = World.from_config(load(tabulated(tmp_path)).spectra)
    one = np.interp(world.wavelength, [300, 500, 700, 1200], [0, 2, 0.5, 0])
    np.testing.assert_allclose(world.strength[5] * world.profiles[5], -0.2 * one, atol=1e-15)
    assert world.profiles[[5, 3]].max(axis=1).tolist() == [1, 1]
    assert world.strength[3] == pytest.approx(-0.2 * 4)
    other, own = load(write_experiment(tmp_path / "plain")).spectra, [0, 1, 2, 4]
    assert np.array_equal(world.profiles[own], World.from_config(other).profiles[own])


@pytest.mark.parametrize("law", ["linear", "beer_lambert"])
def test_the_jacobian_agrees_with_finite_differences(tmp_path: Path, law: str) -> None:
    world = World.from_config(load(tabulated(tmp_path, law=law)).spectra)
    rng, free = np.random.default_rng(1), [5, 3]
    temperature, abundance = rng.uniform(3000, 7000, 6), rng.uniform(0, 1, (6, 6))
    jacobian = world.log_jacobian(temperature, abundance, free)
    for row, place in enumerate(free):
        shift = 1e-5 * np.eye(6)[place]
        up, down = (np.log(world.mean_flux(temperature, abundance + s * shift)) for s in (1, -1))
        np.testing.assert_allclose(jacobian[:, row], (up - down) / 2e-5, atol=1e-8)


def test_overlap_is_that_of_the_tables(tmp_path: Path) -> None:
    world = World.from_config(load(tabulated(tmp_path, law="beer_lambert")).spectra)
    grid = world.wavelength
    one, other = (np.interp(grid, [300, 500, 700, 1200], y) for y in ([0, 2, 0.5, 0], [1, 0, 0.25, 4]))
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert limits.overlap(world, "comp6", "comp4") == pytest.approx(cosine)


# --- what is refused


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "tables/bumps.csv: found nothing; expected the columns' names, and numbers"),
    "only names": ("nm,one,other\n", "tables/bumps.csv: found nothing (0 wavelengths and 0 values); expected"),
    "one row": ("nm,one\n300,1\n", "(1 wavelengths and 1 values); expected file and column, or at least two"),
    "semicolons": ("nm;one\n300;1\n", "found the columns ['nm;one']; expected wavelengths"),
    "no such column": (
        "nm,uno\n300,1\n",
        "found the columns ['nm', 'uno']; expected wavelengths in the first",
    ),
    "text": ("nm,one\n300,1\n400,high\n1200,0\n", "tables/bumps.csv: values[1]: found 'high'; expected a number"),
    "a gap": ("nm,one\n300,1\n400,\n1200,0\n", "values[1]: found ''; expected a number"),
    "NaN": ("nm,one\n300,1\n400,nan\n1200,0\n", "values[1]: found nan; expected a finite number"),
    "below 0": ("nm,one\n300,1\n400,-2\n1200,0\n", "values[1]: found -2.0; expected a number of at least 0"),
    "not increasing": ("nm,one\n300,1\n500,1\n400,1\n1200,0\n", "wavelength[2]: found 400 after 500; expected"),
    "ragged": ("nm,one\n300,1\n400,1,5\n1200,0\n", "bumps.csv: line 3: found 3 values; expected 2, one for each"),
    "too short": (
        "nm,one\n310,1\n1200,1\n",
        "lines[3].profile: found a profile from 310 to 1200 nm; expected one that covers the grid, 300 to 1200 nm",
    ),
    "too strong": ("nm,one\n300,1\n400,9\n1200,0\n", "lines[3].strength: found -0.2; expected strength x abundance x "),
    "not UTF-8": (b"nm,one\n300,1\n\xff\xfe,2\n", "tables/bumps.csv: found what cannot be read ('utf-8' codec"),
    "too many rows": ("nm,one\n" + "300,1\n" * 5_000, "found 5,001 lines; expected the columns' names, and"),
    "too many bytes": (
        b"#" * 2_000_001,
        "found 2,000,001 bytes; expected a CSV file in UTF-8, at most",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_table_that_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    table, words = REFUSED[fault]
    meta = tabulated(tmp_path, table, column="one")
    before = files_in(tmp_path)
    assert cli.main(["run", str(meta), "--quiet"]) == 2
    (said,) = caplog.messages
    assert words in said
    assert said.isprintable()
    assert said.endswith(".")
    assert files_in(tmp_path) == before


KEYS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no such file": (
        lambda line: line["profile"].update(file="none.csv"),
        ".file: found 'none.csv', where there is no",
    ),
    "no column": (
        lambda line: line["profile"].pop("column"),
        ": found file (0 wavelengths and 0 values); expected file",
    ),
    "both": (lambda line: line["profile"].update(values=[1.0]), ": found file and column and values (0 wavelengths"),
    "a center besides": (lambda line: line.update(center=500.0), "center: found 500.0 beside a profile; expected"),
    "neither": (lambda line: line.pop("profile"), "center: found nothing; expected a number here, or a profile"),
}


@pytest.mark.parametrize("fault", KEYS)
def test_a_profile_that_is_written_wrongly_is_refused(tmp_path: Path, fault: str) -> None:
    change, words = KEYS[fault]
    meta = tabulated(tmp_path)
    path = meta.parent / "configs" / "synthetic_spectra.yaml"
    files = small_experiment() | {"spectra": load_plain(path)}
    change(files["spectra"]["lines"][5])
    write_experiment(tmp_path, files)
    with pytest.raises(ConfigError) as caught:
        load(meta)
    assert words in str(caught.value)
    assert str(caught.value).startswith("configs/synthetic_spectra.yaml: lines[5].")


def load_plain(path: Path) -> Any:
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_numbers_in_the_place_of_a_file_are_read_as_strictly(tmp_path: Path) -> None:
    config = load(tabulated(tmp_path))
    for numbers in ({"wavelength": [300.0, 1200.0], "values": [1.0]}, {"wavelength": [1200, 300], "values": [1, 1]}):
        with pytest.raises(ConfigError, match=r"lines\[5\]\.profile"):
            config.with_changes({"spectra.lines[5].profile": numbers})


# --- what follows the numbers


def prints(config: Config) -> list[str]:
    """Fingerprints of the spectra, and of what is predicted from them."""
    exp = Experiment(config)
    stages = [exp._spectra_stage("train", 42), *exp._prediction_stages("network").values()]
    return [stage.fingerprint for stage in stages]


def test_an_edited_table_makes_everything_again_and_a_moved_one_nothing(tmp_path: Path) -> None:
    meta = tabulated(tmp_path / "a")
    before = prints(load(meta))
    moved = tabulated(tmp_path / "b", "nm,other,one\n" + "300,1,0\n500,0,2\n700,0.25,0.5\n1200,4,0\n")
    assert prints(load(moved)) == before
    table = meta.parent / "tables" / "bumps.csv"
    table.write_text(BUMPS.replace("500,2,0", "500,2.1,0"), encoding="utf-8")
    assert not set(prints(load(meta))) & set(before)


def test_an_edited_table_is_another_experiment(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    meta = tabulated(tmp_path)
    assert cli.main(["generate-data", str(meta), "--quiet"]) == 0
    flux = np.load(tmp_path / "exp/data/seed-42/test/flux.npy")
    table = tmp_path / "tables" / "bumps.csv"
    table.write_text(BUMPS.replace("500,2,0", "500,1,0"), encoding="utf-8")
    assert cli.main(["generate-data", str(meta), "--quiet"]) == 2
    assert "lines[5].profile.values[1] is 2.0 there and 1.0 here" in caplog.text
    assert cli.main(["generate-data", str(meta), "--quiet", "--overwrite"]) == 0
    assert (np.load(tmp_path / "exp/data/seed-42/test/flux.npy") != flux).any()


def test_the_record_variations_and_sweeps_need_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = tabulated(tmp_path / "a")
    exp = Experiment.from_yaml(meta)
    known = exp.data("train").flux[:]
    (tmp_path / "sweep.yaml").write_text(
        "base: a/meta_config.yaml\nsweep_dir: sweep\nmethods: [ridge_log]\ngrid: {spectra.n_bins: [32, 64]}\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    planned = sweep.load("sweep.yaml")
    shutil.rmtree(tmp_path / "a" / "tables")
    assert np.array_equal(Experiment.from_yaml(tmp_path / "a/exp/configs/meta_config.yaml").data("train").flux, known)
    narrow = exp.variation("coarse", {"spectra.n_bins": 16})
    assert narrow.world.profiles.shape == (6, 16)
    assert narrow.variation("again", {"spectra.lines[5].strength": -0.1}).data("test").flux.shape == (64, 16)
    assert len(planned.run()) == 2 * 2 * 2


def test_a_change_may_name_a_table_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(tabulated(tmp_path / "a"))
    monkeypatch.chdir(tmp_path)
    other = {"file": "tables/bumps.csv", "column": "other"}
    changed = config.with_changes({"spectra.lines[5].profile": other})
    assert changed.spectra.lines[5].profile == config.spectra.lines[3].profile
    assert config.with_changes({"spectra.n_bins": 64}) == config
    with pytest.raises(ConfigError, match=r"lines\[5\]\.profile: found column and wavelength and values"):
        config.with_changes({"spectra.lines[5].profile.column": "other"})


@pytest.mark.slow
def test_every_method_is_fitted_or_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from helpers import shrink_fooled

    shrink_fooled(monkeypatch)
    assert cli.main(["run", str(tabulated(tmp_path)), "--quiet", "--all"]) == 0
    report = pd.read_csv(tmp_path / "exp" / "analysis" / "gap_report.csv")
    assert {"decoder", "observer", "synthesis", "composed", "all_pairs", "ridge_log"} <= set(report["method"])
    assert np.isfinite(report[["mse_median", "crlb"]]).all(axis=None)
    assert "local" not in set(report["method"])


def test_windows_need_a_center_and_a_width(tmp_path: Path) -> None:
    exp = Experiment.from_yaml(tabulated(tmp_path))
    with pytest.raises(ValueError, match=r"line comp6 has a measured profile; expected a center and a width"):
        exp.gap_report("local")
    assert exp.possible(["local"], exp.trajectories) == []


# --- explorers


def test_a_page_shows_what_the_package_computes(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        (pytest.fail if os.environ.get("SPECTRAL_TUTORIAL_REQUIRE_BROWSER") else pytest.skip)("no node on the path")
    from test_explorers import compute, python_spectra, random_settings

    exp = Experiment.from_yaml(tabulated(tmp_path / "a", law="beer_lambert"))
    settings = random_settings(exp, 20)
    shown = compute(node, tmp_path, exp, None, settings)
    np.testing.assert_allclose([one["mean"] for one in shown["spectra"]], python_spectra(exp, settings)[0], rtol=1e-4)


def test_explorers_take_a_table_and_the_playground_says_that_it_cannot(tmp_path: Path) -> None:
    exp = Experiment.from_yaml(tabulated(tmp_path))
    for explorer in (explorers.SpectrumExplorer, explorers.GapExplorer):
        assert explorer(exp).picture() is not None
    described = base.describe_world(exp)["lines"]
    assert json.dumps(described, allow_nan=False)
    assert described[5]["center"] == pytest.approx(500, abs=10)
    assert "profile" not in described[0]
    with pytest.raises(ValueError, match="comp6 has a measured profile; the playground needs a center and a width"):
        explorers.Playground(exp)


# --- blood


def test_the_table_is_what_its_source_says() -> None:
    """Hemoglobin with oxygen has two bands in the green, without oxygen one; beyond 800 nm they change places."""
    table = pd.read_csv(TABLE, comment="#").set_index("nm")
    assert (table.index == np.arange(250, 1001, 2)).all()
    green = table.loc[530:590]
    inner = green.iloc[1:-1]
    tops = (inner > green.shift(1).iloc[1:-1]) & (inner > green.shift(-1).iloc[1:-1])
    peaks = {name: inner.index[tops[name]].tolist() for name in table}
    assert peaks == {"hbo2": [542, 576], "hb": [556]}
    assert table["hbo2"].idxmax() == 414
    assert table["hb"].idxmax() == 432
    assert table["hb"][660] > 10 * table["hbo2"][660]
    assert table["hb"][760] > 2 * table["hbo2"][760]
    assert table["hbo2"][940] > table["hb"][940]
    assert table["hbo2"][800] == pytest.approx(table["hb"][800], rel=0.1)  # an isosbestic point
    assert table["hbo2"][576] == 55540  # cm^-1 / (mol / l)


def test_blood_absorbs_by_the_law_of_beer_and_lambert() -> None:
    """A tenth of a centimeter of 0.25 millimole a liter: 10^-(extinction x concentration x path)."""
    world, table = World.from_config(load(BLOOD).spectra), pd.read_csv(TABLE, comment="#").set_index("nm")
    clear, blood = world.mean_flux([3000.0, 3000.0], [[0.0, 0.0], [0.7, 0.2]])
    for nm in (542, 556, 760, 1000):
        extinction = 0.7 * table["hbo2"][nm] + 0.2 * table["hb"][nm]
        place = np.flatnonzero(world.wavelength == nm)[0]
        assert blood[place] / clear[place] == pytest.approx(10 ** (-extinction * 2.5e-4 * 0.1), rel=1e-4)


def test_the_bound_of_a_share_is_that_of_a_world_which_is_written_in_shares() -> None:
    """With the share and the total as unknowns, the information about the share is looked up, not transformed."""
    world, rng = World.from_config(load(BLOOD).spectra), np.random.default_rng(0)
    temperature, noise = rng.uniform(2600, 3200, 8), rng.uniform(0.002, 0.02, 8)
    abundance = rng.uniform(0.1, 1.0, (8, 2))
    share, total = limits.share(abundance), abundance.sum(axis=1)

    def log_flux(h: Any) -> Any:
        s, c = share + h[0], total + h[1]
        return np.log(world.mean_flux(temperature + h[2], np.stack([s * c, (1 - s) * c], axis=1)))

    steps = np.diag([1e-5, 1e-5, 0.1])
    slopes = [(log_flux(h) - log_flux(-h)) / (2 * h.max()) for h in steps]
    jacobian = np.stack(slopes, axis=1)
    jacobian[:, 2] *= 1000
    counted = world.mean_flux(temperature, abundance) / noise[:, None] ** 2  # photons in each bin
    fisher = (jacobian * (counted + 0.5)[:, None]) @ jacobian.transpose(0, 2, 1)
    expected = np.linalg.inv(fisher)[:, 0, 0]
    spectra = Spectra(world.wavelength, np.empty((8, 250), np.float32), abundance, temperature, noise, world.labels)
    found = limits.share_bound(world, spectra, [0, 1])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_share_that_a_likelihood_finds_scatters_as_its_bound_says() -> None:
    from spectral_tutorial.estimators import AnalysisBySynthesis
    from spectral_tutorial.physics import add_noise

    world, n = World.from_config(load(BLOOD).spectra), 2000
    truth = np.full(n, 3000.0), np.tile([0.6, 0.2], (n, 1)), np.full(n, 0.01)
    rng = np.random.default_rng(5)
    flux = add_noise(world.mean_flux(*truth[:2]), truth[2], rng, world.noise_power).astype(np.float32)
    reader = AnalysisBySynthesis(world, world.labels, (0.0, 1.0), (2600.0, 3200.0)).fit(flux, truth[1])
    variance = limits.share(reader.predict(flux)).var()
    spectra = Spectra(world.wavelength, flux, truth[1], truth[0], truth[2], world.labels)
    assert variance == pytest.approx(limits.share_bound(world, spectra.take([0]), [0, 1])[0], rel=0.1)
