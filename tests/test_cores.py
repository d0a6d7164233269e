"""How many cores work may take."""

import os
import threading

import pytest
from helpers import shipped

from spectral_tutorial import cores, data


def test_a_limit_holds_inside_its_block_and_never_adds_cores() -> None:
    mine = cores.count()
    assert 1 <= mine <= (os.cpu_count() or 1)
    with cores.limited(1):
        assert cores.count() == 1
        with cores.limited(10**6):
            assert cores.count() == mine
        assert cores.count() == 1
    assert cores.count() == mine


def test_a_limit_ends_with_an_error() -> None:
    mine = cores.count()
    with pytest.raises(KeyError), cores.limited(1):
        raise KeyError
    assert cores.count() == mine


def test_generation_keeps_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    config, used, add_noise = shipped(), set(), data.add_noise

    def watched(*arguments: object) -> object:
        used.add(threading.get_ident())
        return add_noise(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(data, "add_noise", watched)
    with cores.limited(1):
        data.generate(config.spectra, config.distribution.splits["val"], name="val", seed=1)
    assert len(used) == 1
