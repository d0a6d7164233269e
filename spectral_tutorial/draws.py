"""What each training seed draws, from generators of its own: initial weights, order of the batches, dropout masks.

Which other seeds are trained makes no difference to any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import stack_module_state

from spectral_tutorial.models import SeededDropout, initialize
from spectral_tutorial.stacking import State

Build = Callable[[], nn.Module]
"""Makes one network; what it draws comes from torch's current generator."""


def derived_seed(seed: int, purpose: str) -> int:
    """Return a 63-bit seed for one purpose of one training seed."""
    key = tuple(purpose.encode())
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a torch generator for one purpose (``order``, ``dropout``) of one training seed."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose))


@contextmanager
def borrowed_generator(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator, which constructors draw from, and give it back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def template(build: Build) -> nn.Module:
    """Make one network whose weights do not matter, leaving torch's global generator as it was."""
    with borrowed_generator(0):
        return build()


def initial_state(build: Build, initialization: str, seeds: Sequence[int]) -> State:
    """Initial weights of every seed, stacked; those of a seed do not depend on which others are asked for."""
    networks = []
    for seed in seeds:
        with borrowed_generator(derived_seed(seed, "weights")):
            networks.append(build())
            initialize(networks[-1], initialization)
    parameters, buffers = stack_module_state(networks)
    return {name: tensor.detach().clone() for name, tensor in {**parameters, **buffers}.items()}


class Batches:
    """Endless shuffled batches of row numbers, each seed with its own order, ``(S, B)`` at a time."""

    def __init__(self, n: int, batch_size: int, seeds: Sequence[int]) -> None:
        self.n, self.batch_size = n, batch_size
        self.generators = [generator(seed, "order") for seed in seeds]

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            order = torch.stack([torch.randperm(self.n, generator=g) for g in self.generators])
            yield from order.split(self.batch_size, dim=1)


class Masks:
    """Fresh dropout masks for every step, each seed's from its own generator."""

    def __init__(self, model: nn.Module, seeds: Sequence[int], device: torch.device) -> None:
        self.layers = {
            f"{name}.mask": module for name, module in model.named_modules() if isinstance(module, SeededDropout)
        }
        self.generators = [generator(seed, "dropout") for seed in seeds]
        self.device = device

    def draw(self, rows: int) -> State:
        """Return masks ``(S, rows, *features)`` with values 0 or 1 / (1 - rate), so that the mean stays 1."""
        return {name: self._layer(layer, rows) for name, layer in self.layers.items()}

    def _layer(self, layer: SeededDropout, rows: int) -> Tensor:
        draws = [torch.rand(rows, *layer.features, generator=g) for g in self.generators]
        return (torch.stack(draws) >= layer.rate).to(self.device, torch.float32) / (1.0 - layer.rate)
