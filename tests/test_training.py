"""All seeds at once equal each seed alone, and a plain PyTorch loop; only a seed's own numbers decide its run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import shipped, training_config
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from spectral_tutorial import analysis, data, models, training
from spectral_tutorial.models import CNN, MLP, SeededDropout, initialize
from spectral_tutorial.reading import ConfigError
from spectral_tutorial.sections import TrainingConfig

SEEDS = tuple(range(123, 131))
Pair = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def task() -> tuple[Pair, Pair]:
    """A regression problem of 90 spectra (no multiple of the batch size) with 12 bins and 3 components."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 12)).astype(np.float32)
    y = np.tanh(x @ rng.normal(size=(12, 3))).astype(np.float32)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    return (inputs[:90], targets[:90]), (inputs[90:], targets[90:])


def mlp(config: TrainingConfig) -> models.Build:
    return lambda: MLP(12, 3, config.hidden_dims, config.dropout_rate)


def run(
    config: TrainingConfig, task: tuple[Pair, Pair], seeds: Sequence[int], build: models.Build | None = None
) -> tuple[training.History, dict[int, models.State]]:
    kept: dict[int, models.State] = {}
    history = training.train(config, build or mlp(config), *task, seeds=seeds, on_checkpoint=kept.__setitem__)
    return history, kept


def plain_loop(config: TrainingConfig, task: tuple[Pair, Pair], seed: int, build: models.Build) -> nn.Module:
    """One network, trained as any PyTorch tutorial would, with the seed's own generators."""
    with models.borrowed(training.generator(seed, "weights")):
        network = build()
        initialize(network, config.initialization)
    order, dropout = (training.generator(seed, purpose) for purpose in ("order", "dropout"))
    make = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}[config.optimizer]
    optimizer = make(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    total = config.epochs * -(-len(task[0][0]) // config.batch_size)
    rate = {
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        "linear": lambda: torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total),
    }[config.schedule]()
    criterion = {"mse": nn.MSELoss, "mae": nn.L1Loss, "huber": nn.HuberLoss}[config.loss_function]()
    inputs, targets = task[0]
    for _ in range(config.epochs):
        for rows in torch.randperm(len(inputs), generator=order).split(config.batch_size):
            for layer in (m for m in network.modules() if isinstance(m, SeededDropout)):
                keep = torch.rand(len(rows), *layer.features, generator=dropout) >= layer.rate
                layer.mask = keep.float() / (1 - layer.rate)
            optimizer.zero_grad()
            if config.loss_weights == "equal":
                criterion(network(inputs[rows]), targets[rows]).backward()
            else:
                columns = zip(network(inputs[rows]).T, targets[rows].T, strict=True)
                torch.stack([criterion(*column).log() for column in columns]).mean().backward()
            optimizer.step()
            rate.step()
    return network.eval()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout_rate": 0.3, "initialization": "kaiming_normal"},
        {"optimizer": "adam", "loss_function": "huber"},
        {"optimizer": "sgd", "learning_rate": 0.05, "loss_function": "mae"},
        {"model_type": "cnn", "dropout_rate": 0.2},
        {"schedule": "linear", "loss_weights": "inverse_error"},
        {"schedule": "cosine", "loss_function": "huber", "loss_weights": "inverse_error"},
    ],
    ids=str,
)
def test_the_stacked_loop_equals_a_plain_loop(task: tuple[Pair, Pair], changes: dict[str, Any]) -> None:
    config = training_config(epochs=4, **changes)
    kind = CNN if config.model_type == "cnn" else MLP
    build: models.Build = lambda: kind(12, 3, config.hidden_dims, config.dropout_rate)  # noqa: E731
    history, kept = run(config, task, SEEDS[:3], build)
    last = kept[max(kept)]
    for place, seed in enumerate(SEEDS[:3]):
        network = plain_loop(config, task, seed, build)
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(last[name][place], tensor, rtol=0, atol=1e-5)
        inputs, targets = task[1]
        predicted = models.predict(build(), last, inputs)[place]
        torch.testing.assert_close(predicted, network(inputs).detach(), rtol=0, atol=1e-5)
        if config.loss_function == "mse":
            expected = ((network(inputs) - targets) ** 2).mean().item()
            assert history.val_loss[place, -1] == pytest.approx(expected, rel=1e-5)


def test_a_schedule_takes_the_rate_from_the_one_configured_toward_0(
    task: tuple[Pair, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three steps an epoch, four epochs: twelve rates, the first as configured."""
    rates: list[float] = []

    class Noting(torch.optim.SGD):
        def step(self, *args: Any) -> None:  # type: ignore[override]
            rates.append(self.param_groups[0]["lr"])
            super().step(*args)

    monkeypatch.setitem(training.OPTIMIZERS, "sgd", Noting)
    steps = np.arange(12) / 12
    expected = {"constant": np.ones(12), "linear": 1 - steps, "cosine": 0.5 + 0.5 * np.cos(np.pi * steps)}
    assert expected.keys() == training.SCHEDULES.keys()
    for name, shares in expected.items():
        rates.clear()
        run(training_config(optimizer="sgd", epochs=4, learning_rate=0.04, schedule=name), task, SEEDS[:2])
        np.testing.assert_allclose(rates, 0.04 * shares, rtol=1e-12)


def test_balanced_errors_have_the_gradient_of_the_mean_of_their_logarithms() -> None:
    """A component that never occurs keeps the weight 1, however small its error; seeds do not mix."""
    generator = torch.Generator().manual_seed(1)
    errors = (torch.rand(2, 5, 3, generator=generator) * torch.tensor([1.0, 1e-3, 1e-6])).requires_grad_()
    objective = training.balanced(errors, torch.tensor([True, True, False]))
    (ours,) = torch.autograd.grad(objective.sum(), errors)
    means = errors.mean(dim=1)
    plain = (means[:, :2].log().sum() + means[:, 2].sum()) / 3
    torch.testing.assert_close(ours, torch.autograd.grad(plain, errors)[0])
    torch.testing.assert_close(objective.detach(), (2 + means[:, 2].detach()) / 3)


@pytest.fixture(scope="module")
def world() -> tuple[Pair, Pair]:
    """Spectra of the shipped world, as the shipped network sees them."""
    config = shipped()
    made = [
        data.generate(config.spectra, split.model_copy(update={"n_samples": n}), name=name, seed=42)
        for name, n in (("train", 512), ("val", 256))
        for split in [config.distribution.splits[name]]
    ]
    transform = data.InputTransform("log_standardize").fit(made[0].flux)
    train, val = (
        (torch.from_numpy(transform.transform(spectra.flux)), torch.from_numpy(spectra.abundance.astype(np.float32)))
        for spectra in made
    )
    return train, val


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("count", "fewer", "changes"),
    [
        (1, [127], {}),
        (2, [127], {}),
        (4, [123, 127, 129], {}),
        (1, [123, 127, 129], {"dropout_rate": 0.1, "optimizer": "adam", "batch_size": 60}),
        (2, [127, 999], {"dropout_rate": 0.1, "optimizer": "sgd", "loss_function": "huber"}),
    ],
    ids=str,
)
def test_a_seed_is_bit_for_bit_the_same_whatever_seeds_are_beside_it(
    world: tuple[Pair, Pair], count: int, fewer: list[int], changes: dict[str, Any]
) -> None:
    """The shipped network, whose last layer of 20 numbers fills no register. The same threads, other neighbors."""
    config = shipped().with_training(epochs=2, **changes).training
    build: models.Build = lambda: MLP(1024, 20, config.hidden_dims, config.dropout_rate)  # noqa: E731
    with threads(count):
        (together, all_states), (apart, states) = (run(config, world, seeds, build) for seeds in (SEEDS, fewer))
    for place, seed in enumerate(fewer):
        if seed not in SEEDS:
            continue
        among = SEEDS.index(seed)
        np.testing.assert_array_equal(apart.val_loss[place], together.val_loss[among])
        np.testing.assert_array_equal(apart.train_loss[place], together.train_loss[among])
        for step, state in states.items():
            assert all(torch.equal(state[name][place], all_states[step][name][among]) for name in state)
    assert np.unique(together.val_loss[:, -1]).size == len(SEEDS), "seeds differ from each other"


def test_a_seed_alone_on_many_threads_is_the_same_but_for_rounding(world: tuple[Pair, Pair]) -> None:
    """There a matrix product is cut into pieces, and sums are taken in another order."""
    config = shipped().with_training(epochs=2).training
    build: models.Build = lambda: MLP(1024, 20, config.hidden_dims)  # noqa: E731
    with threads(4):
        together, alone = (run(config, world, seeds, build)[0] for seeds in (SEEDS, SEEDS[:1]))
    np.testing.assert_allclose(alone.val_loss[0], together.val_loss[0], rtol=1e-4)


def test_seeds_have_streams_of_their_own() -> None:
    purposes = ("weights", "order", "dropout", "loop")
    keys = {training.generator(seed, purpose).initial_seed() for seed in range(200) for purpose in purposes}
    assert len(keys) == 800


def test_every_epoch_shows_each_spectrum_once_to_each_seed() -> None:
    batches = training.batches(10, 4, SEEDS, torch.device("cpu"))
    for _ in range(3):
        rows = torch.cat([next(batches) for _ in range(3)], dim=1)
        assert torch.equal(rows.sort(dim=1).values, torch.arange(10).expand(8, 10))


@pytest.mark.parametrize(
    ("changes", "total", "expected"),
    [
        ({"checkpoint_by": "ratio", "checkpoint_ratio": 0.25}, 100, [0, 25, 50, 75, 100]),
        ({"checkpoint_by": "ratio", "checkpoint_ratio": 0.3}, 100, [0, 30, 60, 90, 100]),
        ({"checkpoint_by": "ratio", "checkpoint_ratio": 0.05}, 3, [0, 1, 2, 3]),
        ({"checkpoint_by": "ratio", "checkpoint_ratio": 1.0}, 7, [0, 7]),
        ({"checkpoint_by": "step", "checkpoint_every_n_step": 40}, 100, [0, 40, 80, 100]),
        ({"checkpoint_by": "step", "checkpoint_every_n_step": 40}, 3, [0, 3]),
        ({"checkpoint_by": "log"}, 1, [0, 1]),
        ({"checkpoint_by": "log"}, 5, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_checkpoint_steps(changes: dict[str, Any], total: int, expected: list[int]) -> None:
    assert training.checkpoint_steps(training_config(**changes), total) == expected


def test_log_spaced_checkpoints_start_at_the_untrained_network_and_grow_apart() -> None:
    steps = training.checkpoint_steps(training_config(checkpoint_by="log"), 1280)
    assert steps[:4] == [0, 1, 2, 3]
    assert steps[-1] == 1280
    assert 15 <= len(steps) <= 25
    assert np.all(np.diff(np.diff(steps)) >= -2)


def test_history_counts_steps_and_epochs_and_averages_the_losses_in_between(task: tuple[Pair, Pair]) -> None:
    """90 spectra in batches of 32 are 3 steps an epoch, the last batch a small one."""
    seen: list[tuple[int, int]] = []
    config = training_config(epochs=2, checkpoint_by="step", checkpoint_every_n_step=3)
    kept: list[int] = []
    history = training.train(
        config, mlp(config), *task, seeds=SEEDS, on_step=lambda *now: seen.append(now),
        on_checkpoint=lambda step, state: kept.append(step),
    )  # fmt: skip
    assert kept == history.step.tolist() == [0, 3, 6]
    assert history.epoch.tolist() == [0, 1, 2]
    assert seen == [(step, 6) for step in range(1, 7)]
    assert history.train_loss.shape == history.val_loss.shape == (8, 3)
    assert np.isnan(history.train_loss[:, 0]).all()
    assert np.isfinite(history.train_loss[:, 1:]).all()
    assert (history.val_loss[:, -1] < history.val_loss[:, 0]).all()


def test_the_training_loss_counts_each_spectrum_alike(task: tuple[Pair, Pair]) -> None:
    """Where next to nothing is learned, the loss over an epoch is that over the split, its last batch being small."""
    config = training_config(epochs=2, learning_rate=1e-12, checkpoint_by="step", checkpoint_every_n_step=3)
    history = training.train(config, mlp(config), task[0], task[0], seeds=SEEDS[:2])
    np.testing.assert_allclose(history.train_loss[:, 1:], history.val_loss[:, 1:], rtol=1e-6)


def test_checkpoints_are_copies_without_masks(task: tuple[Pair, Pair]) -> None:
    config = training_config(dropout_rate=0.2)
    _, kept = run(config, task, SEEDS[:2])
    assert set(kept[0]) == set(mlp(config)().state_dict())
    assert not torch.equal(kept[0]["0.weight"], kept[max(kept)]["0.weight"])
    assert not any(tensor.requires_grad for tensor in kept[0].values())


class Normalized(nn.Sequential):
    """A module of somebody's own that keeps state (BatchNorm) and draws (torch's own dropout)."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


def test_what_cannot_be_stacked_is_trained_in_turn_and_equals_itself_alone(
    task: tuple[Pair, Pair], caplog: pytest.LogCaptureFixture
) -> None:
    config = training_config(epochs=3, checkpoint_by="step", checkpoint_every_n_step=3)
    caplog.set_level("INFO", models.__name__)
    history, kept = run(config, task, SEEDS[:3], Normalized)
    assert "Normalized cannot be stacked: its 3 seeds run one after another" in caplog.text
    alone, weights = run(config, task, SEEDS[1:2], Normalized)
    np.testing.assert_array_equal(history.val_loss[1], alone.val_loss[0])
    assert list(kept) == [0, 3, 6, 9]
    for step, state in kept.items():
        assert all(torch.equal(state[name][1], weights[step][name][0]) for name in state)
    assert kept[9]["1.num_batches_tracked"].tolist() == [9, 9, 9]
    predicted = models.predict(Normalized(), kept[9], task[1][0])
    for place in range(3):
        network = Normalized().eval()
        network.load_state_dict({name: tensor[place] for name, tensor in kept[9].items()})
        torch.testing.assert_close(predicted[place], network(task[1][0]).detach())


def test_a_seed_that_overflows_is_found_and_disturbs_no_other(
    task: tuple[Pair, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = training_config(epochs=3)
    healthy, _ = run(config, task, SEEDS[:3])
    draw = training.initial_state

    def poisoned(*args: Any) -> models.State:
        state = draw(*args)
        state["0.weight"][1] = 1e30
        return state

    monkeypatch.setattr(training, "initial_state", poisoned)
    history, _ = run(config, task, SEEDS[:3])
    np.testing.assert_array_equal(history.val_loss[[0, 2]], healthy.val_loss[[0, 2]])
    status = analysis.classify(np.ones((3, 2)), history.val_loss, constant_loss=0.1)
    assert status == ["ok", "diverged", "ok"]


def test_an_absurd_learning_rate_diverges(task: tuple[Pair, Pair]) -> None:
    history, _ = run(training_config(learning_rate=1e6, epochs=3), task, SEEDS)
    assert analysis.classify(np.ones((8, 2)), history.val_loss, constant_loss=0.1) == ["diverged"] * 8


@pytest.mark.parametrize("build", [None, Normalized], ids=["stacked", "in turn"])
def test_global_generators_are_left_alone(task: tuple[Pair, Pair], build: models.Build | None) -> None:
    def states() -> list[Any]:
        name, key, *rest = np.random.get_state()
        return [random.getstate(), name, key.tolist(), rest, torch.get_rng_state().tolist()]

    before = states()
    run(training_config(dropout_rate=0.2), task, SEEDS[:2], build)
    assert states() == before


def test_the_global_generators_state_does_not_matter(task: tuple[Pair, Pair]) -> None:
    results = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            results.append([run(training_config(), task, [5], build)[0].val_loss for build in (None, Normalized)])
    np.testing.assert_array_equal(*results)


def test_predictions_in_blocks_equal_the_whole(task: tuple[Pair, Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    config = training_config()
    state = training.initial_state(mlp(config), "torch", SEEDS)
    whole = models.predict(mlp(config)(), state, task[0][0])
    monkeypatch.setattr(models, "EVALUATION_ROWS", 17)
    blocks = models.predict(mlp(config)(), state, task[0][0])
    assert whole.shape == (8, 90, 3)
    torch.testing.assert_close(blocks, whole, rtol=1e-5, atol=1e-6)


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
    """A recurrent layer, which vmap cannot take."""

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


class Turning(nn.Module):
    """Control flow that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(BINS, LINES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return y if y.sum() > 0 else 0.9 * y


class Dropping(nn.Module):
    """Dropout as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(BINS, LINES)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(F.dropout(x, 0.1, self.training))


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
    "control flow": Turning,
    "dropout as a function": Dropping,
    "spectral norm": lambda: nn.Sequential(spectral_norm(nn.Linear(BINS, 8)), nn.ReLU(), nn.Linear(8, LINES)),
    "batch norm": lambda: nn.Sequential(nn.Linear(BINS, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, LINES)),
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
def test_what_a_checkpoint_predicts_is_what_was_trained(name: str) -> None:
    """What the network on its own predicts with the weights that were kept gives the loss that training reported."""
    build, states = NETWORKS[name], []
    pairs = spectra()
    history = training.train(
        settings(), build, pairs, pairs, seeds=[1, 2], on_checkpoint=lambda step, state: states.append(state)
    )
    alone = models.template(build).eval()
    for place in range(2):
        weights = {key: tensor[place] for key, tensor in states[-1].items()}
        with torch.no_grad():
            predicted = functional_call(alone, weights, (pairs[0],))
        assert float(nn.functional.mse_loss(predicted, pairs[1])) == pytest.approx(
            history.val_loss[place, -1], rel=1e-5
        )
    assert (history.val_loss[:, -1] < history.val_loss[:, 0]).all()
    stacked = models.predict(models.template(build), states[-1], pairs[0])
    assert torch.allclose(stacked[1], predicted, atol=1e-5)


def test_what_is_frozen_is_not_learned() -> None:
    def build() -> nn.Module:
        network = nn.Sequential(nn.Linear(BINS, 8), nn.ReLU(), nn.Linear(8, LINES))
        network[0].requires_grad_(False)
        return network

    states: list[models.State] = []
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
        models.choose_device("cuda")


@pytest.mark.parametrize("name", ["recurrent", "control flow", "dropout as a function", "spectral norm"])
def test_what_vmap_cannot_take_runs_one_seed_after_another_and_says_so(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", models.__name__)
    pairs = spectra()
    together = training.train(settings(), NETWORKS[name], pairs, pairs, seeds=[1, 2])
    (said,) = caplog.messages
    assert "cannot be stacked: its 2 seeds run one after another (" in said
    alone = training.train(settings(), NETWORKS[name], pairs, pairs, seeds=[2])
    np.testing.assert_array_equal(together.val_loss[1], alone.val_loss[0])


def test_batch_norm_is_stacked_and_averages_for_each_seed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", models.__name__)
    pairs, kept = spectra(), {}
    keep = kept.__setitem__
    together = training.train(settings(), NETWORKS["batch norm"], pairs, pairs, seeds=[1, 2], on_checkpoint=keep)
    assert "cannot be stacked" not in caplog.text
    assert kept[8]["1.num_batches_tracked"].tolist() == [8, 8]
    alone = training.train(settings(), NETWORKS["batch norm"], pairs, pairs, seeds=[2])
    np.testing.assert_allclose(together.val_loss[1], alone.val_loss[0], rtol=1e-5)


def test_a_network_that_is_not_a_number_from_the_start_is_trained_and_called_diverged() -> None:
    class Undefined(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * torch.nan

    pairs = spectra()
    history = training.train(settings(), lambda: Undefined(nn.Linear(BINS, LINES)), pairs, pairs, seeds=[1, 2])
    assert np.isnan(history.val_loss).all()
    assert analysis.classify(np.ones((2, 2)), history.val_loss, constant_loss=0.1) == ["diverged"] * 2


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (lambda: nn.Linear(BINS, 5), r"Linear, which maps \(2, 12\) to \(2, 5\)"),
        (lambda: nn.Sequential(nn.Linear(BINS, LINES), nn.Flatten(0)), r"Sequential, which maps \(2, 12\) to \(6,\)"),
        (lambda: nn.LSTM(BINS, LINES), r"LSTM, which maps \(2, 12\) to tuple"),
        (lambda: nn.Linear(7, LINES), r"Linear, which fails on spectra \(RuntimeError: .*mat1 and mat2 .*\)"),
    ],
    ids=["wider", "flat", "a pair", "other bins"],
)
def test_a_network_that_does_not_fit_is_refused_in_one_sentence(build: models.Build, found: str) -> None:
    pairs = spectra()
    expected = r"model_type: found {}; expected a network that maps \(batch, 12\) to \(batch, 3\)\.$"
    with pytest.raises(ConfigError, match=expected.format(found)):
        training.train(settings(), build, pairs, pairs, seeds=[1])


def test_a_network_that_no_memory_holds_is_refused_before_anything_is_allocated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models.psutil, "virtual_memory", lambda: SimpleNamespace(available=8e9))
    pairs, hidden, made = spectra(), [65_536, 65_536], []

    def build() -> nn.Module:
        made.append(MLP(BINS, LINES, hidden))
        return made[-1]

    found = r"hidden_dims: found \[65536, 65536\], whose training takes 137.5 GB at 2 seeds; expected .* the 8.0 GB "
    with pytest.raises(ConfigError, match=found):
        training.train(settings(model_type="mlp", hidden_dims=hidden), build, pairs, pairs, seeds=[1, 2])
    assert all(parameter.is_meta for network in made for parameter in network.parameters())


@pytest.mark.parametrize(("free", "refused"), [(3 * 4 * 4 * 39 - 1, True), (3 * 4 * 4 * 39, False)])
def test_weights_gradients_and_two_moments_of_all_seeds_count(
    monkeypatch: pytest.MonkeyPatch, free: int, refused: bool
) -> None:
    monkeypatch.setattr(models.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    build: models.Build = lambda: nn.Linear(BINS, LINES)  # noqa: E731
    with pytest.raises(ConfigError) if refused else nullcontext():
        models.check_memory(settings(), build, 3, torch.device("cpu"))


def test_masks_keep_the_mean_and_the_rate_and_are_each_seeds_own() -> None:
    def drawn(seeds: Sequence[int]) -> Tensor:
        return training.dropout_masks(MLP(4, 2, (50,), 0.25), seeds)(torch.zeros(len(seeds), 64))["2.mask"]

    mask = drawn(SEEDS)
    assert mask.shape == (8, 64, 50)
    assert mask.unique().tolist() == pytest.approx([0, 4 / 3])
    assert mask.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(drawn([999, 124])[1], mask[1])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_products_that_our_networks_write_down_are_those_that_vmap_finds(
    task: tuple[Pair, Pair], dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = training_config(dropout_rate=dropout, epochs=3)
    history, kept = run(config, task, SEEDS[:3])
    monkeypatch.setattr(models, "STACKED", ())
    other, found = run(config, task, SEEDS[:3])
    np.testing.assert_allclose(other.val_loss, history.val_loss, rtol=1e-5)
    for name, tensor in kept[max(kept)].items():
        torch.testing.assert_close(found[max(found)][name], tensor, rtol=0, atol=1e-5)


def test_a_person_who_changes_the_forward_pass_of_our_network_gets_their_own() -> None:
    class Halved(MLP):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) / 2

    state = training.initial_state(lambda: MLP(BINS, LINES, [8]), "torch", [1, 2])
    x = spectra()[0]
    plain, halved = (models.predict(kind(BINS, LINES, [8]), state, x) for kind in (MLP, Halved))
    torch.testing.assert_close(2 * halved, plain)


@pytest.mark.parametrize("kind", ["standardize", "none"])
def test_networks_for_spectra_of_ones_own_are_those_of_the_loop(task: tuple[Pair, Pair], kind: str) -> None:
    (inputs, targets), (others, _) = task
    config = training_config(epochs=3, hidden_dims=[16], input_transform=kind, activation="tanh")
    found = training.fit(config, inputs.numpy(), targets.double().numpy(), seeds=(3, 7))(others.numpy())
    look = data.InputTransform(kind).fit(inputs.numpy())
    pair = torch.from_numpy(look.transform(inputs.numpy())), targets
    _, kept = run(config, (pair, pair), (3, 7), build := lambda: MLP(12, 3, (16,), activation="tanh"))
    expected = models.predict(build(), kept[max(kept)], torch.from_numpy(look.transform(others.numpy())))
    assert found.shape == (2, 30, 3)
    np.testing.assert_array_equal(found, expected.numpy())


def test_a_network_of_ones_own_is_no_network_for_spectra_of_ones_own() -> None:
    with pytest.raises(ConfigError, match="model_type: found 'm:Mine'; expected one of mlp, averaging_mlp, cnn"):
        training.fit(training_config(model_type="m:Mine"), np.ones((2, 3), np.float32), np.ones((2, 1)), seeds=[0])
