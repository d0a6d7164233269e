"""Which files and functions of the package four questions pass on their way, and how deep: ``python tests/traces.py``.

Each question is asked of the small experiment (helpers.py), of an object of its own. Depth is the largest number
of the package's functions that are open at once.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # a checkout need not be installed

import helpers  # noqa: E402

import spectral_tutorial as st  # noqa: E402

PACKAGE = str(Path(st.__file__).parent)


class Trace:
    """What was called while a question was answered, in this thread.

    Attributes
    ----------
    functions : set of (file, function)
        Where the way led.
    depth : int
        The largest number of the package's functions that were open at once.
    changes : int
        How often a call led from one of the package's files into another.
    """

    def __init__(self) -> None:
        self.functions: set[tuple[str, str]] = set()
        self.open: list[tuple[Any, str]] = []
        self.depth = self.changes = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        """Take an event of ``sys.setprofile``."""
        file, name = frame.f_code.co_filename, frame.f_code.co_qualname
        if not file.startswith(PACKAGE):
            return
        if event == "call":
            here = file.removeprefix(PACKAGE).lstrip("/\\")
            self.changes += bool(self.open) and self.open[-1][1] != here
            self.functions.add((here, name))
            self.open.append((frame, here))
            self.depth = max(self.depth, len(self.open))
        elif event == "return" and self.open and self.open[-1][0] is frame:
            self.open.pop()

    @property
    def files(self) -> list[str]:
        """The package's files that were passed."""
        return sorted({file for file, _ in self.functions})


def traced(question: Callable[..., Any], *about: Any) -> Trace:
    """Ask a question and return its trace."""
    trace = Trace()
    sys.setprofile(trace)
    try:
        question(*about)
    finally:
        sys.setprofile(None)
    return trace


def questions(folder: Path) -> dict[str, Trace]:
    """Ask the four questions, each of an experiment that was opened anew in the same folder."""
    meta = helpers.write_experiment(folder)

    def opened() -> st.Experiment:
        return st.Experiment.from_yaml(meta)

    found = {"data, cold": traced(opened().data, "train")}
    found["train, cold"] = traced(opened().train)
    found["gap_report, trained"] = traced(opened().gap_report, "network")
    found["gap_report, cached"] = traced(opened().gap_report, "network")
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for question, trace in questions(Path(folder)).items():
            print(
                f"{question}: {len(trace.files)} files, {len(trace.functions)} functions, {trace.depth} deep, "
                f"{trace.changes} changes of file\n    {' '.join(trace.files)}"
            )
