"""The child process in which ONNX Runtime touches models that we did not make.

A request is read from stdin and its reply written to stdout, both as `pack` makes them: a JSON header and plain arrays, never a pickle.
"""

from __future__ import annotations

import io
import json
import struct
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

_LENGTH = struct.Struct("<Q")


def pack(header: dict[str, Any], arrays: Sequence[np.ndarray]) -> bytes:
    """A message: the header's length, the header, an uncompressed `.npz` of the arrays.

    Raises:
        ValueError: an array holds objects (ONNX strings, sequences).
    """
    if any(np.asarray(array).dtype.hasobject for array in arrays):
        raise ValueError("a tensor holds strings or objects")
    text = json.dumps(header).encode()
    body = io.BytesIO()
    np.savez(body, *arrays)
    return _LENGTH.pack(len(text)) + text + body.getvalue()


def unpack(message: bytes) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The header and the arrays of a message."""
    (length,) = _LENGTH.unpack_from(message)
    start = _LENGTH.size + length
    with np.load(io.BytesIO(message[start:]), allow_pickle=False) as archive:
        return json.loads(message[_LENGTH.size : start]), [archive[f"arr_{index}"] for index in range(len(archive.files))]


def request(task: str, models: Sequence[bytes], feeds: dict[str, np.ndarray], **options: Any) -> bytes:
    """What `main` is asked: `task` is "run" (the outputs of the one model) or "time" (seconds of each run, an array a model)."""
    header = {"task": task, "models": len(models), "names": list(feeds), "options": options}
    return pack(header, [*(np.frombuffer(model, np.uint8) for model in models), *feeds.values()])


def main() -> None:
    """Answer the one request on stdin. A failure of the runtime is an answer too; anything worse is the exit status."""
    from compresskit.models import latency, sessions

    header, arrays = unpack(sys.stdin.buffer.read())
    models = [array.tobytes() for array in arrays[: header["models"]]]
    feeds = dict(zip(header["names"], arrays[header["models"] :], strict=True))
    try:
        if header["task"] == "run":
            reply = pack({}, sessions.run(models[0], feeds, **header["options"]))
        else:
            reply = pack({}, latency.time_runs(models, feeds, **header["options"]))
    except Exception as error:
        reply = pack({"error": str(error)}, [])
    sys.stdout.buffer.write(reply)
