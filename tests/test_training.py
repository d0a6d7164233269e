"""All seeds at once equal each seed alone, and a plain PyTorch loop; only a seed's own numbers decide its run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from helpers import shipped, training_config
from torch import Tensor, nn

from spectral_tutorial import analysis, data, draws, stacking, training
from spectral_tutorial.models import CNN, MLP, SeededDropout, initialize
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


def mlp(config: TrainingConfig) -> draws.Build:
    return lambda: MLP(12, 3, config.hidden_dims, config.dropout_rate)


def run(
    config: TrainingConfig, task: tuple[Pair, Pair], seeds: Sequence[int], build: draws.Build | None = None
) -> tuple[training.History, dict[int, stacking.State]]:
    kept: dict[int, stacking.State] = {}
    history = training.train(config, build or mlp(config), *task, seeds=seeds, on_checkpoint=kept.__setitem__)
    return history, kept


def plain_loop(config: TrainingConfig, task: tuple[Pair, Pair], seed: int, build: draws.Build) -> nn.Module:
    """One network, trained as any PyTorch tutorial would, with the seed's own generators."""
    with torch.random.fork_rng():
        torch.manual_seed(draws.derived_seed(seed, "weights"))
        network = build()
        initialize(network, config.initialization)
    order, dropout = (draws.generator(seed, purpose) for purpose in ("order", "dropout"))
    make = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}[config.optimizer]
    optimizer = make(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    criterion = {"mse": nn.MSELoss, "mae": nn.L1Loss, "huber": nn.HuberLoss}[config.loss_function]()
    inputs, targets = task[0]
    for _ in range(config.epochs):
        for rows in torch.randperm(len(inputs), generator=order).split(config.batch_size):
            for layer in (m for m in network.modules() if isinstance(m, SeededDropout)):
                keep = torch.rand(len(rows), *layer.features, generator=dropout) >= layer.rate
                layer.mask = keep.float() / (1 - layer.rate)
            optimizer.zero_grad()
            criterion(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    return network.eval()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout_rate": 0.3, "initialization": "kaiming_normal"},
        {"optimizer": "adam", "loss_function": "huber"},
        {"optimizer": "sgd", "learning_rate": 0.05, "loss_function": "mae"},
        {"model_type": "cnn", "dropout_rate": 0.2},
    ],
    ids=str,
)
def test_the_stacked_loop_equals_a_plain_loop(task: tuple[Pair, Pair], changes: dict[str, Any]) -> None:
    config = training_config(epochs=4, **changes)
    kind = CNN if config.model_type == "cnn" else MLP
    build: draws.Build = lambda: kind(12, 3, config.hidden_dims, config.dropout_rate)  # noqa: E731
    history, kept = run(config, task, SEEDS[:3], build)
    last = kept[max(kept)]
    for place, seed in enumerate(SEEDS[:3]):
        network = plain_loop(config, task, seed, build)
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(last[name][place], tensor, rtol=0, atol=1e-5)
        inputs, targets = task[1]
        predicted = training.predict(build(), last, inputs)[place]
        torch.testing.assert_close(predicted, network(inputs).detach(), rtol=0, atol=1e-5)
        if config.loss_function == "mse":
            expected = ((network(inputs) - targets) ** 2).mean().item()
            assert history.val_loss[place, -1] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_seed_alone_equals_the_same_seed_among_eight(dropout: float) -> None:
    """In the shipped world, after 384 steps: the MSE of both components in every split, to a relative 1e-4."""
    config = shipped()
    splits = {
        name: split.model_copy(update={"n_samples": 1024 if "train" in name else 512})
        for name, split in config.distribution.splits.items()
    }
    spectra = {name: data.generate(config.spectra, split, name=name, seed=42) for name, split in splits.items()}
    transform = data.InputTransform("log_standardize").fit(spectra["train"].flux)
    inputs = {name: torch.from_numpy(transform.transform(s.flux)) for name, s in spectra.items()}
    targets = {name: torch.from_numpy(s.abundance.astype(np.float32)) for name, s in spectra.items()}
    pairs = tuple((inputs[name], targets[name]) for name in ("train", "val"))
    settings = config.with_training(epochs=24, dropout_rate=dropout).training
    build: draws.Build = lambda: MLP(1024, 20, settings.hidden_dims, dropout)  # noqa: E731

    def errors(seeds: Sequence[int]) -> dict[str, Any]:
        history, kept = run(settings, pairs, seeds, build)  # type: ignore[arg-type]
        assert max(kept) == history.step[-1] == 384
        predicted = {name: training.predict(build(), kept[384], x) for name, x in inputs.items()}
        return {name: ((p - targets[name]) ** 2).mean(dim=1)[:, [9, 3]].numpy() for name, p in predicted.items()}

    together, alone = errors(SEEDS), errors(SEEDS[5:6])
    for name in spectra:
        np.testing.assert_allclose(together[name][5], alone[name][0], rtol=1e-4, err_msg=name)
        assert np.unique(together[name][:, 0]).size == 8, "seeds differ from each other"


def test_adding_a_seed_changes_no_other_seeds_weights_order_or_masks(task: tuple[Pair, Pair]) -> None:
    config = training_config(dropout_rate=0.5)
    model = draws.template(mlp(config))

    def drawn(seeds: Sequence[int]) -> list[dict[str, Tensor]]:
        weights = draws.initial_state(mlp(config), "torch", seeds)
        batches, masks = iter(draws.Batches(90, 32, seeds)), draws.Masks(model, seeds, torch.device("cpu"))
        steps = [{"rows": next(batches), **masks.draw(32)} for _ in range(8)]
        return [{name: t[seeds.index(124)] for name, t in step.items() if t.ndim > 1} for step in [weights, *steps]]

    for one, other in zip(drawn([124]), drawn([999, 123, 124, 125]), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(run(config, task, [124])[1][0]["0.weight"][0], run(config, task, SEEDS)[1][0]["0.weight"][1])


def test_seeds_have_streams_of_their_own() -> None:
    keys = {draws.derived_seed(seed, purpose) for seed in range(200) for purpose in ("weights", "order", "dropout")}
    assert len(keys) == 600


def test_every_epoch_shows_each_spectrum_once_to_each_seed() -> None:
    batches = iter(draws.Batches(10, 4, SEEDS))
    for _ in range(3):
        rows = torch.cat([next(batches) for _ in range(3)], dim=1)
        assert torch.equal(rows.sort(dim=1).values, torch.arange(10).expand(8, 10))


def test_masks_keep_the_mean_and_the_rate() -> None:
    model = MLP(4, 2, (50, 20), 0.25)
    mask = draws.Masks(model, SEEDS, torch.device("cpu")).draw(64)["2.mask"]
    assert mask.shape == (8, 64, 50)
    assert mask.unique().tolist() == pytest.approx([0, 4 / 3])
    assert mask.mean().item() == pytest.approx(1, abs=0.02)


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


def test_history_counts_steps_and_epochs_and_averages_the_losses_in_between(
    task: tuple[Pair, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    """90 spectra in batches of 32 are 3 steps an epoch, the last batch a small one."""
    seen: list[tuple[int, int]] = []  # a step is told once, when all stacks have done it
    monkeypatch.setattr(training, "SEEDS_A_THREAD", 0)
    monkeypatch.setattr(training, "FEWEST_SEEDS", 3)
    config = training_config(epochs=2, checkpoint_by="step", checkpoint_every_n_step=3)
    kept: list[int] = []
    history = training.train(
        config, mlp(config), *task, seeds=SEEDS, on_step=lambda *now: seen.append(now),
        on_checkpoint=lambda step, state: kept.append(step),
    )  # fmt: skip
    assert kept == history.step.tolist() == [0, 3, 6]
    assert history.epoch.tolist() == [0, 1, 2]
    assert seen == [(step, 6) for step in range(1, 7)]
    assert history.seeds == SEEDS
    assert history.train_loss.shape == history.val_loss.shape == (8, 3)
    assert np.isnan(history.train_loss[:, 0]).all()
    assert np.isfinite(history.train_loss[:, 1:]).all()
    assert (history.val_loss[:, -1] < history.val_loss[:, 0]).all()


@pytest.mark.parametrize("held", [1, 1024])
def test_the_training_loss_counts_each_spectrum_alike(
    task: tuple[Pair, Pair], held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where next to nothing is learned, the loss over an epoch is that over the split, its last batch being small."""
    monkeypatch.setattr(training, "HELD_ROWS", held)
    config = training_config(epochs=2, learning_rate=1e-12, checkpoint_by="step", checkpoint_every_n_step=3)
    history = training.train(config, mlp(config), task[0], task[0], seeds=SEEDS[:2])
    np.testing.assert_allclose(history.train_loss[:, 1:], history.val_loss[:, 1:], rtol=1e-6)


@pytest.mark.parametrize(("width", "room"), [(1024, 1040), (1040, 1040), (10, 16), (512, 528)])
@pytest.mark.parametrize("apart", [True, False])
def test_batches_lie_an_odd_number_of_cache_lines_apart_or_without_gaps(width: int, room: int, apart: bool) -> None:
    spectra = torch.arange(9.0 * width).view(9, width)
    table = training._Table(spectra, 6, apart=apart)
    for rows in (torch.tensor([[0, 8, 3], [8, 1, 1]]), torch.tensor([[2, 5], [7, 7]])):
        taken = table.take(rows)
        assert torch.equal(taken, spectra[rows])
        assert taken.stride()[-2:] == (room if apart else width, 1)


@pytest.mark.parametrize("name", training.LOSSES)
def test_losses_are_pytorchs_and_so_are_their_derivatives(name: str) -> None:
    residual = torch.linspace(-3, 3, 101, dtype=torch.float64).requires_grad_()  # not at the corners of mae and huber
    theirs = {"mse": nn.MSELoss, "mae": nn.L1Loss, "huber": nn.HuberLoss}[name](reduction="none")
    expected = theirs(residual, torch.zeros_like(residual))
    loss = training.LOSSES[name]
    torch.testing.assert_close(loss.value(residual), expected)
    torch.testing.assert_close(loss.derivative(residual, 0.25), 0.25 * torch.autograd.grad(expected.sum(), residual)[0])


def test_stacks_that_take_turns_equal_one_stack(task: tuple[Pair, Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    config, results = training_config(dropout_rate=0.2, epochs=3), {}
    monkeypatch.setattr(training, "SEEDS_A_THREAD", 0)
    for size in (8, 3, 1):
        monkeypatch.setattr(training, "FEWEST_SEEDS", size)
        results[size] = run(config, task, SEEDS)
    history, kept = results.pop(8)
    for other, weights in results.values():
        np.testing.assert_allclose(other.val_loss, history.val_loss, rtol=1e-5)
        np.testing.assert_allclose(other.train_loss, history.train_loss, rtol=1e-5)
        for name, tensor in kept[max(kept)].items():
            torch.testing.assert_close(weights[max(kept)][name], tensor, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("seeds", "threads", "expected"), [(1, 8, [1]), (5, 1, [4, 1]), (8, 2, [4, 4]), (8, 4, [8]), (64, 16, [32, 32])]
)
def test_as_many_seeds_are_stacked_as_keep_all_threads_busy(
    monkeypatch: pytest.MonkeyPatch, seeds: int, threads: int, expected: list[int]
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    stacks = training._stacks(MLP(12, 3), range(seeds), torch.device("cpu"))
    assert [len(stack) for stack in stacks] == expected
    assert sum(stacks, []) == list(range(seeds))
    assert len(training._stacks(CNN(64, 3), range(seeds), torch.device("cpu"))) == 1


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
    caplog.set_level("INFO", training.__name__)
    history, kept = run(config, task, SEEDS[:3], Normalized)
    assert "Normalized cannot be stacked: its 3 seeds are trained one after another" in caplog.text
    alone, weights = run(config, task, SEEDS[1:2], Normalized)
    np.testing.assert_array_equal(history.val_loss[1], alone.val_loss[0])
    assert list(kept) == [0, 3, 6, 9]
    for step, state in kept.items():
        assert all(torch.equal(state[name][1], weights[step][name][0]) for name in state)
    assert kept[9]["1.num_batches_tracked"].tolist() == [9, 9, 9]
    predicted = training.predict(Normalized(), kept[9], task[1][0])
    for place in range(3):
        network = Normalized().eval()
        network.load_state_dict({name: tensor[place] for name, tensor in kept[9].items()})
        torch.testing.assert_close(predicted[place], network(task[1][0]).detach())


def test_a_seed_that_overflows_is_found_and_disturbs_no_other(
    task: tuple[Pair, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = training_config(epochs=3)
    healthy, _ = run(config, task, SEEDS[:3])
    draw = draws.initial_state

    def poisoned(*args: Any) -> stacking.State:
        state = draw(*args)
        state["0.weight"][1] = 1e30
        return state

    monkeypatch.setattr(draws, "initial_state", poisoned)
    history, _ = run(config, task, SEEDS[:3])
    np.testing.assert_array_equal(history.val_loss[[0, 2]], healthy.val_loss[[0, 2]])
    status = analysis.classify(np.ones((3, 2)), history.val_loss, constant_loss=0.1)
    assert status == ["ok", "diverged", "ok"]


def test_an_absurd_learning_rate_diverges(task: tuple[Pair, Pair]) -> None:
    history, _ = run(training_config(learning_rate=1e6, epochs=3), task, SEEDS)
    assert analysis.classify(np.ones((8, 2)), history.val_loss, constant_loss=0.1) == ["diverged"] * 8


@pytest.mark.parametrize("build", [None, Normalized], ids=["stacked", "in turn"])
def test_global_generators_are_left_alone(task: tuple[Pair, Pair], build: draws.Build | None) -> None:
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
    state = draws.initial_state(mlp(config), "torch", SEEDS)
    whole = training.predict(mlp(config)(), state, task[0][0])
    monkeypatch.setattr(training, "EVALUATION_ROWS", 17)
    blocks = training.predict(mlp(config)(), state, task[0][0])
    assert whole.shape == (8, 90, 3)
    torch.testing.assert_close(blocks, whole, rtol=1e-5, atol=1e-6)
