"""How many processor cores the work of this process may take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_limit: int | None = None


def count() -> int:
    """Cores that this process may use: those that the system lets it have, or fewer where it was :func:`limited`."""
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
