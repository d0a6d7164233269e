"""An experiment of seconds, whose y component has a label that tries to break out of everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

EVIL = "</script><img src=x onerror=alert(1)>"
SEEDS = [123, 124, 125, 126]
FILES = ("spectra_config_path", "distribution_config_path", "training_config_path", "analysis_config_path")


def edit(path: Path, **changes: Any) -> None:
    """Set keys of a YAML file."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False), encoding="utf-8")


def shrink(book: Path, label: str = "comp4") -> Path:
    """Make the configuration in `book` small, comp4 called `label`, and return its meta file.

    Where the label is another, no line has a name: figures show labels.
    """
    meta = book / "meta_config.yaml"
    edit(meta, training_seed=SEEDS)
    spectra, distribution, training, analysis = (book / yaml.safe_load(meta.read_text())[key] for key in FILES)
    for path in (spectra, distribution, analysis):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(_renamed(content, label), sort_keys=False), encoding="utf-8")
    if label != "comp4":
        pair = yaml.safe_load(analysis.read_text(encoding="utf-8"))["plot_config"]
        edit(analysis, plot_config={key: value for key, value in pair.items() if key != "names"})
    splits = yaml.safe_load(distribution.read_text(encoding="utf-8"))["splits"]
    edit(distribution, splits={name: {**split, "n_samples": 256} for name, split in splits.items()})
    edit(training, epochs=4)
    return meta


def _renamed(value: Any, label: str) -> Any:
    if isinstance(value, dict):
        return {_renamed(key, label): _renamed(entry, label) for key, entry in value.items()}
    if isinstance(value, list):
        return [_renamed(entry, label) for entry in value]
    return label if value == "comp4" else value
