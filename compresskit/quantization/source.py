"""What `quantize` starts from, whatever it was given: a checked ONNX model, and what its inputs are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from compresskit.data import Interface
from compresskit.data.files import read_bytes
from compresskit.errors import InputError, UsageError
from compresskit.models.graph import Normalization, TensorSpec, random_inputs
from compresskit.models.load import MAX_BYTES, STDIN, load_model
from compresskit.models.onnx_out import export_onnx
from compresskit.models.onnx_parse import read_inputs
from compresskit.models.onnx_safety import read_onnx
from compresskit.models.sniff import Kind, sniff
from compresskit.requests import ModelRequest


@dataclass(frozen=True)
class Source:
    """A float model.

    Attributes:
        model: as ONNX.
        name: for messages and reports.
        inputs: that are not stored.
        arch, normalization, classes: as in `ModelGraph`, where the file says.
    """

    model: onnx.ModelProto
    name: str
    inputs: tuple[TensorSpec, ...]
    arch: str | None = None
    normalization: Normalization | None = None
    classes: tuple[str, ...] | None = None

    def feeds(self) -> dict[str, np.ndarray]:
        """One random sample, or the batch that the file fixes."""
        values = random_inputs(self.inputs, 1, free_batch=False)
        return {spec.name: value.numpy() for spec, value in zip(self.inputs, values, strict=True)}


def read_source(request: ModelRequest) -> Source:
    """Read the model; ONNX stays as it is, everything else is exported to it.

    Raises:
        CompresskitError: as `load_model`.
    """
    data = _onnx_bytes(request)
    if data is None:
        graph = load_model(request.model, arch=request.arch, input_shape=request.input_shape, trust=request.trust, max_bytes=request.max_bytes)
        return Source(export_onnx(graph), graph.source, graph.inputs, graph.arch, graph.normalization, graph.classes)
    name = STDIN if isinstance(request.model, bytes) else request.model
    if request.arch is not None:
        raise UsageError(f"{name}: --arch {request.arch} is for state_dicts: an ONNX model says its architecture itself")
    folder = None if isinstance(request.model, bytes) else Path(request.model).parent
    try:
        model = read_onnx(data, folder=folder, max_bytes=request.max_bytes or MAX_BYTES)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error.__cause__
    return Source(model, name, read_inputs(model, name, request.input_shape))


def _onnx_bytes(request: ModelRequest) -> bytes | None:
    """The contents of an ONNX file; None for every other kind of model."""
    if isinstance(request.model, bytes):
        return request.model if sniff(request.model) is Kind.ONNX else None
    path, limit = Path(request.model), request.max_bytes or MAX_BYTES
    try:
        plain = path.is_file() and path.stat().st_size <= limit
    except (OSError, ValueError):  # a name too long, or with a NUL
        plain = False
    if not plain:
        return None  # whatever is wrong with it, load_model says so
    data = read_bytes(path)
    try:
        return data if sniff(data) is Kind.ONNX else None
    except InputError:
        return None


def takes(source: Source) -> Interface:
    """What data have to fit."""
    names = (source.normalization, source.classes)
    return Interface(source.name, source.inputs, _outputs(source.model), *names, vocabulary=_vocabulary(source))


def _outputs(model: onnx.ModelProto) -> int | None:
    """How many classes or values the one output has for a sample; None where the file does not say."""
    if len(model.graph.output) != 1:
        return None
    dims = model.graph.output[0].type.tensor_type.shape.dim
    return dims[1].dim_value or None if len(dims) > 1 else 1 if dims else None


def _vocabulary(source: Source) -> int | None:
    """How many token ids the tables know that the first input looks up; None where that input holds numbers."""
    rows = {tensor.name: tensor.dims[0] for tensor in source.model.graph.initializer if tensor.dims}
    first = source.inputs[0]
    if first.dtype.is_floating_point:
        return None
    lookups = [node.input for node in source.model.graph.node if node.op_type == "Gather" and node.input[1] == first.name]
    return min((rows[table] for table, _ in lookups if table in rows), default=None)
