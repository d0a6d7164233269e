"""How many processor cores the work of this process may take, and doing work on all of them."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")

_limit: int | None = None
_here = threading.local()


def count() -> int:
    """Cores that this process may use: those that the system lets it have, or fewer where it was :func:`limited`."""
    if getattr(_here, "is_a_share", False):
        return 1
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return mine if _limit is None else min(_limit, mine)


@contextmanager
def limited(n: int) -> Iterator[None]:
    """Let work inside the block take at most `n` cores; it is for the whole process, as torch's own setting is."""
    global _limit
    before = _limit
    try:
        _limit = n
        yield
    finally:
        _limit = before


def one_blas_thread() -> AbstractContextManager[object]:
    """Keep NumPy's linear algebra to one thread: more would add in another order, and round otherwise."""
    return threadpool_limits(1, user_api="blas")


def parallel_map(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results of `work` on each item, in order, as many at a time as :func:`count` says, with a core each.

    NumPy lets go of the interpreter lock inside each operation, so threads really share the work. Its linear algebra
    keeps to one thread meanwhile: that is quicker for many small problems, and no result depends on how many cores
    there are.
    """
    with one_blas_thread(), ThreadPoolExecutor(count(), initializer=_take_a_share) as pool:
        return list(pool.map(work, items))


def _take_a_share() -> None:
    """Let what this thread works on keep to its one core."""
    _here.is_a_share = True
