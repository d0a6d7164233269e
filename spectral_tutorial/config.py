"""What an experiment is: the five YAML files as validated, frozen models.

:func:`load` turns the path of a meta file into a :class:`Config`; what comes later reads that object, never a
file. What cannot be used raises :class:`ConfigError`, one sentence long: file, key path, what was found and
what would be valid. A field's description ends such a sentence and is what the reference page shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from spectral_tutorial.reading import (
    ConfigError,
    config_error,
    is_file,
    load_yaml,
    one_of,
    resolve_callable,
    show,
    validate,
)
from spectral_tutorial.sections import (
    AnalysisConfig,
    CombinationLaw,
    DistributionConfig,
    FunctionLaw,
    Law,
    MetaConfig,
    ReadOnly,
    SpectraConfig,
    TrainingConfig,
)

__all__ = ["SECTIONS", "Config", "ConfigError", "load", "load_yaml"]


@dataclass(frozen=True)
class Config:
    """An experiment: the five files, checked one by one and against each other.

    Attributes
    ----------
    meta, spectra, distribution, training, analysis
        The five files.
    directory : Path
        Absolute folder of the meta file; relative paths and ``module:function`` are looked up from here.
    file : str
        The meta file as its user named it, for messages.
    """

    meta: MetaConfig
    spectra: SpectraConfig
    distribution: DistributionConfig
    training: TrainingConfig
    analysis: AnalysisConfig
    directory: Path
    file: str = "meta_config.yaml"

    def __post_init__(self) -> None:
        _check_training(self)
        for name, split in self.distribution.splits.items():
            _check_split(self, name, split.distribution)
        if len(set(self.reported)) == 1:
            found = show(self.analysis.plot_config.y_component)
            key, expected = "plot_config.y_component", "a component other than x_component"
            raise config_error(self.meta.analysis_config_path, key, found, expected)

    @property
    def exp_dir(self) -> Path:
        """Absolute directory of the results."""
        return (self.directory / self.meta.exp_dir).resolve()

    @property
    def reported(self) -> tuple[str, str]:
        """Labels of the two components on the x and y axes of the analysis."""
        return self._label("x_component"), self._label("y_component")

    def _label(self, key: str) -> str:
        chosen, labels = getattr(self.analysis.plot_config, key), self.spectra.labels
        if isinstance(chosen, int) and chosen <= len(labels):
            return labels[chosen - 1]
        if chosen in labels:
            return str(chosen)
        expected = f"{one_of(labels, chosen)}, or a number from 1 to {len(labels)}"
        raise config_error(self.meta.analysis_config_path, f"plot_config.{key}", show(chosen), expected)

    def with_training(self, **changes: Any) -> Config:
        """Return a copy with other keys of the training file, validated like the file."""
        data = self.training.model_dump(exclude_unset=True) | changes
        return replace(self, training=validate(TrainingConfig, data, self.meta.training_config_path))

    def with_meta(self, **changes: Any) -> Config:
        """Return a copy with other keys of the meta file, the seeds for instance, validated like the file."""
        data = self.meta.model_dump(exclude_unset=True) | changes
        return replace(self, meta=validate(MetaConfig, data, self.file))

    def with_changes(self, changes: Mapping[str, Any]) -> Config:
        """Return a copy that differs in some keys, validated like the files.

        Parameters
        ----------
        changes : mapping
            New values by dotted key, the section first: ``training.epochs``, ``spectra.lines[3].width``,
            ``distribution.splits.test.n_samples``. The key ``pair`` takes two labels, see :meth:`with_pair`, and is
            applied last.

        Raises
        ------
        ConfigError
            If a key leads nowhere or a value cannot be used.
        """
        nests = {name: getattr(self, name).model_dump(mode="json", exclude_unset=True) for name in ("meta", *SECTIONS)}
        for key, value in changes.items():
            if key != "pair":
                _put(nests, key, value)
        touched = {key.split(".")[0] for key in changes} - {"pair"}
        models: dict[str, type[BaseModel]] = {"meta": MetaConfig, **SECTIONS}
        files = {"meta": self.file} | {name: getattr(self.meta, f"{name}_config_path") for name in SECTIONS}
        valid: dict[str, Any] = {name: validate(models[name], nests[name], files[name]) for name in touched}
        changed = replace(self, **valid)
        return changed.with_pair(changes["pair"]) if "pair" in changes else changed

    def with_pair(self, pair: Sequence[str]) -> Config:
        """Return a copy about two other components: they and the reported ones change places, in splits and report."""
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise config_error("pair", "", show(pair), "a list of two labels")
        old, new = self.reported, [str(label) for label in pair]
        swap = dict(zip([*new, *old], [*old, *new], strict=True))
        splits = self.distribution.model_dump(mode="json", exclude_unset=True)
        for name, split in splits["splits"].items():
            law = split["distribution"]
            if "combinations" not in law:
                expected = "splits of the type component_combinations, whose components can be exchanged"
                raise config_error("pair", "", f"the split {name} with a function of its own", expected)
            for one in law["combinations"]:
                one["components"] = [swap.get(label, label) for label in one["components"]]
                if "ranges" in one:
                    one["ranges"] = {swap.get(label, label): limits for label, limits in one["ranges"].items()}
        chosen = dict(zip(("x_component", "y_component"), new, strict=True))
        analysis = self.analysis.model_dump(mode="json", exclude_unset=True) | {"plot_config": chosen}
        return replace(
            self,
            distribution=validate(DistributionConfig, splits, self.meta.distribution_config_path),
            analysis=validate(AnalysisConfig, analysis, self.meta.analysis_config_path),
        )

    def variation(self, name: str) -> Config:
        """Return the configuration of one of the ``variations`` of analysis.yaml.

        Raises
        ------
        ConfigError
            If there is none of that name, or one of its values cannot be used.
        """
        changes, file = self.analysis.variations, self.meta.analysis_config_path
        if name not in changes:
            raise config_error(file, "variations", show(name), one_of(changes, name))
        plain = replace(self, analysis=self.analysis.model_copy(update={"variations": ReadOnly({})}))
        try:
            return plain.with_changes({key: value for key, value in changes[name].items() if key != "methods"})
        except ConfigError as problem:
            raise ConfigError(f"{file}: variations.{name}: {problem}") from None

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the five sections as plain values for JSON and YAML, with paths as they were written."""
        return {name: getattr(self, name).model_dump(mode="json") for name in ("meta", *SECTIONS)}


SECTIONS: dict[str, type[BaseModel]] = {
    "spectra": SpectraConfig,
    "distribution": DistributionConfig,
    "training": TrainingConfig,
    "analysis": AnalysisConfig,
}


def load(meta_path: str | Path) -> Config:
    """Read a meta file and the four files that it names.

    Raises
    ------
    ConfigError
        When a file is missing or anything in it cannot be used. Nothing has been written then.
    """
    file = str(meta_path)
    meta = validate(MetaConfig, load_yaml(meta_path), file)
    directory = Path(meta_path).resolve().parent
    sections: dict[str, Any] = {}
    for name, model in SECTIONS.items():
        key = f"{name}_config_path"
        path = getattr(meta, key)
        if not is_file(directory / path):
            expected = "the path of a YAML file, relative to the meta file"
            raise config_error(file, key, f"{show(path)}, where there is no file", expected)
        sections[name] = validate(model, load_yaml(directory / path, path), path)
    return Config(meta=meta, directory=directory, file=file, **sections)


def _put(nest: Any, key: str, value: Any) -> None:
    """Put a value at a dotted key of nested mappings and lists; a last step may be new, the steps to it may not."""
    found = re.findall(r"[^.\[\]]+|\[\d+\]", key) or [""]
    *steps, last = [int(step[1:-1]) if step.startswith("[") else step for step in found]
    for place, step in enumerate([*steps, last]):
        known = range(len(nest)) if isinstance(nest, list) else nest if isinstance(nest, dict) else ()
        if step not in known and (place < len(steps) or place == 0 or not isinstance(nest, dict)):
            expected = "SECTION.KEY with a section and a key of the five files, or pair"
            raise config_error("changes", "", show(key), expected)
        if place < len(steps):
            nest = nest[step]
    if not steps:
        raise config_error("changes", "", show(key), "SECTION.KEY, not a whole section")
    nest[last] = value


def _check_training(config: Config) -> None:
    """Check the training file against the spectra, and that a model of one's own can be imported."""
    file = config.meta.training_config_path
    for key in ("n_bins", "n_components"):
        found, expected = getattr(config.training, key), getattr(config.spectra, key)
        if found not in (None, expected):
            raise config_error(file, key, show(found), f"{expected} as in {config.meta.spectra_config_path}")
    if ":" in config.training.model_type:
        resolve_callable(config.training.model_type, config.directory, key="model_type", file=file)


def _check_split(config: Config, name: str, law: Law) -> None:
    """Check a split's law against the lines, and that a function of one's own can be imported."""
    file, key, spectra = config.meta.distribution_config_path, f"splits.{name}.distribution", config.spectra
    if isinstance(law, FunctionLaw):
        resolve_callable(law.callable, config.directory, key=f"{key}.callable", file=file)
    for index, combination in enumerate(law.combinations if isinstance(law, CombinationLaw) else ()):
        at = f"{key}.combinations[{index}]"
        for place, label in enumerate(combination.components):
            if label not in spectra.labels:
                expected = one_of(spectra.labels, label)
                raise config_error(file, f"{at}.components[{place}]", show(label), expected)
        for label, limits in combination.ranges.items():
            if broken := spectra.check_flux(spectra.lines[spectra.index(label)], limits[1]):
                raise config_error(file, f"{at}.ranges.{label}", show(limits), broken)
