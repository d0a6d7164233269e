"""Memory does not grow with the number of spectra, nor does the time for each; tests/benchmarks takes a million."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers import REPOSITORY

ALLOWED_MIB = 3 * 1024
MILLION = 1_000_000


def measured(folder: Path, n: int, n_seeds: int = 2) -> pd.DataFrame:
    """Run tests/benchmarks/million.py in a process of its own with one thread: a row a step."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("private memory is read from /proc")
    script = REPOSITORY / "tests" / "benchmarks" / "million.py"
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, str(script), str(folder), str(n), str(n_seeds)]
    environment = {**os.environ, **threads, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    return pd.DataFrame(json.loads(done.stdout.splitlines()[-1])).T


@pytest.mark.nightly
def test_memory_and_time_hardly_grow_with_the_spectra(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With 20,000 and 60,000 spectra of 1024 bins, the larger ones' inputs in a file as a million's would be."""
    few, many = 20_000, 60_000
    small, large = (measured(tmp_path / str(n), n) for n in (few, many))
    growth = (large["private_mib"].max() - small["private_mib"].max()) / (many - few)
    million = large["private_mib"].max() + growth * (MILLION - many)
    ratio = (large["busy"].sum() / many) / (small["busy"].sum() / few)
    with capsys.disabled():
        print(f"\n{1024 * growth:.2f} kB a spectrum, {million:.0f} MiB for a million; {ratio:.2f} x the time for each")
    assert million <= ALLOWED_MIB
    assert ratio <= 1.3
