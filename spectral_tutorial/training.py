"""One visible loop that trains all seeds at once.

The weights of S networks are stacked along a first axis and one batched matrix product serves them all, at a fraction
of what a loop for each seed would cost. Many seeds make several stacks, which take turns. Seeds share the spectra and
nothing else: initial weights, order of the batches and dropout masks come from each seed's own generators, so adding a
seed changes no other seed's draws. Whether rounding depends on how many are stacked is up to the processor's matrix
routines; where it does, differences start near 1e-7 and grow with the number of steps.

Axes: ``S`` seeds and ``C`` checkpoints first, then ``N`` or ``B`` spectra, ``W`` bins or ``L`` components.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spectral_tutorial import draws, stacking
from spectral_tutorial.draws import Build
from spectral_tutorial.models import SeededDropout
from spectral_tutorial.optimizers import OPTIMIZERS
from spectral_tutorial.reading import config_error, show
from spectral_tutorial.sections import TrainingConfig
from spectral_tutorial.stacking import Learner, State, fits_the_batch

log = logging.getLogger(__name__)

OnCheckpoint = Callable[[int, State], None]
"""Takes a step and the weights of all seeds at it."""

OnStep = Callable[[int, int], None]
"""Takes the steps done and their total."""


@dataclass(frozen=True)
class Loss:
    """A loss of the residual r, output minus truth, and a weight times its derivative, both element by element."""

    value: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, float], Tensor]


LOSSES = {
    "mse": Loss(torch.square, lambda r, weight: r * (2 * weight)),
    "mae": Loss(torch.abs, lambda r, weight: r.sign() * weight),
    "huber": Loss(
        lambda r: torch.where(r.abs() < 1, r.square() / 2, r.abs() - 0.5), lambda r, weight: r.clamp(-1, 1) * weight
    ),
}
LOG_CHECKPOINTS = 24
"""Checkpoints after step 0 that ``checkpoint_by: log`` asks for; the first few coincide and are merged."""

EVALUATION_ROWS = 1024
"""Spectra read at a time when nothing is learned from them."""

SEEDS_A_THREAD = 2
"""Seeds that are stacked for each of torch's threads: what more of them learn would leave the cache between steps."""

FEWEST_SEEDS = 4
"""Seeds that are stacked at least: what a step costs beside the arithmetic is shared by them."""

HELD_ROWS = 1024
"""Spectra whose residuals wait until their losses are found together: for a batch alone it takes as long as a layer."""

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
        Mean loss over the batches since the checkpoint before, each spectrum counted alike (NaN at step 0).
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


def predict(model: nn.Module, state: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Read spectra with every seed's network, without learning: ``(N, W)`` in, ``(S, N, L)`` out."""
    model.eval()
    with torch.no_grad():
        parts = [stacking.forward(model, state, rows, shared=True) for rows in inputs.split(EVALUATION_ROWS)]
    return torch.cat(parts, dim=1)


def train(
    config: TrainingConfig,
    build: Build,
    train_set: tuple[Tensor, Tensor],
    val_set: tuple[Tensor, Tensor],
    *,
    seeds: Sequence[int],
    on_checkpoint: OnCheckpoint = lambda step, state: None,
    on_step: OnStep = lambda step, total: None,
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
    model = draws.template(build)
    inputs, targets, val_inputs, val_targets = (tensor.to(device) for tensor in (*train_set, *val_set))
    task = _Task(config, build, inputs, targets, val_inputs, val_targets)
    if fits_the_batch(model):
        looks = _by_turns(task, _stacks(model, seeds, device), on_step)
    else:
        log.info("%s cannot be stacked: its %d seeds are trained one after another", type(model).__name__, len(seeds))
        looks = _in_turn(task, seeds, on_step)
    train_loss, val_loss = [], []
    for step, look in zip(task.checkpoints, looks, strict=True):
        on_checkpoint(step, look.state)
        train_loss.append(look.train_loss)
        val_loss.append(look.val_loss)
    steps = np.array(task.checkpoints)
    return History(tuple(seeds), steps, steps / task.steps_per_epoch, _seeds_first(train_loss), _seeds_first(val_loss))


def constant_loss(name: str, train: NDArray[np.float64], val: NDArray[np.float64]) -> float:
    """Loss over validation abundances ``(N, L)`` of the best constant of the training split, its mean."""
    answer = torch.from_numpy(np.broadcast_to(train.mean(axis=0), val.shape).copy())
    return float(LOSSES[name].value(answer - torch.from_numpy(np.array(val))).mean())


@dataclass(frozen=True)
class _Task:
    """What is the same for all seeds."""

    config: TrainingConfig
    build: Build
    inputs: Tensor
    targets: Tensor
    val_inputs: Tensor
    val_targets: Tensor

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.inputs) // self.config.batch_size)

    @property
    def steps(self) -> int:
        return self.config.epochs * self.steps_per_epoch

    @property
    def checkpoints(self) -> list[int]:
        return checkpoint_steps(self.config, self.steps)

    @property
    def loss(self) -> Loss:
        return LOSSES[self.config.loss_function]

    def val_loss(self, model: nn.Module, state: State) -> Tensor:
        """Loss of each seed over the validation split, ``(S,)``."""
        mean = _MeanLoss(self.loss)
        for x, y in zip(self.val_inputs.split(LOSS_ROWS), self.val_targets.split(LOSS_ROWS), strict=True):
            mean.add(predict(model, state, x) - y)
        return mean.value()


@dataclass(frozen=True)
class _Look:
    """S seeds at one checkpoint: their weights, and their losses ``(S,)`` since the one before and on ``val``."""

    state: State
    train_loss: Tensor
    val_loss: Tensor


def _joined(looks: Sequence[_Look]) -> _Look:
    if len(looks) == 1:
        return looks[0]
    state = {name: torch.cat([look.state[name] for look in looks]) for name in looks[0].state}
    losses = (torch.cat([getattr(look, name) for look in looks]) for name in ("train_loss", "val_loss"))
    return _Look(state, *losses)


def _stacks(model: nn.Module, seeds: Sequence[int], device: torch.device) -> list[list[int]]:
    """Which seeds are stacked together."""
    size = max(FEWEST_SEEDS, SEEDS_A_THREAD * torch.get_num_threads())
    if device.type != "cpu" or not stacking.is_a_plain_stack(model):
        size = len(seeds)  # the overhead of a step is then larger than what the cache can save
    return [list(seeds[first : first + size]) for first in range(0, len(seeds), size)]


def _by_turns(task: _Task, stacks: Sequence[Sequence[int]], on_step: OnStep) -> Iterator[_Look]:
    """Train several stacks, one after another from each checkpoint to the next, and give their looks together."""
    done = count(1)

    def advance() -> None:
        step, rest = divmod(next(done), len(stacks))
        if rest == 0:
            on_step(step, task.steps)

    courses = [_course(task, draws.template(task.build), _weights(task, seeds), seeds, advance) for seeds in stacks]
    yield from map(_joined, zip(*courses, strict=True))


def _weights(task: _Task, seeds: Sequence[int]) -> State:
    drawn = draws.initial_state(task.build, task.config.initialization, seeds)
    return {name: tensor.to(task.inputs.device) for name, tensor in drawn.items()}


def _course(
    task: _Task, model: nn.Module, initial: State, seeds: Sequence[int], advance: Callable[[], None]
) -> Iterator[_Look]:
    """Train one stack; what comes out are its looks at the checkpoints."""
    config, device = task.config, task.inputs.device
    model = model.to(device)
    learner = Learner(model, initial)
    state = learner.state
    if not learner.gradients:
        found = f"{type(model).__name__}, which has nothing to learn"
        raise config_error("training", "model_type", found, "a network with parameters")
    update = OPTIMIZERS[config.optimizer](learner.learned, config.learning_rate, config.weight_decay)
    masks, batches = draws.Masks(model, seeds, device), iter(draws.Batches(len(task.inputs), config.batch_size, seeds))
    total, checkpoints, loss = task.steps, set(task.checkpoints), task.loss
    most = len(seeds) * min(len(task.inputs), config.batch_size)
    spectra, recent = _Table(task.inputs, most, apart=stacking.is_a_plain_stack(model)), _MeanLoss(loss)

    for step in range(total + 1):
        if step in checkpoints:
            train_loss = recent.value() if step else torch.full((len(seeds),), torch.nan, device=device)
            yield _Look(kept(model, state), train_loss, task.val_loss(model, state))
            recent = _MeanLoss(loss)
            model.train()
        if step == total:
            break
        rows = next(batches).to(device)  # (S, B)
        inputs, targets = spectra.take(rows), nn.functional.embedding(rows, task.targets)  # (S, B, W), (S, B, L)
        residual = learner.read(inputs, masks.draw(rows.shape[1])) - targets  # (S, B, L)
        recent.add(residual)
        learner.pull_back(loss.derivative(residual, 1 / residual.shape[1:].numel()))
        update()
        advance()


class _MeanLoss:
    """Mean loss of each seed over spectra and all L outputs, whose residuals ``(S, B, L)`` come in parts."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.held: list[Tensor] = []
        self.sums: list[Tensor] = []
        self.n = 0

    def add(self, residual: Tensor) -> None:
        self.held.append(residual)
        if len(self.held) * residual.shape[1] >= HELD_ROWS:
            self._count()

    def value(self) -> Tensor:
        """Return the mean ``(S,)`` of all that was added."""
        if self.held:
            self._count()
        return torch.stack(self.sums).sum(dim=0) / self.n

    def _count(self) -> None:
        losses = self.loss.value(torch.cat(self.held, dim=1) if len(self.held) > 1 else self.held[0])
        self.sums.append(losses.sum(dim=(1, 2)))
        self.n += losses[0].numel()
        self.held.clear()


class _Table:
    """Spectra ``(N, W)`` of which every batch is taken into the same memory, at most `rows` at a time.

    Where they may lie `apart`, rows there begin an odd number of a processor's cache lines after each other. Were it a
    power of two, as in most tables of spectra, they would share few places of the cache, and the gradient of the first
    layer would take longer. A person's own network may ask for rows without gaps (``x.view``).
    """

    LINE = 16  # numbers in a line of a processor's cache

    def __init__(self, spectra: Tensor, rows: int, *, apart: bool) -> None:
        self.spectra, width = spectra, spectra.shape[1]
        room = (-(-width // self.LINE) | 1) * self.LINE if apart and spectra.device.type == "cpu" else width
        self.memory = spectra.new_empty(rows, room)[:, :width]

    def take(self, rows: Tensor) -> Tensor:
        """Spectra ``(S, B, W)`` by their numbers ``(S, B)``; those taken before are gone."""
        taken = self.memory[: rows.numel()]
        torch.index_select(self.spectra, 0, rows.flatten(), out=taken)
        return taken.view(*rows.shape, -1)


def _in_turn(task: _Task, seeds: Sequence[int], on_step: OnStep) -> Iterator[_Look]:
    """Train one seed after another, and give their looks together."""
    courses = []
    for seed in seeds:
        own = draws.derived_seed(seed, "loop")  # for torch's own dropout, which draws from the global generator
        with draws.borrowed_generator(own):
            courses.append(list(_by_turns(task, [[seed]], on_step)))
    yield from map(_joined, zip(*courses, strict=True))


def _seeds_first(losses: list[Tensor]) -> NDArray[np.float64]:
    return torch.stack([loss.cpu().double() for loss in losses], dim=1).numpy()


def kept(model: nn.Module, state: State) -> State:
    """Copy what a checkpoint keeps, on the CPU: parameters and buffers, no dropout masks."""
    masks = {f"{name}.mask" for name, module in model.named_modules() if isinstance(module, SeededDropout)}
    whole = torch.contiguous_format
    return {name: state[name].detach().cpu().clone(memory_format=whole) for name in state if name not in masks}
