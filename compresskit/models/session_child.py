"""The process behind `isolated.Child`: any number of sessions, each of one model at a time, for any number of runs.

A message is a length, a JSON header of that length, and the bytes of the arrays that the header describes, never a pickle. The child
answers a session's model with whether ONNX Runtime takes it, its feeds with the outputs of the last model that it took, and forgets a session
that is named without either, until stdin ends.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

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
    sessions: dict[int, InferenceSession] = {}
    while (message := receive(source)) is not None:
        header, arrays = message
        try:
            if "threads" in header:
                sessions.pop(header["session"], None)
                sessions[header["session"]] = open_session(arrays[0].tobytes(), threads=header["threads"])
                send(sink, {})
            elif "names" not in header:
                sessions.pop(header["session"], None)
                send(sink, {})
            elif header["session"] not in sessions:
                raise ValueError("the model ended with the process that ran it")
            else:
                send(sink, {}, sessions[header["session"]].run(None, dict(zip(header["names"], arrays, strict=True))))
        except Exception as error:
            send(sink, {"error": str(error)})
