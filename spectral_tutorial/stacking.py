"""Many copies of one network, run as one.

The weights of S networks are stacked along a first axis, so that one batched matrix product serves them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, TypeGuard

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from spectral_tutorial.models import SeededDropout

State = dict[str, Tensor]
"""Parameters and buffers of all seeds, each tensor stacked along a first axis S."""

STACKABLE = (nn.Linear, nn.ReLU, nn.GELU, nn.Tanh, SeededDropout)
"""Layers that need neither vmap nor autograd, whose overhead is as large as the arithmetic of a few small networks."""

ALIGNED = 16
"""What is learned by each seed begins at multiples of so many numbers: a processor's widest register. The fused update
rounds by place in it, so that elsewhere a seed would depend on those before it."""


def fits_the_batch(model: nn.Module) -> bool:
    """Whether many copies can run stacked: not with BatchNorm, torch's own dropout or recurrent layers."""
    return not any(isinstance(module, _BatchNorm | _DropoutNd | nn.RNNBase) for module in model.modules())


def is_a_plain_stack(model: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether a network is nothing but layers of known kinds, one after another, each used once."""
    if not isinstance(model, nn.Sequential) or type(model).forward is not nn.Sequential.forward:
        return False
    layers = list(model.children())  # each once
    known = all(type(layer) in STACKABLE for layer in layers)
    return known and len(layers) == len(model) and all(getattr(layer, "bias", 0) is not None for layer in layers)


def forward(model: nn.Module, state: Mapping[str, Tensor], x: Tensor, shared: bool) -> Tensor:
    """Outputs ``(S, B, L)`` for inputs ``(S, B, W)``, or ``(B, W)`` where all seeds read the `shared` ones."""
    n_seeds = len(next(iter(state.values())))
    inputs = x.expand(n_seeds, *x.shape) if shared else x
    if is_a_plain_stack(model):
        for layer in _layers(model, state, {}):  # one at a time: what it remembers goes with it
            inputs = layer.forward(inputs, state)
        return inputs
    if fits_the_batch(model):
        stacked: Tensor = vmap(lambda weights, rows: functional_call(model, weights, (rows,)))(dict(state), inputs)
        return stacked
    alone = [{name: tensor[seed] for name, tensor in state.items()} for seed in range(n_seeds)]
    return torch.stack([functional_call(model, *pair) for pair in zip(alone, inputs, strict=True)])


class Learner:
    """S networks that learn: their answers, and the gradients of their parameters.

    Plain stacks are taken back layer by layer without autograd, others with it. All that is learned lies end to end in
    one tensor, so that the optimizer has one thing to do and not one for each seed and parameter.

    Parameters
    ----------
    model : Module
        The network, in training mode whenever it reads.
    initial : State
        Parameters and buffers of all seeds to begin with.

    Attributes
    ----------
    state : State
        Parameters and buffers as they are now.
    learned : list of Tensor
        All that is learned, with its gradient as ``grad``: one tensor for each number type. The gradients of parameters
        that take no part stay 0, so these only decay.
    """

    def __init__(self, model: nn.Module, initial: State) -> None:
        self.model = model
        parameters = {name: initial[name] for name, parameter in model.named_parameters() if parameter.requires_grad}
        plain, zeros = is_a_plain_stack(model), {name: torch.zeros_like(tensor) for name, tensor in parameters.items()}
        self.learned, learned = _end_to_end(parameters, turned=plain)
        gradients, self.gradients = _end_to_end(zeros, turned=plain)
        for part, gradient in zip(self.learned, gradients, strict=True):
            part.grad = gradient
        self.state = {**initial, **{name: tensor.requires_grad_() for name, tensor in learned.items()}}
        self._layers = list(_layers(model, self.state, self.gradients)) if is_a_plain_stack(model) else None
        self._outputs: Tensor

    def read(self, x: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        """Outputs ``(S, B, L)`` for inputs ``(S, B, W)``, with these dropout masks."""
        if self._layers is None:
            self._outputs = forward(self.model, {**self.state, **masks}, x, shared=False)
            return self._outputs.detach()
        for layer in self._layers:
            x = layer.forward(x, masks)
        return x

    def pull_back(self, gradient: Tensor) -> None:
        """Take the loss's gradient with respect to the outputs just read, and put the parameters' beside them."""
        if self._layers is None:
            wanted = [self.state[name] for name in self.gradients]
            found = torch.autograd.grad(self._outputs, wanted, gradient, allow_unused=True)
            for place, part in zip(self.gradients.values(), found, strict=True):
                if part is not None:
                    place.copy_(part)
            return
        for layer in reversed(self._layers):
            gradient = layer.pull_back(gradient)


def _end_to_end(tensors: State, *, turned: bool) -> tuple[list[Tensor], State]:
    """Copy tensors ``(S, ...)`` into one for each number type; return these, and views in the shapes they had.

    Matrices that are `turned` lie transposed, (in, out): a layer's products are then quicker, forward and back.
    """
    whole, views = [], {}
    for kind in dict.fromkeys(tensor.dtype for tensor in tensors.values()):
        same = {name: tensor for name, tensor in tensors.items() if tensor.dtype == kind}
        rooms = [len(tensor) * -(-tensor[0].numel() // ALIGNED) * ALIGNED for tensor in same.values()]
        whole.append(next(iter(same.values())).new_zeros(sum(rooms)))
        for (name, tensor), room in zip(same.items(), whole[-1].split(rooms), strict=True):
            transposed = turned and tensor.dim() == 3
            shape = tensor.mT.shape if transposed else tensor.shape
            view = room.view(len(tensor), -1)[:, : tensor[0].numel()].view(shape)
            views[name] = view.mT if transposed else view
            views[name].copy_(tensor)
    return whole, views


def _layers(model: nn.Sequential, state: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Iterator[_Layer]:
    for place, (name, layer) in enumerate(model.named_children()):
        if isinstance(layer, nn.Linear):
            yield _Linear(name, state, gradients, is_first=place == 0)
        elif isinstance(layer, SeededDropout):
            yield _Dropout(f"{name}.mask", layer)
        else:
            yield _ReLU() if isinstance(layer, nn.ReLU) else _Smooth(layer)


class _Layer(Protocol):
    """One layer of S networks, which remembers what it needs for the way back."""

    def forward(self, x: Tensor, masks: Mapping[str, Tensor]) -> Tensor: ...

    def pull_back(self, gradient: Tensor) -> Tensor:
        """Turn the gradient with respect to what the layer gave into that with respect to what it was given."""


class _Linear:
    """``x W^T + b``, which also puts the gradients of W and b into their places."""

    def __init__(self, name: str, state: Mapping[str, Tensor], gradients: Mapping[str, Tensor], is_first: bool) -> None:
        self.weight, self.bias = state[f"{name}.weight"].detach(), state[f"{name}.bias"].detach()[:, None]
        self.transposed = self.weight.mT
        self.weight_gradient, self.bias_gradient = gradients.get(f"{name}.weight"), gradients.get(f"{name}.bias")
        self.is_first = is_first

    def forward(self, x: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        self.x = x
        return torch.baddbmm(self.bias, x, self.transposed)

    def pull_back(self, gradient: Tensor) -> Tensor:
        if self.weight_gradient is not None:
            torch.bmm(self.x.mT, gradient, out=self.weight_gradient.mT)
        if self.bias_gradient is not None:
            torch.sum(gradient, dim=1, out=self.bias_gradient)
        return gradient if self.is_first else torch.bmm(gradient, self.weight)  # nobody asks for the first one's


class _ReLU:
    def forward(self, x: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        self.y = torch.relu(x)
        return self.y

    def pull_back(self, gradient: Tensor) -> Tensor:
        return gradient * self.y.sign()  # 0 or 1; a mask of booleans would take several times as long


class _Smooth:
    """An activation that autograd takes back, by itself."""

    def __init__(self, activation: nn.Module) -> None:
        self.activation = activation

    def forward(self, x: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        with torch.enable_grad():
            self.x = x.detach().requires_grad_()
            self.y = self.activation(self.x)
        return self.y.detach()

    def pull_back(self, gradient: Tensor) -> Tensor:
        return torch.autograd.grad(self.y, self.x, gradient)[0]


class _Dropout:
    def __init__(self, name: str, layer: SeededDropout) -> None:
        self.name, self.layer = name, layer

    def forward(self, x: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        self.mask = masks[self.name] if self.layer.training else None
        return x if self.mask is None else x * self.mask

    def pull_back(self, gradient: Tensor) -> Tensor:
        return gradient if self.mask is None else gradient * self.mask
