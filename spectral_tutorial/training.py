"""One visible loop that trains all seeds at once.

The weights of S networks are stacked along a first axis, and each layer of all of them is one batched matrix product:
our own networks write it down, and ``torch.func.vmap`` finds it for others. Seeds share the spectra and nothing else.
Initial weights, order of the batches and dropout masks come from each seed's own generators, and no operation mixes
seeds, so that adding a seed changes no other seed's result.

Axes: ``S`` seeds and ``C`` checkpoints first, then ``N`` or ``B`` spectra, ``W`` bins or ``L`` components.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import stack_module_state
from torch.nn import functional as F

from spectral_tutorial import models
from spectral_tutorial.models import Build, Forward, SeededDropout, State, borrowed, choose_device, in_blocks
from spectral_tutorial.reading import config_error
from spectral_tutorial.sections import TrainingConfig

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": partial(F.mse_loss, reduction="none"),
    "mae": partial(F.l1_loss, reduction="none"),
    "huber": partial(F.huber_loss, reduction="none"),
}
"""Of prediction and truth, element by element."""

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}

LOG_CHECKPOINTS = 16
"""Checkpoints after step 0 that ``checkpoint_by: log`` asks for; the first few coincide and are merged."""

REGISTER = 16
"""Numbers in a processor's widest register."""


@dataclass(frozen=True)
class History:
    """Losses at the checkpoints.

    Attributes
    ----------
    seeds : tuple of int
        The S training seeds.
    step : array, shape (C,)
        Optimizer steps done; the first is 0, the untrained network.
    epoch : array, shape (C,)
        The same in passes through the training split.
    train_loss : array, shape (S, C)
        Mean loss over the batches since the checkpoint before, each spectrum counted alike (NaN at step 0).
    val_loss : array, shape (S, C)
        Loss over the validation split.
    """

    seeds: tuple[int, ...]
    step: NDArray[np.int64]
    epoch: NDArray[np.float64]
    train_loss: NDArray[np.float64]
    val_loss: NDArray[np.float64]


def train(
    config: TrainingConfig,
    build: Build,
    train_set: tuple[Tensor, Tensor],
    val_set: tuple[Tensor, Tensor],
    *,
    seeds: Sequence[int],
    on_checkpoint: Callable[[int, State], None] = lambda step, state: None,
    on_step: Callable[[int, int], None] = lambda step, total: None,
) -> History:
    """Train one network per seed.

    Parameters
    ----------
    config : TrainingConfig
        Settings of training.yaml.
    build : callable
        Makes one network.
    train_set, val_set : pair of tensors
        Inputs ``(N, W)`` and true abundances ``(N, L)``, float32. Nothing is learned from `val_set`.
    seeds : sequence of int
        Training seeds; one network each. A seed whose loss overflows does not disturb the others.
    on_checkpoint : callable
        Called with the step and the parameters and buffers ``(S, ...)`` of all seeds at each checkpoint.
    on_step : callable
        Called with the steps done and their total, for a progress bar.

    Raises
    ------
    ConfigError
        If the device is not there, or the network does not fit the memory, the spectra or the components.
    """
    device = choose_device(config.device)
    inputs, targets, val_inputs, val_targets = (tensor.to(device) for tensor in (*train_set, *val_set))
    models.check_memory(config, build, len(seeds), device)
    model = models.template(build).to(device)
    n_bins, n_components = inputs.shape[1], targets.shape[1]
    try:
        models.check(model, n_bins, n_components)
    except TypeError as problem:
        expected = f"a network that maps (batch, {n_bins}) to (batch, {n_components})"
        raise config_error("training", "model_type", str(problem), expected) from problem
    state = {name: tensor.to(device) for name, tensor in initial_state(build, config.initialization, seeds).items()}
    forward = models.stacked(model.train(), state, n_bins, [generator(seed, "loop") for seed in seeds])
    optimizer = _optimizer(config, model, state)
    loss_of, draw_masks = LOSSES[config.loss_function], dropout_masks(model, seeds)
    steps_per_epoch = -(-len(inputs) // config.batch_size)
    total = config.epochs * steps_per_epoch
    checkpoints = checkpoint_steps(config, total)
    kept = partial(Tensor.to, device="cpu", copy=True, memory_format=torch.contiguous_format)
    train_losses, val_losses = [], []
    recent, n_recent = torch.full((len(seeds),), torch.nan, device=device), 1

    for step, rows in enumerate(batches(len(inputs), config.batch_size, seeds, device)):  # (S, B)
        if step in checkpoints:
            model.eval()
            val_losses.append(_mean_loss(loss_of, forward, state, val_inputs, val_targets))
            train_losses.append(recent / n_recent)
            recent, n_recent = torch.zeros_like(recent), 0
            on_checkpoint(step, {name: kept(tensor.detach()) for name, tensor in state.items()})
        if step == total:
            break
        model.train()
        x, y = F.embedding(rows, inputs), F.embedding(rows, targets)  # (S, B, W), (S, B, L)
        losses = loss_of(forward({**state, **draw_masks(rows)}, x), y).mean(dim=(1, 2))  # (S,)
        optimizer.zero_grad()
        losses.sum().backward()  # a seed's weights appear in its own term only
        optimizer.step()
        recent += losses.detach() * rows.shape[1]
        n_recent += rows.shape[1]
        on_step(step + 1, total)

    by_seed = (torch.stack(losses, dim=1).cpu().double().numpy() for losses in (train_losses, val_losses))
    return History(tuple(seeds), np.array(checkpoints), np.array(checkpoints) / steps_per_epoch, *by_seed)


def _mean_loss(
    loss_of: Callable[[Tensor, Tensor], Tensor], forward: Forward, state: State, inputs: Tensor, targets: Tensor
) -> Tensor:
    """Loss ``(S,)`` over a whole split, ``(N, W)`` and ``(N, L)``."""
    pairs = zip(in_blocks(forward, state, inputs), targets.split(models.EVALUATION_ROWS), strict=True)
    sums = [loss_of(outputs, truth.expand_as(outputs)).sum(dim=(1, 2)) for outputs, truth in pairs]
    return torch.stack(sums).sum(dim=0) / targets.numel()


def checkpoint_steps(config: TrainingConfig, total: int) -> list[int]:
    """Steps at which weights are kept, from 0 to `total`, both included."""
    match config.checkpoint_by:
        case "log":
            spaced = np.geomspace(1, total, LOG_CHECKPOINTS).round().astype(int).tolist()
            return sorted({0, *spaced, total})
        case "step":
            interval = config.checkpoint_every_n_step
        case _:
            # Short runs and small ratios would round to an interval of 0.
            interval = max(1, int(total * config.checkpoint_ratio))
    return sorted({*range(0, total, interval), total})


def _optimizer(config: TrainingConfig, model: nn.Module, state: State) -> torch.optim.Optimizer:
    """Return the optimizer of all seeds' parameters, which are made leaves of autograd in `state`."""
    whole: list[Tensor] = []
    ragged: list[Tensor] = []
    for name in (name for name, parameter in model.named_parameters() if parameter.requires_grad):
        # In memory (in, out), the backward pass gives gradients as they lie and copies nothing: a third of the time.
        # Networks of a person's own may rely on the usual order.
        transposed = type(model) in models.STACKED and state[name].dim() == 3
        leaf = (state[name].mT.contiguous() if transposed else state[name]).requires_grad_()
        state[name] = leaf.mT if transposed else leaf
        # The fused update rounds the numbers at the end of a tensor that fill no register in another way than the rest.
        # Only where no seed has any does a seed's result not depend on how many are beside it.
        (ragged if leaf[0].numel() % REGISTER else whole).append(leaf)
    groups = [{"params": whole, "fused": True}, {"params": ragged, "foreach": True}]
    rates = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    return OPTIMIZERS[config.optimizer]([group for group in groups if group["params"]], **rates)


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return the generator for one purpose (weights, order, dropout, loop) of one training seed."""
    sequence = np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode()))
    return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def initial_state(build: Build, initialization: str, seeds: Sequence[int]) -> State:
    """Initial weights and buffers of every seed, stacked, without dropout masks."""
    networks = []
    for seed in seeds:
        with borrowed(generator(seed, "weights")):
            networks.append(build())
            models.initialize(networks[-1], initialization)
    parameters, buffers = stack_module_state(networks)
    masks = models.mask_layers(networks[0])
    return {name: tensor.detach() for name, tensor in {**parameters, **buffers}.items() if name not in masks}


def batches(n: int, batch_size: int, seeds: Sequence[int], device: torch.device) -> Iterator[Tensor]:
    """Endless shuffled batches of row numbers ``(S, B)``; each seed has its own order."""
    generators = [generator(seed, "order") for seed in seeds]
    while True:
        order = torch.stack([torch.randperm(n, generator=own) for own in generators])
        yield from order.to(device).split(batch_size, dim=1)


def dropout_masks(model: nn.Module, seeds: Sequence[int]) -> Callable[[Tensor], State]:
    """Return what draws masks ``(S, B, *features)`` for rows ``(S, B)``: 0 or 1 / (1 - rate), of mean 1."""
    layers = models.mask_layers(model)
    generators = [generator(seed, "dropout") for seed in seeds]

    def mask(layer: SeededDropout, rows: Tensor) -> Tensor:
        drawn = torch.stack([torch.rand(rows.shape[1], *layer.features, generator=own) for own in generators])
        return (drawn >= layer.rate).to(rows.device, torch.float32) / (1 - layer.rate)

    return lambda rows: {name: mask(layer, rows) for name, layer in layers.items()}
