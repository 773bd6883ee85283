"""Files from which an interrupted run continues: the newest and the one before it, each with a checksum.

compresskit training checkpoint 1\\n
<SHA-256 of the rest, 64 hexadecimal digits>\\n
<torch.save of tensors and plain types, loaded with weights_only>
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from compresskit.errors import InputError, OutputError
from compresskit.progress import SILENT, Progress
from compresskit.writers import write_atomic

_MAGIC = b"compresskit training checkpoint 1\n"
_HEADER = len(_MAGIC) + 64 + 1


def previous(path: Path) -> Path:
    """Where the checkpoint before the one at `path` is kept."""
    return path.with_name(path.name + ".previous")


def exists(path: Path) -> bool:
    """Whether there is anything to continue from."""
    return path.exists() or previous(path).exists()


def save(path: Path, payload: dict[str, Any]) -> None:
    """Write a checkpoint; the one at `path` becomes the previous one. At every moment one whole checkpoint is on the disk.

    Raises:
        OutputError: it cannot be written.
    """
    stream = io.BytesIO()
    torch.save(payload, stream)
    body = stream.getbuffer()
    # A damaged newest one must not take the place of a whole previous one.
    if _body(path) is not None:
        try:
            os.replace(path, previous(path))
        except OSError as error:
            raise OutputError(f"cannot write {previous(path)}: {error.strerror}") from error
    with write_atomic(path, force=True) as file:
        file.write(_MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n")
        file.write(body)


def load(path: Path, progress: Progress = SILENT) -> dict[str, Any]:
    """Read the newest whole checkpoint, on the CPU.

    Raises:
        InputError: neither is whole.
    """
    for candidate in (path, previous(path)):
        body = _body(candidate)
        if body is not None:
            if candidate != path:
                progress.note(f"{path} is missing or damaged: continuing from the checkpoint before it")
            return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    raise InputError(f"{path} is not a whole training checkpoint, nor is there one before it: remove it to start again")


def _body(path: Path) -> bytes | None:
    """The payload at `path`, or None where it is missing, unreadable or not what was written."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    header, body = data[:_HEADER], data[_HEADER:]
    return body if header == _MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" else None


def discard(path: Path) -> None:
    """Remove the checkpoints of a run that is over; a file that is none stays: a run that trained nothing has not looked at what is there."""
    for candidate in (path, previous(path)):
        if _is_ours(candidate):
            candidate.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    """Whether `path` is a checkpoint, whole or damaged."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False
