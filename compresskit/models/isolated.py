"""A session of ONNX Runtime in a child process, for many runs of models that we did not make.

`models.sessions.run_isolated` starts a child for every run; calibration and accuracy need hundreds.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from compresskit.errors import InputError
from compresskit.models.session_child import receive, send
from compresskit.models.sessions import Feeds

# The child gets our import path in place of its own, which would start with the working directory: that may hold the model's friends.
_START = "import sys; sys.path[:] = sys.argv[1:]; from compresskit.models.session_child import main; main()"


class IsolatedSession:
    """Runs one model at a time in a child process, which ends with the `with` block.

    Args:
        model: serialized; the first to run.
        threads: for each operator.
        timeout: seconds for the start and for each run.

    Raises:
        InputError: from every method: ONNX Runtime refuses the model or the feeds, crashes on them, or takes longer than `timeout`.
    """

    def __init__(self, model: bytes, *, threads: int = 1, timeout: float = 120.0) -> None:
        self._timeout = timeout
        self._threads = threads
        self._model = model

    def __enter__(self) -> IsolatedSession:
        command = [sys.executable, "-I", "-c", _START, *filter(None, sys.path)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            self.load(self._model)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def load(self, model: bytes) -> None:
        """Run this model from now on."""
        self._ask({"threads": self._threads}, [np.frombuffer(model, np.uint8)])

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        """The outputs for one batch, in order."""
        return self._ask({"names": list(feeds)}, list(feeds.values()))

    def _ask(self, question: dict[str, Any], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._child.kill()

        timer = threading.Timer(self._timeout, stop)
        timer.start()
        try:
            send(self._child.stdin, question, arrays)  # type: ignore[arg-type]
            reply = receive(self._child.stdout)  # type: ignore[arg-type]
        except (BrokenPipeError, ValueError):  # the child ended, or within its answer
            reply = None
        finally:
            timer.cancel()
        if reply is None:
            if late.is_set():
                raise InputError(f"ONNX Runtime did not finish the model within {self._timeout:g} s")
            code = self._child.wait()
            raise InputError(f"ONNX Runtime crashed on the model ({f'signal {-code}' if code < 0 else f'exit {code}'})")
        header, results = reply
        if "error" in header:
            reason = next((line.strip() for line in header["error"].splitlines() if line.strip()), "no message")
            raise InputError(f"ONNX Runtime cannot run the model: {reason}")
        return results

    def _end(self) -> None:
        """No run is under way any more: the child has nothing to lose."""
        self._child.kill()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
        self._child.wait()
