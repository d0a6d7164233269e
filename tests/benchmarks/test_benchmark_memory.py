"""A million spectra of 1024 bins: at most 3 GiB of private memory, and not much more time for each than of 10,000.

It takes minutes and 12 GB of disk, so it is only run where ``SPECTRAL_TUTORIAL_MILLION`` is set; a small version is in
tests/test_memory.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from test_memory import ALLOWED_MIB, MILLION, measured


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("SPECTRAL_TUTORIAL_MILLION"), reason="SPECTRAL_TUTORIAL_MILLION is not set")
def test_a_million_spectra(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, large = (measured(tmp_path / str(n), n) for n in (10_000, MILLION))
    ratio = (large["seconds"].sum() / MILLION) / (small["seconds"].sum() / 10_000)
    tables = "\n".join(f"{n:,} spectra:\n{table.round(1)}" for n, table in ((10_000, small), (MILLION, large)))
    with capsys.disabled():
        print(f"\n{tables}\n{ratio:.2f} x the time for each")
    assert large["private_mib"].max() <= ALLOWED_MIB
    assert ratio <= 1.3
