"""The command line: every command, its exit status, and one sentence for whatever a person can mend."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import (
    PLOTS,
    REPOSITORY,
    assert_same_results,
    everything,
    files_in,
    small_experiment,
    write_experiment,
)

from spectral_tutorial import cli, training
from spectral_tutorial.store import LOCKS

COMMANDS = ("run", "generate-data", "train", "analyze", "plot", "validate")


def command_line(*arguments: str | Path, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Run ``python -m spectral_tutorial`` in a process of its own."""
    command = [sys.executable, "-m", "spectral_tutorial", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def edit(meta: Path, key: str, change: Callable[[Any], None]) -> None:
    """Change one of the five files through its plain values."""
    path = meta if key == "meta" else meta.parent / small_experiment()["meta"][f"{key}_config_path"]
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


# --- in a process of its own


def test_help_names_every_command() -> None:
    done = command_line("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in (*COMMANDS, "sweep"))
    assert done.stderr == ""


def test_a_run_in_another_process_leaves_the_same_results(tmp_path: Path, small_run: Path) -> None:
    done = command_line("run", write_experiment(tmp_path).name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert str(tmp_path / "exp") in done.stderr.splitlines()[-1]
    assert "\r" not in done.stderr, "no progress bar where there is no terminal"
    exp = tmp_path / "exp"
    assert {path.stem for path in (exp / "plots").iterdir()} == PLOTS
    for split in ("train", "val", "test", "oracle_train"):
        folder = Path("data") / "seed-42" / split
        assert_same_results(exp / folder, small_run / "exp" / folder)
    for method in ("network", "oracle"):
        assert_same_results(exp / "analysis" / method, small_run / "exp" / "analysis" / method)
        for seed in (123, 124):
            run = Path("runs") / f"seed-{seed}" / "data-42" / method
            assert_same_results(exp / run, small_run / "exp" / run)


def test_bad_input_is_one_sentence_without_a_traceback(tmp_path: Path) -> None:
    meta = write_experiment(tmp_path)
    edit(meta, "training", lambda t: t.update(learnign_rate=0.1))
    done = command_line("run", meta)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "learnign_rate: found an unknown key; expected one of" in done.stderr
    assert "did you mean learning_rate?" in done.stderr
    assert not (tmp_path / "exp").exists()


# --- in this process


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("validate", set()),
        ("generate-data", {"data"}),
        ("train", {"data", "runs"}),
        ("analyze", {"data", "runs", "analysis"}),
    ],
)
def test_a_command_does_its_stage_and_what_that_needs(tmp_path: Path, command: str, parts: set[str]) -> None:
    meta = write_experiment(tmp_path)
    before = files_in(tmp_path)
    assert cli.main([command, str(meta), "--quiet"]) == 0
    written = {name.split("/")[1] for name in files_in(tmp_path) - before}
    assert written - {*LOCKS} == (parts | {"configs"} if parts else set())


def test_plot_draws_every_plot(tmp_path: Path, small_run: Path) -> None:
    shutil.copytree(small_run, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "exp" / "plots")
    assert cli.main(["plot", str(tmp_path / "meta_config.yaml")]) == 0
    assert {path.stem for path in (tmp_path / "exp" / "plots").iterdir()} == PLOTS


def test_results_go_to_another_folder_on_demand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = write_experiment(tmp_path / "configured")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["generate-data", str(meta), "--exp-dir", "elsewhere"]) == 0
    assert (tmp_path / "elsewhere" / "data").is_dir()
    assert not (tmp_path / "configured" / "exp").exists()


def test_another_configurations_results_are_kept_without_overwrite(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    meta = write_experiment(tmp_path)
    assert cli.main(["train", str(meta)]) == 0
    (tmp_path / "exp" / "notes.txt").write_text("my notes", encoding="utf-8")
    edit(meta, "training", lambda t: t.update(epochs=1))
    before = everything(tmp_path)
    for command in COMMANDS:
        caplog.clear()
        assert cli.main([command, str(meta)]) == 2
        (message,) = caplog.messages
        assert "another configuration (training.yaml: epochs is 2 there and 1 here)" in message
        assert "--overwrite" in message
    assert cli.main(["validate", str(meta), "--overwrite"]) == 0
    assert everything(tmp_path) == before
    assert cli.main(["generate-data", str(meta), "--overwrite"]) == 0
    assert not (tmp_path / "exp" / "runs").exists()
    assert (tmp_path / "exp" / "notes.txt").read_text(encoding="utf-8") == "my notes"


@pytest.mark.parametrize("command", ["run", "plot"])
def test_overwrite_leaves_what_a_new_folder_would_hold(command: str, tmp_path: Path) -> None:
    """Also where spectra and tables of the other configuration are the same: they go with the rest, and come back."""
    meta, other = write_experiment(tmp_path / "old"), write_experiment(tmp_path / "new")
    assert cli.main(["run", str(meta), "--quiet"]) == 0
    for path in (meta, other):
        edit(path, "training", lambda t: t.update(epochs=1))
    assert cli.main([command, str(meta), "--quiet", "--overwrite"]) == 0
    assert cli.main([command, str(other), "--quiet"]) == 0
    assert_same_results(meta.parent / "exp", other.parent / "exp")


def break_file(name: str, text: str) -> Callable[[Path], None]:
    return lambda meta: (meta.parent / name).write_text(text, encoding="utf-8") and None


def append(name: str, text: str) -> Callable[[Path], None]:
    def change(meta: Path) -> None:
        path = meta.parent / name
        path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")

    return change


def change(key: str, how: Callable[[Any], None]) -> Callable[[Path], None]:
    return lambda meta: edit(meta, key, how)


TRAINING, META = "configs/training.yaml", "meta_config.yaml"
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "unknown key": (append(TRAINING, "epoch: 3\n"), "epoch: found an unknown key"),
    "no seed": (change("meta", lambda m: m.update(training_seed=[])), "training_seed: found []"),
    "text instead of YAML": (break_file(TRAINING, "Dear reader,\n"), "training.yaml: found 'Dear reader,'"),
    "no test split": (change("distribution", lambda d: d["splits"].pop("test")), "splits.test: found nothing"),
    "missing config file": (lambda meta: (meta.parent / TRAINING).unlink(), "where there is no file"),
    "missing meta file": (lambda meta: meta.unlink(), "meta_config.yaml: found what cannot be read"),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("command", ["run", "validate"])
def test_bad_input(tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str, command: str) -> None:
    """Exit status 2, one sentence that says where, what was found and what is valid, and nothing written."""
    meta = write_experiment(tmp_path)
    spoil, says = BAD[fault]
    spoil(meta)
    before = everything(tmp_path)
    assert cli.main([command, str(meta)]) == 2
    (message,) = caplog.messages
    assert says in message
    assert "; expected " in message
    assert "\n" not in message
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("variation", "says"),
    [
        ({"training.epochs": -1}, "variations.odd: configs/training.yaml: epochs: found -1; expected"),
        ({"pair": ["comp1", "comp3"], "methods": ["decodr"]}, "variations.odd.methods: found 'decodr'; expected"),
    ],
)
def test_validate_looks_at_variations(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, variation: dict[str, Any], says: str
) -> None:
    meta = write_experiment(tmp_path)
    change("analysis", lambda d: d.update(variations={"odd": variation}))(meta)
    before = everything(tmp_path)
    assert cli.main(["validate", str(meta)]) == 2
    (message,) = caplog.messages
    assert says in message
    assert everything(tmp_path) == before


def below_a_file(meta: Path) -> Path:
    (meta.parent / "file").write_text("mine", encoding="utf-8")
    return meta.parent / "file" / "exp"


def a_file(meta: Path) -> Path:
    (meta.parent / "file").write_text("mine", encoding="utf-8")
    return meta.parent / "file"


def somebody_elses(meta: Path) -> Path:
    (meta.parent / "photos").mkdir()
    (meta.parent / "photos" / "cat.jpg").write_text("mine", encoding="utf-8")
    return meta.parent / "photos"


@pytest.mark.parametrize("where", [below_a_file, a_file, somebody_elses, lambda meta: Path("/proc/exp")])
def test_a_folder_that_cannot_be_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, where: Callable[[Path], Path]
) -> None:
    meta = write_experiment(tmp_path)
    target = where(meta)
    if target.is_relative_to("/proc") and not Path("/proc").is_dir():
        pytest.skip("no /proc here")
    before = everything(tmp_path)
    assert cli.main(["run", str(meta), "--exp-dir", str(target)]) == 2
    (message,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert str(target) in message or repr(str(target.parent)) in message  # Windows names the file in the way
    assert "\n" not in message
    assert everything(tmp_path) == before


def test_interruption_has_its_own_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    meta = write_experiment(tmp_path)
    assert cli.main(["run", str(meta)]) == 130
    assert caplog.messages[-1].startswith("Interrupted;")
    assert not list(tmp_path.rglob("*.partial"))
    monkeypatch.undo()
    assert cli.main(["train", str(meta)]) == 0


@pytest.mark.parametrize("arguments", [[], ["run"], ["bake", "meta.yaml"], ["run", "meta.yaml", "--what"]])
def test_a_wrong_command_line_shows_its_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: spectral-tutorial" in capsys.readouterr().err
