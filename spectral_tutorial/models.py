"""Networks that read a spectrum: torch modules, their initial weights, and the forward pass of many copies at once.

Each is written for one seed, ``(B, W)`` in and ``(B, L)`` out. A module of your own is named as
``model_type: "module:Class"`` and is built as ``Class(n_bins=, n_components=, hidden_dims=, dropout_rate=,
activation=)``. Axes of many copies: ``S`` seeds first.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F

from spectral_tutorial.reading import config_error, show
from spectral_tutorial.sections import TrainingConfig

log = logging.getLogger(__name__)

Build = Callable[[], nn.Module]  #: makes one network; what it draws comes from torch's global generator
State = dict[str, Tensor]  #: parameters and buffers of all seeds, each tensor stacked along a first axis S
Forward = Callable[[State, Tensor], Tensor]
"""The forward pass of all seeds: their state and inputs ``(S, B, W)`` in, outputs ``(S, B, L)`` out."""

EVALUATION_ROWS = 1024  #: spectra in one forward pass when nothing is learned from them
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
                bias, weight = state[f"{name}.bias"], state[f"{name}.weight"]
                if x.requires_grad:
                    x = torch.baddbmm(bias[:, None], x, weight.mT)
                else:  # spectra: so the gradient of the many weights is made in their own order, and not copied
                    x = torch.baddbmm(bias[..., None], weight, x.mT).mT.contiguous()
            elif isinstance(layer, SeededDropout):
                x = x * state[f"{name}.mask"] if layer.training else x
            else:
                x = layer(x)
        return x


class Linear(MLP):
    """One linear map ``W -> L``: no hidden layer, so it cannot express "this one is there, so that one is not"."""

    def __init__(self, n_bins: int, n_components: int, **_: object) -> None:
        super().__init__(n_bins, n_components, hidden_dims=())


class AveragingMLP(MLP):
    """An MLP that reads the means of ``TOGETHER`` neighboring bins, the last ones of what is left.

    Of a line as wide as comp4, ten bins, that keeps 99.4 % of the information, and leaves a quarter of the weights with
    which the first layer could fit noise.
    """

    TOGETHER = 4

    def __init__(self, n_bins: int, n_components: int, **settings: Any) -> None:
        super().__init__(-(-n_bins // self.TOGETHER), n_components, **settings)

    def averaged(self, x: Tensor) -> Tensor:
        """Means of neighboring bins, ``(..., N, W)`` to what the first layer reads; means stay as they are."""
        known = x.shape[-1] == self[0].in_features
        return x if known else F.avg_pool1d(x, self.TOGETHER, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(B, L)`` for inputs ``(B, W)``."""
        return super().forward(self.averaged(x))

    def forward_stacked(self, state: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Outputs ``(S, B, L)`` of S copies for inputs ``(S, B, W)``."""
        return super().forward_stacked(state, self.averaged(x))


def averaged(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return inputs ``(N, W)`` as means, if `model` reads these, and else as they are."""
    return model.averaged(inputs) if isinstance(model, AveragingMLP) else inputs


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


MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": MLP,
    "averaging_mlp": AveragingMLP,
    "cnn": CNN,
    "linear": Linear,
}

STACKED = (MLP, AveragingMLP, Linear)  #: networks with a forward pass of many copies


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


def builder(network: Callable[..., nn.Module], n_bins: int, n_components: int, training: TrainingConfig) -> Build:
    """Return what makes one network of some settings."""
    size = {"n_bins": n_bins, "n_components": n_components, "hidden_dims": training.hidden_dims}
    return partial(network, **size, dropout_rate=training.dropout_rate, activation=training.activation)


@contextmanager
def borrowed(own: torch.Generator) -> Iterator[None]:
    """Let torch's global CPU generator, which constructors and dropout draw from, go on as `own` for a while."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(own.get_state())
        yield
        own.set_state(torch.get_rng_state())


def template(build: Build) -> nn.Module:
    """Make one network whose weights do not matter, leaving torch's global generator as it was."""
    with borrowed(torch.Generator().manual_seed(0)):
        return build()


def without_last(model: nn.Module) -> nn.Module:
    """Let a network end before its last layer: its outputs are then what its answer is read from, ``(B, H)``.

    TypeError if it is no sequence of layers.
    """
    if not isinstance(model, nn.Sequential):
        raise TypeError(f"{type(model).__name__} is no sequence of layers; expected an nn.Sequential")
    model[-1] = nn.Identity()
    return model


def check(model: object, n_bins: int, n_components: int) -> None:
    """Let a network read two spectra.

    TypeError if it is no torch module, learns nothing, or does not map ``(2, n_bins)`` to ``(2, n_components)``.
    """
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name}, which is no torch module")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TypeError(f"{name}, which has nothing to learn")
    inputs = torch.ones(2, n_bins, device=next(model.parameters()).device)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            outputs = model.eval()(inputs)
    except Exception as problem:  # whatever it is, it is the network's own
        raise TypeError(f"{name}, which fails on spectra ({type(problem).__name__}: {problem})") from problem
    shape = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if shape != (2, n_components):
        raise TypeError(f"{name}, which maps (2, {n_bins}) to {shape}")


def check_memory(config: TrainingConfig, build: Build, n_seeds: int, device: torch.device) -> None:
    """Refuse networks whose weights, gradients and two moments do not fit; nothing is allocated to find out.

    ConfigError if they need more memory than is free.
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


def choose_device(name: str) -> torch.device:
    """``auto`` takes a GPU where torch finds one; anything else is a torch device name.

    ConfigError if torch does not find such a device here.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    if not there.get(name.split(":")[0], True):
        valid = ", ".join(["auto", *(kind for kind, found in there.items() if found)])
        raise config_error("training", "device", f"{show(name)}, which torch does not find here", f"one of {valid}")
    return torch.device(name)


# --- many copies


def stacked(model: nn.Module, state: State, n_bins: int, generators: Sequence[torch.Generator] = ()) -> Forward:
    """Return the forward pass of all seeds: at once, or one after another where vmap cannot take the network.

    It takes no dropout of torch's own, no recurrent layers and no control flow that depends on values. What such a
    network draws in training comes from its seed's generator.
    """
    if type(model) in STACKED:  # they say themselves how, which saves vmap's overhead
        return model.forward_stacked  # type: ignore[return-value]
    alone: Forward = lambda weights, x: functional_call(model, weights, (x,))  # noqa: E731
    together = vmap(alone)
    first = next(iter(state.values()))
    try:
        with torch.no_grad():  # on copies, for layers that count or average while they train
            spectra = torch.ones(1, 2, n_bins, device=first.device)
            together({name: tensor[:1].clone() for name, tensor in state.items()}, spectra)
    except RuntimeError as problem:
        name, reason = type(model).__name__, str(problem).split(". ")[0]
        if model.training:  # it is said once
            log.info("%s cannot be stacked: its %d seeds run one after another (%s)", name, len(first), reason)
        own = generators or [torch.Generator().manual_seed(0) for _ in first]
        return partial(_in_turn, alone, own)
    return together


def _in_turn(alone: Forward, generators: Sequence[torch.Generator], state: State, inputs: Tensor) -> Tensor:
    """Outputs ``(S, B, L)``, one seed after another."""
    outputs = []
    for own, rows, *tensors in zip(generators, inputs, *(tensor.unbind() for tensor in state.values()), strict=True):
        with borrowed(own):
            outputs.append(alone(dict(zip(state, tensors, strict=True)), rows))
    return torch.stack(outputs)


def in_blocks(forward: Forward, state: State, inputs: Tensor) -> Iterator[Tensor]:
    """Outputs ``(S, B, L)`` for inputs ``(N, W)`` that all seeds share, some at a time, with nothing to learn."""
    n_seeds = len(next(iter(state.values())))
    for rows in inputs.split(EVALUATION_ROWS):
        with torch.no_grad():
            yield forward(state, rows.expand(n_seeds, *rows.shape))


def predict(model: nn.Module, state: State, inputs: Tensor) -> Tensor:
    """Outputs of every seed's network in evaluation mode: inputs ``(N, W)`` in, ``(S, N, L)`` out."""
    forward = stacked(model.eval(), state, inputs.shape[1])
    return torch.cat(list(in_blocks(forward, state, inputs)), dim=1)
