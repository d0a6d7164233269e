"""How many cores work may take."""

import os
import subprocess
import sys
import threading

import pytest
from helpers import shipped
from threadpoolctl import threadpool_info

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


def test_parallel_map_keeps_the_order_with_a_core_for_each_share() -> None:
    together = threading.Barrier(cores.count())  # passed only if as many items as cores are worked on at a time

    def work(item: int) -> tuple[int, int, set[int]]:
        if item < cores_here:
            together.wait(timeout=30)
        blas = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
        return item, cores.count(), blas

    cores_here, before = cores.count(), threadpool_info()
    items = range(max(10, 2 * cores_here))
    found = cores.parallel_map(work, items)
    assert [item for item, _, _ in found] == list(items)
    assert {share for _, share, _ in found} == {1}
    assert {frozenset(blas) for _, _, blas in found} <= {frozenset({1}), frozenset()}
    assert (cores.count(), threadpool_info()) == (cores_here, before)


def test_an_error_in_parallel_map_is_the_callers() -> None:
    with pytest.raises(KeyError, match="third"):
        cores.parallel_map(lambda item: {}["third"] if item == 3 else item, range(6))


@pytest.mark.skipif(sys.platform != "linux", reason="another OpenMP library elsewhere")
def test_threads_of_torch_do_not_wait_long_for_a_core_that_another_process_has() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    command = [sys.executable, "-c", "import spectral_tutorial"]
    said = subprocess.run(command, env=environment | {"OMP_DISPLAY_ENV": "VERBOSE"}, capture_output=True, text=True)
    assert "GOMP_SPINCOUNT = '1000'" in said.stderr, "torch was loaded before the package could say so"
