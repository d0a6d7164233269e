"""ErrorMap: the error over the plane of abundances, one way of training after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets
from matplotlib import colormaps, colors
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spectral_tutorial import analysis
from spectral_tutorial.data import Spectra, stream
from spectral_tutorial.explorers import pictures
from spectral_tutorial.explorers.base import Explorer, describe_reported
from spectral_tutorial.explorers.packing import pack_range
from spectral_tutorial.methods import COMPOSED, get_network
from spectral_tutorial.physics import add_noise
from spectral_tutorial.splits import draw_sampled

if TYPE_CHECKING:
    from spectral_tutorial.experiment import Experiment

Array = NDArray[np.float64]
Run = str | tuple[str, int]

CELLS = 21
"""Abundances along an axis of the map, both ends included: the axes of the plane are cells of their own."""

STARS = 16
"""Stars of each cell."""

DOTS = 256
"""Combinations in the training spectra that are marked, at most."""

LEAST_ERROR = 1e-6


class ErrorMap(Explorer):
    """How wrong networks are everywhere in the plane of two abundances, with a slider over ways of training.

    The color of a cell is the mean squared error over its stars, whose temperatures and noise levels are drawn as
    synthetic_spectra.yaml says and are the same in all cells; the median over live training seeds.

    Parameters
    ----------
    experiment : Experiment
        Trained on the way where it is not yet.
    runs : mapping of str to str or (str, int), optional
        What the slider says, and the method that is shown then: at its last checkpoint, or after so many steps.
        More and more combinations among the training spectra if none are named; those that this experiment has too few
        spectra for are left out.
    label : str
        Name of the slider.
    run : int
        Which of them is shown, counted from 0.
    component : str
        Whose error; that of the y component unless another is named.
    """

    kind = "error_map"
    run = traitlets.Int(0).tag(sync=True)
    component = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        experiment: Experiment,
        *,
        runs: Mapping[str, Run] | None = None,
        label: str = "Combinations among the training stars",
        **values: Any,
    ) -> None:
        self._runs = dict(runs or combinations_shown(experiment))
        stars = plane(experiment, abundances(experiment))
        self._errors = [error_over_plane(experiment, stars, *split(run)) for run in self._runs.values()]
        payload = self._payload(experiment, self._runs, self._errors) | {"label": label}
        super().__init__(experiment, **{"payload": payload, "component": experiment.reported[1], **values})

    @staticmethod
    def _payload(experiment: Experiment, runs: Mapping[str, Run], maps: Sequence[Array]) -> dict[str, Any]:
        grid, errors = abundances(experiment), np.log10(np.stack(maps))
        low, high = np.floor(10 * errors.min()) / 10, np.ceil(10 * errors.max()) / 10
        shades = colormaps["YlOrBr"](np.linspace(0.0, 1.0, 64))
        return {
            "reported": describe_reported(experiment),
            "grid": [round(float(value), 4) for value in grid],
            "maps": pack_range(errors, float(low), float(high + 0.1)),
            "colors": [colors.to_hex(shade) for shade in shades],
            "runs": [_described(experiment, title, *split(run)) for title, run in runs.items()],
        }

    @traitlets.validate("run")
    def _known_run(self, proposal: Any) -> int:
        return int(min(max(proposal["value"], 0), len(self._runs) - 1))

    @traitlets.validate("component")
    def _known_component(self, proposal: Any) -> str:
        if proposal["value"] not in (reported := self.experiment.reported):
            raise traitlets.TraitError(f"component: found {proposal['value']}; expected {' or '.join(reported)}")
        return str(proposal["value"])

    def payload_options(self) -> Any:
        """Return what the slider runs over."""
        return [self.payload["label"], *([title, *split(run)] for title, run in self._runs.items())]

    @property
    def _place(self) -> int:
        return self.experiment.reported.index(self.component)

    def errors(self) -> tuple[float, float]:
        """Return the errors of the shown run, ID and OOD: medians over live seeds."""
        known, held = self.payload["runs"][self.run]["mse"][self._place]
        return known, held

    @property
    def description(self) -> str:
        """The present state in words."""
        shown, (known, held) = self.payload["runs"][self.run], self.errors()
        x, y = (line["phrase"] for line in self.payload["reported"])
        return (
            f"Map of the error of {(x, y)[self._place]} over the abundances of {x} and {y}. {self.payload['label']}: "
            f"{shown['title']}. The mean squared error is {known:.4f} in distribution, {held:.4f} on the combination."
        )

    def picture(self) -> Figure:
        """Draw the present state for pages without JavaScript."""
        grid, errors = abundances(self.experiment), self._errors[self.run][self._place]
        packed, dots = self.payload["maps"], np.array(self.payload["runs"][self.run]["shown"]).reshape(-1, 2)
        names = [line["name"] for line in self.payload["reported"]]
        ends = 10.0 ** packed["low"], 10.0 ** packed["high"]
        return pictures.error_map(grid, errors, ends, dots, names, names[self._place])


def combinations_shown(experiment: Experiment) -> dict[str, str]:
    """Methods that saw more and more combinations: as many as this experiment has room for, and the oracle last."""
    total = experiment.config.distribution.splits["train"].n_samples
    counts = [count for count in (4, 16, 64, 256) if count <= total // 4]
    few = {"none": "network"} | {f"{count} of {total:,}": f"shown_{count}" for count in counts}
    return few | {"1 in 4, the oracle": "oracle"}


def split(run: Run) -> tuple[str, int | None]:
    """Return a run's method and step, None for the last checkpoint."""
    return (run, None) if isinstance(run, str) else run


def abundances(experiment: Experiment) -> Array:
    """Return the abundances of the map along an axis, shape ``(CELLS,)``."""
    return np.linspace(*experiment.config.spectra.sampling.abundance.range, CELLS)


def plane(experiment: Experiment, grid: Array) -> Spectra:
    """Return ``STARS`` spectra at each point of the plane, in the order (y, x, star)."""
    world, sampling = experiment.world, experiment.config.spectra.sampling
    seed = experiment.config.meta.data_seed[0]
    temperature, noise_level = (
        np.tile(draw_sampled(sampled, STARS, stream(seed, "plane", purpose)), len(grid) ** 2)
        for purpose, sampled in (("temperature", sampling.temperature), ("noise_level", sampling.noise))
    )
    abundance = np.zeros((len(temperature), len(world.labels)))
    y, x = (np.repeat(values, STARS) for values in np.meshgrid(grid, grid, indexing="ij"))
    abundance[:, world.index(experiment.reported)] = np.stack([x, y], axis=1)
    rows = np.array_split(np.arange(len(abundance)), len(grid))
    rng = stream(seed, "plane", "noise")
    flux = np.empty((len(temperature), world.wavelength.size), np.float32)
    for some in rows:
        mean = world.mean_flux(temperature[some], abundance[some])
        flux[some] = add_noise(mean, noise_level[some], rng, world.noise_power)
    return Spectra.from_arrays(world.wavelength, flux, abundance=abundance, labels=world.labels)


def error_over_plane(experiment: Experiment, spectra: Spectra, name: str, step: int | None) -> Array:
    """Return the mean squared error of both components in each cell, the median over live seeds: ``(2, y, x)``."""
    alive = analysis.alive(experiment.seed_status(name), experiment.config.meta.data_seed[0])
    if not alive.any():
        raise ValueError(f"found no live network of {name}; expected at least one (see exp.seed_status({name!r}))")
    outputs = experiment.outputs(spectra.flux, name, step)[alive][:, :, experiment.world.index(experiment.reported)]
    squares = np.square(outputs - spectra.of(*experiment.reported))
    cells = squares.reshape(len(squares), CELLS, CELLS, STARS, 2).mean(axis=3)
    return np.maximum(np.moveaxis(np.median(cells, axis=0), -1, 0), LEAST_ERROR)


def _described(experiment: Experiment, title: str, name: str, step: int | None) -> dict[str, Any]:
    """Title, errors (ID, OOD) of both components, and the combinations among its training spectra."""
    table = analysis.live(experiment.trajectories(name), experiment.seed_status(name))
    table = table[table["data_seed"] == experiment.config.meta.data_seed[0]]  # whose networks the map is of
    table = table[table["step"] == (table["step"].max() if step is None else step)]
    median = table.groupby(["component", "split"])["mse"].median()
    splits = (analysis.ID_SPLIT, analysis.OOD_SPLIT)
    mse = [[float(f"{median[label, split]:.4g}") for split in splits] for label in experiment.reported]
    return {"title": title, "mse": mse, "shown": np.round(_combinations(experiment, name), 3).tolist()}


def _combinations(experiment: Experiment, name: str) -> Array:
    """Abundances of the training spectra that hold both components, at most ``DOTS`` of them, shape ``(n, 2)``."""
    method = get_network(name)
    seen = [experiment.data(method.split).of(*experiment.reported)]
    if method.shown and method.shown.split != COMPOSED:
        seen.append(experiment.data(method.shown.split).of(*experiment.reported)[: method.shown.count])
    points = np.concatenate(seen)
    return points[(points > 0).all(axis=1)][:DOTS]
