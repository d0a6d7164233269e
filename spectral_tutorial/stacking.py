"""Many copies of one network, run as one.

The weights of S networks are stacked along a first axis, so that one batched matrix product serves them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from spectral_tutorial.models import SeededDropout

State = dict[str, Tensor]
"""Parameters and buffers of all seeds, each tensor stacked along a first axis S."""

STACKABLE = (nn.Linear, nn.ReLU, nn.GELU, nn.Tanh, SeededDropout)
"""Layers that need no vmap, whose overhead is as large as the arithmetic of a few small networks."""


def fits_the_batch(model: nn.Module) -> bool:
    """Whether many copies can run stacked: not with BatchNorm, torch's own dropout or recurrent layers."""
    return not any(isinstance(module, _BatchNorm | _DropoutNd | nn.RNNBase) for module in model.modules())


def _is_a_plain_stack(model: nn.Module) -> TypeGuard[nn.Sequential]:
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
    if _is_a_plain_stack(model):
        return _forward_layers(model, state, inputs)
    if fits_the_batch(model):
        stacked: Tensor = vmap(lambda weights, rows: functional_call(model, weights, (rows,)))(dict(state), inputs)
        return stacked
    alone = [{name: tensor[seed] for name, tensor in state.items()} for seed in range(n_seeds)]
    return torch.stack([functional_call(model, *pair) for pair in zip(alone, inputs, strict=True)])


def _forward_layers(layers: nn.Sequential, state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    for name, layer in layers.named_children():
        if isinstance(layer, nn.Linear):
            x = _StackedLinear.apply(x, state[f"{name}.weight"], state[f"{name}.bias"])
        elif isinstance(layer, SeededDropout):
            x = x * state[f"{name}.mask"] if layer.training else x
        else:
            x = layer(x)
    return x


class _StackedLinear(torch.autograd.Function):
    """``x W^T + b`` of all seeds; the gradient of W comes as it lies in memory, not transposed as from autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias[:, None], x, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        below = torch.bmm(gradient, weight) if ctx.needs_input_grad[0] else None
        return below, torch.bmm(gradient.mT, x), gradient.sum(dim=1)


class Learned:
    """What is learned, in one memory: a row a seed, in which its parameters lie one after another (of each type).

    The optimizer then has one tensor a seed to update, instead of one for each layer's weights and biases. A tensor for
    all seeds would be fewer still, but the fused update rounds by place in a tensor, so a seed would depend on others.

    Parameters
    ----------
    state : State
        Its parameters are put into the memory, and replaced by views of it.
    names : sequence of str
        Which of its tensors are parameters.
    """

    ALIGNED = 4096
    """Rows are filled up to a multiple of this, so that threads that share one meet where rounding does not show."""

    def __init__(self, state: State, names: Sequence[str]) -> None:
        self.rows: list[Tensor] = []
        self.parameters: list[Tensor] = []
        self._gradients: list[Tensor] = []
        for kind in dict.fromkeys(state[name].dtype for name in names):
            self._lay(state, [name for name in names if state[name].dtype == kind])

    def _lay(self, state: State, names: Sequence[str]) -> None:
        """Lay out parameters of one type."""
        given = [state[name] for name in names]
        sizes = [tensor[0].numel() for tensor in given]
        width = -(-sum(sizes) // self.ALIGNED) * self.ALIGNED
        values = given[0].new_zeros(len(given[0]), width)
        gradients = torch.zeros_like(values)
        for name, tensor, part, gradient in zip(names, given, _cut(values, sizes), _cut(gradients, sizes), strict=True):
            state[name] = part.view(tensor.shape).copy_(tensor).requires_grad_()
            self.parameters.append(state[name])
            self._gradients.append(gradient.view(tensor.shape))
        for row, gradient in zip(values.unbind(), gradients.unbind(), strict=True):
            row.grad = gradient
            self.rows.append(row)

    def take_gradients(self, loss: Tensor) -> None:
        """Put the gradients of a loss beside the rows; those of weights that take no part are 0, so they only decay."""
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        for place, gradient in zip(self._gradients, found, strict=True):
            if gradient is not None:
                place.copy_(gradient)


def _cut(rows: Tensor, sizes: Sequence[int]) -> Sequence[Tensor]:
    return rows.split([*sizes, rows.shape[1] - sum(sizes)], dim=1)[: len(sizes)]
