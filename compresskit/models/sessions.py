"""ONNX Runtime sessions: in this process for models that we exported, in a child for models that we were given.

A hostile model can crash the runtime or keep it busy for ever; in a child that is one error line, not the end of the command.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from compresskit.errors import InputError
from compresskit.models import ort_child

if TYPE_CHECKING:
    import onnxruntime

Feeds = Mapping[str, np.ndarray]

# The child gets our import path in place of its own, which would start with the working directory: that may hold the model's friends.
_START = "import sys; sys.path[:] = sys.argv[1:]; from compresskit.models.ort_child import main; main()"


def open_session(model: bytes, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """A silent CPU session in this process, for models that we made.

    Args:
        threads: for each operator; 0: as many as there are cores.
    """
    import onnxruntime  # costs a tenth of a second, and most commands never run a model

    onnxruntime.disable_telemetry_events()  # since 1.29 it would send names and hashes of models to its makers
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only
    options.add_session_config_entry("session.force_spinning_stop", "1")  # idle threads of one session must not slow another
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model: bytes, feeds: Feeds, *, threads: int = 1) -> list[np.ndarray]:
    """The outputs of a model that we made, in order."""
    return open_session(model, threads=threads).run(None, dict(feeds))


def run_isolated(model: bytes, feeds: Feeds, *, threads: int = 1, timeout: float = 60.0) -> list[np.ndarray]:
    """The outputs of a model from elsewhere, in order, computed in a child process.

    Args:
        timeout: seconds, the child's start (about half a second) included.

    Raises:
        InputError: ONNX Runtime refuses the model or the feeds, crashes on them, or takes longer than `timeout`.
    """
    return ask_child(ort_child.request("run", [model], dict(feeds), threads=threads), timeout)


def ask_child(request: bytes, timeout: float) -> list[np.ndarray]:
    """The arrays that a child process answers a request (see `ort_child`) with.

    Raises:
        InputError: as `run_isolated`.
    """
    header, arrays = ort_child.unpack(_converse(request, timeout))
    if "error" in header:
        raise InputError(f"ONNX Runtime cannot run the model: {_line(header['error'])}")
    return arrays


def _converse(request: bytes, timeout: float) -> bytes:
    command = [sys.executable, "-I", "-c", _START, *filter(None, sys.path)]
    try:
        child = subprocess.run(command, input=request, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(f"ONNX Runtime did not finish the model within {timeout:g} s") from None
    if child.returncode < 0:
        raise InputError(f"ONNX Runtime crashed on the model (signal {-child.returncode})")
    if child.returncode or not child.stdout:
        raise InputError(f"ONNX Runtime failed on the model: {_line(child.stderr.decode(errors='replace'), last=True)}")
    return child.stdout


def _line(text: str, *, last: bool = False) -> str:
    """The one line of a message that says most."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    return lines[-1 if last else 0]
