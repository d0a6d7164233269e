"""What an experiment is: the five YAML files as validated, frozen models.

:func:`load` turns the path of a meta file into a :class:`Config`; what comes later reads that object, never a
file. What cannot be used raises :class:`ConfigError`, here as in every method, before anything is written: one sentence
with file, key path, what was found and what would be valid. A field's description ends such a sentence and is what the
reference page shows.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel

from spectral_tutorial import reading
from spectral_tutorial.arrays import csv_lines
from spectral_tutorial.reading import ConfigError, config_error, load_yaml, one_of, show
from spectral_tutorial.sections import (
    AnalysisConfig,
    CombinationDistribution,
    DistributionConfig,
    FunctionDistribution,
    MetaConfig,
    Profile,
    SpectraConfig,
    TrainingConfig,
)

SECTIONS: dict[str, type[BaseModel]] = {
    "meta": MetaConfig,
    "spectra": SpectraConfig,
    "distribution": DistributionConfig,
    "training": TrainingConfig,
    "analysis": AnalysisConfig,
}
"""The model of each file, the meta file first: it names the others."""


@dataclass(frozen=True)
class Config:
    """An experiment: the five files, checked one by one and against each other."""

    meta: MetaConfig
    spectra: SpectraConfig
    distribution: DistributionConfig
    training: TrainingConfig
    analysis: AnalysisConfig
    directory: Path  #: absolute, of the meta file; relative paths and ``module:function`` are looked up from here
    file: str = "meta_config.yaml"  #: the meta file as its user named it, for messages
    folder: Path | None = None  #: where the results go instead of the meta file's ``exp_dir``

    def __post_init__(self) -> None:
        for key in ("n_bins", "n_components"):
            found, expected = getattr(self.training, key), getattr(self.spectra, key)
            if found not in (None, expected):
                said = f"{expected} as in {self.meta.spectra_config_path}"
                raise config_error(self.meta.training_config_path, key, show(found), said)
        _check_splits(self)
        if len(set(self.reported)) == 1:
            found = show(self.analysis.plot_config.y_component)
            key, expected = "plot_config.y_component", "a component other than x_component"
            raise config_error(self.meta.analysis_config_path, key, found, expected)
        _ = self.names  # those that cannot be are refused here
        for name, file, key in self.code:
            reading.resolve_callable(name, self.directory, key=key, file=file)
        _ = self.exp_dir  # one that cannot be is refused here

    @cached_property
    def exp_dir(self) -> Path:
        """Absolute directory of the results."""
        return self.folder or reading.resolve_path(self.meta.exp_dir, self.directory, key="exp_dir", file=self.file)

    @cached_property
    def reported(self) -> tuple[str, str]:
        """Labels of the two components on the x and y axes of the analysis."""
        return self._label("x_component"), self._label("y_component")

    @cached_property
    def names(self) -> Mapping[str, str]:
        """What figures call each component, by label: its name in analysis.yaml, or the label itself."""
        given, labels = self.analysis.plot_config.names, self.spectra.labels
        for label, name in given.items():
            file, at = self.meta.analysis_config_path, f"plot_config.names.{label}"
            if label not in labels:
                raise config_error(file, at, "an unknown label", one_of(labels, label))
            if name in set(labels) - {label}:
                found = f"{show(name)}, the label of another line"
                raise config_error(file, at, found, "a name of its own for each line")
        return reading.read_only({label: given.get(label, label) for label in labels})

    def _label(self, key: str) -> str:
        chosen, labels = getattr(self.analysis.plot_config, key), self.spectra.labels
        if isinstance(chosen, int) and chosen <= len(labels):
            return labels[chosen - 1]
        if chosen in labels:
            return str(chosen)
        expected = f"{one_of(labels, chosen)}, or a number from 1 to {len(labels)}"
        raise config_error(self.meta.analysis_config_path, f"plot_config.{key}", show(chosen), expected)

    @property
    def code(self) -> Iterator[tuple[str, str, str]]:
        """Name, file and key of each ``module:name``, the Python of one's own that reading the files imports."""
        if ":" in self.training.model_type:
            yield self.training.model_type, self.meta.training_config_path, "model_type"
        for name, split in self.distribution.splits.items():
            if isinstance(split.distribution, FunctionDistribution):
                key = f"splits.{name}.distribution.callable"
                yield split.distribution.callable, self.meta.distribution_config_path, key

    def in_folder(self, folder: str | Path) -> Self:
        """Return a copy whose results go to a folder, see :func:`reading.resolve_path`."""
        return replace(self, folder=reading.resolve_path(folder, Path.cwd(), key="", file="exp_dir"))

    def with_training(self, **changes: Any) -> Self:
        """Return a copy with other keys of the training file, see :meth:`with_changes`."""
        return self.with_changes({f"training.{key}": value for key, value in changes.items()})

    def _with_sections(self, sections: Mapping[str, Any]) -> Self:
        """Return a copy with other sections, validated; NumPy's values are taken for what they are."""
        valid: dict[str, Any] = {}
        for name, data in sections.items():
            file = self.file if name == "meta" else getattr(self.meta, f"{name}_config_path")
            valid[name] = _section(name, reading.plain(data, file), file, self.directory)
        return replace(self, **valid)

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """Return a copy that differs in some keys, validated like the files.

        Keys are dotted, the section first: ``training.epochs``, ``spectra.lines[3].width``,
        ``distribution.splits.test.n_samples``. The key ``pair`` takes two labels, see :meth:`with_pair`, and is applied
        last.
        """
        nests = {name: getattr(self, name).model_dump(mode="json", exclude_unset=True) for name in SECTIONS}
        dotted = {key: value for key, value in changes.items() if key != "pair"}
        for key, value in dotted.items():
            _put(nests, key, value)
        touched = {key.split(".")[0] for key in dotted}
        changed = self._with_sections({name: nests[name] for name in SECTIONS if name in touched})
        return changed.with_pair(changes["pair"]) if "pair" in changes else changed

    def with_pair(self, pair: Sequence[str]) -> Self:
        """Return a copy about two other components: they and the reported ones change places, in splits and report."""
        pair = reading.plain(pair, "pair")
        if not isinstance(pair, list) or len(pair) != 2:
            raise config_error("pair", "", show(pair), "a list of two labels")
        old, new = self.reported, [str(label) for label in pair]
        swap = dict(zip([*new, *old], [*old, *new], strict=True))
        splits = self.distribution.model_dump(mode="json", exclude_unset=True)
        for name, split in splits["splits"].items():
            if "combinations" not in split["distribution"]:
                expected = "splits of the type component_combinations, whose components can be exchanged"
                raise config_error("pair", "", f"the split {name} with a function of its own", expected)
            for one in split["distribution"]["combinations"]:
                one["components"] = [swap.get(label, label) for label in one["components"]]
                if "ranges" in one:
                    one["ranges"] = {swap.get(label, label): limits for label, limits in one["ranges"].items()}
        analysis = self.analysis.model_dump(mode="json", exclude_unset=True)
        analysis["plot_config"] |= dict(zip(("x_component", "y_component"), new, strict=True))
        return self._with_sections({"distribution": splits, "analysis": analysis})

    def variation(self, name: str) -> Self:
        """Return the configuration of one of the ``variations`` of analysis.yaml."""
        changes, file = self.analysis.variations, self.meta.analysis_config_path
        if name not in changes:
            raise config_error(file, "variations", show(name), f"{one_of(changes, name)}; or changes beside a new name")
        asked = {key: value for key, value in changes[name].items() if key != "methods"}
        try:
            return self.with_changes({"analysis.variations": {}, **asked})
        except ConfigError as problem:
            raise ConfigError(f"{file}: variations.{name}: {problem}") from None

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return the five sections as plain values for JSON and YAML, with paths as they were written."""
        return {name: getattr(self, name).model_dump(mode="json") for name in SECTIONS}


def load(meta_path: str | Path) -> Config:
    """Read a meta file and the four files that it names."""
    file = str(meta_path)
    meta = reading.validate(MetaConfig, load_yaml(meta_path), file)
    directory = Path(meta_path).resolve().parent
    sections: dict[str, Any] = {"meta": meta}
    for name in list(SECTIONS)[1:]:
        key = f"{name}_config_path"
        named = getattr(meta, key)
        path = reading.existing_file(named, directory, key=key, file=file)
        sections[name] = _section(name, load_yaml(path, named), named, directory)
    return Config(directory=directory, file=file, **sections)


MOST_BYTES, MOST_ROWS = 2_000_000, 5_000  #: how long a table may be


def read_columns(path: Path, column: str, file: str) -> dict[str, list[float | str]]:
    """Return ``wavelength``, the first column of a CSV file, and ``values``, the named one; text stays text.

    The first line has the columns' names; lines that begin with ``#`` are comments. `file` is how messages name it.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise config_error(file, "", f"{size:,} bytes", f"a CSV file in UTF-8, at most {MOST_BYTES:,} bytes")
    lines = list(csv_lines(path, file))
    if not 0 < len(lines) <= MOST_ROWS:
        found = f"{len(lines):,} lines" if lines else "nothing"
        raise config_error(file, "", found, f"the columns' names, and numbers in fewer than {MOST_ROWS:,} lines")
    (_, names), *rows = lines
    if names[1:].count(column) != 1:
        expected = f"wavelengths in the first and, in one of the others, {show(column)}"
        raise config_error(file, "", f"the columns {show(names)}", expected)
    for line, row in rows:
        if len(row) != len(names):
            raise config_error(file, f"line {line}", f"{len(row)} values", f"{len(names)}, one for each column")
    place = 1 + names[1:].index(column)
    return {"wavelength": [_number(row[0]) for _, row in rows], "values": [_number(row[place]) for _, row in rows]}


def _number(text: str) -> float | str:
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text


def _section(name: str, data: object, file: str, directory: Path) -> Any:
    """Validate a section; profiles in files are read here, so that their numbers are part of the configuration."""
    valid = reading.validate(SECTIONS[name], data, file)
    named = {
        k: line.profile for k, line in enumerate(getattr(valid, "lines", ())) if line.profile and line.profile.file
    }
    if not named:
        return valid
    filled = valid.model_dump(mode="json", exclude_unset=True)
    for k, profile in named.items():
        at, kind = f"lines[{k}].profile.file", "CSV file, relative to the meta file"
        path = reading.existing_file(profile.file, directory, key=at, file=file, kind=kind)
        filled["lines"][k]["profile"] = read_columns(path, profile.column, profile.file)
        reading.validate(Profile, filled["lines"][k]["profile"], profile.file)
    return reading.validate(SECTIONS[name], filled, file)


def _put(nest: Any, key: str, value: Any) -> None:
    """Put a value at a dotted key of nested mappings and lists; a last step may be new, the steps to it may not."""
    section, *steps = re.sub(r"\[(\d+)\]", r".\1", str(key)).split(".")
    try:
        nest, (*steps, last) = nest[section], steps
        for step in steps:
            nest = nest[int(step) if isinstance(nest, list) else step]
        nest[int(last) if isinstance(nest, list) else last] = value
    except (LookupError, TypeError, ValueError):
        expected = "SECTION.KEY with a section and a key of the five files, or pair"
        raise config_error("changes", "", show(key), expected) from None


def _check_splits(config: Config) -> None:
    """Check the splits' combinations against the lines."""
    file, spectra = config.meta.distribution_config_path, config.spectra
    lines = {line.label: line for line in spectra.lines}
    for name, split in config.distribution.splits.items():
        listed = split.distribution.combinations if isinstance(split.distribution, CombinationDistribution) else ()
        for index, combination in enumerate(listed):
            at = f"splits.{name}.distribution.combinations[{index}]"
            for place, label in enumerate(combination.components):
                if label not in lines:
                    raise config_error(file, f"{at}.components[{place}]", show(label), one_of(spectra.labels, label))
            for label, limits in combination.ranges.items():
                if broken := spectra.check_flux(lines[label], limits[1]):
                    raise config_error(file, f"{at}.ranges.{label}", show(limits), broken)
                if spectra.sampling.abundance.distribution == "log_uniform" and limits[0] == 0:
                    expected = "numbers above 0, as abundances are log_uniform"
                    raise config_error(file, f"{at}.ranges.{label}", show(limits), expected)
