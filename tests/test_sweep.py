"""Sweeps: one table whoever computes it, nothing finished twice, and one sentence for whatever a person can mend."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers import REPOSITORY, SHIPPED, content, files_in, small_experiment, write_experiment

from spectral_tutorial import Experiment, analysis, cli, executors, sweep
from spectral_tutorial.config import ConfigError, load

PAIRS, RATES = [["comp6", "comp4"], ["comp1", "comp2"]], [1e-3, 3e-3]
ENDS = {"training.checkpoint_by": "ratio", "training.checkpoint_ratio": 1.0}
N_CELLS = 4
INTERRUPTED = "Interrupted; what was finished before is kept, and the same command goes on from there."
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}


def write_sweep(folder: Path, **changes: Any) -> Path:
    """Write an experiment and a sweep of four cells, each a fraction of a second; None leaves a key out."""
    write_experiment(folder)
    grid = {"pair": PAIRS, "training.learning_rate": RATES}
    given = {"base": "meta_config.yaml", "sweep_dir": "sweep", "training_seed": [123, 124], "fixed": ENDS, "grid": grid}
    given = {key: value for key, value in (given | changes).items() if value is not None}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    return folder / "sweep.yaml"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table that every way of computing has to give."""
    found = sweep.load(write_sweep(tmp_path_factory.mktemp("serial")))
    found.run()
    return found.table.read_bytes()


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cells that this process computes, in order."""
    names: list[str] = []

    def measure(cell: sweep.Cell) -> sweep.Outcome:
        names.append(str(cell))
        return original(cell)

    original = sweep.measure
    monkeypatch.setattr(sweep, "measure", measure)
    return names


def stop_after(n: int) -> Callable[[int, int], None]:
    def progress(finished: int, total: int) -> None:
        if finished == n:
            raise KeyboardInterrupt

    return progress


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "spectral_tutorial", "sweep", *map(str, arguments)]


# --- the table


def test_the_table_is_the_gap_report_of_every_cell_in_the_order_of_the_grid(tmp_path: Path) -> None:
    found = sweep.load(write_sweep(tmp_path, methods=["network", "network+16"]))
    assert found.cells == [{"pair": pair, "training.learning_rate": rate} for pair in PAIRS for rate in RATES]
    table = found.run()
    assert list(table.columns) == ["pair", "training.learning_rate", *analysis.REPORT_COLUMNS]
    per_cell = 2 * 2 * 2  # methods, components, splits
    assert table["pair"].tolist() == np.repeat(["comp6 + comp4", "comp1 + comp2"], 2 * per_cell).tolist()
    assert table["training.learning_rate"].tolist() == np.tile(np.repeat(RATES, per_cell), 2).tolist()

    changes = {**ENDS, "meta.training_seed": [123, 124], "pair": PAIRS[1], "training.learning_rate": RATES[1]}
    alone = Experiment(load(tmp_path / "meta_config.yaml").with_changes(changes)).gap_report("network", "network+16")
    pd.testing.assert_frame_equal(
        table.iloc[-per_cell:, 2:].reset_index(drop=True), alone, check_dtype=False, rtol=1e-4
    )


def test_the_folder_holds_what_is_documented_and_nothing_else_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    found = sweep.load(write_sweep(tmp_path))
    before = files_in(tmp_path)
    found.run()
    finished = {f"sweep/cells/{cell.digest}/{name}" for cell in found.plan for name in ("report.csv", "status.json")}
    lock = {"sweep/.lock"}  # Windows deletes it when it is released
    files = {"sweep/table.csv", "sweep/seconds.csv", f"sweep/{sweep.RECORD}"}
    assert files_in(tmp_path) - before - lock == finished | files
    assert not list((tmp_path / "temporary").iterdir())


def test_experiments_stay_on_demand(tmp_path: Path) -> None:
    found = sweep.load(write_sweep(tmp_path, keep=True, grid={"pair": PAIRS}))
    table = found.run()
    for cell in found.plan:
        assert cell.config.exp_dir == tmp_path / "sweep" / "experiments" / cell.digest
        kept = Experiment(cell.config).gap_report("network")
        assert kept["mse_median"].isin(table["mse_median"]).all()


def test_a_method_can_be_an_axis(tmp_path: Path, computed: list[str]) -> None:
    listed = sweep.load(write_sweep(tmp_path / "listed", methods=["network", "ridge_log"], grid=None)).run()
    found = sweep.load(write_sweep(tmp_path / "axis", grid={"method": ["network", "ridge_log"]}))
    axis = found.run()
    assert found.cells == [{"method": "network"}, {"method": "ridge_log"}]
    assert computed == ["the only cell", "method network", "method ridge_log"]
    pd.testing.assert_frame_equal(axis, listed)


def test_the_table_grows_as_cells_arrive(tmp_path: Path) -> None:
    found, rows = sweep.load(write_sweep(tmp_path)), []

    def progress(finished: int, total: int) -> None:
        rows.append((finished, len(pd.read_csv(found.table)), total))

    found.run(progress=progress)
    assert rows == [(n, 4 * n, N_CELLS) for n in range(N_CELLS + 1)]


def test_values_of_every_kind_are_written_plainly(tmp_path: Path) -> None:
    grid = {"training.hidden_dims": [[16, 8], [8]], "spectra.line_law": ["linear"], "meta.training_seed": [123]}
    text = (sweep.load(write_sweep(tmp_path, grid=grid, training_seed=None)).run(), (tmp_path / "sweep" / "table.csv"))
    assert text[0]["training.hidden_dims"].unique().tolist() == ["[16, 8]", "[8]"]
    assert text[1].read_text(encoding="utf-8").splitlines()[1].startswith('"[16, 8]",linear,123,network,comp6,val,')


def test_the_example_of_the_reference_page_can_be_run(tmp_path: Path) -> None:
    page = (REPOSITORY / "book" / "reference" / "sweeps.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    shutil.copytree(SHIPPED.parent / "configs", tmp_path / "configs")
    shutil.copyfile(SHIPPED, tmp_path / "meta_config.yaml")
    (tmp_path / "sweep.yaml").write_text(example, encoding="utf-8")
    found = sweep.load(tmp_path / "sweep.yaml")
    assert len(found.cells) == 4


# --- nothing finished is computed twice


def test_finished_cells_are_found_again(tmp_path: Path, computed: list[str]) -> None:
    path = write_sweep(tmp_path)
    first = sweep.load(path).run()
    before = content(tmp_path)
    pd.testing.assert_frame_equal(sweep.load(path).run(), first)
    assert len(computed) == N_CELLS
    assert content(tmp_path) == before


def test_another_grid_keeps_the_cells_that_it_shares(tmp_path: Path, computed: list[str]) -> None:
    sweep.load(write_sweep(tmp_path)).run()
    computed.clear()
    table = sweep.load(write_sweep(tmp_path, grid={"training.learning_rate": [3e-3, 5e-3], "pair": PAIRS[:1]})).run()
    assert computed == ["training.learning_rate 0.005, pair comp6 + comp4"]
    assert table["training.learning_rate"].unique().tolist() == [3e-3, 5e-3]


def test_a_few_cells_can_be_computed_alone(tmp_path: Path, computed: list[str], table: bytes) -> None:
    found = sweep.load(write_sweep(tmp_path))
    few = found.run(only=[1, -1])
    assert computed == [f"pair comp6 + comp4, training.learning_rate {RATES[1]}", str(found.plan[3])]
    assert few["pair"].unique().tolist() == ["comp6 + comp4", "comp1 + comp2"]
    found.run()
    assert len(computed) == N_CELLS
    assert found.table.read_bytes() == table
    assert len(found.run(only=[0])) == 2 * len(few), "what is finished stays in the table"


def test_two_cells_that_are_one_experiment_are_computed_once(tmp_path: Path, computed: list[str]) -> None:
    same = {"pair": PAIRS[:1], "analysis.plot_config.x_component": ["comp6", 6]}  # the pair says it anyway
    same["analysis.plot_config.names"] = [{}, {"comp4": "narrow line"}]  # only shown in figures
    table = sweep.load(write_sweep(tmp_path, grid=same)).run()
    assert len(computed) == 1
    assert len(table) == 16


def test_an_interrupted_sweep_goes_on(tmp_path: Path, computed: list[str], table: bytes) -> None:
    path = write_sweep(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        sweep.load(path).run(progress=stop_after(2))
    assert len(computed) == 2
    sweep.load(path).run()
    assert len(computed) == len(set(computed)) == N_CELLS
    assert (tmp_path / "sweep" / "table.csv").read_bytes() == table


@pytest.mark.slow
def test_a_killed_sweep_goes_on(tmp_path: Path, computed: list[str], table: bytes) -> None:
    path = write_sweep(tmp_path)
    environment = {**ENVIRONMENT, "TMPDIR": str(tmp_path)}  # where a killed process leaves its temporary files
    process = subprocess.Popen(command(path, "--workers", "0"), env=environment, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list(tmp_path.glob("sweep/cells/*/report.csv"))) >= 2)
    process.kill()
    process.wait()
    finished = {path.parent.name for path in tmp_path.glob("sweep/cells/*/report.csv")}
    assert len(finished) >= 2
    found = sweep.load(path)
    found.run()
    assert computed == [str(cell) for cell in found.plan if cell.digest not in finished]
    assert found.table.read_bytes() == table


def truncate(report: Path) -> None:
    report.write_bytes(report.read_bytes()[:-40])


def forge(report: Path) -> None:
    report.write_text(report.read_text(encoding="utf-8").replace("0.", "0.0", 1), encoding="utf-8")


def damage_status(report: Path) -> None:
    (report.parent / "status.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize("harm", [truncate, forge, Path.unlink, damage_status])
def test_an_altered_cell_is_noticed(
    tmp_path: Path, computed: list[str], table: bytes, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    found = sweep.load(write_sweep(tmp_path))
    found.run()
    harm(found.plan[1].stage.directory / "report.csv")
    computed.clear()
    found.run()
    assert computed == [str(found.plan[1])]
    assert "was altered or is not complete and is not used" in caplog.text
    assert found.table.read_bytes() == table


def test_an_edit_of_the_code_makes_cells_stale(
    tmp_path: Path, computed: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sweep(tmp_path)
    sweep.load(path).run()
    monkeypatch.setattr(sweep, "CODE", ["edited"])
    sweep.load(path).run()
    assert len(computed) == 2 * N_CELLS
    assert caplog.text.count("comes from other code or other libraries and is not used") == N_CELLS


# --- cells that fail


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often cells of a name still fail, to be filled; calls of the others are not disturbed."""
    left: dict[str, int] = {}

    def gap_report(experiment: Experiment, *names: str) -> pd.DataFrame:
        config = experiment.config
        name = f"pair {' + '.join(config.reported)}, training.learning_rate {config.training.learning_rate}"
        if left.get(name, 0) > 0:
            left[name] -= 1
            raise OSError("no space\nleft")
        return original(experiment, *names)

    original = Experiment.gap_report
    monkeypatch.setattr(Experiment, "gap_report", gap_report)
    return left


BAD_CELL = "pair comp6 + comp4, training.learning_rate 0.003"


def test_a_cell_that_fails_once_is_tried_again(
    tmp_path: Path, failing: dict[str, int], table: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    failing[BAD_CELL] = 1
    found = sweep.load(write_sweep(tmp_path))
    found.run()
    assert found.table.read_bytes() == table
    assert caplog.messages.count(f"{BAD_CELL}: failed: OSError: no space left") == 1
    assert len(found.failures()) == 0
    assert not (found.directory / "failures.csv").exists()


def test_a_cell_that_keeps_failing_is_named(
    tmp_path: Path, failing: dict[str, int], table: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path, folder = str(write_sweep(tmp_path, retries=2)), tmp_path / "sweep"
    failing[BAD_CELL] = 4
    assert cli.main(["sweep", path, "--workers", "0"]) == 1
    assert caplog.messages[-1] == f"1 of 4 cells failed; {folder / 'failures.csv'} says why."
    assert failing[BAD_CELL] == 1, "one try and two more"
    (row,) = sweep.load(path).failures().to_dict("records")
    assert list(row.values()) == ["comp6 + comp4", 0.003, "network", "OSError: no space left"]
    assert len(pd.read_csv(folder / "table.csv")) == 3 * 4, "the others are there"
    assert cli.main(["sweep", path, "--workers", "0"]) == 0, "tried again at the next call"
    assert (folder / "table.csv").read_bytes() == table
    assert not (folder / "failures.csv").exists()


def test_a_method_without_its_spectra_fails_in_a_sentence_and_once(tmp_path: Path, computed: list[str]) -> None:
    files = small_experiment()
    lines = [line for line in files["spectra"]["lines"] if line["label"] in ("comp6", "comp4")]
    path = write_sweep(tmp_path, grid={"method": ["some_pairs", "network"]})
    write_experiment(tmp_path, files | {"spectra": files["spectra"] | {"n_components": 2, "lines": lines}})
    found = sweep.load(path)
    table = found.run()
    assert computed == ["method some_pairs", "method network"]
    assert found.failures()["error"].tolist() == ["no split some_pairs: there is no pair of lines but the reported one"]
    assert table["method"].unique().tolist() == ["network"]


# --- forecasts


def test_a_dry_run_names_the_cells_and_writes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = write_sweep(tmp_path)
    before = content(tmp_path)
    assert cli.main(["sweep", str(path), "--dry-run"]) == 0
    assert content(tmp_path) == before
    assert caplog.messages[-1].count("comp1 + comp2") == 2
    assert "4 cells, 4 to compute: their time is not known, as none was measured yet" in caplog.messages[-1]


def test_a_dry_run_forecasts_from_what_was_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = sweep.load(write_sweep(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        found.run(progress=stop_after(2))
    before = content(tmp_path)
    cost = found.forecast()
    assert cost["finished"].tolist() == [True, True, False, False]
    assert cost["seconds"].tolist()[2:] == pytest.approx([cost["seconds"][:2].median()] * 2)
    assert cli.main(["sweep", found.file, "--dry-run"]) == 0
    assert "4 cells, 2 to compute: about " in caplog.messages[-1]
    assert content(tmp_path) == before
    found.run()
    assert cli.main(["sweep", found.file, "--dry-run"]) == 0
    assert caplog.messages[-1].endswith("4 cells, 0 to compute: nothing to do")


# --- what a person can mend

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"retry": 2}, "retry: found an unknown key; expected one of"),
    "missing base": ({"base": "elsewhere.yaml"}, "base: found 'elsewhere.yaml', where there is no file"),
    "a value twice": ({"grid": {"training.epochs": [2, 2]}}, "found 2 a second time; expected each of the list once"),
    "unknown method": ({"methods": ["network", "netwrok"]}, "methods[1]: found 'netwrok'; expected network+N, or one"),
    "unknown method in the grid": ({"grid": {"method": ["network", "network+0"]}}, "grid.method[1]: found 'network+0'"),
    "method twice over": ({"methods": ["network"], "grid": {"method": ["oracle"]}}, "methods: found ['network']"),
    "method fixed": ({"fixed": {"method": "oracle"}}, "changes: found 'method'; expected SECTION.KEY"),
    "fixed and in the grid": (
        {"fixed": {"training.epochs": 2}, "grid": {"training.epochs": [2]}},
        "grid.'training.epochs': found both",
    ),
    "seeds twice over": ({"grid": {"meta.training_seed": [1]}}, "grid.'meta.training_seed': found both"),
    "a folder as a value": ({"fixed": {"meta.exp_dir": "x"}}, "fixed.'meta.exp_dir': found a key that a sweep sets"),
    "too many": ({"grid": {f"training.k{i}": list(range(10)) for i in range(7)}}, "grid: found 10000000 cells"),
    "wrong key": ({"grid": {"trainig.epochs": [1]}}, "trainig.epochs 1: changes: found 'trainig.epochs'; expected"),
    "wrong value": (
        {"grid": {"training.epochs": [1, -1]}},
        "training.epochs -1: configs/training.yaml: epochs: found -1; expected a number of at least 1",
    ),
    "unknown line": ({"grid": {"pair": [["comp6", "comp99"]]}}, "pair comp6 + comp99: "),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input(tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    """Exit status 2, one sentence that says where, what was found and what is valid, and nothing written."""
    changes, says = BAD[fault]
    path = write_sweep(tmp_path, **changes)
    before = content(tmp_path)
    assert cli.main(["sweep", str(path)]) == 2
    (message,) = caplog.messages
    assert message.startswith(f"{path}: ")
    assert says in message
    assert "; expected " in message
    assert "\n" not in message
    assert content(tmp_path) == before


def test_home_and_variables_are_expanded_in_its_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("NOWHERE", raising=False)
    found = sweep.load(write_sweep(tmp_path, base=f"{tmp_path}/meta_config.yaml", sweep_dir="$RESULTS/pairs"))
    assert found.directory == tmp_path / "results" / "pairs"
    for key in ("base", "sweep_dir"):
        with pytest.raises(ConfigError, match=rf"{key}: found '\$NOWHERE/x'; expected a path whose ~ and \$NAME stand"):
            sweep.load(write_sweep(tmp_path, **{key: "$NOWHERE/x"}))


def test_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert cli.main(["sweep", str(tmp_path / "sweep.yaml")]) == 2
    assert (
        "sweep.yaml: found what cannot be read (No such file or directory); expected a YAML file" in caplog.messages[-1]
    )


STRANGERS = {
    "a table": {"table.csv": "mine"},
    "cells": {"cells/plate 1/photo.txt": "mine"},
    "cells and tables": {"cells/a/report.csv": "mine", "table.csv": "method,split\n", "failures.csv": "mine"},
    "failures": {"failures.csv": "mine"},
    "a record": {"versions.json": "{}"},
}


@pytest.mark.parametrize("files", STRANGERS.values(), ids=list(STRANGERS))
def test_somebody_elses_folder_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, files: dict[str, str]
) -> None:
    path = write_sweep(tmp_path)
    for name, text in files.items():
        (tmp_path / "sweep" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sweep" / name).write_text(text, encoding="utf-8")
    before = content(tmp_path)
    assert cli.main(["sweep", str(path)]) == 2
    expected = "found a folder that holds something else; expected an empty one or none."
    assert caplog.messages == [f"{tmp_path / 'sweep'}: {expected}"]
    assert content(tmp_path) == before


def test_a_file_is_no_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_sweep(tmp_path, sweep_dir="file")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    assert cli.main(["sweep", str(path), "--workers", "0"]) == 2
    assert caplog.messages == [f"{tmp_path / 'file'}: found a file; expected a folder for the sweep."]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_somebody_elses_files_in_a_sweep_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = sweep.load(write_sweep(tmp_path, grid=None))
    found.run()
    for name in ("notes.txt", "cells/notes.txt"):
        (found.directory / name).write_text("mine", encoding="utf-8")
    before = content(tmp_path)
    found.run()
    assert content(tmp_path) == before
    (found.directory / "failures.csv").write_text("mine", encoding="utf-8")
    before = content(tmp_path)
    assert cli.main(["sweep", found.file]) == 2
    expected = "found a file that no sweep wrote; expected none of that name."
    assert caplog.messages[-1] == f"{found.directory / 'failures.csv'}: {expected}"
    assert content(tmp_path) == before


def test_the_folder_of_an_earlier_version_is_known(tmp_path: Path, computed: list[str], table: bytes) -> None:
    """It has no record."""
    found = sweep.load(write_sweep(tmp_path))
    found.run()
    (found.directory / sweep.RECORD).unlink()
    found.run()
    assert len(computed) == N_CELLS
    assert found.table.read_bytes() == table
    assert (found.directory / sweep.RECORD).is_file()


def test_a_second_process_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = sweep.load(write_sweep(tmp_path, grid=None))
    second = threading.Thread(target=found.run)
    with sweep.claimed(found.directory):
        second.start()
        deadline = time.monotonic() + 300
        while "waiting until it is done" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "waiting until it is done" in caplog.text
        assert not found.table.exists()
    second.join()
    assert len(pd.read_csv(found.table)) == 4


def test_only_a_scheduler_needs_dask(
    tmp_path: Path, table: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)  # an import would raise
    path = write_sweep(tmp_path)
    assert cli.main(["sweep", str(path), "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert caplog.messages[-1].startswith("scheduler: found no module distributed; expected Dask")
    assert 'pip install "spectral-tutorial[sweep]"' in caplog.messages[-1]
    assert cli.main(["sweep", str(path), "--workers", "0"]) == 0
    assert (tmp_path / "sweep" / "table.csv").read_bytes() == table


def test_a_wrong_number_of_workers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers: found -1; expected a whole number of at least 0"):
        sweep.load(write_sweep(tmp_path)).run(workers=-1)


# --- threads


def test_a_cell_has_its_threads_and_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    seen: list[tuple[int, set[int], bool]] = []

    class Watched(Experiment):
        def gap_report(self, *names: str) -> pd.DataFrame:
            pools = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
            seen.append((torch.get_num_threads(), pools, sys.stderr.isatty()))
            return super().gap_report(*names)

    def state() -> tuple[Any, ...]:
        pools = [(pool["filepath"], pool["num_threads"]) for pool in threadpoolctl.threadpool_info()]
        return torch.get_num_threads(), pools, sys.stderr, logging.getLogger("spectral_tutorial").level, set(os.environ)

    monkeypatch.setattr(sweep, "Experiment", Watched)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    found = sweep.load(write_sweep(tmp_path, threads=2, grid=None))
    before = state()
    found.run()
    assert state() == before
    assert seen == [(2, {2}, False)], "no bars of its own either"


# --- processes


KILLED = "BrokenProcessPool: its process was killed or crashed; is there too little memory?"


def processes_of_workers(parent: int | None = None) -> list[Any]:
    """The children of a process, by default of this one, that compute cells."""
    psutil = pytest.importorskip("psutil")
    found = []
    for child in psutil.Process(parent).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            found += [child] * any("spawn_main" in part for part in child.cmdline())
    return found


def test_any_executor_gives_the_same_table(tmp_path: Path, table: bytes) -> None:
    with ThreadPoolExecutor(2) as executor:
        found = sweep.load(write_sweep(tmp_path))
        found.run(executor=executor)
        assert found.table.read_bytes() == table
        assert executor.submit(len, "abc").result() == 3, "it is its owner's to shut down"


MANY = {"pair": PAIRS, "training.learning_rate": [rate * 1e-4 for rate in range(1, 101)]}
"""Cells enough that a sweep is not over when a busy machine comes to look at it."""


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    grid = MANY | {"training.learning_rate": MANY["training.learning_rate"][:6]}
    found, killed = sweep.load(write_sweep(tmp_path, retries=1, grid=grid)), []
    serial, main = sweep.load(write_sweep(tmp_path / "serial", grid=grid)), sys.modules["__main__"]
    before = getattr(main, "__spec__", None), getattr(main, "__file__", None), dict(os.environ)

    def kill_one(finished: int, total: int) -> None:
        if finished == 1:
            killed.append(processes_of_workers()[0])
            killed[0].send_signal(signal.SIGKILL)

    found.run(workers=2, progress=kill_one)
    assert killed
    assert (getattr(main, "__spec__", None), getattr(main, "__file__", None), dict(os.environ)) == before
    assert not processes_of_workers()
    serial.run()
    assert found.table.read_bytes() == serial.table.read_bytes()
    (said,) = caplog.messages
    assert said in [f"{cell}: failed: {KILLED}" for cell in found.plan]
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.slow
def test_a_cell_that_kills_its_processes_is_named_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deadly.py").write_text(
        "import os\n\n\nclass Net:\n    def __init__(self, **settings):\n        os._exit(9)\n", encoding="utf-8"
    )
    grid = {"training.model_type": ["deadly:Net", "mlp"], "training.learning_rate": RATES[:1]}
    found = sweep.load(write_sweep(tmp_path, grid=grid))
    table = found.run(workers=2)
    assert table["training.model_type"].unique().tolist() == ["mlp"]
    assert caplog.messages == [f"{found.plan[0]}: failed: {KILLED}"] * 2, "one try and one more"
    (row,) = found.failures().to_dict("records")
    assert row["training.model_type"] == "deadly:Net"
    assert row["error"] == KILLED


@pytest.mark.nightly
def test_an_interruption_ends_the_workers(tmp_path: Path, table: bytes, request: pytest.FixtureRequest) -> None:
    found = sweep.load(write_sweep(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        found.run(workers=2, progress=stop_after(1))
    assert not processes_of_workers()
    computed = request.getfixturevalue("computed")
    found.run()
    assert len(computed) < N_CELLS
    assert found.table.read_bytes() == table


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_in_a_terminal_is_one_sentence(tmp_path: Path) -> None:
    """A terminal sends it to all processes of the command."""
    run = [*command(write_sweep(tmp_path, grid=MANY), "--workers", "2", "--quiet")]
    with subprocess.Popen(run, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_until(lambda: any(tmp_path.glob("sweep/cells/*/report.csv")))
        workers = processes_of_workers(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert [line for line in said.splitlines() if "sweep:" not in line] == [INTERRUPTED], "beside the bar"
    assert workers
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.slow
def test_workers_end_with_a_sweep_that_is_killed(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    environment = {**ENVIRONMENT, "TMPDIR": str(tmp_path)}
    run = command(write_sweep(tmp_path, grid=MANY), "--workers", "2")
    with subprocess.Popen(run, env=environment, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: any(tmp_path.glob("sweep/cells/*/report.csv")))
        workers = processes_of_workers(process.pid)
        process.kill()
    assert workers
    assert not psutil.wait_procs(workers, timeout=300)[1]


def listening(process: Any) -> list[str]:
    """Addresses on which a process listens and that are not the loopback interface's."""
    psutil = pytest.importorskip("psutil")
    sockets = [socket for socket in process.net_connections("inet") if socket.status == psutil.CONN_LISTEN]
    return [socket.laddr.ip for socket in sockets if not ip_address(socket.laddr.ip).is_loopback]


@pytest.mark.slow
def test_nothing_can_be_reached_from_another_address(tmp_path: Path, scheduler: str) -> None:
    psutil = pytest.importorskip("psutil")
    this, seen = psutil.Process(), []

    def ask(finished: int, total: int) -> None:
        seen.extend(listening(process) for process in [this, *processes_of_workers()])

    with socket.create_server(("0.0.0.0", 0)):
        assert listening(this) == ["0.0.0.0"], "the question is answered"
    found = sweep.load(write_sweep(tmp_path))
    found.run(workers=2, progress=ask)
    assert len(seen) > N_CELLS + 1, "of the workers, too"
    shutil.rmtree(found.directory)
    found.run(scheduler=scheduler, progress=ask)
    assert not any(seen)


@pytest.mark.slow
def test_a_script_without_a_guard_is_run_once(tmp_path: Path, table: bytes) -> None:
    write_sweep(tmp_path)
    lines = ["import spectral_tutorial as st", "print('once')", "st.sweep.load('sweep.yaml').run(workers=2)"]
    (tmp_path / "script.py").write_text("\n".join(lines), encoding="utf-8")
    run = [sys.executable, "script.py"]
    done = subprocess.run(run, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\n", "")
    assert (tmp_path / "sweep" / "table.csv").read_bytes() == table


# --- Dask


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A scheduler and two workers, started by hand."""
    pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("dask")
    dask = [sys.executable, "-m", "dask"]
    quiet = {"cwd": folder, "env": ENVIRONMENT, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> None:
            process = stack.enter_context(subprocess.Popen([*dask, *arguments], **quiet))  # type: ignore[call-overload]
            stack.callback(process.terminate)

        file = folder / "scheduler.json"
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        deadline = time.monotonic() + 300
        while not (file.is_file() and file.stat().st_size) and time.monotonic() < deadline:  # begun and written
            time.sleep(0.1)
        address = yaml.safe_load(file.read_text(encoding="utf-8"))["address"]
        for _ in range(2):
            start("worker", address, "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder))
        yield address


@pytest.mark.slow
def test_a_scheduler_started_by_hand_gives_the_same_table(tmp_path: Path, scheduler: str, table: bytes) -> None:
    path = write_sweep(tmp_path)
    assert cli.main(["sweep", str(path), "--scheduler", scheduler]) == 0
    assert (tmp_path / "sweep" / "table.csv").read_bytes() == table


@pytest.mark.slow
def test_what_has_arrived_dies_with_no_worker(tmp_path: Path, scheduler: str) -> None:
    """Dask computes again what it still keeps of a worker that died."""
    distributed, left = pytest.importorskip("distributed"), []

    def progress(finished: int, total: int) -> None:
        deadline = time.monotonic() + 300  # word of it takes a moment
        due = total - finished if finished else 0  # at first there may be some of an earlier sweep
        while (kept := client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))) > due:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        left.append(kept)

    with distributed.Client(scheduler, set_as_default=False) as client:
        sweep.load(write_sweep(tmp_path)).run(scheduler=scheduler, progress=progress)
    assert left == [0, *range(N_CELLS - 1, -1, -1)]


@pytest.mark.slow
def test_the_recipe_for_slurm_gives_the_same_table(
    tmp_path: Path, scheduler: str, table: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (REPOSITORY / "book" / "reference" / "sweeps.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```python\n(from dask_jobqueue .*?)```", page, re.DOTALL)
    cluster = Mock(scheduler_address=scheduler)
    jobqueue = Mock(SLURMCluster=lambda **job: contextlib.nullcontext(cluster))
    monkeypatch.setitem(sys.modules, "dask_jobqueue", jobqueue)
    write_sweep(tmp_path).rename(tmp_path / "small.yaml")
    monkeypatch.chdir(tmp_path)
    exec(recipe, {})
    assert (tmp_path / "sweep" / "table.csv").read_bytes() == table


@pytest.mark.slow
def test_another_number_of_threads_gives_the_same_to_rounding(tmp_path: Path, scheduler: str, table: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(table)
    found = sweep.load(write_sweep(tmp_path, threads=2)).run(scheduler=scheduler)
    pd.testing.assert_frame_equal(found, pd.read_csv(tmp_path / "table.csv"), rtol=1e-4)


@pytest.mark.slow
def test_workers_with_other_code_are_refused(tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "CODE", ["edited here only"])
    found = sweep.load(write_sweep(tmp_path, retries=0, grid=None))
    found.run(scheduler=scheduler)
    assert "the worker has other code or other versions of libraries" in found.failures()["error"][0]


@pytest.mark.parametrize(
    "address",
    ["foo://127.0.0.1:1", "tls://127.0.0.1:1", "ucx://127.0.0.1:1", "inproc://1/2/3", "tcp://127.0.0.1:port",
     "tcp://127.0.0.1", "somewhere", ""],
)  # fmt: skip
def test_an_address_that_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], address: str
) -> None:
    """Or one of a protocol whose settings or libraries are missing here."""
    pytest.importorskip("distributed")
    path = write_sweep(tmp_path)
    assert cli.main(["sweep", str(path), "--scheduler", address]) == 2
    gc.collect()  # what is half made may complain when it is deleted
    assert caplog.messages[-1].startswith(f"scheduler: found '{address}', which does not answer (")
    assert "expected the address of a running Dask scheduler" in caplog.messages[-1]
    assert not re.search("Traceback|Warning", capfd.readouterr().err)


def test_a_lost_scheduler_is_one_sentence() -> None:
    """What Dask says of futures whose scheduler is gone: they were cancelled."""
    future: Future[int] = Future()
    future.cancel()
    future.set_running_or_notify_cancel()
    for executor in (Mock(**{"submit.return_value": future}), Mock(**{"submit.side_effect": BrokenExecutor})):
        with pytest.raises(ConnectionError, match="The scheduler went away; what was finished before is kept."):
            list(executors.unordered(executor, len, ["a"]))
