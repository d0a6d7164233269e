"""One visible loop that trains all seeds at once.

The weights of S networks are stacked along a first axis, and each layer of all of them is one batched matrix product:
our own networks write it down, and ``torch.func.vmap`` finds it for others. Seeds share the spectra and nothing else.
Initial weights, order of the batches and dropout masks come from each seed's own generators, and no operation mixes
seeds, so that adding a seed changes no other seed's result.

Axes: ``S`` seeds and ``C`` checkpoints first, then ``N`` or ``B`` spectra, ``W`` bins or ``L`` components.
"""

import math
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
from spectral_tutorial.data import InputTransform
from spectral_tutorial.models import Build, Forward, SeededDropout, State, borrowed, choose_device, in_blocks
from spectral_tutorial.reading import config_error, one_of, show
from spectral_tutorial.sections import TrainingConfig

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": partial(F.mse_loss, reduction="none"),
    "mae": partial(F.l1_loss, reduction="none"),
    "huber": partial(F.huber_loss, reduction="none"),
}
"""Of prediction and truth, element by element."""

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}
"""The learning rate, in units of the one that is configured, after a share of the steps."""

LOG_CHECKPOINTS = 16
"""Checkpoints after step 0 that ``checkpoint_by: log`` asks for; the first few coincide and are merged."""

REGISTER = 16  #: numbers in a processor's widest register


@dataclass(frozen=True)
class History:
    """Losses at the checkpoints."""

    step: NDArray[np.int64]  #: ``(C,)``, optimizer steps done; the first is 0, the untrained network
    epoch: NDArray[np.float64]  #: ``(C,)``, the same in passes through the training split
    train_loss: NDArray[np.float64]  #: ``(S, C)``, mean over the spectra since the checkpoint before; NaN at step 0
    val_loss: NDArray[np.float64]  #: ``(S, C)``, over the validation split


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

    ConfigError if the device is not there, or the network does not fit the memory, the spectra or the components.

    `build` makes one network; a set is inputs ``(N, W)`` and true abundances ``(N, L)``, float32, and nothing is
    learned from `val_set`. A seed whose loss overflows does not disturb the others. At each checkpoint `on_checkpoint`
    is called with the step and the parameters and buffers ``(S, ...)`` of all seeds, after each step `on_step` with the
    steps done and their total, for a progress bar.
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
    inputs, val_inputs = models.averaged(model, inputs), models.averaged(model, val_inputs)  # once, not in every step
    state = {name: tensor.to(device) for name, tensor in initial_state(build, config.initialization, seeds).items()}
    forward = models.stacked(model.train(), state, n_bins, [generator(seed, "loop") for seed in seeds])
    optimizer = _optimizer(config, model, state)
    loss_of, draw_masks, occurs = LOSSES[config.loss_function], dropout_masks(model, seeds), (targets != 0).any(dim=0)
    steps_per_epoch = -(-len(inputs) // config.batch_size)
    total = config.epochs * steps_per_epoch
    checkpoints = checkpoint_steps(config, total)
    train_losses, val_losses = [], []
    recent, n_recent = torch.full((len(seeds),), torch.nan, device=device), 1

    for step, rows in enumerate(batches(len(inputs), config.batch_size, seeds, device)):  # (S, B)
        if step in checkpoints:
            model.eval()
            val_losses.append(_mean_loss(loss_of, forward, state, val_inputs, val_targets))
            train_losses.append(recent / n_recent)
            recent, n_recent = torch.zeros_like(recent), 0
            on_checkpoint(step, {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()})
        if step == total:
            break
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * SCHEDULES[config.schedule](step / total)
        x, y = F.embedding(rows, inputs), F.embedding(rows, targets)  # (S, B, W), (S, B, L)
        errors = loss_of(forward({**state, **draw_masks(rows)}, x), y)  # (S, B, L)
        losses = errors.mean(dim=(1, 2))  # (S,); a seed's weights appear in its own term only
        optimizer.zero_grad()
        (balanced(errors, occurs) if config.loss_weights == "inverse_error" else losses).sum().backward()
        optimizer.step()
        recent += losses.detach() * rows.shape[1]
        n_recent += rows.shape[1]
        on_step(step + 1, total)

    by_seed = (torch.stack(losses, dim=1).cpu().double().numpy() for losses in (train_losses, val_losses))
    return History(np.array(checkpoints), np.array(checkpoints) / steps_per_epoch, *by_seed)


def balanced(errors: Tensor, occurs: Tensor) -> Tensor:
    r"""Objective ``(S,)`` to which every component that occurs gives equally much, however small its error is.

    Of errors ``(S, B, L)``, each component's mean :math:`e_k` is divided by what it is now, a constant to the gradient:
    the gradient is that of :math:`\sum_k \log e_k`, the likelihood of L errors of unknown variances (Kendall, Gal &
    Cipolla 2018). Components that never occur, where `occurs` ``(L,)`` is false, are soon known and keep the weight 1.
    """
    means = errors.mean(dim=1)
    return (means * torch.where(occurs, 1.0 / means.detach(), 1.0)).mean(dim=1)


def fit(
    config: TrainingConfig, flux: NDArray[np.float32], abundance: NDArray[np.float64], *, seeds: Sequence[int]
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Train a network per seed on spectra of your own, and return what reads others.

    It learns from flux ``(N, W)`` and abundances ``(N, L)``. What is returned takes flux ``(M, W)`` and gives predicted
    abundances ``(S, M, L)``. The networks see flux as `config` says, standardized by the spectra that they learn from.
    ConfigError as in :func:`train`, and if the network is none of the package's own.
    """
    if config.model_type not in models.MODELS:
        raise config_error("training", "model_type", show(config.model_type), one_of(models.MODELS, config.model_type))
    build = models.builder(models.MODELS[config.model_type], flux.shape[1], abundance.shape[1], config)
    transform = InputTransform(config.input_transform).fit(flux)
    known = torch.from_numpy(transform.transform(flux)), torch.from_numpy(abundance.astype(np.float32))
    last: State = {}
    train(config, build, known, known, seeds=seeds, on_checkpoint=lambda _, state: last.update(state))

    def read(flux: NDArray[np.float32]) -> NDArray[np.float32]:
        return models.predict(models.template(build), last, torch.from_numpy(transform.transform(flux))).numpy()

    return read


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
        leaf = state[name].requires_grad_()
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
