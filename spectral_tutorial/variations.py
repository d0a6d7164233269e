"""The variations of analysis.yaml: what is asked in each, and one table of all."""

from __future__ import annotations

from typing import Any

import pandas as pd

from spectral_tutorial.config import Config
from spectral_tutorial.methods import METHODS, is_known
from spectral_tutorial.reading import config_error, one_of, show

METHODS_ASKED = ("ridge_log", "synthesis", "decoder")
"""What is asked in a variation that does not name its own methods."""


def methods_of(config: Config, variation: str) -> list[str]:
    """Return the methods that a variation is about.

    Raises
    ------
    ConfigError
        If there is a method among them that is not known.
    """
    asked = config.analysis.variations[variation].get("methods", METHODS_ASKED)
    file, key = config.meta.analysis_config_path, f"variations.{variation}.methods"
    if not isinstance(asked, list | tuple) or not asked:
        raise config_error(file, key, show(asked), "a list of methods")
    for name in asked:
        if not is_known(str(name)):
            raise config_error(file, key, show(name), one_of(METHODS, name))
    return [str(name) for name in asked]


def check(config: Config) -> None:
    """Refuse a variation that cannot be used, with a ConfigError, without computing anything."""
    for name in config.analysis.variations:
        config.variation(name)
        methods_of(config, name)


def report(experiment: Any) -> pd.DataFrame:
    """Error over the Cramér-Rao bound in every variation of an Experiment, for the methods asked there.

    Leaves each variation's own tables in its folder.

    Returns
    -------
    DataFrame
        Columns variation, method, component, all, low, high, quietest, middle, noisiest, see
        :meth:`Experiment.ratio_by_noise`; and place, whether the component is the first or the second of its pair.
    """
    tables = []
    for name in experiment.config.analysis.variations:
        inner = experiment.variation(name)
        done = inner.possible(methods_of(experiment.config, name), inner.trajectories)
        inner.gap_report(*done)
        place = dict(zip(inner.reported, ("first of the pair", "second of the pair"), strict=True))
        table = inner.ratio_by_noise(*done)
        table.insert(0, "variation", name)
        tables.append(table.assign(place=table["component"].map(place)))
    return pd.concat(tables, ignore_index=True)
