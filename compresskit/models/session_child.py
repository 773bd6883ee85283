"""The child process behind `IsolatedSession`: one model at a time, any number of runs.

A message is a length, a JSON header of that length, and the bytes of the arrays that the header describes, never a pickle. The child
answers a model with whether ONNX Runtime takes it, and feeds with the outputs of the last model that it took, until stdin ends.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

_LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, header: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Write one message.

    Raises:
        ValueError: an array holds objects (ONNX strings, sequences).
    """
    arrays = [np.ascontiguousarray(array).reshape(np.shape(array)) for array in arrays]
    if any(array.dtype.hasobject for array in arrays):
        raise ValueError("a tensor holds strings or objects")
    text = json.dumps({**header, "arrays": [[array.dtype.str, array.shape] for array in arrays]}).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    for array in arrays:
        stream.write(array.data.cast("B") if array.size and array.ndim else array.tobytes())
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict[str, Any], list[np.ndarray]] | None:
    """Read one message; None where the stream ended."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    header = json.loads(stream.read(_LENGTH.unpack(head)[0]))
    arrays = []
    for kind, shape in header.pop("arrays"):
        dtype = np.dtype(kind)
        body = stream.read(dtype.itemsize * math.prod(shape))
        arrays.append(np.frombuffer(body, dtype).reshape(shape))
    return header, arrays


def main() -> None:
    """Serve until stdin ends. A failure of the runtime is an answer too; anything worse is the exit status."""
    from compresskit.models.sessions import open_session

    source, sink = sys.stdin.buffer, sys.stdout.buffer
    session = None
    while (message := receive(source)) is not None:
        header, arrays = message
        try:
            if "threads" in header:
                session = open_session(arrays[0].tobytes(), threads=header["threads"])
                send(sink, {})
            elif session is None:
                raise ValueError("no model to run yet")
            else:
                send(sink, {}, session.run(None, dict(zip(header["names"], arrays, strict=True))))
        except Exception as error:
            send(sink, {"error": str(error)})
