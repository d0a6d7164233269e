"""One visible loop that trains all seeds at once.

The weights of S networks are stacked along a first axis and one batched matrix product serves them all, at a fraction
of what a loop for each seed would cost. Seeds share the spectra and nothing else: initial weights, order of the batches
and dropout masks come from each seed's own generators, so adding a seed changes no other seed's draws. Whether rounding
depends on how many are stacked is up to the processor's matrix routines; where it does, differences start near 1e-7 and
grow with the number of steps.

Axes: ``S`` seeds and ``C`` checkpoints first, then ``N`` or ``B`` spectra, ``W`` bins or ``L`` components.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import stack_module_state
from torch.nn import functional

from spectral_tutorial import stacking
from spectral_tutorial.models import SeededDropout, initialize
from spectral_tutorial.reading import config_error, show
from spectral_tutorial.sections import TrainingConfig
from spectral_tutorial.stacking import Learned, State, fits_the_batch

log = logging.getLogger(__name__)

Build = Callable[[], nn.Module]
"""Makes one network; what it draws comes from torch's current generator."""

OnCheckpoint = Callable[[int, State], None]
"""Takes a step and the weights of all seeds at it."""

LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": functional.mse_loss,
    "mae": functional.l1_loss,
    "huber": functional.huber_loss,
}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    "sgd": partial(torch.optim.SGD, fused=True),
}
LOG_CHECKPOINTS = 24
"""Checkpoints after step 0 that ``checkpoint_by: log`` asks for; the first few coincide and are merged."""

EVALUATION_ROWS = 1024
"""Spectra read at a time when nothing is learned from them."""

LOSS_ROWS = 65_536
"""Spectra whose losses are held at a time: the memory for a large validation split does not grow with it."""


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
        Mean loss of the batches since the checkpoint before (NaN at step 0).
    val_loss : array, shape (S, C)
        Loss over the validation split.
    """

    seeds: tuple[int, ...]
    step: NDArray[np.int64]
    epoch: NDArray[np.float64]
    train_loss: NDArray[np.float64]
    val_loss: NDArray[np.float64]


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


def derived_seed(seed: int, purpose: str) -> int:
    """Return a 63-bit seed for one purpose of one training seed."""
    key = tuple(purpose.encode())
    return int(np.random.SeedSequence(seed, spawn_key=key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a torch generator for one purpose (``order``, ``dropout``) of one training seed."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose))


@contextmanager
def _borrowed_generator(seed: int) -> Iterator[None]:
    """Seed torch's global CPU generator, which constructors draw from, and give it back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def template(build: Build) -> nn.Module:
    """Make one network whose weights do not matter, leaving torch's global generator as it was."""
    with _borrowed_generator(0):
        return build()


def initial_state(build: Build, initialization: str, seeds: Sequence[int]) -> State:
    """Initial weights of every seed, stacked; those of a seed do not depend on which others are asked for."""
    networks = []
    for seed in seeds:
        with _borrowed_generator(derived_seed(seed, "weights")):
            networks.append(build())
            initialize(networks[-1], initialization)
    parameters, buffers = stack_module_state(networks)
    return {name: tensor.detach().clone() for name, tensor in {**parameters, **buffers}.items()}


def predict(model: nn.Module, state: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Read spectra with every seed's network, without learning: ``(N, W)`` in, ``(S, N, L)`` out."""
    model.eval()
    with torch.no_grad():
        parts = [stacking.forward(model, state, rows, shared=True) for rows in inputs.split(EVALUATION_ROWS)]
    return torch.cat(parts, dim=1)


class _Batches:
    """Endless shuffled batches of row numbers, each seed with its own order, ``(S, B)`` at a time."""

    def __init__(self, n: int, batch_size: int, seeds: Sequence[int]) -> None:
        self.n, self.batch_size = n, batch_size
        self.generators = [generator(seed, "order") for seed in seeds]

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            order = torch.stack([torch.randperm(self.n, generator=g) for g in self.generators])
            yield from order.split(self.batch_size, dim=1)


class _Masks:
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


def train(
    config: TrainingConfig,
    build: Build,
    train_set: tuple[Tensor, Tensor],
    val_set: tuple[Tensor, Tensor],
    *,
    seeds: Sequence[int],
    on_checkpoint: OnCheckpoint = lambda step, state: None,
    on_step: Callable[[int, int], None] = lambda step, total: None,
) -> History:
    """Train one network a seed.

    Parameters
    ----------
    config : TrainingConfig
        Settings of training.yaml.
    build : callable
        Makes one network.
    train_set, val_set : pair of tensors
        Inputs ``(N, W)`` and true abundances ``(N, L)``, float32. Nothing is learned from `val_set`.
    seeds : sequence of int
        Training seeds; a network each.
    on_checkpoint : callable
        Called with the step and all seeds' parameters and buffers ``(S, ...)`` at each checkpoint.
    on_step : callable
        Called with the steps done and their total, for a progress bar.

    Returns
    -------
    History
        Seeds that do not fit the batch (see :func:`fits_the_batch`) are trained one after another; a seed whose loss
        overflows does not disturb the others.
    """
    device = choose_device(config.device)
    model = template(build).to(device)
    inputs, targets, val_inputs, val_targets = (tensor.to(device) for tensor in (*train_set, *val_set))
    task = _Task(config, model, build, inputs, targets, val_inputs, val_targets, on_step)
    if fits_the_batch(model):
        return _train_stacked(task, seeds, on_checkpoint)
    log.info("%s cannot be stacked: its %d seeds are trained one after another", type(model).__name__, len(seeds))
    return _train_in_turn(task, seeds, on_checkpoint)


@dataclass(frozen=True)
class _Task:
    """What is the same for all seeds."""

    config: TrainingConfig
    model: nn.Module
    build: Build
    inputs: Tensor
    targets: Tensor
    val_inputs: Tensor
    val_targets: Tensor
    on_step: Callable[[int, int], None]

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.inputs) // self.config.batch_size)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each seed, ``(S,)``, averaged over spectra and all L outputs."""
        losses = LOSSES[self.config.loss_function](outputs, targets.expand_as(outputs), reduction="none")
        return losses.mean(dim=(1, 2))

    def val_loss(self, state: State) -> Tensor:
        blocks = zip(self.val_inputs.split(LOSS_ROWS), self.val_targets.split(LOSS_ROWS), strict=True)
        parts = [self.loss(predict(self.model, state, x), y) * (len(x) / len(self.val_inputs)) for x, y in blocks]
        return torch.stack(parts).sum(dim=0)


def _train_stacked(task: _Task, seeds: Sequence[int], on_checkpoint: OnCheckpoint) -> History:
    config, model, device = task.config, task.model, task.inputs.device
    state = {k: v.to(device) for k, v in initial_state(task.build, config.initialization, seeds).items()}
    learned = Learned(state, [name for name, parameter in model.named_parameters() if parameter.requires_grad])
    if not learned.rows:
        found = f"{type(model).__name__}, which has nothing to learn"
        raise config_error("training", "model_type", found, "a network with parameters")
    optimizer = OPTIMIZERS[config.optimizer](learned.rows, lr=config.learning_rate, weight_decay=config.weight_decay)
    masks, batches = _Masks(model, seeds, device), iter(_Batches(len(task.inputs), config.batch_size, seeds))
    total = config.epochs * task.steps_per_epoch
    checkpoints = checkpoint_steps(config, total)
    recent: list[Tensor] = []  # losses since the last checkpoint, (S,) each
    train_loss, val_loss = [], []

    for step in range(total + 1):
        if step in checkpoints:
            train_loss.append(torch.stack(recent).mean(dim=0) if recent else torch.full((len(seeds),), torch.nan))
            val_loss.append(task.val_loss(state))
            recent.clear()
            on_checkpoint(step, kept(model, state))
        if step == total:
            break
        rows = next(batches)  # (S, B)
        model.train()
        inputs, targets = _taken(task.inputs, rows), _taken(task.targets, rows)  # (S, B, W), (S, B, L)
        outputs = stacking.forward(model, state | masks.draw(rows.shape[1]), inputs, shared=False)  # (S, B, L)
        losses = task.loss(outputs, targets)  # (S,)
        learned.take_gradients(losses.sum())  # of a sum, so that each seed's gradient is what it would be alone
        optimizer.step()
        recent.append(losses.detach())
        task.on_step(step + 1, total)

    steps = np.array(checkpoints)
    return History(tuple(seeds), steps, steps / task.steps_per_epoch, _seeds_first(train_loss), _seeds_first(val_loss))


def _taken(tensor: Tensor, rows: Tensor) -> Tensor:
    """Rows of a tensor by their numbers ``(S, B)``: as ``tensor[rows]``, only quicker."""
    return tensor.index_select(0, rows.flatten().to(tensor.device)).unflatten(0, rows.shape)


def _train_in_turn(task: _Task, seeds: Sequence[int], on_checkpoint: OnCheckpoint) -> History:
    kept: dict[int, list[State]] = {}
    histories = []
    for seed in seeds:
        with _borrowed_generator(derived_seed(seed, "loop")):  # torch's own dropout draws from the global generator
            histories.append(_train_stacked(task, [seed], lambda step, state: kept.setdefault(step, []).append(state)))
    for step, states in kept.items():
        on_checkpoint(step, {name: torch.cat([state[name] for state in states]) for name in states[0]})
    joined = {name: np.concatenate([getattr(h, name) for h in histories]) for name in ("train_loss", "val_loss")}
    return History(tuple(seeds), histories[0].step, histories[0].epoch, **joined)


def _seeds_first(losses: list[Tensor]) -> NDArray[np.float64]:
    return torch.stack([loss.cpu().double() for loss in losses], dim=1).numpy()


def kept(model: nn.Module, state: State) -> State:
    """Copy what a checkpoint keeps, on the CPU: parameters and buffers, no dropout masks."""
    masks = {f"{name}.mask" for name, module in model.named_modules() if isinstance(module, SeededDropout)}
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items() if name not in masks}
