"""``SWEEP.yaml`` as a frozen model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from pydantic import model_validator as validator

from spectral_tutorial.methods import METHODS, is_known
from spectral_tutorial.reading import Valid, one_of, refusal, show
from spectral_tutorial.sections import FilePath, Label, Part, Plain, Seeds

MOST_CELLS = 100_000

_CHANGES = "SECTION.KEY, or pair, as in the variations of analysis.yaml"
_Methods = Annotated[tuple[Label, ...], Field(strict=False, min_length=1), Valid("list of names")]
_Axis = Annotated[tuple[Plain, ...], Field(strict=False, min_length=1)]


class SweepFile(Part):
    """``SWEEP.yaml``: which experiments, and what is asked of each; paths are relative to this file."""

    base: FilePath = Field(description="meta file of the experiment that the cells are changes of")
    sweep_dir: FilePath = Field(description="directory of the table and of the finished cells")
    data_seed: Seeds | None = Field(default=None, description="data seeds of every cell; by default the base's")
    training_seed: Seeds | None = Field(default=None, description="training seeds of every cell; by default the base's")
    methods: _Methods = Field(default=("network",), description="variants and methods that every cell is asked for")
    fixed: Annotated[Mapping[str, Plain], Valid("values, by key")] = Field(
        default={}, description=f"changes that all cells share: {_CHANGES}"
    )
    grid: Annotated[Mapping[str, _Axis], Valid("lists of values, by key")] = Field(
        default={}, description=f"a list of values by key: {_CHANGES}, or method; every combination is a cell"
    )
    threads: Annotated[int, Field(ge=1, le=1024)] = Field(default=1, description="processor threads of one cell")
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        default=1, description="how often a failed cell is tried again"
    )
    keep: bool = Field(default=False, description="whether the cells' experiments stay in sweep_dir/experiments")

    @property
    def shared(self) -> dict[str, Any]:
        """Changes that all cells share, the seeds included."""
        seeds = {"meta.data_seed": self.data_seed, "meta.training_seed": self.training_seed}
        return {**self.fixed, **{key: list(value) for key, value in seeds.items() if value is not None}}

    @validator(mode="after")
    def _check_methods(self) -> SweepFile:
        if "method" in self.grid and "methods" in self.model_fields_set:
            raise refusal("no methods beside a grid with method", "methods", found=show(self.methods))
        for at, names in ((("methods",), self.methods), (("grid", "method"), self.grid.get("method", ()))):
            for place, name in enumerate(names):
                if not is_known(str(name)):
                    valid = f"network+N, or {one_of(METHODS, name)}"
                    raise refusal(valid, *at, place, found=show(name))
                if name in names[:place]:
                    raise refusal("each method once", *at, place, found=f"{show(name)} a second time")
        return self

    @validator(mode="after")
    def _check_keys(self) -> SweepFile:
        for place, keys in (("fixed", self.fixed), ("grid", self.grid)):
            for key in keys:
                if key.startswith("meta.") and key not in ("meta.data_seed", "meta.training_seed"):
                    expected = "of the meta file only meta.data_seed and meta.training_seed"
                    raise refusal(expected, place, key, found="a key that a sweep sets itself")
        if "method" in self.fixed:
            raise refusal("the key methods, outside of fixed", "fixed", "method", found="a key that is none")
        for key, values in self.grid.items():
            if key in self.shared:
                raise refusal("one value for all cells, or a list in the grid", "grid", key, found="both")
            for index, value in enumerate(values):
                if value in values[:index]:
                    raise refusal("each value once", "grid", key, index, found=f"{show(value)} a second time")
        if (cells := math.prod(map(len, self.grid.values()))) > MOST_CELLS:
            raise refusal(f"at most {MOST_CELLS}", "grid", found=f"{cells} cells")
        return self
