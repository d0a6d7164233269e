"""Training 1 to 64 seeds at once against a plain loop, and against what the arithmetic alone would take.

The plain loop is one network in ordinary PyTorch, without a DataLoader and without looks at a validation split. The
arithmetic limit is 6 x parameters x batch x steps (a multiplication and an addition for each of the forward pass and
the two products of the backward pass) over the speed of a large matrix product on all cores, measured in between.
"""

from __future__ import annotations

from typing import Any

import naive
import pytest
import torch
from helpers import IDLE, seconds, shipped

from spectral_tutorial import models, training

BINS, LINES, HIDDEN, SPECTRA = 1024, 20, (128, 64), 4096
EPOCHS = 5
"""A quarter of the shipped training: in shorter runs, what is done once a seed would count for too much."""
AIM_PLAIN, AIM_LIMIT = 0.4, 0.4
ALLOWED_PLAIN, ALLOWED_LIMIT = 0.8, 0.15
"""What a machine with other work to do keeps to; the ratios are printed beside the aims."""


def product_speed(size: int = 1536) -> float:
    """Floating-point operations a second of a large matrix product, the best of five."""
    a, b = torch.rand(2, size, size)
    return 2 * size**3 / min(seconds(lambda: torch.mm(a, b)) for _ in range(5))


@pytest.fixture(scope="module")
def spectra() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(SPECTRA, BINS, generator=generator), torch.rand(SPECTRA, LINES, generator=generator)


@pytest.mark.nightly
@pytest.mark.benchmark(group="training")
@pytest.mark.parametrize("n_seeds", [1, 4, 16, 64])
def test_a_seed_among_many_costs_less_than_a_plain_loop(
    benchmark: Any, spectra: tuple[torch.Tensor, torch.Tensor], n_seeds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = {"epochs": EPOCHS, "checkpoint_by": "ratio", "checkpoint_ratio": 1.0}
    config = shipped().with_training(**ends).training
    build: models.Build = lambda: models.MLP(BINS, LINES, HIDDEN)  # noqa: E731
    look = tuple(tensor[:64] for tensor in spectra)
    torch.optim.AdamW([torch.zeros(1)])  # imports half of torch when it is first called
    plain, speed = [], []

    def reference() -> None:
        plain.append(seconds(lambda: naive.plain_loop(config, build(), *spectra)))
        speed.append(product_speed())

    def ours() -> None:
        training.train(config, build, spectra, look, seeds=range(n_seeds))

    benchmark.pedantic(ours, setup=reference, rounds=3, warmup_rounds=1)
    a_seed = benchmark.stats.stats.min / n_seeds
    parameters = sum(tensor.numel() for tensor in build().parameters())
    limit = 6 * parameters * config.batch_size * EPOCHS * SPECTRA / config.batch_size / max(speed)
    found = {"of_plain_loop": a_seed / min(plain), "of_limit": limit / a_seed}
    benchmark.extra_info.update(found | {"seeds": n_seeds, "gflops": max(speed) / 1e9, "plain_s": min(plain)})
    with capsys.disabled():
        print(
            f"\n{n_seeds} seeds: a seed {a_seed:.3f} s, {found['of_plain_loop']:.2f} of the plain loop's"
            f" {min(plain):.3f} s (aim {AIM_PLAIN}), {found['of_limit']:.2f} of the arithmetic limit"
            f" at {max(speed) / 1e9:.0f} GFLOP/s (aim {AIM_LIMIT})"
        )
    if n_seeds >= 16:
        assert found["of_plain_loop"] <= (AIM_PLAIN if IDLE else ALLOWED_PLAIN)
        assert found["of_limit"] >= (AIM_LIMIT if IDLE else ALLOWED_LIMIT)
