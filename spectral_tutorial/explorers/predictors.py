"""What predicts in the page: descriptions, as plain values, of functions from flux to two abundances.

A description names its layers, which ``makePredictor`` in ``common.js`` understands, and how it looks in the figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spectral_tutorial import analysis
from spectral_tutorial.data import LOG_FLOOR, InputTransform
from spectral_tutorial.explorers.packing import pack_layer

if TYPE_CHECKING:
    from spectral_tutorial.experiment import Experiment

SHAPES = ("circle", "square", "triangle", "diamond")
NETWORK_COLOR, OTHER_COLORS = "var(--se-test)", ("#009E73", "#CC79A7", "#E69F00")
IN_PAGE = ("mlp", "linear")
"""Model types that the page can compute: affine layers with an activation between them."""


def describe_transform(transform: InputTransform) -> dict[str, Any]:
    """Describe what is done to flux before a network sees it."""
    mean = [round(float(value), 8) for value in np.atleast_1d(transform.mean)]
    look = {"log": transform.log, "floor": transform.floor, "scale": transform.scale}
    return {**look, "mean": mean if transform.standardize else []}


def extreme_seeds(experiment: Experiment) -> dict[int, str]:
    """Choose three live seeds by their last OOD error of the y component, the first data seed's: seed to rank.

    The lowest, the median (of an even number the lower of the two in the middle) and the highest; fewer where
    fewer are alive.
    """
    table = experiment.final_errors("network", analysis.OOD_SPLIT)
    ours = (table["component"] == experiment.reported[1]) & table["status"].isin(analysis.LIVE)
    ours &= table["data_seed"] == experiment.config.meta.data_seed[0]
    order = [int(seed) for seed in table[ours].sort_values("mse", kind="stable")["training_seed"]]
    if not order:
        raise ValueError("found no live network; expected at least one to explore (see exp.seed_status())")
    places = {"lowest": 0, "median": (len(order) - 1) // 2, "highest": len(order) - 1}
    chosen = {order[place]: name for name, place in reversed(places.items())}
    return {seed: chosen[seed] for seed in order if seed in chosen}


def network_predictors(experiment: Experiment) -> list[dict[str, Any]]:
    """Describe the three networks of :func:`extreme_seeds` at their last checkpoint."""
    settings = experiment.config.training
    if settings.model_type not in IN_PAGE:
        raise ValueError(f"model_type: found {settings.model_type}; expected {' or '.join(IN_PAGE)} for GapExplorer")
    outputs, seeds = experiment.world.index(experiment.reported), experiment.predictions().training_seeds
    state, found = experiment.weights("network"), []
    for shape, (seed, rank) in zip(SHAPES, extreme_seeds(experiment).items(), strict=False):
        look = {"name": f"seed {seed}", "note": rank, "shape": shape, "color": NETWORK_COLOR}
        layers = _layers({name: tensor[seeds.index(seed)].numpy() for name, tensor in state.items()}, outputs)
        found.append({**look, "activation": settings.activation, "layers": layers})
    return found


def _layers(weights: Mapping[str, NDArray[np.float32]], outputs: Sequence[int]) -> list[dict[str, Any]]:
    """Affine layers in order, the last with the rows of the reported components alone."""
    names = sorted((name.removesuffix(".weight") for name in weights if name.endswith(".weight")), key=int)
    pairs = [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names]
    matrix, bias = pairs[-1]
    pairs[-1] = (matrix[list(outputs)], bias[list(outputs)])
    return [pack_layer(*pair) for pair in pairs]


def linear_predictor(
    name: str,
    coefficients: ArrayLike,
    intercept: ArrayLike,
    *,
    log: bool = True,
    floor: float = LOG_FLOOR,
    note: str = "",
) -> dict[str, Any]:
    """Describe a linear map on flux or log flux, to be shown by ``GapExplorer(exp, predictors=[...])``.

    Parameters
    ----------
    name : str
        What it is called.
    coefficients : array, shape (2, W)
        One row for each of the two reported components.
    intercept : array, shape (2,)
        Abundances at (log) flux 0.
    log : bool
        Whether it takes the logarithm of flux.
    floor : float
        Flux below this counts as this before a logarithm; in the unit of flux.
    note : str
        A few words beside the name.
    """
    transform = {"log": log, "floor": floor, "mean": [], "scale": 1.0}
    layers = [pack_layer(coefficients, intercept)]
    return {"name": name, "note": note, "transform": transform, "activation": "relu", "layers": layers}


def dressed(predictors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give each predictor a shape and a color of its own where it has none, and see that names differ."""
    names = [predictor["name"] for predictor in predictors]
    if len(set(names)) < len(names):
        raise ValueError(f"predictors: found the names {', '.join(names)}; expected each once")
    others = [name for predictor, name in zip(predictors, names, strict=True) if "color" not in predictor]
    colors = {name: OTHER_COLORS[i % len(OTHER_COLORS)] for i, name in enumerate(others)}
    return [{"shape": "diamond", "color": colors.get(one["name"]), "note": "", **one} for one in predictors]
