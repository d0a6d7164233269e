"""Who does work, as ``concurrent.futures`` calls them executors: processes of this machine, or the workers of Dask.

Nothing here knows what the work is.
"""

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from spectral_tutorial import cores
from spectral_tutorial.reading import config_error, show

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_TURN = threading.Lock()


def unordered(
    executor: Executor | None, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Result | Exception]]:
    """Yield each item with its result, or with what went wrong, as it is done; without an executor here, in order.

    ConnectionError if whoever does the work has gone away.
    """
    if executor is None:
        yield from ((item, work(item)) for item in items)
        return
    futures: dict[Future[Result], Item] = {}
    try:
        futures.update((executor.submit(work, item), item) for item in items)
        for future in as_completed(futures):
            item, problem = futures.pop(future), future.exception()
            result = problem if isinstance(problem, Exception) else future.result()
            del future  # or a worker of Dask keeps the result, and when it dies another computes it again
            yield item, result
    except (BrokenExecutor, CancelledError) as problem:
        raise ConnectionError("The scheduler went away; what was finished before is kept.") from problem
    finally:
        for future in futures:
            future.cancel()


class Processes(Executor):
    """New processes of this machine. They listen on no socket, and end with this one, whatever ends it.

    A pool of the standard library breaks as a whole when one of its processes dies, and does not say over whose work.
    So each process is a pool of its own, with a thread here that waits for it: when it dies, only its work has failed.
    """

    def __init__(self, n: int) -> None:
        self._threads = ThreadPoolExecutor(n, initializer=_ignore_ctrl_c)
        self._their_end, self._our_end = multiprocessing.Pipe(duplex=False)
        self._scratch = tempfile.TemporaryDirectory(prefix="sweep-", ignore_cleanup_errors=True)
        self._idle: SimpleQueue[ProcessPoolExecutor] = SimpleQueue()
        for _ in range(n):
            self._idle.put(self._new_pool())

    def _new_pool(self) -> ProcessPoolExecutor:
        # not forked: a fork of a process in which libraries have started threads hangs
        spawn = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, spawn, _begin_process, (self._their_end, self._scratch.name))

    def submit(self, work: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Give work to the next free process; its error is a BrokenProcessPool if that dies."""
        return self._threads.submit(self._wait_for, partial(work, *args, **kwargs))

    def _wait_for(self, work: partial[Result]) -> Result:
        pool = self._idle.get()
        try:
            with _main_hidden():  # a pool starts its process when work is submitted
                future = pool.submit(work)
            return future.result()
        except BrokenProcessPool:
            pool = self._new_pool()
            raise BrokenProcessPool("its process was killed or crashed; is there too little memory?") from None
        finally:
            self._idle.put(pool)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """End all processes at once, whatever they are doing, and forget the work that is left."""
        self._our_end.close()
        self._threads.shutdown(cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().shutdown()
        self._their_end.close()
        self._scratch.cleanup()  # of what killed processes left


def _ignore_ctrl_c() -> None:
    """Let processes that this thread starts ignore Ctrl-C, which a terminal sends to all: this one ends them."""
    if os.name == "posix":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _begin_process(pipe: Connection, scratch: str) -> None:
    """End this process when the other end of a pipe is closed: by its parent, or because that was killed."""

    def wait() -> None:
        with suppress(OSError):
            pipe.poll(None)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    tempfile.tempdir = scratch
    tqdm.set_lock(threading.RLock())  # its own is for several processes, and would outlast one that ends like this


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Hide where the main module came from: each new process would begin by running a person's script again."""
    main = vars(sys.modules["__main__"])
    with _TURN:
        hidden: dict[str, Any] = {name: main[name] for name in ("__spec__", "__file__") if name in main}
        try:
            main.update(dict.fromkeys(hidden))
            yield
        finally:
            main.update(hidden)


@contextmanager
def dask(address: str) -> Iterator[Executor]:
    """Connect to a running Dask scheduler and give the executor of its workers.

    ConfigError if Dask is not installed, or no scheduler answers.
    """
    try:
        import distributed  # it sets levels of logging, before they are set here
    except ImportError:
        expected = 'Dask, which comes with `pip install "spectral-tutorial[sweep]"`'
        raise config_error("scheduler", "", "no module distributed", expected) from None
    with ExitStack() as stack:
        _quiet(stack, "distributed", logging.CRITICAL)
        try:
            client = stack.enter_context(distributed.Client(address, timeout="20s", set_as_default=False))
        except Exception as problem:  # of any kind: each protocol has its own
            found = f"{show(address)}, which does not answer ({problem})"
            expected = "the address of a running Dask scheduler, tcp://HOST:8786"
            raise config_error("scheduler", "", found, expected) from None
        if not client.scheduler_info()["workers"]:
            log.warning("The scheduler at %s has no workers yet: waiting for them.", address)
        yield client.get_executor(pure=False)


def on_dask(work: Callable[[Item], Result], item: Item) -> Result:
    """Do work on a worker of Dask, in its folder: that is cleared even after the worker was killed."""
    from distributed import get_worker

    tempfile.tempdir = get_worker().local_directory
    return work(item)


@contextmanager
def conditions(threads: int) -> Iterator[None]:
    """Give work its threads, and let it neither draw bars nor say anything below a warning; undone afterwards.

    Training borrows torch's global generator, and threads are counted by process: work of one process takes turns.
    """
    no_terminal = SimpleNamespace(write=sys.stderr.write, flush=sys.stderr.flush, isatty=lambda: False)
    with _TURN, ExitStack() as stack:
        _quiet(stack, "spectral_tutorial", logging.WARNING)
        stack.enter_context(redirect_stderr(cast(Any, no_terminal)))
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(threads)
        with threadpool_limits(threads), cores.limited(threads):
            yield


def _quiet(stack: ExitStack, name: str, level: int) -> None:
    """Let a library say nothing below a level of logging, until a stack is left."""
    logger = logging.getLogger(name)
    stack.callback(logger.setLevel, logger.level)
    logger.setLevel(level)
