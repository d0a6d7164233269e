"""Runs that end badly, each in a fork of one process that has imported everything: a start costs nothing then.

``python killed.py FOLDER KILLS`` runs the small experiment through the command line, undisturbed, killed at random
moments, interrupted, on a full disk and twice at once; each time the same command then finishes the work. It prints a
line of JSON for each case. A process of its own, with one thread: forking one in which torch has started threads would
hang.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib.figure
import torch
from helpers import assert_same_results, content, small_experiment, write_experiment

from spectral_tutorial import cli, figures, methods, plots, store
from spectral_tutorial.methods import METHODS

STAGES = ("data", "runs", "analysis", "methods", "variations", "plots")
SEED, AT_ONCE = 20, 2
KEPT = {
    "network", "oracle", "all_pairs", "composed", "ridge_log", "decoder",
    "spectral_lines", "abundance_scatter", "mse_trajectory",
}  # fmt: skip
"""Variants, methods and plots of these runs, some of every kind: all of them would take minutes."""


@dataclass(frozen=True)
class Ending:
    """How a run is to end: at the n-th change of a file, after a delay in seconds, by a signal or by a full disk."""

    event: int = -1
    delay: float = 0.0
    signal: int = signal.SIGKILL
    largest_file: int | None = None


@dataclass(frozen=True)
class Ran:
    """How a run ended: its exit status (below 0: the signal), what it said, and its changes: stage, and what of it."""

    status: int
    said: str
    events: list[tuple[str, str]]


def experiment(folder: Path) -> Path:
    """Write the five files, with a variation that asks a network and a method; return the meta file."""
    files = small_experiment()
    files["analysis"]["n_data_seeds"] = 2
    files["analysis"]["variations"] = {
        "exponential": {"spectra.line_law": "beer_lambert", "methods": ["network", "ridge_log"]}
    }
    return write_experiment(folder, files)


def stage_of(path: str) -> str:
    """Name the stage that a path below the experiment's folder belongs to."""
    first, name, *_ = [*path.split("/"), "", ""]
    if first == "analysis" and name in METHODS:
        return "methods"
    return first if first in STAGES else "other"


def watch(folder: Path, ending: Ending, events: list[tuple[str, str]]) -> None:
    """Count every change of a file below `folder`, and end this process when its turn has come."""
    changes = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}

    def end() -> None:
        time.sleep(ending.delay)
        os.kill(os.getpid(), ending.signal)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        written = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        path = str(arguments[0]) if written or event in changes else ""
        if path.startswith(f"{folder}/") and not path.endswith(".lock"):
            events.append((stage_of(path[len(str(folder)) + 1 :]), f"{event} {path}"))
            if len(events) - 1 == ending.event:
                if ending.delay:
                    threading.Thread(target=end, daemon=True).start()
                else:
                    end()

    sys.addaudithook(hook)


def start(meta: Path, ending: Ending = Ending()) -> Callable[[], Ran]:  # noqa: B008 (it cannot be changed)
    """Run the experiment in a fork; what is returned waits for it to end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.dup2(writing, 2)
            events: list[tuple[str, str]] = []
            watch(meta.parent / "exp", ending, events)
            if ending.largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (ending.largest_file, ending.largest_file))
            status = cli.main(["run", str(meta), "--all"])
            if ending.delay:
                time.sleep(1)  # the end may be due after the last file
            os.write(2, f"\n{json.dumps(events)}".encode())
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        os._exit(status)
    os.close(writing)

    def wait() -> Ran:
        with open(reading, encoding="utf-8") as said:
            text = said.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        body, _, events = text.rpartition("\n") if status >= 0 else (text, "", "[]")
        return Ran(status, body.strip(), [tuple(change) for change in json.loads(events)])

    return wait


def finished(exp: Path) -> dict[str, Any]:
    """Files of the stages that are complete, with their times; none of them may be damaged."""
    kept: dict[str, Any] = {}
    for status in exp.rglob(store.STATUS):
        if not status.parent.name.endswith(".partial"):
            assert store.Stage(status.parent, "").intact(), status
            kept |= {f"{status.parent}/{name}": file for name, file in content(status.parent).items()}
    return kept


def ended_and_finished(folder: Path, reference: Path, ending: Ending) -> Ran:
    """End a run, let the same command finish the work, and compare with the undisturbed run."""
    meta, exp = experiment(folder), folder / "exp"
    ran = start(meta, ending)()
    before = finished(exp) if exp.is_dir() else {}
    again = start(meta)()
    assert again.status == 0, again.said
    assert_same_results(reference, exp)
    assert all(file.read_bytes() == (exp / "plots" / file.name).read_bytes() for file in reference.glob("plots/*"))
    after = finished(exp)
    assert all(after[name] == file for name, file in before.items()), "what was finished was made again"
    return ran


def killed(folder: Path, reference: Path, ending: Ending) -> None:
    """Kill a run."""
    assert ended_and_finished(folder, reference, ending).status == -signal.SIGKILL


def interrupted(folder: Path, reference: Path, ending: Ending) -> None:
    """Interrupt a run as a person does at the keyboard."""
    ran = ended_and_finished(folder, reference, replace(ending, signal=signal.SIGINT))
    assert ran.status == 130, ran.said
    assert ran.said.splitlines()[-1].startswith("Interrupted; what was finished before is kept"), ran.said
    assert "Traceback" not in ran.said, ran.said


def full(folder: Path, reference: Path, parts: tuple[str, ...], largest: int) -> None:
    """Let no file become larger than `largest` bytes, with the first stages there already."""
    meta = experiment(folder)
    for part in parts:
        (folder / "exp").mkdir(exist_ok=True)
        os.system(f"cp -r '{reference / part}' '{folder / 'exp'}'")
    ran = ended_and_finished(folder, reference, Ending(largest_file=largest))
    assert meta.is_file()
    assert ran.status == 2, ran.said
    (sentence,) = [line for line in ran.said.splitlines() if "File too large" in line or "written" in line]
    assert sentence.startswith(str(folder / "exp")), sentence
    assert "; what was finished before is kept" in sentence, sentence
    assert "Traceback" not in ran.said, ran.said


def twice_at_once(folder: Path, reference: Path) -> None:
    """Start two runs on one folder."""
    meta = experiment(folder)
    both = [wait() for wait in [start(meta), start(meta)]]
    assert [ran.status for ran in both] == [0, 0], both
    assert any("another process is working on" in ran.said for ran in both)
    assert_same_results(reference, folder / "exp")


def moments(events: list[tuple[str, str]], kills: int) -> Iterator[tuple[str, Ending]]:
    """Draw the moments of the kills, as many in each stage as in any other; one more is between two renames."""
    rng = random.Random(SEED)
    renamed = re.compile(r"rename \S+/seed-125/data-42/\.all_pairs\.\d+\.partial$")
    between = (place for place, (_, what) in enumerate(events) if renamed.search(what))
    yield "runs of five seeds, of which some are in place", Ending(next(between))
    for number in range(kills):
        stage = STAGES[number % len(STAGES)]
        places = [place for place, (name, _) in enumerate(events) if name == stage]
        yield stage, Ending(rng.choice(places), rng.choice([0.0, rng.uniform(0.001, 0.02)]))


def cases(folder: Path, kills: int) -> Iterator[tuple[str, str, Callable[[Path], None]]]:
    """Yield the kind of each case, where it happens, and what to do in a folder."""
    reference, undisturbed = folder / "undisturbed" / "exp", start(experiment(folder / "undisturbed"))()
    assert undisturbed.status == 0, undisturbed.said
    events = undisturbed.events
    for stage, ending in moments(events, kills):
        yield "killed", f"{stage} {ending}", lambda f, e=ending: killed(f, reference, e)  # type: ignore[misc]
    rng = random.Random(SEED + 1)
    for stage in STAGES:
        ending = Ending(rng.choice([place for place, (name, _) in enumerate(events) if name == stage]))
        yield "interrupted", f"{stage} {ending}", lambda f, e=ending: interrupted(f, reference, e)  # type: ignore[misc]
    for largest, *parts in ((20_000,), (3_000, "configs", "data"), (2_500, "configs", "data", "runs")):
        kind = f"{largest} bytes, with {parts}"
        yield "full disk", kind, lambda f, p=tuple(parts), n=largest: full(f, reference, p, n)  # type: ignore[misc]
    yield "twice at once", "", lambda f: twice_at_once(f, reference)


def outcome(folder: Path, case: Callable[[Path], None]) -> str:
    """Say what went wrong in a case; nothing if all is well."""
    try:
        case(folder)
    except BaseException:
        return traceback.format_exc()
    return ""


def main(folder: Path, kills: int) -> None:
    """Go through all cases, a few at a time."""
    torch.optim.AdamW([torch.zeros(1)])  # imports half of torch when it is first called
    import scipy.ndimage  # noqa: F401
    import sklearn.neighbors  # noqa: F401

    figures.png(matplotlib.figure.Figure())
    for known in (methods.METHODS, plots.PLOTS):
        for name in set(known) - KEPT:
            del known[name]  # type: ignore[attr-defined]
    running: dict[int, tuple[str, str, Path]] = {}

    def report() -> None:
        child, status = os.wait()
        kind, where, file = running.pop(child)
        wrong = file.read_text(encoding="utf-8") if file.is_file() else f"no outcome, status {status}"
        print(json.dumps({"kind": kind, "where": where, "wrong": wrong}), flush=True)

    for number, (kind, where, case) in enumerate(cases(folder, kills)):
        if len(running) == AT_ONCE:
            report()
        place = folder / f"case-{number}"
        place.mkdir()
        child = os.fork()
        if child == 0:
            (place / "outcome.txt").write_text(outcome(place, case), encoding="utf-8")
            os._exit(0)
        running[child] = kind, where, place / "outcome.txt"
    while running:
        report()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]))
