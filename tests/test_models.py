"""Networks: their shapes, sizes and initial weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spectral_tutorial import models
from spectral_tutorial.models import CNN, MLP, SeededDropout


@pytest.mark.parametrize("name", list(models.MODELS))
@pytest.mark.parametrize("activation", list(models.ACTIVATIONS))
@pytest.mark.parametrize("n_bins", [64, 1024, 99])
def test_every_network_reads_spectra_and_predicts_each_component(name: str, activation: str, n_bins: int) -> None:
    network = models.MODELS[name](n_bins, 6, hidden_dims=(16, 8), dropout_rate=0.1, activation=activation)
    assert network(torch.randn(5, n_bins)).shape == (5, 6)


def test_the_shipped_network_has_the_parameters_of_its_layers() -> None:
    expected = 1024 * 128 + 128 + 128 * 64 + 64 + 64 * 20 + 20
    assert sum(p.numel() for p in MLP(1024, 20).parameters()) == expected
    assert sum(p.numel() for p in models.Linear(1024, 20, hidden_dims=(128, 64)).parameters()) == 1024 * 20 + 20


def test_the_cnn_takes_at_most_a_million_multiply_adds_a_spectrum() -> None:
    counts = []

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        counts.append(output.numel() * (module.weight[0].numel()))  # each output is one weighted sum

    network = CNN(1024, 20, hidden_dims=(128, 64))
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Linear):
            module.register_forward_hook(count)
    network(torch.zeros(1, 1024))
    assert len(counts) == 5
    assert sum(counts) <= 1_000_000
    assert sum(counts) == pytest.approx(200_000, rel=0.01), "as its docstring says"


def test_an_averaging_network_is_one_of_the_means_of_four_bins() -> None:
    """Of ten bins the last mean has two. Alone as well as stacked."""
    network, inner = models.AveragingMLP(10, 2, hidden_dims=(5,), activation="gelu"), MLP(3, 2, (5,), activation="gelu")
    inner.load_state_dict(network.state_dict())
    x = torch.randn(7, 10)
    means = torch.stack([x[:, :4].mean(1), x[:, 4:8].mean(1), x[:, 8:].mean(1)], dim=1)
    torch.testing.assert_close(network(x), inner(means))
    state = {name: tensor[None] for name, tensor in network.state_dict().items()}
    torch.testing.assert_close(models.predict(network, state, x)[0], inner(means))


def test_a_linear_network_obeys_superposition() -> None:
    network = models.Linear(32, 4)
    x, y, zero = torch.randn(1, 32), torch.randn(1, 32), torch.zeros(1, 32)
    torch.testing.assert_close(network(x + y) + network(zero), network(x) + network(y))


def test_dropout_applies_the_given_mask_in_training_only() -> None:
    layer, x = SeededDropout(0.5, 3), torch.tensor([[1.0, 2.0, 3.0]])
    layer.mask = torch.tensor([[0.0, 2.0, 2.0]])
    torch.testing.assert_close(layer(x), torch.tensor([[0.0, 4.0, 6.0]]))
    torch.testing.assert_close(layer.eval()(x), x)
    assert "mask" not in layer.state_dict()


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_dropout_layers_stand_where_a_rate_is_given(rate: float) -> None:
    for network in (MLP(64, 6, (16, 8), rate), CNN(64, 6, (16,), rate)):
        rates = [module.rate for module in network.modules() if isinstance(module, SeededDropout)]
        assert rates == ([rate] * len(rates) if rate else [])
        assert len(rates) >= 2 * (rate > 0)


def test_small_weights_are_torchs_own_at_three_tenths() -> None:
    """Biases too."""
    drawn = []
    for how in ("torch", "torch_small"):
        torch.manual_seed(0)
        network = models.MLP(64, 3)
        models.initialize(network, how)
        drawn.append(torch.nn.utils.parameters_to_vector(network.parameters()))
    torch.testing.assert_close(drawn[1], 0.3 * drawn[0])


def test_kaiming_normal_has_variance_two_over_fan_in_and_no_biases() -> None:
    for network in (MLP(1024, 20), CNN(1024, 20)):
        models.initialize(network, "kaiming_normal")
        for layer in (m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv1d)):
            fan_in, count = layer.weight[0].numel(), layer.weight.numel()
            assert layer.weight.var().item() == pytest.approx(2 / fan_in, rel=6 * (2 / count) ** 0.5)
            assert abs(layer.weight.mean().item()) < 5 * (2 / fan_in / count) ** 0.5
            assert not layer.bias.any()


def test_torch_initialization_keeps_what_the_constructors_drew() -> None:
    network = MLP(64, 6)
    before = [p.clone() for p in network.parameters()]
    models.initialize(network, "torch")
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize("network", [MLP(64, 6, (16, 8)), CNN(64, 6, (8,)), models.Linear(64, 6)])
def test_without_its_last_layer_a_network_ends_where_its_answer_is_read_from(network: nn.Sequential) -> None:
    spectra, last = torch.randn(5, 64), network[-1]
    answer = network(spectra)
    assert torch.equal(last(models.without_last(network)(spectra)), answer)


def test_what_is_no_sequence_of_layers_has_no_last_one() -> None:
    with pytest.raises(TypeError, match="LSTM is no sequence of layers; expected an nn.Sequential"):
        models.without_last(nn.LSTM(3, 4))
