"""Bombs are refused: a small file makes no loader take minutes or gigabytes."""

from __future__ import annotations

import io
import os
import pickle
import resource
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from compresskit.errors import CompresskitError
from compresskit.models.checkpoint import save_checkpoint
from compresskit.models.graph import TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.load import load_model
from compresskit.models.torch_file import load_tensors

MEMORY = 256 << 20
SECONDS = 5
STATE = {"w": torch.arange(4.0)}


def saved(value: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def archived(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def pickled(opcodes: bytes) -> bytes:
    return archived({"a/data.pkl": b"\x80\x02" + opcodes + b".", "a/version": b"3\n", "a/byteorder": b"little"})


def overlapping() -> bytes:
    """A thousand names in the directory for the same megabyte."""
    data = archived({"a/data.pkl": pickle.dumps({}, 2), "a/data/0": bytes(1 << 20)})
    end = data.rindex(b"PK\x05\x06")
    (size, start) = struct.unpack("<II", data[end + 12 : end + 20])
    entry = data[data.rindex(b"PK\x01\x02", 0, end) : end]
    entries = data[start : start + size] + entry * 1000
    return data[:start] + entries + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1002, 1002, len(entries), start, 0)


def doubling(levels: int) -> bytes:
    """A list that holds a list twice, that holds a list twice ...: few bytes, 2**levels items."""
    return b"".join(b"]q" + bytes([level]) + b"(" + (b"h" + bytes([level - 1]) if level else b"N") * 2 + b"e" for level in range(levels))


def safetensors_header(header: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + bytes(64)


LEGACY = saved(STATE, _use_new_zipfile_serialization=False)

BOMBS: dict[str, Callable[[], bytes]] = {
    "deflated tensors": lambda: archived({"a/data.pkl": pickle.dumps({}, 2), "a/data/0": bytes(1 << 28)}, zipfile.ZIP_DEFLATED),
    "deflated pickle": lambda: archived({"a/data.pkl": b"\x80\x02" + b"N0" * (1 << 23) + b"N."}, zipfile.ZIP_DEFLATED),
    "overlapping members": overlapping,
    "one number as 2^40": lambda: saved({"w": torch.zeros(1).expand(1 << 20, 1 << 20)}),
    "one number as many large ones": lambda: saved({f"w{index}": torch.zeros(1).expand(1 << 24) for index in range(200)}),
    "2^36 bytes by name": lambda: pickled(b"cbuiltins\nbytearray\n\x8a\x05\0\0\0\0\x10\x85R"),
    "a tensor by class": lambda: pickled(b"ctorch\nFloatTensor\n\x8a\x05\0\0\0\0\x10\x85R"),
    "a list of lists of lists": lambda: pickled(doubling(60)),
    "a large memo index": lambda: pickled(b"}r\xff\xff\xff\x7f"),
    "many opcodes": lambda: pickled(b"N0" * (1 << 20) + b"N"),
    "a large integer": lambda: pickled(b"}(X\x01\0\0\0w\x8b\0\0\x10\0" + b"\x7f" * (1 << 20) + b"u"),
    "a text that says 2 GiB": lambda: pickled(b"X\xff\xff\xff\x7fabc"),
    "legacy storage of 2^40": lambda: LEGACY.replace(b"K\x04Ntq", b"\x8a\x06\0\0\0\0\0\x01Ntq"),
    "deep tuples": lambda: pickled(b"N" + b"\x85" * 100_000),
    "safetensors header of 2^60": lambda: safetensors_header(b"{}", 1 << 60),
    "safetensors header of 1 GiB": lambda: safetensors_header(b"{}", 1 << 30),
    "safetensors of 2^60 elements": lambda: safetensors_header(b'{"w":{"dtype":"F32","shape":[1073741824,1073741824],"data_offsets":[0,64]}}'),
    "safetensors of overflowing shape": lambda: safetensors_header(b'{"w":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,64]}}'),
    "safetensors of deep JSON": lambda: safetensors_header(b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "npz": lambda: archived({"w.npy": bytes(1 << 24)}, zipfile.ZIP_DEFLATED),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_time_and_in_little_memory(name: str, in_child: Callable[..., tuple[int, str]]) -> None:
    data = BOMBS[name]()
    assert in_child(lambda pipe: os.write(pipe, _verdict(data).encode())) == (0, "refused")


@pytest.fixture(scope="module")
def checkpoint() -> bytes:
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    return save_checkpoint(graph_from_module(net, (TensorSpec("x", (None, 4)),), source="t"))


def test_a_sealed_checkpoint_may_not_ask_for_the_moon(
    checkpoint: bytes, maker: Callable[[str], ModuleType], in_child: Callable[..., tuple[int, str]]
) -> None:
    script = maker("make_checkpoint")
    assert load_model(script.forge(checkpoint, lambda description: script.square(description, 1))).outputs
    for name, edit in script.BOMBS.items():
        data = script.forge(checkpoint, edit)
        assert in_child(lambda pipe, data=data: os.write(pipe, _verdict(data, None).encode())) == (0, "refused"), name


def _verdict(data: bytes, arch: str | None = "mlp") -> str:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        load_model(data, arch=arch)
    except CompresskitError as error:
        verdict = "several lines" if "\n" in str(error) else "refused"
    except BaseException as error:
        verdict = f"escaped: {error!r}"
    else:
        verdict = "loaded"
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    seconds = time.process_time() - start
    return verdict if taken < MEMORY and seconds < SECONDS else f"{verdict}, after {seconds} s and {taken} bytes"


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.pt"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(CompresskitError, match="--max-bytes"):
        load_model(path)


def test_the_originals_of_the_forgeries_load() -> None:
    assert all(torch.equal(load_tensors(data)["w"], STATE["w"]) for data in (saved(STATE), LEGACY))
    assert BOMBS["legacy storage of 2^40"]() != LEGACY
