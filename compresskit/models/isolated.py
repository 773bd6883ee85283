"""ONNX Runtime in a child process, for many runs of models that we did not make.

`models.sessions.run_isolated` starts a child for every run; calibration and accuracy need hundreds, of a dozen models.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from types import TracebackType
from typing import Any

import numpy as np

from compresskit.errors import InputError
from compresskit.models.session_child import receive, send
from compresskit.models.sessions import Feeds

# The child gets our import path in place of its own, which would start with the working directory: that may hold the model's friends.
_START = "import sys; sys.path[:] = sys.argv[1:]; from compresskit.models.session_child import main; main()"
_LAST = 5.0  # seconds that a process has to end after its last word


class Child:
    """A process that sessions share: it takes longer to start than most models to run.

    It starts when it is first needed, and again after it crashed; it ends with the `with` block.

    Args:
        timeout: seconds for each answer, the start included.
    """

    def __init__(self, timeout: float = 120.0) -> None:
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self.names = count()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    @property
    def alive(self) -> bool:
        """Whether it runs: sessions of a child that ended are lost."""
        return self._process is not None and self._process.poll() is None

    def ask(self, question: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> list[np.ndarray]:
        """The arrays of its answer.

        Raises:
            InputError: ONNX Runtime refuses what it is given, crashes on it, or takes longer than `timeout`.
        """
        process, late = self._running(), threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._timeout, stop)
        timer.start()
        try:
            send(process.stdin, question, arrays)  # type: ignore[arg-type]
            reply = receive(process.stdout)  # type: ignore[arg-type]
        except (BrokenPipeError, ValueError):  # the child ended, or within its answer
            reply = None
        finally:
            timer.cancel()
        if reply is None:
            code = _end_of(process)
            if late.is_set():
                raise InputError(f"ONNX Runtime did not finish the model within {self._timeout:g} s")
            raise InputError(f"ONNX Runtime crashed on the model ({f'signal {-code}' if code < 0 else f'exit {code}'})")
        header, results = reply
        if "error" in header:
            reason = next((line.strip() for line in header["error"].splitlines() if line.strip()), "no message")
            raise InputError(f"ONNX Runtime cannot run the model: {reason}")
        return results

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or not self.alive:
            self.end()
            command = [sys.executable, "-I", "-c", _START, *filter(None, sys.path)]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return self._process

    def end(self) -> None:
        """Kill the process, if it runs: between answers it has nothing to lose."""
        if self._process is None:
            return
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        self._process.wait()


def _end_of(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a process that answers no more."""
    try:
        return process.wait(_LAST)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@contextmanager
def sharing(child: Child | None) -> Iterator[Child]:
    """`child`, or one of its own that ends with the block."""
    if child is not None:
        yield child
        return
    with Child() as own:
        yield own


class IsolatedSession:
    """Runs one model at a time in a child process, until the `with` block ends.

    Args:
        model: serialized; the first to run.
        threads: for each operator.
        child: that other sessions are in too; None: one of its own.

    Raises:
        InputError: from every method, as `Child.ask`.
    """

    def __init__(self, model: bytes, *, threads: int = 1, child: Child | None = None) -> None:
        self._own = child is None
        self._child = Child() if child is None else child
        self._name = next(self._child.names)
        self._threads = threads
        self._model = model

    def __enter__(self) -> IsolatedSession:
        try:
            self.load(self._model)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def load(self, model: bytes) -> None:
        """Run this model from now on."""
        self._child.ask({"session": self._name, "threads": self._threads}, [np.frombuffer(model, np.uint8)])

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        """The outputs for one batch, in order."""
        return self._child.ask({"session": self._name, "names": list(feeds)}, list(feeds.values()))

    def _close(self) -> None:
        if self._own:
            self._child.end()
        elif self._child.alive:
            self._child.ask({"session": self._name})
