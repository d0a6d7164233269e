"""Who computes cells: this process, processes of this machine, or the workers of a running Dask scheduler."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

from spectral_tutorial import cores
from spectral_tutorial.reading import config_error, show
from spectral_tutorial.store import StoreError
from spectral_tutorial.sweep.cells import Cell, measure, quiet

log = logging.getLogger(__name__)

Outcome = tuple[str, float] | Exception
"""A cell's report and the seconds it took, or what went wrong."""

Compute = Callable[[Sequence[Cell]], Iterator[tuple[Cell, Outcome]]]
"""Computes cells and yields each with its outcome as it arrives."""


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Names of C for what ``mallopt`` sets."""


@contextmanager
def computer(workers: int | None, scheduler: str | None, cells: Sequence[Cell]) -> Iterator[Compute]:
    """Give what can compute these cells, its cluster around it; see :meth:`Sweep.run` for the choice."""
    if workers is not None and workers < 0:
        raise config_error("workers", "", show(workers), "a whole number of at least 0")
    if (workers == 0 and scheduler is None) or not cells or not _dask_is_there(workers, scheduler):
        yield _one_after_another
        return
    with ExitStack() as stack:
        importlib.import_module("distributed")  # which sets levels of logging, before they are set here
        stack.enter_context(quiet("distributed", logging.CRITICAL))
        if scheduler is None:
            n_workers = workers or max(1, cores.count() // cells[0].threads)
            scheduler = stack.enter_context(_local_scheduler(min(n_workers, len(cells))))
        yield partial(_as_they_arrive, stack.enter_context(_connected(scheduler)))


def _dask_is_there(workers: int | None, scheduler: str | None) -> bool:
    if importlib.util.find_spec("distributed"):
        return True
    if workers is None and scheduler is None:
        log.info("Dask is not installed: cells are computed one after another")
        return False
    asked = "workers" if scheduler is None else "scheduler"
    expected = 'Dask, which comes with `pip install "spectral-tutorial[sweep]"`'
    raise config_error(asked, "", "no module distributed", expected)


def _one_after_another(cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
    for cell in cells:
        try:
            outcome: Outcome = measure(cell)
        except Exception as problem:  # of any kind: the other cells go on
            outcome = problem
        yield cell, outcome


def _as_they_arrive(client: Any, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
    from distributed import as_completed

    futures = {client.submit(_measure_on_worker, cell, pure=False): cell for cell in cells}
    for future in as_completed(futures, loop=client.loop):
        if future.cancelled():
            raise StoreError("The scheduler went away; what was finished before is kept.")
        outcome = future.exception() or future.result()
        future.release()  # or its worker keeps the result, and it is computed again when that worker dies
        yield futures.pop(future), outcome


def _measure_on_worker(cell: Cell) -> tuple[str, float]:
    from distributed import get_worker

    _keep_memory()
    return measure(cell, scratch=get_worker().local_directory)  # which Dask clears, even after a worker was killed


def _keep_memory() -> None:
    """Undo a setting of Dask's workers by which memory goes back to the system at once: cells would take twice as long.

    It is a setting of the C library of Linux; elsewhere there is nothing to undo.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for threshold, size in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 64 << 20)):
            mallopt(threshold, size)


@contextmanager
def _local_scheduler(n_workers: int) -> Iterator[str]:
    """Start a scheduler and workers on this machine, each a process with one cell at a time; give the address."""
    from distributed import LocalCluster

    # no limit of memory: what a cell needs is not in Dask's hands, and a worker would be stopped for it
    settings = {"n_workers": n_workers, "threads_per_worker": 1, "processes": True, "memory_limit": 0}
    logs = {"dashboard_address": ":0", "silence_logs": logging.ERROR}
    with _main_hidden(), _environment_kept(), LocalCluster(**settings, **logs) as cluster:
        yield cluster.scheduler_address


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    from distributed import Client
    from distributed.comm.addressing import resolve_address

    try:
        resolve_address(address)
        client = Client(address, timeout="20s", set_as_default=False)
    except (OSError, ValueError) as problem:
        found = f"{show(address)}, which does not answer ({problem})"
        raise config_error("scheduler", "", found, "the address of a running Dask scheduler, tcp://HOST:8786") from None
    with client:
        if not client.scheduler_info()["workers"]:
            log.warning("The scheduler at %s has no workers yet: waiting for them.", address)
        yield client


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Take back the variables that Dask sets for its workers in this process, too.

    One thread for each library is among them: all that is started here later would be slow.
    """
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Hide where the main module came from: each new process would begin by running a person's script again."""
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    try:
        for name in hidden:
            setattr(main, name, None)
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)
