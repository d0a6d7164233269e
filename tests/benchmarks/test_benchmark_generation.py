"""Generating spectra against drawing as many random normals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from helpers import IDLE, seconds, shipped

from spectral_tutorial import cores, data

AIM, ALLOWED = 2.5, 5.0


def normals(n: int, bins: int) -> None:
    """Draw them as generation does: in chunks of its size, in single precision, on as many threads."""

    def draw(rows: slice) -> None:
        np.random.default_rng(rows.start).standard_normal((rows.stop - rows.start, bins), dtype=np.float32)

    with ThreadPoolExecutor(cores.count()) as pool:
        for _ in pool.map(draw, data.chunks(n, data.CHUNK)):
            pass


@pytest.mark.nightly
@pytest.mark.benchmark(group="generation")
def test_generation_against_drawing_its_normals(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    config = shipped()
    split, bins = config.distribution.splits["train"], config.spectra.n_bins
    drawn = []
    benchmark.pedantic(
        lambda: data.generate(config.spectra, split, name="train", seed=42),
        setup=lambda: drawn.append(seconds(lambda: normals(split.n_samples, bins))),
        rounds=15,
        warmup_rounds=2,
    )
    ours, alone = benchmark.stats.stats.min, min(drawn)
    plain = min(seconds(lambda: np.random.default_rng(0).standard_normal((split.n_samples, bins))) for _ in range(5))
    benchmark.extra_info.update({"of_normals": ours / alone, "normals_s": alone, "one_thread_double_s": plain})
    with capsys.disabled():
        print(
            f"\n{split.n_samples} spectra: {ours:.3f} s, {ours / alone:.2f} x their normals (aim {AIM}), which take"
            f" {alone:.3f} s on {cores.count()} threads, and in double precision on one {plain:.3f} s"
        )
    assert ours <= (AIM if IDLE else ALLOWED) * alone
