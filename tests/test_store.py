"""Files: a kill loses nothing, what was altered is noticed, and nobody else's folder is touched."""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import yaml
from helpers import REPOSITORY, content, files_in, small_experiment

from spectral_tutorial import digests, folder, store
from spectral_tutorial.store import Folder, Stage, StoreError


def sections(**changes: Any) -> dict[str, dict[str, Any]]:
    return copy.deepcopy(small_experiment()) | changes


# --- single files


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path = tmp_path / "table.csv"
    store.write_atomically(path, b"old")
    original = Path.write_bytes

    def disk_full(self: Path, *args: Any) -> None:
        if failing == "write_bytes":
            original(self, b"ne")  # half of it
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, failing, disk_full)
        with pytest.raises(OSError, match="No space left"):
            store.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_equal_content_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "array.npy"
    array = np.arange(5.0)
    store.write_atomically(path, store.array_bytes(array))
    written = path.stat().st_mtime_ns
    store.write_atomically(path, store.array_bytes(array))
    assert path.stat().st_mtime_ns == written
    np.testing.assert_array_equal(np.load(path, allow_pickle=False), array)


def test_a_created_array_is_filled_in_place(tmp_path: Path) -> None:
    array = store.create_array(tmp_path, "a", (3, 2), np.float32)
    array[:] = 7
    del array
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), np.full((3, 2), 7, np.float32))


# --- fingerprints


def test_fingerprint_depends_on_values_and_not_on_the_order_of_keys() -> None:
    assert store.fingerprint({"a": 1, "b": [0.1, "x"]}) == store.fingerprint({"b": [0.1, "x"], "a": 1})
    others = [{"a": 1}, {"a": 2, "b": [0.1, "x"]}, {"a": 1, "b": ["x", 0.1]}, {"a": True, "b": [0.1, "x"]}]
    assert len({store.fingerprint(other) for other in others} | {store.fingerprint({"a": 1, "b": [0.1, "x"]})}) == 5


@pytest.mark.parametrize(
    ("old", "new", "counts"),
    [
        ("WIEN_X = 4.965114231744276", "WIEN_X = 4.965114231744276  # a remark", False),
        ("WIEN_X = 4.965114231744276", "\n\nWIEN_X = (4.965114231744276)", False),
        ("WIEN_X = 4.965114231744276", "WIEN_X = 4.965114231744277", True),
        ("return 5.0 * np.log", "return 5.5 * np.log", True),
    ],
)
def test_an_edit_of_the_code_counts_and_of_its_comments_does_not(
    tmp_path: Path, old: str, new: str, counts: bool
) -> None:
    source = REPOSITORY / "spectral_tutorial" / "physics.py"
    text = source.read_text(encoding="utf-8")
    assert text.count(old) == 1
    (tmp_path / "physics.py").write_text(text.replace(old, new), encoding="utf-8")
    assert (digests.source_digest(tmp_path / "physics.py") != digests.source_digest(source)) is counts


def test_a_function_counts_with_its_whole_file_or_by_name() -> None:
    assert digests.code_digest(sections) == digests.source_digest(Path(__file__))
    assert digests.code_digest(len) != digests.code_digest(max)


# --- stages


def fill(stage: Stage, text: str = "flux") -> None:
    with stage.write() as folder:
        (folder / "flux.txt").write_text(text, encoding="utf-8")
        (folder / "labels.txt").write_text("comp4", encoding="utf-8")


def test_a_written_stage_is_current_for_the_same_inputs_only(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "data" / "train", "inputs")
    assert not stage.current()
    fill(stage)
    assert stage.current()
    assert Stage(stage.directory, "inputs").current()
    assert not Stage(stage.directory, "other inputs").current()
    assert os.listdir(tmp_path / "data") == ["train"]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_product(tmp_path: Path, kind: type[BaseException]) -> None:
    stage = Stage(tmp_path / "train", "inputs")
    fill(stage)
    before = content(tmp_path)

    def interrupted() -> None:
        with stage.write() as folder:
            (folder / "flux.txt").write_text("half", encoding="utf-8")
            raise kind

    with pytest.raises(kind):
        interrupted()
    assert content(tmp_path) == before
    assert stage.current()


def test_what_a_killed_process_left_is_cleared_and_never_taken_for_a_product(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "train", "inputs")
    leftover = tmp_path / ".train.99999.partial"
    leftover.mkdir()
    (leftover / "flux.txt").write_text("half", encoding="utf-8")
    assert not stage.current()
    fill(stage)
    assert os.listdir(tmp_path) == ["train"]


@pytest.mark.parametrize("damage", ["alter", "truncate", "delete", "break status", "delete status"])
def test_damage_is_noticed(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(tmp_path / "train", "inputs")
    fill(stage)
    path = stage.directory / (store.STATUS if "status" in damage else "flux.txt")
    if "delete" in damage:
        path.unlink()
    else:
        path.write_bytes({"alter": b"fluX", "truncate": b"fl", "break status": b'{"files": {'}[damage])
    assert not stage.current()
    assert ("is missing or was altered" in caplog.text) is ("status" not in damage)
    fill(stage)
    assert stage.current()


# --- whose folder it is


def own(path: Path, overwrite: bool = False, **changes: Any) -> Folder:
    return folder.open_folder(path, sections(**changes), overwrite, "meta_config.yaml")


def populate(path: Path) -> None:
    """An experiment with something in each of its parts, a variation, and a person's own notes everywhere."""
    mine = own(path)
    for place in ("data/seed-42/train", "runs/seed-123/data-42/network", "analysis/network/data-42"):
        fill(Stage(path / place, "inputs"))
    for name in ("analysis/product.csv", "plots/product.png"):
        mine.publish(name, b"product")
    own(path / "variations" / "other").publish("plots/product.png", b"product")
    for name in NOTES:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("my notes", encoding="utf-8")


NOTES = (
    "notes.txt", "configs/notes.txt", "data/notes.txt", "data/seed-42/train/notes.txt", "runs/mine/notes.txt",
    "analysis/notes.csv", "plots/notes.png", "variations/notes.txt", "variations/other/notes.txt",
)  # fmt: skip


def other_training() -> dict[str, Any]:
    return small_experiment()["training"] | {"epochs": 7}


def test_looking_at_a_folder_writes_nothing(tmp_path: Path) -> None:
    own(tmp_path / "exp")
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize("foreign", ["thesis.tex", "data/photo.jpg", "configs/nginx.conf"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, foreign: str, overwrite: bool) -> None:
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / foreign).write_text("mine", encoding="utf-8")
    with pytest.raises(StoreError, match="holds something else; expected an empty one or none"):
        own(tmp_path, overwrite)
    assert set(content(tmp_path)) == {foreign}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "exp").write_text("mine", encoding="utf-8")
    with pytest.raises(StoreError, match="found a file; expected a folder"):
        own(tmp_path / "exp", overwrite)


def test_the_same_configuration_comes_back_with_other_seeds_or_more_splits(tmp_path: Path) -> None:
    populate(tmp_path / "exp")
    before = content(tmp_path)
    more = small_experiment()["distribution"]
    more["splits"]["extra"] = more["splits"]["val"]
    own(tmp_path / "exp")
    own(tmp_path / "exp", meta=small_experiment()["meta"] | {"training_seed": [1, 2, 3]})
    own(tmp_path / "exp", distribution=more)
    assert content(tmp_path) == before


def test_another_configuration_is_refused_and_named(tmp_path: Path) -> None:
    populate(tmp_path / "exp")
    before = content(tmp_path)
    with pytest.raises(StoreError, match=r"another configuration \(training.yaml: epochs is 2 there and 7 here\)"):
        own(tmp_path / "exp", training=other_training())
    own(tmp_path / "exp", overwrite=True, training=other_training())
    assert content(tmp_path) == before, "opening with overwrite deletes nothing yet"


def test_overwriting_deletes_what_was_written_and_nothing_else(tmp_path: Path) -> None:
    populate(tmp_path / "exp")
    own(tmp_path / "exp", overwrite=True, training=other_training()).publish("plots/new.png", b"new")
    record = {f"configs/{name}" for name in (*folder.RECORD.values(), "versions.json", "published.json")}
    assert set(files_in(tmp_path / "exp")) == {*NOTES, *record, "plots/new.png"}
    assert {(tmp_path / "exp" / name).read_text(encoding="utf-8") for name in NOTES} == {"my notes"}
    own(tmp_path / "exp", training=other_training())


def test_a_product_that_is_made_again_keeps_what_somebody_put_beside_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "train", "inputs")
    fill(stage)
    (stage.directory / "notes.txt").write_text("my notes", encoding="utf-8")
    with Stage(stage.directory, "other inputs").write() as place:
        (place / "flux.txt").write_text("new", encoding="utf-8")
    assert {path.name for path in stage.directory.iterdir()} == {"flux.txt", "notes.txt", store.STATUS}
    assert (stage.directory / "notes.txt").read_text(encoding="utf-8") == "my notes"


def test_an_experiment_of_the_original_tutorial_is_refused_and_set_aside_on_demand(tmp_path: Path) -> None:
    for name in ("configs/spectra_config.yaml", "data/train.pkl", "plots/mse_trajectory.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("original", encoding="utf-8")
    before = content(tmp_path)
    with pytest.raises(StoreError, match="in the format of the original tutorial"):
        own(tmp_path)
    own(tmp_path, overwrite=True).publish("plots/mse_trajectory.png", b"new")
    assert content(tmp_path / "original-1") == before
    assert (tmp_path / "plots" / "mse_trajectory.png").read_bytes() == b"new"


def test_the_record_is_the_configuration_with_paths_to_its_neighbors(tmp_path: Path) -> None:
    populate(tmp_path)
    record = tmp_path / "configs"
    for name in ("spectra", "distribution", "training", "analysis"):
        assert yaml.safe_load((record / folder.RECORD[name]).read_text()) == small_experiment()[name]
    meta = yaml.safe_load((record / "meta_config.yaml").read_text())
    assert (record / meta["exp_dir"]).resolve() == tmp_path.resolve()
    assert all((record / meta[f"{name}_config_path"]).is_file() for name in ("spectra", "training"))


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, None),
        ({"a": 1}, {}, "a is 1 there and None here"),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}}, "a.b[1].c is 2 there and 3 here"),
        ({"a": [1]}, {"a": [1, 2]}, "a is [1] there and [1, 2] here"),
        ({"a": {"b": 1}}, {"a": 1}, "a is {'b': 1} there and 1 here"),
        ({"plot_config": {"names": {"a": "b"}, "x": 1}}, {"plot_config": {"x": 1}}, None),
        (
            {"plot_config": {"names": {"a": "b"}, "x": 1}},
            {"plot_config": {"x": 2}},
            "plot_config.x is 1 there and 2 here",
        ),
    ],
)
def test_first_difference(old: Any, new: Any, difference: str | None) -> None:
    assert folder.first_difference(old, new) == difference


@pytest.mark.parametrize("lock", [store.LOCK, store.FILES_LOCK])
def test_whoever_comes_second_waits_and_says_so(lock: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    mine = own(tmp_path / "exp")
    mine.publish("plots/one.png", b"one")
    held = threading.Event()

    def somebody_else() -> None:
        with filelock.FileLock(tmp_path / "exp" / lock):
            held.set()
            deadline = time.monotonic() + 300
            while "another process" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.01)

    other = threading.Thread(target=somebody_else)
    other.start()
    held.wait()
    if lock == store.LOCK:
        with mine.locked():
            pass
    else:
        mine.publish("plots/two.png", b"two")
        assert (tmp_path / "exp" / "plots" / "two.png").read_bytes() == b"two"
    other.join()
    assert "another process is working on" in caplog.text


def test_a_new_plot_takes_new_names_into_the_record(tmp_path: Path) -> None:
    own(tmp_path).publish("plots/one.png", b"one")
    named = sections()
    named["analysis"]["plot_config"]["names"] = {"comp6": "broad"}
    own(tmp_path, **named).publish("plots/one.png", b"with other names")
    assert "broad" in (tmp_path / "configs" / "analysis.yaml").read_text(encoding="utf-8")


def test_a_table_does_not_wait_for_those_who_train(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    mine = own(tmp_path / "exp")
    mine.publish("plots/one.png", b"one")
    with filelock.FileLock(tmp_path / "exp" / store.LOCK):
        own(tmp_path / "exp").publish("plots/two.png", b"two")
    assert store.published(tmp_path / "exp") == ["plots/one.png", "plots/two.png"]
    assert not caplog.text
