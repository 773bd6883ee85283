"""Models in: whatever the user has, found out by its content and read without running it.

source ─┬─ zoo name, pkg.mod:factory, file.py:factory ─► nn.Module ──────────► torch.export, lift ─► ModelGraph
        └─ file or bytes ─► sniff ─┬─ checkpoint ────────────────────────────────────────────────► ModelGraph
                                   ├─ ONNX ─► onnx_safety ─► onnx_in ────────────────────────────► ModelGraph
                                   ├─ tensors, safetensors ─► state_dict + arch ─► nn.Module ─► as above
                                   └─ pickle, TorchScript, .pt2: refused; with trust ─► as above
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import nn

from compresskit.errors import CompresskitError, InputError, UntrustedError, UsageError
from compresskit.models import states, zoo
from compresskit.models.checkpoint import FORMAT, load_checkpoint
from compresskit.models.factory import call_factory, is_factory
from compresskit.models.graph import ModelGraph, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.sniff import Kind, sniff
from compresskit.models.torch_file import foreign_classes, load_tensors
from compresskit.wording import first_line

MAX_BYTES = 2**31 - 1
STDIN = "standard input"


@dataclass(frozen=True)
class _File:
    """A model file and what the user says about it."""

    name: str
    data: bytes
    folder: Path | None
    arch: str | None
    input_shape: tuple[int, ...] | None
    max_bytes: int


def load_model(
    source: str | Path | bytes,
    *,
    arch: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    trust: bool = False,
    max_bytes: int | None = None,
) -> ModelGraph:
    """Read a model from a file (of any kind, under any name), from bytes, from the zoo or from a factory.

    Args:
        source: a path; the contents of a file; a zoo name (random weights); `pkg.mod:factory` or `file.py:factory`.
        arch: what a bare state_dict belongs to: a zoo name or a factory.
        input_shape: sizes of the input without the batch, where neither file nor zoo says them.
        trust: load files that run code when they are loaded.
        max_bytes: the most that is read from a file and its external data; None: 2 GiB.

    Raises:
        UsageError: an option is missing, or says what the source says itself.
        InputError: the source is missing, damaged, over the limit or of no kind that we read, or does not fit `arch`.
        UntrustedError: loading it would run code, and `trust` is off.
    """
    limit = MAX_BYTES if max_bytes is None else max_bytes
    if isinstance(source, bytes):
        return _load_file(_File(STDIN, source, None, arch, input_shape, limit), trust)
    name = str(source)
    path = Path(source)
    if not _exists(path) and isinstance(source, str):
        if is_factory(name) or name in zoo.ARCHITECTURES:
            _refuse_arch(arch, f"{name} names a model itself")
            return _load_named(name, input_shape)
        near = f"; {names}" if (names := _like(name)) else ""
        raise InputError(f"there is no file {name!r}, and neither a zoo architecture nor a factory (pkg.mod:name, file.py:name) is called so{near}")
    return _load_file(_File(name, _read(path, limit), path.parent, arch, input_shape, limit), trust)


def _load_file(file: _File, trust: bool) -> ModelGraph:
    """Find out what a file is and load it; every error names the file."""
    try:
        kind = sniff(file.data)
        if kind.runs_code and not trust:
            raise UntrustedError(_why_untrusted(file.data, kind))
        return replace(_LOADERS[kind](file), source=file.name)
    except CompresskitError as error:
        if str(error).startswith(f"{file.name}: "):
            raise
        raise type(error)(f"{file.name}: {error}") from error.__cause__


def _why_untrusted(data: bytes, kind: Kind) -> str:
    classes = foreign_classes(data)[:1] if kind in (Kind.PICKLED, Kind.RAW_PICKLE) else []
    calls = f" (it names {classes[0].replace(' ', '.')})" if classes else ""
    return f"{kind.value}{calls} runs code when it is loaded: give --trust if you know where it comes from, or save a state_dict or .onnx instead"


def _load_checkpoint(file: _File) -> ModelGraph:
    graph = load_checkpoint(file.data)
    _refuse_arch(file.arch, "a checkpoint says its architecture itself")
    _refuse_input(file.input_shape, "a checkpoint")
    return graph


def _load_onnx(file: _File) -> ModelGraph:
    from compresskit.models.onnx_in import import_onnx
    from compresskit.models.onnx_safety import read_onnx

    _refuse_arch(file.arch, "an ONNX model says its architecture itself")
    model = read_onnx(file.data, folder=file.folder, max_bytes=file.max_bytes)
    return import_onnx(model, source=file.name, input_shape=file.input_shape)


def _load_safetensors(file: _File) -> ModelGraph:
    try:
        state = safetensors.load(file.data)
        header = json.loads(file.data[8 : 8 + int.from_bytes(file.data[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"the safetensors file is damaged or truncated: {first_line(error)}") from error
    if FORMAT in header.get("__metadata__", {}):
        raise InputError("a compresskit checkpoint whose seal is damaged: take another copy")
    return _load_state(state, file)


def _load_torch(file: _File) -> ModelGraph:
    return _load_object(load_tensors(file.data), file)


def _load_pickled(file: _File, kind: Kind) -> ModelGraph:
    from compresskit.models.trusted import unpickle

    return _load_object(unpickle(file.data, kind), file)


def _load_torchscript(file: _File) -> ModelGraph:
    from compresskit.models.trusted import read_torchscript

    _refuse_arch(file.arch, "a TorchScript archive says its architecture itself")
    return read_torchscript(file.data, None if file.input_shape is None else _specs(file.input_shape), file.name)


def _load_pt2(file: _File) -> ModelGraph:
    from compresskit.models.trusted import read_pt2

    _refuse_arch(file.arch, "a torch.export archive says its architecture itself")
    _refuse_input(file.input_shape, "a torch.export archive")
    return read_pt2(file.data, file.name)


_LOADERS: dict[Kind, Callable[[_File], ModelGraph]] = {
    Kind.CHECKPOINT: _load_checkpoint,
    Kind.ONNX: _load_onnx,
    Kind.SAFETENSORS: _load_safetensors,
    Kind.TENSORS: _load_torch,
    Kind.PICKLED: lambda file: _load_pickled(file, Kind.PICKLED),
    Kind.RAW_PICKLE: lambda file: _load_pickled(file, Kind.RAW_PICKLE),
    Kind.TORCHSCRIPT: _load_torchscript,
    Kind.PT2: _load_pt2,
}


def _load_object(loaded: Any, file: _File) -> ModelGraph:
    """What a PyTorch file held: a module, a state_dict, or a training state around either."""
    if isinstance(loaded, dict) and loaded.get("format") == FORMAT:
        raise InputError("a compresskit checkpoint that lost its seal: take another copy")
    modules = [loaded, *loaded.values()] if isinstance(loaded, dict) else [loaded]
    module = next((item for item in modules if isinstance(item, nn.Module)), None)
    if module is None:
        return _load_state(states.find_state(loaded), file)
    _refuse_arch(file.arch, "a pickled module says its architecture itself")
    return graph_from_module(module, _specs(_required(file.input_shape, "a pickled module")), source=file.name)


def _load_state(state: states.State, file: _File) -> ModelGraph:
    if file.arch is None:
        advice = states.hint(state) or "; give --arch NAME of the zoo, --arch pkg.mod:factory or --arch file.py:factory"
        raise UsageError(f"a state_dict does not say its architecture{advice}")
    if is_factory(file.arch):
        module, specs = states.fill(_made(file.arch), state, file.arch), _specs(_required(file.input_shape, "a state_dict"))
        return graph_from_module(module, specs, source=file.name, arch=file.arch)
    module, usual = states.zoo_module(file.arch, state)
    return _zoo_graph(module, file.arch, usual, file.input_shape, file.name)


def _load_named(name: str, input_shape: tuple[int, ...] | None) -> ModelGraph:
    if is_factory(name):
        return graph_from_module(_made(name), _specs(_required(input_shape, "a factory")), source=name, arch=name)
    return _zoo_graph(zoo.build(name), name, zoo.ARCHITECTURES[name].input_shape, input_shape, name)


def _zoo_graph(module: nn.Module, arch: str, usual: tuple[int, ...], asked: tuple[int, ...] | None, source: str) -> ModelGraph:
    """A network of the zoo on inputs of the shape that was `asked` for; None: of the `usual` one, which it is known to take.

    Raises:
        UsageError: it does not take what was asked for.
    """
    try:
        return graph_from_module(module, _specs(asked or usual, zoo.ARCHITECTURES[arch].dtype), source=source, arch=arch)
    except InputError as error:
        if asked is None or asked == usual:
            raise
        given, known = (",".join(map(str, shape)) for shape in (asked, usual))
        other_kind = len(usual) == 3 and (len(asked), asked[0]) != (3, usual[0])
        wanted = f"images of {usual[0]} channel{'s' * (usual[0] != 1)}" if other_kind else "another size"
        raise UsageError(f"--input {given} does not fit {arch}: expected {wanted}, such as --input {known}") from error


def _made(spec: str) -> nn.Module:
    module = call_factory(spec)
    if not isinstance(module, nn.Module):
        raise InputError(f"{spec} returned a {type(module).__name__}, expected an nn.Module")
    return module


def _specs(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[TensorSpec, ...]:
    return (TensorSpec("input", (None, *shape), dtype),)


def _required(shape: tuple[int, ...] | None, what: str) -> tuple[int, ...]:
    if shape is None:
        raise UsageError(f"{what} does not say its input: give --input with its sizes after the batch, such as --input 3,32,32")
    return shape


def _refuse_arch(arch: str | None, reason: str) -> None:
    if arch is not None:
        raise UsageError(f"--arch {arch} is for state_dicts: {reason}")


def _refuse_input(shape: tuple[int, ...] | None, what: str) -> None:
    if shape is not None:
        raise UsageError(f"--input is for models that do not say their input: {what} does")


def _like(name: str) -> str:
    """The zoo's own "did you mean"."""
    if os.sep in name or "." in name:
        return ""
    try:
        return str(zoo.ARCHITECTURES[name])
    except UsageError as error:
        return str(error).partition(": ")[2]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL
        return False


def _read(path: Path, limit: int) -> bytes:
    """The contents of a regular file or a pipe.

    Raises:
        InputError: it is missing, a folder, a device, closed to us, or over the limit.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            status = os.fstat(stream.fileno())
            if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
                raise InputError(f"{path}: a device is no model file")
            if status.st_size <= limit:
                data = _drain(stream, limit + 1)
                if len(data) <= limit:
                    return data
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {(getattr(error, 'strerror', None) or str(error)).lower()}") from error
    raise InputError(f"{path}: over {limit} bytes: raise --max-bytes if that is right")


def _drain(stream: Any, most: int) -> bytes:
    parts: list[bytes] = []
    while most > 0 and (part := stream.read(min(most, 1 << 24))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)
