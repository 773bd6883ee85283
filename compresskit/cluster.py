"""The same work on many things, on this machine or on those of a Dask cluster (extra `cluster`)."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from compresskit.errors import InputError, UsageError
from compresskit.parallel import mapped
from compresskit.runtime import set_threads
from compresskit.wording import first_line, listed

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")
R = TypeVar("R")

CONNECT_SECONDS = 10
RETRIES = 3
"""A task whose worker died is given to another, so often."""


@dataclass(frozen=True)
class Workers:
    """Who does the same work on many things.

    Attributes:
        jobs: processes of this machine at a time.
        cluster: address of a Dask scheduler whose workers do it in their place; None: these do it.
    """

    jobs: int = 1
    cluster: str | None = None

    def map(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[R]:
        """Results of `function` for all tasks, in their order: those of `mapped`, or of `on_cluster`."""
        return on_cluster(function, tasks, self.cluster) if self.cluster else mapped(function, tasks, self.jobs)

    def share(self, calls: Sequence[Callable[[], R]]) -> Iterator[R]:
        """Likewise of `calls` that use all threads themselves: here, one follows the other. For a cluster, each is a partial of such a function."""
        return on_cluster(_called, calls, self.cluster) if self.cluster else (call() for call in calls)


HERE = Workers()
"""This process alone."""


def on_cluster(function: Callable[[T], R], tasks: Sequence[T], address: str) -> Iterator[R]:
    """Results of `function` for all tasks, in their order, as the workers of the scheduler at `address` find them, each with one thread.

    Args:
        function: of a module that the workers can import; tasks and results travel pickled, and files have to be where all see them.

    Raises:
        UsageError: Dask is not installed.
        InputError: nobody answers at `address`, or no longer, or with another release than this one; a task lost its worker more than `RETRIES`
            times; and all that `function` raises.
    """
    try:
        from distributed import KilledWorker
        from distributed.comm import CommClosedError
    except ImportError:
        raise UsageError("--cluster needs Dask: pip install 'compresskit[cluster]'") from None
    client = _connected(address)
    futures: list[Future[R]] = []
    try:
        _check_release(client, address)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)  # what is worked on travels with the task, to wherever that runs
            futures += client.map(partial(_with_one_thread, function), tasks, retries=RETRIES, pure=False)
        yield from (future.result() for future in futures)
    except KilledWorker as error:
        raise InputError(f"workers of {address} ended before their work did, as where memory runs out") from error
    except (CancelledError, CommClosedError) as error:  # what the client says of work that it can no longer ask for
        raise InputError(f"the Dask scheduler at {address} ended before the work did: start it again, and repeat the command") from error
    finally:
        with _silence():
            client.cancel(futures)
            client.close()


def _connected(address: str) -> Client:
    """A client of the scheduler at `address`.

    Raises:
        InputError: nobody answers there.
    """
    from distributed import Client

    try:
        return Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:  # what is no address, and what does not answer
        reason = first_line(error)
    # The client that could not connect closes itself where it is collected: in the middle of what makes another one, that is a deadlock.
    gc.collect()
    raise InputError(f"no Dask scheduler answers at {address}: {reason}")


def _check_release(client: Client, address: str) -> None:
    """Ask scheduler and workers what they have: one that lacks a module would wait for it in silence, another release find other results.

    Raises:
        InputError: one of them has not this release.
    """
    found = cast("Mapping[str, Any]", client.get_versions(packages=["compresskit"]))  # this client waits for answers
    ours, *theirs = (part["packages"]["compresskit"] for part in (found["client"], found["scheduler"], *found["workers"].values()))
    others = sorted({f"compresskit {release}" if release else "no compresskit" for release in theirs if release != ours})
    if others:
        raise InputError(f"the Dask cluster at {address} has {listed(others)}, and here is compresskit {ours}: install the same there")


def _called(call: Callable[[], R]) -> R:
    return call()


def _with_one_thread(function: Callable[[T], R], task: T) -> R:
    """What `mapped` would find: sums are added up in another order where more threads share them."""
    set_threads(1)
    return function(task)


@contextmanager
def _silence() -> Iterator[None]:
    """Without log lines of Dask's own: a client that still looks for its scheduler has a traceback to say when it is closed."""

    def nothing(_: logging.LogRecord) -> bool:
        return False

    # Each has its own filters, and its own level and handler too: what is set on their parent does not reach them.
    names = [name for name in list(logging.root.manager.loggerDict) if name.split(".")[0] == "distributed"]
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(nothing)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(nothing)
