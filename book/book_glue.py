"""Numbers that the prose of a page quotes, glued in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from myst_nb import glue


def glue_all(facts: Mapping[str, Any] | pd.Series, prefix: str = "") -> None:
    """Glue each value under `prefix` and its name, so that prose can quote it as ``{glue:text}`prefix-name:.2f```.

    NumPy's numbers become Python's: a page would show ``np.float64(0.5)`` otherwise.
    """
    for name, value in facts.items():
        glue(f"{prefix}{name}", value.item() if hasattr(value, "item") else value, display=False)
