"""PyTorch's optimizers, by what lies under their classes.

The classes keep records and sort the parameters at each step, and that takes as long as the update of a small network.
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
    settings = {"lr": learning_rate, "weight_decay": weight_decay, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    zeros = torch.zeros_like
    moved = [(it, it.grad, zeros(it), zeros(it), torch.zeros((), device=it.device)) for it in parameters]

    def step() -> None:
        for tensor, gradient, mean, square, done in moved:  # one number type at a time: the operation takes no other
            done.add_(1)
            update([tensor], [gradient], [mean], [square], [], [done], **settings, amsgrad=False, maximize=False)

    return step


def _sgd(parameters: Sequence[Tensor], learning_rate: float, weight_decay: float) -> Step:
    """Stochastic gradient descent without momentum."""
    moved = list(parameters), [tensor.grad for tensor in parameters], [None for _ in parameters]
    step: Callable[..., None] = sgd
    settings = {"lr": learning_rate, "weight_decay": weight_decay, "momentum": 0.0, "dampening": 0.0}
    return partial(step, *moved, **settings, nesterov=False, maximize=False, fused=True)


# PyTorch's public functions end in these two operations, which have no public name; a test compares with its classes.
OPTIMIZERS: dict[str, Callable[[Sequence[Tensor], float, float], Step]] = {
    "adamw": partial(_adam, torch._fused_adamw_),
    "adam": partial(_adam, torch._fused_adam_),
    "sgd": _sgd,
}
"""By their names in training.yaml: each takes parameters with their gradients as ``grad``, the learning rate and the
weight decay, and gives what makes a step."""
