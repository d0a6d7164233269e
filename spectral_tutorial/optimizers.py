"""PyTorch's optimizers, by what lies under their classes.

The classes keep records and sort the parameters at each step, and that takes longer than the update of a small network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.optim.sgd import sgd

Step = Callable[[], None]
"""Moves parameters by the gradients that now lie beside them."""


def _adam(update: Callable[..., None], parameters: Sequence[Tensor], learning_rate: float, weight_decay: float) -> Step:
    """Adam (Kingma and Ba 2015) or AdamW (Loshchilov and Hutter 2019), with the constants of PyTorch's classes."""
    gradients = _gradients(parameters)
    means, squares = ([torch.zeros_like(tensor) for tensor in parameters] for _ in range(2))
    steps = [torch.zeros((), device=tensor.device) for tensor in parameters]
    settings = {"lr": learning_rate, "weight_decay": weight_decay, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}

    def step() -> None:
        for done in steps:
            done.add_(1)
        update(parameters, gradients, means, squares, [], steps, **settings, amsgrad=False, maximize=False)

    return step


def _sgd(parameters: Sequence[Tensor], learning_rate: float, weight_decay: float) -> Step:
    """Stochastic gradient descent without momentum."""
    moved = list(parameters), _gradients(parameters), [None for _ in parameters]
    step: Callable[..., None] = sgd
    settings = {"lr": learning_rate, "weight_decay": weight_decay, "momentum": 0.0, "dampening": 0.0}
    return partial(step, *moved, **settings, nesterov=False, maximize=False, fused=True)


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.grad for tensor in parameters if tensor.grad is not None]


OPTIMIZERS: dict[str, Callable[[Sequence[Tensor], float, float], Step]] = {
    "adamw": partial(_adam, torch._fused_adamw_),
    "adam": partial(_adam, torch._fused_adam_),
    "sgd": _sgd,
}
"""By their names in training.yaml: each takes parameters with their gradients as ``grad``, the learning rate and the
weight decay, and gives what makes a step."""
