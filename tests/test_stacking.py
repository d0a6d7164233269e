"""Many copies of one network, run as one: the same answers as each of them alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import weight_norm

from spectral_tutorial import draws, stacking, training
from spectral_tutorial.models import MLP, SeededDropout
from spectral_tutorial.optimizers import OPTIMIZERS
from spectral_tutorial.reading import ConfigError
from spectral_tutorial.sections import TrainingConfig

BINS, LINES = 12, 3


class Doubled(nn.Sequential):
    """A stack of layers that does something else with them."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Shifted(nn.Linear):
    """A linear layer that does something else."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


class Tied(nn.Module):
    """The same layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(BINS, BINS)
        self.b = self.a
        self.out = nn.Linear(BINS, LINES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Noted(nn.Module):
    """A buffer that is drawn when the network is made, and is not persistent."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mix", torch.randn(BINS, LINES), persistent=False)
        self.scale = nn.Parameter(torch.ones(LINES))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.mix * self.scale


class Recurrent(nn.Module):
    """A recurrent layer, which cannot be stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(1, 4, batch_first=True)
        self.out = nn.Linear(4, LINES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cells(x[:, :, None])[0][:, -1])


class Double(nn.Module):
    """A parameter of another type beside ordinary ones."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(BINS, LINES)
        self.offset = nn.Parameter(torch.zeros(LINES, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.offset.float()


class Patches(nn.Module):
    """Asks for spectra and weights without gaps and in order, as a person's own network may."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Linear(4, 2)
        self.out = nn.Parameter(torch.randn(LINES, BINS // 2) / BINS)

    def forward(self, x: Tensor) -> Tensor:
        patches = torch.tanh(self.patch(x.view(-1, 4))).view(len(x), -1)
        return patches @ self.out.view(-1).view(LINES, -1).T


def used_twice() -> nn.Module:
    relu = nn.ReLU()
    return nn.Sequential(nn.Linear(BINS, 8), relu, nn.Linear(8, 8), relu, nn.Linear(8, LINES))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Sequential(nn.Linear(BINS, 8), nn.ReLU(), nn.Linear(8, LINES)),
    "a layer used twice": used_twice,
    "its own forward": lambda: Doubled(nn.Linear(BINS, 8), nn.ReLU(), nn.Linear(8, LINES)),
    "a layer of its own": lambda: nn.Sequential(Shifted(BINS, 8), nn.ReLU(), nn.Linear(8, LINES)),
    "no bias": lambda: nn.Sequential(nn.Linear(BINS, 8, bias=False), nn.Tanh(), nn.Linear(8, LINES)),
    "weight norm": lambda: nn.Sequential(weight_norm(nn.Linear(BINS, 8)), nn.ReLU(), nn.Linear(8, LINES)),
    "tied weights": Tied,
    "a random buffer": Noted,
    "recurrent": Recurrent,
    "two types": Double,
    "views": Patches,
}


def settings(**changes: Any) -> TrainingConfig:
    given = {"model_type": "x:Y", "hidden_dims": [], "epochs": 2, "batch_size": 8, "learning_rate": 1e-2}
    ends = {"initialization": "torch", "checkpoint_by": "ratio", "checkpoint_ratio": 1.0}
    return TrainingConfig.model_validate({**given, **ends, **changes})


def spectra() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(32, BINS, generator=generator), torch.rand(32, LINES, generator=generator)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap about weight_norm
@pytest.mark.parametrize("name", NETWORKS)
def test_what_a_checkpoint_answers_is_what_was_trained(name: str) -> None:
    """The answers of the weights that were kept, by the network on its own, give the loss that training reported."""
    build, states = NETWORKS[name], []
    pairs = spectra()
    history = training.train(
        settings(), build, pairs, pairs, seeds=[1, 2], on_checkpoint=lambda step, state: states.append(state)
    )
    alone = draws.template(build).eval()
    for place in range(2):
        weights = {key: tensor[place] for key, tensor in states[-1].items()}
        with torch.no_grad():
            answer = functional_call(alone, weights, (pairs[0],))
        assert float(nn.functional.mse_loss(answer, pairs[1])) == pytest.approx(history.val_loss[place, -1], rel=1e-5)
    assert (history.val_loss[:, -1] < history.val_loss[:, 0]).all()
    stacked = training.predict(draws.template(build), states[-1], pairs[0])
    assert torch.allclose(stacked[1], answer, atol=1e-5)


def test_what_is_frozen_is_not_learned() -> None:
    def build() -> nn.Module:
        network = nn.Sequential(nn.Linear(BINS, 8), nn.ReLU(), nn.Linear(8, LINES))
        network[0].requires_grad_(False)
        return network

    states: list[stacking.State] = []
    pairs = spectra()
    keep = lambda step, state: states.append(state)  # noqa: E731
    training.train(settings(weight_decay=0.1), build, pairs, pairs, seeds=[1, 2], on_checkpoint=keep)
    assert torch.equal(states[0]["0.weight"], states[-1]["0.weight"])
    assert not torch.equal(states[0]["2.weight"], states[-1]["2.weight"])


def test_a_network_without_parameters_is_refused_in_one_sentence() -> None:
    pairs = spectra()
    build = lambda: nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(LINES))  # noqa: E731
    with pytest.raises(ConfigError, match="model_type: found Sequential, which has nothing to learn; expected"):
        training.train(settings(), build, pairs, pairs, seeds=[1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_refused_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match="device: found 'cuda', which torch does not find here; expected one of auto"):
        training.choose_device("cuda")


def by_autograd(network: nn.Module, x: Tensor, loss: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    learned = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    return dict(zip(learned, torch.autograd.grad(loss(network(x)), list(learned.values())), strict=True))


@pytest.mark.parametrize("frozen", [None, 0, 5], ids=["all learned", "first frozen", "middle frozen"])
def test_the_gradients_of_a_plain_stack_are_those_of_autograd(frozen: int | None) -> None:
    """Every kind of layer, in double precision, three seeds beside each alone."""

    def build() -> nn.Module:
        width, rate = 7, 0.4
        layers = [nn.Linear(BINS, width), nn.ReLU(), SeededDropout(rate, width), nn.Linear(width, width), nn.Tanh()]
        network = nn.Sequential(*layers, nn.Linear(width, width), nn.GELU(), nn.Linear(width, LINES)).double()
        if frozen is not None:
            network[frozen].requires_grad_(False)
        return network

    seeds = [1, 2, 3]
    model, state = draws.template(build), draws.initial_state(build, "torch", seeds)
    assert stacking.is_a_plain_stack(model)
    weights = {name: tensor.clone() for name, tensor in state.items()}
    masks = {name: mask.double() for name, mask in draws.Masks(model, seeds, torch.device("cpu")).draw(9).items()}
    x = torch.randn(3, 9, BINS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    learner = stacking.Learner(model.train(), state)
    for _ in range(2):  # what was left by the first time does not add up
        learner.pull_back(torch.cos(learner.read(x, masks)))
    for place in range(3):
        alone = build().train()
        alone.load_state_dict({name: tensor[place] for name, tensor in weights.items() if "mask" not in name})
        alone[2].mask = masks["2.mask"][place]
        expected = by_autograd(alone, x[place], lambda outputs: torch.sin(outputs).sum())
        assert expected.keys() == learner.gradients.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(learner.gradients[name][place], gradient, rtol=1e-12, atol=1e-14)
    assert sum((part.grad != 0).sum().item() for part in learner.learned if part.grad is not None) == sum(
        (gradient != 0).sum().item() for gradient in learner.gradients.values()
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_update_depends_on_the_seeds_before(optimizer: str) -> None:
    """Bit for bit, though all that is learned lies in one tensor, and a layer of 20 numbers fills no register."""
    seeds = [1, 2, 3, 4, 5]
    build: draws.Build = lambda: MLP(BINS, 20, (9, 5))  # noqa: E731
    state = draws.initial_state(build, "torch", seeds)
    generator = torch.Generator().manual_seed(0)
    gradients = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in state.items()}

    def updated(which: slice) -> stacking.State:
        learner = stacking.Learner(draws.template(build), {name: tensor[which] for name, tensor in state.items()})
        update = OPTIMIZERS[optimizer](learner.learned, 0.01, 0.1)
        for _ in range(3):
            for name, gradient in gradients.items():
                learner.gradients[name].copy_(gradient[which])
            update()
        return learner.state

    together = updated(slice(None))
    for place in range(len(seeds)):
        alone = updated(slice(place, place + 1))
        assert all(torch.equal(together[name][place], alone[name][0]) for name in state)
        assert not any(torch.equal(together[name][place], state[name][place]) for name in state)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_are_those_of_pytorchs_classes(optimizer: str) -> None:
    theirs = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer]
    generator, kinds = torch.Generator().manual_seed(0), (torch.float32, torch.float64)
    ours, other = ([torch.linspace(-1, 1, 500, dtype=kind) for kind in kinds] for _ in range(2))
    for tensor in (*ours, *other):
        tensor.grad = torch.zeros_like(tensor)
    update, expected = OPTIMIZERS[optimizer](ours, 0.01, 0.1), theirs(other, lr=0.01, weight_decay=0.1, fused=True)
    for _ in range(5):
        gradient = torch.randn(500, generator=generator)
        for tensor in (*ours, *other):
            tensor.grad.copy_(gradient)
        update()
        expected.step()
        assert all(map(torch.equal, ours, other))
