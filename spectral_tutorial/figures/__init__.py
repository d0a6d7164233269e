"""Arrays and tables in, matplotlib figures out; nothing is computed here beyond what drawing needs.

Every function returns a figure that shows itself once as the last expression of a notebook cell, is unknown
to pyplot (nothing stays open) and keeps the book's style (``style.mplstyle``) whenever it is drawn.

One visual language: each split and each of the two reported components has one color everywhere, from the
palette of Okabe and Ito (2008), which color-blind readers can tell apart; network, oracle and fooled differ
by line style, dead, diverged and unfinished seeds by marker; each method has one color and marker in every figure; the
Cramér-Rao bound is always the same dashed dark line. What has no place on a logarithmic axis (a bound of zero or
infinity, a loss that is not a number) is left out. Labels show only characters that matplotlib's own font has, and
are shortened to fit.

Arguments that come back:

- `reported`, the labels of the x and the y component;
- `names`, label to the name shown in its place (``Experiment.names``); without one, the label is shown;
- `report`, a table of method, component, split, mse_median, mse_low, mse_high (whiskers) and crlb;
- `trajectories`, a table of method, data_seed, training_seed, step, split, component and a value (mse or slope);
- `status`, a table of method, data_seed, training_seed and status: dead and diverged runs are drawn gray and
  enter no median.

Split "val", the validation set, is in distribution (ID), "test" out of distribution (OOD). ``N`` spectra, ``L`` lines,
``W`` bins, ``S`` seeds, ``C`` checkpoints.
"""

from spectral_tutorial.figures.base import png
from spectral_tutorial.figures.errors import beliefs, gap, prediction_analysis, readings, test_abundance_mse
from spectral_tutorial.figures.methods import (
    alarms,
    combinations_shown,
    every_method,
    phase_diagram,
    ratios_to_bound,
    slope_by_other_abundance,
    templates,
)
from spectral_tutorial.figures.spectra import (
    abundance_scatter,
    composition,
    continua,
    diverse_samples,
    marginals,
    noise_levels,
    samples,
    spectral_lines,
    wing,
)
from spectral_tutorial.figures.training import (
    drift,
    more_data,
    mse_time_series,
    mse_trajectory,
    seed_strip,
    slopes,
    training_curves,
)
