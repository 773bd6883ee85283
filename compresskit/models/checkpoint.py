"""Our own model file: the graph as JSON beside its tensors, sealed with a SHA-256, safe to load from anyone.

.pt           torch.save({"format", "version", "graph": JSON, "state": tensors}), readable with weights_only; the seal is the zip archive's comment
.safetensors  the state; metadata "compresskit": JSON of {"seal", "version", "graph"}

The seal is "sha256:" and 64 digits: the hash of every other byte of the file. A flipped bit, a lost tail or an added byte is noticed
before anything is parsed. It guards against damage, not against forgers; forged files meet `graph_json`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors

from compresskit.errors import CompresskitError, InputError, UntrustedError
from compresskit.models.graph import ELEMENTS, ModelGraph, Normalization, TensorSpec
from compresskit.models.graph_json import DTYPES, decode_graph, encode_graph
from compresskit.models.shapes import shapes
from compresskit.models.torch_file import ZIP_MAGIC, check_extent, load_tensors
from compresskit.wording import first_line

FORMAT = "compresskit"
VERSION = 1
Container = Literal["pt", "safetensors"]
CONTAINERS: Mapping[str, Container] = {".pt": "pt", ".safetensors": "safetensors"}
"""By suffix."""

_MARK = b"sha256:"
_BLANK = "sha256:" + "0" * 64
_ZIP_END = b"PK\x05\x06"


def save_checkpoint(graph: ModelGraph, container: Container = "pt") -> bytes:
    """`graph` as a file that `load_checkpoint` reads back, equal to the bit. The same graph gives the same bytes.

    Raises:
        InputError: the graph holds something that a checkpoint has no form for (the message names it).
    """
    text, state = _encode(graph)
    if container == "pt":
        stream = io.BytesIO()
        torch.save({"format": FORMAT, "version": VERSION, "graph": text, "state": state}, stream)
        comment = _BLANK.encode()
        # The last field of a zip archive is the length of its comment.
        blank = stream.getvalue()[:-2] + len(comment).to_bytes(2, "little") + comment
    else:
        blank = safetensors.save(state, {FORMAT: json.dumps({"seal": _BLANK, "version": VERSION, "graph": text})})
    start = _seal_start(blank)
    return blank[:start] + _digest(blank, start) + blank[start + 64 :]


def is_checkpoint(data: bytes) -> bool:
    """Whether `data` carries a seal where a checkpoint does. It may still be damaged."""
    return _seal_start(data) >= 0


def load_checkpoint(data: bytes) -> ModelGraph:
    """The model in a checkpoint, in evaluation mode on the CPU.

    Raises:
        InputError: it is no checkpoint, of another version, damaged, holds what no checkpoint may hold, or cannot be run in reasonable memory.
    """
    start = _seal_start(data)
    if start < 0:
        raise InputError("no compresskit checkpoint, or one that lost its end: expected a sha256 seal")
    if data[start : start + 64] != _digest(data, start):
        raise InputError("the checkpoint is damaged: its sha256 does not match its contents; take another copy")
    try:
        version, text, state = _unpack_zip(data) if data.startswith(ZIP_MAGIC) else _unpack_safetensors(data)
        if version != VERSION:
            raise InputError(f"the checkpoint is of version {version}, this compresskit reads version {VERSION}: update it")
        check_extent(state, len(data))
        return _decode(json.loads(text), state)
    except UntrustedError as error:  # trust does not help: we never wrote this
        raise InputError("the checkpoint is forged: it names classes, as none of ours does") from error
    except CompresskitError:
        raise
    except Exception as error:  # sealed but not written by us: whatever its contents trip over
        raise InputError(f"the checkpoint's contents are none that compresskit writes ({first_line(error)})") from error


def _encode(graph: ModelGraph) -> tuple[str, dict[str, torch.Tensor]]:
    nodes, tensors = encode_graph(graph.module)
    normalization = graph.normalization
    description = {
        "graph": nodes,
        "inputs": [_encode_spec(spec) for spec in graph.inputs],
        "outputs": [_encode_spec(spec) for spec in graph.outputs],
        "free_batch": graph.free_batch,
        "source": graph.source,
        "arch": graph.arch,
        "normalization": None if normalization is None else {"mean": normalization.mean, "std": normalization.std},
        "classes": graph.classes,
    }
    state = {name: _compact(name, tensor) for name, tensor in tensors.items()}
    return json.dumps(description, sort_keys=True, separators=(",", ":"), allow_nan=False), state


def _decode(description: Any, state: Mapping[str, torch.Tensor]) -> ModelGraph:
    normalization, classes = description["normalization"], description["classes"]
    graph = ModelGraph(
        decode_graph(description["graph"], state),
        tuple(_decode_spec(spec) for spec in description["inputs"]),
        tuple(_decode_spec(spec) for spec in description["outputs"]),
        bool(description["free_batch"]),
        str(description["source"]),
        None if description["arch"] is None else str(description["arch"]),
        None if normalization is None else Normalization(_floats(normalization["mean"]), _floats(normalization["std"])),
        None if classes is None else tuple(str(name) for name in classes),
    )
    placeholders = sum(node.op == "placeholder" for node in graph.module.graph.nodes)
    if placeholders != len(graph.inputs):
        raise InputError(f"the checkpoint describes {len(graph.inputs)} inputs, its graph has {placeholders}")
    shapes(graph)  # refuses what cannot run, and what would take all memory when it does
    return graph


def _encode_spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "shape": spec.shape, "dtype": str(spec.dtype).removeprefix("torch.")}


def _decode_spec(encoded: Mapping[str, Any]) -> TensorSpec:
    shape = tuple(encoded["shape"])
    if not all(size is None or (type(size) is int and size >= 0) for size in shape) or math.prod(size or 1 for size in shape) > ELEMENTS:
        raise InputError(f"the checkpoint gives {encoded['name']!r} the shape {shape}")
    return TensorSpec(str(encoded["name"]), shape, DTYPES[encoded["dtype"]])


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _compact(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A copy with a storage of its own, so that a view does not drag the whole of what it looks at along."""
    if tensor.layout != torch.strided or str(tensor.dtype).removeprefix("torch.") not in DTYPES:
        raise InputError(f"tensor {name} is {tensor.layout} {tensor.dtype}, which cannot be stored in a checkpoint: write .onnx instead")
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _unpack_zip(data: bytes) -> tuple[Any, str, dict[str, torch.Tensor]]:
    payload = load_tensors(data)
    if payload["format"] != FORMAT:
        raise InputError(f"the checkpoint's format is {payload['format']!r}, expected {FORMAT!r}")
    return payload["version"], payload["graph"], payload["state"]


def _unpack_safetensors(data: bytes) -> tuple[Any, str, dict[str, torch.Tensor]]:
    try:
        state = safetensors.load(data)
    except SafetensorError as error:
        raise InputError(f"the safetensors container is damaged: {first_line(error)}") from error
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    payload = json.loads(header["__metadata__"][FORMAT])
    return payload["version"], payload["graph"], state


def _seal_start(data: bytes) -> int:
    """Where the 64 digits of the seal begin, -1 where there is none."""
    if data.startswith(ZIP_MAGIC):
        tail = 22 + len(_BLANK)
        return len(data) - 64 if data[-tail:].startswith(_ZIP_END) and data[-len(_BLANK) :].startswith(_MARK) else -1
    opening = rb'{"__metadata__":{"compresskit":"{\"seal\": \"' + _MARK
    start = 8 + len(opening)
    return start if data[8:start] == opening and len(data) >= start + 64 else -1


def _digest(data: bytes, start: int) -> bytes:
    """SHA-256, in hexadecimal, of everything but the 64 digits at `start`."""
    view = memoryview(data)
    digest = hashlib.sha256(view[:start])
    digest.update(view[start + 64 :])
    return digest.hexdigest().encode()
