"""``python million.py FOLDER N SEEDS``: generate N training and N test spectra, train for one epoch, analyze.

Prints a line of JSON: for each step its seconds, the processor's seconds, and the largest private memory in MiB while
it ran, that is memory of this process alone; pages of files, which the system can take back at any time, do not count.
The world and the network are the shipped ones, with 1024 bins.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from helpers import SHIPPED, small_experiment, write_experiment

from spectral_tutorial import Experiment

INTERVAL = 0.005
"""Seconds between two looks at the memory."""


def private_mib() -> float:
    """Private memory of this process (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024


class Watch:
    """The largest private memory since the last step, looked at in a thread."""

    def __init__(self) -> None:
        self.peak = 0.0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            self.peak = max(self.peak, private_mib())
            time.sleep(INTERVAL)

    def step(self, work: Callable[[], Any]) -> dict[str, float]:
        """Do one step and return its time and memory."""
        self.peak, wall, busy = private_mib(), time.perf_counter(), time.process_time()
        work()
        took = {"seconds": time.perf_counter() - wall, "busy": time.process_time() - busy}
        time.sleep(2 * INTERVAL)
        return {**took, "private_mib": self.peak}


def experiment(folder: Path, n: int, n_seeds: int) -> Experiment:
    """Write the shipped files, with n spectra to learn from and to be judged by, and one epoch."""
    files = small_experiment()
    for name in files:
        if name != "meta":
            shipped = SHIPPED.parent / files["meta"][f"{name}_config_path"]
            files[name] = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    files["analysis"].pop("variations", None)
    files["training"] |= {"epochs": 1, "checkpoint_by": "ratio", "checkpoint_ratio": 1.0, "learning_rate": 1e-3}
    files["meta"]["training_seed"] = list(range(123, 123 + n_seeds))
    for name, split in files["distribution"]["splits"].items():
        split["n_samples"] = n if name in ("train", "test") else 1024
    return Experiment.from_yaml(write_experiment(folder, files))


def main(folder: Path, n: int, n_seeds: int) -> None:
    """Measure the three steps."""
    torch.optim.AdamW([torch.zeros(1)])  # imports half of torch when it is first called
    watch, run = Watch(), experiment(folder, n, n_seeds)
    steps = {"generate": run._generate_all, "train": run.train, "analyze": lambda: run.gap_report("network")}
    print(json.dumps({name: watch.step(work) for name, work in steps.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
