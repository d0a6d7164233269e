"""A naive reference: spectra made one by one, line by line, and seeds trained one after another with a DataLoader.

It is the straightforward way to write what the package does, for the same worlds, networks and numbers of steps: a
reader who never heard of batching over seeds would write it like this. Nothing in it is slow on purpose: each spectrum
and each batch is an array, and the data set is a tensor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from spectral_tutorial.config import Config
from spectral_tutorial.sections import Split, TrainingConfig
from spectral_tutorial.training import checkpoint_steps

H, C, K = 6.62607015e-34, 2.99792458e8, 1.380649e-23


def planck(wavelength_nm: Any, temperature: float) -> Any:
    wavelength = wavelength_nm * 1e-9
    return 2 * H * C**2 / wavelength**5 / (np.exp(H * C / (wavelength * K * temperature)) - 1)


def draw(sampled: Any, rng: np.random.Generator) -> float:
    low, high = sampled.range
    if sampled.distribution == "log_uniform":
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return float(rng.uniform(low, high))


def make_spectrum(config: Config, split: Split, rng: np.random.Generator) -> tuple[Any, Any]:
    """One spectrum and its abundances."""
    spectra, distribution = config.spectra, split.distribution
    weights = np.array([combination.weight for combination in distribution.combinations])
    combination = distribution.combinations[rng.choice(len(weights), p=weights / weights.sum())]
    wavelength = np.linspace(spectra.wavelength_min, spectra.wavelength_max, spectra.n_bins)
    temperature, noise = draw(spectra.sampling.temperature, rng), draw(spectra.sampling.noise, rng)
    flux = planck(wavelength, temperature) / planck(np.array(2.897771955e6 / temperature), temperature)
    abundance = np.zeros(spectra.n_components)
    for k, line in enumerate(spectra.lines):
        if line.label in combination.components:
            abundance[k] = draw(spectra.sampling.abundance, rng)
        profile = np.exp(-((wavelength - line.center) ** 2) / (2 * line.width**2))
        flux = flux * (1 + line.strength * abundance[k] * profile)
    return flux * (1 + noise * rng.standard_normal(spectra.n_bins)), abundance


def make_split(config: Config, name: str, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    split = config.distribution.splits[name]
    pairs = [make_spectrum(config, split, rng) for _ in range(split.n_samples)]
    flux, abundance = (np.array(part, dtype=np.float32) for part in zip(*pairs, strict=True))
    return torch.from_numpy(flux), torch.from_numpy(abundance)


def train_one(
    config: Config, train: tuple[torch.Tensor, torch.Tensor], val: tuple[torch.Tensor, torch.Tensor], seed: int
) -> float:
    """Train the shipped network with one seed, looking at the validation split at the same steps; its last loss."""
    torch.manual_seed(seed)
    settings = config.training
    first, second = settings.hidden_dims
    network = nn.Sequential(
        nn.Linear(config.spectra.n_bins, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(),
        nn.Linear(second, config.spectra.n_components),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    criterion = nn.MSELoss()
    loader = DataLoader(TensorDataset(*train), batch_size=settings.batch_size, shuffle=True, num_workers=0)
    checkpoints = set(checkpoint_steps(settings, settings.epochs * len(loader)))
    losses, train_losses, step = [], [], 0

    def look() -> None:
        network.eval()
        with torch.no_grad():
            losses.append(criterion(network(val[0]), val[1]).item())
        network.train()

    look()
    for _ in range(settings.epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = criterion(network(inputs), targets)
            loss.backward()
            optimizer.step()
            train_losses.append(loss.item())
            step += 1
            if step in checkpoints:
                look()
    return losses[-1]


def plain_loop(settings: TrainingConfig, network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> None:
    """Train one network, batches cut out of tensors: as quick as ordinary PyTorch code is."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(inputs)).split(settings.batch_size):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(inputs[rows]), targets[rows]).backward()
            optimizer.step()


def run(config: Config, seeds: tuple[int, ...]) -> list[float]:
    """Data and training of all seeds: train and val splits, log flux standardized by training."""
    rng = np.random.default_rng(42)
    train, val = (make_split(config, name, rng) for name in ("train", "val"))
    logs = [flux.clamp(min=1e-6).log() for flux, _ in (train, val)]
    mean = logs[0].mean(dim=0)
    scale = (logs[0] - mean).std()
    inputs = [(log - mean) / scale for log in logs]
    return [train_one(config, (inputs[0], train[1]), (inputs[1], val[1]), seed) for seed in seeds]
