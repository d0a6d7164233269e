"""Figures: what is drawn is what was given, and drawing leaves nothing behind."""

import io
import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image

from spectral_tutorial import figures
from spectral_tutorial.data import Spectra
from spectral_tutorial.physics import WIEN_NM_K, World, continuum, gaussian_profiles

PAIR = ("$b$ < 1", "</script>$")
"""Labels that a careless figure would read as a formula."""
STEPS = [0, 1, 4, 16, 64]
TEMPERATURE = 5000.0


@pytest.fixture
def world():
    wavelength = np.linspace(300, 1200, 60)
    profiles = gaussian_profiles(wavelength, [500, 900, 860], [40, 70, 12])
    return World(wavelength, profiles, np.array([0.5, -0.7, -0.4]), ("a", *PAIR))


@pytest.fixture
def splits(world):
    rng = np.random.default_rng(0)

    def make(n, kinds):
        kind = np.resize(kinds, n)
        abundance = rng.uniform(0.1, 1.0, (n, 3)) * np.column_stack([0 * kind, kind & 1, kind & 2]).astype(bool)
        temperature = rng.uniform(3000, 7000, n)
        flux = world.mean_flux(temperature, abundance).astype(np.float32)
        return Spectra(world.wavelength, flux, abundance, temperature, np.full(n, 0.05), world.labels)

    return {"train": make(30, [0, 1, 2]), "val": make(9, [0, 1, 2]), "test": make(9, [3])}


@pytest.fixture
def trajectories():
    rng = np.random.default_rng(1)
    keys = [
        (seed, step, split, label)
        for seed in (5, 6, 7)
        for step in STEPS
        for split in ("val", "test")
        for label in PAIR
    ]
    table = pd.DataFrame(keys, columns=["training_seed", "step", "split", "component"])
    return table.assign(
        variant="network",
        data_seed=42,
        mse=rng.uniform(1e-4, 0.3, len(table)),
        slope=rng.uniform(-0.2, 1.1, len(table)),
    )


@pytest.fixture
def status():
    return pd.DataFrame(
        {"variant": "network", "data_seed": 42, "training_seed": [5, 6, 7], "status": ["ok", "dead", "ok"]}
    )


@pytest.fixture
def histories(trajectories):
    table = trajectories[(trajectories["split"] == "val") & (trajectories["component"] == PAIR[0])]
    table = table[table["step"] > 0]
    return table.assign(epoch=table["step"] / 64, train_loss=table["mse"], val_loss=1.1 * table["mse"])


@pytest.fixture
def summary():
    return pd.DataFrame(
        {
            "training_seed": [5, 6, 7, 8] * 2,
            "status": ["ok", "dead", "diverged", "ok"] * 2,
            "component": np.repeat(PAIR, 4),
            "mse": [0.01, 0.083, np.inf, 0.03, 0.05, 0.083, np.nan, 0.06],
        }
    )


@pytest.fixture
def report():
    keys = [(method, label, split) for method in ("network", "oracle") for label in PAIR for split in ("val", "test")]
    table = pd.DataFrame(keys, columns=["method", "component", "split"])
    median = np.geomspace(1e-3, 0.1, len(table))
    return table.assign(mse_median=median, mse_low=0.8 * median, mse_high=1.3 * median, crlb=0.5 * median)


@pytest.fixture
def predictions(splits):
    rng = np.random.default_rng(2)
    truths = {name: splits[name].of(*PAIR) for name in ("val", "test")}
    return {name: (truth, truth + rng.normal(0, 0.1, (4, *truth.shape))) for name, truth in truths.items()}


@pytest.fixture
def drawers(world, splits, trajectories, status, histories, summary, report, predictions):
    amounts = np.array([0.3, 0.8, 0.9])
    truth, values = predictions["test"]
    return {
        "spectral_lines": lambda **k: figures.spectral_lines(world, PAIR, **k),
        "diverse_samples": lambda: figures.diverse_samples(splits["train"], world, PAIR),
        "continua": lambda **k: figures.continua(world.wavelength, [2000, 4000, 6000], **k),
        "composition": lambda: figures.composition(world, TEMPERATURE, amounts, PAIR),
        "wing": lambda: figures.wing(world, TEMPERATURE, *PAIR),
        "noise_levels": lambda: figures.noise_levels(world, TEMPERATURE, amounts, [0.0, 0.1], np.random.default_rng(0)),
        "train_samples": lambda: figures.train_samples(splits["train"], world, PAIR),
        "test_samples": lambda: figures.test_samples(splits["test"], world, PAIR),
        "abundance_scatter": lambda: figures.abundance_scatter(splits, PAIR),
        "marginals": lambda: figures.marginals({k: splits[k] for k in ("train", "test")}, PAIR),
        "training_curves": lambda: figures.training_curves(histories, status),
        "seed_strip": lambda: figures.seed_strip(summary),
        "gap": lambda: figures.gap(report),
        "mse_trajectory": lambda **k: figures.mse_trajectory(trajectories, {"cost $1": (0.1, 0.2)}, status=status, **k),
        "mse_time_series": lambda: figures.mse_time_series(trajectories, PAIR, status),
        "test_abundance_mse": lambda: figures.test_abundance_mse(truth, ((values - truth) ** 2).mean(axis=0), PAIR),
        "prediction_analysis": lambda: figures.prediction_analysis(predictions, PAIR),
        "slopes": lambda **k: figures.slopes(trajectories, status=status, **k),
    }


def curves(ax):
    """Data of every line in a panel, as lists of (x, y)."""
    return [np.column_stack([np.atleast_1d(v).astype(float) for v in line.get_data()]) for line in ax.lines]


def drawn(ax, x, y):
    """Whether one line in a panel has exactly these data."""
    wanted = np.column_stack([x, y])
    return any(c.shape == wanted.shape and np.allclose(c, wanted, equal_nan=True) for c in curves(ax))


def settings():
    """All settings but the backend, which matplotlib chooses at the moment it is asked for."""
    return {key: mpl.rcParams[key] for key in mpl.rcParams if key != "backend"}


def words(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


NAMES = [
    "spectral_lines",
    "diverse_samples",
    "continua",
    "composition",
    "wing",
    "noise_levels",
    "train_samples",
    "test_samples",
    "abundance_scatter",
    "marginals",
    "training_curves",
    "seed_strip",
    "gap",
    "mse_trajectory",
    "mse_time_series",
    "test_abundance_mse",
    "prediction_analysis",
    "slopes",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_a_small_picture_and_leaves_nothing_behind(name, drawers):
    before = settings()
    figure = drawers[name]()
    content = figures.png(figure)
    assert isinstance(figure, Figure)
    assert settings() == before
    assert plt.get_fignums() == []
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "PNG"
    assert picture.width == 864
    assert len(content) < 80_000


@pytest.mark.parametrize("name", ["spectral_lines", "gap", "mse_trajectory", "mse_time_series"])
def test_figures_do_not_depend_on_the_readers_settings(name, drawers):
    plain = figures.png(drawers[name]())
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 20, "lines.linewidth": 9, "xtick.labelsize": 30}):
        figure = drawers[name]()
    with mpl.rc_context({"xtick.labelsize": 30, "font.family": "monospace"}):
        assert figures.png(figure) == plain


@pytest.mark.parametrize("name", ["spectral_lines", "continua", "mse_trajectory", "slopes"])
def test_single_panels_draw_where_they_are_told(name, drawers):
    own, ax = plt.subplots()
    assert drawers[name](ax=ax) is own
    assert ax.lines
    own.savefig(io.BytesIO())
    plt.close(own)


def test_the_list_of_names_is_complete(drawers):
    public = {n for n, f in vars(figures).items() if hasattr(f, "__wrapped__")}
    assert public == set(NAMES) == set(drawers)


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in ("continua", "noise_levels", "test_samples", "training_curves")]
)
def test_labels_are_read_as_they_are(name, drawers):
    figure = drawers[name]()
    assert any(r"\$b\$ < 1" in text for text in words(figure))
    assert not any(mpl.cbook.is_math_text(text) for text in words(figure) if "b" in text)


def test_importing_changes_no_settings():
    code = (
        "from matplotlib import rcParams; before = {k: rcParams[k] for k in rcParams if k != 'backend'}\n"
        "import spectral_tutorial.figures, sys\n"
        "assert {k: rcParams[k] for k in before} == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("setup", ["", "import matplotlib.pyplot as plt"])
def test_a_notebook_shows_a_figure_once(setup, tmp_path):
    draw = "from spectral_tutorial import figures\nfigure = figures.continua(range(300, 1200), [4000, 5000])"
    cells = [nbformat.v4.new_code_cell(source) for source in (setup, f"{draw}\nfigure", draw, "figure")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    shown = [["image/png" in output.get("data", {}) for output in cell.outputs] for cell in cells]
    assert shown == [[], [True], [], [True]]


def test_continua_mark_wiens_peak_where_it_is_on_the_grid(world):
    (ax,) = figures.continua(world.wavelength, [2000, 4000]).axes
    assert drawn(ax, world.wavelength, continuum(world.wavelength, 4000)[0])
    assert drawn(ax, [WIEN_NM_K / 4000], [1.0])
    assert not drawn(ax, [WIEN_NM_K / 2000], [1.0])


def test_samples_stand_on_the_continuum_of_their_own_temperature(world, splits):
    figure = figures.diverse_samples(splits["train"], world)
    for row, ax in enumerate(figure.axes):
        assert drawn(ax, world.wavelength, splits["train"].flux[row])
        assert drawn(ax, world.wavelength, continuum(world.wavelength, splits["train"].temperature[row])[0])


def test_train_samples_show_each_combination_and_test_samples_fill_the_page(world, splits):
    held = [ax.get_title().split("\n")[0] for ax in figures.train_samples(splits["train"], world, PAIR).axes]
    assert sorted(set(held)) == sorted({"no line", r"\$b\$ < 1", r"</script>\$"})
    assert len(figures.test_samples(splits["test"], world, PAIR).axes) == 6


def test_composition_multiplies_in_flux_and_adds_in_log_flux(world):
    flux, log = figures.composition(world, TEMPERATURE, [0.3, 0.8, 0.9], PAIR).axes
    parts, total = [line.get_ydata() for line in flux.lines[:-1]], flux.lines[-1].get_ydata()
    np.testing.assert_allclose(np.prod(parts, axis=0), total, rtol=1e-12)
    terms, total = [line.get_ydata() for line in log.lines[:-1]], log.lines[-1].get_ydata()
    np.testing.assert_allclose(np.sum(terms, axis=0), total, rtol=0, atol=1e-12)


def test_the_dip_shrinks_in_flux_and_not_in_log_flux(world):
    panels = figures.wing(world, TEMPERATURE, *PAIR).axes
    flux = [line.get_ydata().min() for line in panels[2].lines]
    log = [line.get_ydata().min() for line in panels[3].lines]
    assert flux[0] < flux[1] < flux[2] < 0
    np.testing.assert_allclose(log, log[0], rtol=1e-10)


def test_abundance_scatter_draws_every_spectrum_in_its_splits_color(splits):
    figure = figures.abundance_scatter(splits, PAIR)
    for ax, (name, spectra) in zip(figure.axes, splits.items(), strict=True):
        assert drawn(ax, *spectra.of(*PAIR).T)
        assert ax.lines[0].get_color() == figures.SPLIT_COLORS[name]
    assert "10 here" in words(figure)


def test_marginals_count_what_is_present(splits):
    shares = figures.marginals({k: splits[k] for k in ("train", "test")}, PAIR).axes[2].patches
    np.testing.assert_allclose([bar.get_width() for bar in shares], [1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0, 1])


def test_curves_show_every_seed_and_the_median_of_the_live(histories, status):
    (ax,) = figures.training_curves(histories, status).axes
    wide = histories.pivot(index="training_seed", columns="step", values="val_loss")
    for _, losses in wide.iterrows():
        assert drawn(ax, STEPS[1:], losses)
    assert drawn(ax, STEPS[1:], wide.loc[[5, 7]].median())
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert [line.get_color() for line in dotted] == [figures.MUTED] * 2


def test_time_series_start_at_step_zero(trajectories, status):
    figure = figures.mse_time_series(trajectories, PAIR, status)
    for ax, component in zip(figure.axes, PAIR, strict=True):
        for split in ("val", "test"):
            part = trajectories[(trajectories["component"] == component) & (trajectories["split"] == split)]
            wide = part.pivot(index="training_seed", columns="step", values="mse")
            assert all(drawn(ax, STEPS, row) for _, row in wide.iterrows())
            assert drawn(ax, STEPS, wide.loc[[5, 7]].median())
        assert 0 in ax.get_xticks()
        assert ax.get_xlim()[0] < 0


@pytest.mark.parametrize(("draw", "value"), [(figures.mse_trajectory, "mse"), (figures.slopes, "slope")])
def test_paths_put_the_first_component_on_x(draw, value, trajectories, status):
    test = trajectories[trajectories["split"] == "test"]
    x, y = (
        test[test["component"] == label].pivot(index="training_seed", columns="step", values=value) for label in PAIR
    )
    for pair, across, up in ((PAIR, x, y), (PAIR[::-1], y, x)):
        ax = draw(trajectories, reported=pair, status=status).axes[0]
        assert all(drawn(ax, across.loc[seed], up.loc[seed]) for seed in (5, 6, 7))
        ends = [across.loc[[5, 7], 64].median()], [up.loc[[5, 7], 64].median()]
        assert drawn(ax, *ends)


def test_trajectory_marks_the_reference_points(trajectories):
    figure = figures.mse_trajectory(trajectories, {"predict nothing": np.array([1 / 3, 0.3])})
    assert drawn(figure.axes[0], [1 / 3], [0.3])
    assert "predict nothing" in words(figure)


def test_all_seeds_dead_draws_no_median(trajectories, status):
    dead = status.assign(status="dead")
    for draw in (figures.mse_trajectory, figures.mse_time_series, figures.slopes):
        figure = draw(trajectories, status=dead)
        figures.png(figure)
        assert not any(line.get_linewidth() == 2.4 for line in figure.axes[0].lines)


def test_seed_strip_names_dead_and_diverged_seeds(summary):
    figure = figures.seed_strip(summary)
    assert {"6", "7", "dead seed", "diverged seed", "live seed"} <= set(words(figure))
    ax = figure.axes[0]
    marked = {line.get_gid(): (line.get_marker(), *line.get_data()) for line in ax.lines if line.get_gid() != "ok"}
    assert drawn(ax, [5], [0.01])
    assert drawn(ax, [6], [0.083])
    assert marked["dead"][0] == "X"
    assert marked["diverged"] == ("^", [7], [0.25])
    levels = {line.get_linestyle(): line.get_ydata()[0] for line in ax.lines if len(line.get_ydata()) == 2}
    assert levels == pytest.approx({"-": 0.02, ":": 0.041, "-.": 1 / 12})
    assert "mean over all" not in words(figures.seed_strip(summary, mean_over_all=False))


def test_gap_draws_medians_whiskers_and_bounds(report):
    for ax, component in zip(figures.gap(report).axes, PAIR, strict=True):
        rows = report[report["component"] == component]
        first = [c[:, 0].tolist() for c in curves(ax)]
        for row in rows.itertuples():
            assert [row.mse_low, row.mse_high] in first
            assert [row.mse_median] in first
            assert [row.crlb, row.crlb] in first
        assert ax.get_xscale() == "log"


def test_bounds_that_are_unknown_are_left_out(report):
    figures.png(figures.gap(report.assign(crlb=np.nan)))


def test_plane_colors_are_medians_of_the_errors(splits):
    truth = splits["test"].of(*PAIR)
    left, right, _ = figures.test_abundance_mse(truth, np.full((9, 2), [1e-3, 0.1]), PAIR).axes
    np.testing.assert_allclose(left.collections[0].get_array(), 1e-3)
    np.testing.assert_allclose(right.collections[0].get_array(), 0.1)
    figures.png(figures.test_abundance_mse(truth, np.full((9, 2), np.nan), PAIR))


def test_predictions_of_all_seeds_are_drawn(predictions):
    panels = np.array(figures.prediction_analysis(predictions, PAIR).axes).reshape(2, 2)
    for column, (truth, values) in enumerate(predictions.values()):
        for k in range(2):
            assert drawn(panels[k, column], np.tile(truth[:, k], 4), values[:, :, k].ravel())
            assert drawn(panels[k, column], [0, 1], [0, 1])
