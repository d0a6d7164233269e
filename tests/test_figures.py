"""Figures: what is drawn is what was given, hostile or not, and drawing leaves nothing behind."""

import io
import itertools
import subprocess
import sys
from functools import cache
from types import SimpleNamespace

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
from spectral_tutorial.figures import base
from spectral_tutorial.physics import WIEN_NM_K, World, continuum, gaussian_profiles

PAIR = ("$b$ < 1", "</script>$")
"""Labels that a careless figure would read as a formula."""
STEPS = [0, 1, 4, 16, 64]
TEMPERATURE = 5000.0
AMOUNTS = np.array([0.3, 0.8, 0.9])
METHODS = {  # ID and OOD error; two are tied, the runs of one are all dead
    "network": (0.0009, 0.1),
    "dropout": (0.0014, 0.153),
    "tied": (0.0011, 0.1),
    "$shown_4$": (0.00095, 0.09),
    "shown_16": (0.00098, 0.029),
    "dead": (np.nan, np.nan),
    "oracle": (0.0014, 0.0023),
}
COUNTS = {"oracle": 1024, "network": 0, "$shown_4$": 4, "shown_16": 16, "dead": 64, "never run": 5}
TOLD = {
    "single $lines": {name: name for name in ("network", "dead", "tied", "dropout")},
    "nothing of the kind": {"never run": "never run"},
    "the combination": {"shown_16": "shown_16", "$shown_4$": "$4$ shown", "oracle": "the oracle"},
}
LANDMARKS = {"costs $1": 0.083, "costs $2": 0.0833, "predict nothing": 1 / 3}
STEPS_APART = np.array([1, 10, 100, 1000])
APART = np.array([[0.0, 1e-7, 1e-6, 1e-2], [0.0, 3e-7, 2e-6, 4e-2], [0.0, 2e-7, 9e-6, 1e-1]])
STATUS = pd.DataFrame(
    {"method": "network", "data_seed": 42, "training_seed": [5, 6, 7], "status": ["ok", "dead", "ok"]}
)
ERRORS = ["mse_median", "mse_low", "mse_high", "crlb"]


# --- what is drawn


def make_splits(world, n=30):
    rng = np.random.default_rng(0)

    def make(n, kinds):
        kind = np.resize(kinds, n)
        abundance = rng.uniform(0.1, 1.0, (n, 3)) * np.column_stack([0 * kind, kind & 1, kind & 2]).astype(bool)
        temperature = rng.uniform(3000, 7000, n)
        flux = world.mean_flux(temperature, abundance).astype(np.float32)
        return Spectra(world.wavelength, flux, abundance, temperature, np.full(n, 0.05), world.labels)

    return {"train": make(n, [0, 1, 2]), "val": make(9, [0, 1, 2]), "test": make(9, [3])}


def make_trajectories(pair):
    rng = np.random.default_rng(1)
    keys = list(itertools.product((5, 6, 7), STEPS, ("val", "test"), pair))
    table = pd.DataFrame(keys, columns=["training_seed", "step", "split", "component"])
    random = {"mse": rng.uniform(1e-4, 0.3, len(table)), "slope": rng.uniform(-0.2, 1.1, len(table))}
    return table.assign(method="network", data_seed=42, **random)


def make_everything(pair, names):
    rows = [
        (names.get(name, name), label, split, error, error / 1.2, error * 1.3, 0.00107 if split == "test" else 0.00117)
        for name, errors in METHODS.items()
        for label in pair
        for split, error in zip(("val", "test"), errors, strict=True)
    ]
    return pd.DataFrame(rows, columns=["method", "component", "split", *ERRORS])


def make_more(pair, names):
    keys = list(itertools.product(("[8]", names.get("group", "$h$")), (10, 100, 1000), pair, ("val", "test")))
    table = pd.DataFrame(keys, columns=["hidden", "spectra", "component", "split"])
    error = np.random.default_rng(3).uniform(1e-4, 0.3, len(table))
    return table.assign(mse_median=error, mse_low=error / 1.2, mse_high=error * 1.3)


def make_ratios(pair, names):
    values = [60.0, 2.0, 1.1, 1.1, 90.0, 1.6, 4000.0, 1.3]
    groups, methods = ("c13 / c2", names.get("group", "$x$ / c4")), ("network", names.get("$decoder$", "$decoder$"))
    table = pd.DataFrame(itertools.product(groups, methods, pair), columns=["group", "method", "component"])
    return table.assign(ratio=values)


def make_shares(pair, names):
    ranges, thirds = ["0.0 to 0.2", "0.2 to 0.4", "$0.4$ to 1"], ["lowest", "middle", "highest"]
    low = {"network": [0.1, 0.2, np.nan], names.get("$decoder$", "$decoder$"): [0.3, 0.4, 0.5]}
    frames = {name: pd.DataFrame({"low": v, "median": v, "high": v}) + [0, 0.1, 0.2] for name, v in low.items()}
    tables = [{name: frame.set_axis(index) for name, frame in frames.items()} for index in (ranges, thirds)]
    return dict(zip((f"abundance of {pair[0]}", "noise"), tables, strict=True))


@cache
def material(pair=PAIR, other=None):
    """Arrays and tables of a small experiment whose components are called `pair`, and a method `other`."""
    names = dict.fromkeys(("$shown_4$", "$decoder$", "$o$", "group"), other) if other else {}
    grid = np.linspace(300, 1200, 60)
    profiles = gaussian_profiles(grid, [500, 900, 860], [40, 70, 12])
    world = World(grid, profiles, np.array([0.5, -0.7, -0.4]), ("a", *pair))
    splits, trajectories, rng = make_splits(world), make_trajectories(pair), np.random.default_rng(2)
    histories = trajectories.query("split == 'val' and step > 0")
    histories = histories[histories["component"] == pair[0]]
    truths = {name: splits[name].of(*pair) for name in ("val", "test")}
    keys = itertools.product(("network", names.get("$o$", "oracle")), pair, ("val", "test"))
    report, median = pd.DataFrame(keys, columns=["method", "component", "split"]), np.geomspace(1e-3, 0.1, 8)
    true = {label: world.line_log_factors(np.eye(3)[k])[0, k] for k, label in enumerate(world.labels) if k}
    slopes = {"network": [0.9, 0.6, 0.3], names.get("$o$", "$o$"): [1.0, 0.99, 1.0], "lost": [1.0, 0.99, np.nan]}
    return SimpleNamespace(
        pair=pair,
        world=world,
        splits=splits,
        trajectories=trajectories,
        histories=histories.assign(epoch=1.0, train_loss=histories["mse"], val_loss=1.1 * histories["mse"]),
        summary=pd.DataFrame(
            {
                "training_seed": [5, 6, 7, 8] * 2,
                "status": ["ok", "dead", "diverged", "ok"] * 2,
                "component": np.repeat(pair, 4),
                "mse": [0.01, 0.083, np.inf, 0.03, 0.05, 0.083, np.nan, 0.06],
            }
        ),
        report=report.assign(mse_median=median, mse_low=0.8 * median, mse_high=1.3 * median, crlb=0.5 * median),
        predictions={k: (truth, truth + rng.normal(0, 0.1, (4, *truth.shape))) for k, truth in truths.items()},
        everything=make_everything(pair, names),
        counts={names.get(name, name): count for name, count in COUNTS.items()},
        told={words: {names.get(n, n): title for n, title in of.items()} for words, of in TOLD.items()},
        landmarks=LANDMARKS | ({other: 0.02} if other else {}),
        ratios=make_ratios(pair, names),
        shares=make_shares(pair, names),
        more=make_more(pair, names),
        aims={(label, split): error for label in pair for split, error in (("val", 4e-4), ("test", 0.27))},
        # one spectrum is undecided, one has no belief
        truth=np.array([[0.1, 0.8], [0.2, 0.9], [0.9, 0.1], [0.7, 0.3], [0.5, 0.5], [0.4, 0.4]]),
        belief=np.array([[0, 0.1, 0.9], [0, 0, 1], [0, 1, 0], [0, 0.8, 0.2], [0, 0.5, 0.5], [np.nan] * 3]),
        held=["nothing", *(f"{label} alone" for label in pair)],
        # two predict alike, one has lost its last value, and one has none
        slopes=pd.DataFrame(slopes | {"dead": [np.nan] * 3}, index=["0.0 to 0.3", "0.3 to 0.6", "$0.6$ to 1"]),
        learned={label: curve + 0.01 for label, curve in true.items()},
        true=true,
        gaps=pd.DataFrame(
            [[271.4, 20.0, 5.61], [9.0, np.nan, 2.3]],
            pd.Index([other or pair[0], "c + d"], name="pair"),
            pd.Index(["0", "32", "128"], name="combinations $shown"),
        ),
    )


def drawers(m):
    truth, values = m.predictions["test"]
    rng = np.random.default_rng(0)
    return {
        "spectral_lines": lambda **k: figures.spectral_lines(m.world, m.pair, **k),
        "diverse_samples": lambda **k: figures.diverse_samples(m.splits["train"], m.world, m.pair, **k),
        "continua": lambda **k: figures.continua(m.world.wavelength, [2000, 4000, 6000], **k),
        "composition": lambda **k: figures.composition(m.world, TEMPERATURE, AMOUNTS, m.pair, **k),
        "wing": lambda **k: figures.wing(m.world, TEMPERATURE, *m.pair, **k),
        "noise_levels": lambda: figures.noise_levels(m.world, TEMPERATURE, AMOUNTS, [0.0, 0.1], rng),
        "samples": lambda **k: figures.samples(m.splits["train"], "train", m.world, m.pair, **k),
        "abundance_scatter": lambda **k: figures.abundance_scatter(m.splits, m.pair, **k),
        "marginals": lambda **k: figures.marginals({k: m.splits[k] for k in ("train", "test")}, m.pair, **k),
        "training_curves": lambda: figures.training_curves(m.histories, STATUS),
        "seed_strip": lambda **k: figures.seed_strip(m.summary, **k),
        "drift": lambda **k: figures.drift(STEPS_APART, APART, **k),
        "more_data": lambda **k: figures.more_data(m.more, m.aims, m.pair, **k),
        "gap": lambda **k: figures.gap(m.report, **k),
        "mse_trajectory": lambda **k: figures.mse_trajectory(
            m.trajectories, {"cost $1": (0.1, 0.2)}, status=STATUS, **k
        ),
        "mse_time_series": lambda **k: figures.mse_time_series(m.trajectories, m.pair, STATUS, **k),
        "test_abundance_mse": lambda **k: figures.test_abundance_mse(
            truth, ((values - truth) ** 2).mean(axis=0), m.pair, **k
        ),
        "prediction_analysis": lambda **k: figures.prediction_analysis(m.predictions, m.pair, **k),
        "readings": lambda: figures.readings(
            truth[:, 0], {m.pair[0]: values[:, :, 0], "mine": values[:, :, 1]}, m.pair[1]
        ),
        "slopes": lambda **k: figures.slopes(m.trajectories, status=STATUS, **k),
        "beliefs": lambda **k: figures.beliefs(m.truth, m.belief, m.held, m.pair, **k),
        "slope_by_other_abundance": lambda **k: figures.slope_by_other_abundance(m.slopes, m.pair, **k),
        "combinations_shown": lambda **k: figures.combinations_shown(m.everything, m.counts, m.pair[0], **k),
        "every_method": lambda **k: figures.every_method(m.everything, m.told, m.landmarks, m.pair[0], **k),
        "alarms": lambda: figures.alarms(m.shares, 0.01),
        "templates": lambda **k: figures.templates(m.world.wavelength, m.learned, m.true, **k),
        "ratios_to_bound": lambda **k: figures.ratios_to_bound(m.ratios, **k),
        "phase_diagram": lambda **k: figures.phase_diagram(m.gaps, "error / $error", **k),
    }


M = material()
DRAWERS = drawers(M)
NO_LABELS = ["continua", "noise_levels", "training_curves", "drift"]
CROWDED = ["mse_trajectory", "slopes"]  # notes among random curves may touch


@cache
def figure_of(name):
    return DRAWERS[name]()


@cache
def png_of(name):
    return figures.png(figure_of(name))


def settings():
    """All settings but the backend, which matplotlib chooses at the moment it is asked for."""
    return {key: mpl.rcParams[key] for key in mpl.rcParams if key != "backend"}


def curves(ax):
    """Data of every line in a panel, as lists of (x, y)."""
    return [np.column_stack([np.atleast_1d(v).astype(float) for v in line.get_data()]) for line in ax.lines]


def drawn(ax, x, y):
    """Whether one line in a panel has exactly these data."""
    wanted = np.column_stack([x, y])
    return any(c.shape == wanted.shape and np.allclose(c, wanted, equal_nan=True) for c in curves(ax))


def words(figure):
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def boxes(figure):
    """Box of every text that is to be seen, in pixels; the figure has been drawn."""
    texts = [(text, True) for legend in figure.findobj(mpl.legend.Legend) for text in legend.findobj(mpl.text.Text)]
    for ax in figure.axes:
        texts += [(text, True) for text in (*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label)]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [(tick.label1, low <= tick.get_loc() <= high) for tick in axis.get_major_ticks()]
    shown = {id(text): text for text, inside in texts if inside and text.get_visible() and text.get_text()}
    return {f"{text.get_text()} {i}": text.get_window_extent() for i, text in enumerate(shown.values())}


def overlaps(found):
    return [pair for pair in itertools.combinations(found, 2) if found[pair[0]].overlaps(found[pair[1]])]


def off_the_page(figure, found):
    page = figure.bbox.padded(1)
    return [text for text, box in found.items() if not (page.contains(*box.min) and page.contains(*box.max))]


def on_paper(figure):
    """The figure, after matplotlib has laid it out: where most warnings come from."""
    figure.draw_without_rendering()
    return figure


# --- every figure


@pytest.mark.parametrize("name", DRAWERS)
def test_every_figure_is_a_small_legible_picture_and_leaves_nothing_behind(name):
    before = settings()
    figure, content = figure_of(name), png_of(name)
    assert isinstance(figure, Figure)
    assert settings() == before
    assert plt.get_fignums() == []
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "PNG"
    assert picture.width == {"spectral_lines": 624, "every_method": 576}.get(name, 864)
    assert len(content) < 80_000
    if name not in NO_LABELS:
        assert any(r"\$b\$ < 1" in text for text in words(figure))
        assert not any(mpl.cbook.is_math_text(text) for text in words(figure) if "b" in text)
    found = boxes(figure)
    assert len(found) > 4
    assert off_the_page(figure, found) == []
    assert name in CROWDED or overlaps(found) == []


NAMED = dict(zip(PAIR, ("broad line", "narrow $line"), strict=True))
NOT_NAMED = [*NO_LABELS, "alarms", "every_method", "phase_diagram", "readings"]


@pytest.mark.parametrize("name", [name for name in DRAWERS if name not in NOT_NAMED])
def test_a_line_is_shown_by_its_name_where_it_has_one(name):
    shown = " ".join(words(DRAWERS[name](names=NAMED)))
    assert "broad line" in shown or r"narrow \$line" in shown
    assert "< 1" not in shown
    assert "</script>" not in shown


HOSTILE = ("\u7dda" * 100, "a name that never ends " * 9), "\u5149\u8b5c " * 60
"""Names of components and of a method: without glyphs, and of 200 characters and more."""


@pytest.mark.parametrize("name", DRAWERS)
def test_names_of_any_length_and_script_are_cut_to_fit(name, caplog):
    figure = drawers(material(*HOSTILE))[name]()
    figures.png(figure)  # a missing glyph would warn
    found = boxes(figure)
    assert off_the_page(figure, found) == []
    assert name in CROWDED or overlaps(found) == []
    assert name in NO_LABELS or any("\N{HORIZONTAL ELLIPSIS}" in text for text in found)
    assert caplog.text == ""


def test_a_label_is_shown_as_it_is_where_it_can_be():
    assert base.text("comp10") == "comp10"
    assert (
        base.text("H\N{GREEK SMALL LETTER ALPHA} \N{ANGSTROM SIGN}")
        == "H\N{GREEK SMALL LETTER ALPHA} \N{ANGSTROM SIGN}"
    )
    assert base.text("$x$") == r"\$x\$"
    assert base.text("\u7dda\n") == r"\u7dda\n"
    assert base.text("ab" * 12) == "ab" * 12
    assert base.text("first, and so on, and so on, last", 12) == "first, \N{HORIZONTAL ELLIPSIS}last"


def test_one_method_has_one_look_in_every_figure():
    assert len(set(base.METHOD_LOOKS.values()) | set(base.OTHER_LOOKS)) == len(base.METHOD_LOOKS) + len(
        base.OTHER_LOOKS
    )
    alone, together = base.looks(["decoder"]), base.looks(["mine", "ridge_log", "decoder", "yours"])
    assert alone["decoder"] == together["decoder"]
    assert len({(look["color"], look["marker"]) for look in together.values()}) == 4
    first = figures.slope_by_other_abundance(M.slopes[["network"]].assign(decoder=1.0), PAIR)
    other = figures.ratios_to_bound(M.ratios.replace("$decoder$", "decoder"))
    marks = [(line.get_color(), line.get_marker()) for line in first.axes[0].lines]
    found = {(line.get_color(), line.get_marker()) for line in other.axes[0].lines if line.get_marker() != "None"}
    assert found == set(marks[-2:])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_values_without_a_place_on_the_axis_are_left_out(value, caplog):
    """Bounds, losses and errors of hostile worlds: nothing warns, nothing raises, all of it is drawn."""
    report, everything = (table.assign(**dict.fromkeys(ERRORS, value)) for table in (M.report, M.everything))
    runs = M.trajectories.assign(mse=value, slope=value)
    losses = M.histories.assign(train_loss=value, val_loss=value)
    truth, values = M.predictions["test"]
    for table in (report, M.report.assign(crlb=value)):
        assert len(on_paper(figures.gap(table)).axes) == 2
    for table in (everything, M.everything.assign(crlb=value)):
        on_paper(figures.combinations_shown(table, COUNTS, PAIR[0]))
        on_paper(figures.every_method(table, TOLD, LANDMARKS | {"none": value}, PAIR[0]))
    for status in (None, STATUS):
        assert on_paper(figures.training_curves(losses, status)).axes[0].get_ylim() == (0.001, 1)
        on_paper(figures.mse_time_series(runs, PAIR, status))
        on_paper(figures.mse_trajectory(runs, {"none": (value, value)}, status=status))
        on_paper(figures.slopes(runs, status=status))
    on_paper(figures.seed_strip(M.summary.assign(mse=value)))
    on_paper(figures.drift(STEPS_APART, np.full((3, 4), value)))
    on_paper(figures.ratios_to_bound(M.ratios.assign(ratio=value, low=value, high=value)))
    on_paper(figures.phase_diagram(M.gaps * value, "none"))
    on_paper(figures.test_abundance_mse(truth, np.full(truth.shape, value), PAIR))
    on_paper(figures.prediction_analysis({"test": (truth, np.full_like(values, value))}, PAIR))
    assert caplog.text == ""


@pytest.mark.parametrize(("largest", "end"), [(0.97, 1.0), (1.19, 1.2), (997.0, 1000.0), (4e-9, 4e-9), (0.0, 1.0)])
def test_axes_of_abundances_end_at_a_round_number_above_the_largest(largest, end):
    assert base.reach(np.array([[0.0, largest, np.nan]])) == pytest.approx(end)


@pytest.mark.parametrize("name", ["gap", "mse_time_series"])
def test_figures_do_not_depend_on_the_users_settings(name):
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 20, "lines.linewidth": 9, "xtick.labelsize": 30}):
        figure = DRAWERS[name]()
    with mpl.rc_context({"xtick.labelsize": 30, "font.family": "monospace"}):
        assert figures.png(figure) == png_of(name)


def test_the_list_of_names_is_complete():
    public = {n for n, f in vars(figures).items() if hasattr(f, "__wrapped__")}
    assert public == set(DRAWERS)


def test_importing_changes_no_settings():
    code = (
        "from matplotlib import rcParams; before = {k: rcParams[k] for k in rcParams if k != 'backend'}\n"
        "import spectral_tutorial.figures, sys\n"
        "assert {k: rcParams[k] for k in before} == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.filterwarnings("ignore:Proactor event loop:RuntimeWarning")  # how ZeroMQ works on Windows
def test_a_notebook_shows_a_figure_once_with_and_without_pyplot():
    draw = "from spectral_tutorial import figures\nfigure = figures.continua(range(300, 1200), [4000, 5000])"
    sources = [f"{draw}\nfigure", draw, "figure"]
    cells = [nbformat.v4.new_code_cell(source) for source in (*sources, "import matplotlib.pyplot as plt", *sources)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    shown = [["image/png" in output.get("data", {}) for output in cell.outputs] for cell in cells]
    assert shown == [[True], [], [True], [], [True], [], [True]]


# --- one figure after another


def test_continua_mark_wiens_peak_where_it_is_on_the_grid():
    (ax,) = figures.continua(M.world.wavelength, [2000, 4000]).axes
    assert drawn(ax, M.world.wavelength, continuum(M.world.wavelength, 4000)[0])
    assert drawn(ax, [WIEN_NM_K / 4000], [1.0])
    assert not drawn(ax, [WIEN_NM_K / 2000], [1.0])


def test_samples_stand_on_the_continuum_of_their_own_temperature():
    figure = figures.diverse_samples(M.splits["train"], M.world)
    for row, ax in enumerate(figure.axes):
        assert drawn(ax, M.world.wavelength, M.splits["train"].flux[row])
        assert drawn(ax, M.world.wavelength, continuum(M.world.wavelength, M.splits["train"].temperature[row])[0])


def test_samples_show_each_combination_and_those_of_one_fill_the_page():
    held = [ax.get_title().split("\n")[0] for ax in figure_of("samples").axes]
    assert sorted(set(held)) == sorted({"no line", r"\$b\$ < 1", r"</script>\$"})
    both = figures.samples(M.splits["test"], "test", M.world, PAIR).axes
    assert len(both) == 6
    assert {ax.lines[0].get_color() for ax in both} == {base.SPLIT_COLORS["test"]}


def test_composition_multiplies_in_flux_and_adds_in_log_flux():
    flux, log = figure_of("composition").axes
    parts, total = [line.get_ydata() for line in flux.lines[:-1]], flux.lines[-1].get_ydata()
    np.testing.assert_allclose(np.prod(parts, axis=0), total, rtol=1e-12)
    terms, total = [line.get_ydata() for line in log.lines[:-1]], log.lines[-1].get_ydata()
    np.testing.assert_allclose(np.sum(terms, axis=0), total, rtol=0, atol=1e-12)


def test_the_dip_shrinks_in_flux_and_not_in_log_flux():
    panels = figure_of("wing").axes
    flux = [line.get_ydata().min() for line in panels[2].lines]
    log = [line.get_ydata().min() for line in panels[3].lines]
    assert flux[0] < flux[1] < flux[2] < 0
    np.testing.assert_allclose(log, log[0], rtol=1e-10)


def test_abundance_scatter_draws_every_spectrum_in_its_splits_color():
    figure = figure_of("abundance_scatter")
    for ax, (name, spectra) in zip(figure.axes, M.splits.items(), strict=True):
        assert drawn(ax, *spectra.of(*PAIR).T)
        assert ax.lines[0].get_color() == base.SPLIT_COLORS[name]
    assert "10 here" in words(figure)


def test_marginals_count_what_is_present():
    shares = figure_of("marginals").axes[2].patches
    np.testing.assert_allclose([bar.get_width() for bar in shares], [1 / 3, 1 / 3, 1 / 3, 0, 0, 0, 0, 1])


def test_curves_show_every_seed_and_the_median_of_the_live():
    (ax,) = figure_of("training_curves").axes
    wide = M.histories.pivot(index="training_seed", columns="step", values="val_loss")
    for _, losses in wide.iterrows():
        assert drawn(ax, STEPS[1:], losses)
    assert drawn(ax, STEPS[1:], wide.loc[[5, 7]].median())
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert [line.get_color() for line in dotted] == [base.MUTED] * 2


def test_time_series_start_at_step_zero():
    figure = figure_of("mse_time_series")
    for ax, component in zip(figure.axes, PAIR, strict=True):
        for split in ("val", "test"):
            part = M.trajectories[(M.trajectories["component"] == component) & (M.trajectories["split"] == split)]
            wide = part.pivot(index="training_seed", columns="step", values="mse")
            assert all(drawn(ax, STEPS, row) for _, row in wide.iterrows())
            assert drawn(ax, STEPS, wide.loc[[5, 7]].median())
        assert 0 in ax.get_xticks()
        assert ax.get_xlim()[0] < 0


def test_more_data_draws_every_network_and_what_it_is_held_against():
    figure = figure_of("more_data")
    for ax, component in zip(figure.axes, PAIR, strict=True):
        for (_, split), part in M.more[M.more["component"] == component].groupby(["hidden", "split"]):
            assert drawn(ax, part["spectra"], part["mse_median"])
            assert drawn(ax, [0, 1], [M.aims[component, split]] * 2)
        assert len(ax.collections[0].get_segments()) == 6, "quartiles"
    assert {r"hidden units \$h\$", "ideal observer"} <= set(words(figure))


@pytest.mark.parametrize(("draw", "value"), [(figures.mse_trajectory, "mse"), (figures.slopes, "slope")])
def test_paths_put_the_first_component_on_x(draw, value):
    test = M.trajectories[M.trajectories["split"] == "test"]
    x, y = (
        test[test["component"] == label].pivot(index="training_seed", columns="step", values=value) for label in PAIR
    )
    for pair, across, up in ((PAIR, x, y), (PAIR[::-1], y, x)):
        ax = draw(M.trajectories, reported=pair, status=STATUS).axes[0]
        assert all(drawn(ax, across.loc[seed], up.loc[seed]) for seed in (5, 6, 7))
        ends = [across.loc[[5, 7], 64].median()], [up.loc[[5, 7], 64].median()]
        assert drawn(ax, *ends)


def test_trajectory_marks_the_reference_points():
    figure = figures.mse_trajectory(M.trajectories, {"predict nothing": np.array([1 / 3, 0.3])})
    assert drawn(figure.axes[0], [1 / 3], [0.3])
    assert "predict nothing" in words(figure)


def test_all_seeds_dead_draws_no_median():
    dead = STATUS.assign(status="dead")
    for draw in (figures.mse_trajectory, figures.mse_time_series, figures.slopes):
        figure = draw(M.trajectories, status=dead)
        figures.png(figure)
        assert not any(line.get_linewidth() == 2.4 for line in figure.axes[0].lines)


def test_seed_strip_names_dead_and_diverged_seeds():
    figure = figure_of("seed_strip")
    assert {"6", "7", "dead seed", "diverged seed", "live seed"} <= set(words(figure))
    ax = figure.axes[0]
    marked = {line.get_gid(): (line.get_marker(), *line.get_data()) for line in ax.lines if line.get_gid() != "ok"}
    assert drawn(ax, [5], [0.01])
    assert drawn(ax, [6], [0.083])
    assert marked["dead"][0] == "X"
    assert marked["diverged"] == ("^", [7], [0.25])
    levels = {line.get_linestyle(): line.get_ydata()[0] for line in ax.lines if len(line.get_ydata()) == 2}
    assert levels == pytest.approx({"-": 0.02, ":": 0.041, "-.": 1 / 12})


def test_drift_draws_every_seed_and_the_median_where_two_predictions_differ():
    (ax,) = figure_of("drift").axes
    *seeds, median = ax.lines
    assert len(seeds) == len(APART)
    np.testing.assert_array_equal(median.get_xdata(), STEPS_APART[1:])
    np.testing.assert_allclose(median.get_ydata(), [2e-7, 2e-6, 4e-2])
    assert median.get_linewidth() > seeds[0].get_linewidth()


def test_gap_draws_medians_whiskers_and_bounds():
    for ax, component in zip(figure_of("gap").axes, PAIR, strict=True):
        rows = M.report[M.report["component"] == component]
        first = [c[:, 0].tolist() for c in curves(ax)]
        for row in rows.itertuples():
            assert [row.mse_low, row.mse_high] in first
            assert [row.mse_median] in first
            assert [row.crlb, row.crlb] in first
        assert ax.get_xscale() == "log"


def test_plane_colors_are_medians_of_the_errors():
    truth = M.splits["test"].of(*PAIR)
    left, right, _ = figures.test_abundance_mse(truth, np.full((9, 2), [1e-3, 0.1]), PAIR).axes
    np.testing.assert_allclose(left.collections[0].get_array(), 1e-3)
    np.testing.assert_allclose(right.collections[0].get_array(), 0.1)
    figures.png(figures.test_abundance_mse(truth, np.full((9, 2), np.nan), PAIR))


def test_predictions_of_all_seeds_are_drawn():
    panels = np.array(figure_of("prediction_analysis").axes).reshape(2, 2)
    for column, (truth, values) in enumerate(M.predictions.values()):
        for k in range(2):
            assert drawn(panels[k, column], np.tile(truth[:, k], 4), values[:, :, k].ravel())
            assert drawn(panels[k, column], [0, 1], [0, 1])


def colored(ax, color):
    """Places of all markers of one color in a panel."""
    lines = [line for line in ax.lines if line.get_color() == color and line.get_marker() != "None"]
    return sorted(place for line in lines for place in zip(*map(np.atleast_1d, line.get_data()), strict=True))


def test_beliefs_color_each_spectrum_by_what_is_most_probable():
    truth, probability = M.truth, M.belief
    places = [tuple(place) for place in truth.tolist()]
    for order in ([0, 1, 2], [0, 2, 1]):  # the color goes with the name
        figure = figures.beliefs(truth, probability[:, order], [M.held[k] for k in order], PAIR)
        (ax,) = figure.axes
        assert colored(ax, base.MUTED) == []
        undecided = places[4:5]  # counts for the set that is named first
        x, y = sorted(places[2:4]), sorted(places[:2])
        assert colored(ax, base.COMPONENT_COLORS[0]) == sorted(x + undecided * (order[1] == 1))
        assert colored(ax, base.COMPONENT_COLORS[1]) == sorted(y + undecided * (order[1] == 2))
        assert {"nothing (0)", rf"\$b\$ < 1 alone ({3 - (order[1] == 2)})"} <= set(words(figure))


def test_no_spectrum_and_no_belief_leave_an_empty_plane():
    for truth, belief in ((np.zeros((0, 2)), np.zeros((0, 2))), ([[0.2, 0.4]], [[np.nan, np.nan]])):
        figure = figures.beliefs(truth, belief, ["a", "b"], PAIR)
        figures.png(figure)
        assert {"a (0)", "b (0)"} <= set(words(figure))
        assert figure.axes[0].get_xlim() == (0, 1)


def test_slope_by_other_abundance_are_named_where_they_end():
    figure = figure_of("slope_by_other_abundance")
    (ax,) = figure.axes
    for method in M.slopes:
        assert drawn(ax, range(3), M.slopes[method])
    assert {line.get_ydata()[0] for line in ax.lines if line.get_marker() == "None"} == {0, 1}
    places = {text.get_text(): text.xy[1] for text in ax.texts}
    assert list(places) == ["network", "lost", r"\$o\$"]  # from below; what has no number has no end
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines[2:]}) == 4
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.0 to 0.3", "0.3 to 0.6", r"\$0.6\$ to 1"]


def test_combinations_shown_stand_at_their_counts():
    figure = figure_of("combinations_shown")
    (ax,) = figure.axes
    assert ax.get_xticks().tolist() == [0, 4, 16, 64, 1024]
    order = ["network", "$shown_4$", "shown_16", "dead", "oracle"]
    whiskers = np.concatenate([path.vertices for lines in ax.collections for path in lines.get_paths()])
    for k in range(2):
        errors = [METHODS[name][k] for name in order]
        assert drawn(ax, [0, 4, 16, 64, 1024], errors)
        for count, error in ((0, errors[0]), (1024, errors[-1])):
            for end in (error / 1.2, error * 1.3):
                assert np.isclose(whiskers, [count, end], rtol=1e-9).all(axis=1).any()
    assert drawn(ax, [0, 1], [0.00107] * 2)
    assert {"Cramér-Rao bound", "validation (ID)", "test (OOD)"} <= set(words(figure))


def panel_rows(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_every_method_has_a_row_below_what_it_was_told_the_best_first():
    (ax,) = figures.every_method(M.everything, TOLD, LANDMARKS, PAIR[0]).axes
    rows = [None, "network", "tied", "dropout", "dead", None, "oracle", "shown_16", "$shown_4$"]
    single, combination = [r"single \$lines", "network", "tied", "dropout", "dead"], ["the combination", "the oracle"]
    assert panel_rows(ax) == [*single, *combination, "shown_16", r"\$4\$ shown"]
    weights = [label.get_fontweight() for label in ax.get_yticklabels()]
    assert weights == ["normal" if name else "bold" for name in rows]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is the upper one
    for place, name in enumerate(rows):
        if name in METHODS and name != "dead":
            known, held = METHODS[name]
            assert drawn(ax, [held], [place])
            assert drawn(ax, [known], [place])
            assert drawn(ax, [held / 1.2, held * 1.3], [place] * 2)
    lost = [text for text in ax.texts if text.get_text() == "no live run"]
    assert [text.xy[1] for text in lost] == [rows.index("dead")]


def test_the_bound_and_the_landmarks_stand_at_their_errors():
    (ax,) = figures.every_method(M.everything, TOLD, LANDMARKS | {"unknown": np.nan, "perfect": 0.0}, PAIR[0]).axes
    upright = {float(line.get_xdata()[0]): line for line in ax.lines if len(set(line.get_ydata())) == 2}
    assert sorted(upright) == pytest.approx([0.00107, *sorted(LANDMARKS.values())])
    bound = upright.pop(0.00107)
    assert bound.get_color() == base.BOUND_LINE["color"]
    assert {line.get_linestyle() for line in upright.values()} == {":"}
    names = {text.get_text(): text.xy[0] for text in ax.texts}
    assert names["Cramér-Rao bound"] == 0.00107
    assert names[r"costs \$1"] == 0.083
    assert not {"unknown", "perfect"} & set(names)


def test_one_method_no_number_and_no_row_are_drawn():
    lost = M.everything.assign(**dict.fromkeys(("mse_median", "mse_low", "mse_high", "crlb"), np.nan))
    for table, rows in ((M.everything[M.everything["method"] == "oracle"], 2), (lost, 9), (M.everything[:0], 0)):
        every = figures.every_method(table, TOLD, {}, PAIR[0])
        shown = figures.combinations_shown(table, COUNTS, PAIR[0])
        figures.png(every)
        figures.png(shown)
        assert len(panel_rows(every.axes[0])) == rows
        assert ("Cramér-Rao bound" in words(every)) == ("Cramér-Rao bound" in words(shown)) == (rows == 2)
        assert words(every).count("no live run") == (7 if rows == 9 else 0)


def test_templates_lie_on_the_truth():
    learned, true = M.learned, M.true
    figure = figure_of("templates")
    for ax, label in zip(figure.axes, PAIR, strict=True):
        thick, thin = ax.lines
        np.testing.assert_array_equal(thick.get_ydata(), true[label])
        np.testing.assert_array_equal(thin.get_ydata(), learned[label])
        assert thick.get_linewidth() > 2 * thin.get_linewidth()
        assert thick.get_zorder() <= thin.get_zorder()
    assert len({ax.get_ylim() for ax in figure.axes}) == 1
    only = figures.templates(M.world.wavelength, {"a": np.full(60, np.nan)}, {"a": np.ones(60)})
    figures.png(only)
    assert only.axes[0].get_title() == "a"


def test_alarms_have_a_mark_and_whiskers_for_each_share_and_a_line_at_the_false_ones():
    figure = figure_of("alarms")
    for ax, (label, tables) in zip(figure.axes, M.shares.items(), strict=True):
        assert ax.get_xlabel() == base.text(label, 40)
        marks = [line.get_ydata() for line in ax.lines if line.get_marker() != "None"]
        np.testing.assert_array_equal(marks, [table["median"] for table in tables.values()])
        for whiskers, table in zip(ax.collections, tables.values(), strict=True):
            ends = [path.vertices[:, 1] for path in whiskers.get_paths()]
            np.testing.assert_array_equal(ends, table[["low", "high"]])
        assert any(line.get_linestyle() == ":" and set(line.get_ydata()) == {0.01} for line in ax.lines)
        assert [tick.get_text() for tick in ax.get_xticklabels()] == [base.text(name, 12) for name in table.index]
    assert "false alarms" in words(figure)


def test_ratios_stand_in_the_row_of_their_world_and_large_ones_are_numbers():
    figure = figure_of("ratios_to_bound")
    numbers = [{text.get_text() for text in ax.texts} for ax in figure.axes]
    assert numbers == [{"60", "90", "4,000"}, {"2.0", "1.6"}]
    assert panel_rows(figure.axes[0]) == ["c13 / c2", r"\$x\$ / c4"]
    for ax, component in zip(figure.axes, PAIR, strict=True):
        assert ax.get_ylim() == (1.5, -0.5)  # two rows, the first above
        low, high = ax.get_xlim()
        for row in M.ratios[M.ratios["component"] == component].to_dict("records"):
            (place,) = (line.get_ydata()[0] for line in ax.lines if line.get_xdata()[0] == row["ratio"])
            assert abs(place - (row["group"] != "c13 / c2")) < 0.5
            assert low < row["ratio"] < high
        assert any(line.get_linestyle() == "--" and line.get_xdata()[0] == 1 for line in ax.lines)


def test_ratios_have_whiskers_where_the_table_has_an_interval():
    spread = M.ratios.assign(low=M.ratios["ratio"] / 2, high=M.ratios["ratio"] * 2)
    spread.loc[spread.index[0], ["low", "high"]] = np.nan
    figure = figures.ratios_to_bound(spread)
    for ax, component in zip(figure.axes, PAIR, strict=True):
        drawn = [tuple(path.vertices[:, 0]) for lines in ax.collections for path in lines.get_paths()]
        rows = spread[spread["component"] == component].dropna()
        assert sorted(drawn) == sorted(zip(rows["low"], rows["high"], strict=True))
    assert not any(ax.collections for ax in figure_of("ratios_to_bound").axes)


def test_rows_that_are_methods_have_their_names_at_the_left_only():
    figure = figures.ratios_to_bound(
        M.ratios[M.ratios["group"] == "c13 / c2"].assign(group=lambda table: table["method"])
    )
    assert panel_rows(figure.axes[0]) == ["network", r"\$decoder\$"]
    assert sorted(line.get_ydata()[0] for line in figure.axes[0].lines if line.get_marker() != "None") == [0, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["Cramér-Rao bound"]


def test_tied_ratios_are_both_seen_and_what_is_no_number_is_left_out():
    tied = figures.ratios_to_bound(M.ratios.assign(ratio=1.2))
    for ax in tied.axes:
        dots = [line for line in ax.lines if line.get_xdata()[0] == 1.2]
        assert len({line.get_ydata()[0] for line in dots}) == 4
        assert not ax.texts  # 1.2 needs no number
    none = figures.ratios_to_bound(M.ratios.assign(ratio=[np.nan, np.inf, 0.0, -1.0] * 2))
    figures.png(none)
    assert not any(line.get_marker() != "None" for ax in none.axes for line in ax.lines)
    one = figures.ratios_to_bound(M.ratios[:1])
    figures.png(one)
    assert [text.get_text() for text in one.axes[0].texts] == ["60"]


def test_a_phase_diagram_has_every_number_in_its_place_and_leaves_holes_white():
    figure = figures.phase_diagram(M.gaps, "error / error")
    ax, bar = figure.axes
    placed = {text.get_text(): text.get_position() for text in ax.texts}
    assert placed["271"] == (0.5, 0.5)
    assert placed["5.6"] == (2.5, 0.5)
    assert placed["9.0"] == (0.5, 1.5)
    assert "nan" not in placed
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [r"\$b\$ < 1", "c + d"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is above
    (mesh,) = ax.collections
    assert mesh.get_array().mask.ravel().tolist() == [False, False, False, False, True, False]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (2.3, 271.4)
    assert bar.get_ylabel() == "error / error"
    figures.png(figures.phase_diagram(M.gaps * np.nan, "nothing"))
    figures.png(figures.phase_diagram(M.gaps.iloc[:1, :1], "one"))
