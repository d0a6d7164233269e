"""Tables that the book ships: how they are made, and what still counts as the same table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import yaml
from helpers import REPOSITORY, write_experiment

from spectral_tutorial import sweep

QUICK = {"training.checkpoint_by": "ratio", "training.checkpoint_ratio": 1.0, "analysis.n_data_seeds": 2}


@pytest.fixture
def ship_table(tmp_path: Path) -> Iterator[ModuleType]:
    """The script, with a folder of tables of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(REPOSITORY / "book")
        import ship_table  # type: ignore[import-not-found]

        patch.setattr(ship_table, "TABLES", tmp_path / "tables")
        yield ship_table


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A sweep of two pairs, asked of a network and a linear method."""
    write_experiment(tmp_path)
    grid = {"pair": [["comp6", "comp4"], ["comp1", "comp2"]]}
    given = {"base": "meta_config.yaml", "sweep_dir": "sweep", "methods": ["network", "ridge_log"], "grid": grid}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(given | {"fixed": QUICK}), encoding="utf-8")
    return tmp_path / "small.yaml"


SHIPPED_TABLES = sorted((REPOSITORY / "book" / "tables").glob("*.csv"))
WEEKLY = {"pairs", "curve", "curve_long", "seeds"}
"""Sweeps that take longer: the workflow computes them, in jobs of their own, and no test does."""


@pytest.mark.parametrize("path", SHIPPED_TABLES, ids=lambda path: path.stem)
def test_every_shipped_table_comes_from_a_sweep_and_is_looked_after(path: Path) -> None:
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "book.yml").read_text(encoding="utf-8"))
    assert path.stem in workflow["jobs"]["tables"]["strategy"]["matrix"]["sweep"]
    found, head = sweep.load(REPOSITORY / "book" / f"{path.stem}.yaml"), path.read_text(encoding="utf-8").splitlines()
    assert head[0] == f"# command: python book/ship_table.py book/{path.stem}.yaml"
    assert re.fullmatch(r"# commit: [0-9a-f]{7,40}", head[1]), "computed from what was not committed"
    assert f"/book/{found.directory.name}/" in (REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()
    table = pd.read_csv(path, comment="#")
    axes = [name for name in found.axes if name != "method"]
    cells = {tuple(sweep._text(cell.values[name]) for name in axes) for cell in found.plan}
    assert set(table[axes].astype(str).itertuples(index=False, name=None)) == cells


@pytest.mark.nightly
@pytest.mark.parametrize("name", sorted({path.stem for path in SHIPPED_TABLES} - WEEKLY))
def test_a_shipped_table_still_comes_out(copy_project: Callable[[], Path], name: str) -> None:
    folder = copy_project()
    command = [sys.executable, "book/ship_table.py", "--check", f"book/{name}.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_shipped_table_says_where_it_comes_from_and_is_held_against_a_few_cells(
    ship_table: ModuleType, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ship_table.main([str(file)]) == 0
    path = ship_table.TABLES / "small.csv"
    head = path.read_text(encoding="utf-8").splitlines()[:3]
    assert head[0] == "# command: python book/ship_table.py book/small.yaml"
    assert re.fullmatch(r"# commit: \S.*", head[1])
    assert re.fullmatch(r"# date: \d{4}-\d\d-\d\d", head[2])
    table = pd.read_csv(path, comment="#")
    again = sweep.load(file).run(only=[1])
    assert len(table) == 2 * 2 * 2 * 2
    assert ship_table.deviations(table, again).empty

    assert ship_table.main(["--check", str(file)]) == 0
    path.write_text(path.read_text(encoding="utf-8").replace("comp6", "comp5"), encoding="utf-8")
    assert ship_table.main(["--check", str(file)]) == 1
    assert "small.csv: 8 of 16 rows do not hold" in capsys.readouterr().out


def rows() -> pd.DataFrame:
    """One row of a network and one of another method."""
    row = {"pair": "a + b", "component": "a", "split": "test", "mse_median": 0.01, "crlb": 0.001}
    return pd.DataFrame([{"method": name, **row} for name in ("network+16", "decoder")])[
        ["pair", "method", "component", "split", "mse_median", "crlb"]
    ]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda table: table, []),
        (lambda table: table.assign(mse_median=0.01002), []),
        (lambda table: table.assign(mse_median=0.012), ["decoder"]),
        (lambda table: table.assign(mse_median=0.02), ["network+16", "decoder"]),
        (lambda table: table.assign(crlb=0.00102), ["network+16", "decoder"]),
        (lambda table: table.assign(mse_median=float("nan")), ["network+16", "decoder"]),
        (lambda table: table[1:], ["network+16"]),
    ],
)
def test_rounding_passes_and_another_table_does_not(
    ship_table: ModuleType, change: Callable[[pd.DataFrame], pd.DataFrame], found: list[str]
) -> None:
    assert ship_table.deviations(change(rows()), rows())["method"].tolist() == found
