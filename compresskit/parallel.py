"""The same work on many things, several at a time: each in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from compresskit.errors import InputError
from compresskit.runtime import set_threads

T = TypeVar("T")
R = TypeVar("R")


def mapped(function: Callable[[T], R], tasks: Sequence[T], jobs: int) -> Iterator[R]:
    """Results of `function` for all tasks, in their order. Each has one thread, so that results are the same for any number of jobs.

    Args:
        function: of a module, since the other processes import it; tasks and results travel pickled.
        tasks: what to work on.
        jobs: processes at a time. For one job or a single task none is started.

    Raises:
        InputError: a process was ended from outside; and all that `function` raises.
    """
    if min(jobs, len(tasks)) <= 1:
        with _one_thread():
            yield from map(function, tasks)
        return
    # A fork would inherit locks that threads of torch hold.
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), context, _begin)
    try:
        yield from pool.map(function, tasks)
    except BrokenProcessPool:
        raise InputError("a process ended before its work did, as where memory runs out: give fewer --jobs") from None
    finally:
        started = set(multiprocessing.active_children()) - before
        pool.shutdown(wait=False, cancel_futures=True)
        # Nobody waits for what they still do, Ctrl-C least of all.
        for process in started:
            process.terminate()
        for process in started:
            while process.is_alive():  # once may not do: a thread of the pool waits too, and only one of the two learns of the end
                process.join(0.01)


def _begin() -> None:
    """Prepare a process: Ctrl-C is for the one that started it, and nothing outlives that one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    set_threads(1)


def _end_with_parent() -> None:
    """End this process, in the middle of its task if need be, once the one that started it is gone: killed, it had no time to say so."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    set_threads(1)
    try:
        yield
    finally:
        set_threads(threads)
