"""Arrays and tables in, matplotlib figures out; nothing is computed here beyond what drawing needs.

Every function returns a figure that shows itself once as the last expression of a notebook cell, is unknown
to pyplot (nothing stays open) and keeps the book's style (``style.mplstyle``) whenever it is drawn.
Functions with a single panel draw into `ax` where one is given, and then return the figure of that `ax`.

One visual language: each split and each of the two reported components has one color everywhere, from the
palette of Okabe and Ito (2008), which color-blind readers can tell apart; network, oracle and fooled differ
by line style, dead and diverged seeds by marker; methods in one panel differ by color and marker, in their order;
the Cramér-Rao bound is always the same dashed dark line.

Arguments that come back: `reported`, the names of the x and the y component; `trajectories`, a table of
variant, data_seed, training_seed, step, split, component and a value (mse or slope), split "val" being
in-distribution (ID) and "test" out-of-distribution (OOD); `status`, a table of variant, data_seed,
training_seed and status: dead and diverged runs are drawn gray and enter no median. ``N`` spectra, ``L``
lines, ``W`` bins, ``S`` seeds.
"""

from spectral_tutorial.figures.base import (
    BOUND_LINE,
    COMPONENT_COLORS,
    DARK,
    MUTED,
    PALE,
    SPLIT_COLORS,
    SPLIT_NAMES,
    STATUS_MARKERS,
    STYLE,
    VARIANT_LINES,
    StyledFigure,
    png,
)
from spectral_tutorial.figures.base import _styled as _styled  # the explorers' pictures wear the same clothes
from spectral_tutorial.figures.base import _text as _text
from spectral_tutorial.figures.closing import (
    combinations_shown,
    every_method,
    ratios_to_bound,
    templates,
)
from spectral_tutorial.figures.errors import (
    gap,
    mse_time_series,
    mse_trajectory,
    prediction_analysis,
    slopes,
    test_abundance_mse,
)
from spectral_tutorial.figures.reasons import beliefs, slope_by_company
from spectral_tutorial.figures.spectra import (
    abundance_scatter,
    composition,
    continua,
    diverse_samples,
    marginals,
    noise_levels,
    spectral_lines,
    test_samples,
    train_samples,
    wing,
)
from spectral_tutorial.figures.sweeps import phase_diagram
from spectral_tutorial.figures.training import drift, seed_strip, training_curves

__all__ = [
    "BOUND_LINE",
    "COMPONENT_COLORS",
    "DARK",
    "MUTED",
    "PALE",
    "SPLIT_COLORS",
    "SPLIT_NAMES",
    "STATUS_MARKERS",
    "STYLE",
    "VARIANT_LINES",
    "StyledFigure",
    "abundance_scatter",
    "beliefs",
    "combinations_shown",
    "composition",
    "continua",
    "diverse_samples",
    "drift",
    "every_method",
    "gap",
    "marginals",
    "mse_time_series",
    "mse_trajectory",
    "noise_levels",
    "phase_diagram",
    "png",
    "prediction_analysis",
    "ratios_to_bound",
    "seed_strip",
    "slope_by_company",
    "slopes",
    "spectral_lines",
    "templates",
    "test_abundance_mse",
    "test_samples",
    "train_samples",
    "training_curves",
    "wing",
]
