"""How time and memory grow with spectra and with seeds.

A million spectra of 1024 bins: at most 3 GiB of private memory, and not much more time for each than of 10,000. That
takes minutes and 12 GB of disk, so it is only run where ``SPECTRAL_TUTORIAL_MILLION`` is set; a small version is in
tests/test_memory.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from test_memory import ALLOWED_MIB, MILLION, measured


@pytest.mark.nightly
@pytest.mark.skipif(not os.environ.get("SPECTRAL_TUTORIAL_MILLION"), reason="SPECTRAL_TUTORIAL_MILLION is not set")
def test_a_million_spectra(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, large = (measured(tmp_path / str(n), n) for n in (10_000, MILLION))
    ratio = (large["seconds"].sum() / MILLION) / (small["seconds"].sum() / 10_000)
    tables = "\n".join(f"{n:,} spectra:\n{table.round(1)}" for n, table in ((10_000, small), (MILLION, large)))
    with capsys.disabled():
        print(f"\n{tables}\n{ratio:.2f} x the time for each")
    assert large["private_mib"].max() <= ALLOWED_MIB
    assert ratio <= 1.3


@pytest.mark.nightly
def test_memory_and_time_against_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """4,096 spectra; the weights, their gradients and the optimizer's two moments take 2.1 MiB a seed."""
    found = {n: measured(tmp_path / str(n), 4096, n) for n in (1, 4, 16, 64)}
    table = pd.DataFrame({n: {"MiB": part["private_mib"].max(), **part["seconds"]} for n, part in found.items()}).T
    a_seed = (table.loc[64, "MiB"] - table.loc[1, "MiB"]) / 63
    with capsys.disabled():
        print(f"\n{table.round(2).rename_axis('seeds')}\n{a_seed:.1f} MiB a seed")
    assert a_seed <= 32
    assert table.loc[64, "train"] <= 64 * table.loc[1, "train"]
