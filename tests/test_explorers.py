"""Explorers without a browser: what their JavaScript computes (in Node), what Python sees, and what a page gets."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import traitlets
from bs4 import BeautifulSoup
from explorers.small import EVIL, SEEDS, shrink

import spectral_tutorial as st
from spectral_tutorial import explorers, models
from spectral_tutorial.explorers import base, error_map, gap, packing, predictors, sphinx_extension, train
from spectral_tutorial.explorers.train import RANGES, TrainSettings, train_once

BOOK = Path(__file__).resolve().parents[1] / "book"
FIGURES = (explorers.SpectrumExplorer, explorers.GapExplorer, explorers.TrajectoryPlayer, explorers.ErrorMap)
FIGURES += (explorers.BeliefExplorer,)
SPLITS = "val", "test"
every_figure = pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.kind)


def open_small(folder: Path, label: str) -> st.Experiment:
    folder.mkdir()
    shutil.copyfile(BOOK / "meta_config.yaml", folder / "meta_config.yaml")
    shutil.copytree(BOOK / "configs", folder / "configs")
    return st.Experiment.from_yaml(shrink(folder, label))


@pytest.fixture(scope="session")
def exp(tmp_path_factory: pytest.TempPathFactory) -> st.Experiment:
    return open_small(tmp_path_factory.mktemp("explorers") / "book", "comp4")


@pytest.fixture(scope="session")
def evil(tmp_path_factory: pytest.TempPathFactory) -> st.Experiment:
    return open_small(tmp_path_factory.mktemp("evil") / "book", EVIL)


@pytest.fixture(autouse=True)
def few_stars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep maps of errors quick."""
    monkeypatch.setattr(error_map, "STARS", 4)


@pytest.fixture
def in_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(base.BOOK_VARIABLE, str(tmp_path))
    return tmp_path


# --- numbers: JavaScript against Python -------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        (pytest.fail if os.environ.get("SPECTRAL_TUTORIAL_REQUIRE_BROWSER") else pytest.skip)("no node on the path")
    return found


def random_settings(exp: st.Experiment, count: int = 200) -> list[dict[str, Any]]:
    rng, n_lines = np.random.default_rng(0), len(exp.world.labels)
    x, y = exp.world.index(exp.reported)
    return [
        {
            "temperature": rng.uniform(3000, 7000),
            "noise": rng.uniform(0, 0.15),
            "draw": int(rng.integers(0, 1000)),
            "abundances": [[k, rng.uniform(0, 1)] for k in {x, y, int(rng.integers(n_lines))}],
        }
        for _ in range(count)
    ]


def compute(node: str, folder: Path, exp: st.Experiment, payload: Any, settings: Any) -> dict[str, Any]:
    module, data = folder / "gap.mjs", folder / "input.json"
    module.write_text(base.module_text("gap"), encoding="utf-8")
    content = {"world": base.describe_world(exp), "payload": payload, "settings": settings}
    data.write_text(json.dumps(content), encoding="utf-8")
    script = Path(__file__).with_name("explorers") / "read.mjs"
    done = subprocess.run([node, script, module, data], capture_output=True, encoding="utf-8", check=True)
    return json.loads(done.stdout)


def call(node: str, folder: Path, kind: str, *calls: tuple[str, list[Any]]) -> Any:
    """Results of functions of an explorer's module, in Node."""
    module, data = folder / f"{kind}.mjs", folder / "calls.json"
    module.write_text(base.module_text(kind), encoding="utf-8")
    data.write_text(json.dumps(calls), encoding="utf-8")
    script = Path(__file__).with_name("explorers") / "call.mjs"
    done = subprocess.run([node, script, module, data], capture_output=True, encoding="utf-8", check=True)
    return json.loads(done.stdout)


def python_spectra(exp: st.Experiment, settings: Any) -> tuple[Any, Any]:
    abundance = np.zeros((len(settings), len(exp.world.labels)))
    for row, setting in zip(abundance, settings, strict=True):
        for k, value in setting["abundances"]:
            row[k] = value
    mean = exp.world.mean_flux([s["temperature"] for s in settings], abundance)
    normal = np.stack([base.standard_normal(s["draw"], mean.shape[1]) for s in settings])
    noise = np.array([[s["noise"]] for s in settings])
    return mean, mean + noise * mean**exp.world.noise_power * normal


def as_trained(exp: st.Experiment, flux: Any, names: list[str]) -> Any:
    """Predictions (N, networks, 2) of the networks as torch has them, float32, at the last checkpoint."""
    step, data_seed = int(exp.predictions().steps[-1]), exp.config.meta.data_seed[0]
    inputs = flux.astype(np.float32)
    outputs = exp.outputs(inputs, step=step, data_seed=data_seed)[:, :, exp.world.index(exp.reported)]
    places = [exp.config.meta.training_seed.index(int(name.removeprefix("seed "))) for name in names]
    return outputs[places].transpose(1, 0, 2)


def as_shipped(payload: Any, flux: Any) -> Any:
    """Predictions (N, networks, 2) of torch modules that hold the weights as they travel, float64."""
    predicted = []
    transform = payload["transform"]
    for one in payload["predictors"]:
        layers = [packing.unpack_layer(layer) for layer in one["layers"]]
        modules: list[torch.nn.Module] = []
        for weights, bias in layers:
            linear = torch.nn.Linear(weights.shape[1], weights.shape[0], dtype=torch.float64)
            linear.weight.data, linear.bias.data = torch.from_numpy(weights), torch.from_numpy(bias)
            modules += [linear, models.ACTIVATIONS[one["activation"]]()]
        values = np.log(np.maximum(flux, transform["floor"])) if transform["log"] else flux
        values = (values - np.array(transform["mean"] or 0.0)) / transform["scale"]
        with torch.no_grad():
            predicted.append(torch.nn.Sequential(*modules[:-1])(torch.from_numpy(values)).numpy())
    return np.stack(predicted, axis=1)


def test_the_page_computes_what_the_package_computes(exp: st.Experiment, node: str, tmp_path: Path) -> None:
    settings, payload = random_settings(exp), explorers.GapExplorer(exp).payload
    result = compute(node, tmp_path, exp, payload, settings)
    mean, flux = python_spectra(exp, settings)
    shown = [np.array([one[key] for one in result["spectra"]]) for key in ("mean", "flux", "predicted")]
    assert np.array_equal(result["wavelength"], exp.world.wavelength)
    np.testing.assert_allclose(shown[0], mean, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(shown[1], flux, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(shown[2], as_shipped(payload, flux), rtol=0, atol=1e-5)
    names = [one["name"] for one in payload["predictors"]]
    np.testing.assert_allclose(shown[2], as_trained(exp, flux, names), rtol=0, atol=2e-3)


@pytest.mark.slow
def test_the_networks_of_the_book_predict_as_they_were_trained(built_book: Any, node: str, tmp_path: Path) -> None:
    shipped = st.Experiment.from_yaml(built_book.folder / "book" / "meta_config.yaml")
    settings, payload = random_settings(shipped), explorers.GapExplorer(shipped).payload
    result = compute(node, tmp_path, shipped, payload, settings)
    _, flux = python_spectra(shipped, settings)
    shown = np.array([one["predicted"] for one in result["spectra"]])
    names = [one["name"] for one in payload["predictors"]]
    np.testing.assert_allclose(shown, as_trained(shipped, flux, names), rtol=0, atol=2e-3)


def test_a_beer_lambert_world_of_counted_photons_is_the_same_in_the_page(
    exp: st.Experiment, node: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = st.World(**{**vars(exp.world), "law": "beer_lambert", "noise_power": 0.5})
    monkeypatch.setattr(exp, "world", other)
    world = {**base.describe_world(exp), "line_law": "beer_lambert"}
    assert world["noise_power"] == 0.5
    monkeypatch.setattr(base, "describe_world", lambda _: world)
    settings = random_settings(exp, 20)
    result = compute(node, tmp_path, exp, None, settings)
    mean, flux = python_spectra(exp, settings)
    np.testing.assert_allclose([one["mean"] for one in result["spectra"]], mean, rtol=1e-12)
    np.testing.assert_allclose([one["flux"] for one in result["spectra"]], flux, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("activation", "transform"),
    [("relu", "none"), ("gelu", "log"), ("tanh", "standardize"), ("relu", "log_standardize")],
)
def test_every_kind_of_network_predicts_alike(
    exp: st.Experiment, node: str, tmp_path: Path, activation: str, transform: str
) -> None:
    torch.manual_seed(1)
    network = models.MLP(exp.config.spectra.n_bins, 2, (7, 5), 0.0, activation)
    state = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    fitted = st.data.InputTransform(transform).fit(exp.data("train").flux)
    one = {"name": "a", "activation": activation, "layers": predictors._layers(state, [0, 1])}
    payload = {"predictors": [one], "transform": predictors.describe_transform(fitted)}
    settings = random_settings(exp, 20)
    result = compute(node, tmp_path, exp, payload, settings)
    _, flux = python_spectra(exp, settings)
    shown = np.array([one["predicted"] for one in result["spectra"]])
    np.testing.assert_allclose(shown, as_shipped(payload, flux), rtol=0, atol=1e-5)
    with torch.no_grad():
        trained = network(torch.from_numpy(fitted.transform(flux.astype(np.float32)))).numpy()
    np.testing.assert_allclose(shown[:, 0], trained, rtol=0, atol=2e-3)


def test_a_linear_map_is_one_more_predictor(exp: st.Experiment, node: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    coefficients, intercept = rng.normal(size=(2, exp.config.spectra.n_bins)) / 100, [0.1, 0.2]
    linear = explorers.linear_predictor("linear map", coefficients, intercept)
    explorer = explorers.GapExplorer(exp, predictors=[linear])
    settings = random_settings(exp, 20)
    result = compute(node, tmp_path, exp, explorer.payload, settings)
    _, flux = python_spectra(exp, settings)
    shown = np.array([one["predicted"][-1] for one in result["spectra"]])
    np.testing.assert_allclose(shown, np.log(flux) @ coefficients.T + intercept, atol=2e-3)
    assert explorer.shown[-1] == "linear map"
    assert explorer.payload_key() != explorers.GapExplorer(exp).payload_key()
    with pytest.raises(ValueError, match="expected each once"):
        explorers.GapExplorer(exp, predictors=[linear, linear])


def test_python_predicts_what_the_page_predicts(exp: st.Experiment, node: str, tmp_path: Path) -> None:
    explorer = explorers.GapExplorer(exp, abundance=[0.3, 0.8], temperature=4200.0, noise=0.1, draw=7)
    pairs = [[k, value] for k, value in zip(exp.world.index(exp.reported), [0.3, 0.8], strict=True)]
    setting = {"temperature": 4200.0, "noise": 0.1, "draw": 7, "abundances": pairs}
    (one,) = compute(node, tmp_path, exp, explorer.payload, [setting])["spectra"]
    spectrum = explorer.spectrum()
    np.testing.assert_allclose(spectrum.flux[0], one["flux"], rtol=1e-6)
    np.testing.assert_allclose(list(explorer.predicted().values()), one["predicted"], atol=1e-5)
    assert spectrum.of(*exp.reported).tolist() == [[0.3, 0.8]]


def test_the_map_of_the_page_is_that_of_the_package(exp: st.Experiment, node: str, tmp_path: Path) -> None:
    explorer = explorers.ErrorMap(exp)
    methods = list(explorer._runs.values())
    assert methods == ["network", "shown_4", "shown_16", "shown_64", "oracle"]  # 256 spectra have no room for 256
    stars = error_map.plane(exp, error_map.abundances(exp))
    ours = np.stack([error_map.error_over_plane(exp, stars, name, None) for name in methods])
    (theirs,) = call(node, tmp_path, "error_map", ("unpackMaps", [explorer.payload["maps"]]))
    np.testing.assert_allclose(np.log10(theirs), np.log10(ours).ravel(), atol=2e-3)
    start = ours[0].size + ours[0, 0].size  # the second run's y component
    (top,) = call(node, tmp_path, "error_map", ("worst", [ours.ravel().tolist(), start, error_map.CELLS]))
    assert (top["y"], top["x"]) == np.unravel_index(ours[1, 1].argmax(), ours[1, 1].shape)


def test_the_map_holds_the_errors_of_the_networks_where_the_stars_are(exp: st.Experiment) -> None:
    grid = error_map.abundances(exp)
    stars = error_map.plane(exp, grid)
    y, x, star = 7, 12, 3
    row = (y * error_map.CELLS + x) * error_map.STARS
    assert np.allclose(stars.of(*exp.reported)[row + star], [grid[x], grid[y]])
    cell = stars.take(slice(row, row + error_map.STARS))
    predicted = exp.outputs(cell.flux, "shown_16")[:, :, exp.world.index(exp.reported)]
    alive = exp.seed_status("shown_16").query("data_seed == 42")["status"].isin(["ok", "unfinished"]).to_numpy()
    expected = np.median(np.square(predicted - [grid[x], grid[y]]).mean(axis=1)[alive], axis=0)
    shown = error_map.error_over_plane(exp, stars, "shown_16", None)[:, y, x]
    np.testing.assert_allclose(shown, expected, rtol=1e-5)


def test_a_run_of_the_map_tells_errors_and_combinations(exp: st.Experiment) -> None:
    explorer = explorers.ErrorMap(exp, runs={"start": ("network", 0), "some": "shown_16"}, run=1)
    ours = [exp.final_errors("shown_16", split).query("data_seed == 42 and component == 'comp4'") for split in SPLITS]
    assert explorer.errors() == pytest.approx([table["mse"].median() for table in ours], rel=1e-3)
    first, second = explorer.payload["runs"]
    start = "data_seed == 42 and step == 0 and split == 'test' and component == 'comp10'"
    before = exp.trajectories().query(start)["mse"].median()
    assert first["mse"][0][1] == pytest.approx(before, rel=1e-3)
    assert first["shown"] == []
    assert len(second["shown"]) == 16
    assert np.allclose(second["shown"], exp.data("combinations").of(*exp.reported)[:16], atol=1e-3)
    explorer.run = 9
    assert explorer.run == 1
    with pytest.raises(traitlets.TraitError, match="expected comp10 or comp4"):
        explorer.component = "comp1"
    assert explorer.payload_key() != explorers.ErrorMap(exp).payload_key()


def test_the_page_believes_what_the_observer_believes(exp: st.Experiment, node: str, tmp_path: Path) -> None:
    explorer, observer = explorers.BeliefExplorer(exp), copy.copy(exp.estimator("observer_oracle"))
    payload, both = explorer.payload, observer.present_.all(axis=1)
    truth = exp.data("test").of(*exp.reported)
    rows = [int(np.abs(truth - star["truth"]).sum(axis=1).argmin()) for star in payload["stars"]]
    levels, flux = [*payload["levels"], 0.123], exp.data("test").flux[rows]
    cases = [(star, belief) for belief in levels for star in range(len(rows))]
    pages = call(node, tmp_path, "belief", *[("observe", [payload, *case]) for case in cases])
    for (explorer.star, explorer.belief), page in zip(cases, pages, strict=True):
        np.testing.assert_allclose(page["prior"], explorer.prior(), atol=1e-12)
        np.testing.assert_allclose(page["prediction"], explorer.predicted(), atol=1e-9)
    for belief in (0.0, payload["levels"][17], 0.123, 1.0):
        shown = pages[len(rows) * levels.index(belief) :][: len(rows)]
        observer.frequency_ = np.where(both, belief, (1 - belief) * np.array(payload["frequency"]))
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose([page["prediction"] for page in shown], observer.predict(flux), atol=1e-5)
    never = [page["prediction"] for page in pages[: len(rows)]]
    trained = exp.estimator("observer").predict(flux)
    np.testing.assert_allclose(never, trained, atol=2e-3)  # what training shows is all that this one believes


def test_beliefs_are_said_as_they_are(node: str, tmp_path: Path) -> None:
    levels = explorers.belief.belief_levels()
    assert levels[0] == 0
    assert levels[-1] == 1
    assert (np.diff(levels) > 0).all()
    said = call(node, tmp_path, "belief", *[("often", [p]) for p in (0, 1e-12, 0.01, 0.5, 0.9999, 1)])
    assert said == ["never", "1 in 1,000,000,000,000", "1 in 100", "50.0 %", "> 99.9 %", "always"]
    assert call(node, tmp_path, "belief", ("share", [0]), ("share", [1e-4])) == ["0 %", "< 0.1 %"]


def test_lines_are_called_by_their_names(exp: st.Experiment, evil: st.Experiment) -> None:
    assert [line["phrase"] for line in base.describe_reported(exp)] == ["the broad line", "the narrow line"]
    assert base.describe_reported(exp)[1] == {"label": "comp4", "name": "narrow line", "phrase": "the narrow line"}
    assert base.describe_reported(evil)[1] == {"label": EVIL, "name": EVIL, "phrase": EVIL}
    assert "the narrow line" in explorers.GapExplorer(exp).description


def test_whole_numbers_survive_the_packing() -> None:
    values = np.arange(-2047, 2048)
    assert np.array_equal(packing.unpack(packing.pack(values)), values)
    for wrong in (2048, 0.5, np.nan):
        with pytest.raises(ValueError, match="expected whole numbers"):
            packing.pack([wrong])
    layer = packing.pack_layer(np.zeros((2, 3)), [0.0, 1.0])
    assert np.array_equal(packing.unpack_layer(layer)[0], np.zeros((2, 3)))


def test_the_noise_is_normal_and_another_in_each_draw() -> None:
    draws = np.array([base.standard_normal(draw, 1024) for draw in range(20)])
    assert abs(draws.mean()) < 0.03
    assert abs(draws.std() - 1) < 0.03
    assert np.abs(np.corrcoef(draws) - np.eye(20)).max() < 0.15


def test_three_seeds_are_chosen_by_their_error(exp: st.Experiment) -> None:
    table = exp.final_errors("network", "test").query("data_seed == 42")
    ours = table[table["component"] == exp.reported[1]].sort_values("mse")["training_seed"].tolist()
    assert predictors.extreme_seeds(exp) == {ours[0]: "lowest", ours[1]: "median", ours[3]: "highest"}


# --- traits -----------------------------------------------------------------------------------------------------------


def test_values_are_synced_and_kept_within_their_ranges(exp: st.Experiment) -> None:
    explorer = explorers.SpectrumExplorer(exp)
    for name in ("temperature", "noise", "lines", "abundance", "draw"):
        assert explorer.trait_metadata(name, "sync")
    explorer.temperature, explorer.noise, explorer.abundance = 9e9, -1, [-1, 2]
    assert (explorer.temperature, explorer.noise, explorer.abundance) == (7000, 0, [0, 1])
    explorer.lines = ["comp1", "comp2"]
    assert explorer.spectrum().of("comp1", "comp2").tolist() == [[0, 1]]
    for wrong in (["comp1", "comp1"], ["comp1", "gold"], ["comp1"]):
        with pytest.raises(traitlets.TraitError):
            explorer.lines = wrong


def test_players_and_gaps_refuse_what_they_do_not_have(exp: st.Experiment) -> None:
    player = explorers.TrajectoryPlayer(exp)
    player.checkpoint = 10_000
    assert player.checkpoint == len(player.payload["steps"]) - 1
    player.checkpoint = -5
    assert player.checkpoint == 0
    with pytest.raises(traitlets.TraitError, match="expected one of 123, 124, 125, 126"):
        player.seed = 7
    explorer = explorers.GapExplorer(exp)
    with pytest.raises(traitlets.TraitError, match="expected some of seed"):
        explorer.shown = ["seed 7"]
    explorer.shown = []
    assert explorer.shown == []


def test_the_player_holds_the_predictions_and_the_errors(exp: st.Experiment) -> None:
    payload, predictions = explorers.TrajectoryPlayer(exp).payload, exp.predictions()
    packed = payload["predictions"]
    assert packed["shape"] == [len(SEEDS), len(predictions.steps), 200, 2]
    shares = (packing.unpack(packed["values"]) / packing.LARGEST + 1) / 2
    values = (packed["low"] + shares * (packed["high"] - packed["low"])).reshape(packed["shape"])
    rows = np.linspace(0, len(predictions.truth) - 1, 200).astype(int)
    inside = np.clip(predictions.values[:, :, rows], packed["low"], packed["high"])
    np.testing.assert_allclose(values, inside, atol=(packed["high"] - packed["low"]) / 4000)
    table = exp.trajectories().query("data_seed == 42")
    table = table.set_index(["training_seed", "step", "split", "component"])["mse"]
    expected = table[124, payload["steps"][3], "test", exp.reported[1]]
    assert payload["mse"]["test"][1][3][1] == pytest.approx(expected, rel=1e-3)


# --- what a page gets -------------------------------------------------------------------------------------------------


@every_figure
def test_with_a_kernel_it_is_a_widget_and_in_a_book_it_is_html(
    exp: st.Experiment, figure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = figure(exp)
    assert live.comm is not None
    data, _ = live._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")  # where no widgets are drawn
    monkeypatch.setenv(base.BOOK_VARIABLE, str(tmp_path))
    still = figure(exp)
    assert still.comm is None
    data, _ = still._repr_mimebundle_()
    assert sorted(data) == ["text/html", "text/plain"]
    soup = BeautifulSoup(data["text/html"], "html.parser")
    box = soup.select_one(".spectral-explorer")
    assert box is not None
    assert box["data-explorer"] == figure.kind
    assert len(str(soup.img["alt"]).split()) > 5
    assert json.loads(box.script.string) == json.loads(json.dumps(still.values()))
    assert len(data["text/html"]) < 80_000
    key = box["data-payload"]
    assert bool(key) == bool(still.payload)
    if key:
        assert json.loads((tmp_path / f"{key}.json").read_text()) == json.loads(json.dumps(still.payload))


@every_figure
def test_one_module_text_serves_the_notebook_and_the_page(exp: st.Experiment, figure: Any) -> None:
    script = sphinx_extension.script_text(figure.kind)
    arguments = json.loads(f"[{script.strip().removesuffix(');').rpartition('})(')[2]}]")
    assert arguments[0] == figure.kind
    for sent, loaded in zip((figure(exp)._esm, figure(exp)._css), arguments[1:], strict=True):
        assert hashlib.sha256(sent.encode()).digest() == hashlib.sha256(loaded.encode()).digest()


@every_figure
def test_a_label_stays_text(evil: st.Experiment, figure: Any, in_book: Path) -> None:
    page = figure(evil)._repr_mimebundle_()[0]["text/html"]
    soup = BeautifulSoup(page, "html.parser")
    assert [image["src"][:22] for image in soup.select("img")] == ["data:image/png;base64,"]
    assert len(soup.select("script")) == 1
    assert EVIL in unescape(str(soup.img["alt"]))
    assert re.search(r"<img(?! alt=)", page) is None
    for path in in_book.glob("*.json"):
        assert "<" not in path.read_text(encoding="utf-8")


def test_scripts_are_named_by_configuration_and_not_by_content(exp: st.Experiment, in_book: Path) -> None:
    first, second = explorers.GapExplorer(exp), explorers.GapExplorer(exp, abundance=[0.1, 0.1])
    assert first.payload_key() == second.payload_key()
    assert re.fullmatch(r"gap-[0-9a-f]{10}", first.payload_key())


def test_gap_explorer_says_which_networks_it_cannot_show(exp: st.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exp, "config", exp.config.with_training(model_type="cnn"))
    with pytest.raises(ValueError, match="found cnn; expected mlp or linear"):
        predictors.network_predictors(exp)


def test_page_and_python_predict_alike(exp: st.Experiment) -> None:
    payload = explorers.GapExplorer(exp).payload
    flux = exp.data("test").flux[:5].astype(float)
    ours = [[gap.predict(one, payload["transform"], row) for one in payload["predictors"]] for row in flux]
    np.testing.assert_allclose(ours, as_shipped(payload, flux), atol=1e-9)


# --- train your own ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [0, 1], ids=["low", "high"])
@pytest.mark.parametrize("name", list(RANGES))
def test_training_works_at_both_ends_of_every_slider(exp: st.Experiment, name: str, end: int) -> None:
    panel = explorers.TrainPanel(exp, epochs=1)
    panel.inputs[name].value = {"combinations": int}.get(name, float)(RANGES[name][end])
    panel.on_train()
    assert panel.error is None, panel.message.value
    assert getattr(panel.chosen(), name) == pytest.approx(RANGES[name][end])
    assert panel.progress is not None
    assert panel.progress.done == panel.progress.total > 0
    assert bytes(panel.image.value).startswith(b"\x89PNG")
    assert panel.bar.value == panel.bar.max


def test_what_goes_wrong_is_shown_to_the_person(exp: st.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError(EVIL)

    monkeypatch.setattr(train, "train_once", fail)
    panel = explorers.TrainPanel(exp)
    panel.on_train()
    assert isinstance(panel.error, ValueError)
    assert "Training failed. ValueError: &lt;/script&gt;" in panel.message.value
    assert not panel.button.disabled


def test_combinations_take_the_place_of_training_spectra(exp: st.Experiment) -> None:
    plain, mixed = train.training_spectra(exp, 0), train.training_spectra(exp, 16)
    assert len(plain) == len(mixed)
    both = (mixed.of(*exp.reported) > 0).all(axis=1)
    assert both.sum() == 16
    assert not (plain.of(*exp.reported) > 0).all(axis=1).any()


def test_progress_grows_and_the_same_settings_give_the_same_run(exp: st.Experiment) -> None:
    seen: list[int] = []
    first = train_once(exp, TrainSettings(epochs=2), lambda progress: seen.append(len(progress.step)))
    second = train_once(exp, TrainSettings(epochs=2))
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    assert first.step[0] == 0
    assert first.step[-1] == first.total
    assert first.held == second.held


def test_in_a_book_the_panel_is_its_finished_figure(evil: st.Experiment, in_book: Path) -> None:
    panel = explorers.TrainPanel(evil, epochs=1)
    assert not hasattr(panel, "box")
    soup = BeautifulSoup(panel._repr_mimebundle_()["text/html"], "html.parser")
    assert soup.img["src"].startswith("data:image/png;base64,")
    assert "open this chapter as a notebook" in soup.get_text()
    assert len(soup.select("img")) == 1
