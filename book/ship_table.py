"""Tables that take too long for a build: computed by one command, shipped with the book, looked after once a week.

``python book/ship_table.py SWEEP.yaml`` runs a sweep, or the rest of it, and writes ``book/tables/SWEEP.csv``, whose
first lines say by which command, from which commit and when. With ``--check`` it writes nothing and says whether the
shipped table still holds. A chapter that shows such a table computes a few of its cells again and asks the same.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from spectral_tutorial import methods, sweep

TABLES = Path(__file__).resolve().parent / "tables"
NETWORK, OTHER = 1.5, 1.01
"""Factors by which a median error may differ on another machine: training multiplies roundings, nothing else does."""


def deviations(shipped: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """Rows of `again` that the shipped table lacks, or whose median error or bound is another one there.

    On one machine all numbers are the same, but for being shipped in four digits. Elsewhere a network's median may
    differ by a factor of ``NETWORK``, that of another method and a bound by ``OTHER``.
    """
    keys = [*again][: again.columns.get_loc("split") + 1]  # the values of the grid, method, component, split
    wanted = [*keys, "mse_median", "crlb"]
    both = again[wanted].merge(shipped[wanted], "left", keys, suffixes=("", "_shipped"))
    trained = both["method"].map(lambda name: isinstance(methods.get_method(name), methods.Network))
    within = pd.Series(True, both.index)
    for column, most in (("mse_median", trained.map({True: NETWORK, False: OTHER})), ("crlb", OTHER)):
        within &= (both[column] / both[f"{column}_shipped"]).between(1 / most, most)
    return both[~within]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compute a table and ship it, or check the shipped one; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="SWEEP.yaml")
    parser.add_argument("--check", action="store_true", help="hold the shipped table against what is computed")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    found, shipped = sweep.load(given.file), TABLES / f"{given.file.stem}.csv"
    table = found.run(workers=None)
    if len(found.failures()):
        print(found.failures().to_string(index=False), file=sys.stderr)
        return 1
    if given.check:
        other = deviations(pd.read_csv(shipped, comment="#"), table)
        print(f"{shipped.name}: {len(other)} of {len(table)} rows do not hold", other.to_string(), sep="\n")
        return int(len(other) > 0)
    version = ["git", "-C", str(TABLES.parent), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(version, capture_output=True, text=True, check=False).stdout.strip() or "not known"
    TABLES.mkdir(exist_ok=True)
    with shipped.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(f"# command: python book/ship_table.py book/{given.file.name}\n")
        stream.write(f"# commit: {commit}\n# date: {datetime.now(UTC).date()}\n")
        table.to_csv(stream, index=False, lineterminator="\n", float_format="%.4g")
    return 0


if __name__ == "__main__":
    sys.exit(main())
