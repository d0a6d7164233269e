"""Networks that read a spectrum: torch modules, their initial weights, and what a network has to fulfil.

Each is written for one seed, ``(B, W)`` in and ``(B, L)`` out; :mod:`spectral_tutorial.training` runs many copies at
once. A module of your own is named as ``model_type: "module:Class"`` and is built as
``Class(n_bins=, n_components=, hidden_dims=, dropout_rate=, activation=)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import psutil
import torch
from torch import Tensor, nn

from spectral_tutorial.reading import config_error, show
from spectral_tutorial.sections import SpectraConfig, TrainingConfig

Made = TypeVar("Made")

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class SeededDropout(nn.Module):
    """Dropout whose mask is handed in, so that each seed's masks come from that seed's own generator.

    The buffer ``mask``, of shape ``(B, *features)``, holds 0 or 1 / (1 - rate); the training loop fills it. In
    evaluation mode the module does nothing.
    """

    mask: Tensor

    def __init__(self, rate: float, *features: int) -> None:
        super().__init__()
        self.rate = rate
        self.features = features
        self.register_buffer("mask", torch.ones(1, *features), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` times the mask, shape ``(B, *features)``."""
        return x * self.mask if self.training else x


def _dropout(rate: float, *features: int) -> Iterator[nn.Module]:
    if rate > 0:
        yield SeededDropout(rate, *features)


class MLP(nn.Sequential):
    """Fully connected layers: ``W -> hidden_dims -> L``, an activation and dropout after each hidden one."""

    def __init__(
        self,
        n_bins: int,
        n_components: int,
        hidden_dims: Sequence[int] = (128, 64),
        dropout_rate: float = 0.0,
        activation: str = "relu",
    ) -> None:
        layers: list[nn.Module] = []
        width = n_bins
        for hidden in hidden_dims:
            layers += [nn.Linear(width, hidden), ACTIVATIONS[activation](), *_dropout(dropout_rate, hidden)]
            width = hidden
        super().__init__(*layers, nn.Linear(width, n_components))

    def forward_stacked(self, state: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Outputs ``(S, B, L)`` of S copies for inputs ``(S, B, W)``; `state` has their weights and dropout masks."""
        for name, layer in self.named_children():
            if isinstance(layer, nn.Linear):
                x = torch.baddbmm(state[f"{name}.bias"][:, None], x, state[f"{name}.weight"].mT)
            elif isinstance(layer, SeededDropout):
                x = x * state[f"{name}.mask"] if layer.training else x
            else:
                x = layer(x)
        return x


class Linear(MLP):
    """One linear map ``W -> L``: no hidden layer, so it cannot express "this one is there, so that one is not"."""

    def __init__(self, n_bins: int, n_components: int, **_: object) -> None:
        super().__init__(n_bins, n_components, hidden_dims=())


class CNN(nn.Sequential):
    """Strided one-dimensional convolutions, then one hidden layer.

    Three convolutions of 8, 16 and 32 channels shorten the spectrum by 4 each, with one hidden layer of
    ``hidden_dims[-1]`` units behind them: 0.2 million multiply-adds for a spectrum of 1024 bins.
    """

    CHANNELS = (8, 16, 32)
    KERNEL, STRIDE = 9, 4

    def __init__(
        self,
        n_bins: int,
        n_components: int,
        hidden_dims: Sequence[int] = (64,),
        dropout_rate: float = 0.0,
        activation: str = "relu",
    ) -> None:
        layers: list[nn.Module] = [nn.Unflatten(1, (1, n_bins))]
        channels, length = 1, n_bins
        for wider in self.CHANNELS:
            layers.append(nn.Conv1d(channels, wider, self.KERNEL, self.STRIDE, padding=self.KERNEL // 2))
            length = (length - 1) // self.STRIDE + 1
            layers += [ACTIVATIONS[activation](), *_dropout(dropout_rate, wider, length)]
            channels = wider
        hidden = hidden_dims[-1] if hidden_dims else 64
        layers += [nn.Flatten(), nn.Linear(channels * length, hidden), ACTIVATIONS[activation]()]
        super().__init__(*layers, *_dropout(dropout_rate, hidden), nn.Linear(hidden, n_components))


MODELS: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "cnn": CNN, "linear": Linear}


STACKED = (MLP, Linear)
"""Networks with a forward pass of many copies."""


def mask_layers(model: nn.Module) -> dict[str, SeededDropout]:
    """Return the dropout layers of a network by the names of their masks."""
    return {f"{name}.mask": layer for name, layer in model.named_modules() if isinstance(layer, SeededDropout)}


def initialize(model: nn.Module, how: str) -> None:
    """Give `model` its initial weights, drawn from torch's current generator.

    ``torch`` keeps what PyTorch's constructors drew; ``torch_small`` is 0.3 times that; ``kaiming_normal`` (He et al.
    2015) draws every weight of a linear or convolutional layer with variance 2 / fan_in and sets biases to 0, as the
    original tutorial did.
    """
    if how == "torch":
        return
    if how == "torch_small":
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.3)
        return
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def builder(network: Callable[..., Made], spectra: SpectraConfig, training: TrainingConfig) -> Callable[[], Made]:
    """Return what makes one network of some settings, for spectra such as these."""
    return partial(
        network,
        n_bins=spectra.n_bins,
        n_components=spectra.n_components,
        hidden_dims=training.hidden_dims,
        dropout_rate=training.dropout_rate,
        activation=training.activation,
    )


def check(network: Callable[..., object], spectra: SpectraConfig, training: TrainingConfig) -> None:
    """Make one network, and let it read two spectra.

    Raises
    ------
    TypeError
        If it is no torch module, or does not map ``(2, n_bins)`` to ``(2, n_components)``.
    """
    made = builder(network, spectra, training)()
    if not isinstance(made, nn.Module):
        raise TypeError(f"it makes a {type(made).__name__}")
    with torch.no_grad():
        output = made(torch.ones(2, spectra.n_bins))
    if getattr(output, "shape", None) != (2, spectra.n_components):
        raise TypeError(f"its output for 2 spectra is {tuple(getattr(output, 'shape', ()))}")


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU where torch finds one; anything else is a torch device name.

    Raises
    ------
    ConfigError
        If torch does not find such a device here.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    if not there.get(name.split(":")[0], True):
        valid = ", ".join(["auto", *(kind for kind, found in there.items() if found)])
        raise config_error("training", "device", f"{show(name)}, which torch does not find here", f"one of {valid}")
    return torch.device(name)


def check_memory(config: TrainingConfig, build: Callable[[], nn.Module], n_seeds: int, device: torch.device) -> None:
    """Refuse networks whose weights, gradients and two moments do not fit; nothing is allocated to find out.

    Raises
    ------
    ConfigError
        If they need more memory than is free.
    """
    try:
        with torch.device("meta"):
            parameters = list(build().parameters())
    except Exception:  # a person's network may do what tensors without values cannot
        return
    needed = 4 * n_seeds * sum(tensor.numel() * tensor.element_size() for tensor in parameters)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        key = "model_type" if ":" in config.model_type else "hidden_dims"
        found = f"{show(getattr(config, key))}, whose training takes {needed / 1e9:,.1f} GB at {n_seeds} seeds"
        raise config_error("training", key, found, f"a network that fits into the {free / 1e9:,.1f} GB that are free")


def check_shapes(config: TrainingConfig, model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Refuse a network that learns nothing, or does not map `inputs` to outputs of the shape of `targets`.

    Raises
    ------
    ConfigError
        If it fails, or its outputs have another shape.
    """
    name, (n_bins, n_components) = type(model).__name__, (inputs.shape[1], targets.shape[1])
    if not any(parameter.requires_grad for parameter in model.parameters()):
        found = f"{name}, which has nothing to learn"
        raise config_error("training", "model_type", found, "a network with parameters")
    expected = f"a network that maps (batch, {n_bins}) to (batch, {n_components})"
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs = model.eval()(inputs)
    except Exception as problem:  # whatever it is, it is the network's own
        found = f"{name}, which fails on spectra ({type(problem).__name__}: {problem})"
        raise config_error("training", "model_type", found, expected) from problem
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if shape != tuple(targets.shape):
        found = f"{name}, which maps {tuple(inputs.shape)} to {shape}"
        raise config_error("training", "model_type", found, expected)
